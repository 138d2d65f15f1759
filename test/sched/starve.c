/*
 * A goroutine that never gives way, because it computes, sits in the C library or makes only calls that do not block, keeps
 * the others waiting for less than 20 ms, on one processor too.
 *
 * Measured is the longest time between two turns of a goroutine that yields, or sleeps a millisecond, while others hog. The
 * machine may be busy with other things and keep everybody waiting: a thread that only sleeps says for how long, and that
 * much is taken off. It does not feel all of it, since the kernel favours who sleeps, so one good window of ten is enough, and in the
 * second five it computes instead: had weir forgotten anybody, all would be bad.
 */
#include "sched_test.h"

#define WINDOW (200 * WEIR_MILLISECOND)
#define LIMIT (20 * WEIR_MILLISECOND * test_slowness())

static _Atomic bool stop;
static _Atomic int running;

/* ---- What the machine does ------------------------------------------------------------------------------- */

static _Atomic weir_duration machine_gap;
static _Atomic bool watch_computes;
static void *watch_machine(void *arg) {
    for (weir_time last = weir_now(), now; !stop; last = now) {
        weir_duration pause = watch_computes ? 0 : 500 * WEIR_MICROSECOND;
        if (pause) nanosleep(&(struct timespec){ .tv_nsec = pause }, NULL);
        now = weir_now();
        weir_duration gap = now - last - pause;
        if (gap > machine_gap) machine_gap = gap;
    }
    return arg;
}

/* ---- The one that waits ---------------------------------------------------------------------------------- */

static _Atomic weir_duration longest;
static void turn(weir_duration sleep) {
    for (weir_time last = weir_now(), now; !stop; last = now) {
        if (sleep) CHECK_EQ(weir_sleep(sleep), 0);
        else weir_yield();
        now = weir_now();
        weir_duration gap = now - last - sleep;
        if (gap > longest) longest = gap;
    }
    running--;
}

/* In one window out of a few. */
static void measure_one(int procs, int hogs, void (*hog)(void), weir_duration sleep) {
    running = hogs + 1;
    stop = watch_computes = false;
    pthread_t watch = thread_start(watch_machine, NULL);
    TEST_GO(turn, sleep);
    for (int i = 0; i < hogs; i++) TEST_GO(hog);
    weir_duration over;
    for (int window = 0; window < 10; window++) {
        watch_computes = window >= 5;
        longest = 0;
        machine_gap = 0;
        CHECK_EQ(weir_sleep(WINDOW), 0);
        over = longest - machine_gap;
        printf("%d processors, %d hogs, the other %s: longest wait %.1f ms, the machine's %.1f ms\n", procs, hogs,
               sleep ? "sleeps" : "yields", (double)longest / 1e6, (double)machine_gap / 1e6);
        if (over < LIMIT) break;
    }
    stop = true;
    TEST_UNTIL(running == 0);
    thread_end(watch);
    CHECK_LE(over, LIMIT);
}
static void measure(int procs, int hogs, void (*hog)(void)) {
    weir_procs(procs);
    measure_one(procs, hogs, hog, 0);
    measure_one(procs, hogs, hog, WEIR_MILLISECOND);
}
#define STARVE_TEST(name, hog)                                                                      \
    TEST(name##_on_one_processor) { measure(1, 1, hog); }                                           \
    TEST(name##_on_two_processors) { measure(2, 2, hog); }

/* ---- The ones that keep it waiting ------------------------------------------------------------------------ */

static void computes(void) {
    while (!stop) {
    }
    running--;
}
STARVE_TEST(an_endless_loop_delays_nobody, computes)

/* Each time with a processor of weir's. */
static void computes_by_turns(void) {
    while (!stop) {
        compute(60 * WEIR_MILLISECOND);
        weir_yield();
    }
    running--;
}
STARVE_TEST(long_turns_delay_nobody, computes_by_turns)

static void sleeps_in_libc(void) {
    while (!stop) {
        usleep(40000);
        weir_yield();
    }
    running--;
}
STARVE_TEST(a_thread_asleep_delays_nobody, sleeps_in_libc)

static void reads_a_pipe(void) {
    int fds[2];
    char c;
    CHECK_EQ(pipe(fds), 0);
    fcntl(fds[0], F_SETFL, O_NONBLOCK);
    while (!stop)
        if (read(fds[0], &c, 1) < 0 && weir_id() == 0) return;
    close(fds[0]), close(fds[1]);
    running--;
}
STARVE_TEST(endless_system_calls_delay_nobody, reads_a_pipe)

static void asks(void) {
    int_chan full = weir_make(int_chan, 1);
    int v;
    CHECK_EQ(weir_try_send(full, 1), 0);
    while (!stop) {
        CHECK_EQ(weir_try_send(full, 2), -EAGAIN);
        CHECK_EQ(weir_len(full), 1);
        CHECK_EQ(weir_select(weir_on_send(full, 3), weir_on_default()), 1);
        CHECK_EQ(weir_recv(full, &v), 0);
        CHECK_EQ(weir_send(full, v), 0);
        (void)weir_now(), (void)weir_id(), (void)weir_count(), (void)weir_procs(0), (void)weir_ctx_err(NULL);
    }
    weir_release(full);
    running--;
}
STARVE_TEST(endless_calls_that_do_not_block_delay_nobody, asks)

/* These are in the scheduler for most of their time, where no processor can be taken away. */
static void sets_timers(void) {
    weir_timer *t = weir_timer_new(WEIR_HOUR);
    CHECK(t);
    while (!stop) (void)weir_timer_reset(t, WEIR_HOUR);
    weir_timer_free(t);
    running--;
}
STARVE_TEST(endless_setting_of_timers_delays_nobody, sets_timers)

static void hands_over(void) {
    weir_sem s;
    weir_mutex m = WEIR_MUTEX_INIT;
    CHECK_EQ(weir_sem_init(&s, 1), 0);
    while (!stop) {
        CHECK_EQ(weir_mutex_lock(&m), 0), CHECK_EQ(weir_mutex_unlock(&m), 0);
        CHECK_EQ(weir_sem_acquire(&s, 1), 0), CHECK_EQ(weir_sem_release(&s, 1), 0);
    }
    running--;
}
STARVE_TEST(endless_locking_delays_nobody, hands_over)

/* Wakes others all the time, and never waits itself: those are to run, and everybody else too. */
static _Atomic long woken;
static void takes(int_chan ch) {
    while (weir_recv(ch, NULL) == 0) woken++;
    weir_release(ch);
    running--;
}
static void wakes(void) {
    int_chan ch = weir_make(int_chan, 0);
    running++;
    TEST_GO(takes, weir_retain(ch));
    while (!stop || woken == 0) (void)!weir_try_send(ch, 1);
    weir_close(ch);
    weir_release(ch);
    running--;
}
STARVE_TEST(endless_waking_delays_nobody, wakes)
