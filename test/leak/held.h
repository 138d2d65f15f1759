/*
 * One goroutine waits to receive, and the only handle to its channel is in one place. As long as it is there, no proof may
 * report the waiter, whoever asks for it; once it has been taken away, every proof must: which shows that there was no other.
 * Meanwhile the test itself keeps the handle's complement, so that it can send to the waiter and end it.
 */
#ifndef HELD_H
#define HELD_H

#include "proof_test.h"

static uintptr_t the_handle; /* veiled */
static _Atomic int waiters_ended;

static void waiter(int_chan ch) {
    int v = 0;
    CHECK_EQ(weir_recv(ch, &v), 0);
    CHECK_EQ(v, 42);
    weir_release(ch);
    waiters_ended++;
}
static NOINLINE void start_waiter(void) {
    int_chan ch = weir_make(int_chan, 0);
    the_handle = veil(weir_chan_of(ch));
    TEST_GO(waiter, ch);
    test_until_n_parked(1, "chan receive");
}
static NOINLINE void end_waiter(void) {
    CHECK_EQ(weir_chan_send(unveil(the_handle), &(int){ 42 }), 0);
    TEST_UNTIL(waiters_ended == 1);
}

static void *prove_in_thread(void *conclusive) {
    *(_Atomic bool *)conclusive |= nobody_leaks("asked by a thread");
    return NULL;
}
static void prove_in_goroutine(_Atomic bool *conclusive, _Atomic int *left) {
    *conclusive |= nobody_leaks("asked by another goroutine");
    --*left;
}
/* Nobody has leaked, says whoever is asked. */
static NOINLINE void nobody_leaks_whoever_asks(void) {
    _Atomic bool conclusive = nobody_leaks("asked by main");
    _Atomic int left = 1;
    TEST_GO(prove_in_goroutine, &conclusive, &left);
    TEST_UNTIL(left == 0);
    thread_end(thread_start(prove_in_thread, (void *)&conclusive));
#ifndef TEST_TSAN
    CHECK(conclusive);
#endif
}

static void (*fill_)(void *handle);
static NOINLINE void call_fill_(void) { fill_(unveil(the_handle)); }

/* fill puts the handle into its place, wipe takes it out: both deep below, with nothing left behind. wipe NULL: it cannot be
 * taken out before the waiter has been served. */
static NOINLINE void held(void (*fill)(void *handle), void (*wipe)(void)) {
    tidily(start_waiter);
    fill_ = fill;
    tidily(call_fill_);
    for (long i = TEST_SCALE(3); i > 0; i--) nobody_leaks_whoever_asks();
    if (wipe) {
        tidily(wipe);
        if (HEAP_IS_KNOWN) CHECK_LEAKED(1);
    }
    tidily(end_waiter);
}

#endif
