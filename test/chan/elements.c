/* What travels through a channel: order, copies, sizes from none to 64 KiB, conversions, handles themselves. */
#include "test.h"

#include <pthread.h>
#include <stdlib.h>

typedef WEIR_CHAN(int) int_chan;
typedef WEIR_CHAN(double) double_chan;
typedef WEIR_CHAN(const char *) text_chan;
struct point {
    int x, y;
};
typedef WEIR_CHAN(struct point) point_chan;

/* ---- Order ---------------------------------------------------------------------------------------- */

static void count_up(int_chan out, int n) {
    for (int i = 0; i < n; i++) CHECK_EQ(weir_send(out, i), 0);
    weir_close(out);
    weir_release(out);
}

static void comes_in_order(size_t cap) {
    int n = (int)TEST_SCALE(2000), v, next = 0;
    int_chan ch = weir_make(int_chan, cap);
    TEST_GO(count_up, weir_retain(ch), n);
    while (weir_recv(ch, &v) == 0) CHECK_EQ(v, next++);
    CHECK_EQ(next, n);
    weir_release(ch);
}
TEST(elements_come_in_order_without_a_buffer) { comes_in_order(0); }
TEST(elements_come_in_order_through_a_buffer_of_one) { comes_in_order(1); }
TEST(elements_come_in_order_through_a_buffer_of_ten) { comes_in_order(10); }

TEST(a_buffer_wraps_around_in_order) {
    int_chan ch = weir_make(int_chan, 3);
    int in = 0, out = 0, v;
    for (int round = 0; round < 50; round++) {
        int fill = 1 + round % 3;
        for (int i = 0; i < fill; i++) CHECK_EQ(weir_send(ch, in++), 0);
        for (int i = 0; i < fill; i++) {
            CHECK_EQ(weir_recv(ch, &v), 0);
            CHECK_EQ(v, out++);
        }
    }
    weir_release(ch);
}

/* Each hands on what it got; the order holds through the whole chain. */
static void hand_on(int_chan in, int_chan out) {
    for (int v; weir_recv(in, &v) == 0;) CHECK_EQ(weir_send(out, v), 0);
    weir_close(out);
    weir_release(in), weir_release(out);
}
TEST(a_chain_of_goroutines_keeps_the_order) {
    int n = (int)TEST_SCALE(400), v, next = 0;
    int_chan first = weir_make(int_chan, 0), in = weir_retain(first);
    for (int i = 0; i < 20; i++) {
        int_chan out = weir_make(int_chan, (size_t)i % 3);
        TEST_GO(hand_on, in, weir_retain(out));
        in = out;
    }
    TEST_GO(count_up, first, n);
    while (weir_recv(in, &v) == 0) CHECK_EQ(v, next++);
    CHECK_EQ(next, n);
    weir_release(in);
}

/* ---- Copies --------------------------------------------------------------------------------------- */

TEST(an_element_is_copied_when_it_is_sent) {
    point_chan ch = weir_make(point_chan, 1);
    struct point p = { 1, 2 }, got = { 0, 0 };
    CHECK_EQ(weir_send(ch, p), 0);
    p.x = p.y = 99;
    CHECK_EQ(weir_recv(ch, &got), 0);
    CHECK_EQ(got.x, 1), CHECK_EQ(got.y, 2);
    weir_release(ch);
}

static void send_points(point_chan out, int n) {
    for (int i = 0; i < n; i++) CHECK_EQ(weir_send(out, (struct point){ i, -i }), 0);
    weir_release(out);
}
TEST(structs_travel_by_value) {
    point_chan ch = weir_make(point_chan, 0);
    TEST_GO(send_points, weir_retain(ch), 100);
    for (int i = 0; i < 100; i++) {
        struct point p;
        CHECK_EQ(weir_recv(ch, &p), 0);
        CHECK_EQ(p.x, i), CHECK_EQ(p.y, -i);
    }
    weir_release(ch);
}

TEST(a_received_element_leaves_its_neighbours_alone) {
    typedef WEIR_CHAN(char) char_chan;
    char_chan ch = weir_make(char_chan, 4);
    char room[3] = { 'a', 'b', 'c' };
    CHECK_EQ(weir_send(ch, 'x'), 0);
    CHECK_EQ(weir_recv(ch, &room[1]), 0);
    CHECK_EQ(room[0], 'a'), CHECK_EQ(room[1], 'x'), CHECK_EQ(room[2], 'c');
    weir_release(ch);
}

TEST(null_discards_the_element) {
    int_chan ch = weir_make(int_chan, 2);
    int v = 0;
    CHECK_EQ(weir_send(ch, 1), 0), CHECK_EQ(weir_send(ch, 2), 0);
    CHECK_EQ(weir_recv(ch, NULL), 0);
    CHECK_EQ(weir_try_recv(ch, &v), 0);
    CHECK_EQ(v, 2);
    weir_release(ch);
}

