/*
 * Names: getaddrinfo, which blocks its thread for as long as it likes, in a goroutine of its own, so that the caller can leave.
 *
 *     caller:     slot;  start look_up;  lock;  done?  else waiter = me;  unlock;  park          … takes the answer, or leaves
 *     look_up:    getaddrinfo;  lock;  done, claim the waiter if there is one;  unlock;  ready;  free the slot
 *
 * Both hold a count on the request, and the last to go frees it, with the answer nobody took. The waiter waits for IO, which the leak
 * proof takes for something that comes from outside: so it does. The answer is given, and the slot freed, by the thread, before it comes back
 * from weir_blocking: where the runtime has stopped it does not come back.
 */
#include "io/net.h"

#include <netdb.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#define AT_ONCE 32
#define STACK ((size_t)1 << 20) /* resolvers have buffers on it, and load modules */

static weir_sem slots; /* reachable from here, so who waits for one is not leaked */

__attribute__((constructor)) static void set_up(void) { (void)weir_sem_init(&slots, AT_ONCE); }

struct request {
    _Atomic int holders;
    struct wr_lock lock;      /* rank SYNC: waiter, done */
    struct wr_wait *waiter;
    bool done;
    int result;               /* how many were found, or -errno; from here on written before done, read after */
    weir_address *found;
    int family, type;
    const char *host, *service; /* in text; NULL: none */
    char text[];
};

static void drop(struct request *r) {
    if (atomic_fetch_sub_explicit(&r->holders, 1, memory_order_acq_rel) > 1) return;
    free(r->found);
    free(r);
}

/* ---- Asking ---------------------------------------------------------------------------------------- */

static int error_of(int eai, int system_error, bool only_service) {
    switch (eai) {
    case EAI_NONAME: return only_service ? -EINVAL : -ENOENT;
    case EAI_SERVICE: return -EINVAL;
#ifdef EAI_NODATA
    case EAI_NODATA:
#endif
#ifdef EAI_ADDRFAMILY
    case EAI_ADDRFAMILY:
#endif
        return -ENOENT;
    case EAI_AGAIN: return -EAGAIN;
    case EAI_MEMORY: return -ENOMEM;
    case EAI_SYSTEM: return system_error ? -system_error : -EIO;
    default: return -EIO;
    }
}

/* Copy what was found, each once: a host may be listed twice. */
static int collect(struct request *r, const struct addrinfo *first) {
    size_t n = 0;
    for (const struct addrinfo *a = first; a; a = a->ai_next) n++;
    r->found = calloc(n ? n : 1, sizeof *r->found);
    if (!r->found) return -ENOMEM;
    n = 0;
    for (const struct addrinfo *a = first; a; a = a->ai_next) {
        if ((a->ai_family != AF_INET && a->ai_family != AF_INET6) || a->ai_addrlen > sizeof r->found[n].bytes) continue;
        weir_address *new = &r->found[n];
        new->length = a->ai_addrlen;
        memcpy(new->bytes, a->ai_addr, a->ai_addrlen);
        size_t same = 0;
        while (same < n && memcmp(&r->found[same], new, sizeof *new) != 0) same++;
        if (same == n) n++;
        else memset(new, 0, sizeof *new);
    }
    return n ? (int)n : -ENOENT;
}

static int ask(struct request *r) {
    struct addrinfo hints = { .ai_family = r->family, .ai_socktype = r->type ? r->type : SOCK_STREAM }, *found = NULL;
    int error = getaddrinfo(r->host, r->service, &hints, &found), system_error = errno;
    if (error) return error_of(error, system_error, !r->host);
    int n = collect(r, found);
    freeaddrinfo(found);
    return n;
}

static void answer(struct request *r) {
    wr_lock(&r->lock, WR_RANK_SYNC);
    r->done = true;
    struct g *g = r->waiter && wr_claim(r->waiter, 1) ? r->waiter->g : NULL;
    wr_unlock(&r->lock, WR_RANK_SYNC);
    if (g) wr_ready(g);
}

static int ask_and_answer(void *arg) {
    struct request *r = arg;
    r->result = ask(r);
    answer(r);
    drop(r);
    return weir_sem_release(&slots, 1);
}

static void look_up(struct request *r) { (void)weir_blocking(ask_and_answer, r); }

/* ---- Waiting --------------------------------------------------------------------------------------- */

static struct request *request_new(const char *host, const char *service, int family, int type) {
    size_t host_size = host ? strlen(host) + 1 : 0, service_size = service ? strlen(service) + 1 : 0;
    struct request *r = calloc(1, sizeof *r + host_size + service_size);
    if (!r) return NULL;
    atomic_init(&r->holders, 2);
    r->family = family;
    r->type = type;
    if (host) r->host = memcpy(r->text, host, host_size);
    if (service) r->service = memcpy(r->text + host_size, service, service_size);
    return r;
}

/* 0: it is done; or how the context ended. */
static int await(struct request *r) {
    struct wr_wait w;
    wr_wait_init(&w, WR_WAIT_IO, NULL);
    wr_lock(&r->lock, WR_RANK_SYNC);
    bool done = r->done;
    if (!done) r->waiter = &w;
    wr_unlock(&r->lock, WR_RANK_SYNC);
    if (done) return 0;
    int why = wr_park(&w);
    wr_lock(&r->lock, WR_RANK_SYNC);
    r->waiter = NULL;
    wr_unlock(&r->lock, WR_RANK_SYNC);
    return why < 0 ? why : 0;
}

int wr_lookup(const char *host, const char *service, int family, int type, weir_address *out, size_t max) {
    if (!wr_sched_running()) return -EPERM;
    int n = wr_io_ended();
    if (!n) n = weir_sem_acquire(&slots, 1);
    if (n) return n;
    struct request *r = request_new(host, service, family, type);
    n = r ? weir_go_stack(STACK, look_up, r) : -ENOMEM;
    if (n) {
        free(r);
        (void)weir_sem_release(&slots, 1);
        return n;
    }
    n = await(r);
    if (!n) n = r->result;
    for (size_t i = 0; n > 0 && i < (size_t)n && i < max; i++) out[i] = r->found[i];
    drop(r);
    return n;
}

int weir_lookup(const char *host, weir_address *out, size_t max) {
    if (!host || !*host) return -EINVAL;
    weir_address literal;
    if (!wr_address_parse(host, &literal)) return wr_lookup(host, NULL, AF_UNSPEC, 0, out, max);
    if (max) *out = literal;
    return 1;
}
