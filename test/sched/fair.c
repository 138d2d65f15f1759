/* Who runs next: everybody gets a turn, on one processor and on many; processors run at the same time; work spreads. */
#include "sched/inner.h"
#undef errno
#define errno (*weir_errno_())
#include "sched_test.h"

static _Atomic int running, stop;

/* ---- Yield --------------------------------------------------------------------------------------------- */

static _Atomic long turns[64];
static void take_turns(int i) {
    while (!stop) {
        turns[i]++;
        weir_yield();
    }
    running--;
}
/* By turns of the caller, not by time: how long they take is the machine's affair. */
static void everybody_gets_turns(int procs, int n) {
    weir_procs(procs);
    running = n;
    for (int i = 0; i < n; i++) TEST_GO(take_turns, i);
    TEST_UNTIL(turns[n - 1] > 0);
    long rounds = TEST_SCALE(20), unfair = 0;
    for (int round = 0; round < rounds; round++) {
        long before[64];
        for (int i = 0; i < n; i++) before[i] = turns[i];
        for (int i = 0; i < 1000; i++) weir_yield();
        bool fair = true;
        for (int i = 0; i < n; i++) fair = fair && turns[i] > before[i];
        unfair += procs == 1 && !fair; /* the kernel kept the thread of one for so long that its processor was taken away */
    }
    stop = 1;
    TEST_UNTIL(running == 0);
    for (int i = 0; i < n; i++) CHECK_GE(turns[i], 1);
    CHECK_LE(unfair, rounds / 2);
}
TEST(who_yields_lets_all_others_run_on_one_processor) { everybody_gets_turns(1, 10); }
TEST(who_yields_lets_all_others_run_on_two_processors) { everybody_gets_turns(2, 10); }
TEST(who_yields_lets_all_others_run_when_there_are_more_than_a_ring_holds) {
    weir_procs(1);
    int n = 2 * WR_RING;
    running = n;
    for (int i = 0; i < n; i++) TEST_GO(take_turns, i % 64);
    for (int round = 0; round < 3; round++) {
        long before[64];
        for (int i = 0; i < 64; i++) before[i] = turns[i];
        for (int i = 0; i < TEST_SCALE(500); i++) weir_yield();
        for (int i = 0; i < 64; i++) CHECK_GE(turns[i] - before[i], 1);
    }
    stop = 1;
    TEST_UNTIL(running == 0);
}

static void run_once(void) { running--; }
TEST(a_few_yields_let_all_run_that_the_ring_had_no_room_for) {
    weir_procs(1);
    int yields = 1000;
    for (int i = 0; i < 5 && yields > 100; i++) { /* more, where the kernel keeps one of them from running */
        running = 20 * WR_RING;
        for (int j = 0; j < 20 * WR_RING; j++) TEST_GO(run_once);
        for (yields = 0; running; yields++) weir_yield();
    }
    CHECK_LE(yields, 100);
}

TEST(to_yield_alone_comes_back) {
    for (int procs = 1; procs <= 4; procs++) {
        weir_procs(procs);
        for (int i = 0; i < TEST_SCALE(100000); i++) weir_yield();
    }
    CHECK_EQ(weir_count(), 1);
}

static void note_order(int i, int *order) { order[running++] = i; }
TEST(what_was_started_first_runs_first) {
    enum { N = 100 };
    static int order[N];
    weir_procs(1);
    for (int i = 0; i < N; i++) TEST_GO(note_order, i, order);
    TEST_UNTIL(running == N);
    /* But for the one started last, which runs at once; and one that computes for long may be passed. */
    int ascending = 0;
    for (int i = 1; i < N; i++) ascending += order[i] > order[i - 1];
    CHECK_GE(ascending, N - 10);
}

/* ---- In parallel --------------------------------------------------------------------------------------- */

static _Atomic int there;
/* Never yields: it gets on only if all are on a thread of their own. */
static void meet(int n) {
    there++;
    while (there % n) {
    }
    running--;
}
TEST(as_many_run_at_once_as_there_are_processors) {
    for (int n = 2; n <= 8; n *= 2) {
        weir_procs(n + 1);
        for (int round = 0; round < TEST_SCALE(20); round++) {
            running = n;
            there = 0;
            for (int i = 0; i < n; i++) TEST_GO(meet, n);
            TEST_UNTIL(running == 0);
        }
    }
}

/* Two that wait for each other meet long before anybody would be taken from its processor. */
TEST(two_processors_run_two_without_taking_a_processor_from_anybody) {
    cpu_set_t cpus;
    CHECK_EQ(sched_getaffinity(0, sizeof cpus, &cpus), 0);
    if (CPU_COUNT(&cpus) < 2) SKIP("one CPU");
    weir_procs(3);
    weir_duration best = WEIR_HOUR;
    for (int round = 0; round < 100; round++) {
        running = 2;
        there = 0;
        weir_time start = weir_now();
        TEST_GO(meet, 2);
        TEST_GO(meet, 2);
        TEST_UNTIL(running == 0);
        weir_duration d = weir_now() - start;
        if (d < best) best = d;
    }
    CHECK_LE(best, 4 * WEIR_MILLISECOND * test_slowness());
}

/* ---- Pairs --------------------------------------------------------------------------------------------- */

