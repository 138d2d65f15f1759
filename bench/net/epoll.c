/*
 * What a server costs without anything: a level-triggered epoll loop on one thread, or on several with a listener each. `echo` sends
 * back what comes; `hello` is examples/hello: the same parser, the same look at the request, the same answer. No limits on time.
 *
 *     epoll echo|hello PORT THREADS [least]
 *
 * least: what no runtime with a stack for each connection, on more than one thread, can do without, and nothing else of one. There is
 * a thread more, which sleeps: from the second on the kernel counts who uses a file, in each call. And each request writes one word into a
 * page of its connection's own; the pages are as far apart as weir's stacks.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bare.h"

static int port;
static bool hello;

#define MOST_FDS ((size_t)1 << 16)
#define APART ((size_t)256 << 10)
static char *pages; /* NULL: none */

static void use_page(int fd) {
    size_t line = (size_t)fd % 64; /* not the same in all: they would share too few places in the caches */
    if (pages && (size_t)fd < MOST_FDS) ++*(volatile long *)(void *)(pages + (size_t)fd * APART + line * 64);
}

static void *sleeps(void *arg) {
    for (;;) pause();
    return arg;
}

static void *serve(void *arg) {
    int listener = listen_at(port, SOCK_NONBLOCK), ep = epoll_create1(0);
    struct epoll_event e = { .events = EPOLLIN, .data.fd = listener }, events[128];
    epoll_ctl(ep, EPOLL_CTL_ADD, listener, &e);
    for (;;) {
        int n = epoll_wait(ep, events, 128, -1);
        for (int i = 0; i < n; i++) {
            int fd = events[i].data.fd;
            char buffer[4096];
            if (fd == listener) {
                while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
                    e.data.fd = fd;
                    if (hello) request_begin(fd);
                    epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e);
                }
                continue;
            }
            use_page(fd);
            ssize_t k = read(fd, buffer, sizeof buffer);
            if (k < 0 && errno == EAGAIN) continue;
            bool some = k > 0;
            if (some && hello) k = answer(request_of(fd), buffer, k, sizeof buffer), some = k || HTTP_PARSER_ERRNO(&request_of(fd)->parser) == HPE_OK;
            if (k > 0) k = write(fd, buffer, (size_t)k);
            if (!some || k < 0 || (hello && request_of(fd)->last)) close(fd);
        }
    }
    return arg;
}

int main(int argc, char **argv) {
    bool least = argc == 5 && strcmp(argv[4], "least") == 0;
    if (argc != 4 && !least) return fputs("usage: epoll echo|hello PORT THREADS [least]\n", stderr), 2;
    if (least) {
        pthread_t t;
        if (pthread_create(&t, NULL, sleeps, NULL)) return perror("epoll: a thread"), 1;
        pages = mmap(NULL, MOST_FDS * APART, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (pages == MAP_FAILED) return perror("epoll: pages"), 1;
        (void)madvise(pages, MOST_FDS * APART, MADV_NOHUGEPAGE); /* fails where there are none */
    }
    hello = strcmp(argv[1], "hello") == 0;
    port = atoi(argv[2]);
    return serve_on(atoi(argv[3]), serve);
}
