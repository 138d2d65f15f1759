/*
 * The ring, beside epoll: what WEIR_POLLER=uring adds. A TCP socket on which a goroutine waits to read, and a listener on which one waits
 * to accept, is given to the kernel with a request that lasts (multishot): what comes is put into a buffer of ours, or accepted, and told
 * by a completion, without a system call. All else, and all sleeping and waking, stays with epoll, which has the ring's descriptor among
 * its own. For poll.c and the io room.
 *
 * Why one ring for all threads. A request belongs to the thread that has submitted it: what it does is done when that thread is in the
 * kernel or comes out of it. With a ring for each worker that the kernel serves only when its
 * worker enters it (SINGLE_ISSUER, DEFER_TASKRUN; the cheapest), nothing could be received, cancelled or closed on behalf of
 * a worker that computes, or sits in a system call of the program's, while its processor is with another. With COOP_TASKRUN
 * - a thread that sleeps in the kernel is woken, does what there is to do, and sleeps on: the system call is begun again unseen, but those
 *   that the kernel does not begin again (epoll_wait, sigtimedwait, a socket's with a timeout) return EINTR to the program, as they do after
 *   any signal. COOP_TASKRUN spares a thread that computes, not one that sleeps; only DEFER_TASKRUN does;
 * - one that computes does it at its next system call, or at the processor's next tick;
 * - anybody takes completions, and anybody may end a request. What that costs: a thread that has asked, and whose processor went to another
 *   since, is woken from its sleep for what comes. Where it sleeps for long, who reads next asks in its place (wr_ring_asker_sleeps). Only
 *   workers submit, as they last as long as the runtime; so threads of the program's own are never disturbed. The requests of a thread that
 *   has ended receive nothing any more; when the runtime stops the io room ends them.
 *
 * A request holds what its descriptor stands for open until its last word has come. Where the process is killed the kernel ends them some
 * milliseconds after it is gone, and until then a listener's address is not free.
 *
 * Locks. `submitting`, a mutex as it is held over a system call: the submission queue; under no short lock. `reaping`: who has it takes
 * completions, and tells of them meanwhile, so each request's come in order; nobody waits for it. `pool` (rank LEAF): the ring of free
 * buffers.
 *
 * fork. Ring and buffers are shared with a copy of the process, which must not touch them: there, nothing is taken ahead from then on, and
 * nothing has been received. A leak proof's copy has been judged before that.
 *
 * ThreadSanitizer sees neither what the kernel writes (completions, buffers) nor what liburing does. That a buffer given back has been
 * read before it is told of anew, by way of the kernel, it is told here.
 */
#include "sched/inner.h"

_Atomic bool wr_has_ring;
uint32_t wr_buffers = WR_BUFFERS;

weir_duration wr_ring_patience = 100 * WEIR_MILLISECOND;

const void *wr_ring_asker(void) { return wr_m(); }
bool wr_ring_asker_sleeps(const void *asker) {
    const struct m *m = asker;
    weir_time since = atomic_load_explicit(&m->idle_since, memory_order_relaxed);
    return since && atomic_load_explicit(&wr_sched.coarse, memory_order_relaxed) - since >= wr_ring_patience;
}

#ifndef WEIR_HAVE_URING
const char *wr_uring_open(void) { return "built without liburing"; }
int wr_uring_fd(void) { return -1; }
int wr_uring_reap(int max, struct wr_batch *ready) { return 0; }
int wr_uring_ask(int fd, enum wr_asked what, struct wr_source *s, uint16_t turn) { return -ENOSYS; }
void wr_ring_end(enum wr_asked what, struct wr_source *s, uint16_t turn) {}
void wr_ring_tells(void (*told)(struct wr_source *s, const struct wr_word *w, struct wr_batch *ready)) {}
const char *wr_buffer(uint32_t b) { return NULL; }
void wr_buffer_free(uint32_t b) {}
#else

#include <dlfcn.h>
#include <liburing.h>
#include <string.h>
#include <sys/mman.h>

#ifdef WR_TSAN
void __tsan_acquire(void *at);
void __tsan_release(void *at);
#endif

#define REQUESTS 256
#define COMPLETIONS 32768 /* more than there are buffers, as each full one has a place */

