/*
 * base: what every room stands on — small words, the fatal error, the clock, random numbers, and the
 * annotations that tell sanitizers what we do. Imports nothing of weir but the time type.
 */
#ifndef WR_BASE_H
#define WR_BASE_H

/* Public functions lie together, so that a signal handler can tell whether it has interrupted one: sched/signal.c. */
#ifndef WEIR_API_
#define WEIR_API_ __attribute__((visibility("default"), noinline, section("weir_api")))
#endif
#include "weir.h"
#undef errno /* inside weir errno is plain: no function here keeps its address over a park */
#define errno (*wr_errno())

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#pragma GCC visibility push(hidden)

#define wr_likely(x) __builtin_expect(!!(x), 1)
#define wr_unlikely(x) __builtin_expect(!!(x), 0)
#define wr_container(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))
#define WR_CACHE_LINE 64

/* Called anew each time, so that no thread's address of errno outlives a park. */
int *wr_errno(void);

/* "fatal error: …" on standard error, then exit status 2, as Go ends a process. May be called from
 * anywhere, signal handlers included; allocates nothing. */
__attribute__((noreturn, format(printf, 1, 2))) void wr_fatal(const char *fmt, ...);
/* "weir: …" on standard error. */
__attribute__((format(printf, 1, 2))) void wr_warn(const char *fmt, ...);

#ifdef WEIR_DEBUG
#define wr_assert(condition) ((condition) ? (void)0 : wr_fatal("%s:%d: %s does not hold", __FILE__, __LINE__, #condition))
#else
#define wr_assert(condition) ((void)0)
#endif

/* The one place where time is read. `sim` stands in for it by setting wr_clock. Nanoseconds, monotonic. */
extern weir_time (*wr_clock)(void);
static inline weir_time wr_now(void) { return wr_clock(); }
#define WR_NEVER INT64_MAX
/* now + d without overflow: a far future is WR_NEVER - 1, a past is now. */
weir_time wr_after(weir_duration d);
/* Parse "250ms", "10s", "2m", "4h", "100us", "5" (seconds); false if it is none. */
bool wr_parse_duration(const char *text, weir_duration *out);

/* One processor's pause in a spin loop. */
static inline void wr_pause(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#else
    __asm__ volatile("yield" ::: "memory");
#endif
}

/* wyrand: one multiplication a number; each user has its own state. Not for secrets. */
static inline uint64_t wr_random(uint64_t *state) {
    *state += 0xa0761d6478bd642fULL;
    unsigned __int128 product = (unsigned __int128)*state * (*state ^ 0xe7037ed1a0b428dbULL);
    return (uint64_t)(product >> 64) ^ (uint64_t)product;
}
/* Uniform in 0 … n - 1 (n < 2^32); the bias is below 2^-32. */
static inline uint32_t wr_random_below(uint64_t *state, uint32_t n) {
    return (uint32_t)(((wr_random(state) >> 32) * (uint64_t)n) >> 32);
}

/* Full fence. ThreadSanitizer does not know fences, so there it is a read-modify-write of one word. */
#if defined(__SANITIZE_THREAD__)
#define WR_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define WR_TSAN 1
#endif
#if __has_feature(address_sanitizer)
#define WR_ASAN 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define WR_ASAN 1
#endif
#ifdef WR_TSAN
extern _Atomic unsigned wr_fence_word;
static inline void wr_fence(void) { atomic_fetch_add_explicit(&wr_fence_word, 1, memory_order_seq_cst); }
#else
static inline void wr_fence(void) { atomic_thread_fence(memory_order_seq_cst); }
#endif

/* A function that reads plain fields of what others may be changing, and for which any value of theirs will do. */
#ifdef WR_TSAN
#define WR_RACY __attribute__((no_sanitize("thread"), noinline))
#else
#define WR_RACY
#endif

/* Data of weir's own that leads to nothing of the program's, though it has pointers: no root for the leak proof. */
#define WR_PRIVATE __attribute__((section("weir_private")))

/*
 * The first word of a block of weir's own that the leak proof must not take word by word: what it is, and where, so that a copy is none.
 * Cleared before the block is freed.
 */
enum wr_tag { WR_TAG_CTX = 0x57c7, WR_TAG_SCOPE = 0x5c09, WR_TAG_OPAQUE = 0x09a9 };
static inline void wr_untag(uintptr_t *tag) { *(volatile uintptr_t *)tag = 0; } /* the compiler would drop a store before a free */
static inline uintptr_t wr_tag(const void *block, enum wr_tag tag) { return (uintptr_t)block ^ (uintptr_t)tag << 48 ^ 0x7765697277656972; }

/* calloc(1, size), for what is made and freed often: before 2.41 glibc's calloc goes past the cache that each thread has for free blocks,
 * and so do the frees once that is full. To be freed by free(). */
static inline void *wr_zalloc(size_t size) {
    void *p = malloc(size);
    return p ? memset(p, 0, size) : NULL;
}

/* A stress build dawdles here at random: before a park, a ready, a steal, a lock. */
#ifdef WEIR_STRESS
void wr_dawdle(void);
#else
static inline void wr_dawdle(void) {}
#endif

/* Futex, process-private. wait: returns when *word != value, woken, interrupted, or at `until` (WR_NEVER: no limit). */
void wr_futex_wait(_Atomic uint32_t *word, uint32_t value, weir_time until);
void wr_futex_wake(_Atomic uint32_t *word, int n);

#pragma GCC visibility pop
#endif
