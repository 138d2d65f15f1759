/*
 * debug: the debug server, a library of its own. This header is for the files of this room, which use nothing of the core but the
 * table of start/inside.h: the library may be loaded into a program that exports no symbol.
 *
 *     serve.c     the public calls: from an address to a running server; forks
 *     loop.c      the thread that speaks HTTP, by libmicrohttpd; requests and their answers
 *     work.c      the threads on which answers are made, which may take their time
 *     route.c     what a request asks for, and whether it may
 *     pages.c     the index, cmdline, symbol; healing
 *     profiles.c  the profiles, their parameters
 *     text.c      samples as text
 *     sample.c    stacks and counts, as sums and differences
 *     proto.c     samples as profile.proto, by protobuf-c; mapping.c: the executable mappings, with build ids
 *     reply.c     the text of an answer
 *     parse.c     addresses, queries, numbers: what comes from outside and is read by us
 *     metrics.c   /metrics
 *     accept.c    which of its two formats a client wants
 *
 * A request is taken in on the loop's thread, waits suspended while a worker makes the answer, and is answered by the loop's thread. The
 * worker's functions (wr_handler) may block: proofs, names, seconds=. All of them run on the large stack that names want.
 */
#ifndef WR_DEBUG_H
#define WR_DEBUG_H

#include "weir/debug.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "start/inside.h"

/* weir.h's errno is a call of the core's, which there may be no symbol of. Nothing here parks, so libc's own is right. */
#include <errno.h>
#undef errno
#define errno (*__errno_location())

#define wr_container(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

#pragma GCC visibility push(hidden)

/* ---- The core (serve.c) ----------------------------------------------------------------------------------- */

/* Set before anything else here runs. */
extern const struct wr_inside *wr_inside;

/* Nanoseconds of CLOCK_MONOTONIC, as weir_now has it. */
int64_t wr_monotonic(void);

/* "weir: …" on standard error. */
__attribute__((format(printf, 1, 2))) void wr_say(const char *fmt, ...);

/* ---- Answers (reply.c) ------------------------------------------------------------------------------------- */

/* An answer that is being made: a text that grows. Zeroed: empty, status 200. Memory that cannot be had is noted; what comes after is
 * dropped, and the answer becomes a 500. */
struct wr_reply {
    char *data;             /* malloc'ed */
    size_t n, room;
    bool no_memory;
    unsigned status;        /* 0: 200 */
    const char *type;       /* Content-Type; NULL: text/plain; charset=utf-8. Stays valid */
    char file[64];          /* to be saved as, by a browser; "": to be shown */
    const char *allow;      /* of a 405 */
};
__attribute__((format(printf, 2, 3))) void wr_reply_put(struct wr_reply *r, const char *fmt, ...);
void wr_reply_add(struct wr_reply *r, const void *data, size_t n);
/* The whole answer is this error, as Go's net/http/pprof words it: the text and a newline. */
__attribute__((format(printf, 3, 4))) void wr_reply_error(struct wr_reply *r, unsigned status, const char *fmt, ...);
/* Make the data so far gzip's. */
void wr_reply_gzip(struct wr_reply *r);

/* ---- Requests (loop.c) ------------------------------------------------------------------------------------- */

struct wr_request {
    enum { WR_GET, WR_HEAD, WR_POST, WR_OTHER } method;
    const char *path;       /* decoded */
    const char *query;      /* as it came; "" */
    const char *accept;     /* the header; "" */
    const char *origin;     /* the header; "": no web page asks */
    const char *body;       /* of a POST, with a zero byte behind it */
    size_t body_n;
};

/* Make the answer. On a worker, on a large stack. A HEAD needs no body; whether there is an error is wanted. */
typedef void wr_handler(struct wr_request *request, struct wr_reply *reply);

/* Sleep. False: the client has gone, so the answer does not matter. */
bool wr_request_sleep(struct wr_request *r, int64_t seconds);

/* Instead of filling the reply: returns a descriptor that takes the body, while the client is being sent it; the type of the reply is set
 * before, and the handler touches that no more. Negative: -errno, and the reply is still to be filled. Once a request. */
int wr_request_stream(struct wr_request *r);
void wr_stream_end(int fd);

/* Is this a handler's? NULL: then the reply has the error. On the loop's thread; quick. */
wr_handler *wr_route(const struct wr_request *r, struct wr_reply *reply);

/* What there is below /debug/pprof/, the index first: as it is routed, and as the index lists it. */
struct wr_page {
    const char *name;
    wr_handler *handler;
    enum { WR_PLAIN, WR_COUNTED, WR_PROVEN } shows; /* beside it: nothing; how many `kind` has; how many the last proof found */
    enum wr_inside_kind kind;
    const char *text;
};
enum { WR_PAGES = 9 };
extern const struct wr_page wr_pages[WR_PAGES];

