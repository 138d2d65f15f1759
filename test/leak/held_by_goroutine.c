/*
 * The only handle is with a goroutine that can still run: on its stack, in a register, in what it waits with, or in what weir keeps
 * for it; see held.h.
 */
#include "held.h"

#include "sched/sched.h"
#undef errno
#define errno (*weir_errno_())

static int bell[2];             /* a pipe: holders read from it, and leave when something comes */
static _Atomic bool settled, let_go, gone;
static int_chan reachable;      /* who waits on it can be woken, by anybody */

static void until_settled(void) { TEST_UNTIL(settled); }
static void ring(void) {
    let_go = true;
    CHECK_EQ(write(bell[1], "x", 1), 1);
    TEST_UNTIL(gone);
    TEST_UNTIL(weir_count() == 2);
}
static void hang_bell(void) { CHECK_EQ(pipe(bell), 0); }
static int read_bell(void *arg) {
    char c;
    settled = true;
    while (read(bell[0], &c, 1) != 1) {
    }
    return arg != NULL;
}
static void sleep_until_rung(void) {
    settled = true;
    while (!let_go) CHECK_EQ(weir_sleep(WEIR_MILLISECOND), 0);
}

/* ---- Stacks -------------------------------------------------------------------------------------------------- */

static void sleeper(void *h) {
    void *volatile frame[8] = { 0 };
    frame[5] = h;
    h = NULL;
    sleep_until_rung();
    frame[5] = NULL;
    gone = frame[5] == NULL;
}
static void fill_sleeper(void *h) { hang_bell(), TEST_GO(sleeper, h), until_settled(); }
TEST(held_by_one_that_sleeps) { held(fill_sleeper, ring); }

static NOINLINE int deep_sleeper(void *h, int depth) {
    volatile char frame[100];
    frame[depth] = 1;
    if (depth > 0) return deep_sleeper(h, depth - 1) + frame[depth];
    void *volatile here = h;
    sleep_until_rung();
    here = NULL;
    gone = true;
    return here == NULL;
}
static void fill_deep(void *h) { hang_bell(), TEST_GO(deep_sleeper, h, 90), until_settled(); }
TEST(held_deep_in_the_stack_of_one_that_sleeps) { held(fill_deep, ring); }

static void reader(void *h) {
    void *volatile frame = h;
    h = NULL;
    (void)read_bell(NULL); /* nobody told weir that this blocks */
    frame = NULL;
    gone = frame == NULL;
}
static void fill_reader(void *h) { hang_bell(), TEST_GO(reader, h), until_settled(); }
TEST(held_by_one_in_a_system_call) { held(fill_reader, ring); }

static void blocking_reader(void *h) {
    void *volatile frame = h;
    h = NULL;
    CHECK_EQ(weir_blocking(read_bell, NULL), 0);
    frame = NULL;
    gone = frame == NULL;
}
static void fill_blocking_reader(void *h) { hang_bell(), TEST_GO(blocking_reader, h), until_settled(); }
TEST(held_by_one_in_a_blocking_call) { held(fill_blocking_reader, ring); }

/* Registered with the poller: whoever writes wakes it, and it may then wake the waiter. */
static void polled_reader(void *h) {
    void *volatile frame = h;
    h = NULL;
    char c;
    settled = true;
    CHECK_EQ(weir_read(bell[0], &c, 1), 1);
    frame = NULL;
    gone = frame == NULL;
}
static void until_polled(void) {
    until_settled();
    test_until_n_parked(1, "IO wait");
}
static void fill_polled_reader(void *h) { hang_bell(), TEST_GO(polled_reader, h), until_polled(); }
TEST(held_by_one_that_reads_from_a_descriptor) { held(fill_polled_reader, ring); }

static void fd_waiter(void *h) {
    void *volatile frame = h;
    h = NULL;
    settled = true;
    CHECK_EQ(weir_wait_fd(bell[0], WEIR_IN), WEIR_IN);
    frame = NULL;
    gone = frame == NULL;
}
static void fill_fd_waiter(void *h) { hang_bell(), TEST_GO(fd_waiter, h), until_polled(); }
TEST(held_by_one_that_waits_for_a_descriptor) { held(fill_fd_waiter, ring); }

static int read_bell_holding(void *h) {
    void *volatile frame = h;
    (void)read_bell(NULL);
    frame = NULL;
    return frame == NULL;
}
static void blocking_with_argument(void *h) { gone = weir_blocking(read_bell_holding, h); }
static void fill_blocking_argument(void *h) { hang_bell(), TEST_GO(blocking_with_argument, h), until_settled(); }
TEST(held_as_the_argument_of_a_blocking_call) { held(fill_blocking_argument, ring); }

