#!/bin/sh
# The programs in examples/leaks leave behind what their articles say: about as many goroutines as calls in the
# leaky form, all of them proven to have leaked, and none in the others.
set -u
. "$WEIR_SRC/test/support/script.sh"

tab=$(printf '\t')
# Without libdw a dump has addresses, and no names to look for.
named=no
grep -q -e -DWEIR_HAVE_LIBDW "$WEIR_BUILD/build.ninja" && named=yes

# leaves PROGRAM FORM BEFORE MIN MAX [WHERE]: how many there are before and after (from MIN to MAX); those left behind
# are where the pattern WHERE (as for case) says.
leaves() {
    "$WEIR_BUILD/examples/leaks-$1" --row "$2" >"$tmp/row" || return 1
    cat "$tmp/row"
    IFS=$tab read -r pattern form kind before after unit leaked where <"$tmp/row"
    [ "$pattern $form" = "$1 $2" ] || return 1
    [ "$before" = "$3" ] || { echo "$before $unit before, not $3"; return 1; }
    [ "$after" -ge "$4" ] && [ "$after" -le "$5" ] || { echo "$after $unit after, not $4 to $5"; return 1; }
    case $unit,$where in
    goroutines,not*) [ "$leaked" = 0 ] || { echo "$leaked are said to have leaked"; return 1; } ;;
    goroutines,*) # a stray word on main's stack may hide one or another
        [ "$leaked" -le $((after - before)) ] && [ "$leaked" -ge $(((after - before) * 95 / 100)) ] ||
            { echo "$leaked have leaked, of $((after - before))"; return 1; } ;;
    esac
    if [ $named = yes ]; then
        case $where in
        ${6-''}) ;;
        *) echo "they are in '$where', not in '${6-}'"; return 1 ;;
        esac
    fi
    echo "$kind" >>"$tmp/forms.$1"
}

# Where a deadline decides, a machine that stands still for long enough may decide otherwise, so that a few
# calls of many do not leak: the lower bounds allow for that. The upper bounds are exact.
check select_timeout_leaky leaves select_timeout leaky 1 901 1001 'produce select_timeout.c:[0-9]* \[chan send\]'
check select_timeout_buffered leaves select_timeout buffered 1 1 1
check select_timeout_context leaves select_timeout context 1 1 1
check select_timeout_scoped leaves select_timeout scoped 1 1 1

check timer_per_iteration_leaky leaves timer_per_iteration leaky 0 1000 1000 'armed*'
check timer_per_iteration_owned leaves timer_per_iteration owned 0 0 0
check timer_per_iteration_scoped leaves timer_per_iteration scoped 0 0 0

check first_result_leaky leaves first_result leaky 1 901 1001 'fetch_* first_result.c:[0-9]* \[chan send\]'
check first_result_fixed leaves first_result fixed 1 1 1
check first_result_scoped leaves first_result scoped 1 1 1

check unanswered_receive_leaky leaves unanswered_receive leaky 1 1001 1001 \
    'receive* unanswered_receive.c:[0-9]* \[chan receive\]'
check unanswered_receive_closed leaves unanswered_receive closed 1 1 1
check unanswered_receive_scoped leaves unanswered_receive scoped 1 1 1

check forgotten_sender_in_turn leaves forgotten_sender in_turn 1 1 1
check forgotten_sender_leaky leaves forgotten_sender leaky 1 901 1001 \
    'search_and_send forgotten_sender.c:[0-9]* \[chan send\]'
check forgotten_sender_buffered leaves forgotten_sender buffered 1 1 1
check forgotten_sender_scoped leaves forgotten_sender scoped 1 1 1

check ignored_context_leaky leaves ignored_context leaky 1 1001 1001 \
    'work_leaky ignored_context.c:[0-9]* \[chan receive\]'
check ignored_context_drained leaves ignored_context drained 1 1 1
check ignored_context_scoped leaves ignored_context scoped 1 1 1

check fetch_all_leaky leaves fetch_all leaky 1 50 100 'fetch_and_send fetch_all.c:[0-9]* \[chan send\]'
check fetch_all_limited leaves fetch_all limited 1 1 1
check fetch_all_scoped leaves fetch_all scoped 1 1 1

check unstopped_ticker_leaky leaves unstopped_ticker leaky 1 101 101 'not stuck*'
check unstopped_ticker_stopped leaves unstopped_ticker stopped 1 1 1
check unstopped_ticker_scoped leaves unstopped_ticker scoped 1 1 1

