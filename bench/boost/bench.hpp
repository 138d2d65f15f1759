// What the files of Boost.Fiber's side of the benchmark share: the clock, starting fibers, a wait group, a gate.
#ifndef BENCH_HPP
#define BENCH_HPP

#include <boost/fiber/all.hpp>

#include <atomic>
#include <chrono>
#include <memory>
#include <utility>

#include "../report.h"

namespace fibers = boost::fibers;
using clock_type = std::chrono::steady_clock;

struct row {
    const char *name;
    void (*run)(const char *row, long n);
};

// Tables that end with a row without a name.
extern const row fiber_rows[], tree_rows[], channel_rows[], lock_rows[];

// Nanoseconds.
inline int64_t since(clock_type::time_point start) {
    return std::chrono::nanoseconds(clock_type::now() - start).count();
}

// Stacks of 16 KiB from malloc, not the 128 KiB that are the default: no fiber here needs more, and each malloc of so much would be
// a call of mmap.
inline fibers::fixedsize_stack stacks() {
    return fibers::fixedsize_stack{ 16 * 1024 };
}

// Starts a fiber that runs when its turn comes.
template <typename F> fibers::fiber start(F &&f) {
    return fibers::fiber{ fibers::launch::post, std::allocator_arg, stacks(), std::forward<F>(f) };
}

// Starts one that runs at once; who starts it goes on when its turn comes.
template <typename F> void dispatch(F &&f) {
    fibers::fiber{ fibers::launch::dispatch, std::allocator_arg, stacks(), std::forward<F>(f) }.detach();
}

// Counts fibers down to zero. Boost.Fiber has nothing quite like it.
class wait_group {
public:
    explicit wait_group(long count) : left(count) {}

    void done() {
        if (left.fetch_sub(1, std::memory_order_acq_rel) > 1) return;
        std::lock_guard<fibers::mutex> held(mutex);
        is_zero = true;
        zero.notify_all();
    }

    void wait() {
        std::unique_lock<fibers::mutex> held(mutex);
        zero.wait(held, [this] { return is_zero; });
    }

private:
    std::atomic<long> left;
    fibers::mutex mutex;
    fibers::condition_variable zero;
    bool is_zero = false; // guarded by mutex
};

using gate = fibers::unbuffered_channel<long>; // gets no element: who pops waits until it is closed

inline void pass(gate &closed) {
    long v;
    if (closed.pop(v) != fibers::channel_op_status::closed) fail("the gate did not close");
}

// Turns at something, shared by so many fibers, which wait for the gate when the clock starts; how long all took.
template <typename F> int64_t contend(long count, F turns) {
    wait_group ready(count), done(count);
    gate closed;
    for (long i = 0; i < count; i++)
        start([&] {
            ready.done();
            pass(closed);
            turns();
            done.done();
        }).detach();
    ready.wait();
    auto begin = clock_type::now();
    closed.close();
    done.wait();
    return since(begin);
}

#endif
