/*
 * Descriptors: what is known of each number, who uses it, who waits on it.
 *
 * The table. One entry for each number, made when it is first used, never freed: an edge that comes late finds its entry.
 *
 * Who uses a number. `users` counts the calls in progress, and has a bit that says it is to be closed. Whoever closes sets the bit, counts
 * itself, wakes those who wait, and leaves as they do; the one who leaves last closes the descriptor, clears the entry and
 * then the bit. While it is set no call begins. So no call ever reads or writes what the number is given to next.
 *
 * Waiting. Each side counts its edges. A call reads the count, tries, and on -EAGAIN waits only if the count is still the same, which it
 * looks at under the entry's lock:
 *
 *     call:  seen = edges;  try;  lock;  edges == seen?  then queue;  unlock;  park
 *     edge:                       lock;  edges + 1;  take the first from the queue and claim it;  unlock;  ready
 *
 * Either the edge finds the caller queued, or the caller finds that the count has changed and tries again. One is woken for an edge; when it
 * is done, with whatever result, it wakes the next, who tries in turn, until one finds nothing and queues again. So nobody is
 * woken in vain who need not be, and nobody sleeps while there is something to take.
 *
 * Known numbers. The kernel forgets a descriptor when it is closed, and tells nobody. Descriptors that weir has made are closed by
 * weir_close_fd, so what the entry says of them holds: they are registered once. All others may have been closed and given away since
 * the last call, so each wait registers them anew, which costs a system call.
 *
 * When the runtime stops, goroutines that are in a call never come back: their places in the queues and their share of `users` are taken
 * back. So those of goroutines and of the program's threads, which live on, are counted apart.
 *
 * Short reads. On TCP a read that gives less than was asked for has emptied the socket, and a write that takes less has filled it (epoll(7)):
 * the next call need not try before it waits, unless there has been an edge since. Except after an end, an error or urgent data, at which
 * reads stop though there is more.
 *
 * With WEIR_POLLER=uring a request of the ring may be what tells of edges on the reading side, and have taken something ahead: ahead.c. What
 * is said here holds all the same.
 */
#include "io/entry.h"

#include <stdlib.h>
#include <sched.h>
#include <unistd.h>

#define CLOSING (1ull << 63)
#define A_THREAD (1ull << 32) /* a goroutine counts 1 */
#define NOT_EMPTY 1u       /* odd: edges are counted by twos */
#define CHUNK 1024
#define CHUNKS 4096

static _Atomic(struct entry *) chunks[CHUNKS];

/* ---- The table ------------------------------------------------------------------------------------- */

static void edge(struct wr_source *s, unsigned edges, struct wr_batch *ready);

struct entry *wr_entry_of(int fd) {
    if (wr_unlikely((unsigned)fd >= CHUNK * CHUNKS)) return NULL;
    _Atomic(struct entry *) *at = &chunks[(unsigned)fd / CHUNK];
    struct entry *chunk = atomic_load_explicit(at, memory_order_acquire);
    if (wr_unlikely(!chunk)) {
        struct entry *mine = calloc(CHUNK, sizeof *mine);
        if (!mine) return NULL;
        for (int i = 0; i < CHUNK; i++) {
            for (int s = 0; s < 2; s++) {
                wr_list_init(&mine[i].sides[s].queue);
                atomic_init(&mine[i].sides[s].empty, NOT_EMPTY);
            }
            atomic_store_explicit(&mine[i].source.edge, edge, memory_order_release);
        }
        if (atomic_compare_exchange_strong(at, &chunk, mine)) chunk = mine;
        else free(mine);
    }
    return &chunk[(unsigned)fd % CHUNK];
}

struct entry *wr_entry_from(int *fd) {
    for (; *fd / CHUNK < CHUNKS; *fd = (*fd / CHUNK + 1) * CHUNK) {
        struct entry *chunk = atomic_load_explicit(&chunks[*fd / CHUNK], memory_order_acquire);
        if (chunk) return &chunk[*fd % CHUNK];
    }
    return NULL;
}

/* ---- Waking ---------------------------------------------------------------------------------------- */

/* Lock held. */
static struct g *claim_first(struct side *side) {
    for (struct wr_list *l; (l = wr_list_pop(&side->queue));) {
        wr_count(&side->waiting, -1u);
        struct wr_node *node = wr_container(l, struct wr_node, link);
        struct g *g = node->wait->g;
        if (wr_claim(node->wait, node->code)) return g;
    }
    return NULL;
}

struct g *wr_entry_edge(struct side *side) {
    wr_count(&side->edges, 2);
    return claim_first(side);
}

