/* When memory or threads run out the program goes on; and memory that is no longer needed goes back. */
#include "sched/inner.h"
#undef errno
#define errno (*weir_errno_())
#include "sched_test.h"

#include <malloc.h>
#include <sys/resource.h>

static weir_unit_chan gate;
static _Atomic int running;

static void parks(void) {
    (void)!weir_recv(gate, NULL);
    running--;
}
static void uses_a_little(int kib) {
    char room[200 << 10];
    for (int i = 0; i < kib; i++) {
        room[(200 << 10) - 1 - 1024 * i] = 1;
        __asm__ volatile("" ::"r"(room) : "memory");
    }
    running--;
}
static void open_gate(void) {
    weir_close(gate);
    TEST_UNTIL(weir_count() == 1);
    weir_release(gate);
}

/* ---- No more address space ---------------------------------------------------------------------------------------- */

TEST(without_address_space_go_fails_and_the_program_goes_on) {
    if (SANITIZED) SKIP("a sanitizer needs address space of its own");
    struct rlimit before, little;
#ifdef __GLIBC__
    mallopt(M_ARENA_MAX, 1), mallopt(M_TOP_PAD, 1 << 20); /* a thread without a heap could not begin one later */
#endif
    gate = weir_make(weir_unit_chan, 0);
    int n = 0, e = 0;
    TEST_GO(parks); /* there are threads and a slab by now */
    running = 1;
    CHECK_EQ(getrlimit(RLIMIT_AS, &before), 0);
    little = before;
    little.rlim_cur = (rlim_t)(status_kib("VmSize:") + (100 << 10)) << 10;
    if (setrlimit(RLIMIT_AS, &little)) SKIP("setrlimit");
    for (; n < 100000 && (e = weir_go(parks)) == 0; n++) running++;
    if (n == 100000) SKIP("no limit of address space here");
    CHECK_EQ(e, -ENOMEM);
    CHECK_GE(n, 250); /* the slab that there was held as many, and half of one might still be had */
    CHECK_EQ(weir_go_stack((size_t)1 << 28, parks), -ENOMEM);
    weir_scope s;
    weir_wg wg = {};
    CHECK_EQ(weir_scope_open(&s, NULL), 0);
    CHECK_EQ(weir_scope_go(&s, parks), -ENOMEM);
    CHECK_EQ(weir_scope_close(&s), 0);
    CHECK_EQ(weir_wg_go(&wg, parks), -ENOMEM);
    CHECK_EQ(weir_wg_wait(&wg), 0); /* it counts nobody */
    CHECK_EQ(weir_count(), n + 2);
    CHECK_EQ(weir_sleep(WEIR_MILLISECOND), 0);
    weir_close(gate);
    TEST_UNTIL(running == 0 && weir_count() == 1);
    weir_release(gate);
    gate = weir_make(weir_unit_chan, 0);
    for (int i = 0; i < n - weir_procs(0) * WR_STACK_CACHE; i++) TEST_GO(parks), running++; /* there is room for as many again */
    weir_close(gate);
    TEST_UNTIL(running == 0 && weir_count() == 1);
    CHECK_EQ(setrlimit(RLIMIT_AS, &before), 0);
    for (int i = 0; i < 100; i++) TEST_GO(uses_a_little, 1), running++;
    TEST_UNTIL(running == 0);
    weir_release(gate);
}

/* ---- No more threads ------------------------------------------------------------------------------------------------ */

static void *ends_at_once(void *arg) { return arg; }
/* The limit is on what a user has in the whole system, and root has none; so become somebody of whom there is nobody else. */
static void become_nobody(void) {
    if (geteuid() == 0 && (setgid(54321) || setuid(54321 + (uid_t)getpid()))) SKIP("cannot be another user: %s", strerror(errno));
}
static void no_more_threads(void) {
    struct rlimit none = { 1, 1 };
    pthread_t thread;
    CHECK_EQ(setrlimit(RLIMIT_NPROC, &none), 0);
    if (pthread_create(&thread, NULL, ends_at_once, NULL) == 0) SKIP("no limit of threads here");
}

