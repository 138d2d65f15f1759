/* The run queues, looked at from inside: ring, runnext, global queue, stealing. Without the runtime. */
#include "sched/inner.h"
#undef errno
#define errno (*weir_errno_())
#include "sched_test.h"

static struct g *some_g(int n) {
    struct g *all = calloc((size_t)n, sizeof *all);
    CHECK(all);
    for (int i = 0; i < n; i++) all[i].id = (uint64_t)i;
    return all;
}
static struct p *a_p(int id) {
    struct p *p = wr_p_make(id);
    CHECK(p);
    return p;
}
static void push(struct p *p, struct g *all, int from, int to) {
    for (int i = from; i < to; i++) wr_ring_push(p, &all[i]);
}
static int pop(struct p *p) {
    struct g *g = wr_ring_pop(p);
    return g ? (int)g->id : -1;
}

PLAIN_TEST(the_ring_gives_first_what_came_first) {
    struct p *p = a_p(0);
    struct g *all = some_g(WR_RING);
    for (int round = 0; round < 5; round++) { /* beyond its end, too */
        CHECK(wr_queue_empty(p));
        push(p, all, 0, 100);
        CHECK(!wr_queue_empty(p));
        for (int i = 0; i < 100; i++) CHECK_EQ(pop(p), i);
        CHECK_EQ(pop(p), -1);
    }
    push(p, all, 0, WR_RING);
    for (int i = 0; i < WR_RING; i++) CHECK_EQ(pop(p), i);
    free(all), free(p);
}

PLAIN_TEST(a_full_ring_gives_its_older_half_to_all) {
    struct p *p = a_p(0);
    struct g *all = some_g(WR_RING + 1), *g;
    atomic_store(&wr_sched.procs, 1);
    push(p, all, 0, WR_RING + 1);
    CHECK_EQ(atomic_load(&wr_sched.global_n), WR_RING / 2 + 1);
    for (int i = WR_RING / 2; i < WR_RING; i++) CHECK_EQ(pop(p), i);
    CHECK_EQ(pop(p), -1);
    for (int i = 0; i < WR_RING / 2; i++) {
        CHECK((g = wr_global_pop(NULL)) != NULL);
        CHECK_EQ(g->id, i);
    }
    CHECK((g = wr_global_pop(NULL)) != NULL); /* the one that found no room comes last */
    CHECK_EQ(g->id, WR_RING);
    CHECK(wr_global_pop(NULL) == NULL);
    CHECK_EQ(atomic_load(&wr_sched.global_n), 0);
    free(all), free(p);
}

PLAIN_TEST(what_becomes_ready_displaces_what_did_before) {
    struct p *p = a_p(0);
    struct g *all = some_g(3);
    for (int i = 0; i < 3; i++) wr_next_push(p, &all[i]);
    CHECK_EQ(atomic_load(&p->runnext)->id, 2);
    CHECK_EQ(pop(p), 0), CHECK_EQ(pop(p), 1), CHECK_EQ(pop(p), -1);
    CHECK(!wr_queue_empty(p));
    free(all), free(p);
}

PLAIN_TEST(a_share_of_the_global_queue_is_taken_at_once) {
    struct p *p = a_p(0);
    struct g *all = some_g(1000);
    atomic_store(&wr_sched.procs, 4);
    for (int i = 0; i < 99; i++) wr_global_push_one(&all[i]);
    struct g *g = wr_global_pop(p);
    CHECK(g != NULL);
    CHECK_EQ(g->id, 0);
    CHECK_EQ(atomic_load(&wr_sched.global_n), 98 - 98 / 4);
    for (int i = 1; i <= 98 / 4; i++) CHECK_EQ(pop(p), i);
    CHECK_EQ(pop(p), -1);
    while (wr_global_pop(NULL)) {
    }
    atomic_store(&wr_sched.procs, 1); /* and never more than half a ring */
    for (int i = 0; i < 1000; i++) wr_global_push_one(&all[i]);
    CHECK(wr_global_pop(p) != NULL);
    CHECK_EQ(atomic_load(&wr_sched.global_n), 1000 - 1 - WR_RING / 2);
    free(all), free(p);
}

