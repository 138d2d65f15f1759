/*
 * Rows that are small programs: sieve, skynet, fib.
 *
 * The channels of sieve have no buffer, as in weir. Those of skynet and fib hold what all children send: so a child never waits, does not
 * touch the channel once it has sent, and both may lie on the parent's stack, with what the children are told. The library runs its
 * threads in the order in which they were started: all leaves are there before the first has run, each with a stack.
 */
#include "bench.h"

static long receive(struct channel *ch) {
    long v;
    if (!channel_receive(ch, &v)) fail("the channel is closed");
    return v;
}

/* ---- Sieve: the N-th prime, by a chain of filters, one for each prime before it ---- */

struct filter {
    struct channel in;
    struct filter *next;
    long prime;
};

static struct filter *new_filter(void) {
    struct filter *f = array(1, sizeof *f);
    channel_init(&f->in, sizeof(long), 0, 1);
    return f;
}

static void *numbers(void *arg) {
    struct filter *first = arg;
    for (long i = 2;; i++) channel_send(&first->in, &i);
    return NULL;
}

static void *filter(void *arg) {
    struct filter *f = arg;
    for (;;) {
        long v = receive(&f->in);
        if (v % f->prime != 0) channel_send(&f->next->in, &v);
    }
    return NULL;
}

/* The chain is not taken down: it ends with the process. */
static void sieve(const char *row, long n) {
    long want = nth_prime(n), prime = 0;
    duration begin = now();
    struct filter *last = new_filter();
    start(numbers, last);
    for (long i = 0; i < n; i++) {
        prime = receive(&last->in);
        last->prime = prime;
        last->next = new_filter();
        start(filter, last);
        last = last->next;
    }
    duration total = now() - begin;
    expect(row, prime, want);
    print_ms(row, total);
}

/* ---- Skynet: a tree in which each node starts ten, with N leaves that send up their numbers ---- */

struct node {
    struct channel *up;
    long first, leaves;
};

static void *node(void *arg) {
    struct node *self = arg;
    long sum = self->first;
    if (self->leaves > 1) {
        struct channel down;
        struct node child[CHILDREN];
        long share = self->leaves / CHILDREN;
        channel_init(&down, sizeof(long), CHILDREN, 1);
        for (long i = 0; i < CHILDREN; i++) {
            child[i] = (struct node){ &down, self->first + i * share, share };
            start(node, &child[i]);
        }
        sum = 0;
        for (long i = 0; i < CHILDREN; i++) sum += receive(&down);
        channel_end(&down);
    }
    channel_send(self->up, &sum);
    return NULL;
}

static void skynet(const char *row, long n) {
    struct channel result;
    expect_whole_tree(row, n);
    duration begin = now();
    channel_init(&result, sizeof(long), 1, 1);
    struct node root = { &result, 0, n };
    start(node, &root);
    long sum = receive(&result);
    duration total = now() - begin;
    expect(row, sum, triangle(n - 1));
    print_each(row, total, n);
}

/* ---- fib(N), where each call starts two threads for the two before ---- */

struct call {
    struct channel *out;
    long n;
};

static void *fib_of(void *arg) {
    struct call *self = arg;
    long sum = self->n;
    if (self->n >= 2) {
        struct channel parts;
        channel_init(&parts, sizeof(long), 2, 1);
        struct call before[2] = { { &parts, self->n - 1 }, { &parts, self->n - 2 } };
        start(fib_of, &before[0]);
        start(fib_of, &before[1]);
        sum = receive(&parts);
        sum += receive(&parts);
        channel_end(&parts);
    }
    channel_send(self->out, &sum);
    return NULL;
}

static void fib(const char *row, long n) {
    struct channel out;
    duration begin = now();
    channel_init(&out, sizeof(long), 1, 1);
    struct call outermost = { &out, n };
    start(fib_of, &outermost);
    long result = receive(&out);
    duration total = now() - begin;
    expect(row, result, fibonacci(n));
    print_ms(row, total);
}

const struct row tree_rows[] = {
    { "sieve", sieve },
    { "skynet", skynet },
    { "fib", fib },
    { 0 },
};
