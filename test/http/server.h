/*
 * A server that misbehaves, for the tests of http: each path is a fault. One goroutine accepts, one each serves a connection; server_stop
 * waits for all. Sockets are libc's, blocking in weir.
 */
#ifndef TEST_HTTP_SERVER_H
#define TEST_HTTP_SERVER_H

#include "test.h"

#include <dirent.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "weir/http.h"

struct server {
    int fd, port;
    weir_wg left;                   /* its goroutines */
    _Atomic int connections;        /* accepted */
    _Atomic int requests;
    _Atomic int cut_off;            /* connections that the client closed while it was owed something */
};

struct conn {
    struct server *s;
    int fd;
    char head[8192];                /* of the request, then what came of its body */
    size_t length;                  /* in head */
    size_t body;                    /* where the body begins */
    size_t announced;               /* its length */
};

/* ---- Serving ------------------------------------------------------------------------------------------- */

/* false: the other side has gone. */
static bool put_bytes(struct conn *c, const void *data, size_t n) { return weir_write_all(c->fd, data, n) == (int64_t)n; }
static bool put(struct conn *c, const char *text) { return put_bytes(c, text, strlen(text)); }

static bool put_answer(struct conn *c, const char *status, const char *headers, const char *body) {
    char text[16384];
    int n = snprintf(text, sizeof text, "HTTP/1.1 %s\r\nContent-Length: %zu\r\n%s\r\n%s", status, strlen(body), headers,
                     strncmp(c->head, "HEAD", 4) ? body : "");
    return put_bytes(c, text, (size_t)n);
}

/* The next request's head, and its body if that is announced and fits. */
static bool get_request(struct conn *c) {
    char *end = NULL;
    for (c->length = 0; !end;) {
        int64_t n = weir_read(c->fd, c->head + c->length, sizeof c->head - 1 - c->length);
        if (n <= 0) return false;
        c->length += (size_t)n;
        c->head[c->length] = 0;
        end = strstr(c->head, "\r\n\r\n");
    }
    c->body = (size_t)(end - c->head) + 4;
    const char *announced = strcasestr(c->head, "\r\nContent-Length:");
    c->announced = announced && announced < end ? strtoul(announced + 17, NULL, 10) : 0;
    while (c->length - c->body < c->announced && c->length < sizeof c->head - 1) {
        int64_t n = weir_read(c->fd, c->head + c->length, sizeof c->head - 1 - c->length);
        if (n <= 0) return false;
        c->length += (size_t)n;
    }
    c->head[c->length] = 0;
    c->s->requests++;
    return true;
}

static bool asks_for(struct conn *c, const char *path) {
    const char *at = strchr(c->head, ' ');
    size_t n = strlen(path);
    return at && !strncmp(at + 1, path, n) && (path[n - 1] == '/' || at[1 + n] == ' ');
}

static void until_client_closes(struct conn *c) {
    char byte[256];
    while (weir_read(c->fd, byte, sizeof byte) > 0) {}
    c->s->cut_off++;
}

static void reset(struct conn *c) {
    CHECK_EQ(setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &(struct linger){ 1, 0 }, sizeof(struct linger)), 0);
}

/* Without an end: a gzip stream of zeros, 258 of them in 13 bits. */
static void gzip_bomb(struct conn *c) {
    static const unsigned char start[] = { 0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3 };
    unsigned char block[13 * 64] = { 0 };
    unsigned n = 0;
    uint32_t pending = 1 | 1 << 1, have = 3; /* last block, fixed codes */
    put(c, "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nConnection: close\r\n\r\n");
    put_bytes(c, start, sizeof start);
    for (bool more = true, first = true; more;) {
        /* The byte 0 is the code 00110000, then a length of 258, 11000101, and a distance of 1, 00000; most significant bit first. */
        uint32_t code = first ? 0x0c : 0xa3, size = first ? 8 : 13;
        first = false;
        pending |= code << have;
        have += size;
        for (; have >= 8; have -= 8, pending >>= 8) {
            block[n++] = (unsigned char)pending;
            if (n == sizeof block) more = put_bytes(c, block, n), n = 0;
        }
    }
    c->s->cut_off++;
}

