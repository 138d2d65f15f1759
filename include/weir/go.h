/* Starting the runtime; goroutines. */
#ifndef WEIR_GO_H
#define WEIR_GO_H

WEIR_BEGIN_

/* ---- Starting --------------------------------------------------------------------------------- */

/* Define this instead of main(): it runs as the main goroutine, on a stack of 8 MiB. When it returns, its
 * value is the exit status of the process and the other goroutines end with it, as in Go. If it ends
 * by weir_exit(), the others go on; when none is left, or all sleep for good, the process says so,
 * prints every stack and exits with status 2. */
WEIR_API_ int weir_main(int argc, char **argv);

/* Start the runtime from your own main(): runs fn(arg) as the main goroutine and returns its value
 * once it has returned; the other goroutines then run no more. Blocks the calling thread; it does not return
 * if fn ends by weir_exit(). -EINVAL: no fn. -EBUSY: the runtime runs already. -ENOMEM, -EAGAIN: no memory, no
 * thread. fn's own value is passed through, so let it return values ≥ 0 if you need to tell them apart. May be
 * called again after it has returned. */
WEIR_API_ int weir_run(int (*fn)(void *arg), void *arg);

/* Embed: start workers beside an existing program and return. Its own threads may then call weir, and
 * block in it. No deadlock is ever reported in this mode. 0; -EBUSY: the runtime runs already; -ENOMEM,
 * -EAGAIN: no memory, no thread. */
WEIR_API_ int weir_start(void);

/* End what weir_start() began: waits up to `grace` for every goroutine to end, then stops the workers.
 * 0: all had ended. -ETIMEDOUT: some had not; they run no more. -EPERM: not begun by weir_start, or called from
 * a goroutine. Blocks the calling thread; not cancellable. */
WEIR_API_ int weir_stop(weir_duration grace);

/* ---- Goroutines ------------------------------------------------------------------------------- */

/* Where a goroutine was started: one static record for each `weir_go` in the source. */
typedef struct weir_site_ {
    const char *file;       /* __FILE__ */
    const char *creator;    /* the function that holds the weir_go */
    const char *function;   /* the text of fn */
    int line;               /* __LINE__ */
} weir_site_;

/* Stores the argument registers with which it is called; weir_go calls it through fn's own type. */
WEIR_API_ void weir_go_capture_(void);
/* Start fn with those arguments. scope.h and sync.h have launchers of the same shape, for their `owner`. */
WEIR_API_ int weir_go_launch_(void (*fn)(void), const weir_site_ *site, size_t stack, bool returns_int, void *owner);

/*
 * int weir_go(fn, ...): start fn(...) as a goroutine. Go: `go fn(...)`.
 *
 * The arguments (none to six: integers, pointers, floats, doubles, structs and unions of up to 16
 * bytes) are checked against fn's prototype by the compiler, converted as in a call, and copied. One
 * that would travel on the stack is a compile error. fn's result is dropped.
 * The goroutine is detached: it runs under the background context, and so can leak; for one that
 * cannot, see scope.h. A handle passed along is not retained for you: pass weir_retain(ch), let the
 * goroutine release it, and release it yourself if weir_go fails.
 * fn may be declared _Noreturn. With clang in C, not by __attribute__((noreturn)): clang makes that a part
 * of fn's type and drops what follows the macro; wrap such a function in one without it.
 * 0; -ENOMEM: no memory for a stack; -EPERM: the runtime is not running; -EAGAIN is reserved. (Where the
 * system gives no more threads, the goroutine is started and waits for one of those there are.) Does not block.
 */
#define weir_go(fn, ...) WEIR_GO_(fn, weir_go_launch_, 0, NULL __VA_OPT__(, ) __VA_ARGS__)

/* int weir_go_stack(size_t bytes, fn, ...): the same on a stack of at least `bytes` (16 KiB … 1 GiB, rounded up
 * to a power of two; 0 = the default, 256 KiB or WEIR_STACK). A guard page and weir's own record of the
 * goroutine are taken from it. As weir_go; -EINVAL: more than 1 GiB. */
#define weir_go_stack(bytes, fn, ...) WEIR_GO_(fn, weir_go_launch_, bytes, NULL __VA_OPT__(, ) __VA_ARGS__)

/* Let others run: the caller goes to the end of its run queue. Go: runtime.Gosched. Not cancellable. */
WEIR_API_ void weir_yield(void);

/* End the calling goroutine: runs what was deferred, last in first out, and closes open scopes and blocks. It does
 * not unwind the stack: no `cleanup` variable and no C++ destructor of yours is run. In a foreign thread: runs what
 * was deferred and ends the thread. Harmless inside a deferred call. Go: runtime.Goexit. */
WEIR_API_ WEIR_NORETURN_ void weir_exit(void);

/* Run fn(arg) when the calling goroutine ends, last in first out. It belongs to the goroutine, not to
 * the function that calls it. Out of memory ends the process. Does not block. Go: defer, but for that. */
WEIR_API_ void weir_defer(void (*fn)(void *), void *arg);

