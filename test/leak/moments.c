/*
 * Proofs that come at awkward moments: while contexts are being ended, while a goroutine is being started, where
 * memory was something else a moment ago, in handlers of the program's own. A thread proves as fast as it can; nobody
 * here has leaked at any time.
 */
#include "held.h"

#include <malloc.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>

#include "sched/sched.h"
#undef errno
#define errno (*weir_errno_())

/* ---- Proving all the while ------------------------------------------------------------------- */

#ifdef TEST_ASAN
enum { PROOFS = 80 }; /* what was freed is kept, so each proof takes longer than the last */
#else
enum { PROOFS = 300 };
#endif
static _Atomic bool over;
static _Atomic long proofs, inconclusive;
static const char *doing;

static void *prove_on_and_on(void *arg) {
    long wanted = TEST_SCALE(PROOFS);
    while (proofs < wanted && inconclusive < 20 * wanted) {
        if (nobody_leaks(doing)) proofs++;
        else inconclusive++;
    }
    over = true;
    return arg;
}
static void repeat(void (*fn)(void), weir_unit_chan done) {
    while (!over) fn();
    weir_close(done);
    weir_release(done);
}
/* By a goroutine, as main is never reported. */
static NOINLINE void while_proving(const char *what, void (*fn)(void)) {
    PROOF_WANTS_SIGNALS();
    weir_unit_chan done = weir_make(weir_unit_chan, 0);
    size_t before = weir_count();
    doing = what;
    pthread_t prover = thread_start(prove_on_and_on, NULL);
    TEST_GO(repeat, fn, weir_retain(done));
    CHECK_EQ(weir_wait_closed(done), 0);
    weir_release(done);
    thread_end(prover);
    TEST_UNTIL(weir_count() == before);
    if (proofs < TEST_SCALE(PROOFS)) FAIL("%ld proofs, and %ld inconclusive", proofs, inconclusive);
}
static void now_and_then_yield(void) {
    static _Atomic unsigned turns;
    if (turns++ % 3 == 0) weir_yield();
}
static void receive_until_closed(int_chan ch, _Atomic int *left) {
    CHECK_EQ(weir_recv(ch, NULL), -EPIPE);
    weir_release(ch);
    --*left;
}

/* ---- Contexts that are being ended ----------------------------------------------------------- */

static void wait_under(weir_ctx *ctx, weir_wg *ended) {
    int_chan own = weir_make(int_chan, 0);
    weir_with(ctx) CHECK(weir_recv(own, NULL) < 0);
    weir_release(own), weir_ctx_release(ctx);
    weir_wg_done(ended);
}
static void wait_for_end(weir_ctx *ctx, weir_wg *ended) {
    CHECK_EQ(weir_wait_closed(weir_ctx_done(ctx)), 0);
    weir_ctx_release(ctx);
    weir_wg_done(ended);
}
static void wait_for_call(int_chan ch, weir_wg *ended) {
    CHECK_EQ(weir_recv(ch, NULL), -EPIPE);
    weir_release(ch);
    weir_wg_done(ended);
}
static void close_it(void *ch) {
    CHECK_EQ(weir_chan_close(ch), 0);
    weir_chan_release(ch);
}
/* Whoever ends ctx closes a channel, too, of which only its receiver knows else. */
static NOINLINE uintptr_t watch(weir_ctx *ctx, weir_wg *ended) {
    int_chan ch = weir_make(int_chan, 0);
    TEST_GO(wait_for_call, weir_retain(ch), ended);
    weir_timer *t = weir_ctx_after_func(ctx, close_it, weir_chan_of(ch));
    CHECK(t);
    return veil(t);
}
/* Three generations: one, its children, and a child of each; for each context somebody who waits for its end, in
 * one of three ways. Only the oldest is in anybody's hands, and that only if it is to be ended by hand: the others
 * are found by way of it. */
