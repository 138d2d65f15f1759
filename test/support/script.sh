# For tests that are scripts: `. "$WEIR_SRC/test/support/script.sh"`, then `check NAME COMMAND…` for
# each case, at the end `finish`. WEIR_BUILD, WEIR_SRC and CC are set; $tmp is a directory of your own.

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
passed=0
failed=0

# check NAME COMMAND…: the case passes if the command succeeds; its output is shown if it does not.
check() {
    name=$1
    shift
    if "$@" >"$tmp/.output" 2>&1; then
        echo "ok $name"
        passed=$((passed + 1))
    else
        echo "FAIL $name: exit status $?"
        sed 's/^/    /' "$tmp/.output"
        failed=$((failed + 1))
    fi
}

# skip NAME WHY…
skip() {
    name=$1
    shift
    echo "skip $name: $*"
}

finish() {
    echo "$passed passed, $failed failed"
    [ $failed = 0 ]
    exit
}
