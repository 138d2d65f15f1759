/* Fatal errors, the clock, futexes, errno. */
#include "base/base.h"

#include <linux/futex.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Neither inlined nor recognised as constant, so that every call asks the current thread. */
__attribute__((noinline, noclone)) int *wr_errno(void) {
    __asm__ volatile("" ::: "memory");
    return __errno_location(); /* glibc and musl both have it */
}
__attribute__((noinline, noclone)) int *weir_errno_(void) { return wr_errno(); }

static void say(const char *prefix, const char *fmt, va_list args) {
    char text[1024];
    size_t n = strlen(prefix);
    memcpy(text, prefix, n);
    int more = vsnprintf(text + n, sizeof text - n - 1, fmt, args);
    if (more > 0) n += (size_t)more < sizeof text - n - 1 ? (size_t)more : sizeof text - n - 2;
    text[n++] = '\n';
    for (size_t done = 0; done < n;) {
        ssize_t wrote = write(2, text + done, n - done);
        if (wrote < 0 && errno == EINTR) continue;
        if (wrote <= 0) break;
        done += (size_t)wrote;
    }
}

void wr_fatal(const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    say("fatal error: ", fmt, args);
    va_end(args);
    _exit(2);
}

void wr_warn(const char *fmt, ...) {
    int saved = errno;
    va_list args;
    va_start(args, fmt);
    say("weir: ", fmt, args);
    va_end(args);
    errno = saved;
}

static weir_time monotonic(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (weir_time)t.tv_sec * WEIR_SECOND + t.tv_nsec;
}
weir_time (*wr_clock)(void) = monotonic;
weir_time weir_now(void) { return wr_now(); }

weir_time wr_after(weir_duration d) {
    weir_time now = wr_now();
    if (d <= 0) return now;
    return d >= WR_NEVER - 1 - now ? WR_NEVER - 1 : now + d;
}

bool wr_parse_duration(const char *text, weir_duration *out) {
    static const struct {
        const char *name;
        weir_duration unit;
    } units[] = { { "", WEIR_SECOND }, { "ns", 1 }, { "us", WEIR_MICROSECOND }, { "ms", WEIR_MILLISECOND },
                  { "s", WEIR_SECOND }, { "m", WEIR_MINUTE }, { "h", WEIR_HOUR } };
    char *end;
    double n = strtod(text, &end);
    if (end == text || !(n >= 0)) return false;
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++)
        if (!strcmp(end, units[i].name)) {
            double ns = n * (double)units[i].unit;
            *out = ns < 9e18 ? (weir_duration)ns : WR_NEVER;
            return true;
        }
    return false;
}

void wr_futex_wait(_Atomic uint32_t *word, uint32_t value, weir_time until) {
    struct timespec when = { until / WEIR_SECOND, until % WEIR_SECOND };
    /* FUTEX_WAIT_BITSET takes an absolute time of the monotonic clock. */
    syscall(SYS_futex, word, FUTEX_WAIT_BITSET_PRIVATE, value, until == WR_NEVER ? NULL : &when, NULL,
            FUTEX_BITSET_MATCH_ANY);
}
void wr_futex_wake(_Atomic uint32_t *word, int n) {
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, n, NULL, NULL, 0);
}

#ifdef WR_TSAN
_Atomic unsigned wr_fence_word;
#endif

#ifdef WEIR_STRESS
#include <sched.h>
/* Mostly nothing, sometimes a yield, rarely a sleep of up to 50 µs: each is a chance for another order. */
void wr_dawdle(void) {
    static __thread uint64_t state;
    if (state == 0) {
        const char *seed = getenv("WEIR_STRESS_SEED");
        state = (uint64_t)(uintptr_t)&state ^ (seed ? strtoull(seed, NULL, 0) : (uint64_t)monotonic());
    }
    uint64_t r = wr_random(&state) & 1023;
    int saved = errno;
    if (r < 8) {
        struct timespec t = { 0, (long)(wr_random(&state) % 50000) };
        nanosleep(&t, NULL);
    } else if (r < 64)
        sched_yield();
    else if (r < 256)
        for (uint64_t i = wr_random(&state) & 127; i > 0; i--) wr_pause();
    errno = saved;
}
#endif
