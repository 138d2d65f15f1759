#!/bin/sh
# The example programs do what they say: what they print, how they end.
set -u
. "$WEIR_SRC/test/support/script.sh"
examples=$WEIR_BUILD/examples

# prints PATTERN: standard output is one line, and matches.
prints() {
    cat "$tmp/out"
    [ "$(wc -l <"$tmp/out")" = 1 ] && grep -q -x -e "$1" "$tmp/out"
}

rejects_wrong_arguments() {
    run 2 "$@" && [ ! -s "$tmp/out" ] && [ -s "$tmp/err" ]
}

explains_itself() {
    run 0 "$1" --help && grep -q "^usage: $1" "$tmp/out" && [ ! -s "$tmp/err" ]
}

sieve_finds_primes() {
    run 0 sieve && prints 7919 && run 0 sieve 1 && prints 2 && run 0 sieve 100 && prints 541
}

skynet_adds_up() {
    run 0 skynet 0 && prints '1 leaves in .* s: 0' &&
        run 0 skynet 3 && prints '1000 leaves in .* s: 499500' &&
        run 0 skynet 4 3 && prints '81 leaves in .* s: 3240'
}

skynet_has_a_million_leaves() {
    run 0 skynet && prints '1000000 leaves in .* s: 499999500000'
}

pingpong_counts_round_trips() {
    run 0 pingpong 20000 && prints '20000 round trips in [0-9.]* s: [0-9]* a second'
}

# Every meal is eaten, and neighbours, the last and the first included, never differ by more than one.
philosophers_share() {
    run 0 philosophers "$1" "$2" && cat "$tmp/out" && awk -v n="$1" -v meals="$2" '
        function apart(a, b) { return a - b > 1 || b - a > 1 }
        /^philosopher/ { if (++philosophers == 1) first = $3; else if (apart($3, last)) unfair++; eaten += last = $3 }
        /^[0-9]+ meals/ { total = $1 }
        END { exit !(philosophers == n && eaten == meals && total == meals && !unfair && !apart(first, last)) }' \
        "$tmp/out"
}

# broker_accounts_for_every_message TOPICS SUBSCRIBERS MESSAGES QUEUE: what prompt subscribers got and missed is all
# there was; stalled ones have the newest messages, as many as their queues hold.
broker_accounts_for_every_message() {
    run 0 broker -t "$1" -s "$2" -p 2 -m $(($3 / 2)) -q "$4" && cat "$tmp/out" &&
        awk -v all=$(($1 * $2 * $3)) -v kept=$(($1 * $2 * ($3 < $4 ? $3 : $4))) -v came=$(($1 * $2)) '
        { sub(/:/, "", $1); n[$1] = $2; got[$1] = $4; missed[$1] = $7 }
        END { exit !(n["prompt"] == came && got["prompt"] + missed["prompt"] == all &&
                     n["stalled"] == came && got["stalled"] == kept && missed["stalled"] == all - kept &&
                     n["visitors"] > 0 && got["visitors"] <= 3 * n["visitors"]) }' "$tmp/out"
}

# What it has leaked is proven while it serves, and once more at its end; SIGHUP is no end.
search_leaks() {
    : >"$tmp/out" && : >"$tmp/err"
    WEIR_LEAK=100ms,exit "$examples/search" -r 200 >"$tmp/out" 2>"$tmp/err" &
    search=$!
    until_it grep -q serving "$tmp/out" && until_it grep -q 'goroutines leaked, started at answer' "$tmp/err" && kill -HUP $search &&
        until_it grep -q repaired "$tmp/out" && kill -TERM $search || { kill -9 $search; return 1; }
    wait $search
    got=$?
    cat "$tmp/err"
    [ $got = 66 ] && [ "$(grep -c 'created by answer in goroutine' "$tmp/err")" -ge 2 ]
}

# shutdown_on STATUS PATTERN SIGNALS ARGUMENT…: it gets those signals once it serves, one after the other, each when it has said something
# anew, and ends with that status and a last line that matches.
shutdown_on() {
    status=$1 pattern=$2 signals=$3
    shift 3
    : >"$tmp/out" # what another one has said before must not pass for it: the signal would find the shell that is to become it
    "$examples/shutdown" "$@" >"$tmp/out" 2>&1 &
    pid=$! lines=0
    for signal in $signals; do
        lines=$((lines + 1))
        while [ "$(wc -l <"$tmp/out")" -lt $lines ] && kill -0 $pid 2>/dev/null; do sleep 0.01; done
        kill -$signal $pid
    done
    wait $pid
    got=$?
    cat "$tmp/out"
    [ $got = "$status" ] && tail -n 1 "$tmp/out" | grep -q -x -e "$pattern" &&
        awk '/ jobs: / { ok = $1 == $3 + $5 } END { exit !ok }' "$tmp/out"
}

for program in sieve skynet pingpong philosophers broker shutdown search; do
    check ${program}_explains_itself explains_itself $program
done
for arguments in 'sieve x' 'sieve 0' 'sieve 5 5' 'sieve --wrong' 'sieve 7q' 'skynet -1' 'skynet 31' 'skynet 6 1' \
    'skynet 6 10 10' 'skynet 8 100' 'pingpong none' 'pingpong 0' 'pingpong 1 2' 'philosophers 1' 'philosophers 5 0' \
    'philosophers 5 5 5' 'broker -t' 'broker -q 0' 'broker -m many' 'broker else' \
    'shutdown -w 0' 'shutdown -g soon' 'shutdown now' 'search -r 0' 'search -r often' 'search now'; do
    check "$(echo "rejects: $arguments" | tr ' ' '_')" rejects_wrong_arguments $arguments
done
check sieve_finds_primes sieve_finds_primes
check skynet_adds_up skynet_adds_up
check skynet_has_a_million_leaves skynet_has_a_million_leaves
check pingpong_counts_round_trips pingpong_counts_round_trips
check five_philosophers_share philosophers_share 5 1000
check two_philosophers_share philosophers_share 2 100
check a_hundred_philosophers_share philosophers_share 100 2000
check broker_accounts_for_every_message broker_accounts_for_every_message 3 5 2000 16
check broker_with_queues_of_one broker_accounts_for_every_message 2 3 1000 1
check broker_with_room_for_all broker_accounts_for_every_message 2 2 100 200
check search_leaks_until_it_is_repaired search_leaks
check shutdown_finishes_what_it_has_begun shutdown_on 0 '[0-9]* jobs: [0-9]* done, 0 cancelled' INT -m 5 -g 60000
check shutdown_does_so_on_sigterm_too shutdown_on 0 '[0-9]* jobs: [0-9]* done, 0 cancelled' TERM -m 5 -g 60000
check shutdown_cancels_what_is_late shutdown_on 1 '[1-4] jobs: 0 done, [1-4] cancelled' INT -m 600000 -g 50
check shutdown_ends_at_once_on_a_second_signal shutdown_on 1 '[1-4] jobs: 0 done, [1-4] cancelled' 'INT INT' -m 600000 -g 600000
finish
