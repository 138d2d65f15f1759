/* weir_selectv: arrays of arms made at run time, of any size, used again and again. */
#include "test.h"

#include <stdatomic.h>
#include <stdlib.h>

typedef WEIR_CHAN(int) int_chan;

struct wide {
    int n;
    int_chan *c;
    weir_arm *arms;
    int *got;
};
static struct wide make_wide(int n, size_t cap) {
    struct wide w = { n, malloc((size_t)n * sizeof(int_chan)), malloc((size_t)n * sizeof(weir_arm)),
                      malloc((size_t)n * sizeof(int)) };
    for (int i = 0; i < n; i++) {
        w.c[i] = weir_make(int_chan, cap);
        w.arms[i] = weir_on_recv(w.c[i], &w.got[i]);
    }
    return w;
}
static void free_wide(struct wide *w) {
    for (int i = 0; i < w->n; i++) weir_release(w->c[i]);
    free(w->c), free(w->arms), free(w->got);
}

static void finds_the_ready_one(int n) {
    struct wide w = make_wide(n, 1);
    for (int i = 0; i < 50; i++) {
        int k = (int)((unsigned)i * 2654435761u % (unsigned)n);
        CHECK_EQ(weir_send(w.c[k], i), 0);
        CHECK_EQ(weir_selectv(w.arms, (size_t)n), k);
        CHECK_EQ(w.got[k], i);
    }
    free_wide(&w);
}
TEST(one_arm) { finds_the_ready_one(1); }
TEST(sixty_four_arms) { finds_the_ready_one(64); }
TEST(a_thousand_arms) { finds_the_ready_one(1000); }

static _Atomic int fired = -1;
static void sleep_wide(struct wide *w) { fired = weir_selectv(w->arms, (size_t)w->n); }
static void wakes(int n) {
    struct wide w = make_wide(n, 0);
    for (int i = 0; i < 10; i++) {
        int k = (int)((unsigned)i * 2654435761u % (unsigned)n);
        TEST_GO(sleep_wide, &w);
        test_until_n_parked(1, "select");
        CHECK_EQ(weir_try_send(w.c[k], i), 0);
        TEST_UNTIL(weir_count() == 1);
        CHECK_EQ(fired, k), CHECK_EQ(w.got[k], i);
        for (int j = 0; j < n; j++) CHECK_EQ(weir_try_send(w.c[j], i), -EAGAIN);
    }
    free_wide(&w);
}
TEST(a_sleeping_select_of_one_arm) { wakes(1); }
TEST(a_sleeping_select_of_sixty_four_arms) { wakes(64); }
TEST(a_sleeping_select_of_a_thousand_arms) { wakes(1000); }

TEST(no_arms_but_a_deadline) {
    weir_timeout(2 * WEIR_MILLISECOND) { CHECK_EQ(weir_selectv(NULL, 0), -ETIMEDOUT); }
}

TEST(the_most_arms_and_one_more) {
    size_t most = 65535;
    int_chan ch = weir_make(int_chan, 1), nil = { 0 };
    weir_arm *arms = malloc((most + 1) * sizeof *arms);
    int v = 0;
    for (size_t i = 0; i <= most; i++) arms[i] = weir_on_recv(nil, NULL);
    arms[most - 1] = weir_on_recv(ch, &v);
    CHECK_EQ(weir_send(ch, 5), 0);
    CHECK_EQ(weir_selectv(arms, most), most - 1);
    CHECK_EQ(v, 5);
    CHECK_EQ(weir_selectv(arms, most + 1), -EINVAL);
    free(arms);
    weir_release(ch);
}

TEST(an_array_may_mix_all_kinds_of_arms) {
    int_chan in = weir_make(int_chan, 1), out = weir_make(int_chan, 1), nil = { 0 };
    int v = 0;
    weir_arm arms[] = { weir_on_recv(nil, NULL), weir_on_recv(in, &v), weir_on_done(NULL),
                        weir_on_after(WEIR_HOUR), weir_on_default() };
    CHECK_EQ(weir_selectv(arms, 5), 4);
    CHECK_EQ(weir_send(in, 3), 0);
    CHECK_EQ(weir_selectv(arms, 5), 1), CHECK_EQ(v, 3);
    arms[0] = weir_on_send(out, 4); /* arms may be replaced between two selects */
    CHECK_EQ(weir_selectv(arms, 5), 0);
    CHECK_EQ(weir_recv(out, &v), 0), CHECK_EQ(v, 4);
    arms[0] = weir_on_recv(nil, NULL);
    CHECK_EQ(weir_selectv(arms, 5), 4);
    weir_release(in), weir_release(out);
}

/* Many goroutines, each asleep on the same channels, in an order of its own: one arm is `stride` channels after the other. */
static _Atomic int served;
static void serve_wide(struct wide *shared, int stride) {
    struct wide own = { shared->n, NULL, malloc((size_t)shared->n * sizeof(weir_arm)), NULL };
    int v = 0;
    for (int i = 0; i < own.n; i++) own.arms[i] = weir_on_recv(shared->c[i * stride % own.n], &v);
    while (weir_selectv(own.arms, (size_t)own.n) >= 0 && weir_select_error() == 0) served += v;
    free(own.arms);
}
TEST(many_wide_selects_share_their_channels) {
    struct wide w = make_wide(30, 0);
    int n = (int)TEST_SCALE(3000);
    static const int strides[] = { 1, 7, 11, 13, 17, 29 };
    for (int i = 0; i < 6; i++) TEST_GO(serve_wide, &w, strides[i]);
    for (int i = 0; i < n; i++) CHECK_EQ(weir_send(w.c[i * 7 % 30], 1), 0);
    for (int i = 0; i < 30; i++) weir_close(w.c[i]);
    TEST_UNTIL(weir_count() == 1);
    CHECK_EQ(served, n);
    free_wide(&w);
}
