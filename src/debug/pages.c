/* The pages that are no profiles: index, cmdline, symbol; and healing. */
#include "debug/debug.h"

#include "profile/profile.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

/* ---- The index ---------------------------------------------------------------------------------------------- */

static void age_put(struct wr_reply *r, weir_duration age) {
    int64_t s = age / WEIR_SECOND;
    if (s < 120) wr_reply_put(r, "%" PRId64 " s", s);
    else if (s < 7200) wr_reply_put(r, "%" PRId64 " min", s / 60);
    else wr_reply_put(r, "%" PRId64 " h", s / 3600);
}

/* Nobody having asked is not the same as there being none. */
static void leaked_put(struct wr_reply *r) {
    struct wr_proofs last;
    wr_inside->proofs(&last);
    if (last.n) {
        wr_reply_put(r, "%" PRIu64 " (proven ", last.leaked);
        age_put(r, wr_monotonic() - last.at);
        wr_reply_put(r, " ago)");
    } else {
        wr_reply_put(r, last.inconclusive ? "asked, without a result" : "never asked");
    }
}

void wr_index_page(struct wr_request *q, struct wr_reply *r) {
    (void)q;
    r->type = "text/html; charset=utf-8";
    wr_reply_put(r, "<!DOCTYPE html>\n<html>\n<head><title>/debug/pprof/</title></head>\n<body>\n<h1>/debug/pprof/</h1>\n"
                    "<table>\n<tr><th>Count</th><th>Profile</th><th></th></tr>\n");
    for (const struct wr_page *page = wr_pages; page < wr_pages + WR_PAGES; page++) {
        if (!*page->name) continue; /* this one */
        wr_reply_put(r, "<tr><td>");
        if (page->shows == WR_COUNTED) wr_reply_put(r, "%zu", wr_inside->count(page->kind));
        if (page->shows == WR_PROVEN) leaked_put(r);
        wr_reply_put(r, "</td><td><a href='%s%s'>%s</a></td><td>%s</td></tr>\n", page->name, page->shows != WR_PLAIN ? "?debug=1" : "",
                     page->name, page->text);
    }
    wr_reply_put(r, "</table>\n<p><a href='goroutine?debug=2'>all goroutines, each with its stack</a></p>\n</body>\n</html>\n");
}

/* ---- The command line --------------------------------------------------------------------------------------- */

void wr_cmdline_page(struct wr_request *q, struct wr_reply *r) {
    char buffer[4096];
    (void)q;
    int fd = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
    for (ssize_t n; fd >= 0 && (n = read(fd, buffer, sizeof buffer)) > 0;) wr_reply_add(r, buffer, (size_t)n);
    if (fd >= 0) close(fd);
    if (r->n && !r->data[r->n - 1]) r->n--; /* what separates is not wanted at the end */
}

/* ---- Symbols ------------------------------------------------------------------------------------------------ */

static void put_symbol(uintptr_t address, void *arg) {
    struct wr_inside_name names[WR_INLINED];
    if (address == UINTPTR_MAX) return;
    size_t n = wr_inside->names(address + 1, false, names, WR_INLINED);
    if (n && names[0].named) wr_reply_put(arg, "0x%" PRIxPTR " %s\n", address, names[0].function);
}

void wr_symbol_page(struct wr_request *q, struct wr_reply *r) {
    const char *text = q->method == WR_POST ? q->body : q->query;
    size_t n = q->method == WR_POST ? q->body_n : 0;
    while (q->method != WR_POST && text[n]) n++;
    wr_reply_put(r, "num_symbols: 1\n"); /* that there are any is all that anybody wants to know */
    wr_parse_addresses(text, n, put_symbol, r);
}

/* ---- Healing ------------------------------------------------------------------------------------------------ */

void wr_heal_page(struct wr_request *q, struct wr_reply *r) {
    struct wr_inside_proven proven;
    (void)q;
    if (!wr_prove_in_turn(true, &proven, r)) wr_reply_put(r, "%zu leaked, %zu healed\n", proven.leaked, proven.healed);
}
