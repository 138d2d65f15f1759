/* What only a debug build finds: handles that have been freed, blocks that were left in the wrong order. */
#include "test.h"

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

#else
TEST(misuse_of_handles) { SKIP("this build has no debug checks"); }
#endif
