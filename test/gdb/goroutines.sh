#!/bin/sh
# `info goroutines` and `goroutine` in gdb: in a process and in its core file, of a program with weir inside, with the shared
# library, and with the shared library as a distribution strips it.
set -u
. "$WEIR_SRC/test/support/script.sh"
. "$WEIR_SRC/test/support/gdb.sh"

# A thousand goroutines wait deep in a send; others in other ways, and under odd names.
cat >"$tmp/program.c" <<'END'
#include <weir.h>
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#define SENDERS 1000
#define DEPTH 20
typedef WEIR_CHAN(int) int_chan;
struct order {
    int number;
    const char *what;
};
int_chan unread;
static _Atomic int in_call;
volatile int stop;

__attribute__((noinline)) void tick(void) { __asm__ volatile(""); }
int twice(int n) { return 2 * n; }

static int innermost(int_chan ch, const struct order *order) {
    int offered = order->number * 3;
    int e = weir_send(ch, offered);
    return e + offered;
}
static int deeper(int_chan ch, int depth, const struct order *order) {
    if (depth == 0) return innermost(ch, order);
    int result = deeper(ch, depth - 1, order);
    return result + depth;
}
static int sender(int_chan ch, int number) {
    struct order order = { number, "a thing" };
    return deeper(ch, DEPTH, &order);
}
static void named(int_chan ch, int which) {
    static const char *const names[] = { "plain", "100% \"odd\" (\\ \xc3\xa9 \xe2\x98\x83)", "\x1b[31mred\x7f\tand\nlines",
                                         "12345678901234567890123456789012345678901234567890123456789012\xc3\xa9" };
    int got;
    weir_name("%s", names[which]);
    (void)!weir_recv(ch, &got);
}
static int hangs(void *arg) {
    in_call = 1;
    while (!stop) pause();
    return 0;
}
static int calls(void) { return weir_blocking(hangs, NULL); }
static void spins(void) {
    while (!stop) __asm__ volatile("");
}
static void sleeps(void) { weir_sleep(WEIR_HOUR); }
static void selects(int_chan a, int_chan b) {
    int got;
    (void)!weir_select(weir_on_recv(a, &got), weir_on_recv(b, &got));
}
static void *thread(void *arg) {
    int got;
    (void)!weir_recv(*(int_chan *)arg, &got);
    return NULL;
}

int weir_main(int argc, char **argv) {
    pthread_t id;
    int_chan silent = weir_make(int_chan, 0), other = weir_make(int_chan, 0);
    unread = weir_make(int_chan, 0);
    weir_go(calls);
    weir_go(spins);
    weir_go(sleeps);
    weir_go(selects, silent, other);
    for (int i = 0; i < 4; i++) weir_go(named, silent, i);
    for (int i = 0; i < SENDERS; i++) weir_go(sender, unread, i);
    pthread_create(&id, NULL, thread, &silent);
    for (;;) {
        weir_sleep(5 * WEIR_MILLISECOND);
        tick();
    }
}
END

# What gdb is made to do. Each answer goes to a file of its own in $OUT. A process is settled when all wait that will.
cat >"$tmp/look.py" <<'END'
import os
import re

out = os.environ['OUT']

def ask(name, command):
    try:
        text = gdb.execute(command, to_string=True)
    except gdb.error as error:
        text = f'error: {error}\n'
    return answer(name, text)

def answer(name, text):
    with open(os.path.join(out, name), 'w') as file:
        file.write(str(text))
    return text

def settled():
    text = gdb.execute('info goroutines', to_string=True)
    return (text.count('[chan send, ') == 1000 and text.count('[chan receive, ') == 5 and '[sleep, ' in text and '[select, ' in text
            and 'hangs at ' in text)

def registers():
    text = ''
    for thread in sorted(gdb.selected_inferior().threads(), key=lambda t: t.num):
        text += gdb.execute(f'thread apply {thread.num} info registers', to_string=True)
    return text

