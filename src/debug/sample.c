/* Stacks and what was counted on them: sums, and differences of two looks. Of one thread. */
#include "debug/debug.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t hash_of(const struct wr_inside_stack *s) {
    uint64_t hash = 0xcbf29ce484222325ULL;
    for (size_t i = 0; i < s->n; i++) hash = (hash ^ s->pcs[i]) * 0x9e3779b97f4a7c15ULL, hash ^= hash >> 32;
    for (const char *c = s->labels; *c; c++) hash = (hash ^ (unsigned char)*c) * 0x100000001b3ULL;
    return hash;
}

static bool grow(struct wr_samples *all) {
    size_t n = all->n_buckets ? 2 * all->n_buckets : 256;
    struct wr_sample **buckets = calloc(n, sizeof(struct wr_sample *));
    if (!buckets) return all->n_buckets > 0;
    for (size_t i = 0; i < all->n_buckets; i++)
        for (struct wr_sample *s = all->buckets[i], *next; s; s = next) {
            next = s->next;
            s->next = buckets[s->hash & (n - 1)];
            buckets[s->hash & (n - 1)] = s;
        }
    free(all->buckets);
    all->buckets = buckets;
    all->n_buckets = n;
    return true;
}

static bool same(const struct wr_sample *s, uint64_t hash, const struct wr_inside_stack *stack) {
    return s->hash == hash && s->n == stack->n && !memcmp(s->pcs, stack->pcs, s->n * sizeof *s->pcs) &&
           !strcmp(s->labels, stack->labels);
}

static struct wr_sample *find_or_make(struct wr_samples *all, const struct wr_inside_stack *stack) {
    uint64_t hash = hash_of(stack);
    if (all->n >= all->n_buckets && !grow(all)) return NULL;
    struct wr_sample **bucket = &all->buckets[hash & (all->n_buckets - 1)];
    for (struct wr_sample *s = *bucket; s; s = s->next)
        if (same(s, hash, stack)) return s;
    size_t pcs = stack->n * sizeof *stack->pcs;
    struct wr_sample *s = calloc(1, sizeof *s + pcs + strlen(stack->labels) + 1);
    if (!s) return NULL;
    s->hash = hash, s->order = all->n++, s->n = stack->n;
    memcpy(s->pcs, stack->pcs, pcs);
    s->labels = strcpy((char *)(s->pcs + s->n), stack->labels);
    s->next = *bucket;
    *bucket = s;
    return s;
}

void wr_samples_add(const struct wr_inside_stack *stack, void *arg) {
    struct wr_samples *all = arg;
    struct wr_sample *s = all->no_memory ? NULL : find_or_make(all, stack);
    if (!s) {
        all->no_memory = true;
        return;
    }
    s->count += all->subtract ? -(int64_t)stack->count : (int64_t)stack->count;
    s->nanoseconds += all->subtract ? -(int64_t)stack->nanoseconds : (int64_t)stack->nanoseconds;
}

static int largest_first(const void *a, const void *b) {
    const struct wr_sample *x = *(struct wr_sample *const *)a, *y = *(struct wr_sample *const *)b;
    if (x->nanoseconds != y->nanoseconds) return x->nanoseconds > y->nanoseconds ? -1 : 1;
    if (x->count != y->count) return x->count > y->count ? -1 : 1;
    return x->order < y->order ? -1 : x->order > y->order;
}

struct wr_sample **wr_samples_sorted(const struct wr_samples *all, size_t *n) {
    struct wr_sample **sorted = all->no_memory ? NULL : malloc((all->n + 1) * sizeof(struct wr_sample *));
    *n = 0;
    if (!sorted) return NULL;
    for (size_t i = 0; i < all->n_buckets; i++)
        for (struct wr_sample *s = all->buckets[i]; s; s = s->next)
            if (s->count || s->nanoseconds) sorted[(*n)++] = s;
    qsort(sorted, *n, sizeof(struct wr_sample *), largest_first);
    return sorted;
}

void wr_samples_free(struct wr_samples *all) {
    for (size_t i = 0; i < all->n_buckets; i++)
        for (struct wr_sample *s = all->buckets[i], *next; s; s = next) {
            next = s->next;
            free(s);
        }
    free(all->buckets);
    *all = (struct wr_samples){ 0 };
}

/* ---- Labels ------------------------------------------------------------------------------------------------- */

/* A quoted text as the trace room writes it; NULL: there is none. */
static const char *unquote(const char *at, char *out, size_t size) {
    size_t n = 0;
    if (*at++ != '"') return NULL;
    for (; *at && *at != '"'; at++) {
        char c = *at;
        unsigned code;
        if (c == '\\' && at[1] == 'u' && sscanf(at + 2, "%4x", &code) == 1 && strlen(at) > 5) c = (char)code, at += 5;
        else if (c == '\\' && at[1]) c = *++at;
        if (n + 1 < size) out[n++] = c;
    }
    out[n] = 0;
    return *at == '"' ? at + 1 : NULL;
}

void wr_label_text_each(const char *labels, void (*visit)(const char *key, const char *value, void *arg), void *arg) {
    char key[512], value[512];
    for (const char *at = labels; *at == '{' || *at == ',';) {
        at++;
        while (*at == ' ') at++;
        at = unquote(at, key, sizeof key);
        if (!at || *at != ':' || !(at = unquote(at + 1, value, sizeof value))) return;
        visit(key, value, arg);
    }
}