enum { CHILDREN = 40, FAMILY = 1 + 2 * CHILDREN };
static NOINLINE void make_and_end_family(weir_duration deadline, uintptr_t *oldest, uintptr_t *watches,
                                         weir_wg *ended) {
    weir_ctx *c[FAMILY];
    c[0] = deadline ? weir_ctx_with_timeout(NULL, deadline) : weir_ctx_with_cancel(NULL);
    for (int i = 1; i < FAMILY; i++) {
        weir_ctx *parent = i <= CHILDREN ? c[0] : c[i - CHILDREN];
        c[i] = i == CHILDREN / 2 ? weir_ctx_with_timeout(parent, WEIR_HOUR) : weir_ctx_with_cancel(parent);
    }
    for (int i = 0; i < FAMILY; i++) {
        watches[i] = veil(NULL);
        if (i % 3 == 0) TEST_GO(wait_under, weir_ctx_retain(c[i]), ended);
        else if (i % 3 == 1) TEST_GO(wait_for_end, weir_ctx_retain(c[i]), ended);
        else watches[i] = watch(c[i], ended);
    }
    for (int i = 1; i < FAMILY; i++) weir_ctx_release(c[i]);
    if (!deadline) {
        weir_ctx *in_hand = c[0];
        memset(c + 1, 0, sizeof c - sizeof *c);
        __asm__ volatile("" : : "r"(c) : "memory");
        now_and_then_yield();
        weir_ctx_cancel(in_hand);
    }
    *oldest = veil(c[0]);
    memset(c, 0, sizeof c);
    __asm__ volatile("" : : "r"(c) : "memory");
}
static NOINLINE void family(weir_duration deadline) {
    static weir_wg ended;
    uintptr_t oldest, watches[FAMILY];
    CHECK_EQ(weir_wg_add(&ended, FAMILY), 0);
    make_and_end_family(deadline, &oldest, watches, &ended);
    scrub();
    CHECK_EQ(weir_wg_wait(&ended), 0); /* threads without a goroutine fire the timers */
    for (int i = 0; i < FAMILY; i++) weir_timer_free(unveil(watches[i]));
    weir_ctx_release(unveil(oldest));
}
static void family_ended_by_hand(void) { family(0); }
static void family_ended_by_its_deadline(void) {
    static int turn;
    family((1 + turn++ % 10) * 100 * WEIR_MICROSECOND);
}
TEST(while_contexts_are_ended_by_hand) { while_proving("contexts are ended by hand", family_ended_by_hand); }
TEST(while_contexts_are_ended_by_deadlines) { while_proving("deadlines end contexts", family_ended_by_its_deadline); }

/* ---- Goroutines that are being started ------------------------------------------------------- */

static void close_first(int_chan ch) { close_it(weir_chan_of(ch)); }
static void close_last(long a, long b, long c, long d, long e, int_chan ch) {
    CHECK_EQ(a + b + c + d + e, 15);
    close_first(ch);
}
static void close_among_doubles(double x, int_chan ch, float y) {
    CHECK(x + (double)y == 3.0);
    close_first(ch);
}
struct pair {
    long number;
    int_chan ch;
};
static void close_in_pair(struct pair p) { close_first(p.ch); }
static int close_in_scope(int_chan ch) {
    close_first(ch);
    return 0;
}

/* Receivers are parked; then each handle leaves the place where it was and goes into a call of weir_go, and
 * nowhere else. */
static NOINLINE void start_closers(void) {
    enum { BATCH = 200 };
    static _Atomic int left;
    int_chan c[BATCH];
    left = BATCH;
    for (int i = 0; i < BATCH; i++) {
        c[i] = weir_make(int_chan, 0);
        TEST_GO(receive_until_closed, weir_retain(c[i]), &left);
    }
    TEST_UNTIL(test_parked("chan receive") > BATCH); /* and main */
    weir_scoped(s) {
        for (int i = 0; i < BATCH; i++) {
            int_chan ch = c[i];
            memset(&c[i], 0, sizeof c[i]);
            __asm__ volatile("" : : "r"(c) : "memory");
            switch (i % 5) {
            case 0: TEST_GO(close_first, ch); break;
            case 1: TEST_GO(close_last, 1, 2, 3, 4, 5, ch); break;
            case 2: TEST_GO(close_among_doubles, 1.0, ch, 2.0f); break;
            case 3: TEST_GO(close_in_pair, ((struct pair){ i, ch })); break;
            default: CHECK_EQ(weir_scope_go(&s, close_in_scope, ch), 0);
            }
        }
    }
    TEST_UNTIL(left == 0);
}
TEST(while_goroutines_are_started_with_the_only_handle) { while_proving("goroutines are started", start_closers); }

/* ---- Memory that was something else ---------------------------------------------------------- */

/*
 * Contexts and scopes are not searched word by word. Blocks that lie where they lay are: what is in them, and even
 * what is in their first word, is the program's business. After some, which malloc puts aside, the last to be made
 * are the first to go, contexts as well as blocks: so their memory becomes one piece with what was never used, and
 * comes back untouched.
 */
