/*
 * Goroutines that know each other, and nobody else who knows them: chains, rings, trees and crowds. What they hold of each other
 * must not keep them alive; and as soon as one who can run holds one of them, all that this one could wake is alive.
 */
#include "proof_test.h"
#include "threads.h"

#include <sys/resource.h>

#include "leak/leak.h"
#undef errno
#define errno (*weir_errno_())

/* ---- A chain: each receives from its right and sends to its left ------------------------------------------- */

/* What goes into the last channel comes out of the first, one more at each link. The first and the last are returned veiled. */
static void link_of_chain(int_chan left, int_chan right) {
    int v = 0;
    if (weir_recv(right, &v) != 0) return;
    CHECK_EQ(weir_send(left, v + 1), 0);
}
struct chain {
    uintptr_t first, last;
    size_t length;
};
static struct chain chain;
static weir_chan *volatile held_end;
/* jemalloc notes in each thread's own memory, which is a root, with which address the GiB begins that it has last looked for something
 * in: so what lies there is held. */
static bool at_a_gib(const weir_chan *ch) {
    uintptr_t lo = (uintptr_t)ch;
    return (lo - 1) >> 30 != (lo + 1023) >> 30;
}
static NOINLINE void make_chain(void) {
    int_chan left = weir_make(int_chan, 0), right = left, aside[64];
    size_t n_aside = 0;
    chain.first = veil(weir_chan_of(left));
    for (size_t i = 0; i < chain.length; i++, left = right) {
        while (right = weir_make(int_chan, 0), at_a_gib(weir_chan_of(right))) {
            CHECK_LE(n_aside + 1, sizeof aside / sizeof *aside);
            aside[n_aside++] = right;
        }
        TEST_GO(link_of_chain, left, right);
    }
    chain.last = veil(weir_chan_of(right));
    while (n_aside > 0) weir_release(aside[--n_aside]);
}
static NOINLINE void lay_chain(size_t length) {
    chain.length = length;
    tidily(make_chain);
    test_until_n_parked(length, "chan receive");
    scrub();
}
static NOINLINE void whisper(void) {
    CHECK_EQ(weir_chan_send(unveil(chain.last), &(int){ 0 }), 0);
}
static NOINLINE void hear(void) {
    int v;
    CHECK_EQ(weir_chan_recv(unveil(chain.first), &v), 0);
    CHECK_EQ(v, chain.length);
}

TEST(a_chain_of_a_thousand_is_found) {
    RECALL_WANTS_GLIBC();
    lay_chain(1000);
    CHECK_LEAKED(1000);
}

TEST(who_holds_the_end_of_a_chain_keeps_all_of_it_alive) {
    lay_chain(1000);
    held_end = unveil(chain.last);
    CHECK(nobody_leaks("the end is in a static"));
    held_end = NULL;
    tidily(whisper);
    tidily(hear);
    TEST_UNTIL(weir_count() == 1);
    CHECK(nobody_leaks("all have ended"));
}

TEST(who_holds_the_start_of_a_chain_keeps_nobody_but_the_first_alive) {
    RECALL_WANTS_GLIBC();
    lay_chain(1000);
    held_end = unveil(chain.first);
    /* The first sends to it, after it has received; and that it will not. */
    CHECK_LEAKED(1000);
    held_end = NULL;
}

/* The fixed point by a work list: rounds over all of them would be quadratic here, both ways. */
enum { MANY = 100000 };
/* Of this process and the children that it has waited for. */
static weir_duration cpu_time(void) {
    weir_duration all = 0;
    for (int i = 0; i < 2; i++) {
        struct rusage r;
        CHECK_EQ(getrusage(i ? RUSAGE_CHILDREN : RUSAGE_SELF, &r), 0);
        all += (r.ru_utime.tv_sec + r.ru_stime.tv_sec) * WEIR_SECOND + (r.ru_utime.tv_usec + r.ru_stime.tv_usec) * WEIR_MICROSECOND;
    }
    return all;
}
static void judged_in_a_second(size_t leaked) {
    weir_duration best = WEIR_HOUR;
    for (int i = 0; i < 3 || (i < 12 && best > WEIR_SECOND * test_slowness()); i++) { /* the machine may be busy */
        struct wr_proof proof;
        weir_duration before = cpu_time();
        wr_prove(&proof, WR_NEVER);
        weir_duration took = cpu_time() - before;
        if (proof.error) FAIL("no proof: %s", proof.why);
        CHECK_EQ(proof.n_leaked, leaked);
        if (took < best) best = took;
        wr_proof_free(&proof);
    }
    CHECK_LE(best, WEIR_SECOND * test_slowness());
}
TEST(a_chain_of_a_hundred_thousand_is_found_in_a_second) {
    RECALL_WANTS_GLIBC();
    lay_chain(MANY);
    judged_in_a_second(MANY);
}
TEST(a_chain_of_a_hundred_thousand_is_seen_to_live_in_a_second) {
    RECALL_WANTS_GLIBC();
    lay_chain(MANY);
    held_end = unveil(chain.last);
    judged_in_a_second(0);
    held_end = NULL;
}

