// Rows that are small programs: sieve, skynet, fib.
//
// The channels of sieve are unbuffered, as in weir. Those of skynet and fib hold what all children send, and a child runs as soon as
// it is started (launch::dispatch), as in the library's own programs of this kind: so a leaf ends at once and leaves its stack to the
// next. Unbuffered, skynet's million leaves are all there at a time, and it takes six times as long. A child may still be in the
// channel when its value has been received, so these channels are counted, as they are in weir.
#include "bench.hpp"

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
    print_ms(row, total);
}

constexpr long CHILDREN_SLOTS = 16; // a power of two, and one stays free

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
    expect_whole_tree(row, n);
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
    auto begin = clock_type::now();
    auto out = std::make_shared<buffer>(2);
    dispatch([=] { fib_of(n, out); });
    long result = receive(*out);
    auto total = since(begin);
    expect(row, result, fibonacci(n));
    print_ms(row, total);
}

} // namespace

const row tree_rows[] = {
    { "sieve", sieve },
    { "skynet", skynet },
    { "fib", fib },
    { nullptr, nullptr },
};
