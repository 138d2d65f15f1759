/*
 * Signals of the operating system, as elements of channels. Go: package os/signal.
 *
 *     int_chan stop = weir_make(int_chan, 1);
 *     if (weir_signal_notify(stop, SIGINT, SIGTERM)) …
 *     int signo;
 *     if (weir_recv(stop, &signo) == 0) …               // or an arm of a select
 *     weir_signal_stop(stop);
 */
#ifndef WEIR_SIGNAL_H
#define WEIR_SIGNAL_H

WEIR_BEGIN_

/* For the macros, and for bindings: n signals, to a channel of int. */
WEIR_API_ WEIR_MUST_USE_ int weir_signal_notify_(weir_chan *ch, const int *signals, size_t n);
WEIR_API_ void weir_signal_stop_(weir_chan *ch);

WEIR_END_

/*
 * int weir_signal_notify(ch, signals…): from now on each of these signals that comes to the process is sent to ch, a channel of int, as its
 * number, in place of what it would have done. Sending waits for nobody: what ch has no room for is dropped, so give it room (1 is
 * enough for one signal). Signals of one number that come faster than they are sent count as one, as everywhere. One channel may
 * get many signals, also by several calls, and one signal go to many channels. A closed channel gets nothing.
 *
 * Until weir_signal_stop, or the runtime stops, the channel is retained, whoever waits on it is not leaked, and the program is not
 * deadlocked, for a signal may yet come. A signal that every thread blocks does not come. What weir_process_start starts
 * does not inherit any of it.
 *
 * 0. -EINVAL, and nothing has changed: a nil channel, one of other elements, no signals, or one that cannot be had: none of that
 * number, SIGKILL, SIGSTOP, those of the C library, and those that weir needs: SIGURG, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP.
 * (SIGQUIT can, and writes no stacks meanwhile.) -ENOMEM, -EMFILE, -ENFILE; -EPERM: no runtime is running. Does not block.
 * Go: signal.Notify, which takes all signals where none is named.
 *
 * void weir_signal_stop(ch): ch gets no more signals once this has returned. Signals that no channel gets any more have the disposition again
 * that they had before, a handler of the program's or the default one; one that came before has been sent, or has that
 * effect. No effect on a channel that gets none. The count that notify took is released. Does not block. Go: signal.Stop.
 */
#ifndef __cplusplus
#define WEIR_CHECK_INT_CHAN_(ch, what) WEIR_ASSERT_(WEIR_IS_(WEIR_ELEM_(ch), int), what ": not a channel of int")
#define weir_signal_notify(ch, ...)                                                                 \
    (WEIR_CHECK_INT_CHAN_(ch, "weir_signal_notify"),                                                  \
     weir_signal_notify_((ch).chan_, (const int[]){ __VA_ARGS__ }, sizeof((const int[]){ __VA_ARGS__ }) / sizeof(int)))
#define weir_signal_stop(ch) (WEIR_CHECK_INT_CHAN_(ch, "weir_signal_stop"), weir_signal_stop_((ch).chan_))
#else
template <class... S> WEIR_MUST_USE_ int weir_signal_notify(weir_typed_<int> ch, int first, S... more) {
    const int signals[] = { first, more... };
    return weir_signal_notify_(ch.chan_, signals, sizeof signals / sizeof *signals);
}
inline void weir_signal_stop(weir_typed_<int> ch) { weir_signal_stop_(ch.chan_); }
#endif

#endif
