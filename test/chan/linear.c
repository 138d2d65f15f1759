/*
 * The cost of a channel's queues is linear in the number of those who wait, wherever in a queue they leave it. Each
 * test of a queue lets the same goroutines do the same work twice: crowded, all on one channel, and alone, each on a
 * channel of its own, where queues are short. That differs by half at most; eight times as much is let pass; a queue
 * that is searched costs more than twenty times as much. What is compared is processor time, which a loaded machine
 * does not stretch. Left out where sanitizers distort it.
 */
#include "test.h"

#include <time.h>

typedef WEIR_CHAN(int) int_chan;
enum { WAITERS = 8000 };

static double processor_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}
static void needs_a_clock(void) {
    if (test_slowness() > 1) SKIP("timing says nothing here");
    weir_procs(1);
}
/* The best of three says what the work costs. */
static double cost(double (*work)(int how), int how) {
    double best = 1e9;
    for (int i = 0; i < 3; i++) {
        double t = work(how);
        if (t < best) best = t;
    }
    return best;
}

/* ---- Queues ---------------------------------------------------------------------------------------- */

enum { ALONE, CROWDED };
struct place {
    int_chan a, b;
    weir_ctx *ctx;
};
static struct place place[WAITERS];

/* A waiter in each place; in a crowd the places are the same. The work is what `wake` does, until all have ended. */
static double wait_and_wake(int how, void (*waiter)(struct place *), const char *state, void (*wake)(int how)) {
    for (int i = 0; i < WAITERS; i++) {
        if (how == ALONE || i == 0)
            place[i] = (struct place){ weir_make(int_chan, 0), weir_make(int_chan, 0), weir_ctx_with_cancel(NULL) };
        else
            place[i] = (struct place){ weir_retain(place[0].a), weir_retain(place[0].b),
                                       weir_ctx_retain(place[0].ctx) };
    }
    for (int i = 0; i < WAITERS; i++) TEST_GO(waiter, &place[i]);
    test_until_n_parked(WAITERS, state);
    double start = processor_seconds();
    wake(how);
    TEST_UNTIL(weir_count() == 1);
    double t = processor_seconds() - start;
    for (int i = 0; i < WAITERS; i++) {
        weir_release(place[i].a), weir_release(place[i].b);
        weir_ctx_release(place[i].ctx);
    }
    return t;
}
static void crowd_is_cheap(double (*work)(int how)) {
    needs_a_clock();
    work(ALONE); /* stacks and memory are there then */
    double alone = cost(work, ALONE), crowded = cost(work, CROWDED);
    if (crowded > 8 * alone)
        FAIL("%d waiters cost %.6f s alone, %.6f s crowded: %.1f times as much", WAITERS, alone, crowded,
             crowded / alone);
}

static void receive(struct place *p) { CHECK_EQ(weir_recv(p->a, NULL), 0); }
static void send_all(int how) {
    (void)how;
    for (int i = 0; i < WAITERS; i++) CHECK_EQ(weir_send(place[i].a, i), 0);
}
static double receivers(int how) { return wait_and_wake(how, receive, "chan receive", send_all); }
TEST(waking_receivers_is_linear) { crowd_is_cheap(receivers); }

static void send(struct place *p) { CHECK_EQ(weir_send(p->a, 1), 0); }
static void receive_all(int how) {
    (void)how;
    for (int i = 0; i < WAITERS; i++) CHECK_EQ(weir_recv(place[i].a, NULL), 0);
}
static double senders(int how) { return wait_and_wake(how, send, "chan send", receive_all); }
TEST(waking_senders_is_linear) { crowd_is_cheap(senders); }

static void select_both(struct place *p) {
    CHECK_GE(weir_select(weir_on_recv(p->a, NULL), weir_on_recv(p->b, NULL)), 0);
}
static void send_either(int how) {
    (void)how;
    for (int i = 0; i < WAITERS; i++) CHECK_EQ(i % 2 ? weir_send(place[i].a, i) : weir_send(place[i].b, i), 0);
}
static double selects(int how) { return wait_and_wake(how, select_both, "select", send_either); }
TEST(waking_selects_that_wait_on_the_same_channels_is_linear) { crowd_is_cheap(selects); }