static void receive_nowhere(int_chan in, int_chan done) {
    CHECK_EQ(weir_recv(in, NULL), 0);
    CHECK_EQ(weir_send(done, 1), 0);
    weir_release(in), weir_release(done);
}
TEST(null_discards_what_is_handed_to_a_waiting_receiver) {
    int_chan ch = weir_make(int_chan, 0), done = weir_make(int_chan, 0);
    TEST_GO(receive_nowhere, weir_retain(ch), weir_retain(done));
    test_until_n_parked(1, "chan receive");
    CHECK_EQ(weir_send(ch, 7), 0);
    CHECK_EQ(weir_recv(done, NULL), 0);
    weir_release(ch), weir_release(done);
}

/* ---- Types ---------------------------------------------------------------------------------------- */

TEST(arithmetic_values_convert_as_in_an_assignment) {
    double_chan d = weir_make(double_chan, 1);
    double x = 0;
    CHECK_EQ(weir_send(d, 3), 0);
    CHECK_EQ(weir_recv(d, &x), 0);
    CHECK(x == 3.0);
    int_chan i = weir_make(int_chan, 1);
    int v = 0;
    double half = 2.5;
    CHECK_EQ(weir_send(i, half), 0);
    CHECK_EQ(weir_recv(i, &v), 0);
    CHECK_EQ(v, 2);
    weir_release(d), weir_release(i);
}

TEST(pointers_travel_as_they_are) {
    text_chan ch = weir_make(text_chan, 3);
    char own[] = "mine";
    const char *t;
    CHECK_EQ(weir_send(ch, "literal"), 0), CHECK_EQ(weir_send(ch, own), 0), CHECK_EQ(weir_send(ch, NULL), 0);
    CHECK_EQ(weir_recv(ch, &t), 0), CHECK_STR(t, "literal");
    CHECK_EQ(weir_recv(ch, &t), 0), CHECK(t == own);
    CHECK_EQ(weir_recv(ch, &t), 0), CHECK(t == NULL);
    weir_release(ch);
}

static int evaluated;
static int_chan *the_channel(int_chan *ch) { return evaluated++, ch; }
static int the_value(int v) { return evaluated++, v; }
static int *the_place(int *p) { return evaluated++, p; }
TEST(what_a_macro_is_given_is_evaluated_once) {
    int_chan ch = weir_make(int_chan, 4);
    int v = 0;
    CHECK_EQ(weir_send(*the_channel(&ch), the_value(5)), 0), CHECK_EQ(evaluated, 2);
    CHECK_EQ(weir_try_send(*the_channel(&ch), the_value(6)), 0), CHECK_EQ(evaluated, 4);
    CHECK_EQ(weir_len(*the_channel(&ch)), 2), CHECK_EQ(evaluated, 5);
    CHECK_EQ(weir_recv(*the_channel(&ch), the_place(&v)), 0), CHECK_EQ(evaluated, 7);
    CHECK_EQ(v, 5);
    CHECK_EQ(weir_try_recv(*the_channel(&ch), the_place(&v)), 0), CHECK_EQ(evaluated, 9);
    CHECK_EQ(v, 6);
    weir_release(weir_retain(*the_channel(&ch))), CHECK_EQ(evaluated, 10);
    weir_release(*the_channel(&ch)), CHECK_EQ(evaluated, 11);
}

/* ---- Handles -------------------------------------------------------------------------------------- */

struct request {
    int question;
    int_chan answer;
};
typedef WEIR_CHAN(struct request) request_chan;
WEIR_CHAN_DECLARE(tagged_chan, struct point);

TEST(a_handle_is_as_large_as_a_pointer) {
    _Static_assert(sizeof(int_chan) == sizeof(void *), "");
    _Static_assert(sizeof(tagged_chan) == sizeof(void *), "");
    int_chan nil = { 0 };
    CHECK(weir_chan_of(nil) == NULL);
    union tagged_chan t = weir_make(tagged_chan, 2);
    CHECK_EQ(weir_cap(t), 2);
    weir_release(t);
}

static void square(request_chan in) {
    struct request r;
    while (weir_recv(in, &r) == 0) {
        CHECK_EQ(weir_send(r.answer, r.question * r.question), 0);
        weir_release(r.answer);
    }
    weir_release(in);
}
TEST(a_handle_can_be_sent_in_a_struct) {
    request_chan ch = weir_make(request_chan, 0);
    TEST_GO(square, weir_retain(ch));
    for (int i = 0; i < 20; i++) {
        int got;
        int_chan answer = weir_make(int_chan, 0);
        CHECK_EQ(weir_send(ch, (struct request){ i, weir_retain(answer) }), 0);
        CHECK_EQ(weir_recv(answer, &got), 0);
        CHECK_EQ(got, i * i);
        weir_release(answer);
    }
    weir_close(ch);
    TEST_UNTIL(weir_count() == 1);
    weir_release(ch);
}

