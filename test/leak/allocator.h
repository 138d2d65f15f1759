/* What proofs can find depends on whose malloc it is. */
#ifndef LEAK_ALLOCATOR_H
#define LEAK_ALLOCATOR_H

#include "test.h"

/* The sanitizers' allocators have blocks whose bounds are not known, so all of malloc's memory is a root there: leaks are
 * missed, never invented. */
#if defined(TEST_ASAN) || defined(TEST_TSAN)
#define RECALL_WANTS_GLIBC() SKIP("the sanitizer's allocator does not tell where a block ends, so its memory counts as roots")
enum { HEAP_IS_KNOWN = 0 };
#elif !defined(__GLIBC__)
#define RECALL_WANTS_GLIBC() SKIP("where a block of malloc's ends is known for glibc alone")
enum { HEAP_IS_KNOWN = 0 };
#else
#define RECALL_WANTS_GLIBC() ((void)0)
enum { HEAP_IS_KNOWN = 1 };
#endif

#ifdef TEST_TSAN
#define PROOF_WANTS_SIGNALS() SKIP("ThreadSanitizer hands signals on too late: every proof is inconclusive")
#else
#define PROOF_WANTS_SIGNALS() ((void)0)
#endif

#endif