/* Of the library, which only those load who want it. Linux 6.0 is the first that receives like this. */
static int (*queue_init_params)(unsigned entries, struct io_uring *ring, struct io_uring_params *p);
static void (*queue_exit)(struct io_uring *ring);
static int (*submit)(struct io_uring *ring);
static int (*register_buf_ring)(struct io_uring *ring, struct io_uring_buf_reg *reg, unsigned flags);
static unsigned (*peek_batch_cqe)(struct io_uring *ring, struct io_uring_cqe **cqes, unsigned count);
static struct io_uring_probe *(*get_probe_ring)(struct io_uring *ring);
static void (*free_probe)(struct io_uring_probe *probe);

static struct io_uring ring;
static struct io_uring_buf_ring *free_buffers;
static char *buffers;
static pthread_mutex_t submitting = PTHREAD_MUTEX_INITIALIZER;
static struct wr_lock pool;
static _Atomic bool reaping, unsent;
static bool copied; /* this process is a copy of the one that has the ring */
static void (*_Atomic tell)(struct wr_source *s, const struct wr_word *w, struct wr_batch *ready);

/* ---- Opening --------------------------------------------------------------------------------------- */

static bool find_library(void) {
    const struct {
        const char *name;
        void *at;
    } functions[] = { { "io_uring_queue_init_params", &queue_init_params }, { "io_uring_queue_exit", &queue_exit },
                      { "io_uring_submit", &submit },                       { "io_uring_register_buf_ring", &register_buf_ring },
                      { "io_uring_peek_batch_cqe", &peek_batch_cqe },       { "io_uring_get_probe_ring", &get_probe_ring },
                      { "io_uring_free_probe", &free_probe } };
    void *library = dlopen("liburing.so.2", RTLD_NOW | RTLD_LOCAL);
    for (size_t i = 0; library && i < sizeof functions / sizeof functions[0]; i++) {
        void *found = dlsym(library, functions[i].name);
        if (!found) return false;
        memcpy(functions[i].at, &found, sizeof found);
    }
    return library != NULL;
}

/* Shared memory: a copy of the process needs none of it, and nothing in it points anywhere. */
static void *map(size_t bytes) {
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return at == MAP_FAILED ? NULL : at;
}

static bool kernel_can(void) {
    struct io_uring_probe *probe = get_probe_ring(&ring);
    bool can = probe && io_uring_opcode_supported(probe, IORING_OP_SEND_ZC); /* has come with it, and can be asked for */
    if (probe) free_probe(probe);
    return can;
}

static const char *fill(void) {
    if (!kernel_can()) return "Linux before 6.0";
    size_t list = wr_buffers * sizeof(struct io_uring_buf);
    buffers = map((size_t)wr_buffers * WR_BUFFER_SIZE);
    free_buffers = buffers ? map(list) : NULL;
    if (!free_buffers) {
        if (buffers) munmap(buffers, (size_t)wr_buffers * WR_BUFFER_SIZE);
        return "no memory";
    }
    struct io_uring_buf_reg reg = { .ring_addr = (uintptr_t)free_buffers, .ring_entries = wr_buffers };
    int error = register_buf_ring(&ring, &reg, 0);
    if (error) {
        munmap(free_buffers, list);
        munmap(buffers, (size_t)wr_buffers * WR_BUFFER_SIZE);
        return strerror(-error);
    }
    return NULL;
}

static void in_copy(void) {
    copied = true;
    atomic_store(&wr_has_ring, false);
}

/* Make the ring, for the life of the process. NULL, or why there is none. */
const char *wr_uring_open(void) {
    if (!find_library()) return "no liburing.so.2";
    struct io_uring_params p = { .flags = IORING_SETUP_CQSIZE | IORING_SETUP_COOP_TASKRUN, .cq_entries = COMPLETIONS };
    int error = queue_init_params(REQUESTS, &ring, &p);
    if (error) return strerror(-error);
    const char *why = fill();
    if (why) {
        queue_exit(&ring);
        return why;
    }
    pthread_atfork(NULL, NULL, in_copy);
    for (uint32_t b = 0; b < wr_buffers; b++) wr_buffer_free(b);
    return NULL;
}

int wr_uring_fd(void) { return ring.ring_fd; }

/* ---- Buffers --------------------------------------------------------------------------------------- */

const char *wr_buffer(uint32_t b) { return buffers + (size_t)b * WR_BUFFER_SIZE; }