static pthread_mutex_t plain = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t plain_cond = PTHREAD_COND_INITIALIZER;
static int wait_for_plain_cond(void *h) {
    void *volatile frame = h;
    pthread_mutex_lock(&plain);
    settled = true;
    while (!let_go) pthread_cond_wait(&plain_cond, &plain);
    pthread_mutex_unlock(&plain);
    frame = NULL;
    return frame == NULL;
}
static void in_plain_cond(void *h) { gone = weir_blocking(wait_for_plain_cond, h); }
static void fill_plain_cond(void *h) { TEST_GO(in_plain_cond, h), until_settled(); }
static void signal_plain_cond(void) {
    pthread_mutex_lock(&plain);
    let_go = true;
    pthread_cond_signal(&plain_cond);
    pthread_mutex_unlock(&plain);
    TEST_UNTIL(gone && weir_count() == 2);
}
TEST(held_by_one_that_waits_for_a_thread) { held(fill_plain_cond, signal_plain_cond); }

static void computer(void *h) {
    void *volatile frame = h;
    h = NULL;
    settled = true;
    while (!let_go) {
    }
    frame = NULL;
    gone = frame == NULL;
}
static void fill_computer(void *h) { hang_bell(), TEST_GO(computer, h), until_settled(); }
TEST(held_by_one_that_computes) { held(fill_computer, ring); }

static void receiver(void *h) {
    void *volatile frame = h;
    h = NULL;
    settled = true;
    CHECK_EQ(weir_recv(reachable, NULL), -EPIPE);
    frame = NULL;
    gone = frame == NULL;
}
static void fill_receiver(void *h) {
    reachable = weir_make(int_chan, 0);
    TEST_GO(receiver, h);
    test_until_n_parked(2, "chan receive");
}
static void close_reachable(void) {
    CHECK_EQ(weir_close(reachable), 0);
    TEST_UNTIL(gone && weir_count() == 2);
}
TEST(held_by_one_that_can_be_woken) { held(fill_receiver, close_reachable); }

/* A waits on what only B holds, B on what only C holds, …; the last of them sleeps. The first has the handle. */
enum { CHAIN = 200 };
static void member(int_chan mine, void *h, weir_wg *wg) {
    void *volatile frame = h;
    h = NULL;
    weir_wg_done(wg);
    CHECK_EQ(weir_recv(mine, NULL), -EPIPE);
    frame = NULL;
    if (frame) FAIL("?");
    weir_release(mine);
}
static void last_member(void *h) {
    weir_chan *volatile frame = h;
    h = NULL;
    sleep_until_rung();
    CHECK_EQ(weir_chan_close(frame), 0);
    frame = NULL;
    gone = frame == NULL;
}
static void fill_chain(void *h) {
    weir_wg wg = WEIR_WG_INIT;
    hang_bell();
    weir_wg_add(&wg, 1);
    int_chan mine = weir_make(int_chan, 0);
    TEST_GO(member, mine, h, &wg);
    TEST_GO(last_member, weir_chan_of(mine));
    CHECK_EQ(weir_wg_wait(&wg), 0);
    until_settled();
}
TEST(held_by_one_that_another_will_wake) { held(fill_chain, ring); }

static void forwarder(int_chan mine, weir_chan *next, weir_wg *wg) {
    weir_chan *volatile frame = next;
    next = NULL;
    weir_wg_done(wg);
    CHECK_EQ(weir_recv(mine, NULL), -EPIPE);
    if (frame != unveil(the_handle)) CHECK_EQ(weir_chan_close(frame), 0);
    frame = NULL;
    weir_release(mine);
    if (frame) FAIL("?");
}
static void fill_long_chain(void *h) {
    weir_wg wg = WEIR_WG_INIT;
    weir_chan *next = h;
    hang_bell();
    for (int i = 0; i < CHAIN; i++) {
        int_chan mine = weir_make(int_chan, 0);
        weir_wg_add(&wg, 1);
        TEST_GO(forwarder, mine, next, &wg);
        next = weir_chan_of(mine);
    }
    TEST_GO(last_member, next);
    CHECK_EQ(weir_wg_wait(&wg), 0);
    until_settled();
}
TEST(held_at_the_end_of_a_chain_of_goroutines) { held(fill_long_chain, ring); }

/* ---- Registers: nowhere in memory while it computes, or while a system call is under way ------------------------ */

