/*
 * What a server costs without anything: a level-triggered epoll loop on one thread, or on several with a listener each. `echo` sends
 * back what comes; `hello` answers each read with the same page without looking at it, which is less than an HTTP server may do.
 *
 *     epoll echo|hello PORT THREADS
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static const char page[] = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 14\r\n\r\nHello, world!\n";
static int port;
static const char *answer;

static void *serve(void *arg) {
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1, ep = epoll_create1(0);
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port),
                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    setsockopt(listener, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one);
    setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&at, sizeof at) || listen(listener, 65535)) perror("listen"), exit(1);
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
                    epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e);
                }
                continue;
            }
            ssize_t k = read(fd, buffer, sizeof buffer);
            if (k < 0 && errno == EAGAIN) continue;
            if (k > 0) k = answer ? write(fd, answer, strlen(answer)) : write(fd, buffer, (size_t)k);
            if (k <= 0) close(fd);
        }
    }
    return arg;
}

int main(int argc, char **argv) {
    if (argc != 4) return fputs("usage: epoll echo|hello PORT THREADS\n", stderr), 2;
    answer = strcmp(argv[1], "hello") == 0 ? page : NULL;
    port = atoi(argv[2]);
    for (int i = atoi(argv[3]); i > 1; i--) {
        pthread_t t;
        if (pthread_create(&t, NULL, serve, NULL)) return 1;
    }
    serve(NULL);
}
