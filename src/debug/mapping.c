/* The mappings of this process that hold code, and whose they are, as the loader knows them; the build id from the notes in memory. */
#include "debug/debug.h"

#include "base/build_id.h"

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

static void write_build_id(struct wr_build_id id, char *text, size_t size) {
    *text = 0;
    for (size_t i = 0; i < id.size && 2 * i + 2 < size; i++) snprintf(text + 2 * i, 3, "%02x", ((const unsigned char *)id.bytes)[i]);
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
        write_build_id(wr_build_id(info), m->build_id, sizeof m->build_id);
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
