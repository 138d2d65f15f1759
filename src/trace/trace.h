/*
 * trace: says in words where goroutines are. Names a pc (symbol.c, dwarf.c), writes dumps (text.c, snapshot.c,
 * dump.c), and the reports of a deadlock, of SIGQUIT, of a scope that does not end (report.c) and of a crash
 * (crash.c). What is in here serves these files; the start room calls wr_trace_start and wr_trace_stop, and the
 * leak and debug rooms may name a pc with wr_symbol, take a stack with wr_snapshot_… and write with struct
 * wr_text.
 *
 * A stack is a list of return addresses, innermost first, as arch/arch.h gives it. A pc is looked up one
 * byte before itself, inside the call; for an instruction that has not been executed yet, pass its address + 1.
 */
#ifndef WR_TRACE_H
#define WR_TRACE_H

#include "base/base.h"
#include "sched/sched.h"

#include <signal.h>

#pragma GCC visibility push(hidden)

/* ---- Names (symbol.c) --------------------------------------------------------------------------- */

/* One function at a pc. Where calls were inlined there are several, innermost first. */
struct wr_frame {
    const char *function; /* as in the symbol table, C++ names mangled; the module's file name if there is no symbol */
    const char *file;     /* "??": not known */
    int line;
    bool named;           /* function is a function */
    uintptr_t offset;     /* of pc − 1 in the (outermost) function, or in the module */
};

/*
 * What is at pc: fills at most max entries, returns how many, at least 1 (max > 0). The strings stay valid as
 * long as the process lives. Any thread; takes a pthread mutex, allocates, and needs up to half a MiB of stack:
 * call it under wr_on_large_stack.
 */
size_t wr_symbol(uintptr_t pc, struct wr_frame *frames, size_t max);
enum { WR_INLINED = 16 }; /* a sensible max */

/* The object and the offset in it, no more, but async-signal-safe. */
void wr_symbol_plain(uintptr_t pc, struct wr_frame *frame);

/* Call it before a series of wr_symbol: notices objects that were loaded or unloaded. Under wr_on_large_stack, too. */
void wr_symbol_refresh(void);

/* Whose code is it? By this a trace leaves out weir's own machinery above the call that the user made. */
enum wr_symbol_class {
    WR_SYMBOL_OWN = 1,  /* weir's, with everything that was inlined there */
    WR_SYMBOL_CALL = 2, /* a function of the public interface is in it */
    WR_SYMBOL_BARE = 4, /* there is no debug information to tell by */
};
unsigned wr_symbol_class(uintptr_t pc);
unsigned wr_symbol_frame_class(const struct wr_frame *frame);

/* Can files and lines be told at all? */
bool wr_symbol_has_lines(void);

/* In a child of a raw fork, where another thread may have held the mutex: start anew. */
void wr_symbol_after_fork(void);

/* Run fn(arg) on a fresh stack of 1 MiB. -ENOMEM: there is no memory. fn must not park. */
int wr_on_large_stack(void (*fn)(void *), void *arg);

/* ---- DWARF and symbol tables (dwarf.c; with libdw only). Called by symbol.c, under its mutex ------- */

/* As wr_symbol, but for an address, not a return address. 0: nothing is known. */
size_t wr_dwarf_lookup(uintptr_t address, struct wr_frame *frames, size_t max);
const char *wr_symbol_intern(const char *text); /* in symbol.c: a copy that stays */
void wr_dwarf_close(void);  /* objects were loaded or unloaded: forget what is there */
void wr_dwarf_forget(void); /* the same without touching it */

/* ---- Text (text.c) -------------------------------------------------------------------------------- */

/*
 * Buffered output to a descriptor. The first error is kept and nothing is written after it. Written in pieces
 * that a pipe takes whole, once the descriptor is ready for them, so that *cancel (or NULL) can end it. A
 * reader that has gone is the error -EPIPE, not a signal. Open and close on one thread.
 */
struct wr_text {
    int fd;
    int error;                     /* 0 or negative */
    const _Atomic uint32_t *cancel; /* not 0: stop, -ECANCELED */
    bool sigpipe_pending;          /* before we began */
    sigset_t mask;                 /* the thread's; SIGPIPE is blocked meanwhile */
    size_t n;
    char buffer[16384];
};
void wr_text_open(struct wr_text *t, int fd);
__attribute__((format(printf, 2, 3))) void wr_text_put(struct wr_text *t, const char *fmt, ...);
void wr_text_flush(struct wr_text *t);
int wr_text_close(struct wr_text *t); /* flush; the error */

/* ---- Snapshots of goroutines (snapshot.c) ----------------------------------------------------------- */

enum {
    WR_DEPTH = 100,      /* frames taken of a stack; what lies further out is left out */
    WR_LABELS_TEXT = 256 /* bytes for a goroutine's labels; those that do not fit are left out */
};

/* What a goroutine was doing, copied while it was held. */
struct wr_snapshot {
    uint64_t id, creator;
    const struct weir_site_ *site; /* NULL: main or foreign */
    const char *state;             /* in Go's words */
    bool leaked;                   /* proven, and still in that wait */
    bool waiting;                  /* parked: the innermost frames are the runtime's */
    bool foreign;                  /* a thread that is no worker */
    bool locked;                   /* tied to its thread, as foreign ones are */
    bool elided;                   /* there were more frames */
    bool unavailable;              /* the stack could not be had; pcs is the function that it was started with */
    bool exact;                    /* pcs[0] is the address + 1 of an instruction not yet executed */
    weir_time since;               /* when it began to wait; 0: not known, or does not wait */
    char name[64];                 /* "": none, or not to be had because it runs elsewhere */
    char labels[WR_LABELS_TEXT];   /* {"k":"v", …}, sorted; "": none, or as above */
    size_t n;                      /* at least 1 */
    const uintptr_t *pcs;
};

