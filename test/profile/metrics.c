/* The counters: each counts what was done, no more and no less. */
#include "profile_test.h"

#include <unistd.h>

static struct wr_metrics metrics(void) {
    struct wr_metrics m;
    wr_metrics_take(&m);
    return m;
}

static int_chan ch;
static int unused;
static void receives(void) { (void)!weir_recv(ch, &unused); }
static void selects(void) { (void)!weir_select(weir_on_recv(ch, &unused)); }
static void sleeps(void) { (void)!weir_sleep(WEIR_HOUR); }
static weir_wg wg;
static void waits_for_group(void) { (void)!weir_wg_wait(&wg); }
static void until_alone(void) { TEST_UNTIL(weir_count() == 1); }
static uint64_t living(const struct wr_metrics *m) {
    uint64_t n = m->sched.running + m->sched.runnable + m->sched.blocking;
    for (int i = 0; i < WR_REASONS; i++) n += m->sched.waiting[i];
    return n;
}

TEST(as_many_parks_starts_and_ends_are_counted_as_there_were) {
    enum { N = 1000 };
    ch = weir_make(int_chan, 0);
    struct wr_metrics before = metrics();
    for (int i = 0; i < N; i++) TEST_GO(receives);
    test_until_n_parked(N, "chan receive");
    struct wr_metrics parked = metrics();
    for (int i = 0; i < N; i++) CHECK_EQ(weir_send(ch, i), 0); /* somebody waits, so this does not park */
    until_alone();
    TEST_UNTIL(metrics().sched.ended - before.sched.ended >= N); /* counted once it has left its stack */
    struct wr_metrics after = metrics();
    CHECK_EQ(parked.sched.started - before.sched.started, N);
    CHECK_EQ(parked.sched.ended, before.sched.ended);
    CHECK_EQ(parked.sched.parks - before.sched.parks, N);
    CHECK_EQ(after.sched.started, parked.sched.started);
    CHECK_EQ(after.sched.ended - before.sched.ended, N);
    CHECK_EQ(after.sched.parks, parked.sched.parks);
    weir_release(ch);
}
static void *foreign_receives(void *arg) {
    receives();
    return arg;
}
TEST(a_foreign_thread_parks_too_but_is_no_goroutine) {
    pthread_t thread;
    ch = weir_make(int_chan, 0);
    struct wr_metrics before = metrics();
    CHECK_EQ(pthread_create(&thread, NULL, foreign_receives, NULL), 0);
    TEST_UNTIL(parks_so_far() > before.sched.parks);
    struct wr_metrics m = metrics();
    CHECK_EQ(m.sched.foreign, 1);
    CHECK_EQ(living(&m), 1);
    CHECK_EQ(m.sched.parks - before.sched.parks, 1);
    CHECK_EQ(m.sched.started, before.sched.started);
    CHECK_EQ(weir_send(ch, 1), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(metrics().sched.foreign, 0);
    weir_release(ch);
}

TEST(goroutines_are_counted_by_what_they_wait_for) {
    ch = weir_make(int_chan, 0);
    weir_wg_add(&wg, 1);
    for (int i = 0; i < 5; i++) TEST_GO(receives);
    for (int i = 0; i < 4; i++) TEST_GO(selects);
    for (int i = 0; i < 3; i++) TEST_GO(sleeps);
    for (int i = 0; i < 2; i++) TEST_GO(waits_for_group);
    test_until_n_parked(14, NULL);
    struct wr_metrics m = metrics();
    CHECK_EQ(m.sched.waiting[WR_WAIT_CHAN_RECV], 5);
    CHECK_EQ(m.sched.waiting[WR_WAIT_SELECT], 4);
    CHECK_EQ(m.sched.waiting[WR_WAIT_SLEEP], 3);
    CHECK_EQ(m.sched.waiting[WR_WAIT_WG], 2);
    CHECK_EQ(m.sched.running, 1);
    CHECK_EQ(living(&m), 15);
    CHECK_EQ(m.sched.timers, 3);
}

static int from_pipe[2];
static void reads_from_pipe(void) {
    char c;
    CHECK_EQ(weir_read(from_pipe[0], &c, 1), 1);
}
TEST(waits_for_descriptors_are_counted) {
    CHECK_EQ(pipe(from_pipe), 0);
    CHECK_EQ(metrics().sched.descriptors, 0);
    TEST_GO(reads_from_pipe);
    test_until_n_parked(1, "IO wait");
    CHECK_EQ(metrics().sched.descriptors, 1);
    CHECK_EQ(write(from_pipe[1], "x", 1), 1);
    until_alone();
    CHECK_EQ(metrics().sched.descriptors, 0);
}

static _Atomic int inside, go_on;
static int blocks(void *arg) {
    (void)arg;
    inside++;
    while (!go_on) usleep(1000);
    return 0;
}
static void calls_out(void) { CHECK_EQ(weir_blocking(blocks, NULL), 0); }
TEST(a_blocking_call_hands_its_processor_off) {
    struct wr_metrics before = metrics();
    TEST_GO(calls_out);
    TEST_UNTIL(inside);
    struct wr_metrics m = metrics();
    CHECK_EQ(m.sched.blocking, 1);
    CHECK_GE(m.sched.handoffs, before.sched.handoffs + 1);
    go_on = 1;
    until_alone();
}

static _Atomic long begun;
static void begins(void) { begun++; }
TEST(who_is_ready_and_does_not_run_lies_in_a_queue) {
    weir_procs(1);
    for (int i = 0; i < 1000; i++) TEST_GO(begins);
    struct wr_metrics m = metrics();
    long at_least = 1000 - begun - 1; /* another thread may have got the processor meanwhile: one may be between queue and begin */
    CHECK_GE(m.sched.queued_local + m.sched.queued_global, at_least);
    CHECK_GE(m.sched.runnable, at_least);
    until_alone();
    m = metrics();
    CHECK_EQ(m.sched.queued_local + m.sched.queued_global, 0);
}
TEST(another_processor_steals) {
    weir_procs(2);
    uint64_t before = metrics().sched.steals;
    while (metrics().sched.steals == before) {
        long wanted = begun + 50;
        for (int i = 0; i < 50; i++) TEST_GO(begins);
        while (begun < wanted) {
        }
    }
}
TEST(processors_and_threads_are_counted) {
    weir_procs(3);
    struct wr_metrics m = metrics();
    CHECK_EQ(m.sched.procs, 3);
    CHECK_LE(m.sched.idle_procs, 2);
    CHECK_GE(m.sched.threads, 1);
    CHECK_LE(m.sched.idle_threads, m.sched.threads - 1);
    CHECK_GE(m.sched.threads_started, m.sched.threads);
}
TEST(waking_a_thread_is_counted) {
    weir_procs(2);
    uint64_t before = metrics().sched.wakes;
    while (metrics().sched.wakes == before) CHECK_EQ(weir_sleep(WEIR_MILLISECOND), 0), TEST_GO(begins);
    until_alone();
}

static void receives_with_stack(void) { receives(); }
TEST(stacks_in_use_are_counted_by_their_size) {
    ch = weir_make(int_chan, 0);
    struct wr_metrics before = metrics();
    for (int i = 0; i < 10; i++) CHECK_EQ(weir_go_stack(1 << 20, receives_with_stack), 0);
    test_until_n_parked(10, "chan receive");
    struct wr_metrics m = metrics();
    CHECK_EQ(m.sched.stack_in_use - before.sched.stack_in_use, 10 << 20);
    CHECK_GE(m.sched.stack_mapped, m.sched.stack_in_use);
}

/* Two are made ready in each round: who is started, and who is sent to. */
TEST(latencies_of_a_sample_are_counted_and_none_is_longer_than_the_test) {
    int_chan a = weir_make(int_chan, 0);
    weir_time start = weir_now();
    ch = a;
    long n = 100 * WR_LATENCY_EVERY;
    for (long i = 0; i < n; i++) {
        TEST_GO(receives);
        CHECK_EQ(weir_send(a, 1), 0);
    }
    until_alone();
    weir_duration all = weir_now() - start;
    struct wr_metrics m = metrics();
    uint64_t timed = 0;
    for (int i = 0; i < WR_LATENCY_BUCKETS; i++) {
        timed += m.sched.latency[i];
        if (i > 0 && (uint64_t)WR_LATENCY_LEAST << (i - 1) > (uint64_t)all) CHECK_EQ(m.sched.latency[i], 0);
    }
    CHECK_GE(timed, 100 / 2);
    CHECK_LE(timed, 2 * 100 * 2);
    CHECK_GE(m.sched.latency_ns, 1);
    weir_release(a);
}
static uint64_t late_ones(void) {
    uint64_t late = 0;
    struct wr_metrics m = metrics();
    for (int i = 1; i < WR_LATENCY_BUCKETS; i++)
        if ((uint64_t)WR_LATENCY_LEAST << (i - 1) >= WEIR_MILLISECOND) late += m.sched.latency[i];
    return late;
}
/* Again where the kernel has set this thread aside, and another one has taken its processor over. */
TEST(a_goroutine_that_waits_for_its_turn_has_a_long_latency) {
    weir_procs(1);
    do {
        for (int i = 0; i < 4 * WR_LATENCY_EVERY; i++) TEST_GO(begins);
        weir_time until = weir_now() + 5 * WEIR_MILLISECOND;
        while (weir_now() < until) {
        }
        until_alone();
    } while (late_ones() == 0);
}

/* ---- Where they were started --------------------------------------------------------------------------------- */

static void start_here(int n) {
    for (int i = 0; i < n; i++) TEST_GO(receives);
}
static void start_there(int n) {
    for (int i = 0; i < n; i++) TEST_GO(receives);
}
static const struct wr_metric_site *site_in(const struct wr_metrics *m, const char *creator) {
    for (size_t i = 0; i < m->n_sites; i++)
        if (m->sites[i].site && !strcmp(m->sites[i].site->creator, creator)) return &m->sites[i];
    FAIL("no goroutine was started in %s", creator);
}
TEST(goroutines_are_counted_by_where_they_were_started_the_most_first) {
    ch = weir_make(int_chan, 0);
    start_here(20);
    start_there(30);
    struct wr_metrics m = metrics();
    CHECK_EQ(m.n_sites, 3);
    CHECK_EQ(site_in(&m, "start_here")->count, 20);
    CHECK(site_in(&m, "start_there") == &m.sites[0]);
    CHECK_EQ(m.sites[0].count, 30);
    CHECK(m.sites[2].site == NULL); /* the main goroutine */
    CHECK_EQ(m.sites[2].count, 1);
    CHECK_EQ(m.other_sites, 0);
}
TEST(places_beyond_the_list_are_counted_together) {
    static weir_site_ sites[3000];
    ch = weir_make(int_chan, 0);
    struct wr_args args;
    memset(&args, 0, sizeof args);
    for (int i = 0; i < 3000; i++) {
        sites[i] = (weir_site_){ .file = "generated", .line = i, .creator = "generated" };
        struct wr_spawn s = { .fn = receives, .site = &sites[i], .args = &args, .stack = 16 << 10 };
        CHECK_EQ(wr_spawn(&s), 0);
        if (i == 7) CHECK_EQ(wr_spawn(&s), 0);
    }
    struct wr_metrics m = metrics();
    CHECK_EQ(m.n_sites, WR_METRIC_SITES);
    uint64_t listed = 0;
    for (size_t i = 0; i < m.n_sites; i++) listed += m.sites[i].count;
    CHECK_EQ(listed + m.other_sites, 3002);
    CHECK(m.sites[0].site == &sites[7] && m.sites[0].count == 2);
}

/* ---- Proofs ------------------------------------------------------------------------------------------------------ */

static NOT_INLINED void leak_one(void) {
    ch = weir_make(int_chan, 0);
    TEST_GO(receives);
    test_until_n_parked(1, "chan receive");
}
TEST(no_proof_so_far_is_told_from_none_leaked) {
    CHECK_EQ(metrics().proofs.n, 0);
    CHECK_EQ(metrics().proofs.inconclusive, 0);
}
TEST(the_last_proof_is_told_of) {
#ifdef TEST_TSAN
    SKIP("no proofs under ThreadSanitizer");
#endif
    weir_time start = weir_now();
    leak_one();
    CHECK_EQ(weir_leaks(NULL), 0); /* a variable has the channel yet */
    struct wr_metrics m = metrics();
    CHECK_EQ(m.proofs.n, 1);
    CHECK_EQ(m.proofs.leaked, 0);
    ch.chan_ = NULL;
    int leaked = weir_leaks(NULL);
    CHECK_GE(leaked, 0);
    m = metrics();
    CHECK_EQ(m.proofs.n, 2);
    CHECK_EQ(m.proofs.leaked, leaked);
    CHECK(m.proofs.at >= start && m.proofs.at <= weir_now());
    CHECK(m.proofs.paused > 0 && m.proofs.took >= m.proofs.paused && m.proofs.took <= weir_now() - start);
}
static _Atomic int calls;
static void too_many(size_t n, void *arg) { atomic_fetch_add(&calls, 1); }
TEST(a_watched_count_is_told_of) {
    CHECK(!metrics().watched.now);
    weir_watch_count(1000, WEIR_MILLISECOND, too_many, NULL);
    CHECK(metrics().watched.now);
    CHECK_EQ(metrics().watched.threshold, 1000);
    CHECK_EQ(metrics().watched.exceeded, 0);
    weir_watch_count(0, WEIR_MILLISECOND, too_many, NULL);
    TEST_UNTIL(atomic_load(&calls) >= 3);
    weir_watch_count(0, 0, NULL, NULL);
    CHECK(!metrics().watched.now);
    CHECK_EQ(metrics().watched.exceeded, atomic_load(&calls));
}
static void does_not_answer(int signo) { (void)signo; }
PLAIN_TEST(a_proof_without_a_runtime_is_none) {
    CHECK_EQ(weir_leaks(NULL), 0);
    CHECK_EQ(metrics().proofs.n, 0);
}
static int proves(void *arg) {
    CHECK_EQ(weir_leaks(NULL), -EBUSY);
    return *(int *)arg;
}
PLAIN_TEST(an_inconclusive_proof_is_counted_as_that) {
    int result = 0;
    signal(SIGURG, does_not_answer);
    CHECK_EQ(weir_run(proves, &result), 0);
    CHECK_EQ(metrics().proofs.n, 0);
    CHECK_EQ(metrics().proofs.inconclusive, 1);
}

/* ---- Runs of the runtime ------------------------------------------------------------------------------------------- */

static int leaves_goroutines(void *arg) {
    (void)arg;
    ch = weir_make(int_chan, 0);
    start_here(100);
    test_until_n_parked(100, "chan receive");
    return 0;
}
PLAIN_TEST(totals_go_on_over_several_runs_and_nothing_lives_in_between) {
    for (uint64_t run = 1; run <= 3; run++) {
        CHECK_EQ(weir_run(leaves_goroutines, NULL), 0);
        struct wr_metrics m = metrics();
        CHECK_EQ(m.sched.started, run * 101);
        CHECK_EQ(m.sched.ended, run * 101);
        CHECK_GE(m.sched.parks, run * 100);
        CHECK_EQ(living(&m), 0);
        CHECK_EQ(m.n_sites, 0);
        CHECK_EQ(m.sched.procs, 0);
        CHECK_EQ(m.sched.threads, 0);
    }
    test_ignore_leaks();
}

static _Atomic bool enough;
static void *asks(void *arg) {
    uint64_t started = 0, ended = 0, parks = 0;
    while (!enough) {
        struct wr_metrics m = metrics();
        CHECK(m.sched.started >= started && m.sched.ended >= ended && m.sched.parks >= parks);
        CHECK_GE(m.sched.started, m.sched.ended);
        started = m.sched.started, ended = m.sched.ended, parks = m.sched.parks;
    }
    return arg;
}
static int works(void *arg) {
    ch = weir_make(int_chan, 10);
    for (long i = 0; i < *(long *)arg; i++) {
        TEST_GO(receives);
        CHECK_EQ(weir_send(ch, 1), 0);
    }
    until_alone();
    weir_release(ch);
    return 0;
}
PLAIN_TEST(a_thread_may_ask_all_the_time_while_runtimes_come_and_go) {
    long n = TEST_SCALE(500);
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, asks, NULL), 0);
    for (int run = 0; run < 20; run++) CHECK_EQ(weir_run(works, &n), 0);
    enough = true;
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(metrics().sched.started, 20 * (n + 1));
}