static void push_batch(struct g *all, int from, int n) {
    struct wr_batch b = { 0 };
    for (int i = from; i < from + n; i++) wr_batch_add(&b, &all[i]);
    wr_global_push(&b);
}

PLAIN_TEST(the_global_queue_gives_first_what_came_first) {
    struct p *p = a_p(0);
    enum { N = 126 * 150 }; /* crates full to the last place, and more of them than are kept */
    struct g *all = some_g(N);
    atomic_store(&wr_sched.procs, 4);
    int pushed = 0, popped = 0;
    while (popped < N) {
        for (int n = 1 + pushed % 300; n > 0 && pushed < N; n--, pushed++)
            if (n % 2) wr_global_push_one(&all[pushed]);
            else push_batch(all, pushed, 1);
        for (int n = pushed == N ? N : pushed % 97; n > 0 && popped < pushed; n--) {
            CHECK_EQ(wr_global_pop(NULL)->id, popped);
            popped++;
        }
        if (popped == pushed) continue;
        uint32_t share = 1 + (uint32_t)(pushed - popped) / 4;
        if (share > 1 + WR_RING / 2) share = 1 + WR_RING / 2;
        CHECK_EQ(wr_global_pop(p)->id, popped);
        popped++;
        for (uint32_t i = 1; i < share; i++, popped++) CHECK_EQ(pop(p), popped);
        CHECK_EQ(pop(p), -1);
        CHECK_EQ(atomic_load(&wr_sched.global_n), pushed - popped);
    }
    CHECK_EQ(popped, N);
    CHECK(wr_global_pop(p) == NULL && wr_global_pop(NULL) == NULL);
    CHECK_EQ(atomic_load(&wr_sched.global_n), 0);
    push_batch(all, 0, N);
    for (int i = 0; i < N; i++) CHECK_EQ(wr_global_pop(NULL)->id, i);
    CHECK_EQ(wr_sched.n_spare_crates, 64);
    push_batch(all, 0, 1000);
    wr_global_forget();
    CHECK(wr_global_pop(p) == NULL);
    free(all), free(p);
}

/* malloc in front of the C library's: glibc only, without sanitizers. */
#if defined(__GLIBC__) && !defined(TEST_TSAN) && !defined(TEST_ASAN)
void *__libc_malloc(size_t);
static bool no_memory;
void *malloc(size_t n) { return no_memory ? NULL : __libc_malloc(n); }
#endif

PLAIN_TEST(the_global_queue_loses_none_without_memory) {
#if defined(__GLIBC__) && !defined(TEST_TSAN) && !defined(TEST_ASAN)
    struct p *p = a_p(0);
    struct g *all = some_g(1000);
    atomic_store(&wr_sched.procs, 4);
    push_batch(all, 0, 100);
    no_memory = true;
    push_batch(all, 100, 200); /* the rest of a crate, and no other */
    no_memory = false;
    push_batch(all, 300, 100);
    CHECK_EQ(wr_sched.global_rest.n, 400 - 126);
    for (int i = 0; i < 300; i++) CHECK_EQ(wr_global_pop(NULL)->id, i);
    CHECK_EQ(wr_global_pop(p)->id, 300);
    for (int i = 301; i < 326; i++) CHECK_EQ(pop(p), i);
    for (int i = 326; i < 400; i++) CHECK_EQ(wr_global_pop(NULL)->id, i);
    CHECK(wr_global_pop(p) == NULL);
    push_batch(all, 400, 300); /* and in crates again */
    CHECK_EQ(wr_sched.global_rest.n, 0);
    for (int i = 400; i < 700; i++) CHECK_EQ(wr_global_pop(NULL)->id, i);
    wr_sched.spare_crates = NULL, wr_sched.n_spare_crates = 0;
    for (int round = 0; round < 2; round++) {
        no_memory = true;
        push_batch(all, 0, 2);
        no_memory = false;
        CHECK_EQ(wr_sched.global_rest.n, 2);
        if (round == 0) CHECK_EQ(wr_global_pop(NULL)->id, 0), CHECK_EQ(wr_global_pop(NULL)->id, 1);
    }
    wr_global_forget();
    CHECK(wr_global_pop(p) == NULL);
    CHECK_EQ(atomic_load(&wr_sched.global_n), 0);
    free(all), free(p);
#else
    SKIP("malloc cannot be made to fail here");
#endif
}

