/*
 * Programs that hand the only handle on: through blocks that move, lists, trees and queues, messages, arguments, threads and calls that
 * block. At each moment it is somewhere, if only in a register or half-way through a memcpy. See programs.h.
 */
#ifndef LEAK_PASSING_H
#define LEAK_PASSING_H

#include "programs.h"

/* ---- Messages ------------------------------------------------------------------------------------------------- */

/* A request brings the channel for its answer, and nobody but the server knows that then. */
struct request {
    int question;
    int_chan answer;
};
typedef WEIR_CHAN(struct request *) request_chan;
static void serve(request_chan requests) {
    for (struct request *r; weir_recv(requests, &r) == 0;) {
        int_chan answer = r->answer;
        int question = r->question;
        free(r);
        dally();
        CHECK_EQ(weir_send(answer, question + 1), 0);
        weir_release(answer);
    }
    weir_release(requests);
}
static void ask(request_chan requests, weir_wg *wg, int first) {
    for (int i = first, v; i < first + 10; i++) {
        struct request *r = malloc(sizeof *r);
        int_chan answer = weir_make(int_chan, 0);
        CHECK(r);
        *r = (struct request){ i, weir_retain(answer) };
        CHECK_EQ(weir_send(requests, r), 0);
        r = NULL;
        CHECK_EQ(weir_recv(answer, &v), 0);
        CHECK_EQ(v, i + 1);
        weir_release(answer);
    }
    weir_wg_done(wg);
}
static void requests_and_answers(void) {
    request_chan requests = weir_make(request_chan, 2);
    weir_wg wg = WEIR_WG_INIT;
    for (int i = 0; i < 2; i++) TEST_GO(serve, weir_retain(requests));
    for (int i = 0; i < 4; i++) weir_wg_add(&wg, 1), TEST_GO(ask, requests, &wg, i * 100);
    CHECK_EQ(weir_wg_wait(&wg), 0);
    weir_close(requests);
    weir_release(requests);
}

/* A channel goes from hand to hand, by value, in a struct larger than a register. */
struct parcel {
    char label[40];
    int_chan inside;
};
typedef WEIR_CHAN(struct parcel) parcel_chan;
static void carry(parcel_chan from, parcel_chan to) {
    for (struct parcel p; weir_recv(from, &p) == 0;) {
        dally();
        CHECK_EQ(weir_send(to, p), 0);
    }
    weir_close(to);
    weir_release(from), weir_release(to);
}
static void parcels(void) {
    parcel_chan first = weir_make(parcel_chan, 0), in = weir_retain(first), out = in;
    for (int i = 0; i < 4; i++, in = out) {
        out = weir_make(parcel_chan, (size_t)i % 2);
        TEST_GO(carry, in, weir_retain(out));
    }
    for (int i = 0; i < 10; i++) {
        struct parcel p = { "to whom it may concern", weir_make(int_chan, 0) };
        TEST_GO(receive_until_closed, p.inside);
        CHECK_EQ(weir_send(first, p), 0);
        memset(&p, 0, sizeof p);
        CHECK_EQ(weir_recv(out, &p), 0);
        CHECK_EQ(weir_close(p.inside), 0);
    }
    weir_close(first);
    CHECK_EQ(weir_wait_closed(out), 0);
    weir_release(first), weir_release(out);
}

/* ---- Memory that moves --------------------------------------------------------------------------------------------- */

