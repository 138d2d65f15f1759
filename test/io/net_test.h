/* What the tests of the network share: listeners on this machine, and connections between two descriptors here. */
#ifndef NET_TEST_H
#define NET_TEST_H

#include "test.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

struct text {
    char at[160];
};

static inline struct text local_text(int fd) {
    struct text t;
    weir_address a;
    CHECK_EQ(weir_local_address(fd, &a), 0);
    CHECK_LE(weir_address_text(&a, t.at, sizeof t.at), (int)sizeof t.at - 1);
    return t;
}
static inline struct text peer_text(int fd) {
    struct text t;
    weir_address a;
    CHECK_EQ(weir_peer_address(fd, &a), 0);
    CHECK_LE(weir_address_text(&a, t.at, sizeof t.at), (int)sizeof t.at - 1);
    return t;
}
/* Of this process, in the abstract name space: others may run the same test. */
static inline const char *abstract_name(void) {
    static char name[32];
    snprintf(name, sizeof name, "@weir-test-%d", (int)getpid());
    return name;
}
static inline unsigned port_of(int fd) { return (unsigned)atoi(strrchr(local_text(fd).at, ':') + 1); }

static inline int listen_on(const char *network, const char *address) {
    int fd = weir_listen(network, address);
    if (fd < 0) FAIL("listen on %s %s: %s", network, address, strerror(-fd));
    return fd;
}
static inline int dial_to(const char *network, const char *address) {
    int fd = weir_dial(network, address);
    if (fd < 0) FAIL("dial %s %s: %s", network, address, strerror(-fd));
    return fd;
}

static inline bool has_ipv6(void) {
    int fd = weir_listen("tcp6", "[::1]:0");
    if (fd >= 0) CHECK_EQ(weir_close_fd(fd), 0);
    return fd >= 0;
}

static inline void shut(int fd) { CHECK_EQ(weir_close_fd(fd), 0); }
static inline void reset(int fd) {
    struct linger now = { .l_onoff = 1, .l_linger = 0 };
    CHECK_EQ(setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now), 0);
    shut(fd);
}

/* Both ends of a connection over TCP. */
static inline void tcp_pair(int fds[2]) {
    int listener = listen_on("tcp", "127.0.0.1:0");
    fds[0] = dial_to("tcp", local_text(listener).at);
    fds[1] = weir_accept(listener);
    CHECK_GE(fds[1], 0);
    shut(listener);
}

static inline void say(int fd, const char *text) {
    CHECK_EQ(weir_write_all(fd, text, strlen(text)), (int64_t)strlen(text));
}
#define HEARS(fd, text)                                              \
    do {                                                             \
        char heard_[64] = "";                                        \
        CHECK_EQ(weir_read(fd, heard_, sizeof heard_ - 1), (int64_t)strlen(text)); \
        CHECK_STR(heard_, text);                                     \
    } while (0)

/* A listener that lets nobody in any more: who dials it gets no answer. */
struct deaf {
    int listener, filling[4];
    struct text address;
};
static inline struct deaf deaf_listener(void) {
    struct deaf d;
    d.listener = listen_on("tcp", "127.0.0.1:0");
    CHECK_EQ(listen(d.listener, 0), 0); /* one may wait to be accepted */
    d.address = local_text(d.listener);
    weir_address a;
    CHECK_EQ(weir_local_address(d.listener, &a), 0);
    for (int i = 0; i < 4; i++) {
        d.filling[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        (void)!connect(d.filling[i], (struct sockaddr *)a.bytes, a.length);
    }
    return d;
}
static inline void deaf_close(struct deaf *d) {
    for (int i = 0; i < 4; i++) close(d->filling[i]);
    shut(d->listener);
}

/* How many descriptors are open. */
static inline int open_fds(void) {
    int n = 0;
    for (int fd = 0; fd < 4096; fd++) n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

static inline bool has_poller(void) {
    char path[32], what[32] = "";
    for (int fd = 0; fd < 64; fd++) {
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        if (readlink(path, what, sizeof what - 1) > 0 && strncmp(what, "anon_inode:[eventpoll]", 22) == 0) return true;
    }
    return false;
}
/* The poller has its own, once it has been needed: which a read is too late for whose time is over before it waits. */
static inline int open_fds_with_poller(void) {
    int fds[2];
    CHECK_EQ(weir_pipe(fds), 0);
    for (weir_duration d = WEIR_MILLISECOND; !has_poller(); d *= 2)
        weir_timeout(d) CHECK_EQ(weir_read(fds[0], &(char){ 0 }, 1), -ETIMEDOUT);
    shut(fds[0]), shut(fds[1]);
    return open_fds();
}

/* No number is left beyond the n lowest free ones; until restored. */
static inline struct rlimit numbers_left(int n) {
    struct rlimit before, few;
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
    few = before;
    int fd = 0;
    for (; n > 0 || fcntl(fd, F_GETFD) >= 0; fd++) n -= fcntl(fd, F_GETFD) < 0;
    few.rlim_cur = (rlim_t)fd;
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
    return before;
}

#endif
