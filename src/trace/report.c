/*
 * Reports that nobody asked for by a call: the deadlock, SIGQUIT, the child of a scope that does not end; and
 * the signal handlers' coming and going.
 *
 * What must not hold up its caller (sysmon, or a worker that holds the goroutine in question) is put into a
 * queue, and written to standard error by a thread that lives as long as there is something in it. queue.lock
 * is held for moments only. Order: the gate of dump.c is entered by whoever starts the thread and left by the
 * thread, so that the runtime does not stop under it.
 */
#include "trace/trace.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ctx/ctx.h"

/* ---- The deadlock ---------------------------------------------------------------------------------- */

static void write_deadlock(void *arg) {
    struct wr_text t;
    wr_text_open(&t, STDERR_FILENO);
    wr_text_put(&t, "fatal error: %s\n\n", (const char *)arg);
    wr_text_flush(&t); /* in case the rest goes wrong */
    if (wr_dump_enter()) {
        wr_dump_all(&t);
        wr_dump_leave();
    }
    (void)wr_text_close(&t);
}

static void on_deadlock(const char *sentence) {
    if (wr_on_large_stack(write_deadlock, (void *)(uintptr_t)sentence)) wr_warn("fatal error: %s", sentence);
}

/* ---- The queue ------------------------------------------------------------------------------------- */

struct job {
    struct job *next;
    bool everything;          /* all goroutines; else the one below */
    struct wr_snapshot one;
    uintptr_t pcs[WR_DEPTH + 1];
};

static struct {
    pthread_mutex_t lock;
    struct job *first, **last; /* last: where the next one goes */
    bool writing;              /* the thread is there, or about to be */
} queue = { .lock = PTHREAD_MUTEX_INITIALIZER, .last = &queue.first };

/* NULL: none is left, and the thread is to end. */
static struct job *next_job(void) {
    pthread_mutex_lock(&queue.lock);
    struct job *job = queue.first;
    if (job) {
        queue.first = job->next;
        if (!queue.first) queue.last = &queue.first;
    } else {
        queue.writing = false;
    }
    pthread_mutex_unlock(&queue.lock);
    return job;
}

static void write_jobs(void *arg) {
    (void)arg;
    for (struct job *job; (job = next_job());) {
        struct wr_text t;
        wr_text_open(&t, STDERR_FILENO);
        t.cancel = &wr_dump_cancel;
        if (job->everything) {
            wr_dump_all(&t);
        } else {
            wr_symbol_refresh();
            wr_snapshot_put(&t, &job->one);
        }
        wr_text_put(&t, "\n");
        (void)wr_text_close(&t);
        free(job);
    }
}

static void *writer(void *arg) {
    if (wr_on_large_stack(write_jobs, arg))
        for (struct job *job; (job = next_job());) free(job);
    wr_dump_leave();
    return NULL;
}

/* Every signal but those of a crash is left to the program's own threads. */
static bool start_writer(void) {
    pthread_t thread;
    pthread_attr_t attr;
    sigset_t all, before;
    static const int crash[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP };
    sigfillset(&all);
    for (size_t i = 0; i < sizeof crash / sizeof crash[0]; i++) sigdelset(&all, crash[i]);
    sigdelset(&all, SIGURG); /* by which the world is stopped */
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attr, (size_t)256 << 10);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int e = pthread_create(&thread, &attr, writer, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attr);
    return e == 0;
}

/* Without a thread: if the caller may be held up, here and now; else not at all. */
static void post(struct job *job, bool may_block) {
    job->next = NULL;
    pthread_mutex_lock(&queue.lock);
    *queue.last = job;
    queue.last = &job->next;
    bool start = !queue.writing;
    queue.writing = true;
    pthread_mutex_unlock(&queue.lock);
    if (!start) return;
    if (wr_dump_enter()) {
        if (start_writer()) return;
        if (may_block) {
            writer(NULL);
            return;
        }
        wr_dump_leave();
        wr_warn("a report was due, but there is no thread to write it");
    }
    while ((job = next_job())) free(job);
}

static void on_quit(void) {
    struct job *job = malloc(sizeof *job);
    if (!job) return;
    job->everything = true;
    post(job, true);
}

/* Called while g is held, if it does not run: copy, and let it go. */
static void on_scope_report(struct g *g, bool held) {
    struct job *job = malloc(sizeof *job);
    if (!job) return;
    job->everything = false;
    if (wr_snapshot_take(g, held, &job->one, job->pcs, true)) post(job, false);
    else free(job);
}

/* ---- Places ------------------------------------------------------------------------------------------ */

struct place {
    uintptr_t pc;
    char *text;
    size_t size;
    bool found;
};

static void find_place(void *arg) {
    struct place *place = arg;
    struct wr_frame frame;
    wr_symbol_refresh();
    place->found = wr_symbol(place->pc, &frame, 1) > 0 && frame.named && frame.line > 0;
    if (place->found) snprintf(place->text, place->size, "%s %s:%d", frame.function, frame.file, frame.line);
}

static bool on_place(uintptr_t pc, char *text, size_t size) {
    struct place place = { pc, text, size, false };
    return wr_on_large_stack(find_place, &place) == 0 && place.found;
}

/* ---- SIGQUIT ----------------------------------------------------------------------------------------- */

static struct sigaction before_quit;
static bool quit_installed;

static void on_sigquit(int signo, siginfo_t *info, void *context) {
    static _Atomic weir_time last = INT64_MIN / 2;
    (void)signo, (void)info, (void)context;
    int saved_errno = errno;
    weir_time now = wr_now();
    if (now - atomic_exchange(&last, now) < WEIR_SECOND) _exit(2);
    wr_sysmon_poke();
    errno = saved_errno;
}

/* ---- Signal handlers, for crash.c too ------------------------------------------------------------------ */

bool wr_signal_install(int signo, wr_signal_handler handler, struct sigaction *old, bool always) {
    struct sigaction now = { .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART };
    now.sa_sigaction = handler;
    sigemptyset(&now.sa_mask);
    if (sigaction(signo, NULL, old) != 0) return false;
    if (!always && ((old->sa_flags & SA_SIGINFO) || old->sa_handler != SIG_DFL)) return false;
    return sigaction(signo, &now, NULL) == 0;
}

void wr_signal_uninstall(int signo, wr_signal_handler handler, const struct sigaction *old) {
    struct sigaction now;
    if (sigaction(signo, NULL, &now) == 0 && (now.sa_flags & SA_SIGINFO) && now.sa_sigaction == handler)
        sigaction(signo, old, NULL);
}

/* ---- Wiring ------------------------------------------------------------------------------------------- */

void wr_trace_start(void) {
    wr_hook_deadlock = on_deadlock;
    wr_hook_quit = on_quit;
    wr_hook_scope_report = on_scope_report;
    wr_hook_place = on_place;
    wr_dump_open();
    wr_crash_start();
    quit_installed = wr_signal_install(SIGQUIT, on_sigquit, &before_quit, false);
}

void wr_trace_stop(void) {
    wr_crash_wait();
    if (quit_installed) wr_signal_uninstall(SIGQUIT, on_sigquit, &before_quit);
    wr_dump_close();
}
