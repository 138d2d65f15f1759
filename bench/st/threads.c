/*
 * Rows about threads themselves: yield-…, spawn-…, parked; and mutex-…, sleep-….
 *
 * Those that wait together (yield, parked, mutex) wait on a condition variable, and a broadcast wakes all. The library has no yield:
 * st_usleep(0) is what is used in its place. It puts the thread among the sleepers, and the idle thread takes it out again once
 * nobody else can run, after a look at the descriptors: with one thread each yield is a system call and more.
 */
#include "bench.h"

/* ---- Threads that wait together ---- */

struct crowd {
    struct wait_group ready, done;
    st_cond_t gate;
    bool open;
    long each;  /* turns of one */
    long count; /* of turns, or of threads that have passed */
};

static void begin_together(struct crowd *c) {
    wait_group_done(&c->ready);
    while (!c->open) MUST(st_cond_wait(c->gate));
}

/* Start n of them, and wait until all have come as far as the gate. */
static void gather(struct crowd *c, long n, void *(*run)(void *crowd)) {
    if (!(c->gate = st_cond_new())) fail("st_cond_new: %s", strerror(errno));
    wait_group_add(&c->ready, n);
    wait_group_add(&c->done, n);
    for (long i = 0; i < n; i++) start(run, c);
    wait_group_wait(&c->ready);
}

/* Let them pass; returns when all have ended. */
static duration let_go(struct crowd *c) {
    duration begin = now();
    c->open = true;
    MUST(st_cond_broadcast(c->gate));
    wait_group_wait(&c->done);
    return now() - begin;
}

static long share(const char *row, long n, long threads) {
    if (n < threads) fail("%s: fewer turns than threads", row);
    return n / threads;
}

/* ---- Yield: N in all, shared by so many threads ---- */

static void *yielder(void *arg) {
    struct crowd *c = arg;
    begin_together(c);
    for (long i = 0; i < c->each; i++) MUST(st_usleep(0));
    c->count += c->each;
    wait_group_done(&c->done);
    return NULL;
}

static void yield_among(const char *row, long n, long threads) {
    struct crowd c = { .each = share(row, n, threads) };
    gather(&c, threads, yielder);
    duration total = let_go(&c);
    expect(row, c.count, c.each * threads);
    print_each(row, total, c.count);
}

static void yield_1(const char *row, long n) { yield_among(row, n, 1); }
static void yield_2(const char *row, long n) { yield_among(row, n, 2); }
static void yield_100(const char *row, long n) { yield_among(row, n, 100); }
static void yield_10k(const char *row, long n) { yield_among(row, n, 10000); }
static void yield_100k(const char *row, long n) { yield_among(row, n, 100000); }

/* ---- Threads that do nothing much, a batch at a time ---- */

struct batch {
    struct wait_group wg;
    long sum;
};

static void *spawned(void *arg) {
    struct batch *b = arg;
    b->sum++;
    wait_group_done(&b->wg);
    return NULL;
}

static void spawn_in(const char *row, long n, long batch) {
    struct batch b = { 0 };
    n -= n % batch;
    duration begin = now();
    for (long started = 0; started < n; started += batch) {
        wait_group_add(&b.wg, batch);
        for (long i = 0; i < batch; i++) start(spawned, &b);
        wait_group_wait(&b.wg);
    }
    duration total = now() - begin;
    expect(row, b.sum, n);
    print_each(row, total, n);
}

static void spawn_batch(const char *row, long n) { spawn_in(row, n, 100); }
static void spawn_one(const char *row, long n) { spawn_in(row, n, 1); }

/* ---- Parked: N threads that wait for one event ---- */

static void *parker(void *arg) {
    struct crowd *c = arg;
    begin_together(c);
    c->count++;
    wait_group_done(&c->done);
    return NULL;
}

