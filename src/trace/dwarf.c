/*
 * Functions, files, lines and inlined calls at an address of this process, by elfutils' libdw. Called by
 * symbol.c alone, under its mutex. Needs up to half a MiB of stack.
 *
 * Debug information is read from files on this machine and never asked for over the network: libdw's own ways
 * of finding files by build id may do that (debuginfod), so they are not used. A file that is no longer the one
 * that was loaded, as its build id tells, is not believed.
 */
#include "trace/trace.h"

#include "base/build_id.h"

#ifdef WEIR_HAVE_LIBDW

#include <dwarf.h>
#include <elfutils/libdw.h>
#include <elfutils/libdwelf.h>
#include <elfutils/libdwfl.h>
#include <fcntl.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

WR_PRIVATE static Dwfl *dwfl;

/* ---- The objects of this process --------------------------------------------------------------------- */

static bool same_build(struct wr_build_id a, struct wr_build_id b) {
    return a.size == b.size && (a.size == 0 || !memcmp(a.bytes, b.bytes, a.size));
}

/* dl_iterate_phdr calls this; the main program comes first and has no name. */
static int report(struct dl_phdr_info *info, size_t size, void *arg) {
    bool *first = arg;
    char path[4096];
    (void)size;
    const char *name = info->dlpi_name, *file = name;
    if (*first) {
        ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
        path[n > 0 ? n : 0] = 0;
        name = path;
        file = "/proc/self/exe"; /* also if the file has been replaced or deleted since */
    }
    *first = false;
    if (!file || !*file || *file != '/') return 0; /* the vdso */
    Dwfl_Module *module = dwfl_report_elf(dwfl, name, file, -1, info->dlpi_addr, true);
    if (!module) return 0;
    const unsigned char *bits;
    GElf_Addr at;
    int n = dwfl_module_build_id(module, &bits, &at);
    void **distrusted;
    dwfl_module_info(module, &distrusted, NULL, NULL, NULL, NULL, NULL, NULL);
    if (!same_build(wr_build_id(info), (struct wr_build_id){ bits, n > 0 ? (size_t)n : 0 })) *distrusted = &dwfl;
    return 0;
}

static int find_no_elf(Dwfl_Module *module, void **data, const char *name, Dwarf_Addr base, char **file, Elf **elf) {
    (void)module, (void)data, (void)name, (void)base, (void)file, (void)elf;
    return -1;
}

/* Does the debug file belong to the module? */
static bool debug_file_of(int fd, Dwfl_Module *module) {
    const unsigned char *bits;
    GElf_Addr at;
    const void *found;
    int n = dwfl_module_build_id(module, &bits, &at);
    Dwarf *dwarf = dwarf_begin(fd, DWARF_C_READ);
    ssize_t m = dwarf ? dwelf_elf_gnu_build_id(dwarf_getelf(dwarf), &found) : -1;
    bool same = n > 0 && m > 0 &&
                same_build((struct wr_build_id){ bits, (size_t)n }, (struct wr_build_id){ found, (size_t)m });
    dwarf_end(dwarf);
    return same;
}

/* Separate debug information: below /usr/lib/debug by build id, or beside the object by the name that it gives. */
static int find_debug_file(Dwfl_Module *module, void **data, const char *name, Dwarf_Addr base, const char *file,
                           const char *link, GElf_Word crc, char **found) {
    (void)data, (void)name, (void)base, (void)crc;
    const unsigned char *bits;
    GElf_Addr at;
    char path[4096];
    int n = dwfl_module_build_id(module, &bits, &at);
    for (int way = 0; way < 3; way++) {
        int length = 0;
        if (way == 0) {
            if (n < 2 || n > 64) continue;
            length = snprintf(path, sizeof path, "/usr/lib/debug/.build-id/%02x/", bits[0]);
            for (int i = 1; i < n; i++)
                length += snprintf(path + length, sizeof path - (size_t)length, "%02x", bits[i]);
            length += snprintf(path + length, sizeof path - (size_t)length, ".debug");
        } else {
            const char *object = file && strcmp(file, "/proc/self/exe") ? file : name;
            const char *slash = object ? strrchr(object, '/') : NULL;
            if (!slash || !link) continue;
            length = snprintf(path, sizeof path, "%.*s/%s%s", (int)(slash - object), object,
                              way == 2 ? ".debug/" : "", link);
        }
        if (length <= 0 || (size_t)length >= sizeof path) continue;
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0) continue;
        if (debug_file_of(fd, module)) {
            *found = strdup(path);
            return fd;
        }
        close(fd);
    }
    return -1;
}

static const Dwfl_Callbacks callbacks = {
    .find_elf = find_no_elf,
    .find_debuginfo = find_debug_file,
    .section_address = dwfl_offline_section_address,
};

static bool open_dwfl(void) {
    if (dwfl) return true;
    dwfl = dwfl_begin(&callbacks);
    if (!dwfl) return false;
    bool first = true;
    dwfl_report_begin(dwfl);
    dl_iterate_phdr(report, &first);
    dwfl_report_end(dwfl, NULL, NULL);
    return true;
}

void wr_dwarf_close(void) {
    if (dwfl) dwfl_end(dwfl);
    dwfl = NULL;
}

void wr_dwarf_forget(void) { dwfl = NULL; }

/* ---- What is at an address --------------------------------------------------------------------------- */

/* The compilation unit that holds the address. Not every compiler writes the table by which libdw finds it, and
 * where only some units are in the table, libdw takes one of those that is near. */