void wr_buffer_free(uint32_t b) {
    if (copied) return;
#ifdef WR_TSAN
    __tsan_release(buffers + b);
#endif
    wr_lock(&pool, WR_RANK_LEAF);
    io_uring_buf_ring_add(free_buffers, buffers + (size_t)b * WR_BUFFER_SIZE, WR_BUFFER_SIZE, (unsigned short)b,
                          io_uring_buf_ring_mask(wr_buffers), 0);
    io_uring_buf_ring_advance(free_buffers, 1);
    wr_unlock(&pool, WR_RANK_LEAF);
}

/* ---- Requests -------------------------------------------------------------------------------------- */

/* Which source, and which of its requests: no address of a program's has more than 48 bits, and the lowest of a source's is 0, which here
 * says what was asked. 0: nobody's. */
static uint64_t name_of(enum wr_asked what, struct wr_source *s, uint16_t turn) { return ((uint64_t)(uintptr_t)s | what) << 16 | turn; }

void wr_ring_tells(void (*told)(struct wr_source *s, const struct wr_word *w, struct wr_batch *ready)) {
    atomic_store_explicit(&tell, told, memory_order_release);
}

/* submitting held. What the kernel did not take just now stays in the queue, and is offered again. */
static void send_all(void) {
    atomic_store_explicit(&unsent, submit(&ring) < 0, memory_order_relaxed);
}

int wr_uring_ask(int fd, enum wr_asked what, struct wr_source *s, uint16_t turn) {
    pthread_mutex_lock(&submitting);
    struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);
    if (sqe && what == WR_ACCEPT) {
        io_uring_prep_multishot_accept(sqe, fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    } else if (sqe) {
        io_uring_prep_recv_multishot(sqe, fd, NULL, 0, 0);
        sqe->flags |= IOSQE_BUFFER_SELECT;
        sqe->ioprio |= IORING_RECVSEND_POLL_FIRST; /* the caller has just found nothing */
        sqe->buf_group = 0;
    }
    if (sqe) {
        sqe->user_data = name_of(what, s, turn);
        send_all();
    }
    pthread_mutex_unlock(&submitting);
    return sqe ? 0 : -EBUSY;
}

void wr_ring_end(enum wr_asked what, struct wr_source *s, uint16_t turn) {
    pthread_mutex_lock(&submitting);
    struct io_uring_sqe *sqe;
    while (!(sqe = io_uring_get_sqe(&ring))) send_all();
    io_uring_prep_cancel64(sqe, name_of(what, s, turn), 0);
    sqe->user_data = 0;
    send_all();
    pthread_mutex_unlock(&submitting);
}

/* ---- Completions ----------------------------------------------------------------------------------- */

static void hear(const struct io_uring_cqe *c, struct wr_batch *ready) {
    struct wr_source *s = (struct wr_source *)(uintptr_t)(c->user_data >> 16 & ~(uint64_t)1);
    if (!s) return;
    struct wr_word w = { .asked = c->user_data >> 16 & 1, .turn = (uint16_t)c->user_data, .n = c->res, .buffer = WR_NO_BUFFER,
                         .last = !(c->flags & IORING_CQE_F_MORE) };
    if (c->flags & IORING_CQE_F_BUFFER) w.buffer = c->flags >> IORING_CQE_BUFFER_SHIFT;
#ifdef WR_TSAN
    if (w.buffer != WR_NO_BUFFER) __tsan_acquire(buffers + w.buffer);
#endif
    atomic_load_explicit(&tell, memory_order_acquire)(s, &w, ready);
}

/* Take up to max completions, unless somebody does; how many. */
int wr_uring_reap(int max, struct wr_batch *ready) {
    struct io_uring_cqe *cqes[WR_EVENTS];
    if (wr_unlikely(atomic_load_explicit(&unsent, memory_order_relaxed)) && pthread_mutex_trylock(&submitting) == 0) {
        send_all();
        pthread_mutex_unlock(&submitting);
    }
    if (atomic_exchange_explicit(&reaping, true, memory_order_acquire)) return 0;
    unsigned n = peek_batch_cqe(&ring, cqes, (unsigned)(max < WR_EVENTS ? max : WR_EVENTS));
    for (unsigned i = 0; i < n; i++) hear(cqes[i], ready);
    io_uring_cq_advance(&ring, n);
    atomic_store_explicit(&reaping, false, memory_order_release);
    return (int)n;
}
#endif
