/*
 * Memory that runs out: a program is run again and again, and each time another one of its allocations fails, the
 * first, the second, … until a run gets by without. Every call must then have given its documented error, or have ended the
 * process with a message that says what was missing; and what did not need that memory must still work.
 *
 * Dumps are left out: libdw 0.188 asserts when its memory runs out.
 *
 * Allocation is made to fail by a malloc of this program's own in front of the C library's, so glibc only and without sanitizers.
 */
#include "test.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(__GLIBC__) && !defined(TEST_TSAN) && !defined(TEST_ASAN)

void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);

static _Atomic long allowed = 1L << 60; /* allocations until one fails */
static _Atomic int failed;              /* has one? */

static int refuse(void) {
    if (__atomic_sub_fetch((long *)&allowed, 1, __ATOMIC_SEQ_CST) != 0) return 0;
    failed = 1;
    errno = ENOMEM;
    return 1;
}
void *malloc(size_t n) { return refuse() ? NULL : __libc_malloc(n); }
void *calloc(size_t n, size_t size) { return refuse() ? NULL : __libc_calloc(n, size); }
void *realloc(void *p, size_t n) { return refuse() ? NULL : __libc_realloc(p, n); }

typedef WEIR_CHAN(int) int_chan;

/* In a child: the scenario with its k-th allocation failing. How it ended, and what it said. */
static int run_failing(int (*scenario)(void *), long k, char *said, size_t size, int *did_fail) {
    int out[2], flag[2], status;
    CHECK_EQ(pipe(out), 0);
    CHECK_EQ(pipe(flag), 0);
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        dup2(out[1], 2);
        allowed = k;
        int e = weir_run(scenario, NULL);
        allowed = 1L << 60;
        char hit = (char)failed;
        (void)!write(flag[1], &hit, 1);
        _exit(e == -ENOMEM || e == -EAGAIN ? 0 : e);
    }
    close(out[1]), close(flag[1]);
    size_t n = 0;
    for (ssize_t got; n < size - 1 && (got = read(out[0], said + n, size - 1 - n)) > 0;) n += (size_t)got;
    said[n] = '\0';
    char hit = 1; /* a process that ended with a message had one */
    (void)!read(flag[0], &hit, 1);
    close(out[0]), close(flag[0]);
    CHECK_EQ(waitpid(child, &status, 0), child);
    *did_fail = hit;
    return status;
}

static void each_allocation_fails(int (*scenario)(void *)) {
    char said[4096];
    int did_fail = 1;
    long k = 1;
    for (; did_fail; k++) {
        CHECK_LE(k, 2000);
        int status = run_failing(scenario, k, said, sizeof said, &did_fail);
        if (WIFSIGNALED(status)) FAIL("allocation %ld: killed by signal %d: %s", k, WTERMSIG(status), said);
        if (WEXITSTATUS(status) == 0) continue;
        if (WEXITSTATUS(status) != 2 || !strstr(said, "out of memory"))
            FAIL("allocation %ld: exit status %d: %s", k, WEXITSTATUS(status), said);
    }
    CHECK_GE(k, 3); /* something was allocated, and each of these has failed once */
}

#define DOCUMENTED(e) ((e) == 0 || (e) == -ENOMEM)

static void receives(int_chan ch, int *got) {
    if (weir_recv(ch, got)) *got = -1;
    weir_release(ch);
}

static int uses_channels(void *arg) {
    int_chan ch;
    int e = weir_make_try(&ch, 2);
    if (e) return e == -ENOMEM ? 0 : 10;
    if (weir_send(ch, 1) || weir_send(ch, 2)) return 11;
    int a = 0, b = 0;
    if (weir_recv(ch, &a) || weir_recv(ch, &b) || a != 1 || b != 2) return 12;
    int got = 0;
    e = weir_go(receives, weir_retain(ch), &got);
    if (!DOCUMENTED(e)) return 13;
    if (e) {
        weir_release(ch);
    } else {
        if (weir_send(ch, 7)) return 14;
        while (weir_count() > 1) weir_yield();
        if (got != 7) return 15;
    }
    weir_release(ch);
    return 0;
}
PLAIN_TEST(channels_and_goroutines) { each_allocation_fails(uses_channels); }