static void start_receivers(int_chan *c, int n) {
    for (int i = 0; i < n; i++) {
        c[i] = weir_make(int_chan, 0);
        TEST_GO(receive_until_closed, weir_retain(c[i]));
    }
}
static void close_all(int_chan *c, int n) {
    for (int i = 0; i < n; i++) weir_close(c[i]), weir_release(c[i]);
}
static void an_array_that_grows(void) {
    int_chan *c = malloc(4 * sizeof *c);
    CHECK(c);
    start_receivers(c, 4);
    for (size_t size = 8; size < 5000; size *= 2) {
        void *in_the_way = malloc(size);
        CHECK((c = realloc(c, size * sizeof *c)));
        dally();
        free(in_the_way);
    }
    for (size_t size = 4096; size >= 4; size /= 2) {
        int_chan *copy = malloc(size * sizeof *c);
        CHECK(copy);
        memcpy(copy, c, 4 * sizeof *c);
        memset(c, 0, 4 * sizeof *c);
        free(c);
        c = copy;
    }
    close_all(c, 4);
    free(c);
}
/* A packed array that is shifted by a byte at a time: the pointers are at all offsets, and memmove has them in flight. */
static void bytes_that_shift(void) {
    enum { N = 5, ROOM = 64 };
    int_chan c[N];
    char *bytes = calloc(1, sizeof c + ROOM);
    CHECK(bytes);
    start_receivers(c, N);
    memcpy(bytes, c, sizeof c);
    memset(c, 0, sizeof c);
    __asm__ volatile("" : : "r"(c) : "memory");
    for (int i = 0; i < ROOM; i++) {
        memmove(bytes + i + 1, bytes + i, sizeof c);
        if (i % 4 == 0) dally();
    }
    memcpy(c, bytes + ROOM, sizeof c);
    free(bytes);
    close_all(c, N);
}
/* Nodes wander between two lists, and are copied into new blocks on their way. */
struct hop {
    struct hop *next;
    int_chan c;
};
static void lists_that_swap(void) {
    struct hop *from = NULL, *to = NULL;
    for (int i = 0; i < 6; i++) {
        struct hop *n = malloc(sizeof *n);
        CHECK(n);
        start_receivers(&n->c, 1);
        n->next = from, from = n;
    }
    for (int round = 0; round < 20; round++) {
        while (from) {
            struct hop *n = from, *copy = malloc(sizeof *copy + dice(200));
            CHECK(copy);
            from = n->next;
            *copy = *n;
            copy->next = to, to = copy;
            memset(n, 0, sizeof *n);
            free(n);
        }
        dally();
        from = to, to = NULL;
    }
    while (from) {
        struct hop *n = from;
        from = n->next;
        close_all(&n->c, 1);
        free(n);
    }
}
/* A tree that is turned about: for moments a subtree hangs on a local variable alone. */
struct twig {
    struct twig *left, *right;
    int_chan c;
};
static struct twig *grow_tree(int depth) {
    struct twig *t = calloc(1, sizeof *t);
    CHECK(t);
    start_receivers(&t->c, 1);
    if (depth > 0) t->left = grow_tree(depth - 1), t->right = grow_tree(depth - 1);
    return t;
}
static void rotate(struct twig **root) {
    struct twig *t = *root, *up = t->left;
    if (!up) return;
    t->left = up->right;
    up->right = t;
    *root = up;
    if (dice(4) == 0) dally();
    rotate(&up->right);
}
static void fell(struct twig *t) {
    if (!t) return;
    fell(t->left), fell(t->right);
    close_all(&t->c, 1);
    free(t);
}
static void a_tree_that_turns(void) {
    struct twig *root = grow_tree(3);
    for (int i = 0; i < 30; i++) rotate(&root);
    fell(root);
}

/* ---- A queue of one's own: each who waits has a channel of its own in it ------------------------------------------------ */

