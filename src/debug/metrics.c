/*
 * GET /metrics: what the runtime counts, for Prometheus. In OpenMetrics text where the client asks for that, in Prometheus's own text
 * format otherwise; they differ in how a counter is named above its samples, in units, and in the end.
 *
 * What is not known is not there: a program that nobody has asked for a proof of leaks has no weir_leaked_goroutines, rather than one of 0.
 * What a page has is bounded: no label has values without a limit, as there are at most WR_METRIC_SITES places.
 *
 * Called on a worker of the debug library, on no goroutine; holds nothing.
 */
#include "debug/debug.h"

#include "profile/profile.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>

static const char *const open_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
static const char *const text_type = "text/plain; version=0.0.4; charset=utf-8";

struct page {
    struct wr_reply *to;
    bool open; /* OpenMetrics */
};

enum { LABEL = 1024 }; /* bytes of a label's value, a path for one */

/* ---- What all families have in common ---------------------------------------------------------------------- */

/* unit: "seconds", "bytes", or "". A counter's samples end in _total, its family does in the one format. */
static void family(const struct page *p, const char *name, const char *type, const char *unit, const char *help) {
    const char *suffix = !p->open && !strcmp(type, "counter") ? "_total" : "";
    wr_reply_put(p->to, "# HELP %s%s %s\n# TYPE %s%s %s\n", name, suffix, help, name, suffix, type);
    if (p->open && *unit) wr_reply_put(p->to, "# UNIT %s %s\n", name, unit);
}

static void gauge(const struct page *p, const char *name, const char *unit, const char *help, uint64_t value) {
    family(p, name, "gauge", unit, help);
    wr_reply_put(p->to, "%s %" PRIu64 "\n", name, value);
}

static void counter(const struct page *p, const char *name, const char *help, uint64_t value) {
    family(p, name, "counter", "", help);
    wr_reply_put(p->to, "%s_total %" PRIu64 "\n", name, value);
}

/* A sample of a gauge with one label. */
static void labelled(const struct page *p, const char *name, const char *label, const char *is, uint64_t value) {
    wr_reply_put(p->to, "%s{%s=\"%s\"} %" PRIu64 "\n", name, label, is, value);
}

static double seconds(int64_t nanoseconds) { return (double)nanoseconds / 1e9; }

/* As the value of a label: text, with what ends one escaped, cut off where there is no room. Bytes that are no UTF-8 become '?'. */
static const char *escaped(char *to, size_t size, const char *text) {
    char *at = to, *end = to + size - 5;
    for (const unsigned char *c = (const unsigned char *)text; *c && at < end;) {
        int more = *c < 0x80 ? 0 : *c >= 0xc2 && *c < 0xe0 ? 1 : *c >= 0xe0 && *c < 0xf0 ? 2 : *c >= 0xf0 && *c < 0xf5 ? 3 : -1;
        int n = 0;
        while (n < more && (c[n + 1] & 0xc0) == 0x80) n++;
        if (more < 0 || n < more) {
            *at++ = '?', c++;
        } else if (*c == '\n') {
            *at++ = '\\', *at++ = 'n', c++;
        } else {
            if (*c == '"' || *c == '\\') *at++ = '\\';
            for (int i = 0; i <= more; i++) *at++ = (char)*c++;
        }
    }
    *at = 0;
    return to;
}

/* ---- The families ------------------------------------------------------------------------------------------ */

static void goroutines(const struct page *p, const struct wr_counts *c) {
    static const char name[] = "weir_goroutines";
    family(p, name, "gauge", "", "Goroutines there are, by what they do; those that wait, by what for.");
    labelled(p, name, "state", "running", c->running);
    labelled(p, name, "state", "runnable", c->runnable);
    labelled(p, name, "state", "syscall", c->blocking);
    for (unsigned i = 0; i < WR_REASONS; i++)
        wr_reply_put(p->to, "%s{state=\"waiting\",reason=\"%s\"} %" PRIu64 "\n", name, wr_inside->reasons[i], c->waiting[i]);
    gauge(p, "weir_foreign_threads", "", "Threads of the program's own that have called weir and live yet.", c->foreign);
    counter(p, "weir_goroutines_started", "Goroutines that have been started.", c->started);
    counter(p, "weir_goroutines_ended", "Goroutines that have ended.", c->ended);
}

static void sites(const struct page *p, const struct wr_metrics *m) {
    static const char name[] = "weir_site_goroutines";
    char file[LABEL], function[LABEL], creator[LABEL];
    family(p, name, "gauge", "",
           "Goroutines there are, by the line that started them: the lines with most of them; all others have the site other.");
    for (size_t i = 0; i < m->n_sites; i++) {
        const struct weir_site_ *site = m->sites[i].site;
        if (!site) {
            wr_reply_put(p->to, "%s{site=\"main\",function=\"\",created_by=\"\"} %" PRIu64 "\n", name, m->sites[i].count);
            continue;
        }
        wr_reply_put(p->to, "%s{site=\"%s:%d\",function=\"%s\",created_by=\"%s\"} %" PRIu64 "\n", name,
                     escaped(file, sizeof file, site->file), site->line, escaped(function, sizeof function, site->function),
                     escaped(creator, sizeof creator, site->creator), m->sites[i].count);
    }
    wr_reply_put(p->to, "%s{site=\"other\",function=\"\",created_by=\"\"} %" PRIu64 "\n", name, m->other_sites);
}

