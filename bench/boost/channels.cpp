// Rows about channels: pingpong, spsc-…, mpmc-….
//
// Capacity 0 is the unbuffered_channel. A buffered_channel has a power of two of slots, one of which stays free: it holds 1 element
// with 2 slots, as spsc-1 wants it, but 127 and 1023 where weir's holds 128 and 1024; one more would be 255 and 2047.
#include "bench.hpp"

namespace {

using fibers::channel_op_status;
using unbuffered = fibers::unbuffered_channel<long>;

template <typename Channel, typename T> void send(Channel &to, const T &v) {
    if (to.push(v) != channel_op_status::success) fail("the channel is closed");
}

// There and back over two channels without a buffer.
void pingpong(const char *row, long n) {
    unbuffered there, back;
    long sum = 0;
    start([&] {
        for (long v; there.pop(v) == channel_op_status::success;) send(back, v + 1);
    }).detach();
    auto begin = clock_type::now();
    for (long i = 0, v; i < n; i++) {
        send(there, i);
        if (back.pop(v) != channel_op_status::success) fail("the channel is closed");
        sum += v;
    }
    auto total = since(begin);
    expect(row, sum, triangle(n));
    print_each(row, total, n);
}

// An element of so many words, all of which are written and read.
template <int WORDS> struct element {
    long word[WORDS];
};

// One producer, one consumer.
template <int WORDS, typename Channel> void spsc_over(const char *row, long n, Channel &ch) {
    long sum = 0;
    auto begin = clock_type::now();
    start([&ch, n] {
        for (long i = 1; i <= n; i++) {
            element<WORDS> e;
            for (int w = 0; w < WORDS; w++) e.word[w] = i + w;
            send(ch, e);
        }
        ch.close();
    }).detach();
    for (element<WORDS> e; ch.pop(e) == channel_op_status::success;)
        for (int w = 0; w < WORDS; w++) sum += e.word[w];
    auto total = since(begin);
    expect(row, sum, WORDS * triangle(n) + triangle(WORDS - 1) * n);
    print_each(row, total, n);
}

template <int WORDS> void spsc(const char *row, long n) {
    fibers::unbuffered_channel<element<WORDS>> ch;
    spsc_over<WORDS>(row, n, ch);
}

template <int WORDS, int SLOTS> void spsc_buffered(const char *row, long n) {
    fibers::buffered_channel<element<WORDS>> ch{ SLOTS };
    spsc_over<WORDS>(row, n, ch);
}

// So many producers, as many consumers, N elements in all.
template <typename Channel> void mpmc_over(const char *row, long n, long sides, Channel &ch) {
    wait_group producers(sides), consumers(sides);
    std::atomic<long> all{ 0 };
    long each = n / sides;
    if (each == 0) fail("%s: fewer elements than producers", row);
    auto begin = clock_type::now();
    for (long i = 0; i < sides; i++) {
        start([&, each] {
            for (long v = 1; v <= each; v++) send(ch, v);
            producers.done();
        }).detach();
        start([&] {
            long sum = 0;
            for (long v; ch.pop(v) == channel_op_status::success;) sum += v;
            all += sum;
            consumers.done();
        }).detach();
    }
    producers.wait();
    ch.close();
    consumers.wait();
    auto total = since(begin);
    expect(row, all, sides * triangle(each));
    print_each(row, total, each * sides);
}

template <int SIDES> void mpmc(const char *row, long n) {
    unbuffered ch;
    mpmc_over(row, n, SIDES, ch);
}

template <int SIDES> void mpmc_buffered(const char *row, long n) {
    fibers::buffered_channel<long> ch{ 128 };
    mpmc_over(row, n, SIDES, ch);
}

} // namespace

const row channel_rows[] = {
    { "pingpong", pingpong },
    { "spsc-0", spsc<1> },
    { "spsc-1", spsc_buffered<1, 2> },
    { "spsc-128", spsc_buffered<1, 128> },
    { "spsc-1024", spsc_buffered<1, 1024> },
    { "spsc-0-64b", spsc<8> },
    { "spsc-128-64b", spsc_buffered<8, 128> },
    { "mpmc-2x2-0", mpmc<2> },
    { "mpmc-4x4-0", mpmc<4> },
    { "mpmc-16x16-0", mpmc<16> },
    { "mpmc-2x2-128", mpmc_buffered<2> },
    { "mpmc-4x4-128", mpmc_buffered<4> },
    { "mpmc-16x16-128", mpmc_buffered<16> },
    { nullptr, nullptr },
};
