#!/bin/sh
# Programs of users, in C and C++, compiled with nothing but what pkg-config says, against an installed tree: with the
# shared library and with the archive, at several levels of optimisation; and what they then do.
set -u
. "$WEIR_SRC/test/support/script.sh"

here=$WEIR_SRC/test/compile
root=$tmp/root
PKG_CONFIG_SYSROOT_DIR=$root
export PKG_CONFIG_SYSROOT_DIR

installs() {
    meson install -C "$WEIR_BUILD" --no-rebuild --destdir "$root" &&
        pc=$(find "$root" -name weir.pc) && [ -n "$pc" ] || return 1
    PKG_CONFIG_PATH=$(dirname "$pc")
    LD_LIBRARY_PATH=$(dirname "$PKG_CONFIG_PATH")
    export PKG_CONFIG_PATH LD_LIBRARY_PATH
}

# link shared|archive COMPILER FLAG… FILE, into $tmp/program
link() {
    how=$1
    shift
    if [ "$how" = shared ]; then
        "$@" -o "$tmp/program" $(pkg-config --cflags --libs weir)
    else
        "$@" -o "$tmp/program" $(pkg-config --static --cflags --libs weir | sed 's/-lweir/-l:libweir.a/') -pthread
    fi
}

pipeline() {
    link "$@" "$here/pipeline.c" || return 1
    if [ "$1" = archive ] && readelf -d "$tmp/program" | grep -q 'NEEDED.*libweir'; then
        echo 'the archive was asked for, but the shared library is used'
        return 1
    fi
    got=$("$tmp/program") || return 1
    [ "$got" = 333833500 ] || { echo "printed $got"; return 1; }
    "$tmp/program" x y
    status=$?
    [ $status = 2 ] || { echo "exit status $status, not that of weir_main"; return 1; }
}

cxx_program() {
    link "$@" "$here/cxx.cc" && "$tmp/program"
}

check installs installs
for how in shared archive; do
    check ${how}_pipeline pipeline $how $CC -Wall -Wextra -Werror
    check ${how}_pipeline_optimised pipeline $how $CC -std=c11 -O2
    check ${how}_pipeline_more_optimised pipeline $how $CC -O3
    check ${how}_pipeline_without_pie pipeline $how $CC -O1 -fno-pie -no-pie
    check ${how}_pipeline_with_plt_and_pic pipeline $how $CC -O2 -fPIC
done

case $CC in
*clang*) compilers='clang++ g++' ;;
*) compilers='g++ clang++' ;;
esac
cxx=
for c in $compilers; do
    [ -z "$cxx" ] && command -v $c >/dev/null && echo '#include <string>
int main() {}' >"$tmp/empty.cc" && $c "$tmp/empty.cc" -o "$tmp/empty" 2>/dev/null && cxx=$c
done
if [ -n "$cxx" ]; then
    for how in shared archive; do
        check ${how}_cxx cxx_program $how $cxx -std=c++17 -Wall -Wextra -Werror
        check ${how}_cxx_optimised cxx_program $how $cxx -std=c++20 -O2
    done
else
    skip cxx 'no C++ compiler here'
fi
finish
