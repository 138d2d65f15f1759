/*
 * What the proof cannot see, each shown. A pointer that is stored as none, or where nobody looks, does not count: its goroutine is
 * reported though it is well; weir_leak_ignore and weir_leak_root are for that. And one that lies about, though nobody will ever
 * use it, does count: its goroutine is not reported though it hangs.
 */
#include "held.h"

/* ---- Reported though well ------------------------------------------------------------------------------------- */

static void (*hide_)(void *handle);
static NOINLINE void call_hide_(void) { hide_(unveil(the_handle)); }

static NOINLINE void ignore_it(void) { weir_leak_ignore(unveil(the_handle)); }
static NOINLINE void unignore_it(void) { weir_leak_unignore(unveil(the_handle)); }
/* Hidden, the waiter is taken for leaked; ignored, it is not; and when the ignoring is taken back, it is again. A verdict stays,
 * so the accusation comes last. */
static NOINLINE void ignoring_helps(void (*hide)(void *handle)) {
    RECALL_WANTS_GLIBC();
    tidily(start_waiter);
    hide_ = hide;
    tidily(call_hide_);
    tidily(ignore_it);
    CHECK_LEAKED(0);
    tidily(unignore_it);
    CHECK_LEAKED(1);
}

static volatile uintptr_t xored;
static void hide_xored(void *h) { xored = (uintptr_t)h ^ 0x5a5a5a5a5a5a5a5au; }
static NOINLINE void send_xored(void) {
    CHECK_EQ(weir_chan_send((weir_chan *)(xored ^ 0x5a5a5a5a5a5a5a5au), &(int){ 42 }), 0);
}
TEST(an_xored_pointer_does_not_count) {
    ignoring_helps(hide_xored);
    /* Well it was: the handle is in use, and the report forgets it. */
    tidily(send_xored);
    TEST_UNTIL(waiters_ended == 1);
    CHECK_LEAKED(0);
}

static volatile uint32_t compressed[2]; /* 32 bits, in units of 16 bytes from a base; and what is above */
static void hide_compressed(void *h) {
    compressed[0] = (uint32_t)((uintptr_t)h >> 4);
    compressed[1] = (uint32_t)((uintptr_t)h >> 36);
}
TEST(a_compressed_pointer_does_not_count) { ignoring_helps(hide_compressed); }

static volatile uint16_t scattered[8];
static void hide_scattered(void *h) {
    for (int i = 0; i < 4; i++) scattered[2 * i] = (uint16_t)((uintptr_t)h >> 16 * i);
}
TEST(a_pointer_in_pieces_does_not_count) { ignoring_helps(hide_scattered); }

static char text[32];
static void hide_in_text(void *h) { snprintf(text, sizeof text, "%p", h); }
TEST(a_pointer_in_text_does_not_count) { ignoring_helps(hide_in_text); }

static int in_flight[2];
static void hide_in_pipe(void *h) {
    CHECK_EQ(pipe(in_flight), 0);
    CHECK_EQ(write(in_flight[1], &h, sizeof h), (ssize_t)sizeof h);
}
static NOINLINE void send_from_pipe(void) {
    weir_chan *h;
    CHECK_EQ(read(in_flight[0], &h, sizeof h), (ssize_t)sizeof h);
    CHECK_EQ(weir_chan_send(h, &(int){ 42 }), 0);
}
TEST(a_pointer_in_a_pipe_does_not_count) {
    ignoring_helps(hide_in_pipe);
    tidily(send_from_pipe);
    TEST_UNTIL(waiters_ended == 1);
    CHECK_LEAKED(0);
}

static void hide_in_file(void *h) {
    int fd = memfd_create("file", MFD_CLOEXEC);
    CHECK(fd >= 0);
    CHECK_EQ(write(fd, &h, sizeof h), (ssize_t)sizeof h);
}
TEST(a_pointer_in_a_file_does_not_count) { ignoring_helps(hide_in_file); }

