/*
 * What is in the way: of some rows, only the part that a runtime with threads, stacks and locked channels cannot do without, by threads,
 * pages, futexes and locked instructions alone. `bench-bare ROW N` prints `name value unit` lines, as ../ does with weir; status 3 says
 * that there is no such row. It does not do a row's work, so it is compared with only where its name is given.
 *
 * parked       a stack is a slot of 16 KiB of fresh memory: a guard is set in it, and a word written in its last page. Waking is to find
 *              the next one in each, and to write a word there. No goroutine is made, switched to or queued.
 * cancel-…     the same waking.
 * pingpong-tied   two threads: one wakes the other by a futex and sleeps. Neither looks for a while before it sleeps.
 * spsc-…, mpmc-…  a ring of that capacity under a lock of one word, an element at a time. One thread on one processor, which fills and
 *              empties it; two on two. Nobody sleeps: who finds it full or empty looks again.
 * select-64-none  64 words are looked at, and since none says anything, all are locked, looked at and unlocked.
 * mutex-…      a lock of one word that knows whether somebody waits: one locked instruction to take it, one to give it back; as many
 *              threads as there are processors.
 * rwmutex-…    two locked instructions, in functions.
 * sleep-…      clock_nanosleep in one thread, as exact as the kernel has it.
 */
#include "../report.h"

#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif

enum { MOST_THREADS = 64, FEWEST_LOOKS = 64, MOST_LOOKS = 256 }; /* of who waits for a lock, between two tries */
typedef int64_t duration; /* nanoseconds */
static int procs = 1;

