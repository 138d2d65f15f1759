/*
 * WEIR_DEBUG_ADDR: the debug server for a program that knows nothing of it.
 *
 * The core does not depend on libweir-debug. If the program has it, the weak reference says so; else it is loaded by its name, and gets
 * the table of start/inside.h, as it may find no symbol of ours in a program that exports none.
 */
#include "base/base.h"
#include "start/debug.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "start/inside.h"
#include "weir/debug.h"

extern __typeof__(weir_debug_serve) weir_debug_serve __attribute__((weak));
extern __typeof__(weir_debug_port) weir_debug_port __attribute__((weak));

struct server {
    int (*serve)(const char *address);
    int (*port)(void);
};

/* By the loader's own search, or beside libweir.so if that is what we are in. */
static void *open_library(void) {
    enum { FLAGS = RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE };
    char path[4096];
    Dl_info info;
    void *library = dlopen(WR_DEBUG_LIBRARY, FLAGS);
    if (library) return library;
    const char *why = dlerror();
    char first[512];
    snprintf(first, sizeof first, "%s", why ? why : "no reason given"); /* the next dlopen overwrites it */
    const char *slash = dladdr((void *)wr_debug_started, &info) && info.dli_fname ? strrchr(info.dli_fname, '/') : NULL;
    if (slash && !strncmp(slash, "/libweir.so", 11) &&
        snprintf(path, sizeof path, "%.*s/" WR_DEBUG_LIBRARY, (int)(slash - info.dli_fname), info.dli_fname) < (int)sizeof path)
        library = dlopen(path, FLAGS);
    if (!library) wr_warn("WEIR_DEBUG_ADDR: there is no debug server, since libweir-debug cannot be loaded: %s", first);
    return library;
}

static bool load(struct server *s) {
    void *library = open_library();
    if (!library) return false;
    int (*attach)(const struct wr_inside *) = (int (*)(const struct wr_inside *))dlsym(library, "weir_debug_attach_");
    s->serve = (int (*)(const char *))dlsym(library, "weir_debug_serve");
    s->port = (int (*)(void))dlsym(library, "weir_debug_port");
    if (attach && s->serve && s->port && attach(weir_inside_()) == 0) return true;
    wr_warn("WEIR_DEBUG_ADDR: there is no debug server, since " WR_DEBUG_LIBRARY " belongs to another version of weir");
    return false;
}

/* Once a process: the server stays. A forked child that starts a runtime asks anew, and finds the address in use. */
void wr_debug_started(void) {
    static pid_t asked;
    struct server s = { weir_debug_serve, weir_debug_port };
    const char *address = secure_getenv("WEIR_DEBUG_ADDR");
    if (!address || !*address || asked == getpid()) return;
    asked = getpid();
    if ((!s.serve || !s.port) && !load(&s)) return;
    if (s.port()) return; /* the program has been first */
    int e = s.serve(address);
    if (e == -EINVAL)
        wr_warn("WEIR_DEBUG_ADDR=%s: not an address and a port, as in 127.0.0.1:6060; there is no debug server", address);
    else if (e) wr_warn("WEIR_DEBUG_ADDR=%s: %s; there is no debug server", address, strerror(-e));
    else wr_warn("WEIR_DEBUG_ADDR=%s: the debug server listens on port %d", address, s.port());
}