/* ---- Rings and crowds ------------------------------------------------------------------------------------------- */

enum { RING = 50 };
struct place {
    int_chan from_left;
    struct place *right;
};
static void sit(struct place *p) {
    int v = 0;
    STUCK("chan receive", weir_recv(p->from_left, &v));
    CHECK_EQ(weir_send(p->right->from_left, v), 0);
}
static void sit_down(void) {
    struct place *first = NULL, *p = NULL;
    for (int i = 0; i < RING; i++) {
        struct place *n = malloc(sizeof *n);
        CHECK(n);
        n->from_left = weir_make(int_chan, 0), n->right = p ? p : n;
        if (!first) first = n;
        p = n;
    }
    first->right = p;
    for (int i = 0; i < RING; i++, p = p->right) START(sit, p);
}
TEST(a_ring_whose_token_is_lost_is_found) {
    RECALL_WANTS_GLIBC();
    leak(RING, sit_down);
    all_are_found();
}

/* Each waits for its own channel and holds everybody's. */
struct crowd {
    int_chan of[20];
};
static void stand(struct crowd *c, int i) { STUCK("select", weir_select(weir_on_recv(c->of[i], NULL), weir_on_send(c->of[i], i))); }
static void gather(void) {
    struct crowd *c = malloc(sizeof *c);
    CHECK(c);
    for (int i = 0; i < 20; i++) c->of[i] = weir_make(int_chan, 0);
    for (int i = 0; i < 20; i++) START(stand, c, i);
}
TEST(a_crowd_that_holds_each_other_is_found) {
    RECALL_WANTS_GLIBC();
    leak(20, gather);
    all_are_found();
}

/* A tree of scopes: at the bottom somebody waits for nothing, so everybody above waits too. */
static int grow(int depth) {
    weir_scope s;
    CHECK_EQ(weir_scope_open(&s, NULL), 0);
    if (depth == 0) STUCK("chan receive", weir_recv(weir_make(int_chan, 0), NULL));
    for (int i = 0; i < 2; i++) SCOPE_START(&s, grow, depth - 1);
    STUCK("weir.Scope.Wait", weir_scope_wait(&s));
    return weir_scope_close(&s);
}
static void plant(void) { START(grow, 4); }
TEST(a_tree_of_scopes_whose_leaves_are_stuck_is_found) {
    RECALL_WANTS_GLIBC();
    leak(31, plant);
    all_are_found();
}

/* ---- Contexts -------------------------------------------------------------------------------------------------------- */

static void wait_under(weir_ctx *ctx) {
    weir_with(ctx) STUCK("chan receive", weir_recv(weir_make(int_chan, 0), NULL));
}
static void wait_below(weir_ctx *parent) {
    weir_ctx *ctx = weir_ctx_with_cancel(parent);
    weir_with(ctx) STUCK("select", weir_select(weir_on_done(NULL)));
}
static void forget_to_cancel(void) {
    weir_ctx *family = weir_ctx_with_cancel(NULL);
    for (int i = 0; i < 5; i++) START(wait_under, weir_ctx_retain(family));
    for (int i = 0; i < 5; i++) START(wait_below, weir_ctx_retain(family));
}
TEST(a_context_that_only_those_hold_who_wait_under_it_is_found) {
    RECALL_WANTS_GLIBC();
    leak(10, forget_to_cancel);
    all_are_found();
}

/* The background reaches nobody, and a value adds no end. */
static const char key;
static void wait_under_values(void) {
    weir_ctx *ctx = weir_ctx_with_value(weir_ctx_without_cancel(weir_ctx_background()), &key, (void *)(uintptr_t)&key);
    START(wait_under, ctx);
}
TEST(a_context_that_cannot_end_keeps_nobody_alive) {
    RECALL_WANTS_GLIBC();
    leak(1, wait_under_values);
    all_are_found();
}

