// Rows about fibers themselves: yield-…, spawn-…, parked; and sleep-….
//
// Those that wait together wait on an unbuffered channel, as in weir. Fibers are waited for by joining them where weir's twin has a
// wait group that is used again and again (spawn-…): that is less work than a condition variable.
#include "bench.hpp"

#include <vector>

namespace {

// N yields in all, shared by so many fibers, which are started and waiting when the clock starts.
void yield_among(const char *row, long n, long count) {
    std::atomic<long> sum{ 0 };
    long each = n / count;
    if (each == 0) fail("%s: fewer yields than fibers", row);
    auto total = contend(count, [&, each] {
        for (long turn = 0; turn < each; turn++) boost::this_fiber::yield();
        sum += each;
    });
    expect(row, sum, each * count);
    print_each(row, total, each * count);
}

// Fibers that do nothing much, a batch at a time.
void spawn_in(const char *row, long n, long batch) {
    std::atomic<long> sum{ 0 };
    std::vector<fibers::fiber> started;
    started.reserve(size_t(batch));
    n -= n % batch;
    auto begin = clock_type::now();
    for (long all = 0; all < n; all += batch) {
        for (long i = 0; i < batch; i++) started.push_back(start([&sum] { sum++; }));
        for (auto &fiber : started) fiber.join();
        started.clear();
    }
    auto total = since(begin);
    expect(row, sum, n);
    print_each(row, total, n);
}

void parked(const char *row, long n) {
    wait_group ready(n), done(n);
    gate closed;
    std::atomic<long> woken{ 0 };
    long before = memory();
    auto begin = clock_type::now();
    for (long i = 0; i < n; i++)
        start([&] {
            ready.done();
            pass(closed);
            woken++;
            done.done();
        }).detach();
    ready.wait();
    auto create = since(begin);
    long after = memory();
    begin = clock_type::now();
    closed.close();
    done.wait();
    auto wake = since(begin);
    expect(row, woken, n);
    print_each("parked-create", create, n);
    std::printf("parked-bytes %.0f bytes\n", double(after - before) / double(n));
    print_each("parked-wake", wake, n);
}

// How much later than asked a sleep returns.
void sleep_late(const char *row, long n, std::chrono::nanoseconds nap) {
    std::vector<int64_t> late;
    late.reserve(size_t(n));
    for (long i = 0; i < n; i++) {
        auto begin = clock_type::now();
        boost::this_fiber::sleep_for(nap);
        late.push_back(since(begin) - nap.count());
        if (late.back() < 0) fail("%s: woke %ld ns early", row, -late.back());
    }
    print_percentiles(row, late.data(), n);
}

} // namespace

const row fiber_rows[] = {
    { "yield-1", [](const char *row, long n) { yield_among(row, n, 1); } },
    { "yield-2", [](const char *row, long n) { yield_among(row, n, 2); } },
    { "yield-100", [](const char *row, long n) { yield_among(row, n, 100); } },
    { "yield-10k", [](const char *row, long n) { yield_among(row, n, 10000); } },
    { "yield-100k", [](const char *row, long n) { yield_among(row, n, 100000); } },
    { "spawn-batch", [](const char *row, long n) { spawn_in(row, n, 100); } },
    { "spawn-one", [](const char *row, long n) { spawn_in(row, n, 1); } },
    { "parked", parked },
    { "sleep-50us", [](const char *row, long n) { sleep_late(row, n, std::chrono::microseconds(50)); } },
    { "sleep-1ms", [](const char *row, long n) { sleep_late(row, n, std::chrono::milliseconds(1)); } },
    { nullptr, nullptr },
};