static void edge(struct wr_source *s, unsigned edges, struct wr_batch *ready) {
    struct entry *e = wr_container(s, struct entry, source);
    wr_lock(&e->lock, WR_RANK_SYNC);
    if (edges & WR_EDGE_ENDED) atomic_store_explicit(&e->ended, true, memory_order_relaxed);
    if (wr_unlikely(wr_ahead(e))) edges = wr_ahead_edges(wr_ahead(e), edges);
    for (int i = 0; i < 2; i++) {
        if (!(edges & (i == WR_READ ? WR_EDGE_IN : WR_EDGE_OUT))) continue;
        struct g *g = wr_entry_edge(&e->sides[i]);
        if (g) wr_batch_add(ready, g);
    }
    wr_unlock(&e->lock, WR_RANK_SYNC);
}

/* Who was woken is done: the next may find something too. */
static void pass_on(struct entry *e, struct side *side) {
    if (wr_likely(!atomic_load_explicit(&side->waiting, memory_order_relaxed))) return;
    wr_lock(&e->lock, WR_RANK_SYNC);
    struct g *g = claim_first(side);
    wr_unlock(&e->lock, WR_RANK_SYNC);
    if (g) wr_ready(g);
}

/* ---- Using a number -------------------------------------------------------------------------------- */

static bool is_closing(struct entry *e) { return atomic_load_explicit(&e->users, memory_order_acquire) & CLOSING; }

/* What it adds to the number of users. */
static uint64_t one(const struct g *g) { return g->foreign ? A_THREAD : 1; }

static int enter(struct entry *e, const struct g *g) {
    uint64_t me = one(g);
    for (uint64_t users = atomic_load_explicit(&e->users, memory_order_relaxed);;) {
        if (wr_unlikely(users == CLOSING)) { /* the last has left, the number is being given back, or is somebody else's by now: soon over */
            sched_yield();
            users = atomic_load_explicit(&e->users, memory_order_acquire);
        } else if (wr_unlikely(users & CLOSING)) {
            return -EBADF;
        } else if (atomic_compare_exchange_weak_explicit(&e->users, &users, users + me, memory_order_acquire,
                                                         memory_order_relaxed)) {
            return 0;
        }
    }
}

/* What is known of the number says nothing of what it stands for from now on. */
static void begin_anew(struct entry *e, bool made, bool stream) {
    e->made = made;
    e->stream = stream;
    e->listens = false;
    atomic_store_explicit(&e->ended, false, memory_order_relaxed);
    atomic_store_explicit(&e->registered, false, memory_order_relaxed);
    for (int i = 0; i < 2; i++) atomic_store_explicit(&e->sides[i].empty, NOT_EMPTY, memory_order_relaxed);
}

/* Nobody uses the number, and nobody may. What the last of them did is seen before it is closed, and what close did before anybody enters. */
static int close_now(struct entry *e, int fd) {
    if (e->made && atomic_load_explicit(&e->registered, memory_order_relaxed)) wr_poll_forget(fd); /* a copy may keep it open */
    if (wr_unlikely(wr_ahead(e))) wr_ahead_close(e);
    begin_anew(e, false, false);
    int result = close(fd) == 0 || errno == EINTR ? 0 : -errno; /* on Linux it is closed then, too */
    atomic_store_explicit(&e->users, 0, memory_order_release);
    return result;
}

static int leave(struct entry *e, int fd, const struct g *g) {
    uint64_t me = one(g);
    if (wr_likely(atomic_fetch_sub_explicit(&e->users, me, memory_order_acq_rel) != (CLOSING | me))) return 0;
    return close_now(e, fd);
}

/* The entry of the number, entered by the caller, who is *g: nobody becomes a goroutine by a number that is none. 0, -EBADF, -ENOMEM. */
static int enter_number(int fd, struct entry **e, const struct g **g) {
    *e = fd < 0 ? NULL : wr_entry_of(fd);
    if (!*e) return fd < 0 || (unsigned)fd >= CHUNK * CHUNKS ? -EBADF : -ENOMEM;
    *g = wr_self();
    return enter(*e, *g);
}

int wr_io_hold(int fd) {
    struct entry *e;
    const struct g *g;
    return enter_number(fd, &e, &g);
}
void wr_io_release(int fd) { (void)leave(wr_entry_of(fd), fd, wr_self()); }

int weir_close_fd(int fd) {
    struct entry *e = fd < 0 ? NULL : wr_entry_of(fd);
    if (!e) return fd >= 0 && close(fd) == 0 ? 0 : -EBADF;
    const struct g *g = wr_self();
    int error = enter(e, g);
    if (error) return error;
    if (atomic_fetch_or_explicit(&e->users, CLOSING, memory_order_acq_rel) & CLOSING) {
        (void)leave(e, fd, g);
        return -EBADF;
    }
    struct wr_batch woken = { 0 };
    wr_lock(&e->lock, WR_RANK_SYNC); /* who looks at CLOSING under it has queued before, or sees it */
    for (int i = 0; i < 2; i++)
        for (struct g *waiter; (waiter = claim_first(&e->sides[i]));) wr_batch_add(&woken, waiter);
    wr_unlock(&e->lock, WR_RANK_SYNC);
    wr_ready_all(&woken);
    return leave(e, fd, g);
}

