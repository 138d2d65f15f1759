/* Whole programs made of goroutines and channels: sieves, chains, multiplexers. */
#include "test.h"

#include <stdatomic.h>
#include <stdlib.h>

typedef WEIR_CHAN(int) int_chan;

/* ---- The prime sieve: one goroutine a prime --------------------------------------------------------- */

static void from_two(int_chan out) {
    for (int i = 2; weir_send(out, i) == 0; i++) {}
    weir_release(out);
}
static void filter(int_chan in, int_chan out, int prime) {
    for (int v; weir_recv(in, &v) == 0;)
        if (v % prime && weir_send(out, v)) break;
    weir_close(in); /* so that it stops upstream, too */
    weir_release(in), weir_release(out);
}
static void sieve(size_t cap, int n, int nth_prime) {
    int_chan in = weir_make(int_chan, cap);
    int prime = 0;
    TEST_GO(from_two, weir_retain(in));
    for (int i = 0; i < n; i++) {
        CHECK_EQ(weir_recv(in, &prime), 0);
        int_chan out = weir_make(int_chan, cap);
        TEST_GO(filter, in, weir_retain(out), prime);
        in = out;
    }
    CHECK_EQ(prime, nth_prime);
    weir_close(in), weir_release(in);
    TEST_UNTIL(weir_count() == 1); /* the close has run through the whole chain */
}
TEST(the_prime_sieve_unbuffered) { sieve(0, 60, 281); }
TEST(the_prime_sieve_with_buffers) { sieve(10, 60, 281); }

/* ---- A long chain of goroutines ---------------------------------------------------------------------- */

static void add_one(int_chan left, int_chan right) {
    int v = 0;
    CHECK_EQ(weir_recv(right, &v), 0);
    CHECK_EQ(weir_send(left, v + 1), 0);
    weir_release(left), weir_release(right);
}
TEST(a_number_passes_through_ten_thousand_goroutines) {
    int n = (int)TEST_SCALE(10000), v = 0;
    int_chan leftmost = weir_make(int_chan, 0), left = weir_retain(leftmost);
    for (int i = 0; i < n; i++) {
        int_chan right = weir_make(int_chan, 0);
        TEST_GO(add_one, left, weir_retain(right));
        left = right;
    }
    CHECK_EQ(weir_send(left, 0), 0);
    CHECK_EQ(weir_recv(leftmost, &v), 0);
    CHECK_EQ(v, n);
    weir_release(left), weir_release(leftmost);
}

/* ---- A select that sleeps on several sends sends once -------------------------------------------------- */

static void send_to_one_of_four(int_chan *out, int n) {
    for (int i = 0; i < n; i++)
        CHECK_GE(weir_select(weir_on_send(out[0], i), weir_on_send(out[1], i), weir_on_send(out[2], i),
                             weir_on_send(out[3], i)), 0);
    for (int k = 0; k < 4; k++) weir_close(out[k]);
}
static _Atomic int forwarding;
static void forward(int_chan in, int_chan out) {
    for (int v; weir_recv(in, &v) == 0;) CHECK_EQ(weir_send(out, v), 0);
    if (--forwarding == 0) weir_close(out);
}
static void doubleselect(int procs) {
    int n = (int)TEST_SCALE(50000), got = 0;
    int_chan c[4], merged = weir_make(int_chan, 0);
    char *seen = calloc((size_t)n, 1);
    weir_procs(procs);
    forwarding = 4;
    for (int k = 0; k < 4; k++) c[k] = weir_make(int_chan, 0);
    TEST_GO(send_to_one_of_four, c, n);
    for (int k = 0; k < 4; k++) TEST_GO(forward, c[k], merged);
    for (int v; weir_recv(merged, &v) == 0; got++) {
        if (seen[v]) FAIL("%d was sent twice", v);
        seen[v] = 1;
    }
    CHECK_EQ(got, n);
    TEST_UNTIL(weir_count() == 1);
    for (int k = 0; k < 4; k++) weir_release(c[k]);
    weir_release(merged);
    free(seen);
}
TEST(a_select_over_four_sends_sends_once) { doubleselect(2); }
TEST(a_select_over_four_sends_sends_once_on_one_processor) { doubleselect(1); }

/* ---- A semaphore made of a buffered channel ------------------------------------------------------------ */