enum { BLOCKS = 64, ASIDE = 16 };
static int in_order(int k) { return k < ASIDE ? k : BLOCKS - 1 - (k - ASIDE); }
static NOINLINE void hold_in_blocks_after(void (*make_and_end)(size_t *size)) {
    static _Atomic int left;
    int_chan c[BLOCKS];
    size_t size[BLOCKS];
    char *b[BLOCKS];
    left = BLOCKS;
    for (int i = 0; i < BLOCKS; i++) {
        c[i] = weir_make(int_chan, 0);
        TEST_GO(receive_until_closed, weir_retain(c[i]), &left);
    }
    make_and_end(size);
    for (int i = 0; i < BLOCKS; i++) {
        CHECK((b[i] = malloc(size[i])));
        memset(b[i] + sizeof(void *), 0, size[i] - sizeof(void *));
    }
    for (int i = 0; i < BLOCKS; i++) memcpy(b[i] + size[i] - sizeof *c, &c[i], sizeof *c);
    memset(c, 0, sizeof c);
    __asm__ volatile("" : : "r"(c) : "memory");
    for (int i = 0; i < 20; i++) test_pause();
    for (int i = 0; i < BLOCKS; i++) memcpy(&c[i], b[i] + size[i] - sizeof *c, sizeof *c);
    for (int k = 0; k < BLOCKS; k++) free(b[in_order(k)]);
    for (int i = 0; i < BLOCKS; i++) close_it(weir_chan_of(c[i]));
    TEST_UNTIL(left == 0);
}
static NOINLINE void make_and_end_contexts(size_t *size) {
    weir_ctx *c[BLOCKS];
    for (int i = 0; i < BLOCKS; i++) {
        c[i] = i % 2 ? weir_ctx_with_cancel(weir_ctx_background())
                     : weir_ctx_with_timeout(weir_ctx_background(), WEIR_HOUR);
        size[i] = malloc_usable_size(c[i]);
    }
    for (int k = 0; k < BLOCKS; k++) weir_ctx_cancel(c[in_order(k)]), weir_ctx_release(c[in_order(k)]);
}
/* Each is two blocks, its own and that of its context. */
static NOINLINE void make_and_end_scopes(size_t *size) {
    weir_scope s[BLOCKS / 2];
    for (int i = 0; i < BLOCKS / 2; i++) {
        CHECK_EQ(weir_scope_open(&s[i], weir_ctx_background()), 0);
        size[2 * i] = malloc_usable_size(s[i].in_), size[2 * i + 1] = malloc_usable_size(weir_scope_ctx(&s[i]));
    }
    for (int k = 0; k < BLOCKS / 2; k++) CHECK_EQ(weir_scope_close(&s[in_order(2 * k) / 2]), 0);
}
static void hold_where_contexts_were(void) { hold_in_blocks_after(make_and_end_contexts); }
static void hold_where_scopes_were(void) { hold_in_blocks_after(make_and_end_scopes); }
/* (The sanitizers' allocators keep what was freed, for long: nothing lies where something else lay.) */
TEST(held_where_contexts_were) {
    RECALL_WANTS_GLIBC();
    while_proving("held where contexts were", hold_where_contexts_were);
}
TEST(held_where_scopes_were) {
    RECALL_WANTS_GLIBC();
    while_proving("held where scopes were", hold_where_scopes_were);
}

/* ---- Handlers of the program's --------------------------------------------------------------- */

static void *_Atomic places[2];
static _Atomic long moves;

/* Whoever is interrupted moves the only handle from one place to the other, and has it in a register meanwhile;
 * but for a worker that is between two goroutines, of which doc/leaks.md says that what its handlers have in hand
 * does not count. */
static void move_handle(int signo) {
    if (!wr_self_or_null()) return;
    for (int i = 0; i < 2; i++) {
        void *h = atomic_exchange(&places[i], NULL);
        if (!h) continue;
        for (int k = 0; k < 5000; k++) __asm__ volatile("" : "+r"(h));
        places[1 - i] = h;
        moves++;
        return;
    }
}
static NOINLINE void take_signals(int flags) {
    struct sigaction action = { .sa_handler = move_handle, .sa_flags = flags };
    CHECK_EQ(sigaction(SIGUSR1, &action, NULL), 0);
}