def look():
    listed = ask('list', 'info goroutines')
    number = re.search(r'^. (\d+) +\[chan send', listed, re.M)[1]
    ask('bt', f'goroutine {number} bt')
    ask('all', 'goroutine all bt 8')
    ask('locals', f'goroutine {number} info locals')
    ask('print', f'goroutine {number} print *order')
    level = re.search(r'^#(\d+) .* sender ', gdb.execute(f'goroutine {number} bt', to_string=True), re.M)[1]
    ask('after_commands', 'frame')
    ask('frame', f'goroutine {number} frame {level}')
    ask('frame_locals', 'info locals')
    ask('frame_print', 'print order.number * 3')
    ask('frame_up', 'up')
    ask('shown', 'goroutine')
    ask('shown_list', 'info goroutines')
    ask('shown_bt', 'backtrace 3')
    ask('other', 'goroutine 1 frame')
    ask('selected', f'goroutine {number}')
    ask('back', 'goroutine back')
    ask('back_bt', 'backtrace')
    ask('unknown', 'goroutine 4294967296 bt')
    ask('nonsense', 'goroutine around')
    ask('bad_command', f'goroutine {number} print no_such_thing')
    ask('bad_frame', f'goroutine {number} frame 0')
    gdb.execute('goroutine back')
    running = re.search(r'^. (\d+) +\[running\] spins', listed, re.M)
    if running:
        ask('running', f'goroutine {running[1]} bt')
    ask('thread_after', 'thread')
    return number
END
cat >"$tmp/process.py" <<'END'
gdb.execute('break tick')
gdb.execute('run')
for _ in range(100):
    if settled():
        break
    gdb.execute('continue')
before = registers()
ask('thread_before', 'thread')
number = look()
answer('registers', registers() == before)
if os.environ['CALLS'] == 'yes':
    ask('call', f'goroutine {number} print twice(21)')
    gdb.execute(f'goroutine {number}')
    ask('call_selected', 'print twice(22)')
    ask('call_frame', 'frame')
    gdb.execute('goroutine back')
if os.environ['CORE'] == 'gcore':
    ask('gcore', f'generate-core-file {out}/core')
if os.environ['CORE'] == 'own':
    ask('gcore', f'goroutine core {out}/core')
    gdb.execute(f'generate-core-file {out}/gdbs-own')
gdb.execute(f'goroutine {number}')
gdb.execute('continue')
ask('go_on', 'frame')
ask('go_on_bt', 'backtrace')
ask('go_on_list', 'info goroutines')
gdb.execute('goroutine back')
gdb.execute('signal SIGXCPU' if os.environ['CORE'] == 'kernel' else 'kill')
END
echo 'ask("thread_before", "thread"); look()' >"$tmp/core.py"
echo 'ask("list", "info goroutines")' >"$tmp/list.py"

# debug KIND WHAT ARGUMENT…: gdb with the script; answers in $tmp/KIND-WHAT.
debug() {
    OUT=$tmp/$1-$2
    mkdir -p "$OUT" && cd "$OUT" || return
    export OUT
    what=$2
    shift 2
    HOME=$tmp DEBUGINFOD_URLS='' LC_ALL=C.UTF-8 WEIR_PROCS=4 timeout 150 gdb -nx -batch -iex 'set auto-load off' -ex 'set confirm off' \
        -ex 'set print thread-events off' -ex 'set width 0' -ex 'set style enabled off' \
        -ex "source $WEIR_SRC/packaging/gdb/weir-gdb.py" -ex "source $tmp/look.py" -ex "source $tmp/$what.py" "$@" >"$OUT/log" 2>&1 </dev/null
}

has() { grep -Eq -- "$1" "$2" || { echo "no '$1' in"; head -n 40 "$2"; return 1; }; }
has_not() { ! grep -E -- "$1" "$2"; }
counts() { [ "$(grep -Ec -- "$2" "$3")" = "$1" ] || { echo "$(grep -Ec -- "$2" "$3"), not $1, of '$2' in"; head -n 40 "$3"; return 1; }; }

