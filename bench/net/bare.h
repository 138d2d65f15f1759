/*
 * What the bare loops share: the listener, the threads, and `hello`: examples/hello's parser, its look at the request, its answer.
 */
#include <arpa/inet.h>
#include <http_parser.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* Each thread has one at the port. flags: SOCK_NONBLOCK. */
static int listen_at(int port, int flags) {
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int listener = socket(AF_INET, SOCK_STREAM | flags, 0), one = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    setsockopt(listener, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one);
    setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&at, sizeof at) || listen(listener, 65535)) perror("listen"), exit(1);
    return listener;
}

static struct written {
    char text[160];
    size_t n;
} answers[2][2]; /* to what is not GET /, to GET /; that leave the connection open, that do not */

static void write_answers(void) {
    for (int i = 0; i < 4; i++) {
        const char *text = i / 2 ? "Hello, world!\n" : "There is only / here.\n";
        struct written *w = &answers[i / 2][i % 2];
        w->n = (size_t)sprintf(w->text, "HTTP/1.1 %s\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\n%s\r\n%s",
                               i / 2 ? "200 OK" : "404 Not Found", strlen(text), i % 2 ? "Connection: close\r\n" : "", text);
    }
}

/* On so many threads, of which the caller is one; returns the exit status if there are fewer to be had. */
static int serve_on(int threads, void *(*serve)(void *)) {
    write_answers();
    for (; threads > 1; threads--) {
        pthread_t t;
        if (pthread_create(&t, NULL, serve, NULL)) return 1;
    }
    serve(NULL);
    return 0;
}

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
    r->last = !http_should_keep_alive(p);
    const struct written *w = &answers[right][r->last];
    memcpy(r->out + r->n, w->text, w->n);
    r->n += w->n;
    return 0;
}

static const http_parser_settings settings = { .on_message_begin = on_begin, .on_url = on_url, .on_message_complete = on_complete };

/* The answer to n bytes, in place of them, where there is room for `room`; 0: hang up. */
static ssize_t answer(struct request *r, char *buffer, ssize_t n, size_t room) {
    static __thread char out[4096 / 18 * 160]; /* no request is shorter than 18 bytes, and no more than 4096 bytes come */
    r->out = out, r->n = 0;
    http_parser_execute(&r->parser, &settings, buffer, (size_t)n);
    if (HTTP_PARSER_ERRNO(&r->parser) != HPE_OK || r->n > room) return 0;
    memcpy(buffer, out, r->n);
    return (ssize_t)r->n;
}

/* By descriptor, made when it is first seen. */
static struct request *request_of(int fd) {
    static struct request *requests[1 << 20];
    if (!requests[fd]) requests[fd] = malloc(sizeof *requests[fd]);
    return requests[fd];
}

/* A connection has the number from now on. */
static void request_begin(int fd) {
    struct request *r = request_of(fd);
    http_parser_init(&r->parser, HTTP_REQUEST);
    r->parser.data = r;
    r->last = false;
}
