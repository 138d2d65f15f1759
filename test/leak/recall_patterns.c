/*
 * The leaks that articles warn of, in the shape in which people write them: each of them is found, and nobody else is.
 * Where an article lets time decide who comes too late, here the one who gives up says so.
 */
#include "proof_test.h"

enum { CALLS = 10 };

static void finds(size_t n, void (*fn)(void)) {
    RECALL_WANTS_GLIBC();
    leak(n, fn);
    all_are_found();
}

/* ---- The forgotten sender: its reader has gone ------------------------------------------------------------ */

static _Atomic bool given_up;

static void search_and_send(int_chan ch) {
    TEST_UNTIL(given_up);
    STUCK("chan send", weir_send(ch, 42));
}
static NOINLINE void process(void) {
    WEIR_AUTO_CANCEL weir_ctx *ctx = weir_ctx_with_timeout(NULL, WEIR_MILLISECOND);
    int_chan ch = weir_make(int_chan, 0);
    int v;
    START(search_and_send, weir_retain(ch));
    CHECK_EQ(weir_select(weir_on_done(ctx), weir_on_recv(ch, &v)), 0);
    weir_release(ch);
}
static void process_all(void) {
    for (int i = 0; i < CALLS; i++) process();
    given_up = true;
}
TEST(a_forgotten_sender_is_found) { finds(CALLS, process_all); }

/* ---- A select with a timeout protects the reader only ------------------------------------------------------- */

static NOINLINE void get(void) {
    int_chan ch = weir_make(int_chan, 0);
    int v;
    START(search_and_send, weir_retain(ch));
    CHECK_EQ(weir_select(weir_on_recv(ch, &v), weir_on_after(WEIR_MILLISECOND)), 1);
    weir_release(ch);
}
static void get_all(void) {
    for (int i = 0; i < CALLS; i++) get();
    given_up = true;
}
TEST(a_producer_whose_reader_timed_out_is_found) { finds(CALLS, get_all); }

/* ---- A receive that nobody will answer ------------------------------------------------------------------------ */

static void receive_one(int_chan ch) { STUCK("chan receive", weir_recv(ch, NULL)); }
static NOINLINE void ask_nobody(void) {
    int_chan ch = weir_make(int_chan, 0);
    START(receive_one, ch);
}
static void ask_nobody_often(void) {
    for (int i = 0; i < CALLS; i++) ask_nobody();
}
TEST(an_unanswered_receive_is_found) { finds(CALLS, ask_nobody_often); }

/* ---- A completion that is never sent: an empty batch has no last item ------------------------------------------ */

static void validate_all(const int *items, size_t n, int_chan done) {
    for (size_t i = 0; i < n; i++) {
        if (items[i] >= 0 && i + 1 < n) continue;
        CHECK_EQ(weir_send(done, items[i]), 0);
        break;
    }
    weir_release(done);
}
static void process_batch(const int *items, size_t n) {
    int_chan done = weir_make(int_chan, 1);
    TEST_GO(validate_all, items, n, weir_retain(done));
    if (n > 0) CHECK_EQ(weir_recv(done, NULL), 0);
    else STUCK("chan receive", weir_recv(done, NULL));
    weir_release(done);
}
static void process_batches(void) {
    static const int items[] = { 1, 2, 3 };
    TEST_GO(process_batch, items, (size_t)3);
    for (int i = 0; i < CALLS; i++) START(process_batch, NULL, (size_t)0);
}
TEST(a_completion_that_is_never_sent_is_found) {
    RECALL_WANTS_GLIBC();
    leak(CALLS, process_batches);
    TEST_UNTIL(weir_count() == CALLS + 1);
    all_are_found();
}

/* ---- A worker that does not look at its context ---------------------------------------------------------------- */

static void work(weir_ctx *ctx, int_chan queue) {
    int done = 0;
    STUCK("chan receive", ({ while (weir_recv(queue, NULL) == 0) done++; done; }));
    weir_ctx_release(ctx);
}
static void start_workers(void) {
    WEIR_AUTO_CANCEL weir_ctx *ctx = weir_ctx_with_cancel(NULL);
    for (int i = 0; i < CALLS; i++) {
        int_chan queue = weir_make(int_chan, 3);
        for (int k = 0; k < 3; k++) CHECK_EQ(weir_try_send(queue, k), 0);
        START(work, weir_ctx_retain(ctx), weir_retain(queue));
        weir_release(queue);
    }
}
TEST(a_worker_that_ignores_its_context_is_found) { finds(CALLS, start_workers); }

/* ---- A collector that leaves at the first error: the results that come after it have no reader ------------------- */

