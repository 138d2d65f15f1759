/* Threads that weir did not start may call everything. */
#include "sched/sched.h"
#undef errno
#define errno (*weir_errno_())
#include "sched_test.h"

#include <malloc.h>

static int_chan ch, back;
static _Atomic int done;

/* Run fn on a thread of its own, and wait for its end. */
static void on_a_thread(void *(*fn)(void *), void *arg) { thread_end(thread_start(fn, arg)); }

/* ---- Who it is ------------------------------------------------------------------------------------------------- */

static uint64_t ids[3];
static void *knows_itself(void *arg) {
    size_t before = (size_t)(intptr_t)arg;
    CHECK_EQ(weir_count(), before + 1);
    uint64_t id = weir_id();
    CHECK(id > 1);
    CHECK_EQ(weir_id(), id);
    CHECK_EQ(weir_sleep(WEIR_MICROSECOND), 0);
    CHECK_EQ(weir_id(), id);
    for (int i = 0; i < 3; i++)
        if (!ids[i]) {
            ids[i] = id;
            break;
        }
    return NULL;
}
TEST(a_thread_counts_as_a_goroutine_while_it_is_there) {
    CHECK_EQ(weir_count(), 1);
    for (int i = 0; i < 3; i++) on_a_thread(knows_itself, (void *)weir_count());
    CHECK_EQ(weir_count(), 1);
    CHECK(ids[0] != ids[1] && ids[1] != ids[2] && ids[0] != ids[2]);
}

static void *never_calls(void *arg) { return arg; }
TEST(a_thread_that_does_not_call_weir_is_none_of_its_business) {
    on_a_thread(never_calls, NULL);
    CHECK_EQ(weir_count(), 1);
}

static void show_label(const char *key, const char *value, void *text) {
    sprintf((char *)text + strlen(text), "%s=%s ", key, value);
}
static void inherits(char *text) {
    wr_labels_each(wr_self(), show_label, text);
    done = 1;
}
static char labels[2][128];
static void *has_labels(void *arg) {
    weir_name("thread %d", 7);
    CHECK_STR(wr_self()->name, "thread 7");
    weir_label("colour", "red"), weir_label("size", "large"), weir_label("colour", "blue"), weir_label("size", NULL);
    wr_labels_each(wr_self(), show_label, labels[0]);
    TEST_GO(inherits, labels[1]);
    while (!done) weir_yield();
    return arg;
}
TEST(a_thread_has_a_name_and_labels_which_its_goroutines_inherit) {
    on_a_thread(has_labels, NULL);
    CHECK_STR(labels[0], "colour=blue ");
    CHECK_STR(labels[1], "colour=blue ");
}

/* ---- Channels, select, time, locks ---------------------------------------------------------------------------- */

static void *echoes(void *arg) {
    int v;
    while (weir_recv(ch, &v) == 0) CHECK_EQ(weir_send(back, v + 1), 0);
    weir_close(back);
    return arg;
}
TEST(a_thread_sends_and_receives) {
    ch = weir_make(int_chan, 0), back = weir_make(int_chan, 0);
    pthread_t thread = thread_start(echoes, NULL);
    for (int i = 0, v; i < TEST_SCALE(2000); i++) {
        CHECK_EQ(weir_send(ch, i), 0);
        CHECK_EQ(weir_recv(back, &v), 0);
        CHECK_EQ(v, i + 1);
    }
    weir_close(ch);
    CHECK_EQ(weir_recv(back, NULL), -EPIPE);
    thread_end(thread);
    weir_release(ch), weir_release(back);
}

static void *talks(void *arg) {
    int n = (int)(intptr_t)arg, v;
    for (int i = 0; i < n; i++) {
        CHECK_EQ(weir_send(ch, i), 0);
        CHECK_EQ(weir_recv(back, &v), 0);
    }
    done++;
    return NULL;
}
TEST(threads_talk_to_each_other_without_a_goroutine_between) {
    intptr_t n = TEST_SCALE(500);
    ch = weir_make(int_chan, 0), back = weir_make(int_chan, 1);
    pthread_t talker = thread_start(talks, (void *)n), echo = thread_start(echoes, NULL);
    thread_end(talker);
    weir_close(ch);
    thread_end(echo);
    CHECK_EQ(done, 1);
    weir_release(ch), weir_release(back);
}

