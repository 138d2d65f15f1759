/*
 * The basic operations, one row a run: `basics ROW N` does the row's work N times, checks it, and prints
 * `name value unit` (the parked row prints three such lines). A check that fails, or a call that does, ends the
 * process with status 1 and prints no figure.
 *
 * go/basics.go is its twin: the same rows, the same work in the same order, the same checks. Change both or neither.
 */
#include <weir.h>

#include <pthread.h>

#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH = 100, CAPACITY = 128, NAP_NS = 50000 };

typedef WEIR_CHAN(long) long_chan;

_Noreturn static void fail(const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    fputs("basics: ", stderr);
    vfprintf(stderr, fmt, args);
    fputc('\n', stderr);
    va_end(args);
    exit(1);
}

static void must(int result, const char *call) {
    if (result < 0) fail("%s: %s", call, strerror(-result));
}
#define MUST(call) must((call), #call)

static void expect(const char *what, long got, long want) {
    if (got != want) fail("%s: %ld, expected %ld", what, got, want);
}

static void print_each(const char *row, weir_duration total, long n) {
    printf("%s %.2f ns\n", row, (double)total / (double)n);
}

/* ---- Yield: N in all, shared by `goroutines` of them, which are started and waiting when the clock starts ---- */

struct yielders {
    weir_wg ready, done;
    long_chan gate;
    long each;
    atomic_long sum;
};

static void yielder(struct yielders *y) {
    weir_wg_done(&y->ready);
    if (weir_recv(y->gate, NULL) != -EPIPE) fail("the gate did not close");
    for (long i = 0; i < y->each; i++) weir_yield();
    atomic_fetch_add(&y->sum, y->each);
    weir_wg_done(&y->done);
}

static void yield_among(const char *row, long n, long goroutines) {
    struct yielders y = { .gate = weir_make(long_chan, 0), .each = n / goroutines };
    MUST(weir_wg_add(&y.ready, goroutines));
    MUST(weir_wg_add(&y.done, goroutines));
    for (long i = 0; i < goroutines; i++) MUST(weir_go(yielder, &y));
    MUST(weir_wg_wait(&y.ready));
    weir_time start = weir_now();
    weir_close(y.gate);
    MUST(weir_wg_wait(&y.done));
    weir_duration total = weir_now() - start;
    expect(row, atomic_load(&y.sum), y.each * goroutines);
    print_each(row, total, y.each * goroutines);
    weir_release(y.gate);
}

static void yield_1(const char *row, long n) { yield_among(row, n, 1); }
static void yield_100(const char *row, long n) { yield_among(row, n, 100); }
static void yield_10k(const char *row, long n) { yield_among(row, n, 10000); }

/* ---- Start goroutines that do nothing much, and wait for them: a batch at a time ------------- */

static void spawned(weir_wg *wg, atomic_long *sum) {
    atomic_fetch_add(sum, 1);
    weir_wg_done(wg);
}

static void spawn_in(const char *row, long n, long batch) {
    weir_wg wg = WEIR_WG_INIT;
    atomic_long sum = 0;
    weir_time start = weir_now();
    for (long started = 0; started < n; started += batch) {
        MUST(weir_wg_add(&wg, batch));
        for (long i = 0; i < batch; i++) MUST(weir_go(spawned, &wg, &sum));
        MUST(weir_wg_wait(&wg));
    }
    weir_duration total = weir_now() - start;
    expect(row, atomic_load(&sum), n);
    print_each(row, total, n);
}

static void spawn_batch(const char *row, long n) { spawn_in(row, n, BATCH); }
static void spawn_one(const char *row, long n) { spawn_in(row, n, 1); }

/* ---- Channels -------------------------------------------------------------------------------- */

static void echo(long_chan in, long_chan out) {
    for (long v; weir_recv(in, &v) == 0;) MUST(weir_send(out, v + 1));
    weir_close(out);
}

/* There and back over two unbuffered channels. */
static void pingpong(const char *row, long n) {
    long_chan there = weir_make(long_chan, 0), back = weir_make(long_chan, 0);
    long sum = 0;
    MUST(weir_go(echo, there, back));
    weir_time start = weir_now();
    for (long i = 0, v; i < n; i++) {
        MUST(weir_send(there, i));
        MUST(weir_recv(back, &v));
        sum += v;
    }
    weir_duration total = weir_now() - start;
    expect(row, sum, n * (n + 1) / 2);
    print_each(row, total, n);
    weir_close(there);
}

static void produce(long_chan out, long n) {
    for (long i = 1; i <= n; i++) MUST(weir_send(out, i));
    weir_close(out);
}

static void buffered(const char *row, long n) {
    long_chan ch = weir_make(long_chan, CAPACITY);
    long sum = 0;
    weir_time start = weir_now();
    MUST(weir_go(produce, ch, n));
    for (long v; weir_recv(ch, &v) == 0;) sum += v;
    weir_duration total = weir_now() - start;
    expect(row, sum, n * (n + 1) / 2);
    print_each(row, total, n);
}

/* ---- Select ---------------------------------------------------------------------------------- */

