/*
 * net: what the files of the network share, and what its tests look at.
 */
#ifndef WR_NET_H
#define WR_NET_H

#include "io/io.h"

#include <sys/socket.h>

#pragma GCC visibility push(hidden)

/* How many addresses of one host are tried. */
#define WR_ADDRESSES WR_IO_POLL_MAX

struct wr_network {
    int family; /* AF_UNIX, AF_INET, AF_INET6; AF_UNSPEC: either of these */
    int type;   /* SOCK_… */
};

/* What "tcp4" and the like mean. 0, -EINVAL. */
int wr_network_of(const char *network, struct wr_network *out);

/* The addresses that an address in text stands for, to listen at or to connect to: how many, 1 … WR_ADDRESSES; or the errors of addresses
 * (net.h), and of wr_lookup. */
int wr_addresses_of(const struct wr_network *net, const char *address, bool to_listen, weir_address *out);

/* host, which is no address unless there is a service to look up as well; service, family and type may be NULL, AF_UNSPEC, 0. As weir_lookup;
 * -EINVAL: no such service. */
int wr_lookup(const char *host, const char *service, int family, int type, weir_address *out, size_t max);

/* An address from its digits, with port 0; false: it is none. */
bool wr_address_parse(const char *host, weir_address *out);
void wr_address_set_port(weir_address *a, unsigned port);
int wr_address_family(const weir_address *a);

/* A socket that weir has made, known to descriptor.c. TCP: with no delay and with keep-alive. */
int wr_socket(int family, int type);

/* A family first, the other, the first again, …, each in its own order; first the family of list[0]. */
void wr_addresses_interleave(weir_address *list, size_t n);
/* Connect to the first of the n ≤ WR_ADDRESSES addresses that lets us, giving each a start of WR_DIAL_PACE. */
#define WR_DIAL_PACE (250 * WEIR_MILLISECOND)
int wr_dial_any(const weir_address *list, size_t n, int type);
/* TCP can do that, if it picks the very port that is dialled. */
bool wr_connected_to_itself(int fd);

#pragma GCC visibility pop
#endif
