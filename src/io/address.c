/*
 * Addresses: from text, to text, of sockets. Nothing here blocks but the look-up of names, which is in lookup.c.
 */
#include "io/net.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

_Static_assert(sizeof(struct sockaddr_storage) <= sizeof(((weir_address *)0)->bytes), "every address fits");

/* The bytes are read and written through memcpy: whoever has a weir_address has no object of these types. */
static void set(weir_address *a, const void *sockaddr, size_t length) {
    memset(a, 0, sizeof *a);
    memcpy(a->bytes, sockaddr, length);
    a->length = (unsigned)length;
}

int wr_address_family(const weir_address *a) {
    sa_family_t family = AF_UNSPEC;
    if (a->length >= offsetof(struct sockaddr, sa_family) + sizeof family)
        memcpy(&family, a->bytes + offsetof(struct sockaddr, sa_family), sizeof family);
    return family;
}

void wr_address_set_port(weir_address *a, unsigned port) {
    in_port_t p = htons((uint16_t)port);
    size_t at = wr_address_family(a) == AF_INET ? offsetof(struct sockaddr_in, sin_port) : offsetof(struct sockaddr_in6, sin6_port);
    memcpy(a->bytes + at, &p, sizeof p);
}

static void set_ipv4(weir_address *a, in_addr_t host) {
    struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(host) };
    set(a, &in, sizeof in);
}
static void set_ipv6(weir_address *a, const struct in6_addr *host) {
    struct sockaddr_in6 in = { .sin6_family = AF_INET6, .sin6_addr = *host };
    set(a, &in, sizeof in);
}

/* ---- From text ------------------------------------------------------------------------------------- */

/* Of an interface: its name, or its number. 0: none. */
static unsigned zone_of(const char *text) {
    unsigned zone = if_nametoindex(text);
    if (zone) return zone;
    char *end;
    unsigned long n = text[0] >= '0' && text[0] <= '9' ? strtoul(text, &end, 10) : 0;
    return n && n <= UINT32_MAX && !*end ? (unsigned)n : 0;
}

bool wr_address_parse(const char *host, weir_address *out) {
    struct sockaddr_in in = { .sin_family = AF_INET };
    if (inet_pton(AF_INET, host, &in.sin_addr) == 1) {
        set(out, &in, sizeof in);
        return true;
    }
    struct sockaddr_in6 in6 = { .sin6_family = AF_INET6 };
    char digits[INET6_ADDRSTRLEN];
    size_t n = strcspn(host, "%");
    if (n >= sizeof digits) return false;
    memcpy(digits, host, n);
    digits[n] = 0;
    if (inet_pton(AF_INET6, digits, &in6.sin6_addr) != 1) return false;
    if (host[n] && !(in6.sin6_scope_id = zone_of(host + n + 1))) return false;
    set(out, &in6, sizeof in6);
    return true;
}

int wr_network_of(const char *network, struct wr_network *out) {
    static const struct {
        const char *name;
        struct wr_network is;
    } all[] = {
        { "tcp", { AF_UNSPEC, SOCK_STREAM } },   { "tcp4", { AF_INET, SOCK_STREAM } },
        { "tcp6", { AF_INET6, SOCK_STREAM } },   { "udp", { AF_UNSPEC, SOCK_DGRAM } },
        { "udp4", { AF_INET, SOCK_DGRAM } },     { "udp6", { AF_INET6, SOCK_DGRAM } },
        { "unix", { AF_UNIX, SOCK_STREAM } },    { "unixgram", { AF_UNIX, SOCK_DGRAM } },
        { "unixpacket", { AF_UNIX, SOCK_SEQPACKET } },
    };
    for (size_t i = 0; network && i < sizeof all / sizeof *all; i++) {
        if (strcmp(network, all[i].name) != 0) continue;
        *out = all[i].is;
        return 0;
    }
    return -EINVAL;
}

static int unix_address(const char *path, bool to_listen, weir_address *out) {
    struct sockaddr_un un = { .sun_family = AF_UNIX };
    size_t n = strlen(path);
    bool abstract = path[0] == '@';
    if (n == 0 || (n == 1 && abstract && !to_listen)) return -EINVAL;
    if (n >= sizeof un.sun_path + abstract) return -ENAMETOOLONG; /* an abstract name has no zero at its end */
    memcpy(un.sun_path, path, n);
    if (abstract) un.sun_path[0] = 0;
    size_t length = offsetof(struct sockaddr_un, sun_path) + n + !abstract;
    set(out, &un, n == 1 && abstract ? sizeof un.sun_family : length); /* nothing but a family: the system gives a name */
    return 1;
}

/* Where the host and the port of "host:port", "[host]:port" are; host is copied to where there is room for sizeof_host. */
static int split(const char *address, char *host, size_t sizeof_host, const char **port) {
    const char *colon = strrchr(address, ':'), *from = address, *to = colon;
    if (!colon) return -EINVAL;
    if (*from == '[') {
        from++;
        if (--to < from || *to != ']') return -EINVAL;
    } else if (memchr(from, ':', (size_t)(to - from))) {
        return -EINVAL; /* an IPv6 address without brackets: where does it end? */
    }
    size_t n = (size_t)(to - from);
    if (n >= sizeof_host) return -ENAMETOOLONG;
    memcpy(host, from, n);
    host[n] = 0;
    if (strpbrk(host, "[]") || (*address == '[' && n == 0)) return -EINVAL;
    *port = colon + 1;
    return 0;
}