static void *selects(void *arg) {
    int v = 0;
    bool ok = true;
    CHECK_EQ(weir_select(weir_on_recv(ch, &v), weir_on_after(WEIR_HOUR)), 0);
    CHECK_EQ(v, 5);
    CHECK_EQ(weir_select(weir_on_recv(ch, &v), weir_on_after(WEIR_MILLISECOND)), 1);
    CHECK_EQ(weir_select(weir_on_recv(ch, &v), weir_on_default()), 1);
    CHECK_EQ(weir_select(weir_on_send(back, 6)), 0);
    CHECK_EQ(weir_select(weir_on_recv_ok(ch, &v, &ok)), 0);
    CHECK(!ok);
    CHECK_EQ(weir_select_error(), -EPIPE);
    return arg;
}
TEST(a_thread_selects) {
    int v;
    ch = weir_make(int_chan, 0), back = weir_make(int_chan, 0);
    pthread_t thread = thread_start(selects, NULL);
    CHECK_EQ(weir_send(ch, 5), 0);
    CHECK_EQ(weir_recv(back, &v), 0);
    CHECK_EQ(v, 6);
    weir_close(ch);
    thread_end(thread);
    weir_release(ch), weir_release(back);
}

static void *sleeps(void *arg) {
    for (weir_duration d = 0; d <= 4 * WEIR_MILLISECOND; d = 4 * d + 1) {
        weir_time start = weir_now();
        CHECK_EQ(weir_sleep(d), 0);
        CHECK_GE(weir_now() - start, d);
    }
    return arg;
}
TEST(a_thread_sleeps_at_least_that_long) { on_a_thread(sleeps, NULL); }

static void *is_cancelled(void *arg) {
    weir_timeout(WEIR_MILLISECOND) {
        CHECK_EQ(weir_recv(ch, NULL), -ETIMEDOUT);
        CHECK_EQ(weir_sleep(WEIR_HOUR), -ETIMEDOUT);
        CHECK_EQ(weir_send(ch, 1), -ETIMEDOUT);
    }
    weir_ctx *ctx = weir_ctx_with_cancel(weir_ctx_background());
    *(weir_ctx *_Atomic *)arg = weir_ctx_retain(ctx);
    weir_with(ctx) CHECK_EQ(weir_recv(ch, NULL), -ECANCELED);
    weir_ctx_release(ctx);
    return NULL;
}
TEST(a_thread_is_cancelled) {
    weir_ctx *_Atomic ctx = NULL;
    ch = weir_make(int_chan, 0);
    pthread_t thread = thread_start(is_cancelled, (void *)&ctx);
    TEST_UNTIL(ctx != NULL);
    weir_ctx_cancel(ctx);
    thread_end(thread);
    weir_ctx_release(ctx);
    weir_release(ch);
}

static void adds(int v) { done += v; }
static int fails(int v) { return -v; }
static void *starts_goroutines(void *arg) {
    int e;
    for (int i = 0; i < 100; i++) TEST_GO(adds, i);
    weir_wg wg = {};
    CHECK_EQ(weir_wg_go(&wg, adds, 1000), 0);
    CHECK_EQ(weir_wg_wait(&wg), 0);
    weir_scoped(s, &e) {
        CHECK_EQ(weir_scope_go(&s, adds, 2000), 0);
        CHECK_EQ(weir_scope_go(&s, fails, 3), 0); /* the last: it cancels the others, and may be done before this returns */
    }
    CHECK_EQ(e, -3);
    while (done != 4950 + 3000) weir_yield();
    return arg;
}
TEST(a_thread_starts_goroutines_and_waits_for_them) { on_a_thread(starts_goroutines, NULL); }

