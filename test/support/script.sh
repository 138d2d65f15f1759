# For tests that are scripts: `. "$WEIR_SRC/test/support/script.sh"`, then `check NAME COMMAND…` for
# each case, at the end `finish`. WEIR_BUILD, WEIR_SRC and CC are set; $tmp is a directory of your own.

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
passed=0
failed=0

# What a program needs that is linked with libweir.a.
libs=-pthread
nm "$WEIR_BUILD/libweir.a" 2>/dev/null | grep -q ' U dwfl_begin$' && libs='-pthread -ldw'

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

# until_it COMMAND…: try again, for two minutes and more: a limit for what hangs, not for what is slow.
until_it() {
    n=0
    until "$@" 2>/dev/null; do
        n=$((n + 1))
        [ $n -lt 2400 ] || return 1
        sleep 0.05
    done
}

# has_ended PID: it has been waited for. Off the list of what is to be killed at the end, as its number may be another's soon.
has_ended() {
    started=$(for one in $started; do [ "$one" = "$1" ] || echo "$one"; done)
}

# run STATUS PROGRAM ARGUMENT…: an example; its exit status as wanted; what it printed is in $tmp/out and $tmp/err.
run() {
    want=$1 program=$2
    shift 2
    "$WEIR_BUILD/examples/$program" "$@" >"$tmp/out" 2>"$tmp/err"
    got=$?
    cat "$tmp/err"
    [ $got = "$want" ] || { echo "$program $*: exit status $got, not $want"; return 1; }
}
