/* Locks, conditions, once, wait groups, semaphores. Go: package sync, golang.org/x/sync/semaphore. */
#ifndef WEIR_SYNC_H
#define WEIR_SYNC_H

WEIR_BEGIN_

/*
 * All are plain structs: zero-initialise them (weir_sem by weir_sem_init), embed them, copy them never. None needs a
 * destructor; their memory is the caller's again as soon as the last wait, lock or do has returned, even if the call
 * that let it return has not. They block the goroutine, not the thread, and threads that weir did not start may use
 * them too. Unless said otherwise a call returns 0 and does not block, and NULL pointers are not allowed.
 */
struct weir_waitq_ { /* who waits, first come first */
    uint32_t lock_;  /* guards the rest */
    uint32_t count_; /* how many wait */
    void *head_, *tail_;
};

/*
 * Mutual exclusion. Not reentrant; may be unlocked by another goroutine. A newcomer may get it before one who waits,
 * which is what makes it fast; but who has waited for more than 1 ms and missed it again gets it next, and until
 * nobody has waited that long it goes by the order of coming. Go: sync.Mutex.
 */
typedef struct weir_mutex {
    uint32_t state_; /* locked, and whether somebody waits */
    uint32_t spin_;  /* how much spinning it is worth */
    struct weir_waitq_ q_;
} weir_mutex;
#define WEIR_MUTEX_INIT { 0, 0, { 0, 0, NULL, NULL } }
WEIR_API_ int weir_mutex_lock(weir_mutex *m); /* blocks; not cancellable */
WEIR_API_ WEIR_MUST_USE_ int weir_mutex_try_lock(weir_mutex *m); /* -EAGAIN: held */
WEIR_API_ int weir_mutex_unlock(weir_mutex *m); /* -EPERM: not locked */

/* weir_locked(&m) { … }: hold m for a block. `break` and `continue` leave just that block; however it is left
 * (return, goto, weir_exit), m is unlocked. Blocks to get in; not cancellable. */
WEIR_API_ weir_block_ *weir_locked_enter_(weir_block_ *b, weir_mutex *m);
#define weir_locked(m) WEIR_BLOCK_(weir_locked_enter_, (m))

/*
 * Many readers or one writer. A writer that waits for readers to leave holds new readers back, so a reader must not
 * take it again while it has it; the readers that wait when a writer unlocks all get in before the next writer.
 * Writers compete as for a mutex. May be unlocked by another goroutine. Go: sync.RWMutex.
 */
typedef struct weir_rwmutex {
    uint64_t state_;            /* a writer, or how many readers; and who waits */
    uint32_t spin_, pad_;       /* how much spinning it is worth */
    void *drain_;               /* the writer that waits for the readers who are in */
    struct weir_waitq_ q_, wq_; /* readers; writers */
} weir_rwmutex;
#define WEIR_RWMUTEX_INIT { 0, 0, 0, NULL, { 0, 0, NULL, NULL }, { 0, 0, NULL, NULL } }
WEIR_API_ int weir_rwmutex_rlock(weir_rwmutex *rw); /* blocks; not cancellable */
WEIR_API_ WEIR_MUST_USE_ int weir_rwmutex_try_rlock(weir_rwmutex *rw); /* -EAGAIN: a writer has it or is next */
WEIR_API_ int weir_rwmutex_runlock(weir_rwmutex *rw); /* -EPERM: no reader has it */
WEIR_API_ int weir_rwmutex_lock(weir_rwmutex *rw); /* blocks; not cancellable */
WEIR_API_ WEIR_MUST_USE_ int weir_rwmutex_try_lock(weir_rwmutex *rw); /* -EAGAIN: held */
WEIR_API_ int weir_rwmutex_unlock(weir_rwmutex *rw); /* -EPERM: no writer has it */

/*
 * A condition. wait unlocks the lock, sleeps until a signal, and locks again before it returns, whatever it returns;
 * no signal that comes after the unlocking is missed. Signals wake in the order of waiting. There are no spurious
 * wake-ups, but the condition may have changed again: wait in a loop. All waiters of one time use one lock. Go:
 * sync.Cond.
 *
 * wait blocks. Cancellable: -ECANCELED, -ETIMEDOUT, -EDEADLK (healed); it has then taken no signal from anybody.
 * A signal that was first counts: 0. -EPERM: the lock is not held (for _rw: by a writer).
 */
