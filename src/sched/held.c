/*
 * Debug builds only: which pthread mutexes the calling thread holds. A goroutine may resume on another thread, and a mutex of
 * libc's belongs to the thread that locked it; so one that is held while its goroutine parks is unlocked by a
 * thread that does not own it, or never. These functions stand in front of libc's and count; wr_check_held looks
 * at the count wherever a goroutine leaves its thread.
 */
#include "sched/inner.h"

#if defined(WEIR_DEBUG) && !defined(WR_TSAN) /* which has functions of its own there */

#include <dlfcn.h>
#include <time.h>

static __thread int held __attribute__((tls_model("initial-exec")));
static __thread const void *last_taken __attribute__((tls_model("initial-exec")));

void wr_check_held(struct g *g) {
    if (held > 0 && !g->foreign && !g->locked_m)
        wr_fatal("a goroutine blocks while it holds a pthread mutex (%p was locked last): it may go on on another thread, "
                 "which must not unlock that. Use weir_mutex, or weir_lock_thread.", last_taken);
}

static int taken(int e, const void *mutex) {
    if (e == 0 || e == EOWNERDEAD) held++, last_taken = mutex;
    return e;
}

/* Linked statically there is no next one to be found, but glibc's has a second name. */
#define SECOND_NAME(name) extern __typeof__(name) __##name __attribute__((weak))
SECOND_NAME(pthread_mutex_lock);
SECOND_NAME(pthread_mutex_trylock);
SECOND_NAME(pthread_mutex_timedlock);
SECOND_NAME(pthread_mutex_unlock);

/* The function that would have been called without us. A race finds the same twice. */
#define REAL(name) \
    static _Atomic(__typeof__(&name)) real; \
    if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name); \
    if (!real) real = __##name
#define WRAPPED __attribute__((visibility("default")))

WRAPPED int pthread_mutex_lock(pthread_mutex_t *m) {
    REAL(pthread_mutex_lock);
    return taken(real(m), m);
}
WRAPPED int pthread_mutex_trylock(pthread_mutex_t *m) {
    REAL(pthread_mutex_trylock);
    return taken(real(m), m);
}
WRAPPED int pthread_mutex_timedlock(pthread_mutex_t *restrict m, const struct timespec *restrict until) {
    REAL(pthread_mutex_timedlock);
    return taken(real(m, until), m);
}
WRAPPED int pthread_mutex_unlock(pthread_mutex_t *m) {
    REAL(pthread_mutex_unlock);
    int e = real(m);
    if (e == 0) held--;
    return e;
}

#endif
