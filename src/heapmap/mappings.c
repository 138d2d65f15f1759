/*
 * The mappings that the allocator has made for itself. What lies in them and in no block is its own: no program can get there, so
 * for a proof it is no root. That matters for jemalloc, which keeps the addresses of slabs and of blocks that it has given out;
 * mimalloc keeps few, and has more names than can be looked after. So this is for jemalloc, and for one of which each function
 * that it exports is known: it comes by us, or gives no memory.
 *
 * A mapping counts as the allocator's if it was asked for from its code, which must be that of a library of its own. Such memory
 * gets to the program as a block, which the map knows from before the program does until after it has given it back; a block
 * that is nowhere in the map, since it is being resized, makes the map say so.
 *
 * At each moment what is written here is part of what the allocator has, as a fork may come at any: it is entered after it has
 * been mapped, and taken out before it is unmapped, or is mapped anew, by whomever. Memory that the allocator gets in other ways,
 * by brk, or by a system call of its own, stays a root; so does what there is no room to write down. An entry is one word, which
 * is true or not by itself, so no lock is needed. Of a mapping with a hole the larger end is kept: to enter the other one later
 * might be too late, as somebody may have unmapped it meanwhile.
 */
#undef _FILE_OFFSET_BITS /* or mmap would be another name for mmap64 */
#include "heapmap/inner.h"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#undef mmap64

extern struct weir_heapmap weir_heapmap_;
_Atomic uint64_t wr_heapmap_mappings[HEAPMAP_MAPPINGS];

static struct {
    _Atomic uintptr_t lo, size; /* 0: what it maps is not written down */
} code;

/* ---- The table ------------------------------------------------------------------------------------------------ */

static uint64_t entry(uintptr_t lo, uintptr_t hi) {
    uint64_t units = (hi - lo) / HEAPMAP_UNIT;
    if (units > HEAPMAP_MOST_UNITS) units = HEAPMAP_MOST_UNITS;
    return units ? (uint64_t)(lo / HEAPMAP_UNIT) << HEAPMAP_COUNT_BITS | units : 0;
}

static void add(uintptr_t lo, size_t n) {
    if (lo % HEAPMAP_UNIT || n > (uintptr_t)1 << 47 || (lo + n) >> 48) return;
    uint64_t it = entry(lo, lo + n);
    if (!it) return;
    for (uint32_t i = 0; i < HEAPMAP_MAPPINGS; i++) {
        uint64_t none = 0;
        if (atomic_load_explicit(&wr_heapmap_mappings[i], memory_order_relaxed)) continue;
        /* The entry counts only once n_mappings says so, and it must count before anybody can take it out. */
        if (!atomic_compare_exchange_strong(&wr_heapmap_mappings[i], &none, it)) continue;
        uint32_t n_mappings = atomic_load(&weir_heapmap_.n_mappings);
        while (n_mappings <= i && !atomic_compare_exchange_weak(&weir_heapmap_.n_mappings, &n_mappings, i + 1)) {
        }
        return;
    }
}

static void take_out(uintptr_t lo, size_t n) {
    uint32_t n_mappings = atomic_load_explicit(&weir_heapmap_.n_mappings, memory_order_acquire);
    if (!n_mappings) return;
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), hi = n < UINTPTR_MAX - page - lo ? lo + n : UINTPTR_MAX - page;
    lo &= ~(page - 1), hi = (hi + page - 1) & ~(page - 1);
    for (uint32_t i = 0; i < n_mappings; i++) {
        uint64_t old = atomic_load_explicit(&wr_heapmap_mappings[i], memory_order_relaxed), to;
        do {
            uintptr_t its_lo = heapmap_mapping_lo(old), its_hi = heapmap_mapping_hi(old);
            if (hi <= its_lo || lo >= its_hi) break;
            uintptr_t below = lo > its_lo ? lo - its_lo : 0, above = hi < its_hi ? its_hi - hi : 0;
            to = below >= above ? entry(its_lo, its_lo + below) : entry(hi, its_hi);
        } while (!atomic_compare_exchange_weak(&wr_heapmap_mappings[i], &old, to));
    }
}

