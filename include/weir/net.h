/*
 * The network: listen, accept, dial, look names up, send messages and descriptors. What these calls give are ordinary descriptors, to be
 * read, written, waited on and closed as io.h says, and what holds there of all calls holds here. They are made O_NONBLOCK and closed on
 * exec. Go: package net.
 *
 * Networks and addresses
 *
 *     "tcp", "tcp4", "tcp6"      connections             "host:port"
 *     "udp", "udp4", "udp6"      datagrams               "host:port"
 *     "unix"                     connections             "/a/path", or "@name": of Linux, with no file
 *     "unixgram", "unixpacket"   datagrams; connections that keep the bounds of messages
 *
 * host: an IPv4 address, an IPv6 address in brackets ("[::1]", "[fe80::1%eth0]"), a name to be looked up, or nothing. port: a number,
 * or the name of a service. The 4 and 6 restrict what the host may be, or may turn out to be.
 *
 * Errors of addresses, of weir_listen and weir_dial alike
 * - -EINVAL: a network that is not in the table, an address that is not of its form, NULL.
 * - -EAFNOSUPPORT: the host is an address, but not of the family that the 4 or 6 wants; or the system has no such family.
 * - -ENAMETOOLONG: a path or a host of more characters than there can be.
 * - -ENOENT and others of weir_lookup, for a host that is a name; -ENOENT: for unix, no such path.
 */
#ifndef WEIR_NET_H
#define WEIR_NET_H

struct sockaddr;
struct msghdr;

WEIR_BEGIN_

/* ---- Connections ----------------------------------------------------------------------------------- */

/*
 * A socket that listens at the address; of a datagram network, one that receives there. Returns the descriptor. Go: Listen, ListenPacket.
 * - No host: every address of the machine, with "tcp" and "udp" IPv4 and IPv6 by one socket. ("0.0.0.0" is IPv4 only; in Go it is both.)
 *   A name: one of its addresses, IPv4 if there is one. No port, or 0: a free one, see weir_local_address.
 * - TCP: SO_REUSEADDR is set; so are TCP_NODELAY and keep-alive (after 15 s, each 15 s, 9 times) for connections accepted from
 *   it. The backlog is the system's maximum. UDP: broadcasts may be sent.
 * - unix: a path that exists is -EADDRINUSE, though nobody may listen there any more; and closing does not remove it (in Go it does): the
 *   descriptor may be a copy of one that listens on. Both are for unlink(2). "@": a free name, see weir_local_address.
 * Errors: those of addresses above, and of socket(2) and bind(2): -EADDRINUSE, -EADDRNOTAVAIL, -EACCES, -EMFILE, -ENFILE, … Blocks only to
 * look a name up; cancellable then.
 */
WEIR_API_ WEIR_MUST_USE_ int weir_listen(const char *network, const char *address);

/* The same with flags. WEIR_REUSEPORT: several sockets may listen at one address, and share what comes (SO_REUSEPORT); not
 * for unix. -EINVAL: others. Go: net.ListenConfig. */
enum { WEIR_REUSEPORT = 1 };
WEIR_API_ WEIR_MUST_USE_ int weir_listen_flags(const char *network, const char *address, int flags);

/* The next connection that comes in to fd, which may be any listening socket. Returns its descriptor. A connection that was given up before it
 * was accepted is passed over. -EMFILE, -ENFILE: at once, and it goes on waiting; -EINVAL: does not listen; others of accept(2). Options are
 * the listener's (see weir_listen). Blocks; cancellable. Go: Accept.
 * With WEIR_POLLER=uring connections may have been accepted ahead of the call, 64 and more, on a listener of weir_listen's: they are closed with it.
 * After the listener has been given to another process (weir_send_fd, weir_process_start) none is, but those that are here are for this
 * one: call weir_accept under a short limit until it gives -ETIMEDOUT, then close the listener. */
WEIR_API_ WEIR_MUST_USE_ int weir_accept(int fd);

/*
 * Connect to the address; on a datagram network, make a socket that sends there and receives only from there. Returns the descriptor. Go:
 * Dial.
 * - A name with several addresses (the first 16 count): IPv6 and IPv4 in turn, beginning with the family of the first; the next one is
 *   tried at once when one fails, or 250 ms later; the first that connects is taken (RFC 8305).
 * - No host: this machine.
 * - TCP: TCP_NODELAY, and keep-alive as weir_listen.
 * - unix: where the listener's backlog is full, waits (in Go: EAGAIN).
 * If none connects, the error is that of the first address: -ECONNREFUSED, -ETIMEDOUT (which a deadline gives too), -ENETUNREACH,
 * -EHOSTUNREACH, -EACCES, -EMFILE, …; -EPROTOTYPE: a unix socket of another kind; or those of addresses above. On an error, and when
 * cancelled, no descriptor is left. Blocks; cancellable.
 */
