/*
 * jemalloc's other names for malloc and its family, as a program may use both. What they give is in the map like all else. Where
 * what they promise allows it they are made of ours, rather than to have one more way to resize a block in place.
 *
 * Without a jemalloc behind they are there nevertheless: programs ask for one by whether the names resolve. They allocate, then,
 * and mallctl knows nothing.
 */
#include "heapmap/inner.h"

#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

enum { LOG_OF_ALIGN = 63, ZERO = 64 }; /* in flags */

/* By which name it is found behind us; NULL: it is not. Asked for once. */
#define BEHIND(type, name)                                                                          \
    static type *behind_##name(void) {                                                              \
        static _Atomic(type *) found;                                                               \
        static _Atomic bool asked;                                                                  \
        if (unlikely(!asked)) {                                                                     \
            found = (type *)wr_heapmap_next(#name);                                                 \
            asked = true;                                                                           \
        }                                                                                           \
        return found;                                                                               \
    }
typedef void *giver(size_t n, int flags);
typedef void taker(void *p, int flags);
typedef int teller(const char *name, void *old, size_t *old_size, void *new, size_t new_size);
typedef int namer(const char *name, size_t *mib, size_t *n);
BEHIND(giver, mallocx)
BEHIND(taker, dallocx)
BEHIND(teller, mallctl)
BEHIND(namer, mallctlnametomib)

/* ---- Blocks -------------------------------------------------------------------------------------------------- */

void *mallocx(size_t n, int flags);
void *rallocx(void *p, size_t n, int flags);
size_t xallocx(void *p, size_t n, size_t extra, int flags);
size_t sallocx(const void *p, int flags);
size_t nallocx(size_t n, int flags);
void dallocx(void *p, int flags);
void sdallocx(void *p, size_t n, int flags);

PUBLIC void *mallocx(size_t n, int flags) {
    giver *give = behind_mallocx();
    size_t asked = with_spare(n);
    if (give) {
        void *p = give(asked, flags);
        wr_heapmap_enter(p, asked);
        return p;
    }
    void *p = flags & LOG_OF_ALIGN ? memalign((size_t)1 << (flags & LOG_OF_ALIGN), n) : malloc(n);
    if (p && flags & ZERO) memset(p, 0, n);
    return p;
}

PUBLIC void dallocx(void *p, int flags) {
    taker *take = behind_dallocx();
    if (!take) {
        free(p);
        return;
    }
    if (!wr_heapmap_take_out(p)) return;
    take(p, flags);
}
/* The allocator must not be told a size: it gave more. */
PUBLIC void sdallocx(void *p, size_t n, int flags) {
    (void)n;
    dallocx(p, flags);
}

PUBLIC size_t sallocx(const void *p, int flags) {
    (void)flags;
    return malloc_usable_size((void *)(uintptr_t)p);
}
/* A program may use as much as it is told of here, so this is no more than what will have been entered. */
PUBLIC size_t nallocx(size_t n, int flags) {
    (void)flags;
    return n > PTRDIFF_MAX ? 0 : n;
}

/* In between both are in the map, and full of data; as with realloc. */
PUBLIC void *rallocx(void *p, size_t n, int flags) {
    size_t old = malloc_usable_size(p), align = (size_t)1 << (flags & LOG_OF_ALIGN);
    if (n <= old && n >= old / 2 && (uintptr_t)p % align == 0) return p;
    void *q = mallocx(n, flags);
    if (!q) return NULL;
    memcpy(q, p, old < n ? old : n);
    dallocx(p, flags);
    return q;
}
/* It may leave a block as it is. */
PUBLIC size_t xallocx(void *p, size_t n, size_t extra, int flags) {
    (void)n, (void)extra, (void)flags;
    return malloc_usable_size(p);
}

/* ---- mallctl -------------------------------------------------------------------------------------------------- */

/*
 * By it a program can have the allocator's own ways of getting memory (an arena's extent_hooks), blocks in a batch, or an arena
 * emptied without a free. So what is not known to do none of these ends the map. A mib has been asked for by name before, so
 * mallctlbymib needs no looking after.
 */
static bool begins(const char *name, const char *with) { return !strncmp(name, with, strlen(with)); }
static bool ends(const char *name, const char *with) {
    size_t n = strlen(name), m = strlen(with);
    return n >= m && !strcmp(name + n - m, with);
}
static bool is_harmless(const char *name) {
    static const char *const whole[] = { "version", "epoch", "background_thread", "max_background_threads", "arenas.narenas",
                                         "arenas.lookup", "arenas.dirty_decay_ms", "arenas.muzzy_decay_ms" };
    static const char *const branches[] = { "stats.", "opt.", "config.", "thread.", "tcache.", "prof." };
    static const char *const of_an_arena[] = { ".purge", ".decay", ".dirty_decay_ms", ".muzzy_decay_ms", ".initialized" };
    for (size_t i = 0; i < sizeof whole / sizeof *whole; i++)
        if (!strcmp(name, whole[i])) return true;
    for (size_t i = 0; i < sizeof branches / sizeof *branches; i++)
        if (begins(name, branches[i])) return true;
    for (size_t i = 0; i < sizeof of_an_arena / sizeof *of_an_arena; i++)
        if (begins(name, "arena.") && ends(name, of_an_arena[i])) return true;
    return false;
}

int mallctl(const char *name, void *old, size_t *old_size, void *new, size_t new_size);
int mallctlnametomib(const char *name, size_t *mib, size_t *n);
PUBLIC int mallctl(const char *name, void *old, size_t *old_size, void *new, size_t new_size) {
    teller *tell = behind_mallctl();
    if (!tell) return ENOENT;
    if (!is_harmless(name) && (new || strcmp(name, "arenas.create"))) wr_heapmap_lose();
    return tell(name, old, old_size, new, new_size);
}
PUBLIC int mallctlnametomib(const char *name, size_t *mib, size_t *n) {
    namer *tell = behind_mallctlnametomib();
    if (!tell) return ENOENT;
    if (!is_harmless(name)) wr_heapmap_lose();
    return tell(name, mib, n);
}
