#!/bin/sh
# What `make install` puts down is all that a program outside this repository needs.
set -u
. "$WEIR_SRC/test/support/script.sh"

root=$tmp/root
prefix=$(sed -n 's/^prefix=//p' "$WEIR_BUILD/meson-private/weir.pc")
PKG_CONFIG_SYSROOT_DIR=$root
export PKG_CONFIG_SYSROOT_DIR

cat >"$tmp/weir_main.c" <<'END'
#include <weir.h>
int weir_main(int argc, char **argv)
{
    (void)argv;
    return 40 + argc;
}
END
cat >"$tmp/own_main.c" <<'END'
#include <weir.h>
static int start(void *arg)
{
    return *(int *)arg;
}
int main(void)
{
    int result = 42;
    return weir_run(start, &result);
}
END

installs() {
    meson install -C "$WEIR_BUILD" --no-rebuild --destdir "$root" &&
        pc=$(find "$root" -name weir.pc) && [ -n "$pc" ] || return 1
    PKG_CONFIG_PATH=$(dirname "$pc")
    lib=$(dirname "$PKG_CONFIG_PATH")
    LD_LIBRARY_PATH=$lib
    export PKG_CONFIG_PATH LD_LIBRARY_PATH
}

exits_with() {
    want=$1
    shift
    "$@"
    got=$?
    [ $got = "$want" ] || { echo "exit status $got, not $want"; return 1; }
}

shared() {
    $CC "$tmp/$1.c" -o "$tmp/shared" $(pkg-config --cflags --libs weir) && exits_with "$2" "$tmp/shared"
}

archive() {
    $CC "$tmp/$1.c" -o "$tmp/archive" -pthread \
        $(pkg-config --static --cflags --libs weir | sed 's/-lweir/-l:libweir.a/') &&
        exits_with "$2" "$tmp/archive"
}

# No crash where a program has neither main nor weir_main: a message, and a failure.
needs_weir_main() {
    echo 'int not_main;' >"$tmp/none.c"
    $CC "$tmp/none.c" -o "$tmp/none" $(pkg-config --cflags --libs weir) || return 0
    "$tmp/none"
    status=$?
    [ $status != 0 ] && [ $status -lt 126 ]
}

# A debug build also stands in front of libc's mutexes.
exports_only_its_own() {
    nm -D --defined-only "$lib/libweir.so" | awk '{print $NF}' >"$tmp/exported"
    grep -q '^weir_run$' "$tmp/exported" && grep -q '^main$' "$tmp/exported" &&
        ! grep -v -e '^weir_' -e '^main$' -e '^pthread_mutex_[a-z]*lock$' "$tmp/exported"
}

has_soname() {
    readelf -d "$lib/libweir.so" | grep -F 'Library soname: [libweir.so.0]'
}

# libweir-http: what a program needs is in its own .pc file.
http_links() {
    cat >"$tmp/http.c" <<'END' &&
#include <weir.h>
#include <weir/http.h>
int weir_main(int argc, char **argv)
{
    weir_http_response resp;
    (void)argc, (void)argv;
    return weir_http_get("nonsense", &resp) == -EINVAL ? 40 : 1;
}
END
        $CC "$tmp/http.c" -o "$tmp/shared" $(pkg-config --cflags --libs weir-http) && exits_with 40 "$tmp/shared" &&
        $CC "$tmp/http.c" -o "$tmp/archive" -pthread $(pkg-config --cflags weir-http) "$lib/libweir-http.a" "$lib/libweir.a" \
            $(pkg-config --static --libs weir | sed 's/-lweir//') -lcurl && exits_with 40 "$tmp/archive" &&
        nm -D --defined-only "$lib/libweir-http.so" | awk '{print $NF}' >"$tmp/exported" &&
        grep -q '^weir_http_do$' "$tmp/exported" && ! grep -v '^weir_http_' "$tmp/exported" &&
        ! readelf -d "$lib/libweir.so" | grep 'NEEDED.*curl'
}

# libweir-debug: the same. The shared library must not bring a core, for a program may have one in itself.
debug_links() {
    cat >"$tmp/debug.c" <<'END' &&
#include <weir.h>
#include <weir/debug.h>
int weir_main(int argc, char **argv)
{
    (void)argc, (void)argv;
    return weir_debug_serve("127.0.0.1:0") == 0 && weir_debug_port() > 0 ? 40 : 1;
}
END
        $CC "$tmp/debug.c" -o "$tmp/shared" $(pkg-config --cflags --libs weir-debug) && exits_with 40 "$tmp/shared" &&
        $CC "$tmp/debug.c" -o "$tmp/archive" -pthread $(pkg-config --cflags weir-debug) "$lib/libweir-debug.a" "$lib/libweir.a" \
            $(pkg-config --static --libs weir | sed 's/-lweir//') -lmicrohttpd -lprotobuf-c -lz && exits_with 40 "$tmp/archive" &&
        $CC "$tmp/debug.c" -o "$tmp/mixed" -pthread $(pkg-config --cflags weir-debug) "$lib/libweir.a" "$lib/libweir-debug.so" \
            $(pkg-config --static --libs weir | sed 's/-lweir//') && exits_with 40 "$tmp/mixed" &&
        nm -D --defined-only "$lib/libweir-debug.so" | awk '{print $NF}' >"$tmp/exported" &&
        grep -q '^weir_debug_serve$' "$tmp/exported" && ! grep -v '^weir_debug_' "$tmp/exported" &&
        ! readelf -d "$lib/libweir-debug.so" | grep 'NEEDED.*libweir' && ! readelf -d "$lib/libweir.so" | grep 'NEEDED.*microhttpd'
}

# cmake_package TARGET SOURCE STATUS: a program of that source, linked with weir::TARGET and weir::TARGET_static, exits so.
cmake_package() {
    in=$tmp/cmake-$1
    mkdir -p "$in/build" && cp "$tmp/$2.c" "$in/" && cat >"$in/CMakeLists.txt" <<END &&
cmake_minimum_required(VERSION 3.16)
project(user C)
find_package(weir 0.1 REQUIRED)
add_executable(user $2.c)
target_link_libraries(user weir::$1)
add_executable(user_static $2.c)
target_link_libraries(user_static weir::$1_static)
END
        cmake -S "$in" -B "$in/build" -DCMAKE_PREFIX_PATH="$root$prefix" -DCMAKE_C_COMPILER="${CC##* }" &&
        cmake --build "$in/build" &&
        exits_with "$3" "$in/build/user" && exits_with "$3" "$in/build/user_static"
}

# The functions below run in this shell, so that `installs` sets the paths for the rest.
check installs installs
check shared_library_starts_weir_main shared weir_main 41
check shared_library_leaves_main_to_the_program shared own_main 42
check archive_starts_weir_main archive weir_main 41
check archive_leaves_main_to_the_program archive own_main 42
check neither_main_nor_weir_main needs_weir_main
check exports_only_its_own exports_only_its_own
check has_soname has_soname
if command -v cmake >/dev/null; then
    check cmake_package cmake_package weir weir_main 41
else
    skip cmake_package 'no cmake here'
fi
if [ ! -e "$lib/libweir-http.so" ]; then
    skip http_links 'built without libcurl'
else
    check http_links http_links
    if command -v cmake >/dev/null; then check http_cmake_package cmake_package http http 40; fi
fi
if [ ! -e "$lib/libweir-debug.so" ]; then
    skip debug_links 'built without libmicrohttpd, protobuf-c or zlib'
else
    check debug_links debug_links
    if command -v cmake >/dev/null; then check debug_cmake_package cmake_package debug debug 40; fi
fi
finish
