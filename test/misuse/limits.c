/* Limits of the system: no more threads, no more address space for stacks. */
#include "test.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

/* No more address space than is used now, and `more` bytes. */
static void limit_address_space(size_t more) {
#if defined(TEST_ASAN) || defined(TEST_TSAN)
    SKIP("the sanitizer needs its address space");
#endif
    FILE *f = fopen("/proc/self/statm", "re");
    unsigned long pages = 0;
    CHECK(f && fscanf(f, "%lu", &pages) == 1);
    fclose(f);
    rlim_t bytes = (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE) + more;
    CHECK_EQ(setrlimit(RLIMIT_AS, &(struct rlimit){ bytes, bytes }), 0);
    void *much = mmap(NULL, more + ((size_t)1 << 20), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (much != MAP_FAILED) SKIP("address space cannot be limited here");
}

static _Atomic int ran;
static void runs(void) { atomic_fetch_add(&ran, 1); }
static void computes(void) {
    for (weir_time until = weir_now() + 5 * WEIR_MILLISECOND; weir_now() < until;) {}
    runs();
}

/* A first goroutine, so that there is a mapping for stacks like its own. */
static void warm_up(void) {
    TEST_GO(runs);
    TEST_UNTIL(atomic_load(&ran) == 1);
}

/* EXIT, since the message is looked for. */
EXIT_TEST(without_more_threads_goroutines_wait_for_those_there_are, 7, "weir: no more threads can be made (") {
    warm_up();
    limit_address_space(256 << 10); /* a thread's stack is larger */
    weir_procs(64);
    for (int i = 0; i < 20; i++) TEST_GO(computes);
    TEST_UNTIL(atomic_load(&ran) == 21);
    exit(7);
}

TEST(without_memory_for_a_stack_no_goroutine_is_started) {
    warm_up();
    limit_address_space(256 << 10);
    CHECK_EQ(weir_go_stack((size_t)512 << 20, runs), -ENOMEM);
    CHECK_EQ(atomic_load(&ran), 1);
    TEST_GO(runs); /* a small one is to be had */
    TEST_UNTIL(atomic_load(&ran) == 2);
}

static int no_main(void *arg) { return arg != NULL; }

PLAIN_TEST(a_runtime_without_memory_for_the_main_goroutine_is_not_started) {
    limit_address_space(2 << 20); /* enough for threads, but not for a slab */
    int e = weir_run(no_main, NULL);
    CHECK(e == -ENOMEM || e == -EAGAIN);
}
