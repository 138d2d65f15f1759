/* The CPU profile: which functions use the time, with whose labels, on whatever thread. */
#include "profile_test.h"

#include <sched.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifdef TEST_TSAN
/* It calls handlers late, from within its own functions, when what was interrupted is gone. */
#define NEEDS_STACKS() SKIP("ThreadSanitizer hands signals on too late to see what a thread was doing")
#else
#define NEEDS_STACKS() (void)0
#endif

static weir_duration cpu_time(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return t.tv_sec * WEIR_SECOND + t.tv_nsec;
}

/* Use so much CPU time, on one thread, without a call into weir. The clock is read rarely: C libraries may have no unwind tables for
 * that, and what is seen there has no callers. */
static inline __attribute__((always_inline)) void burn(weir_duration d) {
    for (weir_duration end = cpu_time() + d; cpu_time() < end;)
        for (volatile int i = 0; i < 100000; i++) {
        }
}
#define BURNER(name)                                                                                \
    static NOT_INLINED void name(weir_duration d) {                                                 \
        burn(d);                                                                                    \
        STAY();                                                                                     \
    }
BURNER(burns_here)
BURNER(burns_there)
BURNER(burns_in_child)

#define MUCH (300 * WEIR_MILLISECOND)
#define LITTLE (MUCH / 3)

/* The kernel looks at its ticks, so a sample may be late by one of those; other than that it is the CPU time. */
static void is_about(struct stack s, weir_duration d) {
    CHECK_GE(s.ns, d / 2);
    CHECK_LE(s.ns, d + d / 2);
}

static struct profile stop_profile(void) {
    struct profile p = { .n = 0 };
    CHECK_EQ(wr_cpu_profile_stop(add_labelled, &p), 0);
    return p;
}

/* ---- What it finds -------------------------------------------------------------------------------------------- */

TEST(the_busy_function_is_found_and_its_share_is_right) {
    NEEDS_STACKS();
    CHECK_EQ(wr_cpu_profile_start(100), 0);
    burns_here(MUCH);
    burns_there(LITTLE);
    struct profile p = stop_profile();
    is_about(sum_of(&p, FUNCTION(burns_here), NULL), MUCH);
    CHECK_LE(sum_of(&p, FUNCTION(burns_there), NULL).ns, MUCH - LITTLE / 2);
    CHECK_EQ(sum_of(&p, FUNCTION(burns_here), NULL).ns % (WEIR_SECOND / 100), 0);
    CHECK_EQ(sum_of(&p, FUNCTION(burns_here), NULL).ns, sum_of(&p, FUNCTION(burns_here), NULL).count * (WEIR_SECOND / 100));
    drop_profile(&p);
}

static void burns_with_label(const char *key, const char *value) {
    weir_label("ever", "the same");
    weir_label(key, "old");
    weir_label(key, value);
    burns_here(MUCH);
}
TEST(samples_have_the_labels_of_their_goroutine) {
    NEEDS_STACKS();
    CHECK_EQ(wr_cpu_profile_start(100), 0);
    TEST_GO(burns_with_label, "request", "\"slow\"");
    TEST_UNTIL(weir_count() == 1);
    burns_here(LITTLE);
    struct profile p = stop_profile();
    is_about(sum_of(&p, FUNCTION(burns_here), "{\"ever\":\"the same\", \"request\":\"\\\"slow\\\"\"}"), MUCH);
    CHECK_GE(sum_of(&p, FUNCTION(burns_here), "").count, 1);
    drop_profile(&p);
}
static void labels_come_and_go(_Atomic int *left) {
    for (int i = 0; i < 200; i++) weir_label("key", i % 2 ? "odd" : "even");
    --*left;
}
TEST(labels_may_change_and_goroutines_end_under_it) {
    static _Atomic int left;
    CHECK_EQ(wr_cpu_profile_start(1000), 0);
    for (int round = 0; round < TEST_SCALE(300); round++) {
        left = 10;
        for (int i = 0; i < 10; i++) TEST_GO(labels_come_and_go, &left);
        TEST_UNTIL(left == 0);
    }
    struct profile p = stop_profile();
    for (size_t i = 0; i < p.n; i++)
        CHECK(!*p.stacks[i].labels || !strcmp(p.stacks[i].labels, "{\"key\":\"odd\"}") ||
              !strcmp(p.stacks[i].labels, "{\"key\":\"even\"}"));
    drop_profile(&p);
}

