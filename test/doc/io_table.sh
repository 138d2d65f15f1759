#!/bin/sh
# The table of doc/io.md has every call of the headers that it stands for, each once, with all its cells, and no others.
set -u
. "$WEIR_SRC/test/support/script.sh"
LC_ALL=C
export LC_ALL

for header in io net file process signal http; do
    # Declarations, and macros; a name that ends in _ is for the macros alone.
    sed -nE -e 's/^(WEIR_API_ .*[ *]|# *define )(weir_[a-z0-9_]*[a-z0-9])\(.*/\2/p' "$WEIR_SRC/include/weir/$header.h"
done | grep -v '^weir_$' | sort -u >"$tmp/calls"
sed -nE 's/^\| `(weir_[a-z0-9_]+)` \|.*/\1/p' "$WEIR_SRC/doc/io.md" | sort >"$tmp/listed"

headers_are_understood() { grep -qx weir_read "$tmp/calls" && grep -qx weir_open "$tmp/calls" && grep -qx weir_signal_stop "$tmp/calls" && grep -qx weir_http_header "$tmp/calls"; }
has_every_call() { comm -3 "$tmp/calls" "$tmp/listed" >"$tmp/wrong" && cat "$tmp/wrong" && [ ! -s "$tmp/wrong" ]; }
has_all_cells() { ! grep '^| `weir_' "$WEIR_SRC/doc/io.md" | grep -vE '^(\| [^|]+ ){5}\|$'; }

check headers_are_understood headers_are_understood
check io_table_has_every_call has_every_call
check io_table_has_all_cells has_all_cells
finish
