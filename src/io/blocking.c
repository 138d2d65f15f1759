/*
 * Calls that the kernel has no readiness for (files, names): they run on the goroutine's own thread, whose processor goes to another. Not
 * too many at once: each holds a thread.
 */
#include "io/io.h"

#define AT_ONCE 64

static weir_sem slots; /* reachable from here, so who waits for one is not leaked */

__attribute__((constructor)) static void set_up(void) { (void)weir_sem_init(&slots, AT_ONCE); }

struct call {
    int64_t (*fn)(void *arg);
    void *arg;
    int64_t result;
};

static int run(void *arg) {
    struct call *c = arg;
    c->result = c->fn(c->arg);
    return 0;
}

int64_t wr_io_blocking(int64_t (*fn)(void *arg), void *arg) {
    struct call c = { .fn = fn, .arg = arg };
    int error = wr_io_ended();
    if (!error) error = weir_sem_acquire(&slots, 1);
    if (error) return error;
    weir_blocking(run, &c);
    (void)weir_sem_release(&slots, 1);
    return c.result;
}
