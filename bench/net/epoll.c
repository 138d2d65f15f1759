/*
 * What a server costs without anything: a level-triggered epoll loop on one thread, or on several with a listener each. `echo` sends
 * back what comes; `hello` is examples/hello: the same parser, the same look at the request, the same answer. No limits on time.
 *
 *     epoll echo|hello PORT THREADS
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <http_parser.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static int port;
static bool hello;

struct request {
    http_parser parser;
    char path[256];
    size_t length;
    char *out; /* the answers */
    size_t n;
    bool last;
};

static int on_begin(http_parser *p) {
    ((struct request *)p->data)->length = 0;
    return 0;
}

static int on_url(http_parser *p, const char *at, size_t n) {
    struct request *r = p->data;
    if (r->length + n <= sizeof r->path) memcpy(r->path + r->length, at, n);
    r->length += n;
    return 0;
}

static int on_complete(http_parser *p) {
    struct request *r = p->data;
    bool right = p->method == HTTP_GET && r->length == 1 && r->path[0] == '/';
    const char *text = right ? "Hello, world!\n" : "There is only / here.\n";
    r->last = !http_should_keep_alive(p);
    r->n += (size_t)sprintf(r->out + r->n, "HTTP/1.1 %s\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\n%s\r\n%s",
                            right ? "200 OK" : "404 Not Found", strlen(text), r->last ? "Connection: close\r\n" : "", text);
    return 0;
}

static const http_parser_settings settings = { .on_message_begin = on_begin, .on_url = on_url, .on_message_complete = on_complete };

/* The answer to n bytes, in place of them; 0: hang up. */
static ssize_t answer(struct request *r, char *buffer, ssize_t n) {
    static __thread char out[4096 / 18 * 160]; /* no request is shorter than 18 bytes */
    r->out = out, r->n = 0;
    http_parser_execute(&r->parser, &settings, buffer, (size_t)n);
    if (HTTP_PARSER_ERRNO(&r->parser) != HPE_OK || r->n > 4096) return 0;
    memcpy(buffer, out, r->n);
    return (ssize_t)r->n;
}

/* By descriptor, made when it is first seen. */
static struct request *request_of(int fd) {
    static struct request *requests[1 << 20];
    if (!requests[fd]) requests[fd] = malloc(sizeof *requests[fd]);
    return requests[fd];
}

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
                    if (hello) {
                        struct request *r = request_of(fd);
                        http_parser_init(&r->parser, HTTP_REQUEST);
                        r->parser.data = r;
                        r->last = false;
                    }
                    epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e);
                }
                continue;
            }
            ssize_t k = read(fd, buffer, sizeof buffer);
            if (k < 0 && errno == EAGAIN) continue;
            bool some = k > 0;
            if (some && hello) k = answer(request_of(fd), buffer, k), some = k || HTTP_PARSER_ERRNO(&request_of(fd)->parser) == HPE_OK;
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
    for (int i = atoi(argv[3]); i > 1; i--) {
        pthread_t t;
        if (pthread_create(&t, NULL, serve, NULL)) return 1;
    }
    serve(NULL);
}
