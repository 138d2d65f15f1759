/*
 * arch: what a processor makes us write by hand — leaving one stack for another, starting on a fresh
 * one, catching the arguments of a call, and walking a stack that nobody runs on.
 *
 * Owns no memory but the capture buffer of each thread, takes no lock, and imports nothing of weir.
 * Two functions are expected from the scheduler: wr_goroutine_begin and wr_goroutine_end.
 * Everything here may be called from any thread and any stack; what may be called from a signal
 * handler says so.
 *
 * A stack that is not running is described by one word, its saved stack pointer; all else about it
 * lies on the stack itself, in the layout of struct wr_saved.
 */
#ifndef WR_ARCH_H
#define WR_ARCH_H

#include <stddef.h>
#include <stdint.h>

#if !defined(__x86_64__) && !defined(__aarch64__)
#error "weir has no stack switch for this processor (x86-64 and AArch64 only)"
#endif
#if defined(__ILP32__) || defined(__AARCH64EB__)
#error "weir needs 64-bit pointers and, on AArch64, little-endian byte order"
#endif

/*
 * The stub that catches a call's arguments. It is called through the type of another function, so
 * that the compiler converts and places the arguments for that function; it stores the registers
 * that can hold arguments into wr_captured_args of this thread and returns. Its return value means
 * nothing. Arguments passed on the stack, results returned through memory and the upper halves of
 * 256- and 512-bit vectors are not caught: weir_go refuses such functions at compile time.
 */
__attribute__((visibility("default"))) void weir_go_capture_(void);

#pragma GCC visibility push(hidden)

/* The argument registers of one call. Offsets are known to the .S files. */
#if defined(__x86_64__)
struct wr_args {
    uint64_t integer[6];                    /* rdi rsi rdx rcx r8 r9 */
    _Alignas(16) unsigned char vector[8][16]; /* xmm0 … xmm7, all 128 bits: _Complex, __m128, _Float128 */
};
#else
struct wr_args {
    uint64_t integer[8];                    /* x0 … x7; not x8, which points to a result in memory */
    _Alignas(16) unsigned char vector[8][16]; /* q0 … q7 */
};
#endif

/*
 * What weir_go_capture_ caught last on this thread. It is valid until the next call of any weir_go
 * on the same thread: read it before anything that may park. Old arguments stay here, so a leak
 * scan must leave it out of the roots or clear it. Initial-exec: a capture must not call
 * __tls_get_addr, which would destroy the very registers it is to store.
 */
extern __thread struct wr_args wr_captured_args __attribute__((tls_model("initial-exec")));

/*
 * Leave this stack: save the callee-saved registers and the floating-point control word(s) on it,
 * store the stack pointer in *save_sp, continue where the context load_sp was left, and return `arg`
 * there. Returns when somebody switches to what was stored in *save_sp, with the `arg` of that
 * switch. *save_sp is written before load_sp's stack is touched, so both may name one variable.
 *
 * A context may be loaded once for each time it is saved, on any thread; whoever loads it must have
 * seen the saving thread's writes (the scheduler's release and acquire of the goroutine).
 *
 * Control bits (rounding mode, exception masks, flush to zero) belong to the context. The sticky
 * exception flags do not: loading MXCSR or FPCR is slow, so it is done only when control bits differ.
 */
void *wr_switch(void **save_sp, void *load_sp, void *arg);

/* The distance into wr_switch of the instruction at which, with the saved stack pointer, its unwind information describes a parked
 * context. */
extern const uintptr_t wr_switch_parked;

/*
 * Make the bytes below stack_top (16-aligned) a context that, when first switched to, calls
 * wr_goroutine_begin(arg of the switch), then fn with the argument registers *args, then
 * wr_goroutine_end(fn's result). Returns its saved stack pointer. fn starts with the floating-point
 * control words of the caller of wr_prepare. Uses WR_PREPARED_SIZE bytes; a started goroutine keeps
 * 16 of them, and the copied arguments are wiped once they are in registers.
 */
void *wr_prepare(void *stack_top, void (*fn)(void), const struct wr_args *args);

/*
 * Supplied by the scheduler, called by the entry stub on the new stack. `begin` gets the arg of the
 * switch that started the goroutine, and returns. `end` gets fn's integer result register, all of
 * it, whatever fn's type: for a function that returns int take (int)result, for void ignore it. It
 * must not return.
 */
void wr_goroutine_begin(void *arg);
_Noreturn void wr_goroutine_end(intptr_t result);

/* Run fn(arg) on the stack that ends at stack_top (16-aligned) and come back. Unwinding crosses it.
   fn must not park: a context holds one stack. */
void wr_call_on(void *stack_top, void (*fn)(void *), void *arg);

/*
 * Unwinding: addresses only. Each function fills pcs with at most max return addresses, innermost
 * first, and returns how many. To look one up, search for pc − 1, which lies inside the call
 * instruction (exception: entry 0 of wr_unwind_signal). The entry stub below a goroutine's function
 * is never included, so the last address of a goroutine lies in the function it was started with.
 * The walk ends early where it meets code without unwind information.
 *
 * All three may be called from a signal handler where the C library finds unwind tables without a
 * lock: glibc 2.35 and later, and any static program.
 */

/* The caller's own stack: entry 0 is the return address of this call, unless skip > 0 leaves out the
   innermost `skip` entries. */
