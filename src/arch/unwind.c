/*
 * Walking a stack: our own, a parked one, an interrupted one. Addresses only; naming them is trace/'s.
 *
 * The walking is libgcc's _Unwind_Backtrace, which reads the compiler's unwind tables and is the most
 * tested code there is for it. It can only start at its own caller, so for a stack other than the
 * running one it is started below an assembly frame that claims to be called from there: see
 * wr_as_parked.
 */
#include "arch.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>
#include <unwind.h>

/* One walk in progress. */
struct walk {
    uintptr_t *pcs;   /* the caller's array */
    size_t max;       /* its length */
    size_t count;     /* entries filled */
    uintptr_t from;   /* frames inside the one with this pc are our own; 0 once it has been met */
    size_t skip;      /* frames still to leave out, from that one on */
};

static bool in_entry_stub(uintptr_t pc) {
    return pc >= (uintptr_t)wr_entry && pc <= (uintptr_t)wr_entry_end;
}

static _Unwind_Reason_Code visit(struct _Unwind_Context *context, void *arg) {
    struct walk *walk = arg;
    int exact = 0;
    uintptr_t pc = _Unwind_GetIPInfo(context, &exact);

    if (walk->from == pc)
        walk->from = 0;
    if (walk->from != 0)
        return _URC_NO_REASON;
    if (walk->skip > 0) {
        walk->skip--;
        return _URC_NO_REASON;
    }
    if (walk->count == walk->max || pc == 0 || in_entry_stub(pc))
        return _URC_END_OF_STACK;
    /* `exact` is set above a signal's frame, where pc is an instruction not yet executed; the caller
       of this room subtracts one from every entry. */
    walk->pcs[walk->count++] = pc + (exact != 0);
    return _URC_NO_REASON;
}

/* How many frames lie between a function and its caller is the compiler's choice (it may turn a call
   into a jump), so a walk begins at a return address. */
#define RETURN_ADDRESS ((uintptr_t)__builtin_extract_return_addr(__builtin_return_address(0)))

static bool has_unwind_information(uintptr_t return_address) {
    return return_address != 0 && _Unwind_FindEnclosingFunction((void *)return_address) != NULL;
}

/*
 * Record the frames of the stack that this is called on. If unwind tables cannot be found at all (a
 * program linked without --eh-frame-hdr, which musl-gcc leaves out), libgcc aborts, so it is not called.
 */
static void record_frames(struct walk *walk) {
    if (has_unwind_information((uintptr_t)wr_unwind_here + 1))
        _Unwind_Backtrace(visit, walk);
}

__attribute__((noinline))
size_t wr_unwind_here(uintptr_t *pcs, size_t max, size_t skip) {
    struct walk walk = { .pcs = pcs, .max = max, .from = RETURN_ADDRESS, .skip = skip };

    record_frames(&walk);
    return walk.count;
}

/* Called by wr_as_parked and wr_as_interrupted, whose frame is not wanted either. */
static void record_frames_beyond_caller(void *arg) {
    struct walk *walk = arg;

    walk->from = RETURN_ADDRESS;
    walk->skip++;
    record_frames(walk);
}

size_t wr_unwind_parked(const void *saved_sp, uintptr_t *pcs, size_t max) {
    const struct wr_saved *saved = saved_sp;
    struct walk walk = { .pcs = pcs, .max = max };

    if (max == 0)
        return 0;
    if (saved->pc == (uintptr_t)wr_entry_start) {
        /* Not started: wr_prepare put the function right above. */
        const struct wr_start *start = (const struct wr_start *)(saved + 1);
        pcs[0] = (uintptr_t)start->fn + 1;
        return 1;
    }
    wr_as_parked(saved, record_frames_beyond_caller, &walk);
    if (walk.count == 0)
        pcs[walk.count++] = saved->pc;
    return walk.count;
}

static void registers_of_ucontext(const ucontext_t *context, struct wr_registers *registers) {
#if defined(__x86_64__)
    static const unsigned char in_dwarf_order[17] = {
        REG_RAX, REG_RDX, REG_RCX, REG_RBX, REG_RSI, REG_RDI, REG_RBP, REG_RSP, REG_R8,
        REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15, REG_RIP,
    };
    for (size_t i = 0; i < 17; i++)
        registers->value[i] = (uint64_t)context->uc_mcontext.gregs[in_dwarf_order[i]];
#else
    for (size_t i = 0; i < 31; i++)
        registers->value[i] = context->uc_mcontext.regs[i];
    registers->value[31] = context->uc_mcontext.sp;
    registers->value[32] = context->uc_mcontext.pc;
#endif
}

static uint64_t *pc_of(struct wr_registers *registers) {
    size_t n = sizeof registers->value / sizeof registers->value[0];

    return &registers->value[n - 1];
}

#if defined(__x86_64__)
/* Reads a word that may not be there, without a fault and without a descriptor: the kernel copies the
   signal set in before it looks at the invalid first argument. */
static bool read_word(uintptr_t address, uint64_t *word) {
    int saved_errno = errno;
    bool readable = syscall(SYS_rt_sigprocmask, -1, address, NULL, sizeof *word) == -1 && errno == EINVAL;

    errno = saved_errno;
    if (readable)
        memcpy(word, (const void *)address, sizeof *word);
    return readable;
}
#endif

/* Did the processor fail to fetch the instruction at pc? Then it has just come there, by a call (or a
   return) to an address that is no code. */
static bool came_to_no_code(const ucontext_t *context, uintptr_t pc) {
#if defined(__x86_64__)
    enum { PAGE_FAULT = 14 };
    return context->uc_mcontext.gregs[REG_TRAPNO] == PAGE_FAULT && (uintptr_t)context->uc_mcontext.gregs[REG_CR2] == pc;
#else
    return context->uc_mcontext.fault_address == pc;
#endif
}

/* Undo a call to an address that is no code: make the registers those of its caller. False if what
   should be the return address does not lie in known code; then it was no call. */
static bool undo_call(struct wr_registers *registers) {
    uint64_t caller;

#if defined(__x86_64__)
    uint64_t *sp = &registers->value[7];
    if (!read_word(*sp, &caller) || !has_unwind_information(caller))
        return false;
    *sp += sizeof caller;
#else
    caller = registers->value[30];
    if (!has_unwind_information(caller))
        return false;
#endif
    *pc_of(registers) = caller;
    return true;
}

size_t wr_unwind_signal(const void *ucontext, uintptr_t *pcs, size_t max) {
    const ucontext_t *context = ucontext;
    struct wr_registers registers;
    struct walk walk = { .pcs = pcs, .max = max };

    if (max == 0)
        return 0;
    registers_of_ucontext(context, &registers);
    uint64_t *pc = pc_of(&registers);
    pcs[walk.count++] = *pc;

    if (has_unwind_information(*pc + 1)) {
        walk.skip = 1; /* the interrupted frame itself */
    } else if (came_to_no_code(context, *pc) && undo_call(&registers)) {
        /* It is a return address now, but will be looked up as it is, which is wrong after a call that
           is the last instruction of its function. */
        *pc -= 1;
    } else {
        return walk.count;
    }
    wr_as_interrupted(&registers, record_frames_beyond_caller, &walk);
    return walk.count;
}
