/*
 * A report for a reader who has never seen one: first what is wrong and where, then what is blocked for long and why
 * that is no leak, then how well the proof could look.
 */
#include "leak/report.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

void wr_duration_text(weir_duration d, char *text, size_t size) {
    int64_t s = d / WEIR_SECOND;
    if (d < WEIR_MILLISECOND) snprintf(text, size, "%.2f ms", (double)d / 1e6);
    else if (d < WEIR_SECOND) snprintf(text, size, "%" PRId64 " ms", d / WEIR_MILLISECOND);
    else if (s < 60) snprintf(text, size, "%" PRId64 ".%" PRId64 " s", s, d / (100 * WEIR_MILLISECOND) % 10);
    else if (s < 3600) snprintf(text, size, "%" PRId64 " min %" PRId64 " s", s / 60, s % 60);
    else if (s < 86400) snprintf(text, size, "%" PRId64 " h %" PRId64 " min", s / 3600, s / 60 % 60);
    else snprintf(text, size, "%" PRId64 " days %" PRId64 " h", s / 86400, s / 3600 % 24);
}

static void bytes_text(size_t n, char *text, size_t size) {
    static const char *const units[] = { "KiB", "MiB", "GiB", "TiB" };
    double amount = (double)n / 1024;
    size_t unit = 0;
    for (; amount >= 1024 && unit < 3; unit++) amount /= 1024;
    if (n < 1024) snprintf(text, size, "%zu bytes", n);
    else snprintf(text, size, amount < 10 ? "%.1f %s" : "%.0f %s", amount, units[unit]);
}

static const char *s_if(size_t n) { return n == 1 ? "" : "s"; }

/* The line of the source, if the source is there. */
static void put_source(FILE *f, const char *path, int line) {
    struct stat st;
    char text[256];
    if (line <= 0 || stat(path, &st) != 0 || !S_ISREG(st.st_mode)) return;
    FILE *source = fopen(path, "re");
    if (!source) return;
    int at = 1;
    bool begins = true; /* text is the beginning of line `at` */
    while (fgets(text, sizeof text, source)) {
        if (at == line && begins) {
            char *from = text, *to;
            while (isspace((unsigned char)*from)) from++;
            for (to = from + strlen(from); to > from && isspace((unsigned char)to[-1]);) *--to = 0;
            if (*from) fprintf(f, "                  %d | %s\n", line, from);
            break;
        }
        begins = strchr(text, '\n') != NULL;
        at += begins;
    }
    fclose(source);
}

/* Lines of a text, each with so much before it. */
static void put_indented(FILE *f, const char *text) {
    while (*text) {
        const char *end = strchr(text, '\n');
        int n = end ? (int)(end - text) : (int)strlen(text);
        bool deeper = *text == '\t';
        fprintf(f, "        %s%.*s\n", deeper ? "    " : "", n - deeper, text + deeper);
        text += n + (end != NULL);
    }
}

static void put_ids(FILE *f, const struct wr_leak_group *g) {
    size_t shown = g->count < WR_LISTED_IDS ? g->count : WR_LISTED_IDS;
    for (size_t i = 0; i < shown; i++) fprintf(f, "%s%" PRIu64, i ? ", " : "", g->ids[i]);
    if (g->count > shown) fprintf(f, " and %zu more", g->count - shown);
}

static void put_group(FILE *f, const weir_leak_report *r, const struct wr_leak_group *g, const char *is) {
    char waited[64];
    fprintf(f, "\n%zu goroutine%s %s, started at ", g->count, s_if(g->count), is);
    if (*g->created_by) fprintf(f, "%s (%s:%d)", g->created_by, g->file, g->line);
    else fprintf(f, "the beginning");
    fprintf(f, " with %s:\n    ids         ", *g->function ? g->function : "a function that is not known");
    put_ids(f, g);
    if (*g->name) fprintf(f, "; the first is named \"%s\"", g->name);
    wr_duration_text(r->made - g->since, waited, sizeof waited);
    fprintf(f, "\n    state       %s", g->reason);
    if (g->since) fprintf(f, ", for %s%s", g->count > 1 ? "up to " : "", waited);
    fprintf(f, "\n");
    if (*g->at_function) {
        fprintf(f, "    at          %s (%s:%d)\n", g->at_function, g->at_file, g->at_line);
        put_source(f, g->at_file, g->at_line);
    }
    if (*g->objects) fprintf(f, "    waits on    %s%s\n", g->count > 1 ? "(the first) " : "", g->objects);
    if (*g->why) fprintf(f, "    reached by  %s%s\n", g->count > 1 ? "(the first) " : "", g->why);
    fprintf(f, "    stack\n");
    put_indented(f, g->stack);
    if (!*g->created_by) return;
    fprintf(f, "    created by %s in goroutine %" PRIu64, g->created_by, g->creator);
    if (*g->creator_stack) {
        fprintf(f, ", which is now at\n");
        put_indented(f, g->creator_stack);
    } else {
        fprintf(f, "%s\n", g->creator ? ", which has ended" : "");
    }
}

