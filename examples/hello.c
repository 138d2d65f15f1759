/*
 * hello: a small HTTP/1.1 server. GET / is answered with a line of text, all else with an error. Connections are kept open and requests
 * may be sent ahead, as HTTP/1.1 has it. What comes is parsed by the http-parser library.
 */
#include "support/server.h"

#include <http_parser.h>
#include <string.h>
#include <sys/socket.h>

#define AHEAD 4 /* answers collected before they are sent */

/* All that there are, written out once: a goroutine's stack stays as small as what it does. */
enum kind { OK, NOT_FOUND, NOT_ALLOWED, BAD, KINDS };
static struct answer {
    char text[160];
    size_t head, whole; /* lengths: without the body, and with it */
} answers[KINDS][2];    /* that leave the connection open, that do not */

static void write_answers(void) {
    static const char *const said[KINDS][2] = { { "200 OK", "Hello, world!\n" },
                                                { "404 Not Found", "There is only / here.\n" },
                                                { "405 Method Not Allowed", "Only GET and HEAD here.\n" },
                                                { "400 Bad Request", "This is not HTTP/1.1.\n" } };
    for (int i = 0; i < KINDS; i++)
        for (int last = 0; last < 2; last++) {
            struct answer *a = &answers[i][last];
            size_t body = strlen(said[i][1]);
            a->whole = (size_t)snprintf(a->text, sizeof a->text,
                                        "HTTP/1.1 %s\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\n%s\r\n%s", said[i][0],
                                        body, last ? "Connection: close\r\n" : "", said[i][1]);
            a->head = a->whole - body;
        }
}

struct request {
    char path[256];
    size_t length;  /* of the path, also where it did not fit */
    bool whole;     /* the request has come in full */
    int answers;    /* not sent yet */
    size_t n;
    char out[AHEAD * sizeof answers[0][0].text];
};

static int on_begin(http_parser *p) {
    struct request *r = p->data;
    r->length = 0;
    r->whole = false;
    return 0;
}

static int on_url(http_parser *p, const char *at, size_t n) {
    struct request *r = p->data;
    if (r->length + n <= sizeof r->path) memcpy(r->path + r->length, at, n);
    r->length += n;
    return 0;
}

static void answer(struct request *r, enum kind kind, bool with_body, bool last) {
    const struct answer *a = &answers[kind][last];
    size_t n = with_body ? a->whole : a->head;
    memcpy(r->out + r->n, a->text, n);
    r->n += n;
    r->answers++;
}

static int on_complete(http_parser *p) {
    struct request *r = p->data;
    bool last = !http_should_keep_alive(p), head = p->method == HTTP_HEAD;
    r->whole = true;
    if (p->method != HTTP_GET && !head) answer(r, NOT_ALLOWED, true, last);
    else if (r->length != 1 || r->path[0] != '/') answer(r, NOT_FOUND, !head, last);
    else answer(r, OK, !head, last);
    if (last || r->answers == AHEAD) http_parser_pause(p, 1); /* what follows is looked at once these are sent */
    return 0;
}

static const http_parser_settings settings = { .on_message_begin = on_begin, .on_url = on_url, .on_message_complete = on_complete };

static bool send_answers(int fd, struct request *r) {
    bool sent = weir_write_all(fd, r->out, r->n) == (int64_t)r->n;
    r->n = 0;
    r->answers = 0;
    return sent;
}

/* To close while something is unread would be a reset, which may overtake the answer. So drop what comes, for a second at most. */
static void hang_up(int fd) {
    char in[1024];
    shutdown(fd, SHUT_WR);
    weir_timeout(WEIR_SECOND) while (weir_read(fd, in, sizeof in) > 0) {}
}

static int64_t read_within(weir_duration idle, int fd, char *in, size_t n) {
    if (!idle) return weir_read(fd, in, n);
    int64_t got = -ETIMEDOUT;
    weir_timeout(idle) got = weir_read(fd, in, n);
    return got;
}

static void hello(int fd, void *arg) {
    const struct server *s = arg;
    struct request r = { .n = 0 };
    http_parser p;
    char in[1024];
    http_parser_init(&p, HTTP_REQUEST);
    p.data = &r;
    for (;;) {
        int64_t got = read_within(s->idle, fd, in, sizeof in);
        if (got <= 0) return;
        for (int64_t done = 0; done < got;) {
            http_parser_pause(&p, 0);
            done += (int64_t)http_parser_execute(&p, &settings, in + done, (size_t)(got - done));
            enum http_errno error = HTTP_PARSER_ERRNO(&p);
            bool more = error == HPE_OK || error == HPE_PAUSED;
            if (!more) answer(&r, BAD, true, true);
            if (r.n && !send_answers(fd, &r)) return;
            if (!more || p.upgrade || (r.whole && !http_should_keep_alive(&p))) goto end;
        }
    }
end:
    hang_up(fd);
}

int weir_main(int argc, char **argv) {
    struct server s = { .name = "hello", .what = "Answer GET / over HTTP/1.1 with a greeting.",
                        .address = "127.0.0.1:7080", .serve = hello, .arg = &s, .idle = WEIR_MINUTE };
    write_answers();
    return run_server(argc, argv, &s, NULL);
}
