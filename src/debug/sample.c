/*
 * Stacks and what was counted on them: sums, and differences of two looks. Of one thread. What is added lies in the order in which it came;
 * what is of one stack is found by sorting, once all is there.
 */
#include "debug/debug.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct wr_sample *copy_of(const struct wr_inside_stack *stack) {
    size_t pcs = stack->n * sizeof *stack->pcs;
    struct wr_sample *s = calloc(1, sizeof *s + pcs + strlen(stack->labels) + 1);
    if (!s) return NULL;
    s->n = stack->n;
    memcpy(s->pcs, stack->pcs, pcs);
    s->labels = strcpy((char *)(s->pcs + s->n), stack->labels);
    return s;
}

static bool has_room(struct wr_samples *all) {
    if (all->n < all->room) return true;
    size_t room = all->room ? 2 * all->room : 256;
    struct wr_sample **larger = realloc(all->samples, room * sizeof(struct wr_sample *));
    if (!larger) return false;
    all->samples = larger, all->room = room;
    return true;
}

void wr_samples_add(const struct wr_inside_stack *stack, void *arg) {
    struct wr_samples *all = arg;
    struct wr_sample *s = !all->no_memory && has_room(all) ? copy_of(stack) : NULL;
    if (!s) {
        all->no_memory = true;
        return;
    }
    s->order = all->n;
    s->count = all->subtract ? -(int64_t)stack->count : (int64_t)stack->count;
    s->nanoseconds = all->subtract ? -(int64_t)stack->nanoseconds : (int64_t)stack->nanoseconds;
    all->samples[all->n++] = s;
}

static int compare_stacks(const struct wr_sample *x, const struct wr_sample *y) {
    if (x->n != y->n) return x->n < y->n ? -1 : 1;
    int order = memcmp(x->pcs, y->pcs, x->n * sizeof *x->pcs);
    return order ? order : strcmp(x->labels, y->labels);
}
static int by_stack(const void *a, const void *b) {
    const struct wr_sample *x = *(struct wr_sample *const *)a, *y = *(struct wr_sample *const *)b;
    int order = compare_stacks(x, y);
    return order ? order : x->order < y->order ? -1 : x->order > y->order;
}
static int largest_first(const void *a, const void *b) {
    const struct wr_sample *x = *(struct wr_sample *const *)a, *y = *(struct wr_sample *const *)b;
    if (x->nanoseconds != y->nanoseconds) return x->nanoseconds > y->nanoseconds ? -1 : 1;
    if (x->count != y->count) return x->count > y->count ? -1 : 1;
    return x->order < y->order ? -1 : x->order > y->order;
}

/* The first of each stack takes over what the others have. */
static void sum_up(struct wr_samples *all) {
    size_t n = 0;
    if (all->n) qsort(all->samples, all->n, sizeof(struct wr_sample *), by_stack);
    for (size_t i = 0; i < all->n; i++) {
        struct wr_sample *s = all->samples[i], *first = n ? all->samples[n - 1] : NULL;
        if (!first || compare_stacks(first, s)) {
            all->samples[n++] = s;
            continue;
        }
        first->count += s->count, first->nanoseconds += s->nanoseconds;
        free(s);
    }
    all->n = n;
}

struct wr_sample **wr_samples_sorted(struct wr_samples *all, size_t *n) {
    struct wr_sample **sorted = all->no_memory ? NULL : malloc((all->n + 1) * sizeof(struct wr_sample *));
    *n = 0;
    if (!sorted) return NULL;
    sum_up(all);
    for (size_t i = 0; i < all->n; i++)
        if (all->samples[i]->count || all->samples[i]->nanoseconds) sorted[(*n)++] = all->samples[i];
    qsort(sorted, *n, sizeof(struct wr_sample *), largest_first);
    return sorted;
}

void wr_samples_free(struct wr_samples *all) {
    for (size_t i = 0; i < all->n; i++) free(all->samples[i]);
    free(all->samples);
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