static void **volatile shared_page;
static void hide_in_shared_memory(void *h) {
    shared_page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(shared_page != MAP_FAILED);
    shared_page[100] = h;
}
TEST(a_pointer_in_shared_memory_does_not_count) { ignoring_helps(hide_in_shared_memory); }

/* Memory that the user names is looked at, as long as it is named. */
TEST(a_pointer_in_shared_memory_counts_where_the_user_says_so) {
    RECALL_WANTS_GLIBC();
    tidily(start_waiter);
    hide_ = hide_in_shared_memory;
    tidily(call_hide_);
    weir_leak_root(shared_page, 4096);
    CHECK_LEAKED(0);
    weir_leak_root(shared_page, 4096); /* twice said, twice to be taken back */
    weir_leak_unroot(shared_page, 4096);
    CHECK_LEAKED(0);
    weir_leak_unroot(shared_page, 4096);
    CHECK_LEAKED(1);
}
TEST(a_root_is_looked_at_only_where_it_is) {
    RECALL_WANTS_GLIBC();
    tidily(start_waiter);
    hide_ = hide_in_shared_memory;
    tidily(call_hide_);
    weir_leak_root(shared_page, 100 * sizeof *shared_page);
    CHECK_LEAKED(1);
}

/* What an ignored object is reached for, others are too: all that its waiter can reach. */
static void hold_another(int_chan mine, int_chan other) {
    int v = 0;
    (void)!weir_recv(mine, &v);
    CHECK_EQ(weir_send(other, v), 0);
}
static void wait_in_row(void) {
    int_chan first = weir_make(int_chan, 0), second = weir_make(int_chan, 0);
    the_handle = veil(weir_chan_of(first));
    TEST_GO(hold_another, first, second);
    TEST_GO(waiter, second);
    test_until_n_parked(2, "chan receive");
}
TEST(who_waits_for_an_ignored_one_has_not_leaked) {
    RECALL_WANTS_GLIBC();
    tidily(wait_in_row);
    tidily(ignore_it);
    CHECK_LEAKED(0);
    tidily(unignore_it);
    CHECK_LEAKED(2);
}

/* ---- Not reported though hung ---------------------------------------------------------------------------------- */

/* main will not send; but who knows that? */
static void *volatile registry;
static void register_handle(void *h) { registry = h; }
static NOINLINE void hangs_unseen(void (*hold)(void *handle)) {
    tidily(start_waiter);
    hide_ = hold;
    tidily(call_hide_);
    for (int i = 0; i < 3; i++) CHECK(nobody_leaks("a forgotten handle is still in a global") || !HEAP_IS_KNOWN);
}
TEST(a_handle_forgotten_in_a_global_hides_the_leak) { hangs_unseen(register_handle); }

/* An integer that happens to be the address. */
static volatile uint64_t measurement;
static void look_alike(void *h) { measurement = (uint64_t)(uintptr_t)h; }
TEST(a_number_that_looks_like_the_handle_hides_the_leak) { hangs_unseen(look_alike); }

/* A deadline that is an hour away: it will end, in time. */
static void wait_an_hour(void) {
    weir_timeout(WEIR_HOUR) (void)!weir_recv(weir_make(int_chan, 0), NULL);
}
static void start_waiting_an_hour(void) { TEST_GO(wait_an_hour); }
TEST(a_deadline_far_away_hides_the_leak) {
    tidily(start_waiting_an_hour);
    test_until_n_parked(1, "chan receive");
    CHECK(nobody_leaks("it has a deadline") || !HEAP_IS_KNOWN);
}

/* One who sleeps is not asked what it will do. */
static void tick_for_ever(void *h) {
    void *volatile frame = h;
    while (weir_sleep(WEIR_MILLISECOND) == 0 && frame) {
    }
}
static void start_ticking(void *h) { TEST_GO(tick_for_ever, h); }
TEST(a_goroutine_that_ticks_for_ever_hides_what_it_holds) { hangs_unseen(start_ticking); }
