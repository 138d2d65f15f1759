/* Samples as text, debug=1: the forms that Go's tools read, one paragraph a stack. Under wr_inside->on_large_stack. */
#include "debug/debug.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static void stack_put(struct wr_reply *r, const struct wr_sample *s) {
    wr_reply_put(r, " @");
    for (size_t i = 0; i < s->n; i++) wr_reply_put(r, " 0x%" PRIxPTR, s->pcs[i]);
    wr_reply_put(r, "\n");
    if (*s->labels) wr_reply_put(r, "# labels: %s\n", s->labels);
    for (size_t i = 0; i < s->n; i++) {
        struct wr_inside_name names[WR_INLINED];
        size_t n = wr_inside->names(s->pcs[i], i == 0, names, WR_INLINED);
        for (size_t k = 0; k < n; k++)
            wr_reply_put(r, "#\t0x%" PRIxPTR "\t%s+0x%" PRIxPTR "\t%s:%d\n", s->pcs[i] - 1, names[k].function, names[k].offset,
                         names[k].file, names[k].line);
    }
    wr_reply_put(r, "\n");
}

static void hint_put(struct wr_reply *r) {
    if (!wr_inside->has_lines()) wr_reply_put(r, "# weir was built without libdw, so there are no lines; addr2line knows them\n");
}

void wr_counts_put(struct wr_reply *r, struct wr_samples *all, const char *name) {
    size_t n;
    int64_t total = 0;
    struct wr_sample **sorted = wr_samples_sorted(all, &n);
    if (!sorted) r->no_memory = true;
    for (size_t i = 0; i < n; i++) total += sorted[i]->count;
    wr_reply_put(r, "%s profile: total %" PRId64 "\n", name, total);
    for (size_t i = 0; i < n && !r->no_memory; i++) {
        wr_reply_put(r, "%" PRId64, sorted[i]->count);
        stack_put(r, sorted[i]);
    }
    hint_put(r);
    free(sorted);
}

/* A "cycle" is a nanosecond here. */
void wr_contention_put(struct wr_reply *r, struct wr_samples *all, const char *name) {
    size_t n;
    struct wr_sample **sorted = wr_samples_sorted(all, &n);
    if (!sorted) r->no_memory = true;
    wr_reply_put(r, "--- %s:\ncycles/second=1000000000\n", name);
    if (!strcmp(name, "mutex")) wr_reply_put(r, "sampling period=%d\n", wr_inside->mutex_fraction());
    for (size_t i = 0; i < n && !r->no_memory; i++) {
        wr_reply_put(r, "%" PRId64 " %" PRId64, sorted[i]->nanoseconds, sorted[i]->count);
        stack_put(r, sorted[i]);
    }
    hint_put(r);
    free(sorted);
}
