/*
 * Descriptors: read, write, wait, close. They are the system's own, from wherever they come; whoever calls blocks, and not its
 * thread. Go: package os and net's Conn.
 *
 * What holds for all of them
 * - They obey the current context: -ECANCELED, -ETIMEDOUT. A call that returns either has read or written nothing.
 * - Deadlines are the context's: weir_timeout (5 * WEIR_SECOND) { n = weir_read(fd, …); }
 * - No descriptor needs preparing, and none is changed: where one is not O_NONBLOCK (a terminal, a pipe shared with other
 *   programs), weir waits until it is ready and takes no more than it then gives.
 * - Any number of goroutines may wait on one descriptor, readers beside writers. What each call takes or gives is one piece; in
 *   which order goroutines come is open.
 * - weir_close_fd, not close(2), for a descriptor that another goroutine may be using, and for those that weir has made
 *   (weir_accept, weir_dial, weir_pipe, …): it wakes those who wait, and the number is given back only when the last call
 *   that uses it has returned.
 * - A connection that was reset says so (-ECONNRESET) once, as the system has it: to the call that finds it. If that had a byte by then,
 *   and so returns a number, reading gives 0 from then on, as at an end; writing gives -EPIPE, and weir_peer_address -ENOTCONN.
 * - SIGPIPE is never raised: the call returns -EPIPE.
 * - WEIR_POLLER=uring (doc/io.md): a TCP socket that weir has made belongs to weir's calls once weir_read has waited there, as what comes
 *   is taken out of it ahead of the next call: read(2), a library, another process that has a copy would miss those bytes. So it is with a
 *   listener of weir_listen's and weir_accept. Before others take from it, let weir_wait_fd return WEIR_IN and take what it told of by
 *   weir_read, weir_accept; from then on nothing is taken ahead there.
 * - -EPERM: no runtime is running, so nobody could wake the caller (a call that need not wait works all the same).
 * - -EBADF: not open, or closed while the call waited. -ENOMEM: no memory to wait with. -EMFILE, -ENFILE: no
 *   numbers for weir itself, which takes two when somebody waits for the first time (and one more for WEIR_POLLER=uring, when it starts).
 */
#ifndef WEIR_IO_H
#define WEIR_IO_H

WEIR_BEGIN_

/* Read what there is, up to n bytes. The number read, 0 at the end; any error of read(2), negated. A regular file is read by a thread
 * that may block, unless it is in memory. Blocks; cancellable, but for regular files, once the disk has been asked. Go: Read. */
WEIR_API_ WEIR_MUST_USE_ int64_t weir_read(int fd, void *buffer, size_t n);

/* Write what there is room for, up to n bytes: at least 1. The number written; any error of write(2), negated. Blocks; cancellable as
 * weir_read. */
WEIR_API_ WEIR_MUST_USE_ int64_t weir_write(int fd, const void *data, size_t n);

/* Read exactly n bytes: n; or fewer, if the end came, or an error or the context's end after the first byte (the next call tells
 * which); or the error, if nothing was read. Blocks; cancellable. Go: io.ReadFull. */
WEIR_API_ WEIR_MUST_USE_ int64_t weir_read_full(int fd, void *buffer, size_t n);

/* Write all n bytes: n; or fewer, if an error or the context's end came after the first byte (the next call tells which); or the
 * error, if nothing was written. Blocks; cancellable. Go: Write. */
WEIR_API_ WEIR_MUST_USE_ int64_t weir_write_all(int fd, const void *data, size_t n);

/*
 * Wait until fd is ready for one of `events`: WEIR_IN (reading would not block: data, a connection, the end, an error),
 * WEIR_OUT (writing would not), or both. Returns those that it is ready for, > 0. For libraries that do their own reading and writing:
 * unlike the other calls it may be used on descriptors that are closed, and their numbers given away, without weir's knowing, as long as
 * nobody waits on them then. A regular file is always ready. -EINVAL: no events, or others. Blocks; cancellable.
 */
enum { WEIR_IN = 1, WEIR_OUT = 2 };
WEIR_API_ WEIR_MUST_USE_ int weir_wait_fd(int fd, int events);

/* Close fd. Who waits on it is woken with -EBADF, and so is who calls before the last of them has left; then the number
 * is free. 0; -EBADF: not open, or being closed; -EIO and others of close(2). Does not block, but as close(2) does (SO_LINGER); with
 * WEIR_POLLER=uring a listener's may take until the processor's next tick. Not cancellable. Go: Close. */
WEIR_API_ int weir_close_fd(int fd);

/*
 * Copy from `from` to `to`, until the end or max bytes (max < 0: until the end). Returns how many; or fewer, if an error or the context's
 * end came after the first (the next call tells which); or the error, if there was none. Nothing is read ahead: what was not written is
 * still there to be read, after an error or a cancel too, as long as nobody else reads from `from`. But where `from` can neither be looked
 * into nor spliced (a terminal; a pipe, when `to` is a socket in blocking mode), a piece of up to 64 KiB, once read, is written before the
 * call returns, cancelled or not, and an error loses what is left of it. On datagram sockets a message is a piece, and one of no bytes is
 * the end. Files and pipes are moved by the kernel (sendfile, splice). -EINVAL, -ENOMEM, and the errors of weir_read and weir_write.
 * Blocks; cancellable between pieces. Go: io.Copy.
 */
WEIR_API_ WEIR_MUST_USE_ int64_t weir_copy_fd(int to, int from, int64_t max);

/* A pipe: fds[0] to read from, fds[1] to write to; closed on exec. 0, -EMFILE, -ENFILE. Does not block. Go: os.Pipe. */
WEIR_API_ WEIR_MUST_USE_ int weir_pipe(int fds[2]);

WEIR_END_

#endif