/* ---- mmap and its family ---------------------------------------------------------------------------------------- */

typedef void *mapper(void *at, size_t n, int prot, int flags, int fd, off_t offset);
typedef int unmapper(void *at, size_t n);
typedef void *remapper(void *at, size_t n, size_t size, int flags, ...);
/* NULL: not looked up yet. */
static struct {
    _Atomic(mapper *) mmap;
    _Atomic(unmapper *) munmap;
    _Atomic(remapper *) mremap;
} real;

static bool is_allocators(const void *return_address) {
    uintptr_t size = atomic_load_explicit(&code.size, memory_order_acquire);
    return (uintptr_t)return_address - atomic_load_explicit(&code.lo, memory_order_relaxed) < size;
}

/* The allocator may map before anybody calls malloc. */
static void *map(void *at, size_t n, int prot, int flags, int fd, off_t offset, const void *return_address) {
    wr_heapmap_look_up();
    if (flags & MAP_FIXED) take_out((uintptr_t)at, n);
    mapper *do_it = real.mmap;
    void *p = do_it ? do_it(at, n, prot, flags, fd, offset) : (void *)syscall(SYS_mmap, at, n, prot, flags, fd, offset);
    if (p == MAP_FAILED) return p;
    take_out((uintptr_t)p, n); /* nothing, unless it was unmapped without our knowing */
    bool is_memory = (flags & MAP_ANONYMOUS) && (flags & MAP_TYPE) == MAP_PRIVATE;
    if (is_memory && is_allocators(return_address)) add((uintptr_t)p, n);
    return p;
}

void *mmap64(void *at, size_t n, int prot, int flags, int fd, off_t offset);
PUBLIC void *mmap(void *at, size_t n, int prot, int flags, int fd, off_t offset) {
    return map(at, n, prot, flags, fd, offset, __builtin_return_address(0));
}
PUBLIC void *mmap64(void *at, size_t n, int prot, int flags, int fd, off_t offset) {
    return map(at, n, prot, flags, fd, offset, __builtin_return_address(0));
}

PUBLIC int munmap(void *at, size_t n) {
    take_out((uintptr_t)at, n);
    unmapper *do_it = real.munmap;
    return do_it ? do_it(at, n) : (int)syscall(SYS_munmap, at, n);
}

/* What has been moved, or has grown, is not entered again: jemalloc does without. */
PUBLIC void *mremap(void *at, size_t n, size_t size, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    void *to = flags & ~MREMAP_MAYMOVE ? va_arg(rest, void *) : NULL;
    va_end(rest);
    take_out((uintptr_t)at, n);
    if (flags & MREMAP_FIXED) take_out((uintptr_t)to, size);
    remapper *do_it = real.mremap;
    void *p = do_it ? do_it(at, n, size, flags, to) : (void *)syscall(SYS_mremap, at, n, size, flags, to);
    if (p != MAP_FAILED) take_out((uintptr_t)p, size);
    return p;
}

/* ---- Whose mappings count ---------------------------------------------------------------------------------------- */

struct module {
    uintptr_t of, base;         /* an address in it; where it was loaded */
    uintptr_t code_lo, code_hi; /* from the first to the last segment with code */
    const ElfW(Dyn) *dynamic;
};

static int is_module(struct dl_phdr_info *info, size_t size, void *arg) {
    struct module *m = arg;
    bool found = false;
    (void)size;
    m->base = info->dlpi_addr, m->code_lo = UINTPTR_MAX, m->code_hi = 0, m->dynamic = NULL;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];
        uintptr_t lo = info->dlpi_addr + p->p_vaddr, hi = lo + p->p_memsz;
        if (p->p_type == PT_DYNAMIC) m->dynamic = (const void *)lo;
        if (p->p_type != PT_LOAD || !(p->p_flags & PF_X)) continue;
        found |= m->of >= lo && m->of < hi;
        if (lo < m->code_lo) m->code_lo = lo;
        if (hi > m->code_hi) m->code_hi = hi;
    }
    return found;
}