PLAIN_TEST(who_has_something_takes_but_one_from_the_global_queue) {
    struct p *p = a_p(0);
    struct g *all = some_g(12);
    atomic_store(&wr_sched.procs, 1);
    push(p, all, 0, 2);
    push_batch(all, 2, 10);
    CHECK_EQ(wr_global_pop(p)->id, 2);
    CHECK_EQ(atomic_load(&wr_sched.global_n), 9);
    CHECK_EQ(pop(p), 0), CHECK_EQ(pop(p), 1), CHECK_EQ(pop(p), -1);
    free(all), free(p);
}

PLAIN_TEST(a_thief_takes_the_older_half_rounded_up) {
    struct p *victim = a_p(0), *thief = a_p(1);
    struct g *all = some_g(WR_RING);
    CHECK(wr_steal(thief, victim, true) == NULL);
    for (int n = 1; n <= WR_RING; n = n < 8 ? n + 1 : 2 * n) {
        int half = n - n / 2;
        push(victim, all, 0, n);
        struct g *g = wr_steal(thief, victim, false);
        CHECK(g != NULL);
        CHECK_EQ(g->id, 0);
        for (int i = 1; i < half; i++) CHECK_EQ(pop(thief), i);
        CHECK_EQ(pop(thief), -1);
        for (int i = half; i < n; i++) CHECK_EQ(pop(victim), i);
        CHECK_EQ(pop(victim), -1);
    }
    free(all), free(victim), free(thief);
}

PLAIN_TEST(a_thief_takes_runnext_only_as_a_last_resort) {
    struct p *victim = a_p(0), *thief = a_p(1);
    struct g *all = some_g(2);
    wr_next_push(victim, &all[0]);
    CHECK(wr_steal(thief, victim, false) == NULL);
    push(victim, all, 1, 2);
    CHECK(wr_steal(thief, victim, true) == &all[1]);
    CHECK(wr_steal(thief, victim, true) == &all[0]);
    CHECK(wr_queue_empty(victim));
    free(all), free(victim), free(thief);
}

/* ---- All at once -------------------------------------------------------------------------------------- */

static struct {
    struct p *victim, *thieves[3];
    struct g *all;
    _Atomic int *taken;
    int n;
    _Atomic int done;
} storm;

static void *steal_until_done(void *arg) {
    struct p *me = arg;
    bool last;
    do {
        last = storm.done;
        for (struct g *g; (g = wr_steal(me, storm.victim, true)); ) {
            do storm.taken[g->id]++;
            while ((g = wr_ring_pop(me)));
        }
    } while (!last);
    return NULL;
}

PLAIN_TEST(owner_and_thieves_take_each_one_once) {
    pthread_t threads[3];
    int n = storm.n = (int)TEST_SCALE(300000);
    atomic_store(&wr_sched.procs, 4);
    storm.victim = a_p(0);
    storm.all = some_g(n);
    storm.taken = calloc((size_t)n, sizeof *storm.taken);
    CHECK(storm.taken);
    for (int i = 0; i < 3; i++) threads[i] = thread_start(steal_until_done, storm.thieves[i] = a_p(i + 1));
    for (int i = 0; i < n;) {
        for (int burst = 1 + i % 7; burst > 0 && i < n; burst--, i++) {
            if (i % 3) wr_ring_push(storm.victim, &storm.all[i]);
            else wr_next_push(storm.victim, &storm.all[i]);
        }
        struct g *g = i % 2 ? atomic_exchange(&storm.victim->runnext, NULL) : wr_ring_pop(storm.victim);
        if (g) storm.taken[g->id]++;
    }
    storm.done = 1;
    for (int i = 0; i < 3; i++) pthread_join(threads[i], NULL);
    struct g *g;
    while ((g = wr_ring_pop(storm.victim))) storm.taken[g->id]++;
    if ((g = atomic_load(&storm.victim->runnext))) storm.taken[g->id]++;
    while ((g = wr_global_pop(NULL))) storm.taken[g->id]++;
    for (int i = 0; i < n; i++) CHECK_EQ(storm.taken[i], 1);
    free(storm.all), free((void *)storm.taken), free(storm.victim);
    for (int i = 0; i < 3; i++) free(storm.thieves[i]);
}
