/* The mappings of this process that hold code, and whose they are, as the loader knows them; the build id from the notes in memory. */
#include "debug/debug.h"

#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct list {
    struct wr_mapping *items;
    size_t n, room;
    size_t objects; /* seen */
};

static void read_build_id(const struct dl_phdr_info *info, char *text, size_t size) {
    *text = 0;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
        if (segment->p_type != PT_NOTE) continue;
        const char *at = (const char *)(info->dlpi_addr + segment->p_vaddr), *end = at + segment->p_memsz;
        size_t align = segment->p_align == 8 ? 7 : 3;
        while (at + sizeof(ElfW(Nhdr)) <= end) {
            const ElfW(Nhdr) *note = (const void *)at;
            const char *name = at + sizeof *note;
            const unsigned char *bytes = (const unsigned char *)name + ((note->n_namesz + align) & ~align);
            if (note->n_type == NT_GNU_BUILD_ID && note->n_namesz == 4 && !memcmp(name, "GNU", 4)) {
                for (size_t k = 0; k < note->n_descsz && 2 * k + 2 < size; k++) snprintf(text + 2 * k, 3, "%02x", bytes[k]);
                return;
            }
            at = (const char *)bytes + ((note->n_descsz + align) & ~align);
        }
    }
}

/* The main program comes first and has no name. */
static char *file_of(const struct dl_phdr_info *info, size_t index) {
    char path[4096];
    ssize_t n = index == 0 ? readlink("/proc/self/exe", path, sizeof path - 1) : 0;
    path[n > 0 ? n : 0] = 0;
    return strdup(*path ? path : info->dlpi_name && *info->dlpi_name ? info->dlpi_name : "[vdso]");
}

static int add_object(struct dl_phdr_info *info, size_t size, void *arg) {
    struct list *list = arg;
    size_t index = list->objects++, page = (size_t)sysconf(_SC_PAGESIZE);
    (void)size;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
        if (segment->p_type != PT_LOAD || !(segment->p_flags & PF_X)) continue;
        if (list->n == list->room) {
            size_t room = list->room ? 2 * list->room : 16;
            struct wr_mapping *items = realloc(list->items, room * sizeof *items);
            if (!items) break;
            list->items = items, list->room = room;
        }
        uintptr_t lo = info->dlpi_addr + segment->p_vaddr;
        struct wr_mapping *m = &list->items[list->n];
        *m = (struct wr_mapping){ .lo = lo & ~(page - 1), .hi = (lo + segment->p_memsz + page - 1) & ~(page - 1),
                                  .offset = segment->p_offset & ~(page - 1), .file = file_of(info, index) };
        if (!m->file) break;
        read_build_id(info, m->build_id, sizeof m->build_id);
        list->n++;
    }
    return 0;
}

struct wr_mapping *wr_mappings(size_t *n) {
    struct list list = { 0 };
    dl_iterate_phdr(add_object, &list);
    *n = list.n;
    return list.items;
}

void wr_mappings_free(struct wr_mapping *m, size_t n) {
    for (size_t i = 0; i < n; i++) free(m[i].file);
    free(m);
}
