/*
 * Proofs at moments that are over in no time: in the middle of the end of a context, at each instruction of a start, and of
 * crowds that many things wake.
 */
#include "proof_test.h"

#include <errno.h>
#undef errno
#define errno (*weir_errno_())
#include <signal.h>
#include <time.h>
#include <ucontext.h>

static void nap(void) {
    struct timespec t = { 0, 100000 };
    nanosleep(&t, NULL);
}

/* ---- A context with many below it, half ended ------------------------------------------------------------------- */

enum { CHILDREN = 3000 };
static _Atomic int waiting, begun, held_up, go_on;
static NOINLINE void wait_for_nobody(void) {
    int_chan ch = weir_make(int_chan, 0);
    waiting++;
    CHECK_EQ(weir_recv(ch, NULL), -ECANCELED);
    weir_release(ch);
}
static void child(void) {
    weir_scoped (s) wait_for_nobody();
}
static weir_ctx *top;
static void parent(void) {
    weir_ctx *ctx = top;
    top = NULL;
    weir_scope s;
    CHECK_EQ(weir_scope_open(&s, ctx), 0);
    weir_ctx_release(ctx);
    for (int i = 0; i < CHILDREN; i++) CHECK_EQ(weir_scope_go(&s, child), 0);
    (void)weir_scope_wait(&s);
    (void)weir_scope_close(&s);
}
static void hold_up(int signo) {
    held_up = 1;
    while (!go_on) nap();
}
static void *cancels(void *ctx) {
    begun = 1;
    weir_ctx_cancel(ctx);
    begun = 2;
    return NULL;
}
/* Most children are in no list then: the one who ends them has them in a chain. */
TEST(a_context_that_is_being_ended_reaches_all_below_it) {
    PROOF_WANTS_SIGNALS();
    struct sigaction action = { .sa_handler = hold_up };
    CHECK_EQ(sigaction(SIGUSR1, &action, NULL), 0);
    weir_ctx *mine = weir_ctx_with_cancel(NULL);
    top = weir_ctx_retain(mine);
    TEST_GO(parent);
    TEST_UNTIL(waiting == CHILDREN);
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, cancels, mine), 0);
    while (!begun) {
    }
    for (volatile int i = 0; i < 20000; i++) {
    }
    pthread_kill(thread, SIGUSR1);
    while (!held_up && begun != 2) nap();
    (void)nobody_leaks("while a context is being ended");
    go_on = 1;
    CHECK_EQ(pthread_join(thread, NULL), 0);
    weir_ctx_release(mine);
    TEST_UNTIL(weir_count() == 1);
}

/* ---- A start, one instruction at a time --------------------------------------------------------------------------- */

#if defined(__x86_64__) && !defined(TEST_ASAN) && !defined(TEST_TSAN)
static _Atomic int step, proven, over;
static void on_step(int signo, siginfo_t *info, void *context) {
    if (proven != step) return; /* the proof of the last one waits for a lock that we hold */
    step++;
    for (int i = 0; i < 600 && proven != step; i++) nap();
}
static uintptr_t hidden;
static _Atomic int served;
static void serve(uintptr_t veiled) {
    int v = 0;
    CHECK_EQ(weir_chan_recv((weir_chan *)~veiled, &v), 0);
    served = v;
}
static void send_to(weir_chan *ch) {
    CHECK_EQ(weir_chan_send(ch, &(int){ 7 }), 0);
    weir_chan_release(ch);
}
static NOINLINE void make(void) {
    weir_chan *ch = weir_chan_make(sizeof(int), 0);
    hidden = ~(uintptr_t)ch;
    TEST_GO(serve, ~(uintptr_t)ch);
}
static NOINLINE weir_chan *unhide(void) {
    uintptr_t word = hidden;
    hidden = 0;
    return (weir_chan *)~word;
}
static NOINLINE void start_in_steps(void) {
    weir_chan *ch = unhide();
    __asm__ volatile("pushfq\n\torl $0x100, (%%rsp)\n\tpopfq" ::: "memory", "cc");
    int e = weir_go(send_to, ch);
    __asm__ volatile("pushfq\n\tandl $~0x100, (%%rsp)\n\tpopfq" ::: "memory", "cc");
    CHECK_EQ(e, 0);
}
static void *starts(void *arg) {
    (void)weir_id();
    make();
    scrub();
    test_until_n_parked(1, "chan receive");
    start_in_steps();
    over = 1;
    return arg;
}
TEST(the_arguments_of_a_start_are_seen_at_each_instruction) {
    struct sigaction action = { .sa_sigaction = on_step, .sa_flags = SA_SIGINFO };
    CHECK_EQ(sigaction(SIGTRAP, &action, NULL), 0);
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, starts, NULL), 0);
    int proofs = 0;
    while (!over) {
        int now = step;
        if (now == proven) {
            nap();
            continue;
        }
        proofs += nobody_leaks("in the middle of a start");
        proven = now;
    }
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_GE(proofs, 20);
    TEST_UNTIL(served == 7);
}
#endif

/* ---- Many things that wake each of many ----------------------------------------------------------------------------- */

enum { ARMS = 16, CROWD = 3000 };
static weir_chan *channels[ARMS];
static void select_all(void) {
    static int v;
    weir_arm arms[ARMS];
    memset(arms, 0, sizeof arms);
    for (int i = 0; i < ARMS; i++) arms[i].kind_ = WEIR_ARM_RECV_, arms[i].chan_ = channels[i], arms[i].elem_ = &v;
    CHECK_GE(weir_selectv(arms, ARMS), 0);
}
static weir_chan **volatile box;
static NOINLINE void put_into_box(void) {
    weir_chan **b = malloc(sizeof channels);
    CHECK(b);
    memcpy(b, channels, sizeof channels);
    memset(channels, 0, sizeof channels);
    box = b;
}
TEST(a_crowd_that_selects_over_the_same_channels_is_seen_to_live) {
    PROOF_WANTS_SIGNALS();
    for (int i = 0; i < ARMS; i++) CHECK((channels[i] = weir_chan_make(sizeof(int), 0)));
    for (int i = 0; i < CROWD; i++) TEST_GO(select_all);
    test_until_n_parked(CROWD, "select");
    put_into_box();
    CHECK(nobody_leaks("while a crowd selects"));
    for (int i = 0; i < ARMS; i++) CHECK_EQ(weir_chan_close(box[i]), 0);
    TEST_UNTIL(weir_count() == 1);
    for (int i = 0; i < ARMS; i++) weir_chan_release(box[i]);
    free(box);
}
