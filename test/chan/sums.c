/* Many producers, many consumers: every element arrives once, whatever the capacity and the number of processors. */
#include "test.h"

#include <stdatomic.h>
#include <stdlib.h>

typedef WEIR_CHAN(int) int_chan;
enum { PRODUCERS = 5, CONSUMERS = 4 };

static _Atomic long sum, count;
static _Atomic int producing, consuming;
static _Atomic unsigned char *seen;

static void produce(int_chan ch, int from, int n) {
    for (int i = 0; i < n; i++) CHECK_EQ(weir_send(ch, from + i), 0);
    if (--producing == 0) weir_close(ch);
    weir_release(ch);
}
static void consume(int_chan ch) {
    for (int v; weir_recv(ch, &v) == 0;) {
        sum += v;
        count++;
        if (seen[v]++) FAIL("element %d came twice", v);
    }
    consuming--;
    weir_release(ch);
}
static void sums(size_t cap, int procs) {
    long each = TEST_SCALE(10000), total = each * PRODUCERS;
    weir_procs(procs);
    seen = calloc((size_t)total, sizeof *seen);
    int_chan ch = weir_make(int_chan, cap);
    producing = PRODUCERS;
    consuming = CONSUMERS;
    for (int i = 0; i < CONSUMERS; i++) TEST_GO(consume, weir_retain(ch));
    for (int i = 0; i < PRODUCERS; i++) TEST_GO(produce, weir_retain(ch), (int)(i * each), (int)each);
    TEST_UNTIL(consuming == 0);
    CHECK_EQ(count, total), CHECK_EQ(sum, total * (total - 1) / 2);
    CHECK_EQ(weir_wait_closed(ch), 0);
    weir_release(ch);
    free((void *)seen);
}

#define SUMS(cap, procs) \
    TEST(each_element_arrives_once_at_capacity_##cap##_on_##procs##_processors) { sums(cap, procs); }
SUMS(0, 1)
SUMS(1, 1)
SUMS(10, 1)
SUMS(1000, 1)
SUMS(0, 2)
SUMS(1, 2)
SUMS(10, 2)
SUMS(1000, 2)
SUMS(0, 8)
SUMS(1, 8)
SUMS(10, 8)
SUMS(1000, 8)

/* The same by selects: consumers choose between two channels, producers too. */
static int_chan two[2];
static void produce_to_either(int from, int n) {
    for (int i = 0; i < n; i++)
        CHECK_GE(weir_select(weir_on_send(two[0], from + i), weir_on_send(two[1], from + i)), 0);
    if (--producing == 0) weir_close(two[0]), weir_close(two[1]);
}
static void consume_from_either(void) {
    int_chan a = two[0], b = two[1];
    while (weir_chan_of(a) || weir_chan_of(b)) {
        int v = -1, w = -1;
        int arm = weir_select(weir_on_recv(a, &v), weir_on_recv(b, &w));
        CHECK_GE(arm, 0);
        if (weir_select_error() == -EPIPE) {
            *(arm == 0 ? &a : &b) = (int_chan){ 0 };
            continue;
        }
        if (arm == 1) v = w;
        sum += v;
        count++;
        if (seen[v]++) FAIL("element %d came twice", v);
    }
    consuming--;
}
static void select_sums(size_t cap, int procs) {
    long each = TEST_SCALE(10000), total = each * PRODUCERS;
    weir_procs(procs);
    seen = calloc((size_t)total, sizeof *seen);
    two[0] = weir_make(int_chan, cap), two[1] = weir_make(int_chan, cap);
    producing = PRODUCERS;
    consuming = CONSUMERS;
    for (int i = 0; i < PRODUCERS; i++) TEST_GO(produce_to_either, (int)(i * each), (int)each);
    for (int i = 0; i < CONSUMERS; i++) TEST_GO(consume_from_either);
    TEST_UNTIL(consuming == 0 && producing == 0);
    CHECK_EQ(count, total), CHECK_EQ(sum, total * (total - 1) / 2);
    TEST_UNTIL(weir_count() == 1);
    weir_release(two[0]), weir_release(two[1]);
    free((void *)seen);
}
TEST(each_element_arrives_once_by_selects_on_one_processor) { select_sums(0, 1); }
TEST(each_element_arrives_once_by_selects_on_two_processors) { select_sums(0, 2); }
TEST(each_element_arrives_once_by_selects_through_buffers) { select_sums(3, 8); }

/* A workload as users have it: numbered jobs out, results back, by as many workers as there are. */
struct job {
    int id, x;
};
typedef WEIR_CHAN(struct job) job_chan;
static void work(job_chan jobs, job_chan results) {
    for (struct job j; weir_recv(jobs, &j) == 0;) {
        j.x = j.x * j.x;
        CHECK_EQ(weir_send(results, j), 0);
    }
    if (--consuming == 0) weir_close(results);
    weir_release(jobs), weir_release(results);
}
static void hand_out(job_chan jobs, int n) {
    for (int i = 0; i < n; i++) CHECK_EQ(weir_send(jobs, (struct job){ i, i + 1 }), 0);
    weir_close(jobs);
    weir_release(jobs);
}
TEST(a_pool_of_workers_answers_every_job) {
    int n = (int)TEST_SCALE(2000), answers = 0;
    job_chan jobs = weir_make(job_chan, 4), results = weir_make(job_chan, 2);
    consuming = 7;
    for (int i = 0; i < 7; i++) TEST_GO(work, weir_retain(jobs), weir_retain(results));
    TEST_GO(hand_out, weir_retain(jobs), n);
    for (struct job j; weir_recv(results, &j) == 0; answers++) CHECK_EQ(j.x, (j.id + 1) * (j.id + 1));
    CHECK_EQ(answers, n);
    weir_release(jobs), weir_release(results);
}
