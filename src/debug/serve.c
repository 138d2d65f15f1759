/*
 * The public calls: from an address to a server that runs, once a process; and what a forked child makes of it.
 *
 * `serving.lock` is held while a server is being started.
 */
#include "debug/debug.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

const struct wr_inside *wr_inside;

extern __typeof__(weir_inside_) weir_inside_ __attribute__((weak));

static struct {
    pthread_mutex_t lock;
    bool on, forks_watched;
    _Atomic int port;
} serving = { .lock = PTHREAD_MUTEX_INITIALIZER };

void wr_say(const char *fmt, ...) {
    char text[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    fprintf(stderr, "weir: %s\n", text);
}

int64_t wr_monotonic(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* ---- The core ----------------------------------------------------------------------------------------------- */

/* For the core, which may have loaded us into a program where its symbols are not to be found. 0, -ENOTSUP. */
WEIR_API_ int weir_debug_attach_(const struct wr_inside *inside);
int weir_debug_attach_(const struct wr_inside *inside) {
    if (!inside || inside->version != WR_INSIDE_VERSION || inside->size < sizeof *inside) return -ENOTSUP;
    wr_inside = inside;
    return 0;
}

static bool attached(void) { return wr_inside || (weir_inside_ && weir_debug_attach_(weir_inside_()) == 0); }

/* ---- The address -------------------------------------------------------------------------------------------- */

static bool is_loopback(const struct sockaddr *a) {
    if (a->sa_family == AF_INET)
        return ntohl(((const struct sockaddr_in *)(const void *)a)->sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
    return a->sa_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)(const void *)a)->sin6_addr);
}

/* A socket that listens, or -errno. */
static int listen_at(const struct addrinfo *a) {
    int s = socket(a->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), yes = 1, no = 0;
    if (s < 0) return -errno;
    setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (a->ai_family == AF_INET6) setsockopt(s, IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof no);
    if (bind(s, a->ai_addr, a->ai_addrlen) == 0 && listen(s, 128) == 0) return s;
    int e = -errno;
    close(s);
    return e;
}

static int listen_on(const char *address) {
    char host[256], port_text[16];
    uint16_t port;
    struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV }, *found;
    if (!wr_parse_address(address, host, sizeof host, &port)) return -EINVAL;
    if (!*host) {
        snprintf(host, sizeof host, "127.0.0.1");
        wr_say("the debug server takes %s as 127.0.0.1%s; name an address, 0.0.0.0 for all, if other machines are to reach it", address,
               address);
    }
    snprintf(port_text, sizeof port_text, "%u", port);
    int e = getaddrinfo(host, port_text, &hints, &found);
    if (e) return e == EAI_MEMORY ? -ENOMEM : -ENOENT;
    int s = listen_at(found);
    if (s >= 0 && !is_loopback(found->ai_addr))
        wr_say("the debug server at %s can be reached from other machines, and shows stacks and the command line to whoever asks", address);
    freeaddrinfo(found);
    return s;
}

static int port_of(int socket) {
    struct sockaddr_storage at;
    socklen_t n = sizeof at;
    if (getsockname(socket, (struct sockaddr *)&at, &n)) return 0;
    return ntohs(at.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&at)->sin6_port : ((struct sockaddr_in *)&at)->sin_port);
}

/* ---- The calls ---------------------------------------------------------------------------------------------- */

static void in_forked_child(void) {
    pthread_mutex_init(&serving.lock, NULL);
    serving.on = false;
    serving.port = 0;
    wr_loop_after_fork();
    wr_work_after_fork();
}

struct start {
    const char *address;
    int error;
};

/* On a large stack: a resolver may want much of it. */
static void start(void *arg) {
    struct start *s = arg;
    if (!serving.forks_watched && pthread_atfork(NULL, NULL, in_forked_child)) {
        s->error = -ENOMEM;
        return;
    }
    serving.forks_watched = true;
    int listener = listen_on(s->address);
    s->error = listener < 0 ? listener : wr_loop_start(listener);
    if (listener >= 0 && s->error) close(listener);
    if (s->error) return;
    serving.port = port_of(listener);
    serving.on = true;
}

int weir_debug_serve(const char *address) {
    struct start s = { address ? address : "127.0.0.1:6060", -EBUSY };
    if (!attached()) return -ENOTSUP;
    int saved_errno = errno, e = 0;
    pthread_mutex_lock(&serving.lock);
    if (!serving.on) e = wr_inside->on_large_stack(start, &s);
    pthread_mutex_unlock(&serving.lock);
    errno = saved_errno;
    return e ? e : s.error;
}

int weir_debug_port(void) { return serving.port; }
