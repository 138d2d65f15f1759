/*
 * Rows about locks: mutex, rwmutex, once. What a lock guards is on no stack: in both twins it is memory that others could reach.
 */
#include "bench.h"

static struct locks {
    weir_wg ready, done;
    long_chan gate;
    long each;
    weir_mutex mutex;
    weir_rwmutex rwmutex;
    volatile long locked;  /* guarded by mutex, or by rwmutex */
    atomic_long seen;      /* by readers */
    weir_duration longest; /* of all waits; guarded by mutex */
} locks;

/* N turns in all, shared by so many goroutines, which wait for the gate when the clock starts. */
static weir_duration contend(const char *row, long n, long goroutines, void (*turns)(void)) {
    locks.each = n / goroutines;
    locks.gate = weir_make(long_chan, 0);
    if (locks.each == 0) fail("%s: fewer turns than goroutines", row);
    MUST(weir_wg_add(&locks.ready, goroutines));
    MUST(weir_wg_add(&locks.done, goroutines));
    for (long i = 0; i < goroutines; i++) MUST(weir_go(turns));
    MUST(weir_wg_wait(&locks.ready));
    weir_time start = weir_now();
    weir_close(locks.gate);
    MUST(weir_wg_wait(&locks.done));
    return weir_now() - start;
}

static void begin(void) {
    weir_wg_done(&locks.ready);
    if (weir_recv(locks.gate, NULL) != -EPIPE) fail("the gate did not close");
}

/* ---- Mutex --------------------------------------------------------------------------------------- */

static void lock_turns(long n) {
    for (long i = 0; i < n; i++) {
        weir_mutex_lock(&locks.mutex);
        locks.locked = locks.locked + 1;
        weir_mutex_unlock(&locks.mutex);
    }
}

static void mutex_alone(const char *row, long n) {
    weir_time start = weir_now();
    lock_turns(n);
    weir_duration total = weir_now() - start;
    expect(row, locks.locked, n);
    print_each(row, total, n);
}

static void mutex_turns(void) {
    begin();
    lock_turns(locks.each);
    weir_wg_done(&locks.done);
}

static void mutex_among(const char *row, long n, long goroutines) {
    weir_duration total = contend(row, n, goroutines, mutex_turns);
    expect(row, locks.locked, locks.each * goroutines);
    print_each(row, total, locks.locked);
}

static void mutex_2(const char *row, long n) { mutex_among(row, n, 2); }
static void mutex_16(const char *row, long n) { mutex_among(row, n, 16); }
static void mutex_1000(const char *row, long n) { mutex_among(row, n, 1000); }

/* The same, but each turn looks at the clock before and after its wait: a row of its own, as that slows the turns. */
static void timed_turns(void) {
    weir_duration longest = 0;
    begin();
    for (long i = 0; i < locks.each; i++) {
        weir_time start = weir_now();
        weir_mutex_lock(&locks.mutex);
        weir_duration waited = weir_now() - start;
        locks.locked = locks.locked + 1;
        weir_mutex_unlock(&locks.mutex);
        if (waited > longest) longest = waited;
    }
    weir_mutex_lock(&locks.mutex);
    if (longest > locks.longest) locks.longest = longest;
    weir_mutex_unlock(&locks.mutex);
    weir_wg_done(&locks.done);
}

static void mutex_longest(const char *row, long n) {
    contend(row, n, 16, timed_turns);
    expect(row, locks.locked, locks.each * 16);
    printf("%s %.1f us\n", row, (double)locks.longest / 1e3);
}

/* ---- Rwmutex: one turn in ten writes ------------------------------------------------------------- */

static void rw_turns(long n) {
    long seen = 0;
    for (long i = 0; i < n; i++)
        if (i % 10 == 9) {
            weir_rwmutex_lock(&locks.rwmutex);
            locks.locked = locks.locked + 1;
            weir_rwmutex_unlock(&locks.rwmutex);
        } else {
            weir_rwmutex_rlock(&locks.rwmutex);
            seen += locks.locked >= 0;
            weir_rwmutex_runlock(&locks.rwmutex);
        }
    atomic_fetch_add(&locks.seen, seen);
}

static void rwmutex_turns(void) {
    begin();
    rw_turns(locks.each);
    weir_wg_done(&locks.done);
}

static void rwmutex_alone(const char *row, long n) {
    weir_time start = weir_now();
    rw_turns(n);
    weir_duration total = weir_now() - start;
    expect(row, locks.locked, n / 10);
    expect(row, atomic_load(&locks.seen), n - n / 10);
    print_each(row, total, n);
}

static void rwmutex_16(const char *row, long n) {
    weir_duration total = contend(row, n, 16, rwmutex_turns);
    expect(row, locks.locked, 16 * (locks.each / 10));
    expect(row, atomic_load(&locks.seen), 16 * (locks.each - locks.each / 10));
    print_each(row, total, 16 * locks.each);
}

/* ---- Once: N times, of which the first does it --------------------------------------------------- */

static weir_once only;

static void count(void *arg) { locks.locked = locks.locked + 1; }

static void once(const char *row, long n) {
    weir_time start = weir_now();
    for (long i = 0; i < n; i++) weir_once_do(&only, count, NULL);
    weir_duration total = weir_now() - start;
    expect(row, locks.locked, 1);
    print_each(row, total, n);
}

const struct row lock_rows[] = {
    { "mutex-alone", mutex_alone },
    { "mutex-2", mutex_2 },
    { "mutex-16", mutex_16 },
    { "mutex-1000", mutex_1000 },
    { "mutex-16-longest", mutex_longest },
    { "rwmutex-alone", rwmutex_alone },
    { "rwmutex-16", rwmutex_16 },
    { "once", once },
    { 0 },
};