/* A context has its parent, but whoever holds the child alone cannot cancel it. */
static weir_ctx *volatile held_child;
static void hold_only_a_child(void) {
    weir_ctx *parent = weir_ctx_with_cancel(NULL);
    held_child = weir_ctx_with_cancel(parent);
    START(wait_under, parent);
}
TEST(a_child_keeps_nobody_alive_who_waits_under_the_parent) {
    RECALL_WANTS_GLIBC();
    leak(1, hold_only_a_child);
    all_are_found();
    weir_ctx_cancel(held_child);
    all_are_found();
}

/* One with a deadline wakes by itself; once it has ended, or was cancelled, it does so no more. */
static void clean_up_for_ever(weir_ctx *ctx) {
    weir_with(ctx) {
        CHECK_EQ(weir_recv(weir_make(int_chan, 0), NULL), -ETIMEDOUT);
        weir_with(weir_ctx_background()) STUCK("chan receive", weir_recv(weir_make(int_chan, 0), NULL));
    }
}
static void run_into_deadline(void) { START(clean_up_for_ever, weir_ctx_with_timeout(NULL, WEIR_MILLISECOND)); }
TEST(a_deadline_that_has_passed_keeps_nobody_alive) {
    RECALL_WANTS_GLIBC();
    leak(1, run_into_deadline);
    all_are_found();
}

/* ---- Counts, and what lies about ---------------------------------------------------------------------------------------- */

/* Handles that nobody released, and none of them within reach. */
static void receive_owned(int_chan ch) { STUCK("chan receive", weir_recv(ch, NULL)); }
static void retain_often(void) {
    int_chan ch = weir_make(int_chan, 0);
    for (int i = 0; i < 100; i++) (void)weir_retain(ch);
    START(receive_owned, ch);
}
TEST(a_count_that_was_never_given_back_keeps_nobody_alive) {
    RECALL_WANTS_GLIBC();
    leak(1, retain_often);
    all_are_found();
}

/* A block that was freed, and still holds the pointer. */
static void free_the_holders(void) {
    int_chan ch = weir_make(int_chan, 0);
    static const size_t sizes[] = { 24, 64, 200, 1000, 5000, 60000 };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        weir_chan **block = malloc(sizes[i]);
        CHECK(block);
        for (size_t k = 0; k < sizes[i] / sizeof *block; k++) block[k] = weir_chan_of(ch);
        __asm__ volatile("" : : "r"(block) : "memory");
        free(block);
    }
    START(receive_owned, ch);
}
TEST(a_freed_block_keeps_nobody_alive) {
    RECALL_WANTS_GLIBC();
    leak(1, free_the_holders);
    all_are_found();
}

/* A block that nobody can reach: C's own leak, on top of weir's. */
static void lose_the_holder(void) {
    int_chan ch = weir_make(int_chan, 0);
    weir_chan **a = malloc(64), **b = malloc(64);
    CHECK(a && b);
    a[0] = b[0] = weir_chan_of(ch);
    a[1] = (weir_chan *)(void *)b, b[1] = (weir_chan *)(void *)a;
    __asm__ volatile("" : : "r"(a), "r"(b) : "memory");
    START(receive_owned, ch);
}
TEST(a_lost_block_keeps_nobody_alive) {
    RECALL_WANTS_GLIBC();
    leak(1, lose_the_holder);
    all_are_found();
}

/* Goroutines that have ended had the handle on their stacks. */
static void hold_and_end(int_chan ch, weir_wg *wg) {
    volatile weir_chan *frame[32];
    for (int i = 0; i < 32; i++) frame[i] = weir_chan_of(ch);
    weir_yield();
    CHECK(frame[31] != NULL);
    weir_wg_done(wg);
}
static void end_many(void) {
    int_chan ch = weir_make(int_chan, 0);
    weir_wg wg = WEIR_WG_INIT;
    for (int i = 0; i < 50; i++) {
        weir_wg_add(&wg, 1);
        TEST_GO(hold_and_end, ch, &wg);
    }
    CHECK_EQ(weir_wg_wait(&wg), 0);
    TEST_UNTIL(weir_count() == 1);
    START(receive_owned, ch);
}
TEST(the_stack_of_one_that_has_ended_keeps_nobody_alive) {
    RECALL_WANTS_GLIBC();
    leak(1, end_many);
    all_are_found();
}