static int most_first(const void *a, const void *b) {
    const struct wr_leak_group *x = *(struct wr_leak_group *const *)a, *y = *(struct wr_leak_group *const *)b;
    if (x->count != y->count) return x->count > y->count ? -1 : 1;
    return x->order < y->order ? -1 : x->order > y->order;
}

/* Groups that have leaked, or have not, most first; *n: goroutines, *n_groups: entries. NULL: no memory. */
static struct wr_leak_group **groups_of(const weir_leak_report *r, bool leaked, size_t *n, size_t *n_groups) {
    struct wr_leak_group **list = malloc((r->n_groups + 1) * sizeof(struct wr_leak_group *));
    *n = *n_groups = 0;
    for (size_t i = 0; list && i < r->n_buckets; i++)
        for (struct wr_leak_group *g = r->buckets[i]; g; g = g->next)
            if (g->reason && g->leaked == leaked) list[(*n_groups)++] = g, *n += g->count;
    if (list) qsort(list, *n_groups, sizeof(struct wr_leak_group *), most_first);
    return list;
}

static void put_groups(FILE *f, const weir_leak_report *r, bool leaked, const char *title, const char *is) {
    size_t n, n_groups;
    struct wr_leak_group **list = groups_of(r, leaked, &n, &n_groups);
    if (!list) fprintf(f, "\nweir: out of memory for listing goroutines\n");
    if (title && n) fprintf(f, "\n%s\n", title);
    for (size_t i = 0; i < n_groups; i++) put_group(f, r, list[i], is);
    free(list);
}

static void put_proof(FILE *f, const struct wr_proof *p) {
    char heap[32], unknown[32], shared[32], pause[32], total[32];
    bytes_text(p->heap_bytes, heap, sizeof heap);
    bytes_text(p->unknown_bytes, unknown, sizeof unknown);
    bytes_text(p->shared_bytes, shared, sizeof shared);
    wr_duration_text(p->pause, pause, sizeof pause);
    wr_duration_text(p->total, total, sizeof total);
    fprintf(f,
            "\nThe proof looked at %zu goroutine%s, %zu of which wait for something that others must do.\n"
            "    %s of heap in blocks whose bounds are known%s%s%s\n"
            "    %s of other memory, all of which counts as in use\n"
            "    %s of shared memory, not looked at\n"
            "    The process stood still for %s; the proof took %s%s",
            p->goroutines, s_if(p->goroutines), p->candidates, heap, *p->bounds ? " (" : "", p->bounds,
            *p->bounds ? ")" : "", unknown, shared, pause, total, p->attempts > 1 ? "" : ".\n");
    if (p->attempts > 1) fprintf(f, ", in %u attempts.\n", p->attempts);
}

static void print_proof(FILE *f, const weir_leak_report *r) {
    if (r->error) {
        fprintf(f, "weir: the search for leaked goroutines was inconclusive: %s. There may be some, or none.\n",
                *r->proof.why ? r->proof.why : "no reason given");
        return;
    }
    if (r->n)
        fprintf(f, "weir: %zu goroutine%s leaked: nothing that can still run reaches what %s for.\n", r->n,
                r->n == 1 ? " has" : "s have", r->n == 1 ? "it waits" : "they wait");
    else
        fprintf(f, "weir: no goroutine has leaked.\n");
    put_groups(f, r, true, NULL, "leaked");
    put_groups(f, r, false, "Blocked for long, and not leaked, since they can be reached:", "blocked");
    if (r->growth) fprintf(f, "\n%s", r->growth);
    put_proof(f, &r->proof);
}

void weir_leak_report_print(const weir_leak_report *r, FILE *f) {
    if (!r || !f) return;
    int saved_errno = errno;
    if (r->title) {
        fprintf(f, "weir: %zu goroutine%s started in weir_no_leaks(\"%s\") %s left behind.\n", r->n, s_if(r->n),
                r->title, r->n == 1 ? "is" : "are");
        put_groups(f, r, false, NULL, "left behind");
        put_groups(f, r, true, NULL, "leaked");
    } else {
        print_proof(f, r);
    }
    fflush(f);
    errno = saved_errno;
}
