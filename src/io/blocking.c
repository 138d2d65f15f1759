/*
 * Calls that the kernel has no readiness for (files, names): they run on the goroutine's own thread, whose processor goes to another. Not
 * too many at once: each holds a thread. Its place is free as soon as fn has returned, not when the goroutine comes back from
 * weir_blocking: where the runtime has stopped meanwhile it never does, and the next run wants the places too.
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
    return weir_sem_release(&slots, 1);
}

int64_t wr_io_blocking(int64_t (*fn)(void *arg), void *arg) {
    struct call c = { .fn = fn, .arg = arg };
    int error = wr_io_ended();
    if (!error) error = weir_sem_acquire(&slots, 1);
    if (error) return error;
    (void)weir_blocking(run, &c);
    return c.result;
}
