/*
 * For a build with Debian's musl-gcc, nothing else: its libgcc is made for glibc and asks glibc's
 * _dl_find_object for a module's unwind tables. This is that function, on what musl has.
 */
#define _GNU_SOURCE
#include <link.h>
#include <stddef.h>
#include <stdint.h>

/* glibc's struct dl_find_object, as on x86-64 and aarch64. */
struct dl_find_object {
    unsigned long long flags;
    void *map_start;
    void *map_end;
    void *link_map;
    void *eh_frame;     /* the module's PT_GNU_EH_FRAME */
    unsigned long long reserved[7];
};

struct search {
    uintptr_t pc;
    struct dl_find_object *found;
};

/* dl_iterate_phdr callback: 1, which ends the search, if the module holds the pc and has tables. */
static int look_at(struct dl_phdr_info *info, size_t size, void *arg)
{
    struct search *search = arg;
    const ElfW(Phdr) *text = NULL, *tables = NULL;

    (void)size;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *phdr = &info->dlpi_phdr[i];
        if (phdr->p_type == PT_LOAD && search->pc - (info->dlpi_addr + phdr->p_vaddr) < phdr->p_memsz)
            text = phdr;
        else if (phdr->p_type == PT_GNU_EH_FRAME)
            tables = phdr;
    }
    if (!text || !tables)
        return 0;
    search->found->map_start = (void *)(info->dlpi_addr + text->p_vaddr);
    search->found->map_end = (void *)(info->dlpi_addr + text->p_vaddr + text->p_memsz);
    search->found->eh_frame = (void *)(info->dlpi_addr + tables->p_vaddr);
    return 1;
}

__attribute__((visibility("hidden"))) int _dl_find_object(void *pc, struct dl_find_object *found);
int _dl_find_object(void *pc, struct dl_find_object *found)
{
    struct search search = {(uintptr_t)pc, found};

    *found = (struct dl_find_object){0};
    return dl_iterate_phdr(look_at, &search) == 1 ? 0 : -1;
}
