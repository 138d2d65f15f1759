/* Out of memory: constructors return a context that has ended already. */
#include "test.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "ctx/ctx.h"

/* calloc and malloc fail while this thread says so. glibc lets a program replace them, and call its own. */
#if defined(__GLIBC__) && !defined(TEST_ASAN) && !defined(TEST_TSAN)
#define CAN_FAIL 1
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t n, size_t size);
static __thread int left_to_succeed = -1; /* < 0: as many as you like */
static int may(void) { return left_to_succeed < 0 || left_to_succeed-- > 0 || (left_to_succeed = 0); }
void *malloc(size_t size) { return may() ? __libc_malloc(size) : NULL; }
void *calloc(size_t n, size_t size) { return may() ? __libc_calloc(n, size) : NULL; }
/* And mmap, by which stacks come. */
static _Atomic bool no_maps;
void *mmap(void *at, size_t size, int prot, int flags, int fd, off_t offset) {
    if (!atomic_load(&no_maps)) return (void *)syscall(SYS_mmap, at, size, prot, flags, fd, offset);
    errno = ENOMEM;
    return MAP_FAILED;
}
#define WITHOUT_MEMORY_AFTER(n) for (int once_ = ((left_to_succeed = (n)), 1); once_; once_ = 0, left_to_succeed = -1)
#else
#define CAN_FAIL 0
#define WITHOUT_MEMORY_AFTER(n) while (SKIP("malloc cannot be made to fail here"), 0)
#endif

static void check_dead(weir_ctx *ctx) {
    CHECK(ctx);
    CHECK_EQ(weir_ctx_err(ctx), -ECANCELED);
    CHECK_EQ(weir_ctx_cause(ctx), -ENOMEM);
}

TEST(every_constructor_returns_an_ended_context) {
    weir_ctx *got[5] = { NULL, NULL, NULL, NULL, NULL };
    WITHOUT_MEMORY_AFTER(0) {
        got[0] = weir_ctx_with_cancel(NULL);
        got[1] = weir_ctx_with_timeout(NULL, WEIR_HOUR);
        got[2] = weir_ctx_with_deadline(NULL, weir_now() + WEIR_HOUR);
        got[3] = weir_ctx_without_cancel(NULL);
        got[4] = weir_ctx_with_value(NULL, got, got);
    }
    for (int i = 0; i < 5; i++) {
        check_dead(got[i]);
        weir_ctx_release(got[i]);
        check_dead(got[i]);
    }
}

TEST(the_shared_context_behaves_like_any_that_has_ended) {
    weir_ctx *dead = &wr_ctx_no_memory.ctx;
    check_dead(dead);
    weir_ctx_cancel_cause(dead, -EIO);
    CHECK_EQ(weir_ctx_cause(dead), -ENOMEM);
    CHECK(!weir_ctx_deadline(dead, NULL));
    CHECK_EQ(weir_try_recv(weir_ctx_done(dead), NULL), -EPIPE);
    weir_with(dead) {
        CHECK_EQ(weir_sleep(WEIR_HOUR), -ECANCELED);
        CHECK_EQ(weir_select(weir_on_done(NULL)), 0);
    }
    weir_ctx *child = weir_ctx_with_cancel(dead), *value = weir_ctx_with_value(dead, &dead, &child);
    check_dead(child);
    check_dead(value);
    CHECK(weir_ctx_value(value, &dead) == &child);
    weir_ctx_release(child), weir_ctx_release(value);
    CHECK(weir_ctx_retain(dead) == dead);
}

TEST(an_ended_context_has_a_closed_done_channel_even_without_memory) {
    weir_ctx *ctx = weir_ctx_with_cancel(NULL), *lives = weir_ctx_with_cancel(NULL);
    weir_ctx_cancel(ctx);
    weir_done_chan done = { 0 }, none = { 0 };
    WITHOUT_MEMORY_AFTER(0) done = weir_ctx_done(ctx), none = weir_ctx_done(lives);
    CHECK_EQ(weir_try_recv(done, NULL), -EPIPE);
    CHECK_EQ(weir_recv(done, NULL), -EPIPE);
    CHECK(!weir_chan_of(none));
    weir_ctx_release(ctx), weir_ctx_release(lives);
}

static void nothing(void *arg) { (void)arg; }
TEST(an_after_func_says_that_there_is_no_memory) {
    weir_ctx *ctx = weir_ctx_with_cancel(NULL);
    weir_timer *t = NULL;
    WITHOUT_MEMORY_AFTER(0) t = weir_ctx_after_func(ctx, nothing, NULL);
    CHECK(!t);
    weir_ctx_release(ctx);
}

TEST(blocks_run_under_an_ended_context) {
    int runs = 0;
    WITHOUT_MEMORY_AFTER(0) {
        weir_timeout(WEIR_HOUR) {
            check_dead(weir_ctx_current());
            CHECK_EQ(weir_sleep(WEIR_HOUR), -ECANCELED);
            runs++;
        }
        weir_shield(WEIR_HOUR) {
            check_dead(weir_ctx_current());
            runs++;
        }
    }
    CHECK_EQ(runs, 2);
    CHECK(weir_ctx_current() == weir_ctx_background());
}

TEST(a_scope_cannot_be_opened) {
    weir_scope s;
    int err = 0, ran = 0;
    for (int n = 0; n < 2; n++) {
        int e = 0;
        WITHOUT_MEMORY_AFTER(n) e = weir_scope_open(&s, NULL);
        CHECK_EQ(e, -ENOMEM);
        CHECK_EQ(weir_scope_wait(&s), -EINVAL);
        CHECK_EQ(weir_scope_close(&s), 0);
        WITHOUT_MEMORY_AFTER(n) weir_scoped(t, &err) ran = 1;
        CHECK_EQ(err, -ENOMEM);
        CHECK_EQ(ran, 0);
    }
    CHECK(weir_ctx_current() == weir_ctx_background());
}

#if CAN_FAIL
static void hold(weir_unit_chan until) { CHECK_EQ(weir_recv(until, NULL), -EPIPE); }
static void note(void *ran) { atomic_fetch_add((_Atomic int *)ran, 1); }

TEST(an_after_func_runs_as_soon_as_there_is_a_stack_for_it) {
    weir_unit_chan until = weir_make(weir_unit_chan, 0);
    weir_ctx *ctx = weir_ctx_with_cancel(NULL);
    _Atomic int ran = 0;
    int e;
    weir_timer *t = weir_ctx_after_func(ctx, note, &ran);
    atomic_store(&no_maps, true);
    while ((e = weir_go(hold, until)) == 0) continue;
    CHECK_EQ(e, -ENOMEM);
    weir_ctx_cancel(ctx);
    CHECK(!weir_timer_stop(t)); /* it will run */
    weir_timer_free(t);
    CHECK_EQ(weir_sleep(5 * WEIR_MILLISECOND), 0);
    CHECK_EQ(atomic_load(&ran), 0);
    atomic_store(&no_maps, false);
    TEST_UNTIL(atomic_load(&ran) == 1);
    CHECK_EQ(weir_close(until), 0);
    TEST_UNTIL(weir_count() == 1);
    weir_ctx_release(ctx);
    weir_release(until);
}

EXIT_TEST(weir_scoped_without_a_place_for_the_error_ends_the_process, 2, "fatal error: weir_scoped: out of memory") {
    WITHOUT_MEMORY_AFTER(0) weir_scoped(s) weir_yield();
}
#endif
