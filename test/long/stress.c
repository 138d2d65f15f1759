/*
 * Everything at once, for long: games that run side by side, round after round, each with its own account to balance at the
 * end of a round. Nothing is sent twice or lost, unless its send was cancelled; what a lock guards adds up; a scope's
 * children are gone when it is closed; a timer ticks or was stopped. A thread that knows nothing of weir watches that
 * every game gets on, and has all goroutines dumped if one does not.
 *
 * WEIR_LONG_SECONDS: how long in all. WEIR_STRESS_SEED: for the games, and for the delays of a build with -Dstress=true, in
 * which stress_delayed.sh runs this. The seed is printed when something fails.
 */
#include "soak.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

typedef WEIR_CHAN(int) int_chan;
enum { HANGS_AFTER = 60 }; /* seconds without a finished round, which takes a fraction of one */

__attribute__((constructor)) static void before_all(void) { take_longer(3); }

static _Atomic bool over;

static unsigned random_below(uint64_t *seed, unsigned n) {
    *seed = *seed * 6364136223846793005ull + 1442695040888963407ull;
    return (unsigned)(*seed >> 33) % n;
}
/* Now and then, differently long. */
static void dally(uint64_t *seed) {
    unsigned r = random_below(seed, 64);
    if (r < 8) weir_yield();
    else if (r == 8) CHECK_EQ(weir_sleep(random_below(seed, 50000)), 0);
}
static weir_duration soon(uint64_t *seed) { return random_below(seed, 300) * WEIR_MICROSECOND; }

/* ---- Channels: each element arrives once, unless its send failed ----------------------------------------------------- */

enum { SENDERS = 4, RECEIVERS = 4, ELEMENTS = 100, TOTAL = SENDERS * ELEMENTS };
struct traffic {
    int_chan a, b;               /* one of them unbuffered */
    weir_wg senders, receivers;
    _Atomic char sent[TOTAL];    /* 1: the send succeeded */
    _Atomic char arrived[TOTAL];
};

static int send_some_way(struct traffic *t, uint64_t *seed, int v) {
    int e = -ECANCELED;
    switch (random_below(seed, 5)) {
    case 0: return weir_send(t->a, v);
    case 1: return weir_try_send(t->b, v);
    case 2: e = weir_select(weir_on_send(t->a, v), weir_on_send(t->b, v)); break;
    case 3:
        e = weir_select(weir_on_send(t->a, v), weir_on_after(soon(seed)), weir_on_send(t->b, v));
        if (e == 1) return -EAGAIN;
        break;
    case 4:
        weir_timeout(soon(seed)) e = random_below(seed, 2) ? weir_send(t->b, v) : weir_select(weir_on_send(t->b, v), weir_on_send(t->a, v));
        break;
    }
    return e < 0 ? e : 0;
}
static void sender(struct traffic *t, int first, uint64_t seed) {
    for (int v = first; v < first + ELEMENTS; v++) {
        if (send_some_way(t, &seed, v) == 0) t->sent[v] = 1;
        dally(&seed);
    }
}
/* 0: one came. 1: none. -EPIPE: that channel is closed and drained. */
static int receive_some_way(struct traffic *t, uint64_t *seed, int_chan *from_a, int_chan *from_b, int *v) {
    int_chan *arms[2] = { from_a, from_b };
    int arm = -1, e;
    bool ok = true;
    switch (random_below(seed, 4)) {
    case 0: arm = weir_select(weir_on_recv_ok(*from_a, v, &ok), weir_on_recv_ok(*from_b, v, &ok)); break;
    case 1: arm = weir_select(weir_on_recv_ok(*from_a, v, &ok), weir_on_recv_ok(*from_b, v, &ok), weir_on_after(soon(seed))); break;
    case 2: arm = weir_select(weir_on_recv_ok(*from_a, v, &ok), weir_on_recv_ok(*from_b, v, &ok), weir_on_default()); break;
    case 3:
        weir_timeout(soon(seed)) {
            arm = (int)random_below(seed, 2);
            e = weir_recv(*arms[arm], v);
            ok = e == 0;
            if (e != 0 && e != -EPIPE) arm = e;
        }
        break;
    }
    if (arm < 0 || arm > 1) return 1;
    if (!ok) *arms[arm] = (int_chan){ 0 };
    return !ok;
}
static void receiver(struct traffic *t, uint64_t seed) {
    int_chan a = t->a, b = t->b;
    while (weir_chan_of(a) || weir_chan_of(b)) {
        int v = -1;
        if (receive_some_way(t, &seed, &a, &b, &v) == 0) {
            CHECK(v >= 0 && v < TOTAL);
            CHECK_EQ(atomic_exchange(&t->arrived[v], 1), 0);
        }
        dally(&seed);
    }
}
static void play_traffic(uint64_t *seed) {
    struct traffic *t = calloc(1, sizeof *t);
    CHECK(t);
    t->a = weir_make(int_chan, 0), t->b = weir_make(int_chan, random_below(seed, 4));
    for (int i = 0; i < RECEIVERS; i++) CHECK_EQ(weir_wg_go(&t->receivers, receiver, t, *seed + (unsigned)i), 0);
    for (int i = 0; i < SENDERS; i++) CHECK_EQ(weir_wg_go(&t->senders, sender, t, i * ELEMENTS, *seed ^ (unsigned)i), 0);
    CHECK_EQ(weir_wg_wait(&t->senders), 0);
    weir_close(t->a), weir_close(t->b);
    CHECK_EQ(weir_wg_wait(&t->receivers), 0);
    for (int v = 0; v < TOTAL; v++) CHECK_EQ(t->arrived[v], t->sent[v]);
    CHECK_EQ(weir_len(t->a) + weir_len(t->b), 0);
    weir_release(t->a), weir_release(t->b);
    free(t);
}