#if defined(__x86_64__)
/* Written as one, so that no other register has the handle, which would keep it for a while. */
#define IN_REGISTER(name, reg)                                                                      \
    static void name(uintptr_t veiled) {                                                            \
        settled = true;                                                                             \
        __asm__ volatile("notq %[v]\n\tmovq %[v], %%" reg "\n\txorl %k[v], %k[v]\n"                \
                         "1: movb %[go], %%al\n\ttestb %%al, %%al\n\tjz 1b\n\txorq %%" reg ", %%" reg \
                         : [v] "+r"(veiled) : [go] "m"(let_go) : "rax", reg, "memory");             \
        gone = true;                                                                                \
    }
IN_REGISTER(in_general_register, "rbx")
IN_REGISTER(in_caller_saved_register, "r9")
static void in_vector_register(uintptr_t veiled) {
    settled = true;
    __asm__ volatile("notq %[v]\n\tmovq %[v], %%xmm13\n\txorl %k[v], %k[v]\n"
                     "1: movb %[go], %%al\n\ttestb %%al, %%al\n\tjz 1b\n\tpxor %%xmm13, %%xmm13"
                     : [v] "+r"(veiled) : [go] "m"(let_go) : "rax", "xmm13", "memory");
    gone = true;
}
static void in_upper_half_of_vector_register(uintptr_t veiled) {
    settled = true;
    __asm__ volatile("notq %[v]\n\tmovq %[v], %%xmm13\n\tpslldq $8, %%xmm13\n\txorl %k[v], %k[v]\n"
                     "1: movb %[go], %%al\n\ttestb %%al, %%al\n\tjz 1b\n\tpxor %%xmm13, %%xmm13"
                     : [v] "+r"(veiled) : [go] "m"(let_go) : "rax", "xmm13", "memory");
    gone = true;
}
static void in_red_zone(uintptr_t veiled) {
    settled = true;
    __asm__ volatile("notq %[v]\n\tmovq %[v], -96(%%rsp)\n\txorl %k[v], %k[v]\n"
                     "1: movb (%[go]), %%al\n\ttestb %%al, %%al\n\tjz 1b\n\tmovq $0, -96(%%rsp)"
                     : [v] "+r"(veiled) : [go] "r"(&let_go) : "rax", "memory");
    gone = true;
}
static void in_register_in_call(uintptr_t veiled) {
    char c;
    long n;
    settled = true;
    __asm__ volatile("notq %[v]\n\tmovq %[v], %%r13\n\txorl %k[v], %k[v]\n\tsyscall\n\txorq %%r13, %%r13"
                     : "=a"(n), [v] "+r"(veiled) : "a"(0L), "D"((long)bell[0]), "S"(&c), "d"(1L)
                     : "rcx", "r11", "r13", "memory");
    CHECK_EQ(n, 1);
    gone = true;
}
static void in_vector_register_in_call(uintptr_t veiled) {
    char c;
    long n;
    settled = true;
    __asm__ volatile("notq %[v]\n\tmovq %[v], %%xmm11\n\txorl %k[v], %k[v]\n\tsyscall\n\tpxor %%xmm11, %%xmm11"
                     : "=a"(n), [v] "+r"(veiled) : "a"(0L), "D"((long)bell[0]), "S"(&c), "d"(1L)
                     : "rcx", "r11", "xmm11", "memory");
    CHECK_EQ(n, 1);
    gone = true;
}
static void (*in_register)(uintptr_t);
static void fill_register(void *h) {
    hang_bell();
    TEST_GO(in_register, veil(h));
    until_settled();
}
#define REGISTER_TEST(name, fn)                                                                     \
    TEST(name) {                                                                                    \
        in_register = fn;                                                                           \
        held(fill_register, ring);                                                                  \
    }
REGISTER_TEST(held_in_a_register_of_one_that_computes, in_general_register)
REGISTER_TEST(held_in_a_scratch_register_of_one_that_computes, in_caller_saved_register)
REGISTER_TEST(held_in_a_vector_register_of_one_that_computes, in_vector_register)
REGISTER_TEST(held_in_the_upper_half_of_a_vector_register, in_upper_half_of_vector_register)
REGISTER_TEST(held_in_the_red_zone_of_one_that_computes, in_red_zone)
REGISTER_TEST(held_in_a_register_over_a_system_call, in_register_in_call)
REGISTER_TEST(held_in_a_vector_register_over_a_system_call, in_vector_register_in_call)

