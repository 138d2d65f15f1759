#!/bin/sh
# A Prometheus that scrapes a program with a forgotten sender in it: the alert fires, and is over once the program is repaired and what
# had leaked is healed.
set -u
. "$WEIR_SRC/test/support/script.sh"
no_proxy='*'
LD_LIBRARY_PATH=$WEIR_BUILD
export no_proxy LD_LIBRARY_PATH
if ! command -v prometheus >/dev/null || ! command -v curl >/dev/null; then
    skip prometheus 'no prometheus here, or no curl'
    finish
fi
if [ ! -x "$WEIR_BUILD/examples/search" ]; then
    skip prometheus 'built without the examples'
    finish
fi

started=
# shellcheck disable=SC2086 # a list of processes
trap '[ -z "$started" ] || { kill -9 $started; wait $started; } 2>/dev/null; rm -rf "$tmp"' EXIT

# Up to a minute: Prometheus scrapes and evaluates once a second, and the machine may be slow.
eventually() {
    n=0
    until "$@" >"$tmp/last" 2>&1; do
        n=$((n + 1))
        [ $n -lt 240 ] || { cat "$tmp/last"; return 1; }
        sleep 0.25
    done
}

a_leaking_program_is_served() {
    WEIR_DEBUG_ADDR=127.0.0.1:0 WEIR_DEBUG_HEAL=1 WEIR_LEAK=1s "$WEIR_BUILD/examples/search" >"$tmp/out" 2>"$tmp/err" &
    search=$!
    started="$started $search"
    until_it grep -q 'listens on port' "$tmp/err" || { cat "$tmp/err"; return 1; }
    program=127.0.0.1:$(sed -n 's/.*listens on port \([0-9]*\)$/\1/p' "$tmp/err")
}

prometheus_starts() {
    cat >"$tmp/prometheus.yml" <<END
global: { scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s }
rule_files: [$WEIR_SRC/packaging/prometheus/weir.rules.yml]
scrape_configs:
  - job_name: search
    static_configs: [{ targets: ['$program'] }]
END
    prometheus --config.file="$tmp/prometheus.yml" --storage.tsdb.path="$tmp/data" --web.listen-address=127.0.0.1:0 >"$tmp/log" 2>&1 &
    started="$started $!"
    eventually grep 'msg="Listening on"' "$tmp/log" || { cat "$tmp/log"; return 1; }
    api=http://$(sed -n 's/.*msg="Listening on" address=\([0-9.:]*\)$/\1/p' "$tmp/log")/api/v1
}

ask() { curl -sS --max-time 20 -G "$api/$1" ${2:+--data-urlencode "query=$2"}; }
answers() { ask query "$1" | tee "$tmp/answer" | grep -q '"value":\['; }
target_is_up() { ask targets | grep -q '"health":"up"' || { ask targets; return 1; }; }
prometheus_reads_the_page() { eventually target_is_up && eventually answers 'weir_leak_proofs_total > 0'; }

fires() { ask alerts | tee "$tmp/alerts" | grep -q '"alertname":"WeirGoroutinesLeaked".*"state":"firing"' || { cat "$tmp/alerts"; return 1; }; }
is_over() { ask alerts | tee "$tmp/alerts" | grep -q '"alerts":\[\]' || { cat "$tmp/alerts"; return 1; }; }
the_alert_fires() { eventually fires && grep -q "\"instance\":\"$program\"" "$tmp/alerts"; }
the_line_is_told() { eventually answers 'topk(1, weir_site_goroutines)' && cat "$tmp/answer" && grep -q 'search.c:[0-9]*",*' "$tmp/answer" && grep -q '"function":"search"' "$tmp/answer"; }

heals() { curl -sS --max-time 60 -X POST "http://$program/debug/pprof/goroutineleak?heal=1"; }
# What was under way as the repair came may leak yet, so until nothing is left to heal.
nothing_leaked() { heals && [ "$(curl -sS --max-time 60 "http://$program/metrics" | sed -n 's/^weir_leaked_goroutines //p')" = 0 ]; }
repaired_and_healed_it_is_over() {
    kill -HUP $search && until_it grep -q repaired "$tmp/out" && eventually nothing_leaked && eventually is_over &&
        eventually answers 'weir_leaked_goroutines == 0' && eventually answers 'sum(weir_goroutines) < 50'
}
the_program_ends_in_good_order() { kill -TERM $search && wait $search; }

for case in a_leaking_program_is_served prometheus_starts prometheus_reads_the_page the_alert_fires the_line_is_told \
    repaired_and_healed_it_is_over the_program_ends_in_good_order; do
    check $case $case
done
finish