check unsent_completion_leaky leaves unsent_completion leaky 1 1001 1001 \
    'process_batch_leaky unsent_completion.c:[0-9]* \[chan receive\]'
check unsent_completion_closed leaves unsent_completion closed 1 1 1
check unsent_completion_scoped leaves unsent_completion scoped 1 1 1

# Goroutines at once: main, and a pool or a scope of 10; without either, as many as the machine lets there be.
check crawl_leaky leaves crawl leaky 1 1000 111111 'not stuck*'
check crawl_pool leaves crawl pool 1 2 11
check crawl_scoped leaves crawl scoped 1 2 11

check monitoring_leaky leaves monitoring leaky 1 101 101 'receive monitoring.c:[0-9]* \[chan receive\]'
check monitoring_closed leaves monitoring closed 1 1 1
check monitoring_scoped leaves monitoring scoped 1 1 1

# says PROGRAM FORM TEXT: what the form prints contains that.
says() {
    "$WEIR_BUILD/examples/leaks-$1" "$2" >"$tmp/said" || return 1
    grep -F "$3" "$tmp/said" || { cat "$tmp/said"; return 1; }
}

finds_all() {
    says "$1" "$2" '111111 pages crawled, ' && grep -q 'none skipped' "$tmp/said"
}

# The one that fails is the 51st, and at most 9 others are under way then.
stops_early() {
    says fetch_all scoped ' of 100 pages, error: Input/output error' || return 1
    pages=$(sed -n 's/^ *\([0-9]*\) of 100 pages.*/\1/p' "$tmp/said")
    [ "$pages" -ge 41 ] && [ "$pages" -le 50 ]
}

check poll_handles_every_value says timer_per_iteration owned '1000 values handled'
check poll_in_a_scope_handles_every_value says timer_per_iteration scoped '1000 values handled'
check search_in_turn_finds_the_record says forgotten_sender in_turn 'received: some value'
check a_worker_that_leaves_empties_its_queue says ignored_context drained '3000 of 3000 items processed'
check a_worker_in_a_scope_empties_its_queue says ignored_context scoped '3000 of 3000 items processed'
check a_limit_holds says fetch_all limited 'at most 10 fetches at once'
check every_url_that_is_up_is_fetched says fetch_all limited '99 of 100 pages, error: Input/output error'
check the_limit_of_a_scope_holds says fetch_all scoped 'at most 10 fetches at once'
check a_scope_stops_at_the_first_error stops_early
check the_pool_skips_no_page finds_all crawl pool
check the_scope_skips_no_page finds_all crawl scoped
check an_empty_batch_is_no_news says unsent_completion closed 'a batch of 3: 0'
check the_monitor_raises_an_alert says monitoring leaky 'ALERT: goroutine count: '
check the_test_helper_fails_on_a_leak says monitoring leaky 'test_no_goroutine_leak: FAIL'
check the_test_helper_passes_without_one says monitoring closed 'test_no_goroutine_leak: ok'

# The list above is complete: a line for each form that a program says it has.
every_form_was_run() {
    for source in "$WEIR_SRC"/examples/leaks/*.c; do
        program=$(basename "$source" .c)
        forms=$("$WEIR_BUILD/examples/leaks-$program" --help | sed -n 's/^forms: \(.*\) (all.*/\1/p' | wc -w)
        [ "$forms" -ge 3 ] && [ "$(wc -l <"$tmp/forms.$program")" = "$forms" ] ||
            { echo "$program: not all of $forms"; return 1; }
    done
}
check every_form_was_run every_form_was_run

# Without arguments a program runs all its forms, each in a fresh runtime: the next does not see what one leaves behind.
all_forms_in_one_run() {
    "$WEIR_BUILD/examples/leaks-unanswered_receive" >"$tmp/said" || return 1
    cat "$tmp/said"
    grep -q '^  leaky  *before: 1, after: 1001; leaked: [0-9]* in ' "$tmp/said" &&
        grep -q '^  closed  *before: 1, after: 1$' "$tmp/said" &&
        grep -q '^  scoped  *before: 1, after: 1$' "$tmp/said"
}
check all_forms_in_one_run all_forms_in_one_run

refuses_an_unknown_form() {
    "$WEIR_BUILD/examples/leaks-crawl" watertight 2>"$tmp/said"
    [ $? = 2 ] && grep '^usage: ' "$tmp/said"
}
check refuses_an_unknown_form refuses_an_unknown_form
finish
