/*
 * Rows that are small programs: goroutines that start goroutines, and send what they found through channels. Whoever gets a
 * channel to send to in a tree has a count of it, as the receiver may be gone before the sender has left the call.
 */
#include "bench.h"

/* ---- Sieve: the N-th prime, by a chain of filters, one for each prime before it ------------------ */

static void numbers(long_chan out) {
    for (long i = 2;; i++) MUST(weir_send(out, i));
}

static void filter(long_chan in, long_chan out, long prime) {
    for (long v;;) {
        MUST(weir_recv(in, &v));
        if (v % prime != 0) MUST(weir_send(out, v));
    }
}

/* The chain is not taken down: it ends with the process. */
static void sieve(const char *row, long n) {
    long want = nth_prime(n), prime = 0;
    weir_time start = weir_now();
    long_chan ch = weir_make(long_chan, 0);
    MUST(weir_go(numbers, ch));
    for (long i = 0; i < n; i++) {
        MUST(weir_recv(ch, &prime));
        long_chan next = weir_make(long_chan, 0);
        MUST(weir_go(filter, ch, next, prime));
        ch = next;
    }
    weir_duration total = weir_now() - start;
    expect(row, prime, want);
    print_ms(row, total);
}

/* ---- Skynet: a tree in which each node starts ten, with N leaves that send up their numbers ------ */

static void node(long_chan up, long first, long leaves) {
    long sum = first;
    if (leaves > 1) {
        long_chan down = weir_make(long_chan, 0);
        long share = leaves / CHILDREN;
        for (long i = 0; i < CHILDREN; i++) MUST(weir_go(node, weir_retain(down), first + i * share, share));
        sum = 0;
        for (long i = 0, part; i < CHILDREN; i++) {
            MUST(weir_recv(down, &part));
            sum += part;
        }
        weir_release(down);
    }
    MUST(weir_send(up, sum));
    weir_release(up);
}

static void skynet(const char *row, long n) {
    long sum;
    expect_whole_tree(row, n);
    weir_time start = weir_now();
    long_chan result = weir_make(long_chan, 0);
    MUST(weir_go(node, weir_retain(result), 0, n));
    MUST(weir_recv(result, &sum));
    weir_duration total = weir_now() - start;
    expect(row, sum, triangle(n - 1));
    print_each(row, total, n);
    weir_release(result);
}

/* ---- fib(N), where each call starts two goroutines for the two before ---------------------------- */

static void fib_of(long n, long_chan up) {
    long a = n, b = 0;
    if (n >= 2) {
        long_chan down = weir_make(long_chan, 0);
        MUST(weir_go(fib_of, n - 1, weir_retain(down)));
        MUST(weir_go(fib_of, n - 2, weir_retain(down)));
        MUST(weir_recv(down, &a));
        MUST(weir_recv(down, &b));
        weir_release(down);
    }
    MUST(weir_send(up, a + b));
    weir_release(up);
}

static void fib(const char *row, long n) {
    long result;
    weir_time start = weir_now();
    long_chan out = weir_make(long_chan, 0);
    MUST(weir_go(fib_of, n, weir_retain(out)));
    MUST(weir_recv(out, &result));
    weir_duration total = weir_now() - start;
    expect(row, result, fibonacci(n));
    print_ms(row, total);
    weir_release(out);
}

const struct row tree_rows[] = {
    { "sieve", sieve },
    { "skynet", skynet },
    { "fib", fib },
    { 0 },
};
