# For scripts that use gdb's commands of packaging/gdb, after script.sh: without a gdb that knows Python there is nothing to test.

if ! command -v gdb >/dev/null || ! gdb -nx -batch -ex 'python gdb.host_charset()' >/dev/null 2>&1; then
    skip gdb 'no gdb here, or one without Python'
    finish
fi