static _Atomic bool first_one_is_in;
static void fetch(int i, int_chan results) {
    if (i == 0) {
        CHECK_EQ(weir_send(results, -EIO), 0);
        first_one_is_in = true;
        return;
    }
    TEST_UNTIL(first_one_is_in);
    STUCK("chan send", weir_send(results, i));
}
static void fetch_all(void) {
    int_chan results = weir_make(int_chan, 0);
    int v;
    for (int i = 0; i <= CALLS; i++) START(fetch, i, weir_retain(results));
    CHECK_EQ(weir_recv(results, &v), 0);
    CHECK_EQ(v, -EIO);
    weir_release(results);
}
TEST(senders_whose_collector_returned_early_are_found) { finds(CALLS, fetch_all); }

/* ---- The first of several results: all the others are still to be sent -------------------------------------------- */

static void ask_mirror(int i, int_chan results) {
    if (i == 0) {
        CHECK_EQ(weir_send(results, i), 0);
        given_up = true;
        return;
    }
    TEST_UNTIL(given_up);
    STUCK("chan send", weir_send(results, i));
}
static void first_of_all(void) {
    int_chan results = weir_make(int_chan, 0);
    for (int i = 0; i <= CALLS; i++) START(ask_mirror, i, weir_retain(results));
    CHECK_EQ(weir_recv(results, NULL), 0);
    weir_release(results);
}
TEST(the_losers_of_a_race_for_the_first_result_are_found) { finds(CALLS, first_of_all); }

/* ---- Listeners of one channel ---------------------------------------------------------------------------------------- */

static void scenario(void) {
    int_chan ch = weir_make(int_chan, 0);
    for (int i = 0; i < 100; i++) START(receive_one, weir_retain(ch));
    weir_release(ch);
}
TEST(a_hundred_receivers_of_one_forgotten_channel_are_found) { finds(100, scenario); }

/* ---- A range over a channel that its producer does not close ----------------------------------------------------------- */

static void print_all(int_chan ch) {
    int sum = 0, v;
    STUCK("chan receive", ({ while (weir_recv(ch, &v) == 0) sum += v; sum; }));
}
static void produce_and_forget_to_close(void) {
    int_chan ch = weir_make(int_chan, 0);
    for (int i = 0; i < 3; i++) START(print_all, weir_retain(ch));
    for (int i = 0; i < 10; i++) CHECK_EQ(weir_send(ch, i), 0);
    weir_release(ch);
}
TEST(a_range_that_does_not_end_is_found) { finds(3, produce_and_forget_to_close); }

/* ---- A method contract: who calls start must call stop ------------------------------------------------------------------ */

struct worker {
    char name[32];
    int_chan jobs, quit;
};
static void worker_loop(struct worker *w) {
    int n = 0;
    STUCK("select", ({ while (weir_select(weir_on_recv(w->jobs, NULL), weir_on_recv(w->quit, NULL)) == 0) n++; n; }));
}
static struct worker *worker_start(void) {
    struct worker *w = calloc(1, sizeof *w);
    CHECK(w);
    w->jobs = weir_make(int_chan, 4), w->quit = weir_make(int_chan, 0);
    START(worker_loop, w);
    return w;
}
static void start_without_stop(void) {
    for (int i = 0; i < CALLS; i++) {
        struct worker *w = worker_start();
        CHECK_EQ(weir_send(w->jobs, i), 0);
    }
}
TEST(start_without_stop_is_found) { finds(CALLS, start_without_stop); }

/* ---- Two sends, one receive ------------------------------------------------------------------------------------------------ */

static void send_error_then_result(int_chan ch) {
    CHECK_EQ(weir_send(ch, -EIO), 0);
    STUCK("chan send", weir_send(ch, 42)); /* a return is missing above */
}
static void receive_once(void) {
    int_chan ch = weir_make(int_chan, 0);
    START(send_error_then_result, weir_retain(ch));
    CHECK_EQ(weir_recv(ch, NULL), 0);
    weir_release(ch);
}
TEST(a_double_send_is_found) { finds(1, receive_once); }

/* ---- A return before the receive --------------------------------------------------------------------------------------------- */

static void compute_in_background(int_chan ch) { STUCK("chan send", weir_send(ch, 42)); }
static NOINLINE int early_return(bool invalid) {
    int_chan ch = weir_make(int_chan, 0);
    int v = -EINVAL;
    START(compute_in_background, ch);
    if (invalid) return v;
    CHECK_EQ(weir_recv(ch, &v), 0);
    return v;
}
static void return_early(void) { CHECK_EQ(early_return(true), -EINVAL); }
TEST(an_early_return_is_found) { finds(1, return_early); }

