/*
 * For C libraries other than glibc. A libgcc that was built for glibc ≥ 2.35 finds unwind tables through
 * glibc's _dl_find_object and knows no other way; linked with musl (musl-gcc on a glibc system) it
 * lacks that function. This is it, by way of dl_iterate_phdr. Weak, in case the C library gains one. A
 * libgcc built for musl never calls it.
 *
 * Such a program must be linked with -Wl,--eh-frame-hdr (musl-gcc leaves that out), or there is no
 * table to be found and every walk ends at once.
 */
#include <features.h>

#if !defined(__GLIBC__)

#include <link.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* glibc's struct dl_find_object on x86-64 and AArch64: part of the interface between the two. */
struct object {
    unsigned long long flags;
    void *map_start, *map_end;
    void *link_map;           /* not known here; libgcc does not read it */
    void *eh_frame;           /* the PT_GNU_EH_FRAME segment */
    unsigned long long reserved[7];
};

struct search {
    uintptr_t address;
    struct object *object;
};

static int look(struct dl_phdr_info *info, size_t size, void *arg) {
    struct search *search = arg;
    uintptr_t low = UINTPTR_MAX, high = 0, table = 0;

    for (size_t i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
        uintptr_t start = info->dlpi_addr + segment->p_vaddr;

        if (segment->p_type == PT_GNU_EH_FRAME)
            table = start;
        if (segment->p_type != PT_LOAD)
            continue;
        if (start < low)
            low = start;
        if (start + segment->p_memsz > high)
            high = start + segment->p_memsz;
    }
    if (table == 0 || search->address < low || search->address >= high)
        return 0;
    *search->object = (struct object){
        .map_start = (void *)low, .map_end = (void *)high, .eh_frame = (void *)table,
    };
    return 1;
}

int _dl_find_object(void *address, struct object *object);

__attribute__((weak, visibility("hidden")))
int _dl_find_object(void *address, struct object *object) {
    struct search search = { .address = (uintptr_t)address, .object = object };

    return dl_iterate_phdr(look, &search) == 1 ? 0 : -1;
}

#else
typedef int wr_nothing_here; /* ISO C wants a declaration */
#endif
