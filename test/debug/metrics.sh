#!/bin/sh
# /metrics: what it says of a program, in both of its formats; and that the rules and the dashboard of packaging/ speak of that.
set -u
. "$WEIR_SRC/test/support/script.sh"
. "$WEIR_SRC/test/support/debugged.sh"

# Goroutines whose numbers are known: 5 wait to send, one of them for what nobody will receive; 3 to receive; 2 sleep; main sends the
# last one. More lines start one than a page lists. The name of the file is one that must be escaped.
cat >"$tmp/program.c" <<'END'
#include <weir.h>
#include <stdio.h>
#include <unistd.h>
typedef WEIR_CHAN(int) int_chan;
static int_chan to_send, to_receive;
static void sends(void) { (void)!weir_send(to_send, 1); }
static void receives(void) { int got; (void)!weir_recv(to_receive, &got); }
static void sleeps(void) { weir_sleep(WEIR_HOUR); }
static void leaks(void)
{
    int_chan ch = weir_make(int_chan, 0);
    (void)!weir_send(ch, 1);
}
static int until_end(void *arg)
{
    char c;
    return (int)read(0, &c, 1);
}
static void comes_and_goes(void) {}
static void too_many(size_t count, void *arg) {}
int weir_main(int argc, char **argv)
{
    to_send = weir_make(int_chan, 0), to_receive = weir_make(int_chan, 0);
    for (int i = 0; i < 4; i++) weir_go(sends);
    for (int i = 0; i < 3; i++) weir_go(receives);
    for (int i = 0; i < 2; i++) weir_go(sleeps);
    weir_go(leaks);
    for (int i = 0; i < 100; i++) weir_go(comes_and_goes);
#include "many.h"
    weir_watch_count(1000, WEIR_HOUR, too_many, NULL);
    puts("ready");
    fflush(stdout);
    return weir_blocking(until_end, NULL);
}
END
cat >"$tmp/many.h" <<'END'
#line 1 "odd \"name\" \\ of\na file.h"
END
i=0
while [ $i -lt 40 ]; do
    echo 'weir_go(receives);'
    i=$((i + 1))
done >>"$tmp/many.h"

open='application/openmetrics-text; version=1.0.0; charset=utf-8'
text='text/plain; version=0.0.4; charset=utf-8'
prometheus_accepts='application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1'

# page NAME [curl's]: the page is $tmp/NAME, its content type $type
page() {
    into=$1
    shift
    type=$(curl -sS --max-time 60 -o "$tmp/$into" -w '%{content_type}' "$@" "$url/metrics")
}
value() { sed -n "s|^$1 \([-+.e0-9]*\)$|\1|p" "$tmp/$2"; }
is() { got=$(value "$1" "$3"); [ "$got" = "$2" ] || { echo "$1 is '$got', not $2, in"; grep -v '^#' "$tmp/$3"; return 1; }; }
# Until all are where they will stay; main prints "ready" on its way there.
settled() {
    page settled && is 'weir_goroutines{state="waiting",reason="chan receive"}' 43 settled >"$tmp/not_yet" &&
        is 'weir_goroutines{state="waiting",reason="chan send"}' 5 settled >"$tmp/not_yet" &&
        is 'weir_goroutines{state="waiting",reason="sleep"}' 2 settled >"$tmp/not_yet" &&
        is 'weir_goroutines{state="syscall"}' 1 settled >"$tmp/not_yet" && is 'weir_goroutines{state="runnable"}' 0 settled >"$tmp/not_yet" &&
        is 'weir_goroutines{state="running"}' 0 settled >"$tmp/not_yet" &&
        is weir_goroutines_ended_total 100 settled >"$tmp/not_yet" && is weir_timers_armed 2 settled >"$tmp/not_yet"
}