typedef WEIR_CHAN(int_chan) chan_chan;
TEST(channels_of_channels) {
    chan_chan outer = weir_make(chan_chan, 1);
    int_chan inner = weir_make(int_chan, 1), got;
    CHECK_EQ(weir_send(outer, inner), 0);
    CHECK_EQ(weir_recv(outer, &got), 0);
    CHECK(weir_chan_of(got) == weir_chan_of(inner));
    weir_release(inner), weir_release(outer);
}

struct worker {
    int_chan in, out;
    int_chan more[2];
};
TEST(handles_live_in_structs_and_arrays) {
    struct worker w = { .in = weir_make(int_chan, 1) };
    w.more[1] = weir_make(int_chan, 2);
    int v = 0;
    CHECK_EQ(weir_cap(w.in), 1), CHECK_EQ(weir_cap(w.out), 0), CHECK_EQ(weir_cap(w.more[1]), 2);
    CHECK_EQ(weir_send(w.more[1], 8), 0);
    CHECK_EQ(weir_recv(w.more[1], &v), 0);
    CHECK_EQ(v, 8);
    weir_release(w.in), weir_release(w.out), weir_release(w.more[0]), weir_release(w.more[1]);
}

/* ---- Sizes ---------------------------------------------------------------------------------------- */

TEST(units_are_counted_though_they_have_no_size) {
    weir_unit_chan ch = weir_make(weir_unit_chan, 3);
    weir_unit u;
    for (int i = 0; i < 3; i++) CHECK_EQ(weir_send(ch, weir_unit_value), 0);
    CHECK_EQ(weir_try_send(ch, weir_unit_value), -EAGAIN);
    CHECK_EQ(weir_len(ch), 3), CHECK_EQ(weir_cap(ch), 3);
    for (int i = 0; i < 3; i++) CHECK_EQ(weir_recv(ch, &u), 0);
    CHECK_EQ(weir_try_recv(ch, &u), -EAGAIN);
    weir_release(ch);
}

static void send_units(weir_unit_chan out, int n) {
    for (int i = 0; i < n; i++) CHECK_EQ(weir_send(out, weir_unit_value), 0);
    weir_close(out);
    weir_release(out);
}
static void units_pass(size_t cap) {
    int got = 0;
    weir_unit_chan ch = weir_make(weir_unit_chan, cap);
    TEST_GO(send_units, weir_retain(ch), 500);
    while (weir_recv(ch, NULL) == 0) got++;
    CHECK_EQ(got, 500);
    weir_release(ch);
}
TEST(units_pass_without_a_buffer) { units_pass(0); }
TEST(units_pass_through_a_buffer) { units_pass(7); }

struct large {
    uint32_t words[(64 << 10) / 4];
};
typedef WEIR_CHAN(struct large) large_chan;

static void fill(struct large *l, uint32_t seed) {
    for (size_t i = 0; i < sizeof l->words / 4; i++) l->words[i] = seed * 2654435761u + (uint32_t)i;
}
static void check_filled(const struct large *l, uint32_t seed) {
    for (size_t i = 0; i < sizeof l->words / 4; i++)
        if (l->words[i] != seed * 2654435761u + (uint32_t)i) FAIL("element %u is damaged at word %zu", seed, i);
}
static void send_large(large_chan out, int n) {
    struct large *l = malloc(sizeof *l);
    for (int i = 0; i < n; i++) {
        fill(l, (uint32_t)i);
        CHECK_EQ(weir_send(out, *l), 0);
    }
    free(l);
    weir_release(out);
}
static void large_passes(size_t cap) {
    large_chan ch = weir_make(large_chan, cap);
    struct large *l = malloc(sizeof *l);
    TEST_GO(send_large, weir_retain(ch), 20);
    for (uint32_t i = 0; i < 20; i++) {
        memset(l, 0, sizeof *l);
        CHECK_EQ(weir_recv(ch, l), 0);
        check_filled(l, i);
    }
    free(l);
    weir_release(ch);
}
TEST(elements_of_64_kib_pass_without_a_buffer) { large_passes(0); }
TEST(elements_of_64_kib_pass_through_a_buffer) { large_passes(3); }

