/* Threads that weir did not start. */
#ifndef TEST_THREADS_H
#define TEST_THREADS_H

#include "test.h"

#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

static inline pthread_t thread_start(void *(*fn)(void *), void *arg) {
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, fn, arg), 0);
    return thread;
}
/* Does that thread of this process sleep in the kernel? */
static inline bool thread_sleeps(int tid) {
    char path[64], text[200];
    snprintf(path, sizeof path, "/proc/self/task/%d/stat", tid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    CHECK_GE(n, 10);
    text[n] = 0;
    return strrchr(text, ')')[2] == 'S';
}
static inline int thread_join_(void *thread) { return pthread_join(*(pthread_t *)thread, NULL); }
/* From a goroutine, whose processor others have meanwhile. */
static inline void thread_end(pthread_t thread) { CHECK_EQ(weir_blocking(thread_join_, &thread), 0); }

#endif
