/* The parts of arch.h that C can say: the capture buffer, and the layout of a fresh stack. */
#include "arch.h"

#include <string.h>

_Static_assert(sizeof(struct wr_start) % 16 == 0, "fn must be entered with an aligned stack");
#if defined(__x86_64__)
_Static_assert(sizeof(struct wr_saved) == 64 && offsetof(struct wr_saved, pc) == 56, "known to x86_64.S");
_Static_assert(sizeof(struct wr_args) == 176 && offsetof(struct wr_args, vector) == 48, "known to x86_64.S");
#else
_Static_assert(sizeof(struct wr_saved) == 176 && offsetof(struct wr_saved, d) == 112, "known to aarch64.S");
_Static_assert(sizeof(struct wr_args) == 192 && offsetof(struct wr_args, vector) == 64, "known to aarch64.S");
#endif

__thread struct wr_args wr_captured_args __attribute__((tls_model("initial-exec")));

/* The caller's floating-point control words, without the flags that report past exceptions. */
static void save_control_words(struct wr_saved *saved) {
#if defined(__x86_64__)
    __asm__ volatile("stmxcsr %0" : "=m"(saved->mxcsr));
    __asm__ volatile("fnstcw %0" : "=m"(saved->x87_control));
    saved->mxcsr &= 0xffc0;
#else
    __asm__ volatile("mrs %0, fpcr" : "=r"(saved->fpcr));
#endif
}

void *wr_prepare(void *stack_top, void (*fn)(void), const struct wr_args *args) {
    struct wr_start *start = (struct wr_start *)stack_top - 1;
    struct wr_saved *saved = (struct wr_saved *)start - 1;

    start->args = *args;
    start->fn = fn;
    start->no_caller = 0;

    /* A frame pointer of zero ends the chain for those who walk by frame pointers. */
    memset(saved, 0, sizeof *saved);
    save_control_words(saved);
    saved->pc = (uintptr_t)wr_entry_start;
    return saved;
}
