/*
 * WEIR_LEAK: what it says, and the proof at the end.
 *
 * The end is where the runtime stops, or exit(), called while it runs. A function for exit() is registered twice. The
 * one from a constructor comes next to last of all: it sets the exit status, when whatever else wanted to run at exit
 * has. The one from the first start comes early, before what the program had registered until then: it proves, while
 * everything is still there. A forked child has the registrations, but neither goroutines nor their leaks: it is
 * known by its pid.
 */
#include "leak/at_exit.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "leak/watch.h"

#define LEAKED_STATUS 66
#define HEAL_EVERY WEIR_MINUTE

static _Atomic bool proves_at_exit;  /* the runtime runs, and WEIR_LEAK has "exit" */
static _Atomic bool has_leaked;
static _Atomic pid_t process;        /* that this was said of */

static void prove(void) {
    weir_leak_report *r;
    int n = wr_leaks(&r);
    if (n > 0) atomic_store(&has_leaked, true);
    if (r) weir_leak_report_print(r, stderr);
    else wr_warn("the search for leaked goroutines was inconclusive: out of memory");
    weir_leak_report_free(r);
}

static void on_exit_begins(void) {
    if (atomic_load(&process) == getpid() && atomic_exchange(&proves_at_exit, false)) prove();
}

static void on_exit_ends(void) {
    if (!atomic_load(&has_leaked) || atomic_load(&process) != getpid()) return;
    fflush(NULL);
    _exit(LEAKED_STATUS);
}

__attribute__((constructor)) static void register_end(void) { (void)atexit(on_exit_ends); }

/* ---- The words ---------------------------------------------------------------------------------------------- */

struct wishes {
    bool exit, heal;
    weir_duration every;
};

static void read_word(const char *word, struct wishes *w) {
    weir_duration d;
    if (!*word) return;
    if (!strcmp(word, "exit")) w->exit = true;
    else if (!strcmp(word, "heal")) w->heal = true;
    else if (wr_parse_duration(word, &d) && d > 0) w->every = d;
    else wr_warn("WEIR_LEAK: %s is none of exit, heal, and a time such as 500ms, 10s or 4h; ignored", word);
}

static struct wishes read_wishes(void) {
    struct wishes w = { .exit = false };
    const char *text = getenv("WEIR_LEAK");
    char *copy = text ? strdup(text) : NULL;
    for (char *at = copy, *word; copy && (word = strsep(&at, ","));) read_word(word, &w);
    free(copy);
    if (w.heal && !w.every) w.every = HEAL_EVERY;
    return w;
}

/* ---- Wiring ------------------------------------------------------------------------------------------------- */

void wr_leak_started(void) {
    static bool registered;
    struct wishes w = read_wishes();
    atomic_store(&process, getpid());
    if (w.exit && !registered) registered = atexit(on_exit_begins) == 0;
    atomic_store(&proves_at_exit, w.exit);
    wr_watch_environment(w.every, w.heal);
    wr_watch_start();
}

void wr_leak_stopping(void) {
    wr_watch_stop();
    if (atomic_exchange(&proves_at_exit, false)) prove();
}