static int_chan work, results;
static void works(void) {
    for (int v; weir_recv(work, &v) == 0;) CHECK_EQ(weir_send(results, v + 1), 0);
    running--;
}
static int sleeps_in_libc(void *arg) {
    thread_sleep(WEIR_MILLISECOND);
    return 5;
}
static void blocks(void) {
    CHECK_EQ(weir_blocking(sleeps_in_libc, NULL), 5);
    running--;
}
static int goes_on_without_threads(void *arg) {
    weir_procs(1);
    CHECK_EQ(weir_sleep(WEIR_MICROSECOND), 0);
    no_more_threads();
    weir_procs(8);
    work = weir_make(int_chan, 0), results = weir_make(int_chan, 0);
    running = 20;
    for (int i = 0; i < 20; i++) TEST_GO(works);
    for (int i = 0, v; i < 500; i++) {
        CHECK_EQ(weir_send(work, i), 0);
        CHECK_EQ(weir_recv(results, &v), 0);
        CHECK_EQ(v, i + 1);
    }
    weir_close(work);
    TEST_UNTIL(running == 0);
    running = 10;
    for (int i = 0; i < 10; i++) TEST_GO(blocks);
    TEST_UNTIL(running == 0);
    weir_timer *t = weir_timer_new(WEIR_MILLISECOND);
    CHECK_EQ(weir_timer_wait(t, NULL), 0);
    weir_timer_free(t);
    weir_release(work), weir_release(results);
    return 3;
}
PLAIN_TEST(without_threads_the_ones_there_are_do_the_work) {
    static struct heard heard;
    test_ignore_leaks(); /* to look for them takes a thread */
    become_nobody();
    listen_to_stderr(&heard);
    CHECK_EQ(weir_run(goes_on_without_threads, NULL), 3);
    const char *said = stop_listening(&heard);
    CHECK_EQ(times_in(said, "weir: no more threads can be made ("), 1);
    CHECK_EQ(times_in(said, "\n"), 1);
}

static int returns_one(void *arg) { return 1; }
PLAIN_TEST(without_any_thread_there_is_no_runtime) {
    if (SANITIZED) SKIP("a sanitizer starts threads of its own");
    become_nobody();
    no_more_threads();
    CHECK_EQ(weir_run(returns_one, NULL), -EAGAIN);
    CHECK_EQ(weir_start(), -EAGAIN);
    CHECK_EQ(weir_run(returns_one, NULL), -EAGAIN); /* it is as if nothing had been tried */
}

/* ---- Memory goes back -------------------------------------------------------------------------------------------------- */

static long resident(void) { return status_kib("VmRSS:"); }

TEST(a_goroutine_that_parks_costs_a_page) {
    enum { N = 20000 };
    if (SANITIZED || test_slowness() > 1) SKIP("measures memory");
    gate = weir_make(weir_unit_chan, 0);
    long before = resident() + status_kib("VmPTE:");
    for (int i = 0; i < N; i++) TEST_GO(parks);
    test_until_n_parked(N, "chan receive");
    long each = (resident() + status_kib("VmPTE:") - before) * 1024 / N;
    printf("%ld bytes each\n", each);
    CHECK_LE(each, 4812 + (512 << 10) / N * 8); /* a few threads and page tables come once */
    open_gate();
}

TEST(idle_stacks_give_their_pages_back) {
    enum { N = 2000 };
    if (SANITIZED || test_slowness() > 1) SKIP("measures memory");
    long before = resident();
    gate = weir_make(weir_unit_chan, 0);
    for (int i = 0; i < N; i++) TEST_GO(parks);
    test_until_n_parked(N, NULL);
    open_gate();
    long used = resident();
    CHECK_GE(used - before, N * 4l);
    wr_stacks_trim(); /* what is idle from now on … */
    wr_stacks_trim(); /* … until now */
    long after = resident();
    CHECK_LE(after - before, (used - before) / 4);
    gate = weir_make(weir_unit_chan, 0); /* and they are as good as new */
    for (int i = 0; i < N; i++) TEST_GO(parks);
    test_until_n_parked(N, NULL);
    CHECK_GE(resident() - after, N * 3l);
    wr_stacks_trim();
    wr_stacks_trim();
    open_gate();
}

TEST(deep_stacks_give_their_pages_back) {
    enum { N = 100 };
    if (SANITIZED || test_slowness() > 1) SKIP("measures memory");
    weir_procs(1);
    long before = resident();
    for (int i = 0; i < N; i++) {
        running++;
        CHECK_EQ(weir_go_stack(512 << 10, uses_a_little, 200), 0);
    }
    TEST_UNTIL(running == 0 && weir_count() == 1);
    CHECK_GE(resident() - before, N * 190l);
    wr_stacks_trim();
    wr_stacks_trim();
    CHECK_LE(resident() - before, N * 20l);
}

TEST(goroutines_that_come_and_go_need_the_memory_of_those_that_are_there) {
    if (SANITIZED || test_slowness() > 1) SKIP("measures memory");
    for (int i = 0; i < 1000; i++) TEST_GO(uses_a_little, 1), running++;
    TEST_UNTIL(running == 0);
    long before = resident();
    for (int i = 0; i < 200000; i++) {
        running++;
        TEST_GO(uses_a_little, 1);
        if (running > 500) TEST_UNTIL(running < 100);
    }
    TEST_UNTIL(running == 0);
    CHECK_LE(resident() - before, 4096);
}

static int parks_some(void *arg) {
    gate = weir_make(weir_unit_chan, 0);
    for (int i = 0; i < 5000; i++) TEST_GO(parks);
    test_until_n_parked(5000, NULL);
    open_gate();
    return 0;
}
PLAIN_TEST(a_run_gives_its_stacks_back) {
    if (SANITIZED || test_slowness() > 1) SKIP("measures memory");
    CHECK_EQ(weir_run(returns_one, NULL), 1);
    long before = resident();
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(weir_run(parks_some, NULL), 0);
        CHECK_LE(resident() - before, 5000);
    }
}
