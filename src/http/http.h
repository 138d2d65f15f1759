/*
 * http: requests on libcurl's multi interface, which watches many connections at once and calls back. This header is for the files of
 * this room, which use weir's public interface and nothing else of it.
 *
 *     request.c   weir_http_do: from the options to the answer, on the caller's goroutine
 *     answer.c    what curl hands over of an answer: headers, body
 *     pool.c      curl's connections, and who of the waiting goroutines drives them
 *     error.c     curl's errors as errno values and sentences
 *
 * Every call of curl's is made under one lock (pool.c) and parks nobody, so that a goroutine never changes its thread amid curl or
 * OpenSSL, which keep things in thread-locals. Their callbacks therefore do nothing but copy.
 */
#ifndef WR_HTTP_H
#define WR_HTTP_H

#include "weir/http.h"

#include <curl/curl.h>

#pragma GCC visibility push(hidden)

struct bytes {
    char *data;
    size_t length, room;
};

/* One request. In the heap, not on its goroutine's stack: the proof of leaks finds from here who waits, and that it will be woken. */
struct wr_http {
    const weir_http_request *asked;
    weir_http_response *answer;
    CURL *easy;
    CURLU *url;
    struct curl_slist *headers;
    char why[CURL_ERROR_SIZE];      /* curl's words */

    /* From here on under the pool's lock, while the request is in one. */
    struct wr_http_pool *pool;
    struct wr_http *next, **at;     /* in the pool's list */
    weir_cond wake;                 /* its goroutine waits here, unless it is the leader */
    bool waiting;                   /* and nobody has woken it yet */
    bool done;                      /* with `code` or `error` */
    bool paused;                    /* curl holds back what the body has no room for */
    bool ending;                    /* what still comes is dropped */
    bool head_ended;                /* the next status line begins another answer */
    CURLcode code;
    int socket_error;               /* errno of the last socket(2) */
    int error;                      /* why we ended it: goes before curl's code */
    int64_t max_body;               /* -1: none */
    int64_t received;               /* of the body */
    size_t head_received;           /* of all headers */
    struct bytes body;              /* all of it; with on_body, what has come since */
    struct bytes head;              /* lines, each with a zero byte */
};

/* pool.c. All but begin and close_idle with the lock held. */
int wr_http_begin(struct wr_http *r);   /* takes the lock, adds r. Error: not taken */
void wr_http_end(struct wr_http *r);    /* removes r, wherever it is, and releases the lock */
int wr_http_wait(struct wr_http *r);    /* until r is done or has body for its caller; or the context's end */
void wr_http_lock(void);
void wr_http_unlock(void);
void wr_http_wake(struct wr_http *r);   /* there is something to look at */

/* answer.c */
size_t wr_http_on_header(char *line, size_t one, size_t n, void *request);
size_t wr_http_on_body(char *data, size_t one, size_t n, void *request);
bool wr_http_body_comes(struct wr_http *r, struct bytes *taken); /* take what has come for on_body; false: nothing has */
int wr_http_fill_answer(struct wr_http *r);

/* error.c. Both write answer->error and return a negative errno value. */
int wr_http_failed(struct wr_http *r, CURLcode code);
int wr_http_ended(struct wr_http *r, int error);

#pragma GCC visibility pop
#endif