/* One that is not counted any more has nothing in hand, though its thread has not left its stack yet. */
static _Atomic bool may_go;
static void leaves_it_in_vector_register(uintptr_t veiled) {
    settled = true;
    __asm__ volatile("notq %[v]\n\tmovq %[v], %%xmm13\n\txorl %k[v], %k[v]\n"
                     "1: movb %[go], %%al\n\ttestb %%al, %%al\n\tjz 1b"
                     : [v] "+r"(veiled) : [go] "m"(let_go) : "rax", "xmm13", "memory");
}
static void stays_at_its_end(struct g *g, int result) {
    gone = true;
    while (!may_go) {
    }
}
static void start_one_that_stays(void *h) {
    struct wr_args args;
    memset(&args, 0, sizeof args);
    args.integer[0] = veil(h);
    hang_bell();
    struct wr_spawn s = { .fn = (void (*)(void))leaves_it_in_vector_register, .args = &args, .on_end = stays_at_its_end };
    CHECK_EQ(wr_spawn(&s), 0);
    until_settled();
}
TEST(who_is_about_to_end_has_nothing_in_hand) {
    held(start_one_that_stays, ring);
    may_go = true;
}
#endif

/* ---- Threads held ------------------------------------------------------------------------------------------------ */

static _Thread_local void *volatile in_tls;
static void locked_with_tls(void *h) {
    weir_lock_thread();
    in_tls = h;
    h = NULL;
    sleep_until_rung();
    in_tls = NULL;
    weir_unlock_thread();
    gone = true;
}
static void fill_locked_tls(void *h) { hang_bell(), TEST_GO(locked_with_tls, h), until_settled(); }
TEST(held_in_a_thread_local_of_one_with_its_own_thread) { held(fill_locked_tls, ring); }

static void locked_sleeper(void *h) {
    weir_lock_thread();
    sleeper(h);
}
static void fill_locked(void *h) { hang_bell(), TEST_GO(locked_sleeper, h), until_settled(); }
TEST(held_by_one_with_its_own_thread) { held(fill_locked, ring); }

/* ---- What it is called with, and what is to be called ---------------------------------------------------------------- */

static void take_argument(void *h) {
    if (h != unveil(the_handle)) FAIL("argument");
    h = NULL;
    gone = true;
}
static void defer_and_sleep(void *h) {
    weir_defer(take_argument, h);
    h = NULL;
    scrub();
    sleep_until_rung();
}
static void fill_deferred(void *h) { hang_bell(), TEST_GO(defer_and_sleep, h), until_settled(); }
TEST(held_as_the_argument_of_a_deferred_call) { held(fill_deferred, ring); }

static weir_timer *volatile timer;
static void fill_after_func(void *h) { timer = weir_after_func(WEIR_HOUR, take_argument, h); }
static void stop_timer(void) { CHECK(weir_timer_stop(timer)), weir_timer_free(timer), timer = NULL; }
TEST(held_as_the_argument_of_a_pending_call) { held(fill_after_func, stop_timer); }

static void fill_lost_after_func(void *h) { CHECK(weir_after_func(WEIR_HOUR, take_argument, h)); }
TEST(held_as_the_argument_of_a_pending_call_that_nobody_can_stop) { held(fill_lost_after_func, NULL); }

static weir_ctx *volatile ctx;
static void fill_ctx_after_func(void *h) {
    ctx = weir_ctx_with_cancel(NULL);
    timer = weir_ctx_after_func(ctx, take_argument, h);
}
TEST(held_as_the_argument_of_a_call_at_the_end_of_a_context) { held(fill_ctx_after_func, stop_timer); }

static void fill_lost_ctx_after_func(void *h) {
    ctx = weir_ctx_with_cancel(NULL);
    CHECK(weir_ctx_after_func(weir_ctx_with_cancel(ctx), take_argument, h));
}
static void cancel_ctx(void) {
    weir_ctx_cancel(ctx);
    TEST_UNTIL(gone && weir_count() == 2);
}
TEST(held_as_the_argument_of_a_call_at_the_end_of_a_childs_context) { held(fill_lost_ctx_after_func, cancel_ctx); }

static void fill_deadline_after_func(void *h) {
    CHECK(weir_ctx_after_func(weir_ctx_with_timeout(NULL, WEIR_HOUR), take_argument, h));
}
TEST(held_as_the_argument_of_a_call_at_a_deadline) { held(fill_deadline_after_func, NULL); }

/* On one processor, and that is busy: the goroutine has an argument and no frame yet. */
static void begin_late(void *h) {
    void *volatile frame = h;
    h = NULL;
    sleep_until_rung();
    frame = NULL;
    gone = frame == NULL;
}
static void fill_unborn(void *h) {
    hang_bell();
    CHECK_EQ(weir_procs(1) > 0, 1);
    TEST_GO(begin_late, h);
}
TEST(held_as_the_argument_of_one_that_has_not_run_yet) { held(fill_unborn, ring); }