# The cases. $at has the answers.
every_goroutine_has_a_line() {
    cat "$at/log"
    counts 1000 '^  [0-9]+ +\[chan send, [0-9.msh]+( or more)?\] innermost at .*program\.c:[0-9]+$' "$at/list" &&
        counts 1010 '^[* ] [0-9]+ +\[' "$at/list"
}
lines_tell_states_and_places() {
    has '\[sleep, [^]]*\] sleeps at .*program\.c:[0-9]+$' "$at/list" && has '\[select, [^]]*\] selects at ' "$at/list" &&
        has '\[syscall\] hangs at .*, thread [0-9]+$' "$at/list" && has '\[running\] spins at .*, thread [0-9]+$' "$at/list" &&
        has '\[chan receive, [^]]*, locked to thread\] thread at .*, thread [0-9]+$' "$at/list"
}
the_current_one_is_marked() { counts 1 '^\*' "$at/list" && has '^\* 1 +\[running\] tick at .*, thread [0-9]+$' "$at/list"; }
odd_names_are_shown_and_harmless() {
    has '"plain" named at' "$at/list" && has '"100% "odd" \(\\ é ☃\)" named at' "$at/list" &&
        has '" \[31mred\\x7f and lines" named at' "$at/list" &&
        has '"1234567890[0-9]{52}\\xc3" named at' "$at/list" && ! LC_ALL=C grep -q "$(printf '[\001-\011\013-\037\177]')" "$at/list"
}
backtraces_go_from_the_switch_to_the_start() {
    cat "$at/bt"
    sed -n 1p "$at/bt" | grep -Eq '^goroutine [0-9]+ \[chan send, [^]]*\]:$' && counts 21 '^#[0-9]+ .* deeper \(' "$at/bt" &&
        counts 1 ' innermost \(ch=.*, order=0x[0-9a-f]+\) at ' "$at/bt" && has ' sender \(ch=.*, number=[0-9]+\) at ' "$at/bt" &&
        has_not 'corrupt|stopped|error|tick' "$at/bt"
}
weirs_frames_have_names() { has '^#1 .* wr_switch \(' "$at/bt" && has ' weir_chan_send ' "$at/bt" && tail -n 1 "$at/bt" | grep -q ' wr_entry '; }
every_goroutine_has_a_backtrace() {
    counts 1010 '^goroutine [0-9]+ \[' "$at/all" && counts 1000 ' innermost \(' "$at/all" &&
        has_not 'corrupt|Backtrace stopped|rror' "$at/all"
}
locals_are_read() {
    offered=$(sed -n 's/^offered = //p' "$at/locals") number=$(sed -n 's/.*number = \([0-9]*\),.*/\1/p' "$at/print")
    cat "$at/locals" "$at/print"
    [ -n "$number" ] && [ "$offered" = $((3 * number)) ] && has 'what = 0x[0-9a-f]+ "a thing"' "$at/print" && has '^e = ' "$at/locals"
}
a_frame_stays_selected() {
    cat "$at/frame" "$at/frame_locals" "$at/frame_print"
    has '^#[0-9]+ .* sender \(' "$at/frame" && has '^order = \{number = [0-9]+, what = .*"a thing"\}' "$at/frame_locals" &&
        [ "$(sed -n 's/^\$[0-9]* = //p' "$at/frame_print")" = "$(sed -n 's/^offered = //p' "$at/locals")" ] &&
        has '^goroutine [0-9]+ \[chan send' "$at/shown" && counts 1 '^\*' "$at/shown_list" && has '^\* [0-9]+ +\[chan send' "$at/shown_list" &&
        has '^#1 ' "$at/shown_bt" && has_not '^#0|tick' "$at/shown_bt" && has ' innermost \(' "$at/selected"
}
one_on_a_thread_is_shown_there() {
    cat "$at/other" "$at/running"
    has '^goroutine 1 \[running\], on thread [0-9]+$' "$at/other" && has ' tick \(' "$at/other" &&
        has '^goroutine [0-9]+ \[running\], on thread [0-9]+:$' "$at/running" && has ' spins \(' "$at/running"
}
afterwards_all_is_as_before() {
    cmp "$at/thread_before" "$at/thread_after" && has '^#0 .*tick \(' "$at/after_commands" && has '^#0 .*tick \(' "$at/back_bt" &&
        has_not 'sender' "$at/back_bt"
}
errors_say_what_is_wrong() {
    has '^error: There is no goroutine 4294967296' "$at/unknown" && has '^error: Say `goroutine`' "$at/nonsense" &&
        has '^error: No symbol "no_such_thing"' "$at/bad_command" && has '^error: .*begin with 1' "$at/bad_frame"
}
registers_are_never_written() { [ "$(cat "$at/registers")" = True ]; }
functions_can_be_called() {
    has '^\$[0-9]+ = 42$' "$at/call" && has '^\$[0-9]+ = 44$' "$at/call_selected" && has ' innermost \(' "$at/call_frame"
}
# Whether gdb's own core file has them depends on the kernel and on gdb.
who_is_not_in_a_core_file_is_not_passed_over() {
    missing=$(sed -n 's/^\([0-9]*\) goroutines are missing: .*/\1/p' "$at/list")
    cat "$at/log" "$at/list"
    [ $(($(grep -c '^[* ] [0-9]* *\[' "$at/list") + ${missing:-0})) = 1010 ]
}
the_process_goes_on() {
    has '^#0 .*tick \(' "$at/go_on" && has '^#0 .*tick \(' "$at/go_on_bt" && has_not sender "$at/go_on_bt" &&
        counts 1000 '\[chan send' "$at/go_on_list"
}