/* They leave the queue of `a` one after the other from its end: the worst place for a list that is searched. */
static int_chan own[WAITERS];
static void select_own(struct place *p) {
    CHECK_EQ(weir_select(weir_on_recv(p->a, NULL), weir_on_recv(own[p - place], NULL)), 1);
}
static void send_backwards(int how) {
    (void)how;
    for (int i = WAITERS - 1; i >= 0; i--) CHECK_EQ(weir_send(own[i], 1), 0);
}
static double leaving_backwards(int how) {
    for (int i = 0; i < WAITERS; i++) own[i] = weir_make(int_chan, 0);
    double t = wait_and_wake(how, select_own, "select", send_backwards);
    for (int i = 0; i < WAITERS; i++) weir_release(own[i]);
    return t;
}
TEST(leaving_a_queue_from_its_end_is_linear) { crowd_is_cheap(leaving_backwards); }

static void receive_until_cancelled(struct place *p) {
    weir_with(p->ctx) { CHECK_EQ(weir_recv(p->a, NULL), -ECANCELED); }
}
static void cancel_all(int how) {
    for (int i = how == CROWDED ? WAITERS - 1 : 0; i < WAITERS; i++) weir_ctx_cancel(place[i].ctx);
}
static double cancelling(int how) { return wait_and_wake(how, receive_until_cancelled, "chan receive", cancel_all); }
TEST(cancelling_waiters_is_linear) { crowd_is_cheap(cancelling); }

static void receive_until_closed(struct place *p) { CHECK_EQ(weir_recv(p->a, NULL), -EPIPE); }
static void close_all(int how) {
    for (int i = how == CROWDED ? WAITERS - 1 : 0; i < WAITERS; i++) weir_close(place[i].a);
}
static double closing(int how) { return wait_and_wake(how, receive_until_closed, "chan receive", close_all); }
TEST(closing_on_many_waiters_is_linear) { crowd_is_cheap(closing); }

/* ---- Wide selects: one over many arms, or many over eight; sorting may make the wide one a few times dearer ---- */

enum { ARMS = 2 * WAITERS };
static weir_arm arms[ARMS];

static double select_all(int how) {
    int at_once = how == CROWDED ? ARMS : 8;
    double start = processor_seconds();
    for (int i = 0; i < ARMS; i += at_once)
        weir_timeout(WEIR_NANOSECOND) { CHECK_EQ(weir_selectv(arms + i, (size_t)at_once), -ETIMEDOUT); }
    return processor_seconds() - start;
}
static void width_is_cheap(void) {
    double narrow = cost(select_all, ALONE), wide = cost(select_all, CROWDED);
    if (wide > 16 * narrow)
        FAIL("%d arms cost %.6f s by eights, %.6f s at once: %.1f times as much", ARMS, narrow, wide, wide / narrow);
}

TEST(a_wide_select_is_no_worse_than_sorting) {
    static int_chan c[ARMS];
    needs_a_clock();
    for (int i = 0; i < ARMS; i++) c[i] = weir_make(int_chan, 0);
    for (int i = 0; i < ARMS; i++) arms[i] = weir_on_recv(c[(unsigned)i * 7919u % ARMS], NULL); /* out of order */
    width_is_cheap();
    for (int i = 0; i < ARMS; i++) weir_release(c[i]);
}

TEST(a_wide_select_on_one_channel_is_no_worse_than_sorting) {
    int_chan ch = weir_make(int_chan, 0);
    needs_a_clock();
    for (int i = 0; i < ARMS; i++) arms[i] = weir_on_recv(ch, NULL);
    width_is_cheap();
    weir_release(ch);
}