WEIR_API_ WEIR_MUST_USE_ int weir_dial(const char *network, const char *address);

/* ---- Addresses ------------------------------------------------------------------------------------- */

/* A struct sockaddr of any family: (struct sockaddr *)a.bytes, for its first `length` bytes. */
typedef struct weir_address {
    unsigned length;
    unsigned char bytes[128] __attribute__((aligned(8)));
} weir_address;

/* The address as text that weir_dial takes: "127.0.0.1:80", "[::1]:80", "/path", "@name"; "" for a unix socket that has none. As snprintf: writes
 * what there is room for in n bytes, with a zero at the end (n = 0: nothing), and returns the length of the whole. An IPv4 address in the
 * guise of an IPv6 one is written as IPv4. -EAFNOSUPPORT: another family. Does not block. Go: Addr.String. */
WEIR_API_ int weir_address_text(const weir_address *a, char *buffer, size_t n);

/* The socket's own address, that of its peer. 0, -EBADF, -ENOTSOCK; -ENOTCONN: has no peer. Do not block. Go: LocalAddr, RemoteAddr. */
WEIR_API_ WEIR_MUST_USE_ int weir_local_address(int fd, weir_address *a);
WEIR_API_ WEIR_MUST_USE_ int weir_peer_address(int fd, weir_address *a);

/*
 * The addresses of a host, IPv4 and IPv6, the preferred ones first, by the system's own ways (/etc/hosts, DNS, …). Returns how many there
 * are, of which the first `max` are written to out; their port is 0. A host that is an address itself is not looked up. Go: LookupHost.
 *
 * The system's resolver blocks its thread and cannot be stopped. So a goroutine of its own asks it, 32 at once at most; further calls wait for
 * their turn. The caller can be cancelled all the same; the goroutine then ends when the resolver has answered, which nobody sees. Until
 * then it is in weir_count, in dumps (look_up), and in the way of weir_no_leaks.
 *
 * -ENOENT: no such host, or no address. -EAGAIN: the servers did not answer, or cannot now. -EIO: another failure of theirs. -ENOMEM,
 * -EMFILE and others of the system. -EINVAL: host is NULL or empty. -EPERM: no runtime is running. Blocks; cancellable.
 */
WEIR_API_ WEIR_MUST_USE_ int weir_lookup(const char *host, weir_address *out, size_t max);

/* ---- Messages -------------------------------------------------------------------------------------- */

/* recvfrom(2), sendto(2), recvmsg(2), sendmsg(2), on sockets of any kind and mode, with their results and errors, negated. The buffers are the
 * caller's; `from` and `len`, and `to`, may be NULL. With MSG_DONTWAIT in flags they give -EAGAIN where they would wait; MSG_WAITALL does
 * not wait for all (weir_read_full). Block; cancellable. Go: ReadFrom, WriteTo, ReadMsgUnix, WriteMsgUnix. */
WEIR_API_ WEIR_MUST_USE_ int64_t weir_recvfrom(int fd, void *buffer, size_t n, int flags, struct sockaddr *from, unsigned *len);
WEIR_API_ WEIR_MUST_USE_ int64_t weir_sendto(int fd, const void *data, size_t n, int flags, const struct sockaddr *to, unsigned len);
WEIR_API_ WEIR_MUST_USE_ int64_t weir_recvmsg(int fd, struct msghdr *message, int flags);
WEIR_API_ WEIR_MUST_USE_ int64_t weir_sendmsg(int fd, const struct msghdr *message, int flags);

/* Send a copy of the descriptor fd, with one byte of zero, over the unix socket `sock`; fd stays the caller's. 0; -EBADF: either is not open;
 * -EINVAL: not a unix socket; others of sendmsg(2): -EPIPE, -ETOOMANYREFS, … Blocks; cancellable. */
WEIR_API_ WEIR_MUST_USE_ int weir_send_fd(int sock, int fd);

/* Receive the descriptor that came with the next byte, or message, of the unix socket `sock`. Returns it; it is closed on exec, otherwise as it was
 * sent, and the caller's. What came is gone after these too: -EPIPE: the end; -ENOMSG: none came with it; -EMSGSIZE: several, and they have been
 * closed (use weir_recvmsg); -EMFILE: no number is left. Others of recvmsg(2). Blocks; cancellable. */
WEIR_API_ WEIR_MUST_USE_ int weir_recv_fd(int sock);

WEIR_END_

#endif