/* Labels, sorted by their keys as they are added, and put into words as above: text has room for WR_LABELS_TEXT. */
struct wr_pairs {
    size_t n;
    struct {
        const char *key, *value;
    } pair[16];
};
void wr_pairs_add(const char *key, const char *value, void *pairs);
void wr_pairs_text(const struct wr_pairs *pairs, char *text);

/* Fill s from g, in a visit. pcs: room for WR_DEPTH + 1. Looks nothing up, so it is quick. false: g is gone. ask: a
 * goroutine that runs is asked for its stack, which takes 0.2 s if its thread keeps the question from it. */
bool wr_snapshot_take(struct g *g, bool held, struct wr_snapshot *s, uintptr_t *pcs, bool ask);
/* The same for the caller itself, which runs, with its stack. */
void wr_snapshot_self(struct g *g, struct wr_snapshot *s, const uintptr_t *pcs, size_t n);
/* The same for a goroutine that ends in a signal: async-signal-safe. g NULL: a thread on no goroutine. */
void wr_snapshot_crashed(struct g *g, struct wr_snapshot *s, const uintptr_t *pcs, size_t n);

/* Which of the pcs are shown: *from … *to - 1, never none. Leaves out the runtime's at both ends, not the call
 * into it. */
void wr_snapshot_shown(const struct wr_snapshot *s, size_t *from, size_t *to);

/* As Go's tools read it: header, frames, creator. */
void wr_snapshot_put(struct wr_text *t, const struct wr_snapshot *s);
/* The parts of it. names false: objects and offsets only, async-signal-safe. */
void wr_header_put(struct wr_text *t, const struct wr_snapshot *s);
void wr_frames_put(struct wr_text *t, const struct wr_snapshot *s, size_t from, size_t to, bool names);
void wr_elided_put(struct wr_text *t);
void wr_creator_put(struct wr_text *t, const struct wr_snapshot *s);

/* ---- Goroutines by stack (group.c) ------------------------------------------------------------------- */

/* Goroutines with one stack, as it is shown, and the same labels. */
struct wr_group {
    struct wr_group *next;  /* in its bucket */
    uint64_t hash;
    size_t count, order;    /* how many; how many groups came before it */
    char name[64];          /* the name that all of them have; "": none */
    char *labels;
    size_t n_pcs;           /* at least 1 */
    uintptr_t pcs[];
};

/* Zeroed: none yet. Of one thread. */
struct wr_groups {
    struct wr_group **buckets; /* n_buckets, a power of two */
    size_t n_buckets, n;
    size_t total;              /* goroutines */
    bool no_memory;            /* some are missing */
};
/* Count one goroutine in. Looks up names: under wr_on_large_stack. */
void wr_groups_count(struct wr_groups *gs, const struct wr_snapshot *s);
/* Count in all that there are, or those that have leaked; for who is on no goroutine, has entered (below), and runs on a
 * large stack. */
void wr_groups_all(struct wr_groups *gs, bool leaked);
/* Each group, most goroutines first. 0; -ENOMEM: none was visited. */
int wr_groups_each(struct wr_groups *gs, void (*visit)(const struct wr_group *g, void *arg), void *arg);
/* As Go's tools read it; t's error is -ENOMEM if groups are missing. */
void wr_groups_put(struct wr_text *t, struct wr_groups *gs);
void wr_groups_free(struct wr_groups *gs);

/* The labels as text, the name among them; "": none. Uses the text that is passed, or not. */
enum { WR_GROUP_LABELS = WR_LABELS_TEXT + 6 * 64 + 32 };
const char *wr_group_labels(const struct wr_group *g, char text[WR_GROUP_LABELS]);
/* wr_symbol, without weir's own functions that are inlined into the innermost call. */
size_t wr_group_frames(uintptr_t pc, bool innermost, struct wr_frame *frames, size_t max);

/* ---- Dumps (dump.c) --------------------------------------------------------------------------------- */

/* A dump in progress keeps the runtime from being stopped, so enter around one. false: it is not running, or
 * about to stop. */
bool wr_dump_enter(void);
void wr_dump_leave(void);
/* Not 0: whoever has entered should give up. */
extern _Atomic uint32_t wr_dump_cancel;
/* Level 2 to t, for who is on no goroutine, has entered, and runs on a large stack. */
void wr_dump_all(struct wr_text *t);

/* ---- Wiring (report.c) ------------------------------------------------------------------------------- */

/*
 * Around a run of the scheduler. start, before wr_sched_start: sets the hooks and installs the signal handlers.
 * stop, before wr_sched_stop: puts SIGQUIT back, lets no more dumps begin and waits until none is in progress.
 * wr_crash_stop, after it: puts the crash signals back.
 */
void wr_trace_start(void);
void wr_trace_stop(void);
void wr_crash_stop(void);

/* Inside this room: the parts of that. */
void wr_dump_open(void);
void wr_dump_close(void);
void wr_crash_start(void);
void wr_crash_wait(void); /* while a crash is being reported, of which the process is about to end; 10 s at most */
extern int wr_crash_without_child; /* for tests: as if no child could be had */
/* Install a handler where there is none (or `always`); what was there goes to *old. false: not installed.
 * uninstall puts *old back, unless somebody has replaced the handler since. */
typedef void (*wr_signal_handler)(int signo, siginfo_t *info, void *context);
bool wr_signal_install(int signo, wr_signal_handler handler, struct sigaction *old, bool always);
void wr_signal_uninstall(int signo, wr_signal_handler handler, const struct sigaction *old);

#pragma GCC visibility pop
#endif
