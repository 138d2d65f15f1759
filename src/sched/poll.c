/*
 * The poller on epoll. One epoll descriptor for the life of the process, made when it is first needed, with an eventfd in it that
 * wakes the thread that sleeps there (sched.poller). The eventfd is level-triggered and drained by the poller alone,
 * so that no other thread that happens to ask can take the wake-up away; whoever writes to it has set the poller's m->wake before.
 *
 * WEIR_POLLER=uring adds a ring, whose descriptor is here as any other, and whose completions are taken after each look: poll_uring.c.
 */
#include "sched/inner.h"

#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

static _Atomic int epoll_fd = -1; /* -1: none yet */
static int wake_fd;               /* written before epoll_fd is published */

/* That there are completions needs no telling: they are looked for in any case. */
static void ring_edge(struct wr_source *s, unsigned edges, struct wr_batch *ready) {}
static struct wr_source ring_source = { .edge = ring_edge };

void wr_poll_choose(void) {
    static bool chosen;
    const char *env = getenv("WEIR_POLLER"), *why = NULL;
    if (chosen) return;
    chosen = true;
    if (!env || !*env || !strcmp(env, "auto") || !strcmp(env, "epoll")) return;
    if (strcmp(env, "uring") != 0) wr_warn("WEIR_POLLER=%s: not epoll, uring or auto; ignored", env);
    else if ((why = wr_uring_open())) wr_warn("WEIR_POLLER=uring: there is no io_uring to be had (%s); epoll is used", why);
    else wr_has_ring = true;
}

static int add_ring(int ep) {
    struct epoll_event ring = { .events = EPOLLIN, .data.ptr = &ring_source };
    return wr_ring() ? epoll_ctl(ep, EPOLL_CTL_ADD, wr_uring_fd(), &ring) : 0;
}

static int make(void) {
    int ep = epoll_create1(EPOLL_CLOEXEC), ev = ep < 0 ? -1 : eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), e = -errno;
    if (ev >= 0) {
        struct epoll_event wake = { .events = EPOLLIN, .data.ptr = NULL };
        if (epoll_ctl(ep, EPOLL_CTL_ADD, ev, &wake) == 0 && add_ring(ep) == 0) {
            wake_fd = ev;
            atomic_store_explicit(&epoll_fd, ep, memory_order_release);
            return ep;
        }
        e = -errno;
        close(ev);
    }
    if (ep >= 0) close(ep);
    return e;
}

/* The epoll descriptor, or -errno. */
static int poller(void) {
    int ep = atomic_load_explicit(&epoll_fd, memory_order_acquire);
    if (wr_likely(ep >= 0)) return ep;
    wr_lock(&wr_sched.lock, WR_RANK_SCHED);
    ep = atomic_load_explicit(&epoll_fd, memory_order_relaxed);
    if (ep < 0) ep = make();
    wr_unlock(&wr_sched.lock, WR_RANK_SCHED);
    return ep;
}

static int control(int what, int fd, struct wr_source *s) {
    int ep = poller();
    if (ep < 0) return ep;
    /* Urgent data too: reads stop at it, though more may follow. */
    struct epoll_event event = { .events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLPRI | EPOLLET, .data.ptr = s };
    return epoll_ctl(ep, what, fd, &event) == 0 ? 0 : -errno;
}

int wr_poll_add(int fd, struct wr_source *s) { return control(EPOLL_CTL_ADD, fd, s); }
int wr_poll_again(int fd, struct wr_source *s) { return control(EPOLL_CTL_MOD, fd, s); }
void wr_poll_forget(int fd) { (void)control(EPOLL_CTL_DEL, fd, NULL); }

int wr_ring_ask(int fd, enum wr_asked what, struct wr_source *s, uint16_t turn) {
    int ep = poller();
    return ep < 0 ? ep : wr_uring_ask(fd, what, s, turn);
}

