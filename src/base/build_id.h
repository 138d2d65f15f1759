/* A loaded object's build id, from the notes in its memory. Nothing but the C library is needed for it, so that any room may include this. */
#ifndef WR_BUILD_ID_H
#define WR_BUILD_ID_H

#include <link.h>
#include <stddef.h>
#include <string.h>

struct wr_build_id {
    const void *bytes;  /* NULL: it has none; valid as long as the object is loaded */
    size_t size;
};

static inline struct wr_build_id wr_build_id(const struct dl_phdr_info *info) {
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
        if (segment->p_type != PT_NOTE) continue;
        const char *at = (const char *)(info->dlpi_addr + segment->p_vaddr), *end = at + segment->p_memsz;
        size_t align = segment->p_align == 8 ? 7 : 3;
        while (at + sizeof(ElfW(Nhdr)) <= end) {
            const ElfW(Nhdr) *note = (const void *)at;
            const char *name = at + sizeof *note, *bytes = name + ((note->n_namesz + align) & ~align);
            if (note->n_type == NT_GNU_BUILD_ID && note->n_namesz == 4 && !memcmp(name, "GNU", 4))
                return (struct wr_build_id){ bytes, note->n_descsz };
            at = bytes + ((note->n_descsz + align) & ~align);
        }
    }
    return (struct wr_build_id){ NULL, 0 };
}

#endif
