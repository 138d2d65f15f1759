#!/bin/sh
# WEIR_LEAK: what it prints, what it makes of the exit status, which words it takes.
set -u
. "$WEIR_SRC/test/support/script.sh"

# ends: return (from weir_main), exit (from a goroutine), child (a forked child exits, then it returns), deadlock,
# sleep (a while, then return), healed (when the goroutine has been healed, return)
cat >"$tmp/program.c" <<'PROGRAM'
#include <weir.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

typedef WEIR_CHAN(int) int_chan;
static int_chan healed, kept;

__attribute__((noinline)) static void leaky(int_chan ch)
{
    int e = weir_send(ch, 1);
    weir_release(ch);
    printf("send: %s\n", strerror(-e));
    (void)!weir_send(healed, e);
}
static void receive(int_chan ch) { (void)!weir_recv(ch, NULL); }
__attribute__((noinline)) static void leak(void)
{
    int_chan ch = weir_make(int_chan, 0);
    if (weir_go(leaky, ch)) abort();
}
/* Until so many goroutines wait for a channel, or one of them has been healed already. */
static void until_parked(int n)
{
    for (int parked = 0; parked != n && weir_len(healed) == 0; weir_yield()) {
        FILE *dump = tmpfile();
        char line[256];
        if (!dump || weir_dump(fileno(dump), 2)) abort();
        rewind(dump);
        for (parked = 0; fgets(line, sizeof line, dump);) parked += strstr(line, " [chan ") != NULL;
        fclose(dump);
    }
}
__attribute__((noinline)) static void wipe(void)
{
    volatile char deep[16384];
    for (size_t i = 0; i < sizeof deep; i++) deep[i] = 0;
}
static void ends(void) { exit(3); }
static void last(void) { printf("last\n"); }

int weir_main(int argc, char **argv)
{
    const char *how = argv[2];
    atexit(last);
    healed = weir_make(int_chan, 1);
    kept = weir_make(int_chan, 0);
    if (weir_go(receive, kept)) return 1;
    bool leaks = !strcmp(argv[1], "leaky");
    if (leaks) leak();
    until_parked(leaks ? 2 : 1);
    wipe();
    if (!strcmp(how, "exit")) {
        if (weir_go(ends)) return 1;
        (void)!weir_recv(kept, NULL);
    } else if (!strcmp(how, "child")) {
        fflush(stdout);
        pid_t child = fork();
        int status = 0;
        if (child == 0) exit(5);
        waitpid(child, &status, 0);
        printf("child: %d\n", WEXITSTATUS(status));
    } else if (!strcmp(how, "deadlock")) {
        (void)!weir_recv(kept, NULL);
    } else if (!strcmp(how, "healed")) {
        while (weir_len(healed) == 0) weir_sleep(WEIR_MILLISECOND); /* to wait for a healer alone would be a deadlock */
    } else if (!strcmp(how, "sleep")) {
        weir_sleep(500 * WEIR_MILLISECOND);
    }
    return 4;
}
PROGRAM

# run STATUS WORDS ARGUMENT…
run() {
    want=$1 words=$2
    shift 2
    WEIR_LEAK=$words timeout 60 "$tmp/program" "$@" >"$tmp/out" 2>"$tmp/err"
    got=$?
    cat "$tmp/out" "$tmp/err"
    [ $got = "$want" ] || { echo "exit status $got, not $want"; return 1; }
}
says() { grep -q "$1" "$tmp/err"; }
says_not() { ! says "$1"; }
outputs() { grep -q "$1" "$tmp/out"; }

builds() {
    $CC -g -O1 -I"$WEIR_SRC/include" "$tmp/program.c" "$WEIR_BUILD/libweir.a" -o "$tmp/program" $libs
}
nothing_is_said_unless_asked() { run 4 '' leaky return && [ ! -s "$tmp/err" ]; }
a_leak_at_return_is_66() { run 66 exit leaky return && says '^1 goroutine leaked, started at leak (.*) with leaky:' && outputs last; }
no_leak_at_return_is_mains_own() { run 4 exit tight return && says 'no goroutine has leaked' && outputs last; }
a_leak_at_exit_is_66() { run 66 exit leaky exit && says '^1 goroutine leaked, ' && outputs last; }
no_leak_at_exit_keeps_the_status() { run 3 exit tight exit && says 'no goroutine has leaked'; }
a_forked_child_has_a_status_of_its_own() { run 66 exit leaky child && outputs 'child: 5' && [ "$(grep -c 'goroutine leaked' "$tmp/err")" = 1 ]; }
a_deadlock_stays_one() { run 2 exit,10s tight deadlock && says 'all goroutines are asleep'; }
a_period_finds_a_leak_and_keeps_the_status() { run 4 10ms leaky sleep && says '^1 goroutine leaked, '; }
a_period_is_silent_without_one() { run 4 10ms tight sleep && says_not 'leaked'; }
heal_ends_the_goroutine() { run 4 10ms,heal leaky healed && says '^1 goroutine leaked, ' && outputs 'send: Resource deadlock avoided'; }
words_combine() { run 4 exit,heal,10ms leaky healed && says 'no goroutine has leaked'; }
an_unknown_word_is_told_and_ignored() { run 66 exitt,exit,-3s leaky return && says 'WEIR_LEAK: exitt is none of' && says 'WEIR_LEAK: -3s is'; }

check builds builds
for name in nothing_is_said_unless_asked a_leak_at_return_is_66 no_leak_at_return_is_mains_own a_leak_at_exit_is_66 \
    no_leak_at_exit_keeps_the_status a_forked_child_has_a_status_of_its_own a_deadlock_stays_one \
    a_period_finds_a_leak_and_keeps_the_status a_period_is_silent_without_one heal_ends_the_goroutine words_combine \
    an_unknown_word_is_told_and_ignored; do
    check $name $name
done
finish
