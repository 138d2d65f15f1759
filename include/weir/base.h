/* What every part of the interface uses: attributes, time units, errno. */
#ifndef WEIR_BASE_H
#define WEIR_BASE_H

#ifdef __cplusplus
#define WEIR_BEGIN_ extern "C" {
#define WEIR_END_ }
#else
#define WEIR_BEGIN_
#define WEIR_END_
#endif

#ifndef WEIR_API_
#define WEIR_API_ __attribute__((visibility("default")))
#endif
#define WEIR_MUST_USE_ __attribute__((warn_unused_result))
#define WEIR_NORETURN_ __attribute__((noreturn))
/* Lets `-fanalyzer` see a lost constructor result; clang 14 knows no arguments to malloc. */
#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 11
#define WEIR_CONSTRUCTOR_(destructor) __attribute__((warn_unused_result, malloc(destructor, 1)))
#else
#define WEIR_CONSTRUCTOR_(destructor) __attribute__((warn_unused_result))
#endif

#define WEIR_CAT2_(a, b) a##b
#define WEIR_CAT_(a, b) WEIR_CAT2_(a, b)
/* The optional last argument of a macro: WEIR_OPT_() is NULL, WEIR_OPT_(x) is x. */
#define WEIR_OPT_(...) WEIR_OPT2_(0 __VA_OPT__(, ) __VA_ARGS__, NULL, NULL)
#define WEIR_OPT2_(zero, first, ...) first

/* A span of time in nanoseconds, as Go's time.Duration. */
typedef int64_t weir_duration;
/* A point in time: nanoseconds of the monotonic clock, as weir_now() reads it. */
typedef int64_t weir_time;

#define WEIR_NANOSECOND ((weir_duration)1)
#define WEIR_MICROSECOND (1000 * WEIR_NANOSECOND)
#define WEIR_MILLISECOND (1000 * WEIR_MICROSECOND)
#define WEIR_SECOND (1000 * WEIR_MILLISECOND)
#define WEIR_MINUTE (60 * WEIR_SECOND)
#define WEIR_HOUR (60 * WEIR_MINUTE)

WEIR_BEGIN_
/* The C library declares errno's accessor "const", so compilers call it once and keep the address
 * over a blocking call, after which the goroutine may be on another thread. This one they call anew. */
WEIR_API_ int *weir_errno_(void);
WEIR_END_
#undef errno
#define errno (*weir_errno_())

#endif
