/*
 * In the child: its memory, the mappings, and which of their pages hold something. All reading of /proc is by plain
 * system calls into memory of our own.
 */
#include "leak/child.h"

#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

struct wr_map *wr_maps;
size_t wr_n_maps;

/* ---- Memory ---------------------------------------------------------------------------------------------- */

/* Reserved before the mappings are read, so that one range holds all of it. The tables want less than the heap has; more
 * than is needed would cost an emulator seconds. */
static size_t reserve_for(void) {
    char text[128] = "";
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    if (fd >= 0 && read(fd, text, sizeof text - 1) > 0) close(fd);
    const char *resident = strchr(text, ' ');
    size_t pages = 0;
    for (const char *c = resident ? resident + 1 : ""; *c >= '0' && *c <= '9'; c++) pages = pages * 10 + (size_t)(*c - '0');
    return ((size_t)8 << 30) + 4 * pages * (size_t)sysconf(_SC_PAGESIZE);
}
static struct {
    char *base, *next, *end;
} reserve;

void wr_child_memory(uintptr_t *lo, uintptr_t *hi) {
    for (size_t size = reserve.base ? 0 : reserve_for() & ~(size_t)0xffff; !reserve.base && size >= (size_t)1 << 28; size /= 2) {
        void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (at != MAP_FAILED) reserve.base = reserve.next = at, reserve.end = reserve.base + size;
    }
    if (!reserve.base) wr_child_give_up("no address space for the proof");
    *lo = (uintptr_t)reserve.base, *hi = (uintptr_t)reserve.end;
}

void *wr_child_alloc(size_t bytes) {
    size_t align = bytes >= 4096 ? 4096 : 64;
    char *at = (char *)(((uintptr_t)reserve.next + align - 1) & ~(uintptr_t)(align - 1));
    if (bytes > (size_t)(reserve.end - at)) wr_child_give_up("out of memory: the proof wants %zu MiB more", bytes >> 20);
    reserve.next = at + bytes;
    return at;
}

/* ---- Mappings -------------------------------------------------------------------------------------------- */

static uintptr_t hex(const char **at) {
    uintptr_t n = 0;
    for (;; ++*at) {
        char c = **at;
        if (c >= '0' && c <= '9') n = n * 16 + (uintptr_t)(c - '0');
        else if (c >= 'a' && c <= 'f') n = n * 16 + (uintptr_t)(c - 'a' + 10);
        else return n;
    }
}

/* "55e0c0000000-55e0c0021000 rw-p 00000000 00:00 0      [heap]" */
static bool parse(const char *line, const char *end, struct wr_map *m) {
    memset(m, 0, sizeof *m);
    m->lo = hex(&line);
    if (*line++ != '-') return false;
    m->hi = hex(&line);
    if (*line++ != ' ' || end - line < 5) return false;
    m->readable = line[0] == 'r', m->writable = line[1] == 'w', m->shared = line[3] == 's';
    for (int field = 0; field < 4; field++) { /* permissions, offset, device, inode */
        while (line < end && *line != ' ') line++;
        while (line < end && *line == ' ') line++;
    }
    m->file = line < end && *line == '/';
    const char *name = line;
    for (const char *c = line; m->file && c < end; c++)
        if (*c == '/') name = c + 1;
    size_t n = (size_t)(end - name) < sizeof m->name - 1 ? (size_t)(end - name) : sizeof m->name - 1;
    memcpy(m->name, name, n);
    return true;
}

void wr_maps_read(void) {
    int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    if (fd < 0) wr_child_give_up("/proc/self/maps: %s", strerror(errno));
    size_t size = 1 << 16, n = 0;
    char *text = wr_child_alloc(size);
    for (ssize_t got; (got = read(fd, text + n, size - n)) != 0;) {
        if (got < 0) wr_child_give_up("/proc/self/maps: %s", strerror(errno));
        n += (size_t)got;
        if (n == size) { /* what is allocated next lies behind it */
            (void)wr_child_alloc(size);
            size *= 2;
        }
    }
    close(fd);
    size_t lines = 0;
    for (size_t i = 0; i < n; i++) lines += text[i] == '\n';
    wr_maps = wr_child_alloc((lines + 1) * sizeof *wr_maps);
    wr_n_maps = 0;
    for (const char *line = text, *end; (end = memchr(line, '\n', (size_t)(text + n - line))); line = end + 1)
        if (parse(line, end, &wr_maps[wr_n_maps])) wr_n_maps++;
}

const struct wr_map *wr_map_of(uintptr_t at) {
    size_t lo = 0, hi = wr_n_maps;
    while (lo < hi) {
        size_t middle = (lo + hi) / 2;
        if (wr_maps[middle].hi <= at) lo = middle + 1;
        else hi = middle;
    }
    return lo < wr_n_maps && wr_maps[lo].lo <= at ? &wr_maps[lo] : NULL;
}

/* ---- Pages ------------------------------------------------------------------------------------------------- */

