/*
 * The profiles: which parameters each takes, and what it is made of. Parameters and errors are those of Go's net/http/pprof.
 */
#include "debug/debug.h"

#include <stdio.h>

static const char *const octets = "application/octet-stream";

struct profile {
    const char *name;
    enum wr_inside_kind kind;
    struct wr_profile_kind values;
    bool proves;                      /* a proof comes first */
    bool dumps;                       /* debug=2 is something of its own */
    void (*text)(struct wr_reply *r, struct wr_samples *s, const char *name);
    const char *text_name;
};

/* ---- Proofs ------------------------------------------------------------------------------------------------- */

int wr_prove_in_turn(bool heal, struct wr_inside_proven *proven, struct wr_reply *reply) {
    enum { MOST = 2 };
    static _Atomic int proofs;
    int e = -EAGAIN;
    if (atomic_fetch_add(&proofs, 1) < MOST) {
        e = wr_inside->prove(heal, proven);
        if (e) wr_reply_error(reply, 503, "the search for leaked goroutines was inconclusive: %s", proven->why);
    } else {
        wr_reply_error(reply, 503, "there are %d proofs at work or waiting; try again", MOST);
    }
    atomic_fetch_sub(&proofs, 1);
    return e;
}

/* ---- One look, or two --------------------------------------------------------------------------------------- */

/* 0, or the reply has the error. */
static int look(const struct profile *p, struct wr_samples *s, struct wr_reply *reply) {
    struct wr_inside_proven proven;
    if (p->proves && wr_prove_in_turn(false, &proven, reply)) return -EBUSY;
    int e = wr_inside->stacks(p->kind, wr_samples_add, s);
    if (e || s->no_memory) wr_reply_error(reply, 500, "failed to collect profile");
    return e ? e : s->no_memory ? -ENOMEM : 0;
}

static void dump(struct wr_request *q, struct wr_reply *reply) {
    int fd = wr_request_stream(q);
    if (fd < 0) {
        wr_reply_error(reply, 500, "out of descriptors");
        return;
    }
    (void)wr_inside->dump(fd, 2); /* an error is that the client has gone, or the runtime stops */
    wr_stream_end(fd);
}

static void moment(struct wr_request *q, struct wr_reply *reply, const struct profile *p, int64_t debug) {
    if (debug <= 0) {
        reply->type = octets;
        snprintf(reply->file, sizeof reply->file, "%s", p->name);
    }
    if (q->method == WR_HEAD) return;
    struct wr_samples s = { 0 };
    if (debug >= 2 && p->dumps) {
        struct wr_inside_proven proven;
        if (!p->proves || !wr_prove_in_turn(false, &proven, reply)) dump(q, reply);
        return;
    }
    if (!look(p, &s, reply)) {
        if (debug > 0) p->text(reply, &s, p->text_name);
        else wr_profile_put(reply, &s, &p->values, 0);
    }
    wr_samples_free(&s);
}

static void difference(struct wr_request *q, struct wr_reply *reply, const struct profile *p, int64_t debug, const char *seconds_text) {
    int64_t seconds;
    if (wr_parse_integer(seconds_text, &seconds) || seconds <= 0) {
        wr_reply_error(reply, 400, "invalid value for \"seconds\" - must be a positive integer");
        return;
    }
    if (debug != 0) {
        wr_reply_error(reply, 400, "seconds and debug params are incompatible");
        return;
    }
    reply->type = octets;
    snprintf(reply->file, sizeof reply->file, "%s-delta", p->name);
    if (q->method == WR_HEAD) return;
    struct wr_samples s = { .subtract = true };
    int64_t start = wr_monotonic();
    if (!look(p, &s, reply) && wr_request_sleep(q, seconds)) {
        s.subtract = false;
        if (!look(p, &s, reply)) wr_profile_put(reply, &s, &p->values, wr_monotonic() - start);
    }
    wr_samples_free(&s);
}