static Dwarf_Die *unit_at(Dwfl_Module *module, Dwarf_Addr address, Dwarf_Addr *bias) {
    Dwarf_Die *unit = dwfl_module_addrdie(module, address, bias);
    if (unit && dwarf_haspc(unit, address - *bias) > 0) return unit;
    unit = NULL;
    while ((unit = dwfl_module_nextcu(module, unit, bias)))
        if (dwarf_haspc(unit, address - *bias) > 0) return unit;
    return NULL;
}

/* Where names are mangled, the mangled one: the plain one does not say of what class. */
static const char *name_of(Dwarf_Die *die) {
    Dwarf_Attribute memory;
    Dwarf_Attribute *linkage = dwarf_attr_integrate(die, DW_AT_linkage_name, &memory);
    const char *name = linkage ? dwarf_formstring(linkage) : NULL;
    return name && name[0] == '_' && (name[1] == 'Z' || name[1] == 'R') ? name : dwarf_diename(die);
}

static Dwarf_Word number_of(Dwarf_Die *die, unsigned attribute) {
    Dwarf_Attribute memory;
    Dwarf_Word value = 0;
    dwarf_formudata(dwarf_attr(die, attribute, &memory), &value);
    return value;
}

/* A file's name as libdw has it may be relative to where the compiler was run. */
static const char *file_of(Dwarf_Die *unit, const char *name) {
    Dwarf_Attribute memory;
    char path[4096];
    if (!name) return "?\?";
    const char *folder = *name == '/' ? NULL : dwarf_formstring(dwarf_attr(unit, DW_AT_comp_dir, &memory));
    if (folder && snprintf(path, sizeof path, "%s/%s", folder, name) < (int)sizeof path) name = path;
    return wr_symbol_intern(name);
}

/* Functions around an address, outermost first. */
struct chain {
    Dwarf_Addr address;
    size_t n;
    Dwarf_Die functions[4 * WR_INLINED];
};

/*
 * Look below `parent`; true: found. libdw's dwarf_getscopes would do, but for calls inlined from another unit,
 * as link-time optimisation does, and for lambdas. Functions may be in namespaces and classes, and, if looked
 * for `everywhere`, in functions.
 */
static bool find_functions(Dwarf_Die *parent, struct chain *chain, bool everywhere) {
    Dwarf_Die child;
    if (dwarf_child(parent, &child)) return false;
    do {
        int tag = dwarf_tag(&child);
        bool function = tag == DW_TAG_subprogram || tag == DW_TAG_inlined_subroutine;
        if (dwarf_haspc(&child, chain->address) > 0) {
            if (function && chain->n < sizeof chain->functions / sizeof chain->functions[0])
                chain->functions[chain->n++] = child;
            find_functions(&child, chain, everywhere);
            return true;
        }
        bool holds_functions = tag == DW_TAG_namespace || tag == DW_TAG_structure_type || tag == DW_TAG_class_type ||
                               (everywhere && (tag == DW_TAG_subprogram || tag == DW_TAG_lexical_block));
        if (holds_functions && find_functions(&child, chain, everywhere)) return true;
    } while (dwarf_siblingof(&child, &child) == 0);
    return false;
}

/* Innermost first; each is called from the place that the one before it says. */
static size_t functions_at(Dwarf_Die *unit, Dwarf_Addr address, struct wr_frame *frames, size_t max) {
    struct chain chain = { .address = address };
    Dwarf_Files *files = NULL;
    size_t n = 0;
    if (!find_functions(unit, &chain, false)) find_functions(unit, &chain, true);
    dwarf_getsrcfiles(unit, &files, NULL);

    Dwarf_Line *line = dwarf_getsrc_die(unit, address);
    const char *file = line ? dwarf_linesrc(line, NULL, NULL) : NULL;
    int number = 0;
    if (line) dwarf_lineno(line, &number);
    for (size_t i = chain.n; i-- > 0 && n < max;) {
        Dwarf_Die *function = &chain.functions[i];
        const char *name = name_of(function);
        frames[n++] = (struct wr_frame){ .function = name ? wr_symbol_intern(name) : NULL, .named = true,
                                         .file = file_of(unit, file), .line = number };
        if (dwarf_tag(function) == DW_TAG_subprogram) break;
        Dwarf_Word index = number_of(function, DW_AT_call_file);
        file = files ? dwarf_filesrc(files, index, NULL, NULL) : NULL;
        number = (int)number_of(function, DW_AT_call_line);
    }
    return n;
}

size_t wr_dwarf_lookup(uintptr_t address, struct wr_frame *frames, size_t max) {
    if (!open_dwfl()) return 0;
    Dwfl_Module *module = dwfl_addrmodule(dwfl, address);
    if (!module) return 0;
    void **distrusted;
    Dwarf_Addr start, bias;
    const char *path = dwfl_module_info(module, &distrusted, &start, NULL, NULL, NULL, NULL, NULL);
    if (*distrusted) return 0;

    GElf_Off offset = 0;
    GElf_Sym symbol;
    const char *name = dwfl_module_addrinfo(module, address, &offset, &symbol, NULL, NULL, NULL);
    bool named = name != NULL;
    if (!named) {
        const char *slash = path ? strrchr(path, '/') : NULL;
        name = slash ? slash + 1 : path ? path : "unknown";
        offset = address - start;
    }
    struct wr_frame symbol_only = {
        .function = wr_symbol_intern(name), .file = "?\?", .named = named, .offset = offset
    };
    Dwarf_Die *unit = unit_at(module, address, &bias);
    size_t n = unit ? functions_at(unit, address - bias, frames, max) : 0;
    for (size_t i = 0; i < n; i++) {
        frames[i].offset = offset;
        if (!frames[i].function) frames[i].function = symbol_only.function, frames[i].named = named;
    }
    if (n == 0) frames[n++] = symbol_only;
    return n;
}

#endif
