/* Crowds that many things wake. */
#include "proof_test.h"

enum { ARMS = 16, CROWD = 3000 };
static weir_chan *channels[ARMS];
static void select_all(void) {
    static int v;
    weir_arm arms[ARMS];
    memset(arms, 0, sizeof arms);
    for (int i = 0; i < ARMS; i++) arms[i].kind_ = WEIR_ARM_RECV_, arms[i].chan_ = channels[i], arms[i].elem_ = &v;
    CHECK_GE(weir_selectv(arms, ARMS), 0);
}
static weir_chan **volatile box;
static NOINLINE void put_into_box(void) {
    weir_chan **b = malloc(sizeof channels);
    CHECK(b);
    memcpy(b, channels, sizeof channels);
    memset(channels, 0, sizeof channels);
    box = b;
}
TEST(a_crowd_that_selects_over_the_same_channels_is_seen_to_live) {
    PROOF_WANTS_SIGNALS();
    for (int i = 0; i < ARMS; i++) CHECK((channels[i] = weir_chan_make(sizeof(int), 0)));
    for (int i = 0; i < CROWD; i++) TEST_GO(select_all);
    test_until_n_parked(CROWD, "select");
    put_into_box();
    CHECK(nobody_leaks("while a crowd selects"));
    for (int i = 0; i < ARMS; i++) CHECK_EQ(weir_chan_close(box[i]), 0);
    TEST_UNTIL(weir_count() == 1);
    for (int i = 0; i < ARMS; i++) weir_chan_release(box[i]);
    free(box);
}