cases='every_goroutine_has_a_line lines_tell_states_and_places the_current_one_is_marked odd_names_are_shown_and_harmless
    backtraces_go_from_the_switch_to_the_start every_goroutine_has_a_backtrace locals_are_read a_frame_stays_selected
    one_on_a_thread_is_shown_there afterwards_all_is_as_before errors_say_what_is_wrong'

$CC -g -O0 -I"$WEIR_SRC/include" "$tmp/program.c" "$WEIR_BUILD/libweir.a" -o "$tmp/static" $libs || exit 1
mkdir "$tmp/lib-shared" "$tmp/lib-stripped"
cp "$WEIR_BUILD/libweir.so.0" "$tmp/lib-shared/" && strip -o "$tmp/lib-stripped/libweir.so.0" "$WEIR_BUILD/libweir.so.0" || exit 1
for kind in shared stripped; do
    lib=$tmp/lib-$kind
    $CC -g -O0 -I"$WEIR_SRC/include" "$tmp/program.c" "$lib/libweir.so.0" -Wl,-rpath,"$lib" -o "$tmp/$kind" -pthread || exit 1
done

CALLS=no
gdb_calls && CALLS=yes
export CALLS

# gdb's own core files leave out what lies behind a guard page of Linux 6.13 and later; a page that mprotect guards is none. Those of
# `goroutine core` leave out nothing, nor do the kernel's, where it writes them to the folder of the process.
for kind in static shared stripped; do
    CORE=gcore WEIR_STACK_GUARD=mprotect
    case $kind:$(cat /proc/sys/kernel/core_pattern) in
    static:*) CORE=own WEIR_STACK_GUARD= ;;
    shared:core) CORE=kernel WEIR_STACK_GUARD= && ulimit -c unlimited 2>/dev/null || CORE=gcore WEIR_STACK_GUARD=mprotect ;;
    esac
    export CORE WEIR_STACK_GUARD
    debug $kind process "$tmp/$kind"
    debug $kind core "$tmp/$kind" "$(echo "$tmp/$kind-process"/core*)"
    rm -f "$tmp/$kind-process"/core*
    if [ $CORE = own ]; then
        debug $kind list "$tmp/$kind" "$tmp/$kind-process/gdbs-own"
        rm -f "$tmp/$kind-process/gdbs-own"
        at=$tmp/$kind-list
        check ${kind}_who_is_not_in_a_core_file_is_not_passed_over who_is_not_in_a_core_file_is_not_passed_over
    fi
    for what in process core; do
        at=$tmp/$kind-$what
        more=
        [ $kind = stripped ] || more=weirs_frames_have_names
        [ $what = core ] || more="$more registers_are_never_written the_process_goes_on"
        for case in $cases $more; do check ${kind}_${what}_$case $case; done
        [ $what = core ] && continue
        if [ $CALLS = yes ]; then check ${kind}_${what}_functions_can_be_called functions_can_be_called
        else skip ${kind}_${what}_functions_can_be_called 'this gdb cannot call functions on this processor'
        fi
    done
done
finish