static void serve(struct wr_request *q, struct wr_reply *reply, const struct profile *p) {
    char text[64];
    int64_t debug = 0; /* also what is no number */
    if (wr_query_get(q->query, "debug", text, sizeof text)) (void)wr_parse_integer(text, &debug);
    if (wr_query_get(q->query, "seconds", text, sizeof text) && *text) difference(q, reply, p, debug, text);
    else moment(q, reply, p, debug);
}

/* ---- Which there are ---------------------------------------------------------------------------------------- */

void wr_goroutine_page(struct wr_request *q, struct wr_reply *reply) {
    static const struct profile p = {
        .name = "goroutine", .kind = WR_INSIDE_GOROUTINES, .dumps = true, .text = wr_counts_put, .text_name = "goroutine",
        .values = { .count = "goroutine", .count_unit = "count", .period = "goroutine", .period_unit = "count", .period_n = 1 },
    };
    serve(q, reply, &p);
}

void wr_goroutineleak_page(struct wr_request *q, struct wr_reply *reply) {
    static const struct profile p = {
        .name = "goroutineleak", .kind = WR_INSIDE_LEAKED, .proves = true, .dumps = true, .text = wr_counts_put,
        .text_name = "goroutineleak",
        .values = { .count = "goroutineleak", .count_unit = "count", .period = "goroutineleak", .period_unit = "count", .period_n = 1 },
    };
    serve(q, reply, &p);
}

void wr_threadcreate_page(struct wr_request *q, struct wr_reply *reply) {
    static const struct profile p = {
        .name = "threadcreate", .kind = WR_INSIDE_THREADS, .text = wr_counts_put, .text_name = "threadcreate",
        .values = { .count = "threadcreate", .count_unit = "count", .period = "threadcreate", .period_unit = "count", .period_n = 1 },
    };
    serve(q, reply, &p);
}

static const struct wr_profile_kind contention = {
    .count = "contentions", .count_unit = "count", .time = "delay", .time_unit = "nanoseconds",
    .period = "contentions", .period_unit = "count", .period_n = 1,
};

void wr_block_page(struct wr_request *q, struct wr_reply *reply) {
    const struct profile p = { .name = "block", .kind = WR_INSIDE_BLOCK, .values = contention, .text = wr_contention_put,
                               .text_name = "contention" };
    serve(q, reply, &p);
}

void wr_mutex_page(struct wr_request *q, struct wr_reply *reply) {
    const struct profile p = { .name = "mutex", .kind = WR_INSIDE_MUTEX, .values = contention, .text = wr_contention_put,
                               .text_name = "mutex" };
    serve(q, reply, &p);
}

/* ---- The CPU profile ---------------------------------------------------------------------------------------- */

void wr_cpu_page(struct wr_request *q, struct wr_reply *reply) {
    enum { HZ = 100 };
    static const struct wr_profile_kind kind = {
        .count = "samples", .count_unit = "count", .time = "cpu", .time_unit = "nanoseconds",
        .period = "cpu", .period_unit = "nanoseconds", .period_n = 1000000000 / HZ,
    };
    char text[64];
    int64_t seconds = 0;
    if (wr_query_get(q->query, "seconds", text, sizeof text) && wr_parse_integer(text, &seconds)) seconds = 0;
    if (seconds <= 0) seconds = 30;
    reply->type = octets;
    snprintf(reply->file, sizeof reply->file, "profile");
    if (q->method == WR_HEAD) return;
    int64_t start = wr_monotonic();
    int e = wr_inside->cpu_start(HZ);
    if (e) {
        wr_reply_error(reply, 500, "Could not enable CPU profiling: %s",
                       e == -EBUSY ? "cpu profiling already in use" : e == -EAGAIN ? "the kernel has no timers left" : "out of memory");
        return;
    }
    struct wr_samples s = { 0 };
    (void)wr_request_sleep(q, seconds);
    (void)wr_inside->cpu_stop(wr_samples_add, &s);
    wr_profile_put(reply, &s, &kind, wr_monotonic() - start);
    wr_samples_free(&s);
}
