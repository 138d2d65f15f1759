/* Threads that weir did not start. */
#ifndef TEST_THREADS_H
#define TEST_THREADS_H

#include "test.h"

#include <pthread.h>

static inline pthread_t thread_start(void *(*fn)(void *), void *arg) {
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, fn, arg), 0);
    return thread;
}
static inline int thread_join_(void *thread) { return pthread_join(*(pthread_t *)thread, NULL); }
/* From a goroutine, whose processor others have meanwhile. */
static inline void thread_end(pthread_t thread) { CHECK_EQ(weir_blocking(thread_join_, &thread), 0); }

#endif
