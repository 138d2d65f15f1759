/* Goroutines that have leaked: proven, reported, healed, watched for, and kept out of tests. */
#ifndef WEIR_LEAK_H
#define WEIR_LEAK_H

WEIR_BEGIN_

/*
 * A goroutine has leaked if it waits for something (a channel, a lock, a wait group …) that nothing can reach any
 * more which can still run: it will wait for ever. A proof finds these, with certainty, in a process that goes on
 * working: it copies the process (fork), and looks for pointers in the copy. Goroutines that sleep, wait for a
 * descriptor, run, or are threads of the program's own have not leaked. Reference counts play no part: a handle that
 * nobody released does not keep a goroutine alive, one that somebody who can still run can reach does. What the proof
 * cannot know is a pointer that is not stored as one (compressed, XORed, in a file, in shared memory): see
 * weir_leak_ignore.
 *
 * Environment: WEIR_LEAK=word[,word…], read when the runtime starts, with these words:
 *   exit       prove and print to standard error when weir_run's main has returned (or weir_stop is called), and at
 *              exit(). If anything has leaked, the process's exit status is 66. What only main held has leaked by then.
 *   4h, 500ms  prove that often, and print what has leaked, and what goroutines pile up
 *   heal       heal as well what was found; without a time of its own, once a minute
 * A word that is none of these is reported and ignored. An inconclusive proof is printed as that, never as none.
 */

/* A leaked goroutine. All texts live as long as the report; none is NULL; "" (file "?\?", line 0) if it is not
 * known. */
typedef struct weir_leak {
    uint64_t id;             /* as weir_id() */
    const char *state;       /* what it waits in, in Go's words: "chan send", "select", "sync.WaitGroup.Wait" … */
    const char *function;    /* the function it was started with */
    const char *file;        /* where the weir_go is that started it */
    int line;
    const char *created_by;  /* the function that holds that weir_go; "" for the main goroutine */
    const char *at_function; /* the innermost function of yours on its stack: the call that blocks is in it */
    const char *at_file;     /* and here */
    int at_line;
    weir_time since;         /* when it began to wait, to 10 ms */
    const void *object;      /* what it waits on (a scope: the weir_scope); NULL for nil channels and selects */

    uint64_t creator;          /* the goroutine that started it; 0: the runtime did, or a timer */
    weir_duration waited;      /* since then, at the time of the proof */
    const char *name;          /* weir_name; "": none */
    const char *labels;        /* weir_label: {"key":"value", …}; "": none */
    const char *stack;         /* the stack, innermost call first, as weir_dump writes it */
    const char *creator_stack; /* where the creator is by now; "": it has ended */
} weir_leak;

typedef struct weir_leak_report weir_leak_report;

/*
 * Prove, now. Returns how many goroutines have leaked, and puts a report into *out (NULL: none wanted), which the
 * caller frees. A goroutine once proven is in every later report for as long as it waits. -EBUSY: inconclusive, and
 * nothing is said about leaks; *out is then a report without goroutines that tells why when printed. -ENOMEM: *out is
 * NULL. While no runtime runs there are no goroutines: 0. The process pauses for as long as fork() takes (about 1 ms,
 * and 10 to 35 ms for each GiB in small pages). Blocks; not cancellable; several calls are served one after the other. Go:
 * the goroutineleak profile of runtime/pprof.
 */
WEIR_API_ WEIR_MUST_USE_ int weir_leaks(weir_leak_report **out);

/* Print for a reader: the leaked goroutines, grouped by stack, most first; then those that have been blocked for
 * over a minute and can be reached yet, with what reaches them; then what the proof looked at. Writes to f as
 * stdio does. NULL prints nothing. */
WEIR_API_ void weir_leak_report_print(const weir_leak_report *report, FILE *f);
WEIR_API_ void weir_leak_report_free(weir_leak_report *report); /* NULL is fine */

/* How many, and each (0 … count - 1, in the order of their ids; else NULL). What `at` returns belongs to the report. */
WEIR_API_ size_t weir_leak_report_count(const weir_leak_report *report);
WEIR_API_ const weir_leak *weir_leak_report_at(const weir_leak_report *report, size_t i);

/*
 * Wake each goroutine of the report: the call that blocks returns -EDEADLK, and nothing has been sent, received or
 * taken, so that the goroutine can clean up and end. Returns how many; those that have gone on since are left alone,
 * and so are those that wait for a mutex, rwmutex or once, which no error can be returned from: they stay listed. A
 * healed weir_scope_wait cancels its scope and goes on waiting. The report stays as it is. Does not block. No Go
 * equivalent.
 */
WEIR_API_ int weir_leak_heal(weir_leak_report *report);

/*
 * Prove every `every`, on a thread of weir's own, and call fn(report, arg) there after each proof, whatever came of
 * it. The report lives until fn returns; printed, it also lists stacks on which goroutines pile up, leaked or not:
 * those with more of them each time. There is one watch: a second call replaces it; fn NULL or every ≤ 0 ends it.
 * When the call has returned the old fn is not called any more, unless it made the call. It goes on over several runs
 * of the runtime, and rests between them; it keeps no program alive and hides no deadlock: a program of which
 * everything waits for fn alone has one. Does not park. No Go equivalent.
 */
WEIR_API_ void weir_leak_watch(weir_duration every, void (*fn)(const weir_leak_report *report, void *arg), void *arg);

/* Count the goroutines every `every`, and call fn(count, arg), on that thread, each time there are more than
 * threshold. One at a time, replaced and ended as above. The debug server's /metrics tells the threshold and how often it
 * was exceeded. Does not park. Go: a loop around runtime.NumGoroutine. */
WEIR_API_ void weir_watch_count(size_t threshold, weir_duration every, void (*fn)(size_t count, void *arg), void *arg);

/*
 * weir_no_leaks("name") { … }      for tests: no goroutine started inside may outlive the block.
 *
 * When the block is left, in whichever way (`break` and `continue` in it leave just the block), goroutines started
 * since it was entered, by whomever, that still run or are about to be woken get up to a second to end. What then
 * lives, sleeping or blocked, is printed to standard error with its stacks, and the process ends at once with status
 * 1; or, if a hook is set, it is called instead, on the same goroutine, with the name and a report of them, which
 * lives until it returns. No proof is made: here a goroutine that could yet be woken is one too many. The name must
 * outlive the block. Blocks at its end, not cancellable. Go: go.uber.org/goleak.
 */
#define weir_no_leaks(name) WEIR_BLOCK_(weir_no_leaks_enter_, (name))
WEIR_API_ weir_block_ *weir_no_leaks_enter_(weir_block_ *b, const char *name);

/* What to do instead of ending the process; NULL: end it. For the whole process. */
WEIR_API_ void weir_on_leak(void (*fn)(const char *name, const weir_leak_report *report));

/*
 * What the proof cannot see. ignore: obj (a channel as weir_chan_of(ch), a context, mutex, wait group …) counts as
 * reachable, so whoever waits on it has not leaked. root: the n bytes at p are looked at for pointers as if they
 * were in a global variable; for memory that weir does not find, such as shared mappings. Either may be said
 * several times, and is then to be taken back as often; what was not said is taken back without effect. Take it
 * back before the memory goes. Nothing is read but by proofs. Out of memory ends the process. They do not block.
 */
WEIR_API_ void weir_leak_ignore(const void *obj);
WEIR_API_ void weir_leak_unignore(const void *obj);
WEIR_API_ void weir_leak_root(const void *p, size_t n);
WEIR_API_ void weir_leak_unroot(const void *p, size_t n);

WEIR_END_

#endif