typedef struct weir_cond {
    struct weir_waitq_ q_;
} weir_cond;
#define WEIR_COND_INIT { { 0, 0, NULL, NULL } }
WEIR_API_ WEIR_MUST_USE_ int weir_cond_wait(weir_cond *c, weir_mutex *m);
WEIR_API_ WEIR_MUST_USE_ int weir_cond_wait_rw(weir_cond *c, weir_rwmutex *rw); /* rw is write-locked */
WEIR_API_ int weir_cond_signal(weir_cond *c);    /* wakes one, if any; the lock need not be held */
WEIR_API_ int weir_cond_broadcast(weir_cond *c); /* wakes all */

/* Run fn(arg) once, ever; later callers wait until it has returned, or has ended its goroutine by weir_exit. Blocks;
 * not cancellable. fn must not use the same once: it would wait for itself. Go: sync.Once. */
typedef struct weir_once {
    uint32_t state_; /* fresh, running, done; and whether somebody waits */
    uint32_t pad_;
    struct weir_waitq_ q_;
} weir_once;
#define WEIR_ONCE_INIT { 0, 0, { 0, 0, NULL, NULL } }
WEIR_API_ int weir_once_do(weir_once *o, void (*fn)(void *), void *arg);
/* What has been done is no call, but a look at a word. */
#define WEIR_ONCE_DONE_ 2
#define weir_once_do(o, fn, arg)                                                                                           \
    (__extension__({                                                                                                       \
        weir_once *weir_once_ = (o);                                                                                       \
        void (*weir_fn_)(void *) = (fn);                                                                                   \
        void *weir_arg_ = (arg);                                                                                           \
        __atomic_load_n(&weir_once_->state_, __ATOMIC_ACQUIRE) == WEIR_ONCE_DONE_ ? 0                                      \
                                                                                   : weir_once_do(weir_once_, weir_fn_, weir_arg_); \
    }))

/* Counts goroutines down to 0, then lets those who wait for that go on. Add before the goroutine starts. May be used
 * again once wait has returned. Go: sync.WaitGroup. */
typedef struct weir_wg {
    uint64_t state_; /* the count, and whether somebody waits */
    struct weir_waitq_ q_;
} weir_wg;
#define WEIR_WG_INIT { 0, { 0, 0, NULL, NULL } }
/* n may be negative. -EINVAL: the count would be, or would overflow; nothing changes. */
WEIR_API_ int weir_wg_add(weir_wg *wg, int64_t n);
WEIR_API_ int weir_wg_done(weir_wg *wg); /* add(-1) */
/* Wait until the count is 0. Blocks; cancellable: -ECANCELED, -ETIMEDOUT, -EDEADLK (healed). */
WEIR_API_ WEIR_MUST_USE_ int weir_wg_wait(weir_wg *wg);
WEIR_API_ int weir_wg_launch_(void (*fn)(void), const weir_site_ *site, size_t stack, bool returns_int, void *wg);
/* int weir_wg_go(&wg, fn, ...): add(1), weir_go(fn, …), and done when it ends, by weir_exit too. Errors as weir_go
 * and add; the count is then as before. Go: WaitGroup.Go. */
#define weir_wg_go(wg, fn, ...) WEIR_GO_(fn, weir_wg_launch_, 0, (wg) __VA_OPT__(, ) __VA_ARGS__)

/* A weighted semaphore, first come first served, so that a large request is not starved by small ones. Go:
 * semaphore.Weighted. */
typedef struct weir_sem {
    int64_t size_, used_; /* units there are; taken */
    struct weir_waitq_ q_;
} weir_sem;
WEIR_API_ int weir_sem_init(weir_sem *s, int64_t n); /* n units are free; -EINVAL: n < 0 */
/* Take n units. Blocks; cancellable: -ECANCELED, -ETIMEDOUT, -EDEADLK (healed), and nothing was taken. -EINVAL:
 * n < 0 or more than there can ever be. */
WEIR_API_ WEIR_MUST_USE_ int weir_sem_acquire(weir_sem *s, int64_t n);
/* The same, but -EAGAIN instead of blocking: not free, or others wait. */
WEIR_API_ WEIR_MUST_USE_ int weir_sem_try_acquire(weir_sem *s, int64_t n);
WEIR_API_ int weir_sem_release(weir_sem *s, int64_t n); /* -EINVAL: n < 0, or more than is taken */

WEIR_END_

#endif