/* Linux 6.7 tells runs of pages, and skips what has no page tables: sanitizers and others map terabytes. */
struct page_run {
    uint64_t lo, hi, categories;
};
struct scan_request {
    uint64_t size, flags, lo, hi, walked_to, runs, n_runs, max_pages, inverted, all_of, any_of, tell;
};
#define ASK_FOR_RUNS _IOWR('f', 16, struct scan_request)
enum { RUN_FILE = 1 << 2, RUN_PRESENT = 1 << 3, RUN_SWAPPED = 1 << 4, RUN_ZERO = 1 << 5 };

#define PRESENT ((uint64_t)1 << 63)
#define SWAPPED ((uint64_t)1 << 62)
#define OF_FILE ((uint64_t)1 << 61) /* as it is in the file, or shared */
#define GUARD ((uint64_t)1 << 58)

typedef void visitor(uintptr_t lo, uintptr_t hi, void *arg);
static int pagemap = -2, probe[2];

/* Older kernels show guard pages as swapped out ones. */
static bool readable(uintptr_t page) {
    if (!probe[1] && pipe(probe)) return true;
    char byte;
    bool works = write(probe[1], (const void *)page, 1) == 1;
    if (works && read(probe[0], &byte, 1) != 1) return true;
    return works;
}

/* An emulator may show that of another memory than the one that we see. */
static void open_pagemap(void) {
    uint64_t own = 0;
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    if (pagemap < 0) wr_child_give_up("/proc/self/pagemap cannot be opened: %s", strerror(errno));
    if (pread(pagemap, &own, sizeof own, (off_t)((uintptr_t)&own / page * sizeof own)) != sizeof own ||
        !(own & PRESENT))
        wr_child_give_up("/proc/self/pagemap does not tell of this memory");
}

/* What swapped pages there are is looked at one by one: they may be guards. */
static void visit_run(const struct page_run *r, uintptr_t lo, uintptr_t hi, visitor *visit, void *arg) {
    uintptr_t from = r->lo > lo ? r->lo : lo, to = r->hi < hi ? r->hi : hi;
    if (r->categories & RUN_PRESENT) {
        visit(from, to, arg);
        return;
    }
    for (uintptr_t page = r->lo, size = (uintptr_t)sysconf(_SC_PAGESIZE); page < r->hi; page += size)
        if (readable(page)) visit(page > lo ? page : lo, page + size < hi ? page + size : hi, arg);
}

static bool visit_runs(uintptr_t lo, uintptr_t hi, visitor *visit, void *arg) {
    struct page_run runs[64];
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), end = (hi + page - 1) & ~(page - 1);
    struct scan_request ask = { .size = sizeof ask, .lo = lo & ~(page - 1), .hi = end, .runs = (uintptr_t)runs,
                                .n_runs = sizeof runs / sizeof runs[0], .inverted = RUN_FILE | RUN_ZERO,
                                .all_of = RUN_FILE | RUN_ZERO, .any_of = RUN_PRESENT | RUN_SWAPPED,
                                .tell = RUN_PRESENT | RUN_SWAPPED };
    while (ask.lo < end) {
        int n = ioctl(pagemap, ASK_FOR_RUNS, &ask);
        if (n < 0) return false; /* at the first call, or never */
        for (int i = 0; i < n; i++) visit_run(&runs[i], lo, hi, visit, arg);
        if (ask.walked_to <= ask.lo) return false;
        ask.lo = ask.walked_to;
    }
    return true;
}

void wr_pages_each(uintptr_t lo, uintptr_t hi, visitor *visit, void *arg) {
    uint64_t entries[256]; /* not static: what is visited may lead here again */
    static bool old_kernel;
    if (pagemap == -2) open_pagemap();
    if (!old_kernel && visit_runs(lo, hi, visit, arg)) return;
    old_kernel = true;
    if (hi - lo > (uintptr_t)8 << 40) wr_child_give_up("a mapping of %zu TiB is too large to go through on this kernel", (size_t)(hi - lo) >> 40);
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), run = 0;
    for (uintptr_t at = lo & ~(page - 1); at < hi;) {
        size_t want = (hi - at + page - 1) / page;
        if (want > sizeof entries / sizeof entries[0]) want = sizeof entries / sizeof entries[0];
        ssize_t got = pread(pagemap, entries, want * sizeof entries[0], (off_t)(at / page * sizeof entries[0]));
        if (got <= 0) wr_child_give_up("/proc/self/pagemap cannot be read");
        for (size_t i = 0; i < (size_t)got / sizeof entries[0]; i++, at += page) {
            bool there = (entries[i] & (PRESENT | SWAPPED)) && !(entries[i] & (OF_FILE | GUARD));
            if (there && !(entries[i] & PRESENT)) there = readable(at);
            if (there && !run) run = at;
            if (!there && run) {
                visit(run > lo ? run : lo, at, arg);
                run = 0;
            }
        }
    }
    if (run) visit(run > lo ? run : lo, hi, arg);
}