/* Below the stack pointer of one that sleeps lie its dead frames; those that the sleep itself overwrites in part are spared. */
static NOINLINE void write_below(weir_chan *ch) {
    __attribute__((unused)) weir_chan *volatile frame[6144];
    for (int i = 0; i < 4096; i++) frame[i] = ch;
    for (int i = 4096; i < 6144; i++) frame[i] = NULL;
}
static _Atomic int sleepers;
static void sleep_above(int_chan ch) {
    write_below(weir_chan_of(ch));
    ch = (int_chan){ 0 };
    sleepers++;
    (void)!weir_sleep(WEIR_HOUR);
    CHECK(!weir_chan_of(ch));
}
static void leave_below(void) {
    int_chan ch = weir_make(int_chan, 0);
    TEST_GO(sleep_above, ch);
    TEST_UNTIL(sleepers == 1);
    test_until_n_parked(1, "sleep");
    START(receive_owned, ch);
}
TEST(a_dead_frame_below_a_sleeper_keeps_nobody_alive) {
    RECALL_WANTS_GLIBC();
    leak(1, leave_below);
    all_are_found();
}

/* Nor do the dead frames of the thread that asks, which weir does not know from elsewhere. */
static _Atomic uintptr_t veiled;
static void be_stuck_veiled(int_chan ch) {
    veiled = veil(weir_chan_of(ch));
    START(receive_owned, ch);
}
static void leave_with_a_thread(void) { be_stuck_veiled(weir_make(int_chan, 0)); }
static _Atomic bool main_waits; /* until then its registers may have the handle yet */
static int let_it_ask(void *thread) {
    main_waits = true;
    return pthread_join(*(pthread_t *)thread, NULL);
}
static void *ask_above(void *arg) {
    TEST_UNTIL(main_waits);
    write_below(unveil(veiled));
    scrub();
    all_are_found();
    return arg;
}
TEST(a_dead_frame_of_the_thread_that_asks_keeps_nobody_alive) {
    RECALL_WANTS_GLIBC();
    leak(1, leave_with_a_thread);
    pthread_t thread = thread_start(ask_above, NULL);
    CHECK_EQ(weir_blocking(let_it_ask, &thread), 0);
}

/* Buffers of channels that nobody can reach, and slots of a buffer from which the element was taken. */
typedef WEIR_CHAN(weir_chan *) handle_chan;
static handle_chan post;
static void leave_in_buffers(void) {
    int_chan ch = weir_make(int_chan, 0);
    handle_chan lost = weir_make(handle_chan, 1);
    weir_chan *got;
    CHECK_EQ(weir_try_send(lost, weir_chan_of(ch)), 0);
    post = weir_make(handle_chan, 4);
    for (int i = 0; i < 4; i++) CHECK_EQ(weir_try_send(post, weir_chan_of(ch)), 0);
    for (int i = 0; i < 4; i++) CHECK_EQ(weir_try_recv(post, &got), 0);
    START(receive_owned, ch);
}
TEST(a_buffer_that_is_lost_or_emptied_keeps_nobody_alive) {
    RECALL_WANTS_GLIBC();
    leak(1, leave_in_buffers);
    all_are_found();
}

/* A call that has been made, a timer that was stopped. */
static void ignore(void *arg) { CHECK(arg); }
static _Atomic int called;
static void count_call(void *arg) { called += arg != NULL; }
static weir_timer *kept[2];
static void leave_in_timers(void) {
    int_chan ch = weir_make(int_chan, 0);
    kept[0] = weir_after_func(0, count_call, weir_chan_of(ch));
    kept[1] = weir_after_func(WEIR_HOUR, ignore, weir_chan_of(ch));
    CHECK(kept[0] && kept[1] && weir_timer_stop(kept[1]));
    TEST_UNTIL(called == 1);
    TEST_UNTIL(weir_count() == 1);
    weir_timer_free(kept[0]), weir_timer_free(kept[1]);
    kept[0] = kept[1] = NULL;
    START(receive_owned, ch);
}
TEST(a_timer_that_is_done_keeps_nobody_alive) {
    RECALL_WANTS_GLIBC();
    leak(1, leave_in_timers);
    all_are_found();
}

/* ---- Those who live among them -------------------------------------------------------------------------------------------- */

static int_chan alive;
static void live_on(void) { CHECK_EQ(weir_recv(alive, NULL), 0); }
static void mingle(void) {
    for (int i = 0; i < 20; i++) {
        TEST_GO(live_on);
        START(receive_owned, weir_make(int_chan, 0));
    }
}
TEST(the_living_among_the_leaked_are_left_alone) {
    RECALL_WANTS_GLIBC();
    alive = weir_make(int_chan, 0);
    leak(20, mingle);
    test_until_n_parked(40, "chan receive");
    all_are_found();
    for (int i = 0; i < 20; i++) CHECK_EQ(weir_send(alive, i), 0);
    TEST_UNTIL(weir_count() == 21);
    all_are_found();
}
