/* What blocks its thread: not too many at once, and over the end of the runtime. */
#include "test.h"

#include <stdatomic.h>
#include <unistd.h>

#include "io/io.h"

static _Atomic int inside, most;
static _Atomic bool go_on;

static int64_t blocks(void *arg) {
    int now = ++inside, seen = most;
    while (now > seen && !atomic_compare_exchange_weak(&most, &seen, now)) {}
    while (!go_on) usleep(200);
    inside--;
    return 7;
}

static _Atomic int done;
static void calls(int result) {
    CHECK_EQ(wr_io_blocking(blocks, NULL), result);
    done++;
}

TEST(no_more_than_64_block_at_once) {
    for (int i = 0; i < 100; i++) TEST_GO(calls, 7);
    test_until_n_parked(36, "semacquire");
    weir_timeout(5 * WEIR_MILLISECOND) CHECK_EQ(wr_io_blocking(blocks, NULL), -ETIMEDOUT);
    TEST_UNTIL(inside == 64);
    go_on = true;
    TEST_UNTIL(done == 100);
    CHECK_EQ(most, 64);
}

TEST(who_is_cancelled_is_not_called) {
    weir_timeout(-1) CHECK_EQ(wr_io_blocking(blocks, NULL), -ETIMEDOUT);
    CHECK_EQ(most, 0);
}

/* They go on some time after somebody of the next run has begun to wait for them: all of that run waits, and yet it is no deadlock. */
static int64_t outlasts_its_run(void *arg) {
    blocks(arg);
    usleep(50000);
    return 7;
}
static void calls_what_outlasts(void) { (void)wr_io_blocking(outlasts_its_run, NULL); }
static int leave_64_inside(void *arg) {
    for (int i = 0; i < 64; i++) TEST_GO(calls_what_outlasts);
    TEST_UNTIL(inside == 64);
    return 0;
}
static int call_again(void *arg) {
    go_on = true;
    return (int)wr_io_blocking(blocks, NULL);
}

PLAIN_TEST(what_blocks_in_one_run_takes_no_place_in_the_next) {
    CHECK_EQ(weir_run(leave_64_inside, NULL), 0);
    CHECK_EQ(weir_run(call_again, NULL), 7);
    test_ignore_leaks();
}
