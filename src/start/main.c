/*
 * main, for programs that define weir_main instead. In an object of its own, so that the archive gives it only
 * to programs without a main; a main of the program's own also comes before that of the shared library.
 */
#include "base/base.h"

#include <string.h>

/* Weak: a program with a main of its own has none, and then this file's main is not called. */
__attribute__((weak, visibility("default"))) int weir_main(int argc, char **argv);

struct call {
    int argc;
    char **argv;
    bool begun;
};

/* Named so that traces leave it out without debug information, too. */
static int wr_call_weir_main(void *arg) {
    struct call *call = arg;
    call->begun = true;
    return weir_main(call->argc, call->argv);
}

/* Returns rather than exits, so that all that exit does is done: stdio is flushed, atexit's functions run. */
__attribute__((visibility("default"))) int main(int argc, char **argv) {
    struct call call = { argc, argv, false };
    if (!weir_main) {
        wr_warn("this program has neither main() nor weir_main(int argc, char **argv); it needs one of them");
        return 2;
    }
    int result = weir_run(wr_call_weir_main, &call);
    if (call.begun) return result;
    wr_warn("the runtime cannot be started: %s", strerror(-result));
    return 2;
}