static _Atomic int inside, most_inside;
static void enter_and_leave(weir_unit_chan slots) {
    CHECK_EQ(weir_send(slots, weir_unit_value), 0);
    int now = ++inside, most = most_inside;
    while (now > most && !atomic_compare_exchange_weak(&most_inside, &most, now)) {}
    weir_yield();
    inside--;
    CHECK_EQ(weir_recv(slots, NULL), 0);
    weir_release(slots);
}
TEST(a_buffer_of_three_admits_three_at_a_time) {
    weir_unit_chan slots = weir_make(weir_unit_chan, 3);
    for (int i = 0; i < 100; i++) TEST_GO(enter_and_leave, weir_retain(slots));
    TEST_UNTIL(weir_count() == 1);
    CHECK_GE(most_inside, 1), CHECK_LE(most_inside, 3);
    CHECK_EQ(weir_len(slots), 0);
    weir_release(slots);
}

/* ---- A server that answers on a channel sent along ------------------------------------------------------ */

struct sum_request {
    int a, b;
    int_chan reply;
};
typedef WEIR_CHAN(struct sum_request) sum_chan;
static void add(struct sum_request *r) {
    CHECK_EQ(weir_send(r->reply, r->a + r->b), 0);
    weir_release(r->reply);
    free(r);
}
static void serve_sums(sum_chan in, weir_unit_chan quit) {
    for (;;) {
        struct sum_request r;
        if (weir_select(weir_on_recv(in, &r), weir_on_recv(quit, NULL)) == 1) break;
        struct sum_request *own = malloc(sizeof *own);
        *own = r;
        TEST_GO(add, own);
    }
    weir_release(in), weir_release(quit);
}
TEST(a_server_answers_a_hundred_requests_and_quits) {
    sum_chan in = weir_make(sum_chan, 0);
    weir_unit_chan quit = weir_make(weir_unit_chan, 0);
    int_chan replies[100];
    TEST_GO(serve_sums, weir_retain(in), weir_retain(quit));
    for (int i = 0; i < 100; i++) {
        replies[i] = weir_make(int_chan, 1);
        CHECK_EQ(weir_send(in, (struct sum_request){ i, i + 100, weir_retain(replies[i]) }), 0);
    }
    for (int i = 99, v; i >= 0; i--) {
        CHECK_EQ(weir_recv(replies[i], &v), 0);
        CHECK_EQ(v, 100 + 2 * i);
        weir_release(replies[i]);
    }
    CHECK_EQ(weir_send(quit, weir_unit_value), 0);
    TEST_UNTIL(weir_count() == 1);
    weir_release(in), weir_release(quit);
}

/* ---- Merge sort by goroutines: a tree of channels -------------------------------------------------------- */

static void merge(const int *v, int n, int_chan out) {
    if (n == 1) {
        CHECK_EQ(weir_send(out, v[0]), 0);
    } else {
        int_chan l = weir_make(int_chan, 1), r = weir_make(int_chan, 1);
        int a, b;
        TEST_GO(merge, v, n / 2, weir_retain(l));
        TEST_GO(merge, v + n / 2, n - n / 2, weir_retain(r));
        bool have_a = weir_recv(l, &a) == 0, have_b = weir_recv(r, &b) == 0;
        while (have_a || have_b) {
            bool take_a = have_a && (!have_b || a <= b);
            CHECK_EQ(weir_send(out, take_a ? a : b), 0);
            if (take_a)
                have_a = weir_recv(l, &a) == 0;
            else
                have_b = weir_recv(r, &b) == 0;
        }
        weir_release(l), weir_release(r);
    }
    weir_close(out), weir_release(out);
}
TEST(a_tree_of_goroutines_sorts) {
    int n = (int)TEST_SCALE(1000), *v = malloc((size_t)n * sizeof *v), last = -1, got = 0;
    uint32_t x = 12345;
    for (int i = 0; i < n; i++) x = x * 1664525 + 1013904223, v[i] = (int)(x >> 8);
    int_chan out = weir_make(int_chan, 0);
    TEST_GO(merge, v, n, weir_retain(out));
    for (int w; weir_recv(out, &w) == 0; got++) {
        CHECK_GE(w, last);
        last = w;
    }
    CHECK_EQ(got, n);
    TEST_UNTIL(weir_count() == 1);
    weir_release(out);
    free(v);
}
