/*
 * Signals to channels. The handler sets a bit and writes to an eventfd, which is all that a handler may do; the poller has the eventfd,
 * and its edge, on some worker or on sysmon, sends. So it costs no goroutine and no thread.
 *
 *     handler:  pending |= bit;  write(eventfd);  still wanted?  else take the bit back, and raise it again
 *     edge:     lock;  take what is wanted out of pending;  send each to those who want it;  unlock
 *     stop:     lock;  put the disposition back;  wanted &= ~bit;  deliver as edge does;  forget the channel;  unlock
 *
 * A handler that has begun before stop and sets its bit after: it finds that nobody wants it (both are sequentially consistent: stop finds the
 * bit, or the handler finds that it is not wanted), and the signal has the effect that it would have had. Exactly one of
 * them takes the bit, so a signal is neither lost nor has two effects.
 *
 * A forked child has the handler, too, but neither the goroutines nor an eventfd of its own. There the handler, which knows it by
 * its pid, puts back what was before and raises the signal anew. (No signal comes in before exec to what posix_spawn or
 * weir_process_start starts.)
 */
#include "io/io.h"
#include "chan/chan.h"
#include "trace/trace.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SIGNALS 64
static uint64_t bit_of(int signo) { return (uint64_t)1 << (signo - 1); }

/* One for each channel. Ordinary memory with an ordinary pointer: that is how the leak proof knows that a signal may wake whoever waits. */
struct registration {
    struct registration *next;
    weir_chan *ch;                         /* counted */
    uint64_t signals;
};

static struct wr_lock lock;                /* rank SYNC; guards what follows */
static struct registration *registrations;
static bool running;
static bool polled;                        /* the eventfd is with the poller, for good */

static _Atomic uint64_t pending, wanted;   /* the handler's; wanted is changed under the lock */
static _Atomic int event_fd = -1;          /* written before any handler is installed */
static _Atomic pid_t owner;
static struct sigaction before[SIGNALS + 1];

/* ---- The handler --------------------------------------------------------------------------------------- */

static void send_to_self(int signo) { syscall(SYS_tgkill, getpid(), (pid_t)syscall(SYS_gettid), signo); }

static void on_signal(int signo, siginfo_t *info, void *context) {
    (void)info, (void)context;
    int saved_errno = errno;
    uint64_t bit = bit_of(signo), one = 1;
    if (getpid() != atomic_load(&owner)) {
        sigaction(signo, &before[signo], NULL);
        send_to_self(signo); /* it is blocked until we return */
    } else {
        atomic_fetch_or(&pending, bit);
        if (atomic_load(&wanted) & bit) {
            if (write(atomic_load(&event_fd), &one, sizeof one) < 0) {} /* full: there is an edge to come */
        } else if (atomic_fetch_and(&pending, ~bit) & bit) {
            send_to_self(signo);
        }
    }
    errno = saved_errno;
}

/* ---- Delivery ------------------------------------------------------------------------------------------ */

/* Lock held. Only those of `mask`: the others are their handlers' to take back. */
static void deliver(uint64_t mask, struct wr_batch *ready) {
    uint64_t bits = atomic_fetch_and(&pending, ~mask) & mask;
    for (int signo = 1; bits >> (signo - 1) && signo <= SIGNALS; signo++) {
        if (!(bits & bit_of(signo))) continue;
        for (struct registration *r = registrations; r; r = r->next) {
            if (!(r->signals & bit_of(signo))) continue;
            struct g *woken;
            wr_lock(&r->ch->lock, WR_RANK_CHAN);
            (void)wr_chan_send_now(r->ch, &signo, &woken); /* closed, or no room: dropped */
            wr_unlock(&r->ch->lock, WR_RANK_CHAN);
            if (woken) wr_batch_add(ready, woken);
        }
    }
}

static void on_edge(struct wr_source *s, unsigned edges, struct wr_batch *ready) {
    uint64_t writes;
    (void)s, (void)edges;
    if (read(atomic_load(&event_fd), &writes, sizeof writes) < 0) {} /* whoever comes later finds it empty, and is an edge anew */
    wr_lock(&lock, WR_RANK_SYNC);
    deliver(atomic_load(&wanted), ready);
    wr_unlock(&lock, WR_RANK_SYNC);
}