static duration now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static inline void look_again(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

/* run(arg) on so many threads, of which the caller is one: until all are through. */
static duration on_threads(int n, void *(*run)(void *arg), void *arg) {
    pthread_t others[MOST_THREADS];
    duration begin = now();
    for (int i = 1; i < n; i++)
        if (pthread_create(&others[i], NULL, run, arg)) fail("pthread_create");
    run(arg);
    for (int i = 1; i < n; i++) pthread_join(others[i], NULL);
    return now() - begin;
}

/* ---- A lock of one word ---- */

static void lock(_Atomic uint32_t *word) {
    uint32_t free_word = 0, looks = FEWEST_LOOKS;
    while (!atomic_compare_exchange_strong_explicit(word, &free_word, 1, memory_order_acquire, memory_order_relaxed)) {
        do
            for (uint32_t i = 0; i < looks; i++) look_again();
        while (atomic_load_explicit(word, memory_order_relaxed));
        if (looks < MOST_LOOKS) looks *= 2;
        free_word = 0;
    }
}
static void unlock(_Atomic uint32_t *word) { atomic_store_explicit(word, 0, memory_order_release); }

/* ---- Stacks: a page each ---- */

enum { SLOT = 16 * 1024 };
struct top { /* the last words of a slot */
    struct top *next;
    long woken;
};

static struct top *make_stacks(long n) {
    char *slots = mmap(NULL, (size_t)n * SLOT, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (slots == MAP_FAILED) fail("mmap: %s", strerror(errno));
    struct top *first = NULL, **at = &first;
    for (long i = 0; i < n; i++) {
        (void)madvise(slots + i * SLOT, (size_t)sysconf(_SC_PAGESIZE), MADV_GUARD_INSTALL); /* before Linux 6.13 none is set */
        *at = (struct top *)(void *)(slots + (i + 1) * SLOT) - 1;
        at = &(*at)->next;
    }
    *at = NULL;
    return first;
}
static long wake(struct top *first) {
    long n = 0;
    for (; first; first = first->next, n++) first->woken = 1;
    return n;
}

static void parked(const char *row, long n) {
    long before = memory();
    duration begin = now();
    struct top *first = make_stacks(n);
    duration created = now() - begin;
    long after = memory();
    begin = now();
    expect(row, wake(first), n);
    duration woken = now() - begin;
    print_each("parked-create", created, n);
    printf("parked-bytes %.0f bytes\n", (double)(after - before) / (double)n);
    print_each("parked-wake", woken, n);
}
static void cancel(const char *row, long n) {
    struct top *first = make_stacks(n);
    duration begin = now();
    expect(row, wake(first), n);
    print_each(row, now() - begin, n);
}

/* ---- Two threads that sleep ---- */

static _Atomic uint32_t turn;
static long turns;

static void take_turns(uint32_t mine) {
    for (long i = 0; i < turns; i++) {
        while (atomic_load(&turn) != mine) syscall(SYS_futex, &turn, FUTEX_WAIT_PRIVATE, !mine, NULL, NULL, 0);
        atomic_store(&turn, !mine);
        syscall(SYS_futex, &turn, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    }
}
static void *one_side(void *arg) {
    take_turns(atomic_fetch_add((_Atomic uint32_t *)arg, 1));
    return NULL;
}
static void tied(const char *row, long n) {
    _Atomic uint32_t sides = 0;
    turns = n;
    print_each(row, on_threads(2, one_side, &sides), n);
}

/* ---- A ring under a lock ---- */

struct ring {
    _Atomic uint32_t lock;
    _Atomic long in, out; /* changed under the lock */
    long capacity, n;
    bool one_way;         /* the caller's side only puts, the other one only takes */
    _Atomic uint32_t sides;
    _Atomic long sum;
    long *slots;
};

static bool put(struct ring *r) {
    lock(&r->lock);
    long in = r->in;
    bool room = in - r->out < r->capacity && in < r->n;
    if (room) {
        r->slots[in % r->capacity] = in + 1;
        atomic_store_explicit(&r->in, in + 1, memory_order_relaxed);
    }
    unlock(&r->lock);
    return room;
}
static bool take(struct ring *r, long *sum) {
    lock(&r->lock);
    long out = r->out;
    bool any = out < r->in;
    if (any) {
        *sum += r->slots[out % r->capacity];
        atomic_store_explicit(&r->out, out + 1, memory_order_relaxed);
    }
    unlock(&r->lock);
    return any;
}
static void *ring_side(void *arg) {
    struct ring *r = arg;
    uint32_t side = atomic_fetch_add(&r->sides, 1);
    long sum = 0;
    while (atomic_load_explicit(&r->out, memory_order_relaxed) < r->n) {
        if (!r->one_way || side == 0)
            while (put(r)) {
            }
        if (!r->one_way || side == 1)
            while (take(r, &sum)) {
            }
        look_again();
    }
    atomic_fetch_add(&r->sum, sum);
    return NULL;
}
static void ring(const char *row, long n, long capacity, bool one_way) {
    struct ring r = { .n = n, .capacity = capacity, .one_way = one_way && procs > 1, .slots = ARRAY(capacity, long) };
    duration total = on_threads(procs > 1 ? 2 : 1, ring_side, &r);
    expect(row, r.sum, triangle(n));
    print_each(row, total, n);
    free(r.slots);
}
static void spsc_128(const char *row, long n) { ring(row, n, 128, true); }
static void spsc_1024(const char *row, long n) { ring(row, n, 1024, true); }
static void mpmc_128(const char *row, long n) { ring(row, n, 128, false); }

/* ---- Locks ---- */

struct channel {
    _Alignas(64) _Atomic uint32_t lock;
    _Atomic uint32_t ready;
};

static void select_64(const char *row, long n) {
    enum { ARMS = 64 };
    static struct channel all[ARMS];
    long found = 0;
    duration begin = now();
    for (long i = 0; i < n; i++) {
        for (int k = 0; k < ARMS; k++) found += atomic_load(&all[k].ready);
        for (int k = 0; k < ARMS; k++) lock(&all[k].lock);
        for (int k = 0; k < ARMS; k++) found += atomic_load(&all[k].ready);
        for (int k = 0; k < ARMS; k++) unlock(&all[k].lock);
    }
    print_each(row, now() - begin, n);
    expect(row, found, 0);
}

static struct {
    _Alignas(64) _Atomic uint32_t word; /* 1: held */
    long count, n;
} mutex;
static void *count_up(void *arg) {
    for (bool more = true; more;) {
        uint32_t looks = FEWEST_LOOKS;
        while (atomic_fetch_or_explicit(&mutex.word, 1, memory_order_acquire) & 1) {
            do
                for (uint32_t i = 0; i < looks; i++) look_again();
            while (atomic_load_explicit(&mutex.word, memory_order_relaxed) & 1);
            if (looks < MOST_LOOKS) looks *= 2;
        }
        more = mutex.count < mutex.n;
        mutex.count += more;
        uint32_t held = 1;
        if (!atomic_compare_exchange_strong_explicit(&mutex.word, &held, 0, memory_order_release, memory_order_relaxed))
            fail("the lock is not held");
    }
    return NULL;
}
static void mutexes(const char *row, long n) {
    mutex.n = n;
    duration total = on_threads(strcmp(row, "mutex-alone") ? procs : 1, count_up, NULL);
    expect(row, mutex.count, n);
    print_each(row, total, n);
}

static _Atomic uint32_t readers;
__attribute__((noinline)) static void enter(void) { atomic_fetch_add(&readers, 1); }
__attribute__((noinline)) static void leave(void) { atomic_fetch_sub(&readers, 1); }
static void rwmutexes(const char *row, long n) {
    duration begin = now();
    for (long i = 0; i < n; i++) enter(), leave();
    print_each(row, now() - begin, n);
    expect(row, readers, 0);
}

/* ---- Sleeping ---- */

static void sleeps(const char *row, long n) {
    struct timespec asked = { 0, strstr(row, "50us") ? 50000 : 1000000 };
    duration *late = ARRAY(n, duration);
    prctl(PR_SET_TIMERSLACK, 1UL, 0, 0, 0);
    for (long i = 0; i < n; i++) {
        duration begin = now();
        clock_nanosleep(CLOCK_MONOTONIC, 0, &asked, NULL);
        late[i] = now() - begin - asked.tv_nsec;
    }
    print_percentiles(row, late, n);
    free(late);
}

static const struct {
    const char *name;
    void (*run)(const char *row, long n);
} rows[] = {
    { "parked", parked },
    { "pingpong-tied", tied },
    { "spsc-128", spsc_128 },
    { "spsc-1024", spsc_1024 },
    { "mpmc-2x2-128", mpmc_128 },
    { "mpmc-4x4-128", mpmc_128 },
    { "mpmc-16x16-128", mpmc_128 },
    { "select-64-none", select_64 },
    { "cancel-waiters", cancel },
    { "cancel-receivers", cancel },
    { "cancel-children", cancel },
    { "sleep-50us", sleeps },
    { "sleep-1ms", sleeps },
    { "mutex-alone", mutexes },
    { "mutex-2", mutexes },
    { "mutex-16", mutexes },
    { "mutex-1000", mutexes },
    { "rwmutex-alone", rwmutexes },
    { "rwmutex-16", rwmutexes },
};

int main(int argc, char **argv) {
    long n = argc == 3 ? strtol(argv[2], NULL, 10) : 0;
    const char *workers = getenv("BENCH_PROCS");
    if (n <= 0) {
        fputs("usage: bench-bare ROW N\nrows:", stderr);
        for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) fprintf(stderr, " %s", rows[i].name);
        fputc('\n', stderr);
        return 2;
    }
    long asked = workers ? strtol(workers, NULL, 10) : 1;
    procs = asked < 1 ? 1 : asked > MOST_THREADS ? MOST_THREADS : (int)asked;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (strcmp(argv[1], rows[i].name) == 0) {
            rows[i].run(argv[1], n);
            return 0;
        }
    fprintf(stderr, "bench-bare: no row is named %s\n", argv[1]);
    return 3;
}