/* ---- As many senders as there are items, one receive ---------------------------------------------------------------------------- */

enum { N_CAST = 20 };
static void cast(int_chan ch, int i) {
    CHECK_EQ(weir_send(ch, i), 0);
    weir_release(ch);
}
static uintptr_t one_of_n; /* veiled */
static void cast_all(void) {
    int_chan ch = weir_make(int_chan, 0);
    one_of_n = veil(weir_chan_of(ch));
    for (int i = 0; i < N_CAST; i++) TEST_GO(cast, weir_retain(ch), i);
    weir_release(ch);
    test_until_n_parked(N_CAST, "chan send");
}
static void receive_the_first(void) { CHECK_EQ(weir_chan_recv(unveil(one_of_n), NULL), 0); }
TEST(all_but_one_of_n_senders_to_one_receiver_are_found) {
    RECALL_WANTS_GLIBC();
    tidily(cast_all);
    tidily(receive_the_first);
    TEST_UNTIL(weir_count() == N_CAST);
    CHECK_LEAKED(N_CAST - 1);
}

/* ---- Deadlocks in a part of the program ----------------------------------------------------------------------------------------- */

struct accounts {
    weir_mutex a, b;
    _Atomic int holding;
};
static void lock_both(struct accounts *all, weir_mutex *first, weir_mutex *second) {
    CHECK_EQ(weir_mutex_lock(first), 0);
    all->holding++;
    TEST_UNTIL(all->holding == 2);
    STUCK("sync.Mutex.Lock", weir_mutex_lock(second));
}
static void cross(void) {
    struct accounts *all = calloc(1, sizeof *all);
    CHECK(all);
    START(lock_both, all, &all->a, &all->b);
    START(lock_both, all, &all->b, &all->a);
}
TEST(locks_taken_in_opposite_orders_are_found) { finds(2, cross); }

/* One holds the lock and sends; the one that would receive wants the lock first. */
struct mixed {
    weir_mutex m;
    int_chan ch;
    _Atomic bool held;
};
static void send_under_lock(struct mixed *x) {
    CHECK_EQ(weir_mutex_lock(&x->m), 0);
    x->held = true;
    STUCK("chan send", weir_send(x->ch, 1));
}
static void receive_under_lock(struct mixed *x) {
    TEST_UNTIL(x->held);
    STUCK("sync.Mutex.Lock", weir_mutex_lock(&x->m));
    CHECK_EQ(weir_recv(x->ch, NULL), 0);
}
static void mix(void) {
    struct mixed *x = calloc(1, sizeof *x);
    CHECK(x);
    x->ch = weir_make(int_chan, 0);
    START(send_under_lock, x);
    START(receive_under_lock, x);
}
TEST(a_lock_and_a_channel_in_opposite_orders_are_found) { finds(2, mix); }

/* wg.wait in the goroutine that would have emptied the channel. */
static void send_then_done(weir_wg *wg, int_chan ch, int i) {
    STUCK("chan send", weir_send(ch, i));
    weir_wg_done(wg);
}
struct gather {
    weir_wg wg;
    int_chan ch;
};
static void wait_then_receive(struct gather *g) {
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(weir_wg_add(&g->wg, 1), 0);
        START(send_then_done, &g->wg, g->ch, i);
    }
    STUCK("sync.WaitGroup.Wait", weir_wg_wait(&g->wg));
    for (int i = 0; i < 3; i++) CHECK_EQ(weir_recv(g->ch, NULL), 0);
}
static void gather(void) {
    struct gather *g = calloc(1, sizeof *g);
    CHECK(g);
    g->ch = weir_make(int_chan, 0);
    START(wait_then_receive, g);
}
TEST(a_wait_before_the_receives_is_found) { finds(4, gather); }

/* A signal that came before the wait, and is lost. */
struct mailbox {
    weir_mutex m;
    weir_cond filled;
};
static void wait_for_mail(struct mailbox *b) {
    CHECK_EQ(weir_mutex_lock(&b->m), 0);
    STUCK("sync.Cond.Wait", weir_cond_wait(&b->filled, &b->m));
    CHECK_EQ(weir_mutex_unlock(&b->m), 0);
}
static void signal_too_early(void) {
    struct mailbox *b = calloc(1, sizeof *b);
    CHECK(b);
    weir_cond_signal(&b->filled);
    for (int i = 0; i < CALLS; i++) START(wait_for_mail, b);
}
TEST(a_lost_signal_is_found) { finds(CALLS, signal_too_early); }
