/*
 * The threads on which answers are made. They are made when there is work for them and stay: a thread that ends would be, for a moment,
 * one that the scheduler does not know, and hide a deadlock.
 *
 * pool.lock guards all of it and is held for moments.
 */
#include "debug/debug.h"

#include <pthread.h>

enum { MOST = 16, STACK = 256 << 10 };

static struct {
    pthread_mutex_t lock;
    pthread_cond_t posted;
    struct wr_work *first, **last; /* last: where the next one goes */
    unsigned waiting;              /* in that list */
    unsigned threads, busy;        /* those that are there, or about to be; and of them, those at work */
} pool = { .lock = PTHREAD_MUTEX_INITIALIZER, .posted = PTHREAD_COND_INITIALIZER, .last = &pool.first };

static void work(void *arg) {
    (void)arg;
    pthread_mutex_lock(&pool.lock);
    for (;;) {
        while (!pool.first) pthread_cond_wait(&pool.posted, &pool.lock);
        pool.busy++;
        struct wr_work *w = pool.first;
        pool.first = w->next;
        pool.waiting--;
        if (!pool.first) pool.last = &pool.first;
        pthread_mutex_unlock(&pool.lock);
        w->fn(w);
        pthread_mutex_lock(&pool.lock);
        pool.busy--;
    }
}

/* Called by the loop's thread alone, so nobody takes the place that it has found. */
int wr_work_post(struct wr_work *w) {
    pthread_mutex_lock(&pool.lock);
    bool free = pool.threads > pool.busy + pool.waiting, make = !free && pool.threads < MOST;
    pool.threads += make;
    pthread_mutex_unlock(&pool.lock);
    if (!free && !make) return -EAGAIN;
    int e = make ? wr_inside->thread(STACK, work, NULL) : 0;
    pthread_mutex_lock(&pool.lock);
    if (e) {
        pool.threads--;
    } else {
        w->next = NULL;
        *pool.last = w;
        pool.last = &w->next;
        pool.waiting++;
        pthread_cond_signal(&pool.posted);
    }
    pthread_mutex_unlock(&pool.lock);
    return e ? -EAGAIN : 0;
}

void wr_work_after_fork(void) {
    pthread_mutex_init(&pool.lock, NULL);
    pthread_cond_init(&pool.posted, NULL);
    pool.first = NULL, pool.last = &pool.first;
    pool.waiting = pool.threads = pool.busy = 0;
}
