// Boost.Fiber's side of the benchmark, one row a run: `bench-boost ROW N` does the row's work N times, checks it, and prints
// `name value unit` lines, as ../ does with weir. A check that fails, or a call that does, ends the process with status 1 and prints no
// figure; 3 says that there is no such row.
//
// With BENCH_PROCS=1 the scheduler is round_robin on one thread; with more it is work_stealing on so many threads, which spin while
// they have nothing to do: it can be told to sleep instead, but does not wake a sleeper when another's queue grows. A row is a fiber
// of its own, as it is a goroutine in weir: what main itself does cannot be stolen.
//
// Boost.Fiber has no select, no context, no timer that runs a function, no read-write lock and no once that suspends a fiber: those
// rows are missing. Other differences stand at the head of the files.
#include "bench.hpp"

#include <malloc.h>

#include <exception>
#include <thread>

static const row *find(const char *name) {
    for (const row *table : { fiber_rows, tree_rows, channel_rows, lock_rows })
        for (; table->name; table++)
            if (std::strcmp(name, table->name) == 0) return table;
    return nullptr;
}

// The workers besides the main thread run fibers until the process ends.
static void use_workers(unsigned workers) {
    if (workers == 1) return; // round_robin is what a thread has anyhow
    for (unsigned i = 1; i < workers; i++)
        std::thread([workers] {
            fibers::use_scheduling_algorithm<fibers::algo::work_stealing>(workers);
            fibers::mutex mutex;
            fibers::condition_variable never;
            std::unique_lock<fibers::mutex> held(mutex);
            never.wait(held, [] { return false; });
        }).detach();
    fibers::use_scheduling_algorithm<fibers::algo::work_stealing>(workers); // returns when all have come as far as this
}

static void report() {
    try {
        throw;
    } catch (const std::exception &e) {
        fail("%s", e.what());
    }
}

int main(int argc, char **argv) {
    long n = argc == 3 ? std::strtol(argv[2], nullptr, 10) : 0;
    if (n <= 0) {
        std::fputs("usage: bench-boost ROW N\n", stderr);
        return 2;
    }
    const row *found = find(argv[1]);
    if (!found) {
        std::fprintf(stderr, "bench-boost: no row is named %s\n", argv[1]);
        return 3;
    }
    const char *procs = std::getenv("BENCH_PROCS");
    long workers = procs ? std::strtol(procs, nullptr, 10) : long(std::thread::hardware_concurrency());
    if (workers < 1 || workers > 1024) fail("BENCH_PROCS: %ld workers?", workers);
    std::set_terminate(report);
    // The stacks that one batch frees are for the next: malloc would give their pages back to the kernel in between.
    mallopt(M_TRIM_THRESHOLD, -1);
    use_workers(unsigned(workers));
    start([=] {
        found->run(found->name, n);
        std::fflush(stdout);
        std::_Exit(0); // whatever still runs ends with the process
    }).join();
}