static _Atomic long exchanges;
static void ping(int_chan to, int_chan from) {
    int v = 0;
    while (!stop && weir_send(to, v) == 0 && weir_recv(from, &v) == 0) exchanges++;
    weir_close(to), weir_close(from);
    running--;
}
static void pong(int_chan from, int_chan to) {
    int v;
    while (weir_recv(from, &v) == 0 && weir_send(to, v + 1) == 0) {
    }
    running--;
}

/* Each of the two is made ready by the other, and would run next for ever. */
TEST(a_pair_does_not_starve_a_third) {
    int_chan there_ch = weir_make(int_chan, 0), back = weir_make(int_chan, 0);
    weir_procs(1);
    running = 2;
    TEST_GO(ping, there_ch, back);
    TEST_GO(pong, there_ch, back);
    TEST_UNTIL(exchanges > 100);
    long before = exchanges;
    for (int i = 0; i < 2000; i++) weir_yield();
    CHECK_LE(exchanges - before, 2000 * 4 * WR_NEXT_CAP);
    stop = 1;
    TEST_UNTIL(running == 0);
    weir_release(there_ch), weir_release(back);
}

TEST(a_pair_does_not_starve_timers) {
    int_chan there_ch = weir_make(int_chan, 0), back = weir_make(int_chan, 0);
    weir_procs(1);
    running = 2;
    TEST_GO(ping, there_ch, back);
    TEST_GO(pong, there_ch, back);
    for (int i = 0; i < 50; i++) CHECK_EQ(weir_sleep(100 * WEIR_MICROSECOND), 0);
    CHECK_GE(exchanges, 1);
    stop = 1;
    TEST_UNTIL(running == 0);
    weir_release(there_ch), weir_release(back);
}

static _Atomic int asked, published, answered;
static void answer(void) { answered = asked; }
static void *ask_from_outside(void *arg) {
    for (int i = 1; i <= 20 && !stop; i++) {
        asked = i;
        TEST_GO(answer);
        published = i;
        while (answered != i && !stop) sched_yield();
    }
    stop = 1;
    return arg;
}
/* What a thread without a processor starts goes to the global queue, and those in the local one keep it filled. */
TEST(a_busy_local_queue_does_not_starve_the_global_one) {
    weir_procs(1);
    running = 5;
    for (int i = 0; i < 5; i++) TEST_GO(take_turns, i);
    pthread_t thread = thread_start(ask_from_outside, NULL);
    int last = 0;
    for (long yields = 0; !stop; yields++) {
        int now = published;
        if (now != last || answered == now) last = now, yields = 0;
        CHECK_LE(yields, 10000); /* 61 turns, unless the kernel has other plans */
        weir_yield();
    }
    CHECK_EQ(answered, 20);
    thread_end(thread);
    TEST_UNTIL(running == 0);
}

/* ---- Spreading ------------------------------------------------------------------------------------------ */

static _Atomic long ran_on[WR_MAX_PROCS];
static void short_work(void) {
    struct m *m = wr_m();
    struct p *p = atomic_load(&m->p);
    if (p) ran_on[p->id]++;
    compute(20 * WEIR_MICROSECOND);
    running--;
}
TEST(the_work_of_one_producer_spreads) {
    enum { N = 3000 };
    weir_procs(4);
    running = N;
    for (int i = 0; i < N; i++) TEST_GO(short_work);
    TEST_UNTIL(running == 0);
    int shared_by = 0;
    for (int i = 0; i < 4; i++) shared_by += ran_on[i] >= N / 100;
    CHECK_GE(shared_by, 2);
}

static void tree(int depth) {
    if (depth > 0) {
        running += 2;
        TEST_GO(tree, depth - 1);
        TEST_GO(tree, depth - 1);
    }
    running--;
}
TEST(a_tree_of_goroutines_runs_to_the_last_leaf) {
    for (int procs = 1; procs <= 8; procs *= 2) {
        weir_procs(procs);
        running = 1;
        TEST_GO(tree, test_slowness() > 1 ? 8 : 13);
        TEST_UNTIL(running == 0);
        TEST_UNTIL(weir_count() == 1);
    }
}

/* A worker that has just become idle must see what is published in that moment; a wake-up lost here hangs. */
static void wake_chain(int_chan in, int_chan out) {
    int v;
    while (weir_recv(in, &v) == 0)
        if (weir_send(out, v)) break;
    weir_close(out);
}
TEST(no_wake_up_is_lost_between_work_and_idleness) {
    enum { LINKS = 6 };
    int_chan links[LINKS + 1];
    weir_procs(4);
    for (int i = 0; i <= LINKS; i++) links[i] = weir_make(int_chan, 0);
    for (int i = 0; i < LINKS; i++) TEST_GO(wake_chain, links[i], links[i + 1]);
    for (int i = 0, v; i < TEST_SCALE(20000); i++) {
        CHECK_EQ(weir_send(links[0], i), 0);
        CHECK_EQ(weir_recv(links[LINKS], &v), 0);
        CHECK_EQ(v, i);
    }
    weir_close(links[0]);
    TEST_UNTIL(weir_count() == 1);
    for (int i = 0; i <= LINKS; i++) weir_release(links[i]);
}
