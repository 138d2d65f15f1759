/*
 * Profiles and proofs. The tables of the profiles hold addresses of code, and numbers that may look like a pointer to anything: they keep
 * nobody alive. And a goroutine that a profile has seen is found like any other.
 */
#include "proof_test.h"

#include "profile/profile.h"

static int unused;
static uintptr_t the_channel; /* veiled */
static NOINLINE void waits_for_ever(int_chan ch) { STUCK("chan receive", weir_recv(ch, &unused)); }
static NOINLINE void start_stuck(void) {
    int_chan ch = weir_make(int_chan, 0);
    the_channel = veil(ch.chan_);
    START(waits_for_ever, ch);
}

/* A wait that took as many nanoseconds as the channel's address has: so the sum in the table is that address. */
static NOINLINE void tell_block_profile(void) { wr_hook_block(WR_WAIT_CHAN_RECV, (weir_duration)(uintptr_t)unveil(the_channel)); }
static _Atomic uint64_t sum;
static void add_up(const uintptr_t *pcs, size_t n, uint64_t count, uint64_t nanoseconds, void *arg) { sum += nanoseconds; }
TEST(a_number_in_the_table_of_a_profile_keeps_nobody_alive) {
    RECALL_WANTS_GLIBC();
    weir_block_profile_rate(1);
    leak(1, start_stuck);
    tidily(tell_block_profile);
    weir_block_profile_rate(0);
    all_are_found();
    CHECK_GE(wr_profile_each(WR_PROFILE_BLOCK, add_up, NULL), 1);
    CHECK(~(uintptr_t)sum == the_channel); /* it was there */
}

/* Served once, while everything looks on; the second time nobody comes. */
static NOINLINE void waits_twice(int_chan ch) {
    (void)!weir_recv(ch, &unused);
    STUCK("chan receive", weir_recv(ch, &unused));
}
static NOINLINE void serve_once(void) {
    int_chan ch = weir_make(int_chan, 0);
    START(waits_twice, ch);
    test_until_n_parked(1, "chan receive");
    CHECK_EQ(weir_send(ch, 1), 0);
}
TEST(a_goroutine_that_profiles_have_seen_is_found) {
    RECALL_WANTS_GLIBC();
    weir_block_profile_rate(1);
    weir_mutex_profile_fraction(1);
    CHECK_EQ(wr_cpu_profile_start(100), 0);
    leak(1, serve_once);
    all_are_found();
    CHECK_EQ(wr_cpu_profile_stop(NULL, NULL), 0);
    all_are_found();
}
