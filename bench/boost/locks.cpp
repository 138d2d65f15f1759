// Rows about locks: mutex-….
#include "bench.hpp"

namespace {

// What a lock guards is on no stack: it is memory that others could reach.
fibers::mutex mutex;
volatile long locked; // guarded by mutex
int64_t longest;      // of all waits; guarded by mutex

void lock_turns(long n) {
    for (long i = 0; i < n; i++) {
        mutex.lock();
        locked = locked + 1;
        mutex.unlock();
    }
}

void mutex_alone(const char *row, long n) {
    auto begin = clock_type::now();
    lock_turns(n);
    auto total = since(begin);
    expect(row, locked, n);
    print_each(row, total, n);
}

long share(const char *row, long n, long count) {
    if (n < count) fail("%s: fewer turns than fibers", row);
    return n / count;
}

void mutex_among(const char *row, long n, long count) {
    long each = share(row, n, count);
    auto total = contend(count, [each] { lock_turns(each); });
    expect(row, locked, each * count);
    print_each(row, total, locked);
}

// As mutex-16, but each turn looks at the clock before and after its wait.
void mutex_longest(const char *row, long n) {
    long each = share(row, n, 16);
    contend(16, [each] {
        int64_t worst = 0;
        for (long i = 0; i < each; i++) {
            auto begin = clock_type::now();
            mutex.lock();
            auto waited = since(begin);
            locked = locked + 1;
            mutex.unlock();
            if (waited > worst) worst = waited;
        }
        mutex.lock();
        if (worst > longest) longest = worst;
        mutex.unlock();
    });
    expect(row, locked, each * 16);
    std::printf("%s %.1f us\n", row, double(longest) / 1e3);
}

} // namespace

const row lock_rows[] = {
    { "mutex-alone", mutex_alone },
    { "mutex-2", [](const char *row, long n) { mutex_among(row, n, 2); } },
    { "mutex-16", [](const char *row, long n) { mutex_among(row, n, 16); } },
    { "mutex-1000", [](const char *row, long n) { mutex_among(row, n, 1000); } },
    { "mutex-16-longest", mutex_longest },
    { nullptr, nullptr },
};