/* ---- Locks: what they guard adds up ------------------------------------------------------------------------------------- */

enum { TELLERS = 8, TRANSFERS = 60 };
struct bank {
    weir_mutex m;
    weir_rwmutex rw;
    weir_cond filled;
    weir_sem counters;
    weir_once opened;
    int accounts[4], stock, opened_times, left; /* stock: m; accounts: rw */
    _Atomic int at_counters;
    weir_wg tellers;
};
static void open_bank(void *arg) {
    struct bank *b = arg;
    b->accounts[0] = 1000;
    b->opened_times++;
}
static int money(struct bank *b) { return b->accounts[0] + b->accounts[1] + b->accounts[2] + b->accounts[3]; }
static void teller(struct bank *b, bool fills, uint64_t seed) {
    CHECK_EQ(weir_once_do(&b->opened, open_bank, b), 0);
    for (int i = 0; i < TRANSFERS; i++) {
        unsigned from = random_below(&seed, 4), to = random_below(&seed, 4);
        CHECK_EQ(weir_rwmutex_lock(&b->rw), 0);
        b->accounts[from] -= 5;
        dally(&seed);
        b->accounts[to] += 5;
        CHECK_EQ(weir_rwmutex_unlock(&b->rw), 0);
        CHECK_EQ(weir_rwmutex_rlock(&b->rw), 0);
        CHECK_EQ(money(b), 1000);
        dally(&seed);
        CHECK_EQ(weir_rwmutex_runlock(&b->rw), 0);

        int64_t want = 1 + random_below(&seed, 3);
        int e = -ECANCELED;
        if (random_below(&seed, 2)) e = weir_sem_acquire(&b->counters, want);
        else weir_timeout(soon(&seed)) e = weir_sem_acquire(&b->counters, want);
        if (e == 0) {
            CHECK_LE(atomic_fetch_add(&b->at_counters, (int)want) + (int)want, 3);
            dally(&seed);
            b->at_counters -= (int)want;
            CHECK_EQ(weir_sem_release(&b->counters, want), 0);
        } else {
            CHECK(e == -ETIMEDOUT);
        }

        weir_locked(&b->m) {
            if (fills) {
                b->stock++;
                if (random_below(&seed, 2)) weir_cond_signal(&b->filled);
                else weir_cond_broadcast(&b->filled);
            } else {
                while (b->stock == 0) {
                    weir_timeout(random_below(&seed, 2) ? WEIR_HOUR : soon(&seed)) e = weir_cond_wait(&b->filled, &b->m);
                    CHECK(e == 0 || e == -ETIMEDOUT);
                }
                b->stock--;
            }
        }
        if (weir_mutex_try_lock(&b->m) == 0) weir_mutex_unlock(&b->m);
        dally(&seed);
    }
}
static void play_bank(uint64_t *seed) {
    struct bank *b = calloc(1, sizeof *b);
    CHECK(b);
    CHECK_EQ(weir_sem_init(&b->counters, 3), 0);
    for (int i = 0; i < TELLERS; i++) CHECK_EQ(weir_wg_go(&b->tellers, teller, b, i % 2 == 0, *seed + (unsigned)i), 0);
    CHECK_EQ(weir_wg_wait(&b->tellers), 0);
    CHECK(b->stock == 0 && b->opened_times == 1 && b->at_counters == 0 && money(b) == 1000);
    CHECK_EQ(weir_sem_try_acquire(&b->counters, 3), 0);
    free(b);
}

