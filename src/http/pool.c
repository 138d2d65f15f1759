/*
 * The pool: curl's connections, and who drives them. One lock for everything here and in the requests; it is held for calls of curl's
 * and otherwise for a few lines, never while somebody waits.
 *
 * What curl waits for. It says which sockets it wants to watch, and when it wants to be called at the latest. The sockets are in an
 * epoll descriptor of ours, and so is a timer (timerfd) that is set to that time. So all of it is one descriptor to wait on, which
 * is readable when curl has something to do; a request that is added wakes whoever waits there, because curl sets the timer to now.
 *
 * Who waits for it. No goroutine of our own: of those that wait for their answers one is the leader. It waits on the descriptor, then lets
 * curl work, for everybody, and wakes those who have something to look at. The others wait on their conditions. Who stops
 * waiting, for whatever reason, and leaves nobody leading wakes another, who then leads. A goroutine in its on_body does not wait, so it
 * cannot lead: where all are there, nobody drives, and nobody needs it.
 *
 * A cancelled goroutine is woken from either wait, and takes its request out itself: curl closes the connection.
 *
 * Closing idle connections. curl has no call for that but to end the whole. So the pool is given up: later requests make another, and
 * the last request in the old one ends that.
 */
#include "http/http.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

enum { IDLE_CONNECTIONS = 100, EVENTS = 64 };

struct wr_http_pool {
    CURLM *multi;
    int epoll, timer;
    int broken;               /* curl or the kernel refused something that no single request stands for */
    struct wr_http *first;    /* requests */
    struct wr_http *leader;
};

static weir_mutex lock = WEIR_MUTEX_INIT;
static struct wr_http_pool *current; /* for new requests; NULL: none yet */

void wr_http_lock(void) { weir_mutex_lock(&lock); }
void wr_http_unlock(void) { weir_mutex_unlock(&lock); }

/* ---- What curl calls --------------------------------------------------------------------------------- */

static int watch(CURL *easy, curl_socket_t fd, int what, void *pool, void *known) {
    struct wr_http_pool *p = pool;
    struct epoll_event e = { .data.fd = fd };
    if (what & CURL_POLL_IN && what != CURL_POLL_REMOVE) e.events |= EPOLLIN;
    if (what & CURL_POLL_OUT && what != CURL_POLL_REMOVE) e.events |= EPOLLOUT;
    /* It may be closed already, and its number somebody else's, which does no harm as that is not in this set. ThreadSanitizer would
     * take that for a race, but for a bare system call. */
    if (!e.events) syscall(SYS_epoll_ctl, p->epoll, EPOLL_CTL_DEL, fd, NULL);
    else if (epoll_ctl(p->epoll, EPOLL_CTL_MOD, fd, &e) && epoll_ctl(p->epoll, EPOLL_CTL_ADD, fd, &e)) p->broken = -errno;
    return 0;
}

static int set_timer(CURLM *multi, long ms, void *pool) {
    struct wr_http_pool *p = pool;
    struct itimerspec when = { 0 }; /* ms < 0: off */
    if (ms >= 0) when.it_value = (struct timespec){ .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 + 1 }; /* 0 would be off */
    timerfd_settime(p->timer, 0, &when, NULL);
    return 0;
}

/* ---- Making and ending ------------------------------------------------------------------------------- */

static void pool_free(struct wr_http_pool *p) {
    if (p->multi) curl_multi_cleanup(p->multi); /* calls back */
    if (p->epoll >= 0) close(p->epoll);
    if (p->timer >= 0) close(p->timer);
    free(p);
}

static int pool_make(struct wr_http_pool **made) {
    struct wr_http_pool *p = calloc(1, sizeof *p);
    if (!p) return -ENOMEM;
    p->epoll = epoll_create1(EPOLL_CLOEXEC);
    p->timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    struct epoll_event e = { .events = EPOLLIN, .data.fd = p->timer };
    int error = p->epoll < 0 || p->timer < 0 || epoll_ctl(p->epoll, EPOLL_CTL_ADD, p->timer, &e) ? -errno : 0;
    if (!error && !(p->multi = curl_multi_init())) error = -ENOMEM; /* or no descriptors: it does not say */
    if (error) {
        pool_free(p);
        return error;
    }
    curl_multi_setopt(p->multi, CURLMOPT_SOCKETFUNCTION, watch);
    curl_multi_setopt(p->multi, CURLMOPT_SOCKETDATA, p);
    curl_multi_setopt(p->multi, CURLMOPT_TIMERFUNCTION, set_timer);
    curl_multi_setopt(p->multi, CURLMOPT_TIMERDATA, p);
    curl_multi_setopt(p->multi, CURLMOPT_MAXCONNECTS, (long)IDLE_CONNECTIONS);
    *made = p;
    return 0;
}