static void runs_late(void *arg) { done++; }
static void *has_timers(void *arg) {
    weir_timer *t = weir_timer_new(WEIR_MILLISECOND), *ticker = weir_ticker_new(WEIR_MILLISECOND),
               *f = weir_after_func(WEIR_MILLISECOND, runs_late, NULL), *never = weir_after_func(WEIR_HOUR, runs_late, NULL);
    CHECK_EQ(weir_timer_wait(t, NULL), 0);
    for (int i = 0; i < 3; i++) CHECK_EQ(weir_timer_wait(ticker, NULL), 0);
    while (!done) weir_yield();
    CHECK(weir_timer_stop(never));
    weir_timer_free(t), weir_timer_free(ticker), weir_timer_free(f), weir_timer_free(never);
    return arg;
}
TEST(a_thread_has_timers) { on_a_thread(has_timers, NULL); }

static void *keeps_errno(void *arg) {
    int v;
    errno = 4321;
    CHECK_EQ(weir_recv(ch, &v), 0);
    CHECK_EQ(errno, 4321);
    CHECK_EQ(weir_sleep(WEIR_MICROSECOND), 0);
    CHECK_EQ(errno, 4321);
    return arg;
}
TEST(a_thread_keeps_its_errno) {
    ch = weir_make(int_chan, 0);
    pthread_t thread = thread_start(keeps_errno, NULL);
    CHECK_EQ(weir_sleep(WEIR_MILLISECOND), 0);
    CHECK_EQ(weir_send(ch, 1), 0);
    thread_end(thread);
    weir_release(ch);
}

/* ---- Its end ----------------------------------------------------------------------------------------------------- */

static char said[16];
static void say(void *letter) { strcat(said, letter); }
static void *defers(void *arg) {
    weir_defer(say, "a"), weir_defer(say, "b");
    if (arg) weir_exit();
    return NULL;
}
TEST(what_a_thread_deferred_runs_at_its_end) {
    on_a_thread(defers, NULL);
    CHECK_STR(said, "ba");
    on_a_thread(defers, said);
    CHECK_STR(said, "baba");
    CHECK_EQ(weir_count(), 1);
}

static pthread_key_t late;
static void calls_late(void *arg) {
    CHECK_EQ(weir_sleep(WEIR_MICROSECOND), 0);
    CHECK_EQ(weir_try_send(ch, 1), 0);
}
static void *calls_at_the_very_end(void *arg) {
    pthread_setspecific(late, arg);
    CHECK_EQ(weir_sleep(WEIR_MICROSECOND), 0);
    return NULL;
}
/* From a destructor that may come after weir's own. */
TEST(a_thread_may_call_while_it_ends) {
    ch = weir_make(int_chan, 10);
    CHECK_EQ(pthread_key_create(&late, calls_late), 0);
    for (int i = 1; i <= 10; i++) {
        on_a_thread(calls_at_the_very_end, said);
        CHECK_EQ(weir_len(ch), i);
        CHECK_EQ(weir_count(), 1);
    }
    weir_release(ch);
}

static void *lives_shortly(void *arg) {
    if (arg) CHECK_EQ(weir_try_send(ch, 1), -EAGAIN);
    (void)weir_id();
    weir_label("a", "b"), weir_name("short");
    return NULL;
}
static void many_threads(int n) {
    enum { AT_ONCE = 20 };
    pthread_t threads[AT_ONCE];
    for (int i = 0; i < n; i += AT_ONCE) {
        for (int j = 0; j < AT_ONCE; j++) threads[j] = thread_start(lives_shortly, j % 2 ? said : NULL);
        for (int j = 0; j < AT_ONCE; j++) thread_end(threads[j]);
    }
}
TEST(thousands_of_short_threads_leave_nothing_behind) {
    int n = (int)TEST_SCALE(5000);
    ch = weir_make(int_chan, 0);
    many_threads(n < 1000 ? 40 : 1000);
#ifdef __GLIBC__
    size_t before = mallinfo2().uordblks;
#endif
    many_threads(n);
    CHECK_EQ(weir_count(), 1);
#ifdef __GLIBC__
    size_t after = mallinfo2().uordblks; /* a sanitizer's allocator always says 0 */
    CHECK_LE(after, before + (size_t)n * sizeof(struct g) / 10);
#endif
    weir_release(ch);
}