/* ---- Scopes: their children are gone when they are closed, and the first failure is what wait says --------------------------- */

struct family {
    _Atomic int alive, failed;
};
static int member(struct family *f, int depth, uint64_t seed) {
    int e = 0;
    f->alive++;
    for (int i = 0; i < 3 && !e; i++) {
        if (random_below(&seed, 2)) weir_yield();
        else e = weir_sleep(random_below(&seed, 100000));
    }
    if (!e && depth > 0) {
        struct family mine = { 0, 0 };
        int children = 1 + (int)random_below(&seed, 4), started = 0;
        weir_scoped(s, &e) {
            if (random_below(&seed, 3) == 0) weir_scope_limit(&s, 2);
            if (random_below(&seed, 3) == 0) weir_scope_supervise(&s);
            for (int i = 0; i < children; i++) {
                int started_one = random_below(&seed, 2) ? weir_scope_go(&s, member, &mine, depth - 1, seed + (unsigned)i)
                                                         : weir_scope_try_go(&s, member, &mine, depth - 1, seed + (unsigned)i);
                CHECK(started_one == 0 || started_one == -EAGAIN || started_one == -ECANCELED || started_one == -ETIMEDOUT);
                started += started_one == 0;
            }
            unsigned r = random_below(&seed, 8);
            if (r == 0) weir_scope_cancel(&s);
            if (r == 1) break;
            if (r == 2) weir_timeout(soon(&seed)) (void)weir_scope_wait(&s);
        }
        CHECK_EQ(mine.alive, 0);
        CHECK_LE(mine.failed, started);
        CHECK(e == 0 || mine.failed > 0);
    }
    if (!e && random_below(&seed, 16) == 0) e = -EIO;
    f->failed += e != 0;
    f->alive--;
    return e;
}
static void play_family(uint64_t *seed) {
    struct family all = { 0, 0 };
    weir_scope s;
    CHECK_EQ(weir_scope_open(&s, NULL), 0);
    for (int i = 0; i < 4; i++) (void)weir_scope_go(&s, member, &all, 3, *seed + (unsigned)i);
    int e = weir_scope_wait(&s);
    CHECK_EQ(all.alive, 0);
    CHECK((e == 0) == (all.failed == 0));
    CHECK_EQ(weir_scope_close(&s), e);
}

/* ---- Timers: a tick is never early, and received or taken back but not both ---------------------------------------------------- */

static void call(void *count) { ++*(_Atomic int *)count; }
static void play_timers(uint64_t *seed) {
    weir_timer *t = weir_timer_new(0), *ticker = weir_ticker_new(1 + random_below(seed, 100000));
    weir_time due = 0, when;
    _Atomic int *calls = calloc(1, sizeof *calls);
    int stopped = 0, made = 0;
    bool armed = true;
    CHECK(t && ticker && calls);
    for (int i = 0; i < 150; i++) {
        weir_duration d = random_below(seed, 100) * WEIR_MICROSECOND;
        switch (random_below(seed, 6)) {
        case 0: CHECK_EQ(weir_timer_stop(t), armed), armed = false; break;
        case 1: due = weir_now() + d, CHECK_EQ(weir_timer_reset(t, d), armed), armed = true; break;
        case 2:
            if (!armed) break;
            CHECK_EQ(weir_timer_wait(t, &when), 0);
            CHECK_GE(when, due), CHECK_GE(weir_now(), when);
            armed = false;
            break;
        case 3: {
            int arm = weir_select(weir_on_timer(t), weir_on_after(d), weir_on_timer(ticker));
            CHECK(arm >= 0 && (arm != 0 || armed));
            if (arm == 0) armed = false;
            break;
        }
        case 4: {
            weir_timer *f = weir_after_func(d, call, (void *)calls);
            dally(seed);
            made++;
            stopped += weir_timer_stop(f);
            weir_timer_free(f);
            break;
        }
        case 5: (void)weir_timer_reset(ticker, 1 + random_below(seed, 100000)); break;
        }
        dally(seed);
    }
    weir_timer_free(t), weir_timer_free(ticker);
    while (*calls + stopped < made) weir_yield();
    CHECK_EQ(*calls + stopped, made);
    free((void *)calls);
}