/* ---- Registering --------------------------------------------------------------------------------------- */

static bool can_be_had(int signo) {
    static const int others[] = { SIGKILL, SIGSTOP, SIGURG, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP };
    if (signo < 1 || signo > SIGNALS || (signo > 31 && signo < SIGRTMIN)) return false;
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        if (signo == others[i]) return false;
    return true;
}

/* Lock held. */
static int see_to_poller(void) {
    static struct wr_source source = { on_edge };
    if (polled) return 0;
    int fd = atomic_load(&event_fd);
    if (fd < 0) {
        fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (fd < 0) return -errno;
        atomic_store(&event_fd, fd);
    }
    int error = wr_poll_add(fd, &source);
    polled = !error;
    return error;
}

/* Lock held; both. */
static void begin(uint64_t bits) {
    for (int signo = 1; signo <= SIGNALS; signo++) {
        if (!(bits & bit_of(signo)) || (atomic_load(&wanted) & bit_of(signo))) continue;
        atomic_fetch_or(&wanted, bit_of(signo));
        (void)wr_signal_install(signo, on_signal, &before[signo], true);
    }
}
static void end(uint64_t bits) {
    for (int signo = 1; signo <= SIGNALS; signo++) {
        if (!(bits & atomic_load(&wanted) & bit_of(signo))) continue;
        wr_signal_uninstall(signo, on_signal, &before[signo]);
        atomic_fetch_and(&wanted, ~bit_of(signo));
    }
}

int weir_signal_notify_(weir_chan *ch, const int *signals, size_t n) {
    uint64_t bits = 0;
    wr_chan_check(ch, "weir_signal_notify");
    if (!ch || ch->elem_size != sizeof(int) || n == 0) return -EINVAL;
    for (size_t i = 0; i < n; i++) {
        if (!can_be_had(signals[i])) return -EINVAL;
        bits |= bit_of(signals[i]);
    }
    struct registration *new = malloc(sizeof *new), *r;
    if (!new) return -ENOMEM;
    wr_lock(&lock, WR_RANK_SYNC);
    int error = running ? see_to_poller() : -EPERM;
    for (r = registrations; r && r->ch != ch; r = r->next) {}
    if (!error) {
        if (!registrations) wr_poll_begin();
        if (!r) {
            *new = (struct registration){ registrations, weir_chan_retain(ch), 0 };
            registrations = r = new;
            new = NULL;
        }
        r->signals |= bits;
        atomic_store(&owner, getpid());
        begin(bits);
    }
    wr_unlock(&lock, WR_RANK_SYNC);
    free(new);
    return error;
}

/* Take off all registrations of ch, or of anybody (NULL). */
static void stop(const weir_chan *ch, bool for_good) {
    struct wr_batch ready = { 0 };
    struct registration *gone = NULL;
    uint64_t left = 0;
    wr_lock(&lock, WR_RANK_SYNC);
    if (for_good) running = false;
    for (struct registration *r = registrations; r; r = r->next)
        if (ch && r->ch != ch) left |= r->signals;
    end(~left);
    deliver(~left, &ready);
    for (struct registration **at = &registrations; *at;) {
        struct registration *r = *at;
        if (ch && r->ch != ch) {
            at = &r->next;
            continue;
        }
        *at = r->next;
        r->next = gone;
        gone = r;
    }
    if (gone && !registrations) wr_poll_end();
    wr_unlock(&lock, WR_RANK_SYNC);
    if (ready.n) wr_ready_all(&ready);
    for (struct registration *r = gone; r; r = gone) {
        gone = r->next;
        weir_chan_release(r->ch);
        explicit_bzero(r, sizeof *r); /* nor does the proof find it in what is free */
        free(r);
    }
}

void weir_signal_stop_(weir_chan *ch) {
    if (ch) stop(ch, false);
}

void wr_signals_start(void) {
    wr_lock(&lock, WR_RANK_SYNC);
    running = true;
    wr_unlock(&lock, WR_RANK_SYNC);
}

void wr_signals_stop(void) { stop(NULL, true); }