/* false: the connection ends. */
static bool serve_one(struct conn *c) {
    struct server *s = c->s;
    char text[256];
    if (asks_for(c, "/ok")) return put_answer(c, "200 OK", "Content-Type: text/plain\r\nX-Two: a\r\nx-two: b\r\n", "hello");
    if (asks_for(c, "/missing")) return put_answer(c, "404 Not Found", "", "nothing here");
    if (asks_for(c, "/echo")) return put_answer(c, "200 OK", "", c->head);
    if (asks_for(c, "/empty")) return put(c, "HTTP/1.1 204 No Content\r\n\r\n");
    if (asks_for(c, "/continue")) return put(c, "HTTP/1.1 103 Early Hints\r\nX-Early: 1\r\n\r\n") && put_answer(c, "200 OK", "X-Late: 1\r\n", "");
    if (asks_for(c, "/sink")) {
        size_t sum = 0, left = c->announced - (c->length - c->body);
        for (size_t i = c->body; i < c->length; i++) sum += (unsigned char)c->head[i];
        while (left) {
            unsigned char piece[4096];
            int64_t n = weir_read(c->fd, piece, left < sizeof piece ? left : sizeof piece);
            if (n <= 0) return false;
            for (int64_t i = 0; i < n; i++) sum += piece[i];
            left -= (size_t)n;
        }
        snprintf(text, sizeof text, "%zu", sum);
        return put_answer(c, "200 OK", "", text);
    }
    if (asks_for(c, "/deaf")) weir_sleep(2 * WEIR_SECOND); /* reads no more */
    if (asks_for(c, "/never")) until_client_closes(c);
    if (asks_for(c, "/hangup")) return false;
    if (asks_for(c, "/garbage")) put(c, "I speak no HTTP\r\n\r\n");
    if (asks_for(c, "/short")) put(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort");
    if (asks_for(c, "/loop")) return put_answer(c, "302 Found", "Location: /loop\r\n", "");
    if (asks_for(c, "/to-file")) return put_answer(c, "302 Found", "Location: file:///etc/passwd\r\n", "");
    if (asks_for(c, "/see-other")) return put_answer(c, "303 See Other", "Location: /echo\r\n", "");
    if (asks_for(c, "/temporary")) return put_answer(c, "307 Temporary Redirect", "Location: /echo\r\n", "");
    if (asks_for(c, "/elsewhere")) { /* another host by name */
        snprintf(text, sizeof text, "Location: http://localhost:%d/echo\r\n", s->port);
        return put_answer(c, "302 Found", text, "");
    }
    if (asks_for(c, "/bad-chunk")) put(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n");
    if (asks_for(c, "/bad-gzip")) put(c, "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 20\r\n\r\nnot gzip, not at all");
    if (asks_for(c, "/gzip")) {
        static const unsigned char hello[] = { 0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 1, 5, 0, 0xfa, 0xff, 'h', 'e', 'l', 'l', 'o',
                                               0x86, 0xa6, 0x10, 0x36, 5, 0, 0, 0 };
        return put(c, "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 28\r\n\r\n") && put_bytes(c, hello, sizeof hello);
    }
    if (asks_for(c, "/bomb")) gzip_bomb(c);
    if (asks_for(c, "/reset")) {
        put(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nnot all");
        reset(c);
    }
    if (asks_for(c, "/slow")) {
        bool there = put(c, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n");
        while (there && !weir_sleep(20 * WEIR_MILLISECOND)) there = put(c, "x");
        s->cut_off++;
    }
    if (asks_for(c, "/headers")) {
        bool there = put(c, "HTTP/1.1 200 OK\r\n");
        while (there) there = put(c, "X-More: and more, and more, and more, and more, and more\r\n");
        s->cut_off++;
    }
    if (asks_for(c, "/line")) {
        bool there = put(c, "HTTP/1.1 200 OK\r\nX-Long: ");
        while (there) there = put(c, "and more, and more, and more, and more, and more, and more, ");
        s->cut_off++;
    }
    if (asks_for(c, "/endless")) {
        static char zeros[64 << 10];
        bool there = put(c, "HTTP/1.1 200 OK\r\n\r\n");
        while (there) there = put_bytes(c, zeros, sizeof zeros);
        s->cut_off++;
    }
    if (asks_for(c, "/bytes/")) {
        size_t n = strtoul(strstr(c->head, "/bytes/") + 7, NULL, 10);
        snprintf(text, sizeof text, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", n);
        bool there = put(c, text);
        char piece[4096];
        for (size_t at = 0; there && at < n; at += sizeof piece) {
            for (size_t i = 0; i < sizeof piece; i++) piece[i] = (char)((at + i) * 2654435761u >> 24);
            there = put_bytes(c, piece, n - at < sizeof piece ? n - at : sizeof piece);
        }
        return there;
    }
    return false;
}

static void serve(struct server *s, int fd) {
    struct conn *c = calloc(1, sizeof *c);
    CHECK(c);
    c->s = s;
    c->fd = fd;
    while (get_request(c) && serve_one(c)) {}
    CHECK_EQ(weir_close_fd(fd), 0);
    free(c);
}

static void accept_all(struct server *s) {
    while (weir_wait_fd(s->fd, WEIR_IN) > 0) {
        int fd = accept4(s->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) continue;
        s->connections++;
        CHECK_EQ(weir_wg_go(&s->left, serve, s, fd), 0);
    }
}

/* ---- For the tests --------------------------------------------------------------------------------------- */

static void server_start(struct server *s) {
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t size = sizeof at;
    memset(s, 0, sizeof *s);
    setenv("no_proxy", "*", 1);
    s->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    CHECK_GE(s->fd, 0);
    CHECK_EQ(bind(s->fd, (struct sockaddr *)&at, size), 0);
    CHECK_EQ(listen(s->fd, 1024), 0);
    CHECK_EQ(getsockname(s->fd, (struct sockaddr *)&at, &size), 0);
    s->port = ntohs(at.sin_port);
    CHECK_EQ(weir_wg_go(&s->left, accept_all, s), 0);
}

/* Waits for the connections too, so the clients must be done with them. */
static void server_stop(struct server *s) {
    weir_http_close_idle();
    CHECK_EQ(weir_close_fd(s->fd), 0);
    CHECK_EQ(weir_wg_wait(&s->left), 0);
}

static const char *url_in(char to[64], struct server *s, const char *path) {
    snprintf(to, 64, "http://127.0.0.1:%d%s", s->port, path);
    return to;
}
#define URL(s, path) url_in((char[64]){ 0 }, s, path)

static inline int entries_of(const char *folder) {
    int n = 0;
    DIR *dir = opendir(folder);
    CHECK(dir);
    while (readdir(dir)) n++;
    closedir(dir);
    return n - 2; /* . and .. */
}
static inline int open_descriptors(void) { return entries_of("/proc/self/fd") - 1; /* its own */ }

#endif
