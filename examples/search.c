/*
 * search: a service with a forgotten sender in it, whose memory climbs until somebody finds the line: doc/observe.md finds it. A
 * request gets 20 ms for an answer, and the search takes 40. SIGHUP puts the repaired code in its place, as a new release would.
 */
#include <weir.h>

#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#define DEADLINE (20 * WEIR_MILLISECOND)
#define LATENCY (40 * WEIR_MILLISECOND)
#define RECORD (16 << 10)

/* What a search finds; the receiver frees it. */
typedef WEIR_CHAN(char *) record_chan;
typedef WEIR_CHAN(int) int_chan;

/* The index, which is slow today. */
static char *look_up(const char *term) {
    char *record = weir_sleep(LATENCY) ? NULL : malloc(RECORD);
    if (record) memset(record, *term, RECORD);
    return record;
}

static void search(const char *term, record_chan found) {
    char *record = look_up(term);
    if (weir_send(found, record)) free(record);
    weir_release(found);
}

static int answer(const char *term, size_t capacity) {
    record_chan found = weir_make(record_chan, capacity);
    char *record = NULL;
    int e = weir_go(search, term, weir_retain(found));
    if (e) weir_release(found); /* the sender's count */
    else weir_timeout(DEADLINE) e = weir_recv(found, &record);
    free(record);
    weir_release(found);
    return e;
}

/* Who is late has nobody to send to any more. */
static void request(void) { (void)!answer("weir", 0); }

/* The search obeys the deadline: it is over when the scope is. */
static void request_repaired(void) {
    char *record = NULL;
    int e = 0;
    weir_timeout(DEADLINE) weir_scoped(s, &e) {
        record_chan found = weir_make(record_chan, 0);
        int failed = weir_scope_go(&s, search, "weir", weir_retain(found));
        if (failed) weir_release(found);
        else (void)!weir_recv(found, &record);
        weir_release(found);
    }
    free(record);
}

/* Until a signal ends it. */
static int serve(int_chan signals, weir_duration pause) {
    bool repaired = false;
    for (int signo;;) {
        int arm = weir_select(weir_on_recv(signals, &signo), weir_on_after(pause));
        if (arm < 0) return arm;
        if (arm == 0 && signo != SIGHUP) return 0;
        if (arm == 0) repaired = true, puts("repaired"), fflush(stdout);
        else if (repaired) (void)!weir_go(request_repaired);
        else (void)!weir_go(request);
    }
}

static int usage(FILE *to, int status) {
    fputs("usage: search [-r REQUESTS]\n"
          "Serve so many requests a second (default 100, at most 1000), made up, until SIGINT or SIGTERM. Each leaks a goroutine, until\n"
          "SIGHUP has the repaired code used.\n",
          to);
    return status;
}

int weir_main(int argc, char **argv) {
    long rate = 100;
    const struct option options[] = { { "help", no_argument, NULL, 'h' }, { 0 } };
    for (int c; (c = getopt_long(argc, argv, "hr:", options, NULL)) != -1;) {
        if (c == 'h') return usage(stdout, 0);
        if (c != 'r') return usage(stderr, 2);
        char *end;
        rate = strtol(optarg, &end, 10);
        if (*end || rate < 1 || rate > 1000) return usage(stderr, 2);
    }
    if (optind < argc) return usage(stderr, 2);
    int_chan signals = weir_make(int_chan, 4);
    int e = weir_signal_notify(signals, SIGHUP, SIGINT, SIGTERM);
    if (!e) {
        puts("serving");
        fflush(stdout);
        e = serve(signals, WEIR_SECOND / rate);
    }
    if (e) fprintf(stderr, "search: %s\n", strerror(-e));
    weir_release(signals);
    return e ? 1 : 0;
}