the_program_runs() {
    # Linked at the start, as in debugged.sh: else the leaked one's channel may be found in what the linker has on a stack just then.
    $CC -O1 -g -D_GNU_SOURCE -Wl,-z,now -I"$WEIR_SRC/include" -I"$tmp" "$tmp/program.c" "$WEIR_BUILD/libweir.a" $libs -o "$tmp/program" || return 1
    start "$tmp/program" || return 1
    until_it settled || { cat "$tmp/not_yet"; return 1; }
    page before && page before_open -H "Accept: $prometheus_accepts"
}
goroutines_are_counted_by_what_they_do() {
    is 'weir_goroutines{state="running"}' 0 before && is 'weir_goroutines{state="runnable"}' 0 before &&
        is 'weir_goroutines{state="waiting",reason="chan send"}' 5 before && is 'weir_goroutines{state="waiting",reason="chan receive"}' 43 before &&
        is 'weir_goroutines{state="waiting",reason="sleep"}' 2 before && is 'weir_goroutines{state="syscall"}' 1 before &&
        is weir_goroutines_started_total 151 before && is weir_goroutines_ended_total 100 before && is weir_timers_armed 2 before
}
goroutines_are_counted_by_the_line_that_started_them() {
    is 'weir_site_goroutines{site="'"$tmp"'/program.c:24",function="sends",created_by="weir_main"}' 4 before &&
        is 'weir_site_goroutines{site="'"$tmp"'/program.c:25",function="receives",created_by="weir_main"}' 3 before
}
lines_are_bounded_and_nobody_is_lost() {
    [ "$(grep -c '^weir_site_goroutines{' "$tmp/before")" = 33 ] && is 'weir_site_goroutines{site="other",function="",created_by=""}' 13 before &&
        [ "$(sed -n 's/^weir_site_goroutines{.*} //p' "$tmp/before" | awk '{ n += $1 } END { print n }')" = 51 ] &&
        [ "$(sed -n 's/^weir_goroutines{.*} //p' "$tmp/before" | awk '{ n += $1 } END { print n }')" = 51 ]
}
odd_labels_are_escaped() { grep -F 'weir_site_goroutines{site="odd \"name\" \\ of\na file.h:40",function="receives",created_by="weir_main"} 1' "$tmp/before"; }
a_watched_count_is_told_with_its_threshold() { is weir_watch_count_threshold 1000 before && is weir_watch_count_exceeded_total 0 before; }
nobody_asked_is_not_zero() { ! grep -e weir_leaked -e proof_timestamp "$tmp/before" && is weir_leak_proofs_total 0 before; }
a_proof_is_told_with_its_time() {
    curl -sS --max-time 60 -o "$tmp/proof" "$url/debug/pprof/goroutineleak?debug=1" && page after && cat "$tmp/proof" &&
        is weir_leaked_goroutines 1 after && is weir_leak_proofs_total 1 after || return 1
    at=$(value weir_leak_proof_timestamp_seconds after) now=$(date +%s)
    [ "${at%.*}" -le "$now" ] && [ "${at%.*}" -ge $((now - 300)) ]
}
latencies_are_a_histogram() {
    is 'weir_scheduling_latency_seconds_bucket{le="+Inf"}' "$(value weir_scheduling_latency_seconds_count before)" before &&
        sed -n 's/^weir_scheduling_latency_seconds_bucket{.*} //p' "$tmp/before" | sort -nc
}
without_asking_it_is_text() { page any && [ "$type" = "$text" ] && [ "$(sed -n 's/^# TYPE weir_parks/&/p' "$tmp/any")" = '# TYPE weir_parks_total counter' ] && ! grep -e '^# UNIT' -e '^# EOF' "$tmp/any"; }
prometheus_gets_openmetrics() {
    page any -H "Accept: $prometheus_accepts" && [ "$type" = "$open" ] && [ "$(tail -n 1 "$tmp/any")" = '# EOF' ] &&
        grep -qx '# TYPE weir_parks counter' "$tmp/any" && grep -q '^weir_parks_total ' "$tmp/any" && grep -qx '# UNIT weir_stack_mapped_bytes bytes' "$tmp/any"
}
gets() { page any -H "Accept: $2" && [ "$type" = "$1" ] || { echo "$2: $type"; return 1; }; }
the_format_is_what_the_client_prefers() {
    gets "$open" 'application/openmetrics-text' &&
        gets "$open" 'APPLICATION/OpenMetrics-Text ; version=0.0.1; q=0.5 , text/plain;q=0.4' &&
        gets "$text" 'application/openmetrics-text;q=0' && gets "$text" 'application/openmetrics-text;version=2.0.0' && gets "$text" '*/*' &&
        gets "$text" 'application/openmetrics-text;q=0.3,text/plain;q=0.4' && gets "$text" ';;,,=;q=,' && gets "$text" 'text/html'
}
# Of the older format, which is what it reads.
promtool_accepts_the_names() { promtool check metrics <"$tmp/after" >"$tmp/said" 2>&1 && [ ! -s "$tmp/said" ] || { cat "$tmp/said"; return 1; }; }