/* The calling goroutine's number, not used again while the runtime runs; the main goroutine is 1. */
WEIR_API_ uint64_t weir_id(void);

/* Live goroutines, the caller included, and threads of the program that have called weir. Go:
 * runtime.NumGoroutine. */
WEIR_API_ size_t weir_count(void);

/* Set how many goroutines run at once (n > 0; more than 1024 means 1024) or ask (n = 0); returns the previous
 * value, -EINVAL for n < 0. The start value is WEIR_PROCS, or the CPUs that this process may use, cgroup quota
 * included. While the runtime is not running it can be asked, not set: -EPERM. Does not block; of those that
 * run, when the number falls, the caller gives way at once, the others at their next scheduling point. Go:
 * runtime.GOMAXPROCS. */
WEIR_API_ int weir_procs(int n);

/* Name the calling goroutine in dumps and profiles (cut at 63 bytes). */
WEIR_API_ void weir_name(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Set a pprof label of the calling goroutine, inherited by those it starts; value NULL removes it. Both are
 * copied; without memory for that nothing changes. Go: pprof.SetGoroutineLabels. */
WEIR_API_ void weir_label(const char *key, const char *value);

/* Tie the calling goroutine to its present thread, until as many unlocks: it runs on no other thread, and that
 * thread runs nothing else. A foreign thread is tied in any case. Do not block. Go: runtime.LockOSThread. */
WEIR_API_ void weir_lock_thread(void);
WEIR_API_ void weir_unlock_thread(void);

/* Run fn(arg), which is known to block the thread, while the other goroutines go on elsewhere; returns
 * fn's result. fn runs on the goroutine's own stack, at once, whatever the context: not cancellable. In a
 * foreign thread it just calls fn. Go: what a system call does by itself. */
WEIR_API_ int weir_blocking(int (*fn)(void *), void *arg);

WEIR_END_

/* ---- How weir_go works --------------------------------------------------------------------------
 * weir_go_capture_ is called through fn's own type, so that the compiler checks and converts the
 * arguments and puts them where fn expects them; it stores those registers for weir_go_launch_, which
 * follows at once. Nothing is packed by hand. */
#define WEIR_NARGS_(...) WEIR_NARGS2_(0 __VA_OPT__(, ) __VA_ARGS__, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0)
#define WEIR_NARGS2_(z, a, b, c, d, e, f, g, h, i, n, ...) n
#define WEIR_SUM_0_() 0
#define WEIR_SUM_1_(a) WEIR_ARG_WORDS_(a)
#define WEIR_SUM_2_(a, b) WEIR_ARG_WORDS_(a) + WEIR_ARG_WORDS_(b)
#define WEIR_SUM_3_(a, b, c) WEIR_SUM_2_(a, b) + WEIR_ARG_WORDS_(c)
#define WEIR_SUM_4_(a, b, c, d) WEIR_SUM_3_(a, b, c) + WEIR_ARG_WORDS_(d)
#define WEIR_SUM_5_(a, b, c, d, e) WEIR_SUM_4_(a, b, c, d) + WEIR_ARG_WORDS_(e)
#define WEIR_SUM_6_(a, b, c, d, e, f) WEIR_SUM_5_(a, b, c, d, e) + WEIR_ARG_WORDS_(f)
#define WEIR_SUM_7_(...) 1000
#define WEIR_SUM_8_(...) 1000
#define WEIR_SUM_9_(...) 1000
#define WEIR_SUM_(...) (WEIR_CAT_(WEIR_CAT_(WEIR_SUM_, WEIR_NARGS_(__VA_ARGS__)), _)(__VA_ARGS__))

/* Which launchers take a function of any result type. */
#define WEIR_RESULT_ANY_weir_go_launch_ 1
#define WEIR_RESULT_ANY_weir_wg_launch_ 1
#define WEIR_RESULT_ANY_weir_scope_launch_ 0
#define WEIR_RESULT_ANY_weir_scope_try_launch_ 0

#define WEIR_SITE_(fn) \
    static const weir_site_ weir_site = { __FILE__, __func__, #fn, __LINE__ }

#ifndef __cplusplus

/* How many general registers an argument takes; 100 where it would travel on the stack. */
#define WEIR_ARG_WORDS_(x)                                                                          \
    _Generic((WEIR_DECAYED_(x) *)0, float *: 0, double *: 0, const float *: 0,              \
             const double *: 0, long double *: 100, const long double *: 100,                       \
             default: sizeof(WEIR_DECAYED_(x)) <= 16 ? (sizeof(WEIR_DECAYED_(x)) + 7) / 8 : 100)
#define WEIR_DECAYED_(x) __typeof__(((void)0, (x)))

/* fn's type as a pointer, from a function or a pointer to one. `&*fn` would do, but keeps a noreturn
 * attribute, and the compiler would then drop what follows the call. */
#define WEIR_FN_TYPE_(fn)                                                                           \
    __typeof__(__builtin_choose_expr(                                                               \
        __builtin_types_compatible_p(__typeof__(fn), __typeof__(&*(fn))), (fn), (__typeof__(fn) *)0))

#define WEIR_GO_(fn, launch, stack, owner, ...)                                                     \
    __extension__({                                                                                 \
        typedef __typeof__((fn)(__VA_ARGS__)) weir_result;                                          \
        _Static_assert(WEIR_SUM_(__VA_ARGS__) <= 6,                                                 \
                       "weir_go: takes up to six arguments that travel in registers (16 bytes each at " \
                       "most, no long double); pass a pointer to anything larger");                 \
        _Static_assert(sizeof(weir_result) <= 16,                                                   \
                       "weir_go: the function returns a struct in memory that would be gone by then"); \
        _Static_assert(WEIR_RESULT_ANY_##launch || WEIR_IS_(weir_result, int) || WEIR_IS_(weir_result, void), \
                       "weir_scope_go: the function must return int (non-zero is a failure) or void"); \
        WEIR_SITE_(fn);                                                                             \
        WEIR_FN_TYPE_(fn) weir_fn = (fn);                                                           \
        WEIR_FN_TYPE_(fn) weir_capture = (WEIR_FN_TYPE_(fn))weir_go_capture_;                       \
        size_t weir_stack = (stack);                                                                \
        void *weir_owner = (owner);                                                                 \
        WEIR_STRICT_(weir_capture(__VA_ARGS__);)                                                    \
        launch((void (*)(void))weir_fn, &weir_site, weir_stack, WEIR_IS_(weir_result, int), weir_owner); \
    })
/* A pointer for an integer, or for another pointer, is an error here, whatever the compiler's default. */
#define WEIR_STRICT_(...)                                                                           \
    _Pragma("GCC diagnostic push") _Pragma("GCC diagnostic error \"-Wint-conversion\"")             \
        _Pragma("GCC diagnostic error \"-Wincompatible-pointer-types\"") __VA_ARGS__                \
            _Pragma("GCC diagnostic pop")
#define WEIR_IS_(a, b) __builtin_types_compatible_p(a, b)

#else /* C++: the same by templates; lambdas without captures work too. */

#include <type_traits>

template <class T> constexpr size_t weir_arg_words_() {
    using U = typename std::remove_cv<typename std::remove_reference<T>::type>::type;
    if (std::is_same<U, float>::value || std::is_same<U, double>::value) return 0;
    if (std::is_same<U, long double>::value || sizeof(U) > 16 || !std::is_trivially_copyable<U>::value) return 100;
    return (sizeof(U) + 7) / 8;
}
/* fn, and weir_go_capture_ as a function of fn's type, so that a call of it converts as a call of fn would. */
template <class R, class... P> struct weir_fn_ {
    static_assert((weir_arg_words_<P>() + ... + 0) <= 6 && sizeof...(P) <= 6,
                  "weir_go: takes up to six arguments that travel in registers (16 bytes each at most, "
                  "no long double, trivially copyable); pass a pointer to anything larger");
    static constexpr bool returns_int = std::is_same<R, int>::value, returns_void = std::is_void<R>::value;
    R (*entry)(P...);
    R (*capture)(P...);
};
template <class R, class... P> weir_fn_<R, P...> weir_fn_of_(R (*fn)(P...)) {
    return { fn, reinterpret_cast<R (*)(P...)>(weir_go_capture_) };
}
template <class R, class... P> struct weir_fn_variadic_ {
    static constexpr bool returns_int = std::is_same<R, int>::value, returns_void = std::is_void<R>::value;
    R (*entry)(P..., ...);
    template <class... A> void capture(A &&...a) const {
        static_assert((weir_arg_words_<A>() + ... + 0) <= 6, "weir_go: too many arguments");
        reinterpret_cast<R (*)(P..., ...)>(weir_go_capture_)(static_cast<A &&>(a)...);
    }
};
template <class R, class... P> weir_fn_variadic_<R, P...> weir_fn_of_(R (*fn)(P..., ...)) { return { fn }; }
template <class L, class = typename std::enable_if<!std::is_pointer<L>::value && !std::is_function<L>::value>::type>
auto weir_fn_of_(L lambda) {
    return weir_fn_of_(+lambda);
}

#define WEIR_GO_(fn, launch, stack, owner, ...)                                                     \
    __extension__({                                                                                 \
        WEIR_SITE_(fn);                                                                             \
        auto weir_f = weir_fn_of_(fn);                                                              \
        static_assert(WEIR_RESULT_ANY_##launch || weir_f.returns_int || weir_f.returns_void,         \
                      "weir_scope_go: the function must return int (non-zero is a failure) or void"); \
        size_t weir_stack = (stack);                                                                \
        void *weir_owner = (owner);                                                                 \
        weir_f.capture(__VA_ARGS__);                                                                \
        launch(reinterpret_cast<void (*)(void)>(weir_f.entry), &weir_site, weir_stack,              \
               weir_f.returns_int, weir_owner);                                                     \
    })

#endif /* __cplusplus */

#endif
