/*
 * Dialling: addresses are tried as in RFC 8305, "happy eyeballs", by one goroutine that polls all the attempts. An address that does
 * not answer costs 250 ms, and one that refuses nothing.
 */
#include "io/net.h"

#include <netinet/in.h>
#include <string.h>

void wr_addresses_interleave(weir_address *list, size_t n) {
    weir_address sorted[WR_ADDRESSES];
    size_t at[2] = { 0, 0 }; /* the next of the first family, and of the others */
    int first = n ? wr_address_family(&list[0]) : AF_UNSPEC;
    for (size_t i = 0; i < n; i++) {
        for (int turn = 0; turn < 2; turn++) {
            int side = (int)(i + (size_t)turn) % 2;
            while (at[side] < n && (wr_address_family(&list[at[side]]) == first) != (side == 0)) at[side]++;
            if (at[side] == n) continue; /* no more of them: the other family's turn */
            sorted[i] = list[at[side]++];
            break;
        }
    }
    memcpy(list, sorted, n * sizeof *list);
}

bool wr_connected_to_itself(int fd) {
    weir_address own, peer;
    return weir_local_address(fd, &own) == 0 && weir_peer_address(fd, &peer) == 0 && own.length == peer.length &&
           memcmp(own.bytes, peer.bytes, own.length) == 0;
}

/* ---- The race -------------------------------------------------------------------------------------- */

struct race {
    const weir_address *list;
    size_t n, next;                        /* of them; the next to try */
    int type;
    struct pollfd running[WR_ADDRESSES];   /* attempts */
    size_t address[WR_ADDRESSES];          /* which each is for */
    size_t n_running;
    weir_time pace;                        /* when the next may start, though others run */
    int error;                             /* of the first address */
    int again;                             /* how often we will still connect to ourselves */
};

static void failed(struct race *r, size_t address, int error) {
    if (address == 0) r->error = error;
    r->pace = 0;
}

static void start(struct race *r, size_t address) {
    const weir_address *a = &r->list[address];
    int fd = wr_socket(wr_address_family(a), r->type);
    if (fd < 0) {
        failed(r, address, fd);
    } else if (connect(fd, (const struct sockaddr *)a->bytes, a->length) < 0 && errno != EINPROGRESS && errno != EINTR) {
        int error = -errno;
        (void)weir_close_fd(fd);
        failed(r, address, error);
    } else {
        r->running[r->n_running] = (struct pollfd){ .fd = fd, .events = POLLOUT };
        r->address[r->n_running++] = address;
    }
}

/* The attempt is decided: the descriptor if it is connected, else -1. It runs no more. */
static int finish(struct race *r, size_t i) {
    int fd = r->running[i].fd, error = 0;
    size_t address = r->address[i];
    r->running[i] = r->running[--r->n_running];
    r->address[i] = r->address[r->n_running];
    socklen_t size = sizeof error;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0) error = errno;
    bool itself = !error && r->type == SOCK_STREAM && wr_connected_to_itself(fd);
    if (!error && !itself) return fd;
    struct linger now = { .l_onoff = 1 }; /* without TIME_WAIT, on a port where somebody may yet listen */
    if (itself) (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    (void)weir_close_fd(fd);
    if (itself && r->again-- > 0) start(r, address); /* it will be another port; nobody listens on that one */
    else failed(r, address, itself ? -ECONNREFUSED : -error);
    return -1;
}

static void give_up(struct race *r) {
    while (r->n_running) (void)weir_close_fd(r->running[--r->n_running].fd);
}

int wr_dial_any(const weir_address *list, size_t n, int type) {
    struct race r = { .list = list, .n = n, .type = type, .again = 2 };
    int fd = wr_io_ended();
    if (fd) return fd;
    for (fd = -1; fd < 0;) {
        if (r.next < r.n && (!r.n_running || wr_now() >= r.pace)) {
            r.pace = wr_now() + WR_DIAL_PACE; /* unless it fails */
            start(&r, r.next++);
        }
        if (!r.n_running && r.next == r.n) return r.error;
        if (!r.n_running) continue;
        int ready = wr_io_poll(r.running, r.n_running, r.next < r.n ? r.pace : WR_NEVER);
        if (ready < 0) {
            give_up(&r);
            return ready;
        }
        for (size_t i = r.n_running; i-- > 0 && fd < 0;)
            if (r.running[i].revents) fd = finish(&r, i);
    }
    give_up(&r);
    return fd;
}

/* ---- Unix ------------------------------------------------------------------------------------------ */

/* A full backlog is -EAGAIN at once, and nothing tells when there is room: look again, less and less often. */
static int dial_unix(const weir_address *a, int type) {
    int fd = wr_socket(AF_UNIX, type), error = 0;
    if (fd < 0) return fd;
    for (weir_duration pause = WEIR_MILLISECOND; !(error = wr_io_ended());) {
        if (connect(fd, (const struct sockaddr *)a->bytes, a->length) == 0) return fd;
        error = -errno;
        if (error == -EINTR) continue;
        if (error != -EAGAIN) break;
        error = wr_sched_running() ? weir_sleep(pause) : -EPERM;
        if (error) break;
        if (pause < 32 * WEIR_MILLISECOND) pause *= 2;
    }
    (void)weir_close_fd(fd);
    return error;
}

int weir_dial(const char *network, const char *address) {
    struct wr_network net;
    int error = wr_network_of(network, &net);
    if (error) return error;
    weir_address list[WR_ADDRESSES];
    int n = wr_addresses_of(&net, address, false, list);
    if (n < 0) return n;
    if (net.family == AF_UNIX) return dial_unix(&list[0], net.type);
    wr_addresses_interleave(list, (size_t)n);
    return wr_dial_any(list, (size_t)n, net.type);
}