/* ---- Contexts: who waits under one comes back when it ends -------------------------------------------------------------------- */

static int waits(int_chan never, uint64_t seed) {
    int e = 0;
    switch (random_below(&seed, 4)) {
    case 0: e = weir_recv(never, NULL); break;
    case 1: e = weir_select(weir_on_recv(never, NULL), weir_on_send(never, 1)) >= 0 ? 0 : -ECANCELED; break;
    case 2: e = weir_sleep(WEIR_HOUR); break;
    case 3: weir_timeout(WEIR_HOUR) e = weir_send(never, 1); break;
    }
    CHECK(e == -ECANCELED || e == -ETIMEDOUT || e == 0); /* two of the selects may meet */
    return 0;
}
static void play_contexts(uint64_t *seed) {
    int_chan never = weir_make(int_chan, 0);
    weir_ctx *top = weir_ctx_with_cancel(NULL), *below = weir_ctx_with_timeout(top, soon(seed) * 4);
    weir_scope s;
    CHECK_EQ(weir_scope_open(&s, below), 0);
    for (int i = 0; i < 10; i++) (void)weir_scope_go(&s, waits, never, *seed + (unsigned)i);
    if (random_below(seed, 2)) {
        dally(seed);
        weir_ctx_cancel(top);
    }
    CHECK_EQ(weir_wait_closed(weir_ctx_done(below)), 0);
    CHECK(weir_ctx_err(below) != 0);
    (void)weir_scope_wait(&s);
    (void)weir_scope_close(&s);
    weir_ctx_release(below), weir_ctx_release(top);
    weir_release(never);
}

/* ---- Threads of the program's own, threads held, calls that block --------------------------------------------------------------- */

struct visit {
    int_chan to, from;
    uint64_t seed;
    pthread_t thread;
};
static void *visitor(void *arg) {
    struct visit *v = arg;
    for (int i = 0, got; i < 30; i++) {
        CHECK_EQ(weir_send(v->to, i), 0);
        dally(&v->seed);
        CHECK_EQ(weir_recv(v->from, &got), 0);
        CHECK_EQ(got, i + 1);
    }
    weir_close(v->to);
    return NULL;
}
static void answers(struct visit *v, bool holds) {
    if (holds) weir_lock_thread();
    for (int i; weir_recv(v->to, &i) == 0;) CHECK_EQ(weir_send(v->from, i + 1), 0);
    weir_close(v->from);
}
static int join(void *thread) {
    nanosleep(&(struct timespec){ .tv_nsec = 20000 }, NULL);
    return pthread_join(*(pthread_t *)thread, NULL);
}
static void play_visits(uint64_t *seed) {
    struct visit v[3];
    for (int i = 0; i < 3; i++) {
        v[i] = (struct visit){ weir_make(int_chan, 0), weir_make(int_chan, (size_t)i), *seed + (unsigned)i, 0 };
        CHECK_EQ(weir_go(answers, &v[i], i == 1), 0);
        CHECK_EQ(pthread_create(&v[i].thread, NULL, visitor, &v[i]), 0);
    }
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(weir_blocking(join, &v[i].thread), 0);
        CHECK_EQ(weir_wait_closed(v[i].from), 0);
        weir_release(v[i].to), weir_release(v[i].from);
    }
    random_below(seed, 1);
}

/* ---- Idleness: a chain that sleeps most of the time; a wake-up lost in it stops it ------------------------------------------------ */

