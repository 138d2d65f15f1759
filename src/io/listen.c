/*
 * Sockets and listening.
 */
#include "io/net.h"

#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>

/* ---- Sockets --------------------------------------------------------------------------------------- */

static int set(int fd, int level, int option, int value) {
    return setsockopt(fd, level, option, &value, sizeof value) < 0 ? -errno : 0;
}

/* Go's choice. They are refinements: a system that lacks one is no reason to fail. */
static void set_tcp_options(int fd) {
    (void)set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    (void)set(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    (void)set(fd, IPPROTO_TCP, TCP_KEEPIDLE, 15);
    (void)set(fd, IPPROTO_TCP, TCP_KEEPINTVL, 15);
    (void)set(fd, IPPROTO_TCP, TCP_KEEPCNT, 9);
}

int wr_socket(int family, int type) {
    int fd = socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return -errno;
    bool internet = family != AF_UNIX, tcp = internet && type == SOCK_STREAM;
    if (tcp) set_tcp_options(fd);
    else if (internet) (void)set(fd, SOL_SOCKET, SO_BROADCAST, 1);
    return wr_io_made(fd, tcp);
}

/* ---- Listening ------------------------------------------------------------------------------------- */

static int listen_at(const weir_address *a, const struct wr_network *net, int flags) {
    int family = wr_address_family(a), fd = wr_socket(family, net->type);
    if (fd < 0) return fd;
    int error = 0;
    if (family == AF_INET6) error = set(fd, IPPROTO_IPV6, IPV6_V6ONLY, net->family == AF_INET6);
    if (!error && family != AF_UNIX && net->type == SOCK_STREAM) error = set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    if (!error && (flags & WEIR_REUSEPORT)) error = set(fd, SOL_SOCKET, SO_REUSEPORT, 1);
    if (!error && bind(fd, (const struct sockaddr *)a->bytes, a->length) < 0) error = -errno;
    if (!error && net->type != SOCK_DGRAM && listen(fd, INT_MAX) < 0) error = -errno; /* the kernel knows its maximum */
    if (!error && net->type != SOCK_DGRAM) wr_io_listens(fd);
    if (!error) return fd;
    (void)weir_close_fd(fd);
    return error;
}

int weir_listen_flags(const char *network, const char *address, int flags) {
    struct wr_network net;
    int error = wr_network_of(network, &net);
    if (error) return error;
    if ((flags & ~WEIR_REUSEPORT) || (flags && net.family == AF_UNIX)) return -EINVAL;
    weir_address list[WR_ADDRESSES];
    int n = wr_addresses_of(&net, address, true, list), chosen = 0;
    if (n < 0) return n;
    bool every = *address == ':';
    if (!every) /* a name; one address must do, and IPv4 is what is found by most */
        while (chosen < n && wr_address_family(&list[chosen]) != AF_INET) chosen++;
    int fd = listen_at(&list[chosen < n ? chosen : 0], &net, flags);
    return every && n > 1 && (fd == -EAFNOSUPPORT || fd == -EADDRNOTAVAIL) ? listen_at(&list[1], &net, flags) : fd; /* no IPv6 here */
}

int weir_listen(const char *network, const char *address) { return weir_listen_flags(network, address, 0); }
