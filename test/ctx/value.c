/* Values in contexts. */
#include "test.h"

#include "ctx/ctx.h"

static char key1, key2, key3;

TEST(a_value_is_found_by_the_address_of_its_key) {
    int v = 1;
    weir_ctx *ctx = weir_ctx_with_value(NULL, &key1, &v);
    CHECK(weir_ctx_value(ctx, &key1) == &v);
    CHECK(weir_ctx_value(ctx, &key2) == NULL);
    CHECK(weir_ctx_value(weir_ctx_background(), &key1) == NULL);
    weir_ctx_release(ctx);
}

TEST(an_inner_value_shadows_an_outer_one) {
    int outer = 1, inner = 2, other = 3;
    weir_ctx *a = weir_ctx_with_value(NULL, &key1, &outer), *b = weir_ctx_with_value(a, &key2, &other);
    weir_ctx *c = weir_ctx_with_value(b, &key1, &inner);
    CHECK(weir_ctx_value(c, &key1) == &inner);
    CHECK(weir_ctx_value(c, &key2) == &other);
    CHECK(weir_ctx_value(b, &key1) == &outer);
    CHECK(weir_ctx_value(a, &key2) == NULL);
    weir_ctx_release(c), weir_ctx_release(b), weir_ctx_release(a);
}

TEST(a_null_value_hides_an_outer_one) {
    int v = 1;
    weir_ctx *a = weir_ctx_with_value(NULL, &key1, &v), *b = weir_ctx_with_value(a, &key1, NULL);
    CHECK(weir_ctx_value(b, &key1) == NULL);
    CHECK(weir_ctx_value(a, &key1) == &v);
    weir_ctx_release(b), weir_ctx_release(a);
}

TEST(values_are_seen_through_every_kind_of_context) {
    int v = 1, w = 2;
    weir_ctx *chain[6];
    chain[0] = weir_ctx_with_value(NULL, &key1, &v);
    chain[1] = weir_ctx_with_cancel(chain[0]);
    chain[2] = weir_ctx_with_timeout(chain[1], WEIR_HOUR);
    chain[3] = weir_ctx_without_cancel(chain[2]);
    chain[4] = weir_ctx_with_value(chain[3], &key2, &w);
    chain[5] = weir_ctx_with_deadline(chain[4], weir_now() + WEIR_HOUR);
    CHECK(weir_ctx_value(chain[5], &key1) == &v);
    CHECK(weir_ctx_value(chain[5], &key2) == &w);
    CHECK(weir_ctx_value(chain[5], &key3) == NULL);
    weir_ctx_cancel(chain[1]);
    CHECK(weir_ctx_value(chain[5], &key1) == &v); /* ended ones, too */
    for (int i = 0; i < 6; i++) weir_ctx_release(chain[i]);
}

TEST(null_looks_in_the_current_context) {
    int v = 1;
    weir_ctx *ctx = weir_ctx_with_value(NULL, &key1, &v);
    CHECK(weir_ctx_value(NULL, &key1) == NULL);
    weir_with(ctx) CHECK(weir_ctx_value(NULL, &key1) == &v);
    weir_ctx_release(ctx);
}

static int look(void *expected) { return weir_ctx_value(NULL, &key1) == expected ? 0 : -EINVAL; }

static void look_alone(weir_unit_chan out) {
    CHECK(weir_ctx_value(NULL, &key1) == NULL);
    CHECK(weir_ctx_current() == weir_ctx_background());
    CHECK_EQ(weir_send(out, weir_unit_value), 0);
}

TEST(a_child_of_a_scope_inherits_the_values_and_a_detached_goroutine_does_not) {
    int v = 1, err = -1;
    weir_unit_chan out = weir_make(weir_unit_chan, 0);
    weir_ctx *ctx = weir_ctx_with_value(NULL, &key1, &v);
    weir_with(ctx) {
        weir_scoped(s, &err) CHECK_EQ(weir_scope_go(&s, look, (void *)&v), 0);
        TEST_GO(look_alone, out);
        CHECK_EQ(weir_recv(out, NULL), 0);
    }
    CHECK_EQ(err, 0);
    weir_ctx_release(ctx);
    weir_release(out);
}

/* Every layer at random; each value that was put in is found at the end, whatever has ended in between. */
TEST(many_random_layers_keep_their_values_and_their_end) {
    enum { N = 200, ROUNDS = 50 };
    static char keys[N];
    uint64_t random = 12345;
    for (int round = 0; round < ROUNDS; round++) {
        weir_ctx *layers[N + 1] = { weir_ctx_background() };
        int n_values = 0, first_end = -1;
        for (int i = 0; i < N; i++) switch (wr_random_below(&random, 3)) {
            case 0:
                layers[i + 1] = weir_ctx_with_value(layers[i], &keys[n_values], &keys[n_values]);
                n_values++;
                break;
            case 1:
                layers[i + 1] = weir_ctx_with_cancel(layers[i]);
                if (first_end < 0) first_end = i + 1;
                break;
            default:
                layers[i + 1] = weir_ctx_with_timeout(layers[i], WEIR_HOUR + i);
                if (first_end < 0) first_end = i + 1;
            }
        int at = 1 + (int)wr_random_below(&random, N); /* cancel somewhere; effective if that one can end */
        bool ends = layers[at]->kind == WR_CTX_ENDS;
        weir_ctx_cancel(layers[at]);
        for (int i = 0; i < n_values; i++) CHECK(weir_ctx_value(layers[N], &keys[i]) == &keys[i]);
        CHECK_EQ(weir_ctx_err(layers[at]), ends ? -ECANCELED : 0);
        CHECK_EQ(weir_ctx_err(layers[N]), ends ? -ECANCELED : 0);
        CHECK_EQ(weir_ctx_err(layers[at - 1]), 0);
        weir_ctx_cancel(layers[first_end]);
        CHECK_EQ(weir_ctx_err(layers[N]), -ECANCELED);
        for (int i = N; i > 0; i--) {
            if (layers[i]->kind == WR_CTX_ENDS) CHECK(wr_list_empty(&wr_ending_of(layers[i])->children));
            weir_ctx_release(layers[i]);
        }
    }
}