static void link_of_chain(int_chan in, int_chan out) {
    for (int v; weir_recv(in, &v) == 0;) CHECK_EQ(weir_send(out, v + 1), 0);
    weir_close(out);
    weir_release(in), weir_release(out);
}
static void play_chain(uint64_t *seed) {
    enum { LINKS = 5 };
    int_chan first = weir_make(int_chan, 0), in = first, out = in;
    for (int i = 0; i < LINKS; i++, in = out) {
        out = weir_make(int_chan, random_below(seed, 2));
        CHECK_EQ(weir_go(link_of_chain, in, weir_retain(out)), 0);
        if (i == 0) (void)weir_retain(first);
    }
    for (int i = 0, v; i < 50; i++) {
        CHECK_EQ(weir_send(first, i), 0);
        CHECK_EQ(weir_recv(out, &v), 0);
        CHECK_EQ(v, i + LINKS);
        if (random_below(seed, 4) == 0) CHECK_EQ(weir_sleep(random_below(seed, 200000)), 0);
    }
    weir_close(first);
    CHECK_EQ(weir_wait_closed(out), 0);
    weir_release(first), weir_release(out);
}

/* ---- All of them -------------------------------------------------------------------------------------------------------------- */

static struct {
    const char *name;
    void (*play)(uint64_t *seed);
    _Atomic long rounds;
} games[] = { { "traffic", play_traffic, 0 }, { "bank", play_bank, 0 }, { "family", play_family, 0 }, { "timers", play_timers, 0 },
              { "contexts", play_contexts, 0 }, { "visits", play_visits, 0 }, { "chain", play_chain, 0 } };
enum { GAMES = sizeof games / sizeof games[0], COPIES = 2 };

static _Atomic int players;
static void player(int game, uint64_t seed) {
    while (!over) {
        games[game].play(&seed);
        games[game].rounds++;
    }
    players--;
}

/* Ends the process when a game stands still, or its end does not come. */
static void *watch(void *arg) {
    long before[GAMES] = { 0 };
    int still[GAMES] = { 0 };
    for (int since_over = 0; players > 0;) {
        nanosleep(&(struct timespec){ .tv_sec = 1 }, NULL);
        since_over += over;
        for (int i = 0; i < GAMES; i++) {
            still[i] = !over && games[i].rounds == before[i] ? still[i] + 1 : 0;
            before[i] = games[i].rounds;
            if (still[i] < HANGS_AFTER && since_over < HANGS_AFTER) continue;
            fprintf(stderr, "%s stands still after %ld rounds\n", games[i].name, before[i]);
            alarm(20);
            (void)weir_dump(STDERR_FILENO, 2);
            abort();
        }
    }
    return arg;
}

static uint64_t first_seed;
static int play_all(void *procs) {
    pthread_t watcher;
    weir_procs((int)(intptr_t)procs);
    players = GAMES * COPIES;
    CHECK_EQ(pthread_create(&watcher, NULL, watch, NULL), 0);
    for (int i = 0; i < players; i++) TEST_GO(player, i % GAMES, first_seed + (unsigned)i * 1000003);
    CHECK_EQ(weir_sleep(long_seconds() * WEIR_SECOND / 3), 0);
    over = true;
    TEST_UNTIL(players == 0);
    CHECK_EQ(weir_blocking(join, &watcher), 0);
    TEST_UNTIL(weir_count() == 1);
    return 0;
}
static void stress(int procs) {
    char text[32];
    const char *given = getenv("WEIR_STRESS_SEED");
    first_seed = given ? strtoull(given, NULL, 0) : (uint64_t)weir_now() ^ (uint64_t)getpid() << 40;
    snprintf(text, sizeof text, "%llu", (unsigned long long)first_seed);
    setenv("WEIR_STRESS_SEED", text, 1);
    printf("WEIR_STRESS_SEED=%s\n", text);
    fflush(stdout);
    CHECK_EQ(weir_run(play_all, (void *)(intptr_t)procs), 0);
    for (int i = 0; i < GAMES; i++) {
        printf("%s: %ld rounds\n", games[i].name, games[i].rounds);
        CHECK_GE(games[i].rounds, COPIES);
    }
}
PLAIN_TEST(all_games_on_one_processor) { stress(1); }
PLAIN_TEST(all_games_on_two_processors) { stress(2); }
PLAIN_TEST(all_games_on_eight_processors) { stress(8); }
