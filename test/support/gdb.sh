# For scripts that use gdb's commands of packaging/gdb, after script.sh: without a gdb that knows Python there is nothing to test.

if ! command -v gdb >/dev/null || ! gdb -nx -batch -ex 'python gdb.host_charset()' >/dev/null 2>&1; then
    skip gdb 'no gdb here, or one without Python'
    finish
fi

# Can this gdb call a function of a program that it debugs? Older ones cannot write the registers of newer processors (AMX) back.
gdb_calls() {
    echo 'int twice(int n) { return 2 * n; } int main(void) { return twice(0); }' | $CC -g -O0 -x c - -o "$tmp/callee" &&
        gdb -nx -batch -ex 'break main' -ex run -ex 'print twice(21)' "$tmp/callee" 2>&1 | grep -q '^[$]1 = 42$'
}