static void forget_goroutines(struct entry *e, int fd) {
    wr_lock(&e->lock, WR_RANK_SYNC);
    for (int i = 0; i < 2; i++)
        for (struct wr_list *l = e->sides[i].queue.next, *next; l != &e->sides[i].queue; l = next) {
            next = l->next;
            if (wr_container(l, struct wr_node, link)->wait->g->foreign) continue;
            wr_list_remove(l);
            wr_count(&e->sides[i].waiting, -1u);
        }
    uint64_t users = atomic_load_explicit(&e->users, memory_order_relaxed), rest;
    do rest = users & ~(A_THREAD - 1);
    while (!atomic_compare_exchange_weak_explicit(&e->users, &users, rest, memory_order_acq_rel, memory_order_relaxed));
    wr_unlock(&e->lock, WR_RANK_SYNC);
    if (users != rest && rest == CLOSING) close_now(e, fd);
}

void wr_io_stop(void) {
    struct entry *e;
    for (int fd = 0; (e = wr_entry_from(&fd)); fd++)
        if (atomic_load_explicit(&e->users, memory_order_relaxed)) forget_goroutines(e, fd);
    if (wr_ring()) wr_ahead_stop();
}

int wr_io_made(int fd, bool stream) {
    struct entry *e = wr_entry_of(fd);
    if (!e) {
        close(fd);
        return (unsigned)fd >= CHUNK * CHUNKS ? -EMFILE : -ENOMEM;
    }
    const struct g *g = wr_self();
    while (enter(e, g)) sched_yield(); /* its last owner has closed it and is about to say so */
    if (wr_unlikely(wr_ahead(e))) wr_ahead_close(e); /* behind our back */
    begin_anew(e, true, stream);
    (void)leave(e, fd, g);
    return fd;
}

void wr_io_listens(int fd) { wr_entry_of(fd)->listens = true; }

/* ---- Waiting --------------------------------------------------------------------------------------- */

/* Edges come from now on, the first if it is ready. */
static int register_entry(struct entry *e, int fd) {
    if (e->made && atomic_load_explicit(&e->registered, memory_order_acquire)) return 0;
    int error;
    if (e->made) {
        error = wr_poll_add(fd, &e->source);
        if (error == -EEXIST) error = 0; /* another call, on this moment */
        if (!error) atomic_store_explicit(&e->registered, true, memory_order_release);
        return error;
    }
    do { /* others may do the same, and take turns with us */
        error = wr_poll_again(fd, &e->source);
        if (error == -ENOENT) error = wr_poll_add(fd, &e->source);
    } while (error == -EEXIST);
    return error;
}

struct place {
    struct wr_node node;
    struct entry *entry;
    struct side *side;
};

static void place_leave(struct place *p) {
    wr_lock(&p->entry->lock, WR_RANK_SYNC);
    if (wr_list_linked(&p->node.link)) {
        wr_list_remove(&p->node.link);
        wr_count(&p->side->waiting, -1u);
    }
    wr_unlock(&p->entry->lock, WR_RANK_SYNC);
}

/* Queue for the side, unless there has been an edge since `seen`: -EALREADY; or it is being closed: -EBADF. */
static int place_take(struct place *p, struct wr_wait *w, struct entry *e, enum wr_side side, uint32_t seen) {
    p->entry = e;
    p->side = &e->sides[side];
    p->node.wait = w;
    p->node.code = 1;
    p->node.link.next = NULL;
    int error = 0;
    wr_lock(&e->lock, WR_RANK_SYNC);
    if (is_closing(e)) {
        error = -EBADF;
    } else if (atomic_load_explicit(&p->side->edges, memory_order_relaxed) != seen) {
        error = -EALREADY;
    } else {
        wr_list_append(&p->side->queue, &p->node.link);
        wr_count(&p->side->waiting, 1);
    }
    wr_unlock(&e->lock, WR_RANK_SYNC);
    return error;
}

/* Until the next edge after `seen`: 0, try again. `read`: for weir_read, which takes what was received ahead. */
static int wait_edge(struct entry *e, int fd, enum wr_side side, uint32_t seen, bool read) {
    if (!wr_sched_running()) return -EPERM;
    int why = wr_ring() && side == WR_READ && wr_ahead_waits(e, fd, read || e->listens) ? 0 : register_entry(e, fd);
    if (why) return why == -EPERM ? -EAGAIN : why;
    struct wr_wait w;
    struct place place;
    wr_wait_init(&w, WR_WAIT_IO, NULL);
    why = place_take(&place, &w, e, side, seen);
    if (why) return why == -EALREADY ? 0 : why;
    wr_poll_begin();
    why = wr_park(&w);
    wr_poll_end();
    if (why > 0) return is_closing(e) ? -EBADF : 0;
    place_leave(&place);
    return why;
}