rules=$WEIR_SRC/packaging/prometheus/weir.rules.yml
promtool_accepts_the_rules() { promtool check rules "$rules"; }
# fires MINUTES ALERT SUMMARY DESCRIPTION: then it does, and says so
fires() {
    cat <<END
      - eval_time: $1
        alertname: $2
        exp_alerts:
          - exp_labels: { severity: warning, job: j, instance: i }
            exp_annotations:
              summary: '$3'
              description: >-
$(echo "$4" | sed 's/^ */                /')
              runbook: doc/observe.md, "An alert has fired"
END
}
# A leak is told at once, and no more once it is healed; so is a count above the program's own threshold; goroutines that only climb
# are told after an hour and a quarter, those that come and go, or of whom there are more for good, are not.
alerts_come_and_go() {
    saw=
    for _ in 1 2 3 4 5 6 7 8 9 10; do saw="$saw 10+90x9"; done
    cat >"$tmp/rules_test.yml" <<END
rule_files: [$rules]
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series:
      - { series: 'weir_leaked_goroutines{job="j", instance="i"}', values: '_x3 0x3 7x3 0x10' }
    alert_rule_test:
      - { eval_time: 2m, alertname: WeirGoroutinesLeaked }
      - { eval_time: 6m, alertname: WeirGoroutinesLeaked }
$(fires 9m WeirGoroutinesLeaked '7 goroutines of j on i have leaked' \
          'They wait for something that nothing in the process can reach any more, and will for ever.
          /debug/pprof/goroutineleak?debug=2 has their stacks, and the line that started each.')
      - { eval_time: 14m, alertname: WeirGoroutinesLeaked }
  - interval: 1m
    input_series:
      - { series: 'weir_watch_count_threshold{job="j", instance="i"}', values: '100x20' }
      - { series: 'weir_goroutines{job="j", instance="i", state="waiting", reason="chan send"}', values: '98x5 99x5 90x10' }
      - { series: 'weir_goroutines{job="j", instance="i", state="running"}', values: '2x20' }
      - { series: 'weir_goroutines{job="j", instance="unwatched", state="running"}', values: '200x20' }
    alert_rule_test:
      - { eval_time: 5m, alertname: WeirGoroutinesAboveThreshold }
$(fires 9m WeirGoroutinesAboveThreshold 'j on i has 101 goroutines, more than it is meant to' \
          'The threshold is the one that the program has given weir_watch_count. weir_site_goroutines tells which line starts them;
          /debug/pprof/goroutineleak proves whether they have leaked.')
      - { eval_time: 15m, alertname: WeirGoroutinesAboveThreshold }
  - interval: 1m
    input_series:
      - { series: 'weir_goroutines{job="j", instance="i", state="waiting", reason="chan send"}', values: '10+30x180' }
      - { series: 'weir_goroutines{job="j", instance="i", state="running"}', values: '2x180' }
      - { series: 'weir_goroutines{job="j", instance="saw", state="waiting", reason="chan send"}', values: '$saw' }
      - { series: 'weir_goroutines{job="j", instance="step", state="waiting", reason="chan send"}', values: '100x60 5000x120' }
    alert_rule_test:
      - { eval_time: 40m, alertname: WeirGoroutinesOnlyClimb }
$(fires 80m WeirGoroutinesOnlyClimb 'goroutines of j on i only become more: at least 1962 by now' \
          'For an hour there have never been fewer of them than a quarter of an hour before. weir_site_goroutines tells which line
          starts them; /debug/pprof/goroutineleak proves whether they have leaked.')
END
    promtool test rules "$tmp/rules_test.yml"
}

# What the dashboard and the rules ask for is there; and the dashboard's questions are ones that can be asked.
cat >"$tmp/dashboard.py" <<'END'
import json, re, sys
page, rules, dashboard, to = sys.argv[1:]
dashboard = json.load(open(dashboard))
asked = [target['expr'] for panel in dashboard['panels'] for target in panel['targets']]
asked += [variable['query']['query'] for variable in dashboard['templating']['list'] if variable['type'] == 'query']
names = set(re.findall(r'(?<!:)\bweir_\w+', '\n'.join(asked + re.findall(r'expr:(.*?)(?:\n +labels|\n\n|\n +for)', open(rules).read(), re.S))))
served = set(re.findall(r'^(weir_\w+)', open(page).read(), re.M))
assert len(names) > 15, names
assert names <= served, names - served
ids = [panel['id'] for panel in dashboard['panels']]
assert len(ids) == len(set(ids)) and all(p['datasource']['uid'] == '${datasource}' for p in dashboard['panels'])
with open(to, 'w') as out:
    out.write('groups:\n  - name: dashboard\n    rules:\n')
    for i, expr in enumerate(a for a in asked if not a.startswith('label_values')):
        expr = expr.replace('$job', 'j').replace('$instance', 'i')
        out.write(f'      - record: dashboard:question:{i}\n        expr: {json.dumps(expr)}\n')
END
the_dashboard_and_the_rules_ask_for_what_is_there() { python3 "$tmp/dashboard.py" "$tmp/after" "$rules" "$WEIR_SRC/packaging/grafana/weir.json" "$tmp/questions.yml"; }
the_dashboards_questions_can_be_asked() { promtool check rules "$tmp/questions.yml"; }

for case in the_program_runs goroutines_are_counted_by_what_they_do goroutines_are_counted_by_the_line_that_started_them \
    lines_are_bounded_and_nobody_is_lost odd_labels_are_escaped a_watched_count_is_told_with_its_threshold nobody_asked_is_not_zero a_proof_is_told_with_its_time \
    latencies_are_a_histogram without_asking_it_is_text prometheus_gets_openmetrics the_format_is_what_the_client_prefers \
    the_dashboard_and_the_rules_ask_for_what_is_there; do
    check $case $case
done
for case in promtool_accepts_the_names promtool_accepts_the_rules alerts_come_and_go the_dashboards_questions_can_be_asked; do
    if command -v promtool >/dev/null; then check $case $case; else skip $case 'no promtool here'; fi
done
finish