/* The number, or -1: must be a name. Services begin with a letter or a digit, so no sign gets through to those who would take it for a number. */
static int port_of(const char *text) {
    unsigned n = 0;
    const char *c = text;
    for (; *c >= '0' && *c <= '9'; c++)
        if ((n = n * 10 + (unsigned)(*c - '0')) > 65535) return -EINVAL;
    if (!*c) return (int)n;
    bool name = (*text >= '0' && *text <= '9') || (*text >= 'a' && *text <= 'z') || (*text >= 'A' && *text <= 'Z');
    return name ? -1 : -EINVAL;
}

/* No host: all addresses, of both families if one socket can do that (the other is for systems without IPv6); or this machine. */
static int no_host(int family, bool to_listen, weir_address *out) {
    int n = 0;
    if (family == AF_INET6 || (to_listen && family == AF_UNSPEC)) set_ipv6(&out[n++], to_listen ? &in6addr_any : &in6addr_loopback);
    if (family != AF_INET6) set_ipv4(&out[n++], to_listen ? INADDR_ANY : INADDR_LOOPBACK);
    return n;
}

int wr_addresses_of(const struct wr_network *net, const char *address, bool to_listen, weir_address *out) {
    if (!address) return -EINVAL;
    if (net->family == AF_UNIX) return unix_address(address, to_listen, out);
    char host[256];
    const char *service;
    int n = split(address, host, sizeof host, &service);
    int port = n < 0 ? n : port_of(service);
    if (port < -1) return port;
    if (port == 0 && !to_listen) return -EINVAL;

    bool literal = *host && wr_address_parse(host, &out[0]);
    if (literal && net->family != AF_UNSPEC && net->family != wr_address_family(&out[0])) return -EAFNOSUPPORT;
    if (literal) n = 1;
    else if (!*host) n = no_host(net->family, to_listen, out);
    else n = wr_lookup(host, port < 0 ? service : NULL, net->family, net->type, out, WR_ADDRESSES);
    if (n > WR_ADDRESSES) n = WR_ADDRESSES;
    if (port < 0 && n > 0 && (literal || !*host)) { /* only the service is to be looked up */
        weir_address found;
        int error = wr_lookup(NULL, service, AF_INET, net->type, &found, 1);
        if (error < 0) return error;
        in_port_t p;
        memcpy(&p, found.bytes + offsetof(struct sockaddr_in, sin_port), sizeof p);
        port = ntohs(p);
    }
    for (int i = 0; i < n && port >= 0; i++) wr_address_set_port(&out[i], (unsigned)port);
    return n;
}

/* ---- To text --------------------------------------------------------------------------------------- */

static int unix_text(const weir_address *a, char *buffer, size_t n) {
    size_t at = offsetof(struct sockaddr_un, sun_path), length = a->length > at ? a->length - at : 0;
    if (length && a->bytes[at]) length = strnlen((const char *)a->bytes + at, length);
    for (size_t i = 0; i < length && i + 1 < n; i++) buffer[i] = a->bytes[at + i] ? (char)a->bytes[at + i] : '@';
    if (n) buffer[length < n ? length : n - 1] = 0;
    return (int)length;
}

static int ipv6_text(const struct sockaddr_in6 *in, char *buffer, size_t n) {
    char host[INET6_ADDRSTRLEN], zone[IF_NAMESIZE + 1] = "";
    unsigned port = ntohs(in->sin6_port);
    if (IN6_IS_ADDR_V4MAPPED(&in->sin6_addr)) {
        inet_ntop(AF_INET, &in->sin6_addr.s6_addr[12], host, sizeof host);
        return snprintf(buffer, n, "%s:%u", host, port);
    }
    inet_ntop(AF_INET6, &in->sin6_addr, host, sizeof host);
    if (in->sin6_scope_id) {
        zone[0] = '%';
        if (!if_indextoname(in->sin6_scope_id, zone + 1)) snprintf(zone + 1, sizeof zone - 1, "%u", in->sin6_scope_id);
    }
    return snprintf(buffer, n, "[%s%s]:%u", host, zone, port);
}

int weir_address_text(const weir_address *a, char *buffer, size_t n) {
    int family = wr_address_family(a);
    if (a->length > sizeof a->bytes) return -EAFNOSUPPORT;
    if (family == AF_UNIX) return unix_text(a, buffer, n);
    if (family == AF_INET && a->length >= sizeof(struct sockaddr_in)) {
        struct sockaddr_in in;
        char host[INET_ADDRSTRLEN];
        memcpy(&in, a->bytes, sizeof in);
        inet_ntop(AF_INET, &in.sin_addr, host, sizeof host);
        return snprintf(buffer, n, "%s:%u", host, ntohs(in.sin_port));
    }
    if (family == AF_INET6 && a->length >= sizeof(struct sockaddr_in6)) {
        struct sockaddr_in6 in;
        memcpy(&in, a->bytes, sizeof in);
        return ipv6_text(&in, buffer, n);
    }
    return -EAFNOSUPPORT;
}

/* ---- Of sockets ------------------------------------------------------------------------------------ */

static int address_by(int (*get)(int, struct sockaddr *, socklen_t *), int fd, weir_address *a) {
    socklen_t length = sizeof a->bytes;
    memset(a, 0, sizeof *a);
    if (get(fd, (struct sockaddr *)a->bytes, &length) < 0) return -errno;
    a->length = length;
    return 0;
}

int weir_local_address(int fd, weir_address *a) { return address_by(getsockname, fd, a); }
int weir_peer_address(int fd, weir_address *a) { return address_by(getpeername, fd, a); }