enum { TARGETS = 2 };
static _Atomic int targets[TARGETS]; /* threads */
static void *storm(void *arg) {
    for (int i = 0; !over; i = (i + 1) % TARGETS) {
        if (targets[i]) (void)syscall(SYS_tgkill, getpid(), targets[i], SIGUSR1);
        nanosleep(&(struct timespec){ .tv_nsec = 10000 }, NULL);
    }
    return arg;
}
static void become_target(int i) {
    weir_lock_thread(); /* or there would be another goroutine on it some time */
    targets[i] = (int)syscall(SYS_gettid);
}
static void compute(_Atomic int *left) {
    become_target(0);
    for (unsigned n = 0; !over; n++) __asm__ volatile("" : "+r"(n));
    --*left;
}
static void storm_on_a_goroutine_that_computes(void) {
    static _Atomic int left = 1;
    pthread_t thread = thread_start(storm, NULL);
    TEST_GO(compute, &left);
    TEST_UNTIL(left == 0);
    thread_end(thread);
}
static NOINLINE void scrub_far(void) {
    volatile char frame[100 << 10];
    for (size_t i = 0; i < sizeof frame; i++) frame[i] = 0;
}
static void *compute_in_thread(void *arg) {
    (void)weir_id(); /* from now on it is known to weir, and where its stack ends */
    targets[0] = (int)syscall(SYS_gettid);
    for (unsigned n = 0; !over; n++) __asm__ volatile("" : "+r"(n));
    /* Its stack may be kept for another thread, with what the handlers have left below. */
    sigset_t storms;
    sigemptyset(&storms), sigaddset(&storms, SIGUSR1);
    CHECK_EQ(pthread_sigmask(SIG_BLOCK, &storms, NULL), 0);
    scrub_far();
    return arg;
}
static void storm_on_a_thread(void) {
    pthread_t computes = thread_start(compute_in_thread, NULL), thread = thread_start(storm, NULL);
    thread_end(thread);
    thread_end(computes);
}
static void call(int i, int_chan out, int_chan in, _Atomic int *left) {
    become_target(i);
    for (int v = 0; weir_send(out, v) == 0 && weir_recv(in, &v) == 0;) {
        if (over) weir_close(out), weir_close(in);
        free(malloc(100));
    }
    weir_release(out), weir_release(in);
    --*left;
}
static void answer(int i, int_chan in, int_chan out, _Atomic int *left) {
    become_target(i);
    for (int v; weir_recv(in, &v) == 0 && weir_send(out, v) == 0;) free(malloc(200));
    weir_release(in), weir_release(out);
    --*left;
}
static void storm_on_goroutines_that_call(void) {
    static _Atomic int left = 2;
    int_chan to = weir_make(int_chan, 0), from = weir_make(int_chan, 0);
    pthread_t thread = thread_start(storm, NULL);
    TEST_GO(call, 0, weir_retain(to), weir_retain(from), &left);
    TEST_GO(answer, 1, to, from, &left);
    while (left > 0) CHECK_EQ(weir_sleep(100 * WEIR_MICROSECOND), 0);
    thread_end(thread);
}
static void put_handle(void) { places[0] = unveil(the_handle); }
static void wipe_places(void) {
    CHECK(places[0] || places[1]);
    places[0] = places[1] = NULL;
}
static NOINLINE void held_by_handlers(const char *what, void (*fn)(void), int flags) {
    PROOF_WANTS_SIGNALS();
    take_signals(flags);
    tidily(start_waiter);
    tidily(put_handle);
    while_proving(what, fn);
    CHECK_GE(moves, 1);
    tidily(wipe_places); /* (that it has leaked now cannot be asked for: the storm's thread has ended, and its stack is kept) */
    tidily(end_waiter);
}
TEST(held_by_a_handler_over_a_goroutine_that_computes) {
    held_by_handlers("a handler over a goroutine that computes", storm_on_a_goroutine_that_computes, SA_RESTART);
}
TEST(held_by_a_handler_on_the_signal_stack) {
    held_by_handlers("a handler on the signal stack", storm_on_a_goroutine_that_computes, SA_RESTART | SA_ONSTACK);
}
TEST(held_by_a_handler_over_a_thread_of_the_program) {
    held_by_handlers("a handler over a thread of the program", storm_on_a_thread, SA_RESTART);
}
TEST(held_by_a_handler_over_goroutines_that_call) {
    held_by_handlers("a handler over goroutines that call", storm_on_goroutines_that_call, SA_RESTART);
}
TEST(held_by_a_handler_on_the_signal_stack_over_goroutines_that_call) {
    held_by_handlers("a handler on the signal stack, over calls", storm_on_goroutines_that_call,
                     SA_RESTART | SA_ONSTACK);
}
