/* The report about children that outlive a cancel. */
#include "test.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "ctx/ctx.h"

/* Before the runtime asks for it. */
__attribute__((constructor)) static void set_grace(void) { setenv("WEIR_SCOPE_GRACE", "30ms", 1); }

/* What this process has said on standard error so far. (The harness has put a file there.) */
static char *said(void) {
    static char text[1 << 20];
    ssize_t n = pread(STDERR_FILENO, text, sizeof text - 1, 0);
    if (n < 0) SKIP("standard error is not a file");
    text[n] = 0;
    return text;
}
static int times(const char *hay, const char *needle) {
    int n = 0;
    for (; (hay = strstr(hay, needle)); hay += strlen(needle)) n++;
    return n;
}

static _Atomic uint64_t stubborn_id, bystander_id;

static void stubborn(weir_unit_chan until) {
    atomic_store(&stubborn_id, weir_id());
    weir_shield(WEIR_HOUR) CHECK_EQ(weir_recv(until, NULL), 0);
}

TEST(a_child_that_outlives_the_grace_is_reported_again_and_again_and_waited_for) {
    weir_unit_chan until = weir_make(weir_unit_chan, 0);
    weir_scope s;
    CHECK_EQ(weir_scope_open(&s, NULL), 0);
    CHECK_EQ(weir_scope_go(&s, stubborn, until), 0);
    test_until_n_parked(1, "chan receive");
    CHECK_EQ(times(said(), "scope opened at"), 0);
    weir_time start = weir_now();
    weir_scope_cancel(&s);
    TEST_UNTIL(times(said(), "still alive:") >= 1);
    CHECK_GE(weir_now() - start, 30 * WEIR_MILLISECOND);
    TEST_UNTIL(times(said(), "still alive:") >= 3);
    CHECK_GE(weir_now() - start, 90 * WEIR_MILLISECOND);
    CHECK_CONTAINS(said(), "weir: scope opened at ");
    CHECK_CONTAINS(said(), " cancelled ");
    CHECK_CONTAINS(said(), " ago, 1 goroutine still alive:");
    char header[64];
    snprintf(header, sizeof header, "goroutine %llu [chan receive", (unsigned long long)atomic_load(&stubborn_id));
    TEST_UNTIL(strstr(said(), header));
    struct weir_scope_ *in = s.in_;
    wr_scope_retain(in);
    CHECK_EQ(weir_send(until, weir_unit_value), 0);
    CHECK_EQ(weir_scope_close(&s), 0);
    TEST_UNTIL(atomic_load(&in->refs) == 1); /* a report that was being written is through */
    CHECK(!wr_timer_armed(&in->timer));      /* and no other comes */
    wr_scope_release(in);
    weir_release(until);
}

static void bystander(weir_unit_chan until) {
    atomic_store(&bystander_id, weir_id());
    CHECK_EQ(weir_recv(until, NULL), 0);
}

TEST(only_the_children_of_that_scope_are_reported) {
    weir_unit_chan until = weir_make(weir_unit_chan, 0), other = weir_make(weir_unit_chan, 0);
    weir_scope s;
    CHECK_EQ(weir_scope_open(&s, NULL), 0);
    TEST_GO(bystander, other);
    for (int i = 0; i < 3; i++) CHECK_EQ(weir_scope_go(&s, stubborn, until), 0);
    test_until_n_parked(4, "chan receive");
    weir_scope_cancel(&s);
    TEST_UNTIL(times(said(), "3 goroutines still alive:") >= 2);
    TEST_UNTIL(times(said(), "[chan receive") >= 6);
    char header[64];
    snprintf(header, sizeof header, "goroutine %llu [", (unsigned long long)atomic_load(&bystander_id));
    CHECK_EQ(times(said(), header), 0);
    for (int i = 0; i < 3; i++) CHECK_EQ(weir_send(until, weir_unit_value), 0);
    CHECK_EQ(weir_scope_close(&s), 0);
    CHECK_EQ(weir_send(other, weir_unit_value), 0);
    TEST_UNTIL(weir_count() == 1);
    weir_release(until), weir_release(other);
}

static int obey(void) { return weir_sleep(WEIR_HOUR); }

TEST(children_that_obey_are_not_reported) {
    setenv("WEIR_SCOPE_GRACE", "1m", 1);
    weir_scope s;
    CHECK_EQ(weir_scope_open(&s, NULL), 0);
    for (int k = 0; k < 10; k++) CHECK_EQ(weir_scope_go(&s, obey), 0);
    weir_scope_cancel(&s);
    CHECK_EQ(weir_scope_wait(&s), -ECANCELED);
    CHECK(!wr_timer_armed(&s.in_->timer));
    CHECK_EQ(weir_scope_close(&s), -ECANCELED);
    CHECK_EQ(times(said(), "still alive:"), 0);
}

TEST(a_scope_that_is_not_cancelled_is_not_reported) {
    weir_unit_chan until = weir_make(weir_unit_chan, 0);
    weir_scope s;
    CHECK_EQ(weir_scope_open(&s, NULL), 0);
    CHECK_EQ(weir_scope_go(&s, stubborn, until), 0);
    CHECK_EQ(weir_sleep(100 * WEIR_MILLISECOND), 0);
    CHECK_EQ(times(said(), "still alive:"), 0);
    CHECK_EQ(weir_send(until, weir_unit_value), 0);
    CHECK_EQ(weir_scope_close(&s), 0);
    weir_release(until);
}

static void let_go(weir_unit_chan until) {
    TEST_UNTIL(times(said(), "still alive:") >= 1);
    CHECK_EQ(weir_send(until, weir_unit_value), 0);
}

TEST(the_report_also_comes_after_a_deadline) {
    weir_unit_chan until = weir_make(weir_unit_chan, 0);
    weir_ctx *ctx = weir_ctx_with_timeout(NULL, WEIR_HOUR);
    weir_scope s;
    CHECK_EQ(weir_scope_open(&s, ctx), 0);
    CHECK_EQ(weir_scope_go(&s, stubborn, until), 0);
    TEST_GO(let_go, until);
    wr_ctx_end(wr_ending_of(ctx), -ETIMEDOUT, -ETIMEDOUT); /* as its deadline would */
    CHECK_EQ(weir_scope_wait(&s), 0);
    CHECK_EQ(weir_scope_close(&s), 0);
    CHECK_GE(times(said(), "1 goroutine still alive:"), 1);
    weir_ctx_release(ctx);
    weir_release(until);
}