TEST(every_small_size_arrives_whole) {
    for (size_t size = 1; size <= 80; size++) {
        weir_chan *ch = weir_chan_make(size, 2);
        unsigned char in[80], out[82];
        CHECK(ch);
        for (size_t k = 0; k < 2; k++) {
            for (size_t i = 0; i < size; i++) in[i] = (unsigned char)(size + i + k);
            CHECK_EQ(weir_chan_send(ch, in), 0);
        }
        for (size_t k = 0; k < 2; k++) {
            memset(out, 0xEE, sizeof out);
            CHECK_EQ(weir_chan_recv(ch, out + 1), 0);
            for (size_t i = 0; i < size; i++) CHECK_EQ(out[1 + i], (unsigned char)(size + i + k));
            CHECK_EQ(out[0], 0xEE), CHECK_EQ(out[1 + size], 0xEE);
        }
        weir_chan_release(ch);
    }
}

TEST(make_refuses_elements_over_64_kib) {
    weir_chan *largest = weir_chan_make(64 << 10, 0), *over = weir_chan_make((64 << 10) + 1, 0);
    CHECK(largest != NULL), CHECK(over == NULL);
    weir_chan_release(largest);
}

TEST(make_refuses_a_buffer_larger_than_memory) {
    weir_chan *ch = weir_chan_make(16, SIZE_MAX / 8);
    CHECK(ch == NULL);
    ch = weir_chan_make(8, SIZE_MAX / 8 - 1);
    CHECK(ch == NULL);
    int_chan typed = weir_make(int_chan, 0);
    weir_release(typed);
    CHECK_EQ(weir_make_try(&typed, SIZE_MAX / 2), -ENOMEM);
    CHECK(weir_chan_of(typed) == NULL);
    CHECK_EQ(weir_make_try(&typed, 5), 0);
    CHECK_EQ(weir_cap(typed), 5);
    weir_release(typed);
}

EXIT_TEST(make_out_of_memory_ends_the_process, 2, "fatal error: ") {
    int_chan ch = weir_make(int_chan, SIZE_MAX / 2);
    weir_release(ch);
}

/* ---- Untyped -------------------------------------------------------------------------------------- */

static void echo_raw(weir_chan *in, weir_chan *out) {
    uint64_t v;
    while (weir_chan_recv(in, &v) == 0) CHECK_EQ(weir_chan_send(out, &v), 0);
    CHECK_EQ(weir_chan_close(out), 0);
    weir_chan_release(in), weir_chan_release(out);
}
TEST(untyped_calls_do_what_the_macros_do) {
    weir_chan *in = weir_chan_make(sizeof(uint64_t), 0), *out = weir_chan_make(sizeof(uint64_t), 2);
    CHECK_EQ(weir_chan_cap(in), 0), CHECK_EQ(weir_chan_cap(out), 2);
    uint64_t v = 1ull << 60, got = 0;
    CHECK_EQ(weir_chan_try_recv(out, &got), -EAGAIN);
    CHECK_EQ(weir_chan_try_send(in, &v), -EAGAIN);
    TEST_GO(echo_raw, weir_chan_retain(in), weir_chan_retain(out));
    CHECK_EQ(weir_chan_send(in, &v), 0);
    CHECK_EQ(weir_chan_recv(out, &got), 0);
    CHECK(got == v);
    CHECK_EQ(weir_chan_send(in, &v), 0);
    TEST_UNTIL(weir_chan_len(out) == 1);
    CHECK_EQ(weir_chan_close(in), 0), CHECK_EQ(weir_chan_close(in), -EPIPE);
    CHECK_EQ(weir_chan_wait_closed(out), 0);
    CHECK_EQ(weir_chan_recv(out, &got), -EPIPE);
    CHECK(got == 0);
    weir_chan_release(in), weir_chan_release(out);
}

TEST(typed_and_untyped_handles_are_one_channel) {
    int_chan ch = weir_make(int_chan, 1);
    int v = 4, got = 0;
    CHECK_EQ(weir_chan_send(weir_chan_of(ch), &v), 0);
    CHECK_EQ(weir_recv(ch, &got), 0);
    CHECK_EQ(got, 4);
    weir_release(ch);
}

/* ---- From elsewhere ------------------------------------------------------------------------------- */

static void *thread_doubles(void *arg) {
    int_chan *ch = arg;
    for (int v; weir_recv(ch[0], &v) == 0;) CHECK_EQ(weir_send(ch[1], 2 * v), 0);
    weir_close(ch[1]);
    return NULL;
}
TEST(a_thread_of_the_program_can_send_and_receive) {
    int_chan ch[2] = { weir_make(int_chan, 0), weir_make(int_chan, 1) };
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, thread_doubles, ch), 0);
    for (int i = 0, v; i < TEST_SCALE(1000); i++) {
        CHECK_EQ(weir_send(ch[0], i), 0);
        CHECK_EQ(weir_recv(ch[1], &v), 0);
        CHECK_EQ(v, 2 * i);
    }
    weir_close(ch[0]);
    CHECK_EQ(weir_wait_closed(ch[1]), 0);
    pthread_join(thread, NULL);
    weir_release(ch[0]), weir_release(ch[1]);
}
