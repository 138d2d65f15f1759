#!/bin/sh
# The tests of connections and of HTTP once more, over a loopback of their own that loses packets: retransmissions, short
# reads and writes, and waits where there are none otherwise. netem where the kernel has it; else a token bucket with a queue
# that is too short. Needs a network namespace, and tc.
set -u
. "$WEIR_SRC/test/support/script.sh"

# shellcheck disable=SC2034 # for those below
PATH=$PATH:/sbin:/usr/sbin

# lossy COMMAND…: in a namespace of its own.
lossy() {
    unshare -rn sh -c '
        ip link set lo mtu 1500 up || exit 125
        tc qdisc add dev lo root netem delay 2ms 1ms loss 2% reorder 5% 2>/dev/null ||
            tc qdisc add dev lo root tbf rate 100mbit burst 4kb limit 12kb || exit 125
        "$@"
        status=$?
        tc -s qdisc show dev lo >"$0"
        exit $status' "$tmp/stats" "$@"
}

packets_were_lost() {
    cat "$tmp/stats"
    ! grep -q 'dropped 0,' "$tmp/stats" && grep -q 'dropped [1-9]' "$tmp/stats"
}

if ! lossy true 2>"$tmp/why"; then
    skip connections_over_a_lossy_link "no network namespace with a lossy link can be had here: $(tail -n 1 "$tmp/why")"
    finish
fi
for program in io-connect io-copy io-dial http-requests; do
    [ -x "$WEIR_BUILD/test/$program" ] || continue # built without HTTP
    check "$program over a lossy link" lossy timeout 200 "$WEIR_BUILD/test/$program"
    # The others send too little for that to be sure.
    [ $program != io-copy ] || check "packets were lost" packets_were_lost
done
finish