struct ticket {
    struct ticket *next;
    int_chan called;
};
struct counter {
    weir_mutex m;
    struct ticket *first;
    int free_places;
};
static void take_a_place(struct counter *k) {
    struct ticket t = { NULL, { 0 } };
    weir_locked(&k->m) {
        if (k->free_places > 0) {
            k->free_places--;
            break;
        }
        t.called = weir_make(int_chan, 0);
        struct ticket **last = &k->first;
        while (*last) last = &(*last)->next;
        *last = &t;
    }
    if (!weir_chan_of(t.called)) return;
    CHECK_EQ(weir_recv(t.called, NULL), 0);
    weir_release(t.called);
}
static void leave_a_place(struct counter *k) {
    int_chan called = { 0 };
    weir_locked(&k->m) {
        if (k->first) called = weir_retain(k->first->called), k->first = k->first->next;
        else k->free_places++;
    }
    if (!weir_chan_of(called)) return;
    CHECK_EQ(weir_send(called, 1), 0);
    weir_release(called);
}
static void be_served(struct counter *k, weir_wg *wg) {
    for (int i = 0; i < 5; i++) {
        take_a_place(k);
        dally();
        leave_a_place(k);
    }
    weir_wg_done(wg);
}
static void a_counter_with_tickets(void) {
    struct counter k = { .free_places = 2 };
    weir_wg wg = WEIR_WG_INIT;
    for (int i = 0; i < 10; i++) weir_wg_add(&wg, 1), TEST_GO(be_served, &k, &wg);
    CHECK_EQ(weir_wg_wait(&wg), 0);
}

/* ---- Arguments, threads, calls that block ---------------------------------------------------------------------------------- */

/* The handle is an argument of one that hands it on to the next and ends. */
static void relay(int_chan c, int left) {
    if (left > 0) TEST_GO(relay, c, left - 1);
    else weir_close(c), weir_release(c);
}
static void a_relay(void) {
    for (int i = 0; i < 5; i++) {
        int_chan c = weir_make(int_chan, 0);
        TEST_GO(receive_until_closed, weir_retain(c));
        TEST_GO(relay, weir_retain(c), 50);
        CHECK_EQ(weir_wait_closed(c), 0);
        weir_release(c);
    }
}
static void *close_in_thread(void *arg) {
    struct hop *h = arg;
    for (unsigned i = dice(2000); i > 0; i--) __asm__ volatile("" : "+r"(h));
    CHECK_EQ(weir_close(h->c), 0);
    weir_release(h->c);
    free(h);
    return NULL;
}
static void a_thread_has_it(void) {
    for (int i = 0; i < 3; i++) {
        struct hop *h = calloc(1, sizeof *h);
        pthread_t thread;
        CHECK(h);
        start_receivers(&h->c, 1);
        CHECK_EQ(pthread_create(&thread, NULL, close_in_thread, h), 0);
        h = NULL;
        thread_end(thread);
    }
}
static void *converse(void *arg) {
    int_chan *c = arg;
    for (int i = 0, v; i < 10; i++) {
        CHECK_EQ(weir_send(c[0], i), 0);
        CHECK_EQ(weir_recv(c[1], &v), 0);
        CHECK_EQ(v, i);
    }
    weir_close(c[0]);
    return NULL;
}
static void a_thread_converses(void) {
    int_chan *c = malloc(2 * sizeof *c);
    pthread_t thread;
    CHECK(c);
    c[0] = weir_make(int_chan, 0), c[1] = weir_make(int_chan, 0);
    TEST_GO(echo, weir_retain(c[0]), weir_retain(c[1]));
    CHECK_EQ(pthread_create(&thread, NULL, converse, c), 0);
    thread_end(thread);
    weir_release(c[0]), weir_release(c[1]);
    free(c);
}
struct in_a_call {
    int pipe[2];
    int_chan c;
};
static int read_one(void *arg) {
    struct in_a_call *a = arg;
    char byte;
    while (read(a->pipe[0], &byte, 1) != 1) {
    }
    return 0;
}
static void close_after_call(struct in_a_call *a) {
    struct in_a_call own = *a;
    free(a);
    CHECK_EQ(weir_blocking(read_one, &own), 0);
    CHECK_EQ(weir_close(own.c), 0);
    weir_release(own.c);
    close(own.pipe[0]), close(own.pipe[1]);
}
static void a_call_that_blocks_has_it(void) {
    for (int i = 0; i < 4; i++) {
        struct in_a_call *a = calloc(1, sizeof *a);
        CHECK(a);
        CHECK_EQ(pipe(a->pipe), 0);
        start_receivers(&a->c, 1);
        int bell = a->pipe[1];
        TEST_GO(close_after_call, a);
        dally();
        CHECK_EQ(write(bell, "x", 1), 1);
    }
}
static void hold_on_own_thread(int_chan c) {
    weir_lock_thread();
    dally();
    CHECK_EQ(weir_sleep(1 + dice(1000) * WEIR_MICROSECOND), 0);
    weir_close(c);
    weir_release(c);
    weir_unlock_thread();
}
static void one_with_its_own_thread_has_it(void) {
    for (int i = 0; i < 3; i++) {
        int_chan c[2];
        start_receivers(c, 2);
        TEST_GO(hold_on_own_thread, c[0]), TEST_GO(hold_on_own_thread, c[1]);
    }
}
static void close_deferred(void *arg) {
    struct hop *h = arg;
    close_all(&h->c, 1);
    free(h);
}
static void defer_it(void) {
    struct hop *h = calloc(1, sizeof *h);
    CHECK(h);
    start_receivers(&h->c, 1);
    weir_defer(close_deferred, h);
    dally();
}
static void a_deferred_call_has_it(void) {
    for (int i = 0; i < 5; i++) TEST_GO(defer_it);
}
/* Computes with it, and never parks. */
static void compute_with(struct hop *h) {
    uintptr_t sum = 0;
    for (unsigned i = dice(200000); i > 0; i--) {
        sum += i ^ (uintptr_t)h;
        __asm__ volatile("" : "+r"(sum));
    }
    close_all(&h->c, 1);
    free(h);
}
static void one_that_computes_has_it(void) {
    for (int i = 0; i < 4; i++) {
        struct hop *h = calloc(1, sizeof *h);
        CHECK(h);
        start_receivers(&h->c, 1);
        TEST_GO(compute_with, h);
    }
}

