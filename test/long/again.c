/*
 * The same program judged again and again: each time the same verdict, word for word, on a process that goes on working
 * meanwhile; and nothing of a proof stays behind, no descriptor, no child, no memory.
 */
#include "../leak/proof_test.h"
#include "soak.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/wait.h>
#include <time.h>

/* ---- Who has leaked -------------------------------------------------------------------------- */

/* One of everything, in a block that only its goroutine knows. */
struct things {
    int_chan ch, full;
    weir_mutex m;
    weir_rwmutex rw;
    weir_cond cond;
    weir_wg wg;
    weir_sem sem;
    weir_timer *timer;
    weir_ctx *ctx;
    weir_scope scope;
};
static NOINLINE struct things *new_things(void) {
    struct things *t = calloc(1, sizeof *t);
    CHECK(t);
    t->ch = weir_make(int_chan, 0), t->full = weir_make(int_chan, 1);
    CHECK_EQ(weir_try_send(t->full, 1), 0);
    return t;
}
static void receive(struct things *t) { STUCK("chan receive", weir_recv(t->ch, NULL)); }
static void send(struct things *t) { STUCK("chan send", weir_send(t->full, 2)); }
static void receive_nil(void) { STUCK("chan receive (nil chan)", weir_recv((int_chan){ 0 }, NULL)); }
static void choose(struct things *t) {
    STUCK("select", weir_select(weir_on_recv(t->ch, NULL), weir_on_send(t->full, 3)));
}
static void choose_nothing(void) { STUCK("select (no cases)", weir_select()); }
static void lock_twice(struct things *t) {
    CHECK_EQ(weir_mutex_lock(&t->m), 0);
    STUCK("sync.Mutex.Lock", weir_mutex_lock(&t->m));
}
static void write_while_reading(struct things *t) {
    CHECK_EQ(weir_rwmutex_rlock(&t->rw), 0);
    STUCK("sync.RWMutex.Lock", weir_rwmutex_lock(&t->rw));
}
static void wait_cond(struct things *t) {
    CHECK_EQ(weir_mutex_lock(&t->m), 0);
    STUCK("sync.Cond.Wait", weir_cond_wait(&t->cond, &t->m));
}
static void wait_group(struct things *t) {
    CHECK_EQ(weir_wg_add(&t->wg, 1), 0);
    STUCK("sync.WaitGroup.Wait", weir_wg_wait(&t->wg));
}
static void acquire(struct things *t) {
    CHECK_EQ(weir_sem_init(&t->sem, 2), 0);
    CHECK_EQ(weir_sem_acquire(&t->sem, 1), 0);
    STUCK("semacquire", weir_sem_acquire(&t->sem, 2));
}
static void wait_stopped_timer(struct things *t) {
    t->timer = weir_timer_new(WEIR_HOUR);
    CHECK(t->timer && weir_timer_stop(t->timer));
    STUCK("chan receive", weir_timer_wait(t->timer, NULL));
}
static void receive_under_own_context(struct things *t) {
    t->ctx = weir_ctx_with_cancel(NULL);
    weir_with(t->ctx) STUCK("chan receive", weir_recv(t->ch, NULL));
}
static void wait_for_child(struct things *t) {
    CHECK_EQ(weir_scope_open(&t->scope, NULL), 0);
    SCOPE_START(&t->scope, receive, t);
    STUCK("weir.Scope.Wait", weir_scope_wait(&t->scope));
}
/* These two could wake each other, and nobody could wake them. */
static void receive_then_send(int_chan in, int_chan out) {
    STUCK("chan receive", weir_recv(in, NULL));
    CHECK_EQ(weir_send(out, 1), 0);
}
enum { LEAKED_EACH = 16, ROUNDS = 3 };
static void start_leaking(void) {
    for (int i = 0; i < ROUNDS; i++) {
        START(receive, new_things());
        START(send, new_things());
        START(receive_nil);
        START(choose, new_things());
        START(choose_nothing);
        START(lock_twice, new_things());
        START(write_while_reading, new_things());
        START(wait_cond, new_things());
        START(wait_group, new_things());
        START(acquire, new_things());
        START(wait_stopped_timer, new_things());
        START(receive_under_own_context, new_things());
        START(wait_for_child, new_things()); /* two: the child as well */
        int_chan a = weir_make(int_chan, 0), b = weir_make(int_chan, 0);
        START(receive_then_send, a, b);
        START(receive_then_send, b, a);
    }
}

/* ---- Who lives, though blocked --------------------------------------------------------------- */

