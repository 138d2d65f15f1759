/*
 * Goroutines counted by stack and labels: level 1 of a dump, and the profiles that the debug room makes of them.
 */
#include "trace/trace.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static uint64_t hash_of(const struct wr_snapshot *s, size_t from, size_t to) {
    uint64_t hash = 0xcbf29ce484222325ULL;
    for (size_t i = from; i < to; i++) hash = (hash ^ s->pcs[i]) * 0x9e3779b97f4a7c15ULL, hash ^= hash >> 32;
    for (const char *c = s->labels; *c; c++) hash = (hash ^ (unsigned char)*c) * 0x100000001b3ULL;
    return hash;
}

static bool grow(struct wr_groups *gs) {
    size_t n = gs->n_buckets ? 2 * gs->n_buckets : 256;
    struct wr_group **buckets = calloc(n, sizeof(struct wr_group *));
    if (!buckets) return gs->n_buckets > 0;
    for (size_t i = 0; i < gs->n_buckets; i++)
        for (struct wr_group *g = gs->buckets[i], *next; g; g = next) {
            next = g->next;
            g->next = buckets[g->hash & (n - 1)];
            buckets[g->hash & (n - 1)] = g;
        }
    free(gs->buckets);
    gs->buckets = buckets;
    gs->n_buckets = n;
    return true;
}

void wr_groups_count(struct wr_groups *gs, const struct wr_snapshot *s) {
    size_t from, to;
    wr_snapshot_shown(s, &from, &to);
    size_t n = to - from;
    uint64_t hash = hash_of(s, from, to);
    gs->total++;
    if (gs->n >= gs->n_buckets && !grow(gs)) {
        gs->no_memory = true;
        return;
    }
    struct wr_group **bucket = &gs->buckets[hash & (gs->n_buckets - 1)];
    for (struct wr_group *g = *bucket; g; g = g->next)
        if (g->hash == hash && g->n_pcs == n && !memcmp(g->pcs, s->pcs + from, n * sizeof *s->pcs) &&
            !strcmp(g->labels, s->labels)) {
            g->count++;
            if (strcmp(g->name, s->name)) *g->name = 0;
            return;
        }
    struct wr_group *g = malloc(sizeof *g + n * sizeof *s->pcs + strlen(s->labels) + 1);
    if (!g) {
        gs->no_memory = true;
        return;
    }
    g->hash = hash, g->count = 1, g->order = gs->n++, g->n_pcs = n;
    memcpy(g->name, s->name, sizeof g->name);
    memcpy(g->pcs, s->pcs + from, n * sizeof *s->pcs);
    g->labels = strcpy((char *)(g->pcs + n), s->labels);
    g->next = *bucket;
    *bucket = g;
}

static int most_first(const void *a, const void *b) {
    const struct wr_group *x = *(struct wr_group *const *)a, *y = *(struct wr_group *const *)b;
    if (x->count != y->count) return x->count > y->count ? -1 : 1;
    return x->order < y->order ? -1 : x->order > y->order;
}

/* The name goes in as the label "name", unless there is one. */
const char *wr_group_labels(const struct wr_group *g, char text[WR_GROUP_LABELS]) {
    char *at = text + snprintf(text, 16, "{\"name\":\"");
    if (!*g->name || strstr(g->labels, "\"name\":")) return g->labels;
    for (const char *c = g->name; *c; c++) {
        if ((unsigned char)*c < ' ') at += snprintf(at, 8, "\\u%04x", (unsigned char)*c);
        else if (*c == '"' || *c == '\\') *at++ = '\\', *at++ = *c;
        else *at++ = *c;
    }
    snprintf(at, (size_t)(text + WR_GROUP_LABELS - at), *g->labels ? "\", %s" : "\"}", g->labels + 1);
    return text;
}

size_t wr_group_frames(uintptr_t pc, bool innermost, struct wr_frame *frames, size_t max) {
    size_t n = wr_symbol(pc, frames, max), first = 0;
    while (innermost && first + 1 < n && wr_symbol_frame_class(&frames[first]) == WR_SYMBOL_OWN) first++;
    memmove(frames, frames + first, (n - first) * sizeof *frames);
    return n - first;
}

static void group_put(const struct wr_group *g, void *arg) {
    struct wr_text *t = arg;
    char text[WR_GROUP_LABELS];
    const char *labels = wr_group_labels(g, text);
    if (t->error) return;
    wr_text_put(t, "%zu @", g->count);
    for (size_t i = 0; i < g->n_pcs; i++) wr_text_put(t, " 0x%" PRIxPTR, g->pcs[i]);
    wr_text_put(t, "\n");
    if (*labels) wr_text_put(t, "# labels: %s\n", labels);
    for (size_t i = 0; i < g->n_pcs; i++) {
        struct wr_frame frames[WR_INLINED];
        size_t n = wr_group_frames(g->pcs[i], i == 0, frames, WR_INLINED);
        for (size_t k = 0; k < n; k++)
            wr_text_put(t, "#\t0x%" PRIxPTR "\t%s+0x%" PRIxPTR "\t%s:%d\n", g->pcs[i] - 1, frames[k].function,
                        frames[k].offset, frames[k].file, frames[k].line);
    }
    wr_text_put(t, "\n");
}

int wr_groups_each(struct wr_groups *gs, void (*visit)(const struct wr_group *g, void *arg), void *arg) {
    struct wr_group **sorted = gs->no_memory ? NULL : malloc((gs->n + 1) * sizeof(struct wr_group *));
    size_t n = 0;
    if (!sorted) return -ENOMEM;
    for (size_t i = 0; i < gs->n_buckets; i++)
        for (struct wr_group *g = gs->buckets[i]; g; g = g->next) sorted[n++] = g;
    qsort(sorted, n, sizeof(struct wr_group *), most_first);
    for (size_t i = 0; i < n; i++) visit(sorted[i], arg);
    free(sorted);
    return 0;
}

void wr_groups_put(struct wr_text *t, struct wr_groups *gs) {
    if (!gs->no_memory) wr_text_put(t, "goroutine profile: total %zu\n", gs->total);
    int e = wr_groups_each(gs, group_put, t);
    if (e && !t->error) t->error = e;
}

void wr_groups_free(struct wr_groups *gs) {
    for (size_t i = 0; i < gs->n_buckets; i++)
        for (struct wr_group *g = gs->buckets[i], *next; g; g = next) {
            next = g->next;
            free(g);
        }
    free(gs->buckets);
}
