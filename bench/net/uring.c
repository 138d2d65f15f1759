/*
 * What a server costs without anything on io_uring: the twin of epoll.c. One thread, or several with a listener and a ring each. Accepting
 * and receiving are asked for once (multishot), into buffers that the kernel picks; answers go through the ring as well; the kernel
 * works only when the thread enters it (SINGLE_ISSUER, DEFER_TASKRUN).
 *
 *     uring echo|hello PORT THREADS [PART]...
 *     uring check        may this system's programs do that? 0, or says why not
 *
 * Each PART takes something back, to see what it is worth:
 *     send    answers go by send(2)
 *     once    each receive is asked for anew, into the connection's own buffer, so that nothing is taken ahead
 *     coop    a ring that any thread could use (COOP_TASKRUN in place of the two above)
 */
#define _GNU_SOURCE
#include <errno.h>
#include <liburing.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bare.h"

enum { ACCEPT, RECEIVE, SEND };       /* user_data: this, the descriptor from bit 2 on, the buffer from bit 32 on */
enum { BUFFERS = 16384, SIZE = 1024, REQUESTS = 4096, RESULTS = 32768, DESCRIPTORS = 65536 };

static int port;
static bool hello, plain_send, once, coop;

struct server {
    struct io_uring ring;
    struct io_uring_buf_ring *free;
    char *buffers;                    /* BUFFERS of SIZE; once: one for each descriptor */
    int listener;
};

static void fail(const char *what, int error) {
    fprintf(stderr, "uring: %s: %s\n", what, strerror(-error));
    exit(1);
}

static struct io_uring_sqe *request(struct server *s, int kind, int fd, unsigned buffer) {
    struct io_uring_sqe *sqe;
    while (!(sqe = io_uring_get_sqe(&s->ring))) io_uring_submit(&s->ring);
    sqe->user_data = (unsigned)kind | (uint64_t)(unsigned)fd << 2 | (uint64_t)buffer << 32;
    return sqe;
}

static void ask(struct server *s, int kind, int fd) {
    struct io_uring_sqe *sqe = request(s, kind, fd, 0);
    uint64_t name = sqe->user_data;
    if (kind == ACCEPT) {
        io_uring_prep_multishot_accept(sqe, fd, NULL, NULL, 0);
    } else if (once) {
        io_uring_prep_recv(sqe, fd, s->buffers + (size_t)fd * SIZE, SIZE, 0);
        sqe->ioprio |= IORING_RECVSEND_POLL_FIRST;
    } else {
        io_uring_prep_recv_multishot(sqe, fd, NULL, 0, 0);
        sqe->flags |= IOSQE_BUFFER_SELECT;
    }
    sqe->user_data = name;
}

static void give_back(struct server *s, unsigned buffer) {
    io_uring_buf_ring_add(s->free, s->buffers + (size_t)buffer * SIZE, SIZE, (unsigned short)buffer, io_uring_buf_ring_mask(BUFFERS), 0);
    io_uring_buf_ring_advance(s->free, 1);
}

static void received(struct server *s, int fd, int n, unsigned flags) {
    bool more = flags & IORING_CQE_F_MORE;
    if (n == -ENOBUFS) {
        ask(s, RECEIVE, fd);
        return;
    }
    if (n <= 0) {
        close(fd);
        return;
    }
    unsigned buffer = once ? (unsigned)fd : flags >> IORING_CQE_BUFFER_SHIFT;
    char *data = s->buffers + (size_t)buffer * SIZE;
    ssize_t length = hello ? answer(request_of(fd), data, n, SIZE) : n;
    bool last = hello && (request_of(fd)->last || HTTP_PARSER_ERRNO(&request_of(fd)->parser) != HPE_OK);
    if (length && !plain_send && !last) {
        struct io_uring_sqe *sqe = request(s, SEND, fd, once ? BUFFERS : buffer); /* given back when it has gone */
        uint64_t name = sqe->user_data;
        io_uring_prep_send(sqe, fd, data, (size_t)length, MSG_NOSIGNAL);
        sqe->user_data = name;
    } else {
        if (length) (void)!send(fd, data, (size_t)length, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (!once) give_back(s, buffer);
    }
    if (last) shutdown(fd, SHUT_RDWR); /* the next that comes is the end */
    if (!more) ask(s, RECEIVE, fd);
}

static void set_up(struct server *s) {
    s->listener = listen_at(port, 0);
    struct io_uring_params p = { .flags = IORING_SETUP_CQSIZE, .cq_entries = RESULTS };
    p.flags |= coop ? IORING_SETUP_COOP_TASKRUN : IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
    int error = io_uring_queue_init_params(REQUESTS, &s->ring, &p);
    if (error) fail("io_uring_setup", error);
    size_t bytes = (size_t)SIZE * (once ? DESCRIPTORS : BUFFERS), list = BUFFERS * sizeof(struct io_uring_buf);
    s->buffers = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    s->free = mmap(NULL, list, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (s->buffers == MAP_FAILED || (void *)s->free == MAP_FAILED) fail("mmap", -errno);
    if (!once) {
        struct io_uring_buf_reg reg = { .ring_addr = (uintptr_t)s->free, .ring_entries = BUFFERS };
        error = io_uring_register_buf_ring(&s->ring, &reg, 0);
        if (error) fail("io_uring_register_buf_ring", error);
        for (unsigned i = 0; i < BUFFERS; i++) give_back(s, i);
    }
    ask(s, ACCEPT, s->listener);
}

static void *serve(void *arg) {
    struct server *s = calloc(1, sizeof *s);
    if (!s) fail("malloc", -ENOMEM);
    set_up(s);
    for (;;) {
        int error = io_uring_submit_and_wait(&s->ring, 1);
        if (error < 0 && error != -EINTR) fail("io_uring_enter", error);
        struct io_uring_cqe *cqe;
        unsigned head, n = 0;
        io_uring_for_each_cqe(&s->ring, head, cqe) {
            int fd = (int)(cqe->user_data >> 2 & (DESCRIPTORS - 1));
            n++;
            switch (cqe->user_data & 3) {
            case ACCEPT:
                if (cqe->res >= 0) {
                    if (hello) request_begin(cqe->res);
                    ask(s, RECEIVE, cqe->res);
                }
                if (!(cqe->flags & IORING_CQE_F_MORE)) ask(s, ACCEPT, fd);
                break;
            case RECEIVE: received(s, fd, cqe->res, cqe->flags); break;
            default:
                if (cqe->user_data >> 32 < BUFFERS) give_back(s, (unsigned)(cqe->user_data >> 32));
            }
        }
        io_uring_cq_advance(&s->ring, n);
    }
    return arg;
}

int main(int argc, char **argv) {
    if (argc == 2 && strcmp(argv[1], "check") == 0) {
        set_up(&(struct server){ 0 });
        return 0;
    }
    for (int i = 4; i < argc; i++) {
        if (strcmp(argv[i], "send") == 0) plain_send = true;
        else if (strcmp(argv[i], "once") == 0) once = true;
        else if (strcmp(argv[i], "coop") == 0) coop = true;
        else argc = 0;
    }
    if (argc < 4) return fputs("usage: uring echo|hello PORT THREADS [send|once|coop]...\n", stderr), 2;
    hello = strcmp(argv[1], "hello") == 0;
    port = atoi(argv[2]);
    return serve_on(atoi(argv[3]), serve);
}