/* ---- All of them ------------------------------------------------------------------------------------------------------------- */

#define PROGRAM(name) { #name, name }
static const struct program programs[] UNUSED = {
    PROGRAM(late_results_have_room), PROGRAM(late_results_are_cancelled), PROGRAM(late_results_in_a_scope),
    PROGRAM(closed_for_its_receivers), PROGRAM(workers_that_look_at_their_context), PROGRAM(fetches_with_a_limit),
    PROGRAM(fetches_in_a_scope_up_to_the_first_failure), PROGRAM(tickers_that_are_stopped), PROGRAM(completions_always_come),
    PROGRAM(a_crawl_by_a_pool), PROGRAM(a_crawl_in_a_scope), PROGRAM(a_pipeline), PROGRAM(the_prime_sieve), PROGRAM(ping_pong),
    PROGRAM(a_start_by_close), PROGRAM(a_shop), PROGRAM(a_shop_on_a_stack), PROGRAM(a_tree_of_groups),
    PROGRAM(a_tree_that_is_cancelled), PROGRAM(calls_that_are_pending), PROGRAM(ends_of_contexts), PROGRAM(timers_set_anew),
    PROGRAM(selects_in_a_ring), PROGRAM(requests_and_answers), PROGRAM(parcels), PROGRAM(an_array_that_grows),
    PROGRAM(bytes_that_shift), PROGRAM(lists_that_swap), PROGRAM(a_tree_that_turns), PROGRAM(a_counter_with_tickets),
    PROGRAM(a_relay), PROGRAM(a_thread_has_it), PROGRAM(a_thread_converses), PROGRAM(a_call_that_blocks_has_it),
    PROGRAM(one_with_its_own_thread_has_it), PROGRAM(a_deferred_call_has_it), PROGRAM(one_that_computes_has_it),
};
enum { PROGRAMS = sizeof programs / sizeof programs[0] };

#endif
