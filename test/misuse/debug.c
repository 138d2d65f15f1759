/* What only a debug build finds: handles that have been freed, blocks that were left in the wrong order. */
#include "test.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>

typedef WEIR_CHAN(int) int_chan;

#ifdef WEIR_DEBUG

static int_chan freed(void) {
    int_chan ch = weir_make(int_chan, 1);
    weir_release(ch);
    return ch;
}

EXIT_TEST(sending_to_a_freed_channel_is_caught, 2, "fatal error: weir_send: the channel ") {
    (void)!weir_send(freed(), 1);
}
EXIT_TEST(receiving_from_a_freed_channel_is_caught, 2, "fatal error: weir_recv: the channel ") {
    (void)!weir_recv(freed(), NULL);
}
EXIT_TEST(closing_a_freed_channel_is_caught, 2, "fatal error: weir_close: the channel ") { weir_close(freed()); }
EXIT_TEST(releasing_once_too_often_is_caught, 2, "fatal error: weir_release: the channel ") { weir_release(freed()); }
EXIT_TEST(retaining_a_freed_channel_is_caught, 2, "fatal error: weir_retain: the channel ") { weir_retain(freed()); }
EXIT_TEST(a_freed_channel_in_a_select_is_caught, 2, "fatal error: weir_select: the channel ") {
    (void)!weir_select(weir_on_recv(freed(), NULL), weir_on_default());
}

/* longjmp leaves the inner block without its end. */
EXIT_TEST(a_block_left_by_longjmp_is_caught, 2, "fatal error: a block was left before a block inside it") {
    static jmp_buf back;
    weir_timeout(WEIR_HOUR) {
        if (setjmp(back) == 0)
            weir_timeout(WEIR_HOUR) { longjmp(back, 1); }
    }
}

#ifndef TEST_TSAN
static pthread_mutex_t libcs = PTHREAD_MUTEX_INITIALIZER;
#define HELD "fatal error: a goroutine blocks while it holds a pthread mutex"
EXIT_TEST(to_sleep_with_a_pthread_mutex_is_caught, 2, HELD) {
    pthread_mutex_lock(&libcs);
    (void)weir_sleep(1);
}
EXIT_TEST(to_yield_with_a_pthread_mutex_is_caught, 2, HELD) {
    CHECK_EQ(pthread_mutex_trylock(&libcs), 0);
    weir_yield();
}
TEST(a_pthread_mutex_that_was_unlocked_disturbs_nobody) {
    for (int i = 0; i < 10; i++) {
        pthread_mutex_lock(&libcs);
        CHECK_EQ(pthread_mutex_trylock(&libcs), EBUSY);
        pthread_mutex_unlock(&libcs);
        CHECK_EQ(weir_sleep(1), 0);
    }
}
TEST(who_stays_on_its_thread_may_hold_a_pthread_mutex) {
    weir_lock_thread();
    pthread_mutex_lock(&libcs);
    CHECK_EQ(weir_sleep(WEIR_MILLISECOND), 0);
    CHECK_EQ(pthread_mutex_unlock(&libcs), 0);
    weir_unlock_thread();
}
#endif

#else
TEST(misuse_of_handles) { SKIP("this build has no debug checks"); }
#endif