static void parked(const char *row, long n) {
    struct crowd c = { 0 };
    long before = memory();
    duration begin = now();
    gather(&c, n, parker);
    duration created = now() - begin;
    long after = memory();
    duration woken = let_go(&c);
    expect(row, c.count, n);
    print_each("parked-create", created, n);
    printf("parked-bytes %.0f bytes\n", (double)(after - before) / (double)n);
    print_each("parked-wake", woken, n);
}

/* ---- Mutex. What it guards is on no stack: it is memory that others could reach ---- */

static st_mutex_t mutex;
static volatile long locked; /* guarded by mutex */
static duration longest;     /* of all waits; guarded by mutex */

static void make_mutex(void) {
    if (!(mutex = st_mutex_new())) fail("st_mutex_new: %s", strerror(errno));
}

static void lock_turns(long n) {
    for (long i = 0; i < n; i++) {
        MUST(st_mutex_lock(mutex));
        locked = locked + 1;
        MUST(st_mutex_unlock(mutex));
    }
}

static void mutex_alone(const char *row, long n) {
    make_mutex();
    duration begin = now();
    lock_turns(n);
    duration total = now() - begin;
    expect(row, locked, n);
    print_each(row, total, n);
}

static void *mutex_turns(void *arg) {
    struct crowd *c = arg;
    begin_together(c);
    lock_turns(c->each);
    wait_group_done(&c->done);
    return NULL;
}

static void mutex_among(const char *row, long n, long threads) {
    struct crowd c = { .each = share(row, n, threads) };
    make_mutex();
    gather(&c, threads, mutex_turns);
    duration total = let_go(&c);
    expect(row, locked, c.each * threads);
    print_each(row, total, locked);
}

static void mutex_2(const char *row, long n) { mutex_among(row, n, 2); }
static void mutex_16(const char *row, long n) { mutex_among(row, n, 16); }
static void mutex_1000(const char *row, long n) { mutex_among(row, n, 1000); }

/* The same, but each turn looks at the clock before and after its wait. */
static void *timed_turns(void *arg) {
    struct crowd *c = arg;
    begin_together(c);
    for (long i = 0; i < c->each; i++) {
        duration begin = now();
        MUST(st_mutex_lock(mutex));
        duration waited = now() - begin;
        locked = locked + 1;
        if (waited > longest) longest = waited;
        MUST(st_mutex_unlock(mutex));
    }
    wait_group_done(&c->done);
    return NULL;
}

static void mutex_longest(const char *row, long n) {
    struct crowd c = { .each = share(row, n, 16) };
    make_mutex();
    gather(&c, 16, timed_turns);
    let_go(&c);
    expect(row, locked, c.each * 16);
    printf("%s %.1f us\n", row, (double)longest / 1e3);
}

/* ---- How much later than asked a sleep returns ---- */

static void sleep_late(const char *row, long n, duration nap) {
    duration *late = ARRAY(n, duration);
    for (long i = 0; i < n; i++) {
        duration begin = now();
        MUST(st_usleep((st_utime_t)(nap / 1000)));
        late[i] = now() - begin - nap;
        if (late[i] < 0) fail("%s: woke %ld ns early", row, (long)-late[i]);
    }
    print_percentiles(row, late, n);
    free(late);
}

static void sleep_50us(const char *row, long n) { sleep_late(row, n, 50000); }
static void sleep_1ms(const char *row, long n) { sleep_late(row, n, 1000000); }

const struct row thread_rows[] = {
    { "yield-1", yield_1 },
    { "yield-2", yield_2 },
    { "yield-100", yield_100 },
    { "yield-10k", yield_10k },
    { "yield-100k", yield_100k },
    { "spawn-batch", spawn_batch },
    { "spawn-one", spawn_one },
    { "parked", parked },
    { "mutex-alone", mutex_alone },
    { "mutex-2", mutex_2 },
    { "mutex-16", mutex_16 },
    { "mutex-1000", mutex_1000 },
    { "mutex-16-longest", mutex_longest },
    { "sleep-50us", sleep_50us },
    { "sleep-1ms", sleep_1ms },
    { 0 },
};