/* Nanoseconds where the kernel has them (5.11), else milliseconds, rounded up so that who waits does not spin. */
static int wait_for_events(int ep, struct epoll_event *events, int max, weir_duration d) {
    static _Atomic bool coarse;
    if (d > 0 && !atomic_load_explicit(&coarse, memory_order_relaxed)) {
        struct timespec t = { .tv_sec = d / WEIR_SECOND, .tv_nsec = d % WEIR_SECOND };
        int n = (int)syscall(SYS_epoll_pwait2, ep, events, max, &t, NULL, (size_t)0);
        if (n >= 0 || errno == EINTR) return n;
        if (errno != ENOSYS && errno != EPERM) return n;
        atomic_store_explicit(&coarse, true, memory_order_relaxed);
    }
    weir_duration ms = d <= 0 ? d : (d - 1) / WEIR_MILLISECOND + 1;
    return epoll_wait(ep, events, max, ms < 0 ? -1 : ms > INT32_MAX ? INT32_MAX : (int)ms);
}

/* Collect what has become ready; sleep until then if it is to be waited for: until WR_NEVER or a time. 0: only look. */
void wr_poll(weir_time until, int max, struct wr_batch *ready) {
    int ep = atomic_load_explicit(&epoll_fd, memory_order_acquire);
    if (ep < 0) return;
    struct epoll_event events[WR_EVENTS];
    weir_duration d = until == WR_NEVER ? -1 : until ? until - wr_now() : 0;
    if (d < 0 && until != WR_NEVER) d = 0;
    int n = wait_for_events(ep, events, max, d);
    if (n < 0) {
        if (errno == EINTR && !wr_ring()) return;
        if (errno == EINTR) n = 0; /* the kernel had to do something for a request of this thread's, and it may be that */
        else wr_fatal("the poller's descriptor is gone (%s): the program has closed one that is not its own", strerror(errno));
    }
    atomic_fetch_add_explicit(&wr_sched.polls, 1, memory_order_relaxed);
    for (int i = 0; i < n; i++) {
        struct wr_source *s = events[i].data.ptr;
        if (!s) {
            uint64_t wakes;
            if (until) (void)!read(wake_fd, &wakes, sizeof wakes); /* by the poller alone; it may be drained already */
            continue;
        }
        uint32_t e = events[i].events;
        unsigned edges = 0;
        if (e & (EPOLLRDHUP | EPOLLHUP | EPOLLERR | EPOLLPRI)) edges |= WR_EDGE_ENDED;
        if (e & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR | EPOLLPRI)) edges |= WR_EDGE_IN;
        if (e & (EPOLLOUT | EPOLLHUP | EPOLLERR)) edges |= WR_EDGE_OUT;
        atomic_load_explicit(&s->edge, memory_order_acquire)(s, edges, ready);
    }
    if (wr_ring()) wr_uring_reap(max, ready);
}

void wr_poll_settle(void) {
    struct wr_batch ready = { 0 };
    while (wr_ring() && wr_uring_reap(WR_EVENTS, &ready)) {}
    wr_ready_all(&ready);
}

void wr_poll_interrupt(void) {
    uint64_t one = 1;
    (void)!write(wake_fd, &one, sizeof one); /* it is full: whoever sleeps there is being woken */
}

void wr_poll_begin(void) {
    atomic_fetch_add(&wr_sched.waiting, 1);
    /* A worker that parks here will look, or sleep, in the poller itself, if nobody does; a thread of the program's will not. */
    if (wr_unlikely(!wr_m()) && !atomic_load(&wr_sched.poller)) {
        wr_lock(&wr_sched.lock, WR_RANK_SCHED);
        wr_see_to_poller();
        wr_unlock(&wr_sched.lock, WR_RANK_SCHED);
    }
}
void wr_poll_end(void) { atomic_fetch_sub_explicit(&wr_sched.waiting, 1, memory_order_relaxed); }
