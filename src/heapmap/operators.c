/*
 * C++'s operators new and delete: an allocator may bring its own, which call no malloc. By their mangled names, so
 * that it takes no C++. Those of the C++ library call malloc and free in turn, which come by us; or what the program has put
 * in the place of a plainer one of them, and then what they give may be a piece of a block: not ours to enter, nor
 * to take out. Should the allocator's call malloc and free, a block is entered, or taken out, twice, which does no harm. An
 * exception of theirs passes through: there is nothing to be undone.
 *
 * A sized delete is the one without, as C++ has it by default, and whoever has replaced that: an allocator would believe
 * the program's size, which is not what it was asked for.
 */
#include "heapmap/inner.h"

#include <dlfcn.h>
#include <stdlib.h>

#define PARAMETERS(...) __VA_ARGS__

#define NEW(mangled, parameters, arguments)                                                         \
    PUBLIC void *mangled(parameters);                                                               \
    PUBLIC void *mangled(parameters) {                                                              \
        static void *(*_Atomic real)(parameters);                                                   \
        static _Atomic bool is_allocators;                                                          \
        if (!real) {                                                                                \
            void *found = wr_heapmap_next(#mangled);                                                \
            if (!found) abort(); /* who calls it has a C++ library */                               \
            is_allocators = wr_heapmap_is_allocators(found);                                        \
            real = (void *(*)(parameters))found;                                                    \
        }                                                                                           \
        if (!is_allocators) return real arguments;                                                  \
        n = with_spare(n);                                                                          \
        void *p = real arguments;                                                                   \
        wr_heapmap_enter(p, n);                                                                     \
        return p;                                                                                   \
    }

#define DELETE(mangled, parameters, arguments)                                                      \
    PUBLIC void mangled(parameters);                                                                \
    PUBLIC void mangled(parameters) {                                                               \
        static void (*_Atomic real)(parameters);                                                    \
        static _Atomic bool is_allocators;                                                          \
        if (!real) {                                                                                \
            void *found = wr_heapmap_next(#mangled);                                                \
            if (!found) abort();                                                                    \
            is_allocators = wr_heapmap_is_allocators(found);                                        \
            real = (void (*)(parameters))found;                                                     \
        }                                                                                           \
        if (is_allocators) wr_heapmap_take_out(p);                                                  \
        real arguments;                                                                             \
    }

#define SIZED_DELETE(mangled, parameters, unsized, its_parameters, arguments)                       \
    PUBLIC void mangled(parameters);                                                                \
    PUBLIC void mangled(parameters) {                                                               \
        static void (*_Atomic real)(its_parameters);                                                \
        if (!real) real = (void (*)(its_parameters))dlsym(RTLD_DEFAULT, #unsized);                  \
        if (!real) abort();                                                                         \
        real arguments;                                                                             \
    }

/* size_t is m there on all that we know; std::nothrow_t travels as a pointer, std::align_val_t as a size_t. */
#define PLAIN PARAMETERS(size_t n)
#define QUIET PARAMETERS(size_t n, const void *nothrow)
#define ALIGNED PARAMETERS(size_t n, size_t align)
#define ALIGNED_QUIET PARAMETERS(size_t n, size_t align, const void *nothrow)
NEW(_Znwm, PLAIN, (n))
NEW(_Znam, PLAIN, (n))
NEW(_ZnwmRKSt9nothrow_t, QUIET, (n, nothrow))
NEW(_ZnamRKSt9nothrow_t, QUIET, (n, nothrow))
NEW(_ZnwmSt11align_val_t, ALIGNED, (n, align))
NEW(_ZnamSt11align_val_t, ALIGNED, (n, align))
NEW(_ZnwmSt11align_val_tRKSt9nothrow_t, ALIGNED_QUIET, (n, align, nothrow))
NEW(_ZnamSt11align_val_tRKSt9nothrow_t, ALIGNED_QUIET, (n, align, nothrow))

#define GONE PARAMETERS(void *p)
#define GONE_QUIET PARAMETERS(void *p, const void *nothrow)
#define GONE_SIZED PARAMETERS(void *p, size_t n)
#define GONE_ALIGNED PARAMETERS(void *p, size_t align)
#define GONE_ALIGNED_QUIET PARAMETERS(void *p, size_t align, const void *nothrow)
#define GONE_SIZED_ALIGNED PARAMETERS(void *p, size_t n, size_t align)
DELETE(_ZdlPv, GONE, (p))
DELETE(_ZdaPv, GONE, (p))
DELETE(_ZdlPvRKSt9nothrow_t, GONE_QUIET, (p, nothrow))
DELETE(_ZdaPvRKSt9nothrow_t, GONE_QUIET, (p, nothrow))
DELETE(_ZdlPvSt11align_val_t, GONE_ALIGNED, (p, align))
DELETE(_ZdaPvSt11align_val_t, GONE_ALIGNED, (p, align))
DELETE(_ZdlPvSt11align_val_tRKSt9nothrow_t, GONE_ALIGNED_QUIET, (p, align, nothrow))
DELETE(_ZdaPvSt11align_val_tRKSt9nothrow_t, GONE_ALIGNED_QUIET, (p, align, nothrow))
SIZED_DELETE(_ZdlPvm, GONE_SIZED, _ZdlPv, GONE, (p))
SIZED_DELETE(_ZdaPvm, GONE_SIZED, _ZdaPv, GONE, (p))
SIZED_DELETE(_ZdlPvmSt11align_val_t, GONE_SIZED_ALIGNED, _ZdlPvSt11align_val_t, GONE_ALIGNED, (p, align))
SIZED_DELETE(_ZdaPvmSt11align_val_t, GONE_SIZED_ALIGNED, _ZdaPvSt11align_val_t, GONE_ALIGNED, (p, align))