/* ---- Many of them -------------------------------------------------------------------------------------------------- */

static weir_mutex mutex = WEIR_MUTEX_INIT;
static long guarded;
static void count_up(int n) {
    for (int i = 0; i < n; i++) {
        CHECK_EQ(weir_mutex_lock(&mutex), 0);
        guarded++;
        CHECK_EQ(weir_mutex_unlock(&mutex), 0);
        if (i % 50 == 0) CHECK_EQ(weir_sleep(1), 0);
    }
}
static void counts(int n) {
    count_up(n);
    done++;
}
static void *counts_on_a_thread(void *n) {
    counts((int)(intptr_t)n);
    return NULL;
}
TEST(threads_and_goroutines_crowd_around_a_mutex) {
    pthread_t threads[4];
    int n = (int)TEST_SCALE(5000);
    for (int i = 0; i < 4; i++) {
        threads[i] = thread_start(counts_on_a_thread, (void *)(intptr_t)n);
        TEST_GO(counts, n);
    }
    for (int i = 0; i < 4; i++) thread_end(threads[i]);
    TEST_UNTIL(done == 8);
    CHECK_EQ(guarded, 8l * n);
}

static void *sums(void *arg) {
    long sum = 0;
    for (int v; weir_recv(ch, &v) == 0;) sum += v;
    return (void *)sum;
}
static void *feeds(void *n) {
    for (int i = 0; i < (intptr_t)n; i++) CHECK_EQ(weir_send(ch, i), 0);
    return NULL;
}
static void feeds_too(int n) {
    (void)feeds((void *)(intptr_t)n);
    done++;
}
static int join_sum(void *arg) {
    void *sum, **thread_and_sum = arg;
    CHECK_EQ(pthread_join(*(pthread_t *)thread_and_sum[0], &sum), 0);
    *(long *)thread_and_sum[1] += (long)(intptr_t)sum;
    return 0;
}
TEST(threads_and_goroutines_share_a_channel) {
    pthread_t receivers[3], senders[3];
    long n = TEST_SCALE(3000), total = 0;
    for (int cap = 0; cap <= 4; cap += 4) {
        ch = weir_make(int_chan, (size_t)cap);
        done = 0;
        for (int i = 0; i < 3; i++) receivers[i] = thread_start(sums, NULL), senders[i] = thread_start(feeds, (void *)n);
        for (int i = 0; i < 3; i++) TEST_GO(feeds_too, (int)n);
        for (int i = 0; i < 3; i++) thread_end(senders[i]);
        TEST_UNTIL(done == 3);
        weir_close(ch);
        for (int i = 0; i < 3; i++) CHECK_EQ(weir_blocking(join_sum, ((void *[]){ &receivers[i], &total })), 0);
        weir_release(ch);
    }
    CHECK_EQ(total, 2 * 6 * n * (n - 1) / 2);
}

/* ---- Beside weir_start ----------------------------------------------------------------------------------------------- */

static void answers(int_chan in, int_chan out) {
    for (int v; weir_recv(in, &v) == 0;) CHECK_EQ(weir_send(out, v * 2), 0);
    weir_close(out);
}
PLAIN_TEST(a_programs_own_threads_block_in_weir) {
    CHECK_EQ(weir_start(), 0);
    int_chan in = weir_make(int_chan, 0), out = weir_make(int_chan, 0);
    CHECK_EQ(weir_count(), 1);
    TEST_GO(answers, in, out);
    CHECK_EQ(weir_count(), 2);
    for (int i = 0, v; i < 100; i++) {
        CHECK_EQ(weir_send(in, i), 0);
        CHECK_EQ(weir_recv(out, &v), 0);
        CHECK_EQ(v, 2 * i);
    }
    weir_close(in);
    CHECK_EQ(weir_wait_closed(out), 0);
    CHECK_EQ(weir_sleep(WEIR_MICROSECOND), 0);
    CHECK_EQ(weir_stop(WEIR_MINUTE), 0);
    weir_release(in), weir_release(out);
}