static NOT_INLINED void hands_over(int_chan from, int_chan to, long n) {
    int v = 0;
    for (long i = 0; i < n; i++)
        if (weir_recv(from, &v) || weir_send(to, v)) break;
    STAY();
}
TEST(goroutines_that_switch_all_the_time_can_be_looked_at) {
    int_chan a = weir_make(int_chan, 0), b = weir_make(int_chan, 0);
    CHECK_EQ(wr_cpu_profile_start(1000), 0);
    weir_time until = weir_now() + 300 * WEIR_MILLISECOND;
    TEST_GO(hands_over, a, b, 1l << 60);
    for (int v = 0; weir_now() < until;) CHECK(weir_send(a, v) == 0 && weir_recv(b, &v) == 0);
    struct profile p = stop_profile();
    CHECK_GE(p.count, 1);
    weir_close(a), weir_close(b);
    TEST_UNTIL(weir_count() == 1);
    weir_release(a), weir_release(b);
    drop_profile(&p);
}

/* ---- On which threads ------------------------------------------------------------------------------------------- */

static void *foreign_burns(void *arg) {
    burns_here(*(weir_duration *)arg);
    return NULL;
}
PLAIN_TEST(a_thread_of_the_programs_is_found_without_a_runtime) {
    NEEDS_STACKS();
    weir_duration d = MUCH;
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, foreign_burns, &d), 0);
    CHECK_EQ(wr_cpu_profile_start(100), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    burns_there(MUCH);
    struct profile p = stop_profile();
    CHECK_GE(sum_of(&p, FUNCTION(burns_here), NULL).count, 1);
    is_about(sum_of(&p, FUNCTION(burns_there), NULL), MUCH);
    drop_profile(&p);
}
TEST(a_thread_that_the_program_starts_meanwhile_is_found_soon) {
    NEEDS_STACKS();
    weir_duration d = 5 * MUCH;
    pthread_t thread;
    CHECK_EQ(wr_cpu_profile_start(100), 0);
    CHECK_EQ(pthread_create(&thread, NULL, foreign_burns, &d), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    struct profile p = stop_profile();
    CHECK_GE(sum_of(&p, FUNCTION(burns_here), NULL).ns, d / 10);
    drop_profile(&p);
}

#define SHORT (60 * WEIR_MILLISECOND) /* over, mostly, before anybody has looked for new threads */
static _Atomic int there;
static void meets_and_burns(int n) {
    there++;
    while (there < n) sched_yield();
    burns_here(SHORT);
}
TEST(a_worker_that_starts_meanwhile_is_seen_from_its_start) {
    NEEDS_STACKS();
    enum { N = 8 };
    weir_procs(1);
    CHECK_EQ(wr_cpu_profile_start(250), 0);
    weir_procs(N + 1);
    for (int i = 0; i < N; i++) TEST_GO(meets_and_burns, N);
    TEST_UNTIL(weir_count() == 1);
    struct profile p = stop_profile();
    is_about(sum_of(&p, FUNCTION(burns_here), NULL), N * SHORT);
    drop_profile(&p);
}
static void *nothing(void *arg) { return arg; }
TEST(threads_may_end_meanwhile) {
    CHECK_EQ(wr_cpu_profile_start(1000), 0);
    for (long i = 0; i < TEST_SCALE(2000); i++) {
        pthread_t thread;
        CHECK_EQ(pthread_create(&thread, NULL, nothing, NULL), 0);
        CHECK_EQ(pthread_join(thread, NULL), 0);
    }
    struct profile p = stop_profile();
    drop_profile(&p);
}

static int runs_burner(void *burner) {
    (*(void (**)(weir_duration))burner)(MUCH);
    return 0;
}
PLAIN_TEST(one_profile_spans_two_runs) {
    NEEDS_STACKS();
    void (*first)(weir_duration) = burns_here, (*second)(weir_duration) = burns_there;
    CHECK_EQ(wr_cpu_profile_start(100), 0);
    CHECK_EQ(weir_run(runs_burner, (void *)&first), 0);
    CHECK_EQ(weir_run(runs_burner, (void *)&second), 0);
    struct profile p = stop_profile();
    is_about(sum_of(&p, FUNCTION(burns_here), NULL), MUCH);
    is_about(sum_of(&p, FUNCTION(burns_there), NULL), MUCH);
    drop_profile(&p);
}

/* ---- Starting and stopping ------------------------------------------------------------------------------------- */

PLAIN_TEST(a_second_profile_at_once_is_refused) {
    CHECK_EQ(wr_cpu_profile_start(100), 0);
    CHECK_EQ(wr_cpu_profile_start(100), -EBUSY);
    CHECK_EQ(wr_cpu_profile_stop(NULL, NULL), 0);
    CHECK_EQ(wr_cpu_profile_start(100), 0);
    CHECK_EQ(wr_cpu_profile_stop(NULL, NULL), 0);
}
PLAIN_TEST(stopping_what_was_not_started_is_refused) {
    CHECK_EQ(wr_cpu_profile_stop(NULL, NULL), -EINVAL);
    CHECK_EQ(wr_cpu_profile_start(100), 0);
    CHECK_EQ(wr_cpu_profile_stop(NULL, NULL), 0);
    CHECK_EQ(wr_cpu_profile_stop(NULL, NULL), -EINVAL);
}
PLAIN_TEST(rates_that_make_no_sense_are_refused) {
    CHECK_EQ(wr_cpu_profile_start(0), -EINVAL);
    CHECK_EQ(wr_cpu_profile_start(-1), -EINVAL);
    CHECK_EQ(wr_cpu_profile_start(1001), -EINVAL);
    CHECK_EQ(wr_cpu_profile_stop(NULL, NULL), -EINVAL);
}

static void handler(int signo) { (void)signo; }
static void is_handled_by(void (*wanted)(int)) {
    struct sigaction a;
    CHECK_EQ(sigaction(SIGPROF, NULL, &a), 0);
    CHECK(!(a.sa_flags & SA_SIGINFO) && a.sa_handler == wanted);
}
PLAIN_TEST(a_handler_of_the_programs_is_left_alone) {
    signal(SIGPROF, handler);
    CHECK_EQ(wr_cpu_profile_start(100), -EBUSY);
    is_handled_by(handler);
    signal(SIGPROF, SIG_DFL);
    CHECK_EQ(wr_cpu_profile_start(100), 0);
    signal(SIGPROF, handler); /* a program that does so has no samples from then on */
    CHECK_EQ(wr_cpu_profile_stop(NULL, NULL), 0);
    is_handled_by(handler);
}
PLAIN_TEST(the_old_disposition_comes_back) {
    signal(SIGPROF, SIG_DFL);
    CHECK_EQ(wr_cpu_profile_start(100), 0);
    CHECK_EQ(wr_cpu_profile_stop(NULL, NULL), 0);
    is_handled_by(SIG_DFL);
    signal(SIGPROF, SIG_IGN);
    CHECK_EQ(wr_cpu_profile_start(100), 0);
    CHECK_EQ(wr_cpu_profile_stop(NULL, NULL), 0);
    is_handled_by(SIG_IGN);
}
static _Atomic bool enough;
static void *burns_until_enough(void *arg) {
    while (!enough) burns_here(WEIR_MILLISECOND);
    return arg;
}
/* The old disposition would end the process, if a signal came after it. */
PLAIN_TEST(no_signal_comes_after_the_end) {
    pthread_t threads[4];
    signal(SIGPROF, SIG_DFL);
    for (int i = 0; i < 4; i++) CHECK_EQ(pthread_create(&threads[i], NULL, burns_until_enough, NULL), 0);
    for (long i = 0; i < TEST_SCALE(200); i++) {
        CHECK_EQ(wr_cpu_profile_start(1000), 0);
        if (i % 8 == 0) burns_there(5 * WEIR_MILLISECOND);
        else sched_yield();
        CHECK_EQ(wr_cpu_profile_stop(NULL, NULL), 0);
    }
    enough = true;
    for (int i = 0; i < 4; i++) CHECK_EQ(pthread_join(threads[i], NULL), 0);
}
PLAIN_TEST(a_signal_that_is_pending_at_the_end_is_dropped) {
    sigset_t set;
    signal(SIGPROF, SIG_DFL);
    sigemptyset(&set);
    sigaddset(&set, SIGPROF);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    CHECK_EQ(wr_cpu_profile_start(1), 0);
    raise(SIGPROF); /* newer kernels take the timers' signals back themselves; not this one */
    CHECK_EQ(wr_cpu_profile_stop(NULL, NULL), 0);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}
PLAIN_TEST(a_signal_that_is_no_timers_is_not_counted) {
    CHECK_EQ(wr_cpu_profile_start(1), 0);
    for (int i = 0; i < 1000; i++) raise(SIGPROF);
    struct profile p = stop_profile();
    CHECK_LE(p.count, 5);
    drop_profile(&p);
}

/* ---- Forks, deadlocks, proofs ----------------------------------------------------------------------------------- */

static int child_profiles(void *arg) {
    (void)arg;
    struct profile p = { .n = 0 };
    if (wr_cpu_profile_stop(add_labelled, &p) != -EINVAL || wr_cpu_profile_start(100) != 0) return 1;
    burns_in_child(MUCH);
    if (wr_cpu_profile_stop(add_labelled, &p) != 0 || sum_of(&p, FUNCTION(burns_here), NULL).n) return 2;
#ifndef TEST_TSAN
    if (sum_of(&p, FUNCTION(burns_in_child), NULL).ns < MUCH / 2) return 3;
#endif
    return 0;
}
PLAIN_TEST(a_forked_child_has_a_profile_of_its_own) {
    NEEDS_STACKS();
    int status;
    CHECK_EQ(wr_cpu_profile_start(100), 0);
    burns_here(MUCH);
    pid_t child = fork();
    if (child == 0) _exit(weir_run(child_profiles, NULL));
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
    struct profile p = stop_profile();
    is_about(sum_of(&p, FUNCTION(burns_here), NULL), MUCH);
    CHECK_EQ(sum_of(&p, FUNCTION(burns_in_child), NULL).n, 0);
    drop_profile(&p);
}
PLAIN_TEST(children_forked_under_many_samples_can_profile) {
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) CHECK_EQ(pthread_create(&threads[i], NULL, burns_until_enough, NULL), 0);
    CHECK_EQ(wr_cpu_profile_start(1000), 0);
    for (long i = 0; i < TEST_SCALE(40); i++) {
        int status;
        pid_t child = fork();
        if (child == 0) _exit(wr_cpu_profile_start(1000) || wr_cpu_profile_stop(NULL, NULL));
        CHECK_EQ(waitpid(child, &status, 0), child);
        CHECK_EQ(status, 0);
    }
    CHECK_EQ(wr_cpu_profile_stop(NULL, NULL), 0);
    enough = true;
    for (int i = 0; i < 4; i++) CHECK_EQ(pthread_join(threads[i], NULL), 0);
}
EXIT_TEST(a_profile_hides_no_deadlock, 2, "all goroutines are asleep - deadlock!") {
    int v;
    int_chan ch = weir_make(int_chan, 0);
    CHECK_EQ(wr_cpu_profile_start(100), 0);
    (void)!weir_recv(ch, &v);
}
static _Atomic int burning;
static void burns_beside(void) {
    burning++;
    while (!enough) burns_here(WEIR_MILLISECOND);
}
TEST(proofs_can_be_made_meanwhile) {
#ifdef TEST_TSAN
    SKIP("no proofs under ThreadSanitizer");
#endif
    CHECK_EQ(wr_cpu_profile_start(1000), 0);
    TEST_GO(burns_beside);
    TEST_UNTIL(burning);
    for (int i = 0; i < 5; i++) CHECK_EQ(weir_leaks(NULL), 0);
    enough = true;
    TEST_UNTIL(weir_count() == 1);
    CHECK_EQ(wr_cpu_profile_stop(NULL, NULL), 0);
}
