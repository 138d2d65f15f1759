/* The order in which goroutines start that start goroutines: few of a tree are there at once, and nobody else waits for it for long. */
#include "sched_test.h"

#define CHILDREN 4
#define HEIGHT 6
#define NODES 5461 /* 1 + 4 + … + 4^6 */

static _Atomic int nodes, here, most;

static void grow(int height) {
    nodes++;
    if (++here > most) most = here;
    weir_scoped(s) {
        for (int i = 0; height > 0 && i < CHILDREN; i++) CHECK_EQ(weir_scope_go(&s, grow, height - 1), 0);
        if (weir_count() > (size_t)most) most = (int)weir_count();
    }
    here--;
}
static void grow_tree(void) {
    nodes = most = 0;
    TEST_GO(grow, HEIGHT);
    TEST_UNTIL(nodes == NODES && here == 0);
}
/* Level by level there would be 4096 and more. */
TEST(of_a_tree_few_are_there_at_once) {
    CHECK_GE(weir_procs(1), 1);
    grow_tree();
    CHECK_LE(most, NODES / 10);
}
TEST(of_a_tree_few_are_there_at_once_on_four_processors) {
    CHECK_GE(weir_procs(4), 1);
    grow_tree();
    CHECK_LE(most, NODES / 3);
}

/* Whoever waits here is in no queue meanwhile. */
static weir_wg done;
static _Atomic int last, backwards;
static void is(int i) {
    if (i < last) backwards++;
    last = i;
}
/* Who is so slow to start them that its processor is taken from it has the rest in the global queue, one of which may overtake. */
TEST(those_that_one_starts_start_in_their_order) {
    CHECK_GE(weir_procs(1), 1);
    for (int i = 0; i < 3; i++) {
        last = -1;
        backwards = 0;
        for (int k = 0; k < 100; k++) CHECK_EQ(weir_wg_go(&done, is, k), 0);
        CHECK_EQ(weir_wg_wait(&done), 0);
        CHECK_LE(backwards, 5);
    }
}

/* Nobody is woken here but by one that then ends or waits, so nobody comes into the queue who has run before. */
static void sums(int_chan up, int height) {
    int sum = height == 0, part;
    nodes++;
    if (height > 0) {
        int_chan down = weir_make(int_chan, 0);
        for (int i = 0; i < CHILDREN; i++) CHECK_EQ(weir_go(sums, down, height - 1), 0);
        for (int i = 0; i < CHILDREN; i++) {
            CHECK_EQ(weir_recv(down, &part), 0);
            sum += part;
        }
        weir_release(down);
    }
    CHECK_EQ(weir_send(up, sum), 0);
}

static _Atomic bool was;
static void started(void) { was = true; }
static void grows_on(void) {
    int_chan one = weir_make(int_chan, 1);
    nodes = 0;
    while (!was && nodes < 500000) /* more than are grown in ten milliseconds, by much; in its turns, as the machine may give us few */
        sums(one, 4), CHECK_EQ(weir_recv(one, NULL), 0);
    weir_release(one);
    CHECK(was);
}
static void starts_both(void) {
    CHECK_EQ(weir_wg_go(&done, grows_on), 0);
    CHECK_EQ(weir_wg_go(&done, started), 0);
}
/* It is older than all of the tree, and the tree grows until it has run. */
TEST(a_tree_that_grows_on_keeps_nobody_waiting_for_ever) {
    CHECK_GE(weir_procs(1), 1);
    CHECK_EQ(weir_wg_go(&done, starts_both), 0);
    CHECK_EQ(weir_wg_wait(&done), 0);
}
