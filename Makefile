# Front door: Meson and Ninja do the work. `make help` lists what there is.
#
# Variables: BUILD (build directory), CC, PREFIX and DESTDIR (install), MESON_FLAGS (handed to
# `meson setup`: -Dchecks=true, -Db_sanitize=address,undefined, -Dbuildtype=release …),
# TESTS (for `make test`: names or parts of names; all if empty), BENCH (for `make bench`: see
# tools/bench --help).

BUILD       ?= build
PREFIX      ?= /usr/local
MESON_FLAGS ?=
TESTS       ?=
BENCH       ?=

# make's own default for CC says nothing about what the user wants.
ifneq ($(origin CC),default)
export CC
endif
export WEIR_BUILD := $(abspath $(BUILD))

.PHONY: all help setup configure demo test check-long bench install clean

all: configure ## build the library, tests and examples
	@ninja -C $(BUILD) $(if $(findstring s,$(firstword -$(MAKEFLAGS))),--quiet)

# A change of CC or MESON_FLAGS needs a new build directory; a file come or gone, a new look around.
configure:
	@command -v meson >/dev/null && command -v ninja >/dev/null || \
	    { echo "make: meson or ninja is missing: run tools/setup first" >&2; exit 1; }
	@mkdir -p $(BUILD)
	@echo 'CC=$(CC) $(MESON_FLAGS)' > $(BUILD)/.flags.new
	@find src test examples include -type f | LC_ALL=C sort > $(BUILD)/.files.new
	@if ! cmp -s $(BUILD)/.flags.new $(BUILD)/.flags || [ ! -f $(BUILD)/build.ninja ]; then \
	    rm -rf $(BUILD)/meson-* $(BUILD)/build.ninja && \
	    meson setup -Dlibdir=lib $(MESON_FLAGS) $(BUILD); \
	elif ! cmp -s $(BUILD)/.files.new $(BUILD)/.files; then \
	    meson setup --reconfigure $(BUILD); \
	fi
	@mv $(BUILD)/.flags.new $(BUILD)/.flags
	@mv $(BUILD)/.files.new $(BUILD)/.files

setup: ## install the packages that building and testing need (tools/setup)
	@tools/setup

demo: setup ## build, then show what weir does
	@$(MAKE) --no-print-directory all
	@tools/demo

test: setup ## build and run every test; the last line is the count
	@$(MAKE) --no-print-directory all
	@tools/run-tests $(BUILD) $(TESTS)

check-long: setup ## build and run the long soaks
	@$(MAKE) --no-print-directory all
	@tools/check-long

bench: setup ## compare with Go and others: a table (BENCH: arguments for tools/bench)
	@$(MAKE) --no-print-directory all
	@tools/bench $(BENCH)

install: all ## install below PREFIX (/usr/local), staged in DESTDIR if that is set
	@meson configure $(BUILD) -Dprefix=$(abspath $(PREFIX))
	@ninja -C $(BUILD) --quiet
	@DESTDIR="$(if $(DESTDIR),$(abspath $(DESTDIR)))" meson install -C $(BUILD) --no-rebuild
	@# Or programs would not find the new library until the next boot.
	@if [ -z "$(DESTDIR)" ] && [ "$$(id -u)" = 0 ]; then ldconfig; fi

clean: ## remove the build directory
	rm -rf $(BUILD)

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1 - \2/p' Makefile
	@sed -n '/^# Variables/,/^$$/s/^# \{0,1\}//p' Makefile