/* Two channels with one slot each; a send makes one of them ready, in turn, and the select takes it out again. */
static void select_two(const char *row, long n) {
    long_chan ch[2] = { weir_make(long_chan, 1), weir_make(long_chan, 1) };
    long sum = 0;
    weir_time start = weir_now();
    for (long i = 0, v; i < n; i++) {
        MUST(weir_send(ch[i & 1], i));
        int arm = weir_select(weir_on_recv(ch[0], &v), weir_on_recv(ch[1], &v));
        if (arm != (i & 1)) fail("%s: arm %d at %ld", row, arm, i);
        sum += v;
    }
    weir_duration total = weir_now() - start;
    expect(row, sum, n * (n - 1) / 2);
    print_each(row, total, n);
}

/* The same with one channel and a timeout that never comes. */
static void select_timeout_ready(const char *row, long n) {
    long_chan ch = weir_make(long_chan, 1);
    long sum = 0;
    weir_time start = weir_now();
    for (long i = 0, v; i < n; i++) {
        MUST(weir_send(ch, i));
        int arm = weir_select(weir_on_recv(ch, &v), weir_on_after(WEIR_MINUTE));
        if (arm != 0) fail("%s: arm %d at %ld", row, arm, i);
        sum += v;
    }
    weir_duration total = weir_now() - start;
    expect(row, sum, n * (n - 1) / 2);
    print_each(row, total, n);
}

/* The ping-pong, but the answer is waited for with a timeout that never comes: the timer is armed and taken back. */
static void select_timeout_wait(const char *row, long n) {
    long_chan there = weir_make(long_chan, 0), back = weir_make(long_chan, 0);
    long sum = 0;
    MUST(weir_go(echo, there, back));
    weir_time start = weir_now();
    for (long i = 0, v; i < n; i++) {
        MUST(weir_send(there, i));
        int arm = weir_select(weir_on_recv(back, &v), weir_on_after(WEIR_MINUTE));
        if (arm != 0) fail("%s: arm %d at %ld", row, arm, i);
        sum += v;
    }
    weir_duration total = weir_now() - start;
    expect(row, sum, n * (n + 1) / 2);
    print_each(row, total, n);
    weir_close(there);
}

/* ---- Mutex, sleep ---------------------------------------------------------------------------- */

static weir_mutex mutex;     /* not on the stack: in both twins it is memory that others could reach */
static volatile long locked; /* guarded by mutex */

static void mutex_alone(const char *row, long n) {
    weir_time start = weir_now();
    for (long i = 0; i < n; i++) {
        weir_mutex_lock(&mutex);
        locked = locked + 1;
        weir_mutex_unlock(&mutex);
    }
    weir_duration total = weir_now() - start;
    expect(row, locked, n);
    print_each(row, total, n);
}

static int by_value(const void *a, const void *b) {
    weir_duration x = *(const weir_duration *)a, y = *(const weir_duration *)b;
    return (x > y) - (x < y);
}

/* How much later than asked a sleep returns: the median of N. */
static void sleep_late(const char *row, long n) {
    weir_duration *late = calloc((size_t)n, sizeof *late);
    if (!late) fail("no memory");
    for (long i = 0; i < n; i++) {
        weir_time start = weir_now();
        MUST(weir_sleep(NAP_NS));
        late[i] = weir_now() - start - NAP_NS;
        if (late[i] < 0) fail("%s: woke %ld ns early", row, (long)-late[i]);
    }
    qsort(late, (size_t)n, sizeof *late, by_value);
    printf("%s %ld ns\n", row, (long)late[n / 2]);
    free(late);
}

/* ---- Parked: N goroutines that wait on one channel ------------------------------------------- */

struct parkers {
    weir_wg ready, done;
    long_chan ch;
    atomic_long woken;
};

static void parker(struct parkers *p) {
    weir_wg_done(&p->ready);
    if (weir_recv(p->ch, NULL) != -EPIPE) fail("the channel did not close");
    atomic_fetch_add(&p->woken, 1);
    weir_wg_done(&p->done);
}

/* What this process occupies: resident memory, and the page tables that map it. */
static long memory(void) {
    FILE *f = fopen("/proc/self/status", "r");
    if (!f) fail("/proc/self/status: %s", strerror(errno));
    long rss = -1, tables = -1;
    for (char line[256]; fgets(line, sizeof line, f);) {
        (void)sscanf(line, "VmRSS: %ld", &rss);
        (void)sscanf(line, "VmPTE: %ld", &tables);
    }
    fclose(f);
    if (rss < 0 || tables < 0) fail("/proc/self/status tells no memory");
    return (rss + tables) * 1024;
}

static void parked(const char *row, long n) {
    struct parkers p = { .ch = weir_make(long_chan, 0) };
    long before = memory();
    MUST(weir_wg_add(&p.ready, n));
    MUST(weir_wg_add(&p.done, n));
    weir_time start = weir_now();
    for (long i = 0; i < n; i++) MUST(weir_go(parker, &p));
    MUST(weir_wg_wait(&p.ready));
    weir_duration created = weir_now() - start;
    long after = memory();
    start = weir_now();
    weir_close(p.ch);
    MUST(weir_wg_wait(&p.done));
    weir_duration woken = weir_now() - start;
    expect(row, atomic_load(&p.woken), n);
    print_each("parked-create", created, n);
    printf("parked-bytes %.0f bytes\n", (double)(after - before) / (double)n);
    print_each("parked-wake", woken, n);
}

