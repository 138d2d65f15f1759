/* What a request asks for, and whether it may. */
#include "debug/debug.h"

#include <stdlib.h>
#include <string.h>

#define PPROF "/debug/pprof/"

const struct wr_page wr_pages[WR_PAGES] = {
    { "", wr_index_page, WR_PLAIN, 0, "" },
    { "block", wr_block_page, WR_COUNTED, WR_INSIDE_BLOCK, "Where goroutines have blocked, if that is recorded (weir_block_profile_rate)." },
    { "cmdline", wr_cmdline_page, WR_PLAIN, 0, "The command line, arguments separated by zero bytes." },
    { "goroutine", wr_goroutine_page, WR_COUNTED, WR_INSIDE_GOROUTINES, "The stacks of all goroutines. debug=2 shows each, with its state." },
    { "goroutineleak", wr_goroutineleak_page, WR_PROVEN, WR_INSIDE_LEAKED,
      "Goroutines that have leaked. Asking makes a proof, for which the process pauses for some milliseconds." },
    { "mutex", wr_mutex_page, WR_COUNTED, WR_INSIDE_MUTEX,
      "Which unlocks have let others wait, if that is recorded (weir_mutex_profile_fraction)." },
    { "profile", wr_cpu_page, WR_PLAIN, 0, "A CPU profile of seconds=30, for go tool pprof." },
    { "symbol", wr_symbol_page, WR_PLAIN, 0, "The functions at addresses: symbol?0x1234+0x5678." },
    { "threadcreate", wr_threadcreate_page, WR_COUNTED, WR_INSIDE_THREADS, "The runtime's threads, by what they run." },
};

static wr_handler *not_allowed(struct wr_reply *reply, const char *allow) {
    wr_reply_error(reply, 405, "Method Not Allowed");
    reply->allow = allow;
    return NULL;
}

/* The one thing here that changes the program. A web page that the user looks at may send a POST to this machine, too, and says who
 * it is. */
static wr_handler *heal(const struct wr_request *q, struct wr_reply *reply) {
    const char *may = getenv("WEIR_DEBUG_HEAL");
    if (!may || strcmp(may, "1")) wr_reply_error(reply, 403, "healing is not allowed: the program was started without WEIR_DEBUG_HEAL=1");
    else if (*q->origin) wr_reply_error(reply, 403, "healing is not allowed to web pages");
    else return wr_heal_page;
    return NULL;
}

static wr_handler *page(const struct wr_request *q, struct wr_reply *reply, const char *name) {
    char text[8];
    bool heals = !strcmp(name, "goroutineleak") && wr_query_get(q->query, "heal", text, sizeof text) && !strcmp(text, "1");
    for (size_t i = 0; i < WR_PAGES; i++) {
        if (strcmp(wr_pages[i].name, name)) continue;
        bool posts = wr_pages[i].handler == wr_symbol_page;
        if (heals) return q->method == WR_POST ? heal(q, reply) : not_allowed(reply, "POST");
        if (q->method == WR_OTHER || (q->method == WR_POST && !posts)) return not_allowed(reply, posts ? "GET, HEAD, POST" : "GET, HEAD");
        return wr_pages[i].handler;
    }
    if (q->method != WR_GET && q->method != WR_HEAD) return not_allowed(reply, "GET, HEAD");
    wr_reply_error(reply, 404, "Unknown profile");
    return NULL;
}

wr_handler *wr_route(const struct wr_request *q, struct wr_reply *reply) {
    bool reads = q->method == WR_GET || q->method == WR_HEAD;
    if (!strncmp(q->path, PPROF, strlen(PPROF))) return page(q, reply, q->path + strlen(PPROF));
    if (!strcmp(q->path, "/metrics")) return reads ? wr_metrics_page : not_allowed(reply, "GET, HEAD");
    if (!strcmp(q->path, "/debug/pprof") && reads) {
        wr_reply_error(reply, 301, "<a href=\"%s\">Moved Permanently</a>.", PPROF);
        reply->type = "text/html; charset=utf-8";
        return NULL;
    }
    wr_reply_error(reply, 404, "404 page not found");
    return NULL;
}
