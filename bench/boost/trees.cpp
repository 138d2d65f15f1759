// Rows that are small programs: sieve, skynet, fib.
//
// The channels of sieve are unbuffered, as in weir. Those of skynet and fib hold what all children send, and a child runs as soon as
// it is started (launch::dispatch), as in the library's own programs of this kind: so a leaf ends at once and leaves its stack to the
// next. Unbuffered, skynet's million leaves are all there at a time, and it takes six times as long. A child may still be in the
// channel when its value has been received, so these channels are counted, as they are in weir.
#include "bench.hpp"

#include <vector>

namespace {

using channel = fibers::unbuffered_channel<long>;
using buffer = fibers::buffered_channel<long>;

template <typename Channel> void send(Channel &to, long v) {
    if (to.push(v) != fibers::channel_op_status::success) fail("the channel is closed");
}

template <typename Channel> long receive(Channel &from) {
    long v;
    if (from.pop(v) != fibers::channel_op_status::success) fail("the channel is closed");
    return v;
}

// The N-th prime by division, to check by.
long nth_prime(long n) {
    std::vector<long> primes;
    for (long v = 2; long(primes.size()) < n; v++) {
        bool is_prime = true;
        for (size_t i = 0; i < primes.size() && primes[i] * primes[i] <= v && is_prime; i++) is_prime = v % primes[i] != 0;
        if (is_prime) primes.push_back(v);
    }
    return primes.back();
}

// The N-th prime by a chain of filters. The chain is not taken down: it ends with the process.
void sieve(const char *row, long n) {
    long want = nth_prime(n), prime = 0;
    auto begin = clock_type::now();
    channel *in = new channel;
    start([in] {
        for (long i = 2;; i++) send(*in, i);
    }).detach();
    for (long i = 0; i < n; i++) {
        prime = receive(*in);
        channel *out = new channel;
        start([in, out, prime] {
            for (;;) {
                long v = receive(*in);
                if (v % prime != 0) send(*out, v);
            }
        }).detach();
        in = out;
    }
    auto total = since(begin);
    expect(row, prime, want);
    print_total(row, total);
}

constexpr long CHILDREN = 10, CHILDREN_SLOTS = 16; // a power of two, and one stays free

void node(std::shared_ptr<buffer> up, long first, long leaves) {
    long sum = first;
    if (leaves > 1) {
        auto down = std::make_shared<buffer>(CHILDREN_SLOTS);
        long share = leaves / CHILDREN;
        for (long i = 0; i < CHILDREN; i++) dispatch([=] { node(down, first + i * share, share); });
        sum = 0;
        for (long i = 0; i < CHILDREN; i++) sum += receive(*down);
    }
    send(*up, sum);
}

// A tree in which each node starts ten, with N leaves that send up their numbers.
void skynet(const char *row, long n) {
    long leaves = 1;
    while (leaves * CHILDREN <= n) leaves *= CHILDREN;
    if (leaves != n) fail("%s: %ld leaves are no power of %ld", row, n, CHILDREN);
    auto begin = clock_type::now();
    auto result = std::make_shared<buffer>(2);
    dispatch([=] { node(result, 0, n); });
    long sum = receive(*result);
    auto total = since(begin);
    expect(row, sum, triangle(n - 1));
    print_each(row, total, n);
}

void fib_of(long n, std::shared_ptr<buffer> out) {
    long sum = n;
    if (n >= 2) {
        auto parts = std::make_shared<buffer>(4);
        dispatch([=] { fib_of(n - 1, parts); });
        dispatch([=] { fib_of(n - 2, parts); });
        sum = receive(*parts);
        sum += receive(*parts);
    }
    send(*out, sum);
}

// fib(N), where each call starts two fibers for the two before.
void fib(const char *row, long n) {
    long before = 0, want = 1;
    for (long i = 1; i < n; i++) before = std::exchange(want, before + want);
    auto begin = clock_type::now();
    auto out = std::make_shared<buffer>(2);
    dispatch([=] { fib_of(n, out); });
    long result = receive(*out);
    auto total = since(begin);
    expect(row, result, want);
    print_total(row, total);
}

} // namespace

const row tree_rows[] = {
    { "sieve", sieve },
    { "skynet", skynet },
    { "fib", fib },
    { nullptr, nullptr },
};
