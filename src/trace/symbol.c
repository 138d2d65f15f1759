/*
 * What is at a pc: a cache in front of libdw (dwarf.c) or, without that, of dladdr. Each distinct pc is looked
 * up once.
 *
 * One pthread mutex guards all of it, libdw included: nothing parks under it, and foreign threads, workers and
 * sysmon may all ask. Strings are interned and never freed, so that reports may keep pointers to them; there
 * are no more than the program has functions and files. Entries go when objects are loaded or unloaded, or when
 * there are too many.
 */
#include "trace/trace.h"

#include <dlfcn.h>
#include <link.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#ifdef WEIR_HAVE_VALGRIND
#include <valgrind/valgrind.h>
#endif

enum { BUCKETS = 1024, MAX_PLACES = 16384 };

struct place {
    struct place *next;
    uintptr_t pc;
    uint8_t n;
    uint8_t class; /* enum wr_symbol_class */
    struct wr_frame frames[];
};

struct string {
    struct string *next;
    uint32_t hash;
    char text[];
};

WR_PRIVATE static struct {
    pthread_mutex_t lock;
    struct place *places[BUCKETS];
    size_t n_places;
    unsigned long long loaded;     /* objects loaded and unloaded so far, as the loader counts them */
    char root[512];                /* the folder of weir's sources, as debug information names it; "": not known */
    struct string *strings[BUCKETS];
} table = { .lock = PTHREAD_MUTEX_INITIALIZER };

const char *wr_symbol_intern(const char *text) {
    uint32_t hash = 2166136261u;
    for (const char *c = text; *c; c++) hash = (hash ^ (unsigned char)*c) * 16777619u;
    struct string **bucket = &table.strings[hash % BUCKETS];
    for (struct string *s = *bucket; s; s = s->next)
        if (s->hash == hash && !strcmp(s->text, text)) return s->text;
    size_t size = strlen(text) + 1;
    struct string *s = malloc(sizeof *s + size);
    if (!s) return "?";
    s->hash = hash;
    memcpy(s->text, text, size);
    s->next = *bucket;
    *bucket = s;
    return s->text;
}

static void forget_places(void) {
    for (size_t i = 0; i < BUCKETS; i++)
        for (struct place *p = table.places[i], *next; p; p = next) {
            next = p->next;
            free(p);
        }
    memset(table.places, 0, sizeof table.places);
    table.n_places = 0;
}

/* ---- One lookup ---------------------------------------------------------------------------------- */

static const char *base_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* The dynamic symbols are all that there is. */
static void lookup_dynamic(uintptr_t address, struct wr_frame *frame) {
    Dl_info info;
    *frame = (struct wr_frame){ .function = "unknown", .file = "?\?", .offset = address };
    if (!dladdr((void *)address, &info)) return;
    if (info.dli_sname && info.dli_saddr) {
        frame->function = wr_symbol_intern(info.dli_sname);
        frame->offset = address - (uintptr_t)info.dli_saddr;
        frame->named = true;
    } else if (info.dli_fname && *info.dli_fname) {
        frame->function = wr_symbol_intern(base_name(info.dli_fname));
        frame->offset = address - (uintptr_t)info.dli_fbase;
    }
}

/* glibc ≥ 2.35 finds the object without a lock. */
void wr_symbol_plain(uintptr_t pc, struct wr_frame *frame) {
    *frame = (struct wr_frame){ .function = "unknown", .file = "?\?", .offset = pc - 1 };
#ifdef DLFO_STRUCT_HAS_EH_DBASE /* <dlfcn.h> has _dl_find_object */
    struct dl_find_object object;
    if (_dl_find_object((void *)(pc - 1), &object)) return;
    const char *path = object.dlfo_link_map->l_name;
    frame->function = *path ? base_name(path) : program_invocation_short_name;
    frame->offset = pc - 1 - object.dlfo_link_map->l_addr;
#endif
}

static size_t lookup(uintptr_t pc, struct wr_frame *frames, size_t max) {
    uintptr_t address = pc - 1;
    size_t n = 0;
#ifdef WEIR_HAVE_LIBDW
    n = wr_dwarf_lookup(address, frames, max);
#else
    (void)max;
#endif
    if (n == 0) lookup_dynamic(address, &frames[n++]);
    return n;
}

/* By the file that debug information names; where there is none, by the prefix. weir_main is the user's. */
static uint8_t class_of(const struct wr_frame *frame) {
    if (!frame->named) return strncmp(frame->function, "libweir.so", 10) ? 0 : WR_SYMBOL_OWN;
    bool public = !strncmp(frame->function, "weir_", 5) && strcmp(frame->function, "weir_main");
    size_t root = strlen(table.root);
    bool own = root && strcmp(frame->file, "?\?") ? !strncmp(frame->file, table.root, root)
                                                  : public || !strncmp(frame->function, "wr_", 3);
    return own ? (public ? WR_SYMBOL_OWN | WR_SYMBOL_CALL : WR_SYMBOL_OWN) : 0;
}