static _Atomic int lives, ended;
static void live(int_chan ch) {
    lives++;
    CHECK_EQ(weir_recv(ch, NULL), 0);
    weir_release(ch);
    ended++;
}
static NOINLINE weir_chan *start_live(void) {
    int_chan ch = weir_make(int_chan, 0);
    TEST_GO(live, ch);
    return weir_chan_of(ch);
}
static void wake(void *ch) { CHECK_EQ(weir_chan_send(ch, &(int){ 1 }), 0); }

static weir_chan *volatile in_global;
static struct desk {
    long number;
    weir_chan *drawer;
} *volatile in_struct;
/* That fork() does not copy, and of a size that would be noticed if copies of it stayed. */
enum { UNCOPIED = 64 << 10 };
static weir_chan **volatile in_uncopied;

static _Thread_local weir_chan *volatile in_thread_local;
static int bell[2];
static void *keep_in_thread_local(void *ch) {
    char c;
    in_thread_local = ch;
    ch = NULL;
    lives++;
    while (read(bell[0], &c, 1) != 1) {
    }
    wake(in_thread_local);
    return NULL;
}
/* What the test itself needs to end them, veiled. */
static uintptr_t timer, deadline;
static pthread_t thread;

static void live_under_deadline(weir_ctx *ctx) {
    int_chan own = weir_make(int_chan, 0);
    lives++;
    weir_with(ctx) CHECK_EQ(weir_recv(own, NULL), -ECANCELED);
    weir_release(own);
    ended++;
}
/* Nobody else knows the second: it lives because this one does. */
static void live_and_hold(int_chan first, weir_chan *second) {
    live(first);
    wake(second);
}
static void start_living(void) {
    in_global = start_live();

    in_struct = malloc(sizeof *in_struct);
    CHECK(in_struct);
    in_struct->drawer = start_live();

    in_uncopied = mmap(NULL, UNCOPIED, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(in_uncopied != MAP_FAILED);
    CHECK_EQ(madvise(in_uncopied, UNCOPIED, MADV_DONTFORK), 0);
    in_uncopied[1000] = start_live();

    CHECK_EQ(pipe(bell), 0);
    thread = thread_start(keep_in_thread_local, start_live());

    timer = veil(weir_after_func(WEIR_HOUR, wake, start_live()));
    weir_ctx *ctx = weir_ctx_with_timeout(NULL, WEIR_HOUR);
    deadline = veil(ctx);
    TEST_GO(live_under_deadline, ctx);

    int_chan first = weir_make(int_chan, 0);
    in_struct->number = (long)(uintptr_t)weir_chan_of(first);
    TEST_GO(live_and_hold, first, start_live());
    TEST_UNTIL(lives == 9);
}
static void end_living(void) {
    wake(in_global), wake(in_struct->drawer), wake((weir_chan *)in_struct->number), wake(in_uncopied[1000]);
    CHECK_EQ(write(bell[1], "x", 1), 1);
    CHECK(weir_timer_reset(unveil(timer), 1));
    weir_ctx_cancel(unveil(deadline));
}

/* ---- Who works ------------------------------------------------------------------------------- */

static _Atomic bool over;
static _Atomic int working;
static _Atomic long worked;
static pthread_t worker_threads[2];
/* Not in weir: a worker that fires a timer has stale words on its stack, and they count then. */
static void rest(void) { nanosleep(&(struct timespec){ .tv_nsec = 50000 }, NULL); }
static void ping(int_chan to, int_chan from) {
    for (int i = 0, v; !over; i++) {
        CHECK_EQ(weir_send(to, i), 0);
        CHECK_EQ(weir_recv(from, &v), 0);
        CHECK_EQ(v, i + 1);
        worked++;
        if (i % 8 == 0) rest();
    }
    weir_close(to);
    weir_release(to), weir_release(from);
    working--;
}
static void pong(int_chan from, int_chan to) {
    for (int v; weir_recv(from, &v) == 0;) CHECK_EQ(weir_send(to, v + 1), 0);
    weir_release(from), weir_release(to);
    working--;
}
/* Who is stopped inside malloc may have the neighbour of a block in hand, so that a leak that lies there is missed
 * that time, to be found the next. Therefore threads, which have heaps of their own. */
static void *take_and_give_memory(void *arg) {
    enum { BLOCKS = 50 };
    void *blocks[BLOCKS] = { 0 };
    for (unsigned i = 0; !over; i++) {
        void **b = &blocks[i * 7 % BLOCKS];
        free(*b);
        CHECK((*b = malloc(i % 97 ? i % 1009 : 200000 + i % 30011)));
        worked++;
        if (i % 64 == 0) rest();
    }
    for (int i = 0; i < BLOCKS; i++) free(blocks[i]);
    return arg;
}
static void start_working(void) {
    int_chan to = weir_make(int_chan, 0), from = weir_make(int_chan, 0);
    working = 2;
    TEST_GO(ping, weir_retain(to), weir_retain(from));
    TEST_GO(pong, to, from);
}

/* ---- What the process has -------------------------------------------------------------------- */

struct belongings {
    long descriptors, mappings, writable_kib;
};
static NOINLINE struct belongings belongings(void) {
    struct belongings b = { 0 };
    char line[512], mode[8];
    unsigned long lo, hi;
    FILE *maps = fopen("/proc/self/maps", "re");
    CHECK(maps);
    for (; fgets(line, sizeof line, maps); b.mappings++)
        if (sscanf(line, "%lx-%lx %7s", &lo, &hi, mode) == 3 && mode[1] == 'w')
            b.writable_kib += (long)((hi - lo) >> 10);
    fclose(maps);
    for (int fd = 0; fd < 10000; fd++) b.descriptors += fcntl(fd, F_GETFD) >= 0;
    CHECK_EQ(waitpid(-1, NULL, WNOHANG), -1);
    CHECK_EQ(errno, ECHILD); /* no child, not even a dead one */
    return b;
}

static NOINLINE void nothing_stayed(const struct belongings *early, long proofs) {
    struct belongings late = belongings();
    CHECK_EQ(late.descriptors, early->descriptors);
    /* Threads may have begun heaps of their own. */
    CHECK_LE(late.mappings, early->mappings + 40);
    CHECK_LE(late.writable_kib, early->writable_kib + 4096 + proofs * (UNCOPIED >> 11));
}

/* ---- Again and again ------------------------------------------------------------------------- */

/*
 * A goroutine once proven to have leaked is listed without being looked at again, unless something is registered
 * meanwhile: so every other time all are judged from the beginning. Not where the compiler leaves stale words in every
 * frame: then a worker that is stopped in the scheduler makes a leak seem reached, now and then.
 */
#ifdef __OPTIMIZE__
enum { ANEW = 2 };
#else
enum { ANEW = INT_MAX };
#endif
static NOINLINE bool judged_alike(long i) {
    static char anything;
    weir_leak_report *r = NULL;
    if (i % ANEW == ANEW - 1) weir_leak_ignore(&anything), weir_leak_unignore(&anything);
    int n = weir_leaks(&r);
    if (n < 0 && n != -EBUSY) no_proof_(r, n);
    if (n >= 0) {
        CHECK_EQ(weir_leak_report_count(r), n);
        compare_(r);
        CHECK_EQ(n, n_expected_);
    }
    weir_leak_report_free(r);
    return n >= 0;
}

__attribute__((constructor)) static void before_all(void) { take_longer(1); }

TEST(a_thousand_proofs_say_the_same_and_leave_nothing_behind) {
    PROOF_WANTS_SIGNALS();
    RECALL_WANTS_GLIBC();
    long wanted = long_seconds() < 100 ? 200 : 1000, conclusive = 0, inconclusive = 0;
    struct belongings early = { 0 };
    /* First of all, so that their heaps are new ones. */
    for (int i = 0; i < 2; i++) worker_threads[i] = thread_start(take_and_give_memory, NULL);
    TEST_UNTIL(worked > 100);
    leak(LEAKED_EACH * ROUNDS, start_leaking);
    tidily(start_living);
    tidily(start_working);
    while (conclusive < wanted && inconclusive < wanted) {
        if (judged_alike(conclusive)) conclusive++;
        else inconclusive++;
        if (conclusive == 10) early = belongings();
        else if (conclusive % 100 == 0) nothing_stayed(&early, conclusive);
    }
    if (conclusive < wanted) FAIL("%ld proofs, and %ld inconclusive", conclusive, inconclusive);
    nothing_stayed(&early, conclusive);
    /* They worked all the while, and those who were not reported were well. */
    CHECK_GE(worked, wanted);
    CHECK_EQ(ended, 0);
    over = true;
    TEST_UNTIL(working == 0);
    for (int i = 0; i < 2; i++) thread_end(worker_threads[i]);
    tidily(end_living);
    TEST_UNTIL(ended == 8);
    thread_end(thread);
}