static void give_up(struct wr_http_pool *p) {
    if (p == current) current = NULL;
    if (!p->first) pool_free(p);
}

void weir_http_close_idle(void) {
    wr_http_lock();
    if (current) give_up(current);
    wr_http_unlock();
}

/* ---- Driving ----------------------------------------------------------------------------------------- */

void wr_http_wake(struct wr_http *r) {
    if (!r->waiting) return; /* it is the leader, or will look by itself */
    r->waiting = false;
    weir_cond_signal(&r->wake);
}

/* Tell those whose transfers have ended. */
static void settle(struct wr_http_pool *p) {
    int left;
    for (CURLMsg *m; (m = curl_multi_info_read(p->multi, &left));) {
        struct wr_http *r = NULL;
        if (m->msg != CURLMSG_DONE || curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&r) || !r) continue;
        r->code = m->data.result;
        r->done = true;
        wr_http_wake(r);
    }
    if (!p->broken) return;
    for (struct wr_http *r = p->first; r; r = r->next) {
        if (r->done) continue;
        r->error = p->broken;
        r->done = true;
        wr_http_wake(r);
    }
    if (p == current) current = NULL;
}

static void drive(struct wr_http_pool *p) {
    struct epoll_event events[EVENTS];
    int n = epoll_wait(p->epoll, events, EVENTS, 0), running;
    for (int i = 0; i < n; i++) {
        int fd = events[i].data.fd, what = 0;
        if (fd == p->timer) {
            uint64_t times;
            if (read(fd, &times, sizeof times) < 0) continue; /* set anew meanwhile */
            fd = CURL_SOCKET_TIMEOUT;
        } else {
            if (events[i].events & EPOLLIN) what |= CURL_CSELECT_IN;
            if (events[i].events & EPOLLOUT) what |= CURL_CSELECT_OUT;
            if (events[i].events & (EPOLLERR | EPOLLHUP)) what |= CURL_CSELECT_ERR;
        }
        /* What came before it in this round may have closed it: curl then does nothing. */
        CURLMcode code = curl_multi_socket_action(p->multi, fd, what, &running);
        if (code && !p->broken) p->broken = code == CURLM_OUT_OF_MEMORY ? -ENOMEM : -EIO;
    }
    settle(p);
}

static bool has_news(struct wr_http *r) { return r->done || (r->asked->on_body && r->body.length); }

static int lead(struct wr_http_pool *p, struct wr_http *r) {
    int error = 0;
    p->leader = r;
    while (error >= 0 && !has_news(r)) {
        wr_http_unlock();
        error = weir_wait_fd(p->epoll, WEIR_IN);
        wr_http_lock();
        if (error >= 0) drive(p);
    }
    p->leader = NULL;
    return error < 0 ? error : 0;
}

int wr_http_wait(struct wr_http *r) {
    struct wr_http_pool *p = r->pool;
    int error = 0;
    while (!error && !has_news(r)) {
        if (!p->leader) {
            error = lead(p, r);
        } else {
            r->waiting = true;
            error = weir_cond_wait(&r->wake, &lock);
            r->waiting = false;
        }
    }
    if (!p->leader) {
        struct wr_http *next = p->first;
        while (next && !next->waiting) next = next->next;
        if (next) wr_http_wake(next);
    }
    return error;
}

/* ---- Requests ---------------------------------------------------------------------------------------- */

int wr_http_begin(struct wr_http *r) {
    int error = 0;
    wr_http_lock();
    if (!current) error = pool_make(&current);
    if (!error) {
        r->pool = current;
        CURLMcode code = curl_multi_add_handle(r->pool->multi, r->easy);
        if (code) error = code == CURLM_OUT_OF_MEMORY ? -ENOMEM : -EIO;
    }
    if (error) {
        wr_http_unlock();
        return error;
    }
    r->next = r->pool->first;
    if (r->next) r->next->at = &r->next;
    r->at = &r->pool->first;
    *r->at = r;
    return 0;
}

void wr_http_end(struct wr_http *r) {
    struct wr_http_pool *p = r->pool;
    /* What curl holds back it forgets to free (7.88) where other requests use the same connection, as HTTP/2 lets them: have it out. */
    r->ending = true;
    if (r->paused) curl_easy_pause(r->easy, CURLPAUSE_CONT);
    curl_multi_remove_handle(p->multi, r->easy);
    *r->at = r->next;
    if (r->next) r->next->at = r->at;
    if (p != current) give_up(p);
    wr_http_unlock();
}