/* Start the loop on a listening socket. 0, -ENOMEM, -EAGAIN. Called once in a process. */
int wr_loop_start(int listener);
/* In a forked child: close what belongs to the parent's clients. */
void wr_loop_after_fork(void);

/* ---- Workers (work.c) -------------------------------------------------------------------------------------- */

struct wr_work {
    struct wr_work *next;
    void (*fn)(struct wr_work *w);
};
/* Have fn(w) called on a worker. 0; -EAGAIN: all are at work. */
int wr_work_post(struct wr_work *w);
void wr_work_after_fork(void);

/* ---- Handlers (pages.c, profiles.c, metrics.c) ------------------------------------------------------------- */

wr_handler wr_index_page, wr_cmdline_page, wr_symbol_page, wr_heal_page;
wr_handler wr_goroutine_page, wr_goroutineleak_page, wr_threadcreate_page, wr_block_page, wr_mutex_page, wr_cpu_page;

/* GET /metrics. Fills the reply and sets its type, from wr_inside->metrics and the request's accept. */
wr_handler wr_metrics_page;

/* A proof at most two at once: 0, or the reply has the error. */
int wr_prove_in_turn(bool heal, struct wr_inside_proven *proven, struct wr_reply *reply);

/* ---- Samples (sample.c) ------------------------------------------------------------------------------------ */

/* A stack with what was counted on it. */
struct wr_sample {
    int64_t count, nanoseconds;
    size_t order;            /* how many came before it */
    const char *labels;      /* as in struct wr_inside_stack */
    size_t n;
    uintptr_t pcs[];
};

/* Zeroed: none yet. */
struct wr_samples {
    struct wr_sample **samples;
    size_t n, room;
    bool subtract;              /* what is added now counts negative */
    bool no_memory;
};
wr_inside_visit wr_samples_add; /* arg: struct wr_samples */
/* Those that are not zero, in an array that the caller frees, with the largest `nanoseconds`, or else counts, first. NULL: no memory. */
struct wr_sample **wr_samples_sorted(struct wr_samples *s, size_t *n);
void wr_samples_free(struct wr_samples *s);

/* One label after the other; the texts are valid in the call alone. */
void wr_label_text_each(const char *labels, void (*visit)(const char *key, const char *value, void *arg), void *arg);

/* ---- Text (text.c) ----------------------------------------------------------------------------------------- */

/* "NAME profile: total N", and a paragraph a stack. */
void wr_counts_put(struct wr_reply *r, struct wr_samples *s, const char *name);
/* The form that block and mutex profiles have. */
void wr_contention_put(struct wr_reply *r, struct wr_samples *s, const char *name);
enum { WR_INLINED = 16 };  /* functions at one pc */

/* ---- profile.proto (proto.c, mapping.c) -------------------------------------------------------------------- */

/* What a profile is of: type and unit of its values, one or two. */
struct wr_profile_kind {
    const char *count, *count_unit;   /* "goroutine", "count" */
    const char *time, *time_unit;     /* "delay", "nanoseconds"; NULL: there is only a count */
    const char *period, *period_unit;
    int64_t period_n;
};
/* Add the samples to the reply as a profile.proto, gzipped. duration: nanoseconds that it covers; 0: it is of a moment. */
void wr_profile_put(struct wr_reply *r, struct wr_samples *s, const struct wr_profile_kind *kind, int64_t duration);

struct wr_mapping {
    uintptr_t lo, hi, offset;  /* executable; where in the file it begins */
    char *file;
    char build_id[2 * 32 + 1]; /* hexadecimal; "": none */
};
/* The mappings that hold code, the main program's first: malloc'ed. NULL: no memory. */
struct wr_mapping *wr_mappings(size_t *n);
void wr_mappings_free(struct wr_mapping *m, size_t n);

/* ---- What comes from outside (parse.c): pure functions ----------------------------------------------------- */

/* "host:port", "[host]:port", ":port". False: none of these. host: "" if there is none. */
bool wr_parse_address(const char *text, char *host, size_t size, uint16_t *port);

/* The value of the first field of that name in a query, decoded. False: there is none. Fields that are malformed, or hold a
 * zero byte, are passed by; what has no room is cut. */
bool wr_query_get(const char *query, const char *name, char *value, size_t size);

/* A decimal integer, with a sign or not. 0; -EINVAL: none, *n is 0; -ERANGE: *n is the nearest there is. */
int wr_parse_integer(const char *text, int64_t *n);

/* Addresses separated by '+', in hexadecimal (0x…), octal (0…) or decimal; others are passed by. Call visit for each but 0. */
void wr_parse_addresses(const char *text, size_t n, void (*visit)(uintptr_t address, void *arg), void *arg);

/* ---- The same, for /metrics (accept.c) ---------------------------------------------------------------------- */

/* By its Accept header, would the client as soon have OpenMetrics as any other text? Ranges of types do not count. */
bool wr_wants_openmetrics(const char *accept);

#pragma GCC visibility pop
#endif