/* ---- The leak proof ------------------------------------------------------------------------------ */

/* A thread that knows nothing of weir looks at the clock: the largest gap is how long the process stood still. */
static atomic_bool watching;
static void *watch_gaps(void *gap) {
    weir_time last = weir_now();
    while (atomic_load(&watching)) {
        weir_time now = weir_now();
        if (now - last > *(weir_duration *)gap) *(weir_duration *)gap = now - last;
        last = now;
    }
    return NULL;
}

static void leak_one(void) {
    long_chan ch = weir_make(long_chan, 0);
    (void)!weir_recv(ch, NULL);
}

/* One proof of a process in which one goroutine has leaked. */
static void prove(const char *row) {
    MUST(weir_go(leak_one));
    MUST(weir_sleep(50 * WEIR_MILLISECOND)); /* until it has got there, and all others sleep */
    weir_duration gap = 0;
    pthread_t thread;
    weir_leak_report *report;
    atomic_store(&watching, true);
    if (pthread_create(&thread, NULL, watch_gaps, &gap)) fail("no thread");
    weir_time start = weir_now();
    int n = weir_leaks(&report);
    weir_duration total = weir_now() - start;
    atomic_store(&watching, false);
    pthread_join(thread, NULL);
    if (n < 0) weir_leak_report_print(report, stderr);
    expect(row, n, 1);
    weir_leak_report_free(report);
    printf("%s-pause %.3f ms\n%s-total %.3f ms\n", row, (double)gap / 1e6, row, (double)total / 1e6);
}

static void prove_parked(const char *row, long n) {
    static struct parkers p;
    p.ch = weir_make(long_chan, 0);
    MUST(weir_wg_add(&p.ready, n));
    MUST(weir_wg_add(&p.done, n));
    for (long i = 0; i < n; i++) MUST(weir_go(parker, &p));
    MUST(weir_wg_wait(&p.ready));
    prove(row);
    weir_close(p.ch);
    MUST(weir_wg_wait(&p.done));
}

/* n MiB in blocks of 64 bytes, each of which points to two others. */
struct block {
    struct block *next, *before;
    long filler[6];
};
static void prove_heap(const char *row, long n) {
    static struct block *all;
    for (long i = 0; i < n << 14; i++) {
        struct block *b = calloc(1, sizeof *b);
        if (!b) fail("no memory");
        b->next = all, b->before = all ? all->next : NULL;
        all = b;
    }
    prove(row);
    for (struct block *next; all; all = next) {
        next = all->next;
        free(all);
    }
}

/* The same, but each points to two of all, and so the next one lies anywhere. */
static void prove_anyhow(const char *row, long n) {
    static struct block **all;
    unsigned long random = 88172645463325252;
    all = calloc((size_t)n << 14, sizeof *all);
    if (!all) fail("no memory");
    for (long i = 0; i < n << 14; i++)
        if (!(all[i] = calloc(1, sizeof **all))) fail("no memory");
    for (long i = 0; i < n << 14; i++) {
        random ^= random << 13, random ^= random >> 7, random ^= random << 17;
        all[i]->next = all[random % ((unsigned long)n << 14)], all[i]->before = all[(random >> 20) % ((unsigned long)n << 14)];
    }
    prove(row);
    for (long i = 0; i < n << 14; i++) free(all[i]);
    free(all);
}

static const struct row {
    const char *name;
    void (*run)(const char *row, long n);
} rows[] = {
    { "yield-1", yield_1 },
    { "yield-100", yield_100 },
    { "yield-10k", yield_10k },
    { "spawn-batch", spawn_batch },
    { "spawn-one", spawn_one },
    { "pingpong", pingpong },
    { "buffered-128", buffered },
    { "select-2", select_two },
    { "select-timeout-ready", select_timeout_ready },
    { "select-timeout-wait", select_timeout_wait },
    { "mutex-alone", mutex_alone },
    { "sleep-50us", sleep_late },
    { "parked", parked },
    { "prove-parked", prove_parked },
    { "prove-heap", prove_heap },
    { "prove-heap-anyhow", prove_anyhow },
    { "prove-parked-1m", prove_parked },
    { "prove-heap-4g", prove_heap },
};

int weir_main(int argc, char **argv) {
    long n = argc == 3 ? strtol(argv[2], NULL, 10) : 0;
    for (size_t i = 0; n > 0 && i < sizeof rows / sizeof rows[0]; i++)
        if (strcmp(argv[1], rows[i].name) == 0) {
            rows[i].run(rows[i].name, n);
            return 0;
        }
    fputs("usage: basics ROW N\nrows:", stderr);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) fprintf(stderr, " %s", rows[i].name);
    fputc('\n', stderr);
    return 2;
}