/* The folder above that of this file, by which functions without a prefix are known to be weir's. */
static void find_root(void) {
    struct wr_frame frames[WR_INLINED];
    size_t n = lookup((uintptr_t)find_root + 1, frames, WR_INLINED);
    const char *file = frames[n - 1].file, *end = file + strlen(file);
    for (int i = 0; i < 2 && end > file; i++)
        do end--;
        while (end > file && *end != '/');
    if (end > file && (size_t)(end - file) + 2 < sizeof table.root)
        snprintf(table.root, sizeof table.root, "%.*s/", (int)(end - file), file);
}

/* ---- The cache -------------------------------------------------------------------------------------- */

static struct place *make_place(uintptr_t pc) {
    struct wr_frame frames[WR_INLINED];
    size_t n = lookup(pc, frames, WR_INLINED);
    struct place *place = malloc(sizeof *place + n * sizeof *frames);
    if (!place) return NULL;
    place->pc = pc;
    place->n = (uint8_t)n;
    place->class = WR_SYMBOL_OWN;
    memcpy(place->frames, frames, n * sizeof *frames);
    for (size_t i = 0; i < n; i++) {
        uint8_t class = class_of(&frames[i]);
        if (!(class & WR_SYMBOL_OWN)) place->class &= (uint8_t)~WR_SYMBOL_OWN;
        place->class |= class & WR_SYMBOL_CALL;
    }
    if (!strcmp(frames[n - 1].file, "?\?")) place->class |= WR_SYMBOL_BARE;
    return place;
}

/* NULL: out of memory. */
static struct place *find_place(uintptr_t pc) {
    struct place **bucket = &table.places[(pc * 0x9e3779b97f4a7c15ULL) >> 54];
    for (struct place *p = *bucket; p; p = p->next)
        if (p->pc == pc) return p;
    if (table.n_places >= MAX_PLACES) forget_places();
    struct place *place = make_place(pc);
    if (!place) return NULL;
    place->next = *bucket;
    *bucket = place;
    table.n_places++;
    return place;
}

size_t wr_symbol(uintptr_t pc, struct wr_frame *frames, size_t max) {
    pthread_mutex_lock(&table.lock);
    struct place *place = find_place(pc);
    size_t n = 0;
    if (!place)
        frames[n++] = (struct wr_frame){ .function = "unknown", .file = "?\?", .offset = pc - 1 };
    else
        for (; n < place->n && n < max; n++) frames[n] = place->frames[n];
    pthread_mutex_unlock(&table.lock);
    return n;
}

unsigned wr_symbol_class(uintptr_t pc) {
    pthread_mutex_lock(&table.lock);
    struct place *place = find_place(pc);
    unsigned class = place ? place->class : 0;
    pthread_mutex_unlock(&table.lock);
    return class;
}

unsigned wr_symbol_frame_class(const struct wr_frame *frame) {
    pthread_mutex_lock(&table.lock);
    unsigned class = class_of(frame);
    pthread_mutex_unlock(&table.lock);
    return class;
}

static int count_loaded(struct dl_phdr_info *info, size_t size, void *arg) {
    (void)size;
    *(unsigned long long *)arg = info->dlpi_adds + info->dlpi_subs + 1;
    return 1;
}

void wr_symbol_refresh(void) {
    unsigned long long loaded = 0;
    dl_iterate_phdr(count_loaded, &loaded);
    pthread_mutex_lock(&table.lock);
    if (loaded != table.loaded) {
        table.loaded = loaded;
        forget_places();
#ifdef WEIR_HAVE_LIBDW
        wr_dwarf_close();
#endif
        if (!*table.root) find_root();
    }
    pthread_mutex_unlock(&table.lock);
}

/* The thread that had the mutex, if one had, left everything half done and is not in this process. */
void wr_symbol_after_fork(void) {
    if (pthread_mutex_trylock(&table.lock) == 0) {
        pthread_mutex_unlock(&table.lock);
        return;
    }
    pthread_mutex_init(&table.lock, NULL);
    memset(table.places, 0, sizeof table.places);
    memset(table.strings, 0, sizeof table.strings);
    table.n_places = 0;
    table.loaded = 0;
#ifdef WEIR_HAVE_LIBDW
    wr_dwarf_forget();
#endif
}

bool wr_symbol_has_lines(void) {
#ifdef WEIR_HAVE_LIBDW
    return true;
#else
    return false;
#endif
}

/* ---- A stack large enough for libdw ------------------------------------------------------------------ */

enum { LARGE_STACK = 1 << 20, GUARD = 1 << 16 };

int wr_on_large_stack(void (*fn)(void *), void *arg) {
    char *stack = mmap(NULL, GUARD + LARGE_STACK, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (stack == MAP_FAILED) return -ENOMEM;
    mprotect(stack, GUARD, PROT_NONE);
#ifdef WEIR_HAVE_VALGRIND
    unsigned id = VALGRIND_STACK_REGISTER(stack, stack + GUARD + LARGE_STACK);
#endif
    wr_call_on(stack + GUARD + LARGE_STACK, fn, arg);
#ifdef WEIR_HAVE_VALGRIND
    VALGRIND_STACK_DEREGISTER(id);
#endif
    munmap(stack, GUARD + LARGE_STACK);
    return 0;
}