size_t wr_unwind_here(uintptr_t *pcs, size_t max, size_t skip);

/*
 * A context that wr_switch saved, or wr_prepare made; entry 0 is the return address of its call of
 * wr_switch. One that has never run gives a single entry: its function's address + 1. Reads the
 * parked stack and does not write to it. The context must not be resumed meanwhile.
 */
size_t wr_unwind_parked(const void *saved_sp, uintptr_t *pcs, size_t max);

/*
 * The context that a signal interrupted, as its handler got it in the third argument. Entry 0 is the
 * interrupted pc itself (look it up as it is), even if it is 0 or garbage: after a call through a wild
 * pointer, the caller is found where the call left the return address. Need not run on the interrupted
 * thread or stack. In a crash the stack may be garbage too, and the unwinder then faults: pcs is filled
 * in order, so if the caller has zeroed it, the second fault's handler finds in it what was reached.
 */
size_t wr_unwind_signal(const void *ucontext, uintptr_t *pcs, size_t max);

/* ---- Inside this room ---- */

/* What lies at a saved stack pointer. Offsets and order are known to the .S files. */
#if defined(__x86_64__)
struct wr_saved {
    uint32_t mxcsr;        /* SSE control and status */
    uint16_t x87_control;
    uint16_t unused;
    uint64_t r15, r14, r13, r12, rbx, rbp;
    uintptr_t pc;          /* where wr_switch returns to */
};
#else
struct wr_saved {
    uint64_t fpcr;
    uint64_t unused;
    uint64_t frame, pc;    /* x29, and x30: where wr_switch returns to */
    uint64_t x[10];        /* x19 … x28 */
    uint64_t d[8];         /* d8 … d15 */
};
#endif

/* What the entry stub finds above its wr_saved, at the top of a fresh stack. The last 16 bytes stay
   under fn's frames for good; the zero lies where walkers that do not understand "no caller", as
   valgrind's, look for a return address. */
struct wr_start {
    struct wr_args args;   /* wiped by the stub */
    uintptr_t no_caller;   /* 0 */
    void (*fn)(void);
};

#define WR_PREPARED_SIZE (sizeof(struct wr_saved) + sizeof(struct wr_start))

/* The entry stub: its bounds, and where a new context enters it. Not callable. */
extern const char wr_entry[], wr_entry_start[], wr_entry_end[];

/* A register set in DWARF's numbering: x86-64 rax rdx rcx rbx rsi rdi rbp rsp r8 … r15 rip, AArch64 x0
   … x30 sp pc. */
struct wr_registers {
#if defined(__x86_64__)
    uint64_t value[17];
#else
    uint64_t value[33];
#endif
};

/* Call fn(arg) so that an unwinder that starts in fn goes on, two frames out, with the code that the
   parked context will return to, or with the interrupted code. */
void wr_as_parked(const struct wr_saved *saved, void (*fn)(void *), void *arg);
void wr_as_interrupted(const struct wr_registers *registers, void (*fn)(void *), void *arg);

/*
 * Forget what the vector registers have that no call preserves. Nobody looks at them where a function is called, but they
 * keep what a copy of some handle left in them, which a leak scan finds for as long as the thread blocks.
 */
static inline void wr_vectors_clear(void) {
#if defined(__x86_64__)
    __asm__ volatile("pxor %%xmm0, %%xmm0\n\tpxor %%xmm1, %%xmm1\n\tpxor %%xmm2, %%xmm2\n\tpxor %%xmm3, %%xmm3\n\t"
                     "pxor %%xmm4, %%xmm4\n\tpxor %%xmm5, %%xmm5\n\tpxor %%xmm6, %%xmm6\n\tpxor %%xmm7, %%xmm7\n\t"
                     "pxor %%xmm8, %%xmm8\n\tpxor %%xmm9, %%xmm9\n\tpxor %%xmm10, %%xmm10\n\tpxor %%xmm11, %%xmm11\n\t"
                     "pxor %%xmm12, %%xmm12\n\tpxor %%xmm13, %%xmm13\n\tpxor %%xmm14, %%xmm14\n\tpxor %%xmm15, %%xmm15" ::
                         : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",
                           "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
#else
    __asm__ volatile("movi v0.2d, #0\n\tmovi v1.2d, #0\n\tmovi v2.2d, #0\n\tmovi v3.2d, #0\n\tmovi v4.2d, #0\n\t"
                     "movi v5.2d, #0\n\tmovi v6.2d, #0\n\tmovi v7.2d, #0\n\tmovi v16.2d, #0\n\tmovi v17.2d, #0\n\t"
                     "movi v18.2d, #0\n\tmovi v19.2d, #0\n\tmovi v20.2d, #0\n\tmovi v21.2d, #0\n\tmovi v22.2d, #0\n\t"
                     "movi v23.2d, #0\n\tmovi v24.2d, #0\n\tmovi v25.2d, #0\n\tmovi v26.2d, #0\n\tmovi v27.2d, #0\n\t"
                     "movi v28.2d, #0\n\tmovi v29.2d, #0\n\tmovi v30.2d, #0\n\tmovi v31.2d, #0" ::
                         : "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v16", "v17", "v18", "v19", "v20", "v21", "v22",
                           "v23", "v24", "v25", "v26", "v27", "v28", "v29", "v30", "v31");
#endif
}

#pragma GCC visibility pop
#endif