/* ---- Contexts' values ---------------------------------------------------------------------------------------------- */

static const char key;
static void fill_value(void *h) { ctx = weir_ctx_with_value(NULL, &key, h); }
static void drop_ctx(void) { weir_ctx_release(ctx), ctx = NULL; }
TEST(held_as_the_value_of_a_context) { held(fill_value, drop_ctx); }

static void sleep_with_value(void *h) {
    weir_ctx *own = weir_ctx_with_value(NULL, &key, h);
    h = NULL;
    weir_with(own) {
        weir_ctx_release(own);
        own = NULL;
        scrub();
        sleep_until_rung();
        CHECK(weir_ctx_value(weir_ctx_current(), &key) == unveil(the_handle));
    }
    gone = true;
}
static void fill_current_value(void *h) { hang_bell(), TEST_GO(sleep_with_value, h), until_settled(); }
TEST(held_as_a_value_of_the_context_of_one_that_sleeps) { held(fill_current_value, ring); }

/* ---- Channels -------------------------------------------------------------------------------------------------------- */

typedef WEIR_CHAN(void *) handle_chan;
static handle_chan post;
static void fill_buffer(void *h) {
    post = weir_make(handle_chan, 5);
    for (int i = 0; i < 3; i++) CHECK_EQ(weir_try_send(post, NULL), 0);
    CHECK_EQ(weir_try_send(post, h), 0);
}
static void take_from_post(void) {
    void *h = NULL;
    while (!h) CHECK_EQ(weir_recv(post, &h), 0);
    CHECK(h == unveil(the_handle));
    TEST_UNTIL(weir_count() == 2); /* who sent it has ended */
}
TEST(held_in_the_buffer_of_a_channel) { held(fill_buffer, take_from_post); }

static void send_handle(void *h) { CHECK_EQ(weir_send(post, h), 0); }
static void fill_sender(void *h) {
    post = weir_make(handle_chan, 0);
    TEST_GO(send_handle, h);
    test_until_n_parked(1, "chan send");
}
TEST(held_by_one_that_wants_to_send_it) { held(fill_sender, take_from_post); }

static NOINLINE void select_send(void *h) { CHECK_EQ(weir_select(weir_on_send(post, h), weir_on_recv(reachable, NULL)), 0); }
static void select_send_handle(void *h) {
    volatile char red_zone[256] UNUSED; /* who ends is on this stack for a moment yet; the arms were not in its red zone */
    red_zone[0] = 0;
    select_send(h);
    red_zone[255] = 0;
}
static void fill_selecting_sender(void *h) {
    post = weir_make(handle_chan, 0);
    TEST_GO(select_send_handle, h);
    test_until_n_parked(1, "select");
}
TEST(held_by_an_arm_that_wants_to_send_it) { held(fill_selecting_sender, take_from_post); }

/* A channel in a channel in a channel. */
static void fill_nested(void *h) {
    post = weir_make(handle_chan, 1);
    handle_chan inner = weir_make(handle_chan, 1), innermost = weir_make(handle_chan, 1);
    CHECK_EQ(weir_try_send(innermost, h), 0);
    CHECK_EQ(weir_try_send(inner, (void *)weir_chan_of(innermost)), 0);
    CHECK_EQ(weir_try_send(post, (void *)weir_chan_of(inner)), 0);
}
static void take_nested(void) {
    void *inner = NULL;
    CHECK_EQ(weir_recv(post, &inner), 0);
}
TEST(held_in_a_channel_in_a_channel) { held(fill_nested, take_nested); }

/* ---- The stack of one that is itself stuck: somebody has a pointer into it -------------------------------------------- */

static void *volatile *volatile into_stack;
static void lend_frame(uintptr_t veiled) {
    void *volatile frame[4] = { 0 };
    frame[2] = unveil(veiled);
    into_stack = &frame[2];
    (void)!weir_recv(weir_make(int_chan, 0), NULL);
    frame[2] = NULL;
}
static NOINLINE void lend(void) { TEST_GO(lend_frame, the_handle); }
TEST(held_in_a_frame_of_one_that_has_leaked_and_lent_it) {
    tidily(start_waiter);
    tidily(lend);
    test_until_n_parked(2, "chan receive");
    scrub();
    weir_leak_report *r = NULL;
    int n = weir_leaks(&r);
    CHECK_LE(n, HEAP_IS_KNOWN);
    for (int i = 0; i < n; i++) CHECK_STR(weir_leak_report_at(r, (size_t)i)->function, "lend_frame");
    weir_leak_report_free(r);
    tidily(end_waiter);
}
