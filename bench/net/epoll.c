/*
 * What a server costs without anything: a level-triggered epoll loop on one thread, or on several with a listener each. `echo` sends
 * back what comes; `hello` is examples/hello: the same parser, the same look at the request, the same answer. No limits on time.
 *
 *     epoll echo|hello PORT THREADS
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "bare.h"

static int port;
static bool hello;

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
    if (argc != 4) return fputs("usage: epoll echo|hello PORT THREADS\n", stderr), 2;
    hello = strcmp(argv[1], "hello") == 0;
    port = atoi(argv[2]);
    return serve_on(atoi(argv[3]), serve);
}