int64_t wr_io(int fd, enum wr_side side, int64_t (*attempt)(int fd, void *arg), void *arg, size_t full) {
    struct entry *e;
    const struct g *g;
    int64_t n = enter_number(fd, &e, &g);
    if (n) return n;
    struct side *s = &e->sides[side];
    while (!(n = wr_io_ended_for(g))) {
        uint32_t seen = atomic_load_explicit(&s->edges, memory_order_acquire);
        if (!e->stream || atomic_load_explicit(&s->empty, memory_order_relaxed) != seen) {
            do n = attempt(fd, arg);
            while (n == -EINTR);
            if (n != -EAGAIN) {
                if (e->stream && n > 0 && (size_t)n < full && !atomic_load_explicit(&e->ended, memory_order_relaxed))
                    atomic_store_explicit(&s->empty, seen, memory_order_relaxed);
                break;
            }
        }
        if ((n = wait_edge(e, fd, side, seen, full > 0))) break;
    }
    pass_on(e, s);
    (void)leave(e, fd, g);
    return n;
}

/* poll(2) for goroutines, on top of poll(2): that says what is so, edges say when to look again. */
int wr_io_poll(struct pollfd *fds, size_t n, weir_time until) {
    struct place places[2 * WR_IO_POLL_MAX];
    struct entry *entries[WR_IO_POLL_MAX];
    size_t in = 0;
    const struct g *g;
    int result = n > WR_IO_POLL_MAX ? -EINVAL : 0;
    for (; !result && in < n; in++) {
        result = enter_number(fds[in].fd, &entries[in], &g);
        if (result) break;
    }
    while (!result && !(result = wr_io_ended())) {
        uint32_t seen[WR_IO_POLL_MAX][2];
        for (size_t i = 0; i < n; i++)
            for (int s = 0; s < 2; s++) seen[i][s] = atomic_load_explicit(&entries[i]->sides[s].edges, memory_order_acquire);
        result = wr_ring() ? wr_ahead_poll(fds, entries, n) : poll(fds, n, 0);
        if (result > 0 || (until != WR_NEVER && wr_now() >= until)) break;
        if (result < 0 && errno != EINTR) {
            result = -errno;
            break;
        }
        result = wr_sched_running() ? 0 : -EPERM;
        for (size_t i = 0; i < n && !result; i++) result = register_entry(entries[i], fds[i].fd);
        if (result) break;
        struct wr_wait w;
        wr_wait_init(&w, WR_WAIT_IO, NULL);
        size_t taken = 0;
        for (size_t i = 0; i < n && !result; i++)
            for (int s = 0; s < 2 && !result; s++) {
                if (!(fds[i].events & (s == WR_READ ? POLLIN | POLLRDHUP | POLLPRI : POLLOUT))) continue;
                result = place_take(&places[taken], &w, entries[i], s, seen[i][s]);
                taken += !result;
            }
        /* Where one could not queue, those queued before may have been claimed meanwhile; who claims also makes ready, so we must park. */
        if (!result || !wr_claim(&w, INT32_MAX)) {
            wr_poll_begin();
            int why = wr_park_until(&w, until);
            wr_poll_end();
            if (!result && why < 0) result = why;
        }
        while (taken) place_leave(&places[--taken]);
        if (result == -EALREADY) result = 0;
        for (size_t i = 0; i < n && !result; i++)
            if (is_closing(entries[i])) result = -EBADF;
    }
    while (in--) {
        for (int s = 0; s < 2; s++) pass_on(entries[in], &entries[in]->sides[s]);
        (void)leave(entries[in], fds[in].fd, g);
    }
    return result;
}

int weir_wait_fd(int fd, int events) {
    if (!events || (events & ~(WEIR_IN | WEIR_OUT))) return -EINVAL;
    struct pollfd p = { .fd = fd, .events = (short)((events & WEIR_IN ? POLLIN : 0) | (events & WEIR_OUT ? POLLOUT : 0)) };
    int n = wr_io_poll(&p, 1, WR_NEVER);
    if (n < 0) return n;
    if (p.revents & POLLNVAL) return -EBADF;
    int ready = (p.revents & POLLIN ? WEIR_IN : 0) | (p.revents & POLLOUT ? WEIR_OUT : 0);
    return p.revents & (POLLERR | POLLHUP) ? events : ready; /* neither would block */
}