static void is_woken(int_chan ch, _Atomic int *woken) {
    if (weir_recv(ch, NULL) == -EPIPE) ++*woken;
}
static int wakes_many(void *arg) {
    _Atomic int woken = 0;
    int n = 0;
    int_chan ch;
    int no_chan = weir_make_try(&ch, 0);
    if (no_chan) return no_chan == -ENOMEM ? 0 : 15;
    for (; n < 400; n++) {
        int e = weir_go(is_woken, ch, &woken);
        if (!DOCUMENTED(e)) return 16;
        if (e) break;
    }
    test_until_n_parked((size_t)n, "chan receive");
    weir_close(ch);
    while (weir_count() > 1) weir_yield();
    weir_release(ch);
    return woken == n ? 0 : 17;
}
PLAIN_TEST(many_are_woken) { each_allocation_fails(wakes_many); }

static int uses_contexts(void *arg) {
    static const char key;
    weir_ctx *a = weir_ctx_with_cancel(NULL), *b = weir_ctx_with_timeout(a, WEIR_HOUR),
             *c = weir_ctx_with_value(b, &key, &a), *d = weir_ctx_without_cancel(c);
    if (!a || !b || !c || !d) return 20;
    weir_ctx *all[] = { a, b, c, d };
    for (int i = 0; i < 4; i++)
        if (weir_ctx_err(all[i]) && weir_ctx_cause(all[i]) != -ENOMEM) return 21;
    (void)weir_ctx_done(b);
    weir_ctx_cancel(a);
    if (!weir_ctx_err(a) || !weir_ctx_err(b)) return 22;
    for (int i = 0; i < 4; i++) weir_ctx_release(all[i]);
    weir_timeout(WEIR_MILLISECOND) {
        int e = weir_sleep(WEIR_HOUR);
        if (e != -ETIMEDOUT && e != -ECANCELED && e != -ENOMEM) return 23;
    }
    return 0;
}
PLAIN_TEST(contexts) { each_allocation_fails(uses_contexts); }

static void call(void *count) { __atomic_add_fetch((int *)count, 1, __ATOMIC_SEQ_CST); }

static int uses_timers(void *arg) {
    static int calls;
    int e = weir_sleep(WEIR_MICROSECOND);
    if (!DOCUMENTED(e)) return 30;
    weir_timer *t = weir_timer_new(WEIR_MICROSECOND);
    if (t && weir_timer_wait(t, NULL)) return 31;
    weir_timer_free(t);
    t = weir_after_func(WEIR_MICROSECOND, call, &calls);
    while (t && !__atomic_load_n(&calls, __ATOMIC_SEQ_CST)) weir_yield(); /* it may come late, but it comes */
    weir_timer_free(t);
    return 0;
}
PLAIN_TEST(timers) { each_allocation_fails(uses_timers); }

static int child(int *count) {
    __atomic_add_fetch(count, 1, __ATOMIC_SEQ_CST);
    return 0;
}
static int uses_scopes(void *arg) {
    int count = 0, started = 0, err = 0;
    weir_scoped(s, &err) {
        for (int i = 0; i < 4; i++) {
            int e = weir_scope_go(&s, child, &count);
            if (!DOCUMENTED(e) && e != -ECANCELED) return 40;
            if (!e) started++;
        }
    }
    if (err == 0 && count != started) return 41;
    if (err && err != -ENOMEM && err != -ECANCELED) return 42;
    return 0;
}
PLAIN_TEST(scopes) { each_allocation_fails(uses_scopes); }

static int uses_decorations(void *arg) {
    static int deferred; /* it runs when this function has returned */
    weir_name("worker %d", 3);
    weir_label("tenant", "a");
    weir_defer(call, &deferred);
    return 0;
}
PLAIN_TEST(names_labels_and_deferred_calls) { each_allocation_fails(uses_decorations); }

#else
PLAIN_TEST(failing_memory) { SKIP("this needs glibc, and a malloc that no sanitizer has taken"); }
#endif
