/*
 * Child processes. Go: os/exec.
 *
 *     int in[2], out[2], status;
 *     if (weir_pipe(in) || weir_pipe(out)) …
 *     weir_process p;
 *     int error = weir_process_start(&(weir_command){ .argv = (const char *[]){ "sort", NULL }, .in = in[0], .out = out[1] }, &p);
 *     weir_close_fd(in[0]), weir_close_fd(out[1]);         // the child's ends: the copies here would keep the end from coming
 *     … write to in[1] on one goroutine, and close it; read out[0] to the end on another …
 *     if (!error) error = weir_process_wait(&p, &status);
 */
#ifndef WEIR_PROCESS_H
#define WEIR_PROCESS_H

WEIR_BEGIN_

/* For in, out and err of a command. Any other number is a descriptor of the caller's. */
enum { WEIR_INHERIT = 0, WEIR_DEV_NULL = -1 };
/* For flags: a process group of its own, so that ctrl-C does not reach it, and weir_process_kill reaches all that it starts. */
enum { WEIR_PROCESS_GROUP = 1 };

/*
 * What to run, and how. All is the caller's, and needed only while weir_process_start or weir_process_run runs. Zeroes are fine for all but
 * argv.
 *
 * Besides in, out and err the child gets no descriptor, whatever its flags. Those that are named are copied, and stay the caller's to
 * close; and they are made blocking, as programs expect, for the child and for the copy that is here: that is a property of what both share. The
 * calls of io.h do not mind. To name the same for out and err is fine.
 * No signal is blocked in it. Those with a handler, and SIGPIPE, have the default disposition; those that were ignored stay so (nohup).
 */
typedef struct weir_command {
    const char *const *argv;  /* the program and its arguments, and NULL. Without a slash it is looked for in PATH */
    const char *const *env;   /* "NAME=value" …, and NULL. NULL: that of the caller */
    const char *dir;          /* to run it in; a relative argv[0] counts from there. NULL: that of the caller */
    int in, out, err;         /* WEIR_INHERIT: the caller's own 0, 1, 2. WEIR_DEV_NULL. Or a descriptor */
    unsigned flags;           /* 0 or WEIR_PROCESS_GROUP */
    weir_duration grace;      /* weir_process_run: between SIGTERM and SIGKILL when the context ends; ≤ 0: SIGKILL at once */
} weir_command;

/* A child. The caller's memory; not to be copied or moved before it has been waited for. */
typedef struct weir_process {
    int pid;                  /* to be read; names the child until weir_process_wait has returned 0 */
    int pidfd_;
    int status_;              /* once it has ended; or -errno, if lost_ */
    bool ended_, lost_, group_;
    weir_mutex lock_;
} weir_process;

/*
 * Start a child. Every child must be waited for, or it stays as a zombie, with a descriptor. 0, once the program runs in it; else there is no
 * child: -ENOENT, -EACCES, -ENOEXEC, -E2BIG and others of execve(2), chdir(2) and setpgid(2), negated; -EBADF: in, out or err is not open;
 * -EAGAIN: too many processes; -EMFILE, -ENFILE; -ENOMEM; -EINVAL: no argv[0], or other flags.
 * Blocks (as file calls do: file.h); cancellable, but not once the child is being made: -ECANCELED, -ETIMEDOUT: none was.
 * Go: Cmd.Start.
 */
WEIR_API_ WEIR_MUST_USE_ int weir_process_start(const weir_command *c, weir_process *p);

/*
 * Wait until it has ended. *status (or NULL): ≥ 0: what it exited with; < 0: the number of the signal that killed it, negated. 0, also to
 * several who wait, and again after; -ECHILD: another part of the program has taken the status (wait(), or SIGCHLD is ignored), the
 * child has ended all the same; -EINVAL: was never started; -ECANCELED, -ETIMEDOUT: it runs on, and is still to be waited for; -ENOMEM, -ENOSPC:
 * likewise; -EPERM: no runtime is running. Blocks; cancellable. On kernels before 5.4 it looks now and then.
 * Go: Cmd.Wait, which also waits for copying.
 */
WEIR_API_ WEIR_MUST_USE_ int weir_process_wait(weir_process *p, int *status);

/*
 * Send it a signal; with WEIR_PROCESS_GROUP, to its whole group. Never to another process: 0; -ESRCH: it has been waited for (one that has
 * ended and has not, takes it and nothing happens); -EINVAL: no such signal, or never started; -EPERM: it runs as somebody else by now.
 * May be called while others wait. Does not block. Go: Process.Signal.
 */
WEIR_API_ int weir_process_kill(weir_process *p, int signo);

/*
 * Start a child and wait for it. When the context ends first, the child (its group, if it has one) is sent SIGKILL; or SIGTERM, and
 * after c->grace SIGKILL. In any case it has ended, and nothing is left of it, when this returns: 0 and *status as weir_process_wait;
 * or the errors of weir_process_start; -ECANCELED, -ETIMEDOUT: the context ended (*status is set if there was a child); -ECHILD,
 * -ENOMEM, -ENOSPC: as weir_process_wait, but the child has been killed; -EPERM: no runtime is running, nothing was started. Blocks;
 * cancellable, which takes as long as the child takes to die. Go: exec.CommandContext(…).Run; grace is Cmd.WaitDelay.
 */
WEIR_API_ WEIR_MUST_USE_ int weir_process_run(const weir_command *c, int *status);

WEIR_END_

#endif