static void watched(const struct page *p, const struct wr_watched *w) {
    counter(p, "weir_watch_count_exceeded", "Times that weir_watch_count has found more goroutines than its threshold.", w->exceeded);
    if (w->now) gauge(p, "weir_watch_count_threshold", "", "Above so many goroutines weir_watch_count calls its function.", w->threshold);
}

/* Proofs are told of in monotonic time; the page has the time of day, from which a reader's clock makes an age. */
static double time_of_day(weir_time when) {
    struct timespec day;
    clock_gettime(CLOCK_REALTIME, &day);
    return (double)day.tv_sec + seconds(day.tv_nsec - (wr_monotonic() - when));
}

static void leaks(const struct page *p, const struct wr_metrics *m) {
    counter(p, "weir_leak_proofs", "Proofs of leaks that came to a result.", m->proofs.n);
    counter(p, "weir_leak_proofs_inconclusive", "Proofs of leaks that came to none.", m->proofs.inconclusive);
    if (m->proofs.n == 0) return; /* nobody knows */
    gauge(p, "weir_leaked_goroutines", "", "Goroutines that had leaked at the time of the last proof.", m->proofs.leaked);
    family(p, "weir_leak_proof_timestamp_seconds", "gauge", "seconds", "When the last proof came to its result, in seconds since 1970.");
    wr_reply_put(p->to, "weir_leak_proof_timestamp_seconds %.3f\n", time_of_day(m->proofs.at));
    family(p, "weir_leak_proof_duration_seconds", "gauge", "seconds", "How long the last proof took, most of it in a process of its own.");
    wr_reply_put(p->to, "weir_leak_proof_duration_seconds %.9g\n", seconds(m->proofs.took));
    family(p, "weir_leak_proof_pause_seconds", "gauge", "seconds", "For how long the last proof stopped the program.");
    wr_reply_put(p->to, "weir_leak_proof_pause_seconds %.9g\n", seconds(m->proofs.paused));
}

_Static_assert(WR_LATENCY_EVERY == 256, "the text below says so");
static void latency(const struct page *p, const struct wr_counts *c) {
    static const char name[] = "weir_scheduling_latency_seconds";
    uint64_t sum = 0;
    family(p, name, "histogram", "seconds", "From ready to running, of a sample: about one in 256 goroutines that are woken or started.");
    for (int i = 0; i < WR_LATENCY_BUCKETS - 1; i++)
        wr_reply_put(p->to, "%s_bucket{le=\"%.12g\"} %" PRIu64 "\n", name, seconds((int64_t)WR_LATENCY_LEAST << i), sum += c->latency[i]);
    sum += c->latency[WR_LATENCY_BUCKETS - 1];
    wr_reply_put(p->to, "%s_bucket{le=\"+Inf\"} %" PRIu64 "\n%s_sum %.9g\n%s_count %" PRIu64 "\n", name, sum, name,
                 seconds((int64_t)c->latency_ns), name, sum);
}

static void scheduler(const struct page *p, const struct wr_counts *c) {
    family(p, "weir_processors", "gauge", "", "Processors (WEIR_PROCS), each of which runs one goroutine at a time.");
    labelled(p, "weir_processors", "state", "busy", c->procs - c->idle_procs);
    labelled(p, "weir_processors", "state", "idle", c->idle_procs);
    family(p, "weir_threads", "gauge", "", "Threads that run goroutines, or may.");
    labelled(p, "weir_threads", "state", "busy", c->threads - c->idle_threads);
    labelled(p, "weir_threads", "state", "idle", c->idle_threads);
    family(p, "weir_run_queue_goroutines", "gauge", "", "Goroutines that wait for a processor, in the queues of one or in that of all.");
    labelled(p, "weir_run_queue_goroutines", "queue", "local", c->queued_local);
    labelled(p, "weir_run_queue_goroutines", "queue", "global", c->queued_global);
    counter(p, "weir_threads_started", "Threads that were made to run goroutines.", c->threads_started);
    counter(p, "weir_parks", "Times that a goroutine went to sleep.", c->parks);
    counter(p, "weir_steals", "Times that a processor took goroutines from the queue of another one.", c->steals);
    counter(p, "weir_thread_wakeups", "Times that a sleeping thread was woken.", c->wakes);
    counter(p, "weir_processor_handoffs", "Times that a processor was taken from a thread that was busy elsewhere, and given on.", c->handoffs);
    latency(p, c);
}

static void resources(const struct page *p, const struct wr_counts *c) {
    gauge(p, "weir_timers_armed", "", "Timers that are to fire.", c->timers);
    gauge(p, "weir_descriptor_waits", "", "Waits for a descriptor to become ready.", c->descriptors);
    gauge(p, "weir_stack_mapped_bytes", "bytes", "Address space mapped for stacks; what was touched of it is much less.", c->stack_mapped);
    gauge(p, "weir_stack_in_use_bytes", "bytes", "The part of it that goroutines have as their stacks.", c->stack_in_use);
}

void wr_metrics_page(struct wr_request *request, struct wr_reply *reply) {
    struct page p = { reply, wr_wants_openmetrics(request->accept) };
    struct wr_metrics m;
    wr_inside->metrics(&m);
    reply->type = p.open ? open_type : text_type;
    goroutines(&p, &m.sched);
    sites(&p, &m);
    watched(&p, &m.watched);
    leaks(&p, &m);
    scheduler(&p, &m.sched);
    resources(&p, &m.sched);
    if (p.open) wr_reply_put(reply, "# EOF\n");
}