/* Some C libraries leave these addresses as they are in the file. */
static const void *table_of(const struct module *m, ElfW(Sxword) tag) {
    for (const ElfW(Dyn) *d = m->dynamic; d->d_tag != DT_NULL; d++)
        if (d->d_tag == tag) return (const void *)(d->d_un.d_ptr < m->base ? d->d_un.d_ptr + m->base : d->d_un.d_ptr);
    return NULL;
}

/* 0: that cannot be told. */
static size_t count_symbols(const struct module *m) {
    const uint32_t *plain = table_of(m, DT_HASH), *gnu = table_of(m, DT_GNU_HASH);
    if (plain) return plain[1];
    if (!gnu) return 0;
    uint32_t n_buckets = gnu[0], first = gnu[1], last = 0;
    const uint32_t *buckets = gnu + 4 + gnu[2] * (sizeof(ElfW(Addr)) / 4), *chains = buckets + n_buckets;
    for (uint32_t i = 0; i < n_buckets; i++)
        if (buckets[i] > last) last = buckets[i];
    if (last < first) return first;
    while (!(chains[last - first] & 1)) last++;
    return (size_t)last + 1;
}

/* Whoever calls a function of the allocator's by its name gets ours, or somebody else's, who gets ours; or one of those that give
 * no memory. So in its mappings the program has blocks that the map knows, and nothing else. */
static bool is_known(const struct module *m, const char *name) {
    static const char *const without_memory[] = { "malloc_stats_print", "mallctlbymib", "_init", "_fini" };
    for (size_t i = 0; i < sizeof without_memory / sizeof *without_memory; i++)
        if (!strcmp(name, without_memory[i])) return true;
    uintptr_t found = (uintptr_t)dlsym(RTLD_DEFAULT, name);
    return found && (found < m->code_lo || found >= m->code_hi);
}

static bool is_jemalloc(const struct module *m) {
    const ElfW(Sym) *symbols = table_of(m, DT_SYMTAB);
    const char *names = table_of(m, DT_STRTAB);
    bool has_mallocx = false;
    size_t n = symbols && names ? count_symbols(m) : 0;
    for (size_t i = 1; i < n; i++) {
        const ElfW(Sym) *s = &symbols[i];
        int type = s->st_info & 15;
        if (s->st_shndx == SHN_UNDEF || (type != STT_FUNC && type != STT_GNU_IFUNC)) continue;
        if (!is_known(m, names + s->st_name)) return false;
        has_mallocx |= !strcmp(names + s->st_name, "mallocx");
    }
    return has_mallocx;
}

/* jemalloc itself calls what is found first by that name: that must be us. */
static bool is_ours(const char *name, void *ours) { return dlsym(RTLD_DEFAULT, name) == ours; }

void wr_heapmap_mappings_of(const void *allocators_malloc) {
    real.mmap = (mapper *)wr_heapmap_next("mmap");
    real.munmap = (unmapper *)wr_heapmap_next("munmap");
    real.mremap = (remapper *)wr_heapmap_next("mremap");
    if (!allocators_malloc) return;
    if (!is_ours("mmap", (void *)mmap) || !is_ours("mmap64", (void *)mmap64) || !is_ours("munmap", (void *)munmap) ||
        !is_ours("mremap", (void *)mremap))
        return;
    struct module m = { .of = (uintptr_t)allocators_malloc };
    if (!dl_iterate_phdr(is_module, &m) || !m.dynamic || !is_jemalloc(&m)) return;
    atomic_store(&code.lo, m.code_lo);
    atomic_store_explicit(&code.size, m.code_hi - m.code_lo, memory_order_release);
}
