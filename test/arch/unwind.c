/* Walking stacks: our own, a parked one, an interrupted one. */
#include "context.h"

#include <alloca.h>
#include <signal.h>
#include <ucontext.h>
#include <unistd.h>
#include <unwind.h>

enum { MAX = 64, GOOD = 3 };
static uintptr_t pcs[MAX];
static size_t count;

/* A function that must have a frame of its own, in every build: neither cloned nor inlined … */
#if defined(__clang__)
#define FRAME __attribute__((noinline, used))
#else
#define FRAME __attribute__((noipa, used))
#endif
/* … and, put behind a call, that call not turned into a jump. */
#define STAY() __asm__ volatile("" ::: "memory")

static uintptr_t function_of(uintptr_t return_address) {
    return (uintptr_t)_Unwind_FindEnclosingFunction((void *)return_address);
}

#define EXPECT(i, fn)                                                                               \
    do {                                                                                            \
        if (function_of(pcs[i]) != (uintptr_t)(fn))                                                 \
            FAIL("entry %zu of %zu, %#lx, lies in %#lx, not in " #fn " (%#lx)", (size_t)(i), count, \
                 (unsigned long)pcs[i], (unsigned long)function_of(pcs[i]), (unsigned long)(uintptr_t)(fn)); \
    } while (0)

/* ---- A stack with frames of many shapes ------------------------------------------------------------ */

FRAME static void leaf(void (*what)(void)) {
    what();
    STAY();
}

FRAME static int with_alloca(int n, void (*what)(void)) {
    char *p = alloca((size_t)n);
    memset(p, n, (size_t)n);
    leaf(what);
    STAY();
    return p[n - 1];
}

FRAME static int realigned(int n, void (*what)(void)) {
    _Alignas(64) volatile char wide[128];
    wide[n] = 1;
    int r = with_alloca(n * 3, what) + wide[n];
    STAY();
    return r;
}

FRAME static long many_registers(long a, long b, long c, long d, long e, void (*what)(void)) {
    long f = a * b, g = c * d, h = a * e, i = b * c, j = a * c, k = b * d;
    int r = realigned((int)e, what);
    STAY();
    return a + b + c + d + e + f + g + h + i + j + k + r;
}

FRAME static double with_reals(double x, void (*what)(void)) {
    double y = x * 3;
    long r = many_registers(2, 3, 4, 5, 6, what);
    STAY();
    return y + (double)r;
}

FRAME static void goroutine(void (*what)(void)) {
    CHECK(with_reals(1.5, what) > 4);
    STAY();
}

static void expect_chain(size_t at) {
    EXPECT(at, leaf);
    EXPECT(at + 1, with_alloca);
    EXPECT(at + 2, realigned);
    EXPECT(at + 3, many_registers);
    EXPECT(at + 4, with_reals);
    EXPECT(at + 5, goroutine);
}
enum { CHAIN = 6 };

/* ---- Our own --------------------------------------------------------------------------------------- */

FRAME static void look_here(void) {
    count = wr_unwind_here(pcs, MAX, 0);
    STAY();
}

PLAIN_TEST(here_ends_with_the_function_the_context_was_started_with) {
    struct context c;
    PREPARE(&c, goroutine, look_here);
    resume(&c, NULL);
    EXPECT(0, look_here);
    expect_chain(1);
    CHECK_EQ(count, 1 + CHAIN);
}

FRAME static void look_past_two(void) {
    count = wr_unwind_here(pcs, 3, 2);
    STAY();
}

PLAIN_TEST(here_skips_the_innermost_and_stops_at_max) {
    struct context c;
    PREPARE(&c, goroutine, look_past_two);
    resume(&c, NULL);
    CHECK_EQ(count, 3);
    EXPECT(0, with_alloca);
    EXPECT(2, many_registers);
}

PLAIN_TEST(here_works_on_a_threads_own_stack) {
    goroutine(look_here);
    EXPECT(0, look_here);
    expect_chain(1);
    CHECK(count > 1 + CHAIN);
}

static struct context other;

FRAME static void look_from_there(void *arg) {
    leaf(look_here);
    STAY();
}

FRAME static void look_on_other_stack(void) {
    wr_call_on(top_of(&other), look_from_there, NULL);
    STAY();
}

PLAIN_TEST(here_crosses_call_on) {
    struct context c;
    PREPARE(&other, look_here);
    PREPARE(&c, goroutine, look_on_other_stack);
    resume(&c, NULL);
    EXPECT(1, leaf);
    EXPECT(2, look_from_there);
    EXPECT(3, wr_call_on);
    EXPECT(4, look_on_other_stack);
    expect_chain(5);
    CHECK_EQ(count, 5 + CHAIN);
}

static int *forbidden;

FRAME static int read_word(volatile int *p) { return *p; }

FRAME static void fault_once(void) {
    read_word(forbidden);
    STAY();
}

FRAME static void look_from_handler(int signo) {
    look_here();
    CHECK_EQ(mprotect(forbidden, 4096, PROT_READ), 0);
    STAY();
}

PLAIN_TEST(here_crosses_a_signal_frame) {
    struct context c;
    forbidden = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    signal(SIGSEGV, look_from_handler);
    PREPARE(&c, goroutine, fault_once);
    resume(&c, NULL);
    CHECK(c.ended);
    EXPECT(0, look_here);
    EXPECT(1, look_from_handler);
    size_t i = 2;
    while (i < count && function_of(pcs[i]) != (uintptr_t)read_word) i++;
    CHECK(i < count);
    EXPECT(i + 1, fault_once);
    expect_chain(i + 2);
    CHECK_EQ(count, i + 2 + CHAIN);
}

/* ---- Parked ---------------------------------------------------------------------------------------- */

FRAME static void just_park(void) {
    wr_switch(&running->sp, running->resumer, NULL);
    STAY();
}

PLAIN_TEST(parked_gives_every_frame_and_writes_nothing) {
    struct context c;
    PREPARE(&c, goroutine, just_park);
    resume(&c, NULL);
    CHECK_EQ(mprotect(c.stack, STACK_SIZE, PROT_READ), 0);
    count = wr_unwind_parked(c.sp, pcs, MAX);
    EXPECT(0, just_park);
    expect_chain(1);
    CHECK_EQ(count, 1 + CHAIN);
    CHECK_EQ(wr_unwind_parked(c.sp, pcs, 2), 2);
    CHECK_EQ(wr_unwind_parked(c.sp, pcs, 0), 0);
    CHECK_EQ(mprotect(c.stack, STACK_SIZE, PROT_READ | PROT_WRITE), 0);
    resume(&c, NULL);
    CHECK(c.ended);
}

PLAIN_TEST(parked_that_never_ran_gives_its_function) {
    struct context c;
    PREPARE(&c, goroutine, just_park);
    count = wr_unwind_parked(c.sp, pcs, MAX);
    CHECK_EQ(count, 1);
    EXPECT(0, goroutine);
}

static void look_at_other(void) {
    count = wr_unwind_parked(other.sp, pcs, MAX);
    EXPECT(0, just_park);
    expect_chain(1);
    CHECK_EQ(count, 1 + CHAIN);
}

PLAIN_TEST(one_context_walks_another) {
    struct context c;
    PREPARE(&other, goroutine, just_park);
    resume(&other, NULL);
    PREPARE(&c, goroutine, look_at_other);
    resume(&c, NULL);
    CHECK(c.ended);
}

/* ---- Interrupted ----------------------------------------------------------------------------------- */

static uintptr_t pc_of(const ucontext_t *context) {
#if defined(__x86_64__)
    return (uintptr_t)context->uc_mcontext.gregs[REG_RIP];
#else
    return context->uc_mcontext.pc;
#endif
}

static void (*judge)(void);

static void on_crash(int signo, siginfo_t *info, void *context) {
    count = wr_unwind_signal(context, pcs, MAX);
    CHECK(count >= 1);
    CHECK(pcs[0] == pc_of(context));
    judge();
    _exit(GOOD);
}

static void handle_on_another_stack(int signo, void (*handler)(int, siginfo_t *, void *)) {
    static char alternate[64 << 10];
    stack_t stack = { .ss_sp = alternate, .ss_size = sizeof alternate };
    CHECK_EQ(sigaltstack(&stack, NULL), 0);
    struct sigaction action = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_ONSTACK };
    CHECK_EQ(sigaction(signo, &action, NULL), 0);
}

static void crash_by(void (*crash)(void), void (*then)(void)) {
    struct context c;
    judge = then;
    handle_on_another_stack(SIGSEGV, on_crash);
    PREPARE(&c, goroutine, crash);
    resume(&c, NULL);
    FAIL("no crash");
}

FRAME static void read_from_nowhere(void) {
    volatile int *volatile nowhere = (volatile int *)64;
    read_word(nowhere);
    STAY();
}

static void expect_read_from_nowhere(void) {
    CHECK(function_of(pcs[0] + 1) == (uintptr_t)read_word);
    EXPECT(1, read_from_nowhere);
    expect_chain(2);
    CHECK_EQ(count, 2 + CHAIN);
}

EXIT_PLAIN_TEST(signal_in_a_leaf, GOOD, NULL) { crash_by(read_from_nowhere, expect_read_from_nowhere); }

static void (*volatile wild)(void);

FRAME static void call_wild(void) {
    wild();
    STAY();
}

static void expect_call_wild(void) {
    CHECK(pcs[0] == (uintptr_t)wild);
    EXPECT(1, call_wild);
    expect_chain(2);
    CHECK_EQ(count, 2 + CHAIN);
}

EXIT_PLAIN_TEST(signal_by_a_call_of_null, GOOD, NULL) { crash_by(call_wild, expect_call_wild); }

EXIT_PLAIN_TEST(signal_by_a_call_into_data, GOOD, NULL) {
    wild = (void (*)(void))(uintptr_t)&other;
    crash_by(call_wild, expect_call_wild);
}

/* Its return address lies behind the function's end. */
FRAME static void call_wild_last(void) {
    wild();
    __builtin_unreachable();
}

static void expect_call_wild_last(void) {
    EXPECT(1, call_wild_last);
    expect_chain(2);
    CHECK_EQ(count, 2 + CHAIN);
}

EXIT_PLAIN_TEST(signal_by_a_wild_call_that_ends_its_function, GOOD, NULL) {
    crash_by(call_wild_last, expect_call_wild_last);
}

FRAME static void lose_the_stack(void) {
#if defined(__x86_64__)
    __asm__ volatile("xorl %eax, %eax; movq %rax, %rsp; jmp *%rax");
#else
    __asm__ volatile("mov x30, 0; mov sp, x30; br x30");
#endif
}

static void expect_pc_alone(void) { CHECK_EQ(count, 1); }

EXIT_PLAIN_TEST(signal_with_the_stack_lost_gives_the_pc, GOOD, NULL) { crash_by(lose_the_stack, expect_pc_alone); }

static volatile int endless = 1;

FRAME static int recurse(int n) {
    volatile char page[1000];
    page[n % 1000] = 1;
    int r = endless ? recurse(n + 1) + page[0] : 0;
    STAY();
    return r;
}

FRAME static void start_recursion(void) {
    CHECK_EQ(mprotect(running->stack, 4096, PROT_NONE), 0);
    recurse(0);
    STAY();
}

static void expect_recursion(void) {
    CHECK_EQ(count, MAX);
    for (size_t i = 1; i < count; i++) EXPECT(i, recurse);
}

EXIT_PLAIN_TEST(signal_by_stack_overflow, GOOD, NULL) { crash_by(start_recursion, expect_recursion); }

/* ---- Every instruction ----------------------------------------------------------------------------- */

#if defined(__x86_64__) && !defined(TEST_TSAN)
/*
 * Single-step through starts, switches, ends, a call on another stack and walks, and walk at each instruction: the
 * assembly's unwind information must hold everywhere, also between two stacks.
 */
static long steps_in_switch;
static struct context first, second;

FRAME static void step_through(void);

/* A switch to a context that never ran: its caller would be the entry stub, which is left out. */
static bool starts_a_context(const ucontext_t *context) {
    const uintptr_t *sp = (const uintptr_t *)context->uc_mcontext.gregs[REG_RSP];
    for (int i = 0; i < 8; i++)
        if (sp[i] == (uintptr_t)wr_entry_start) return true;
    return false;
}

static void on_step(int signo, siginfo_t *info, void *context) {
    uintptr_t at[MAX], pc = pc_of(context), function = function_of(pc + 1);
    if (function == (uintptr_t)step_through) return; /* it moves the stack pointer without telling */
    size_t n = wr_unwind_signal(context, at, MAX);
    CHECK(at[0] == pc);
    if (function == (uintptr_t)wr_switch) steps_in_switch++;
    if (pc >= (uintptr_t)wr_entry && pc < (uintptr_t)wr_entry_end) {
        CHECK_EQ(n, 1);
        return;
    }
    if (n == 1 && function == (uintptr_t)wr_switch && starts_a_context(context)) return;
    for (size_t i = 0; i < n; i++) {
        uintptr_t f = function_of(at[i] + (i == 0));
        /* musl's own functions have no unwind information. */
        if (f == 0 || f == (uintptr_t)goroutine || f == (uintptr_t)step_through || f == (uintptr_t)wr_goroutine_begin ||
            f == (uintptr_t)wr_goroutine_end)
            return;
    }
    FAIL("lost at %#lx, in %#lx + %lu", (unsigned long)pc, (unsigned long)function, (unsigned long)(pc - function));
}

FRAME static void do_everything(void) {
    look_on_other_stack();
    park(NULL);
    park(NULL);
    if (running == &first) count = wr_unwind_parked(second.sp, pcs, MAX);
    STAY();
}

/* `op` on the flags, with room for the red zone. */
#define CHANGE_FLAGS(op)                                                                            \
    __asm__ volatile("leaq -256(%%rsp), %%rsp; pushfq; " op "; popfq; leaq 256(%%rsp), %%rsp" ::: "cc", "memory")

FRAME static void step_through(void) {
    CHANGE_FLAGS("orq $0x100, (%%rsp)");
    resume(&first, NULL);
    resume(&second, NULL);
    resume(&first, NULL);
    resume(&second, NULL);
    resume(&first, NULL);
    CHANGE_FLAGS("andq $~0x100, (%%rsp)");
}

PLAIN_TEST(a_walk_from_any_instruction_finds_its_way) {
    handle_on_another_stack(SIGTRAP, on_step);
    PREPARE(&other, look_here);
    PREPARE(&first, goroutine, do_everything);
    PREPARE(&second, goroutine, do_everything);
    step_through();
    CHECK(first.ended && !second.ended);
    CHECK(steps_in_switch >= 7 * 20);
}
#endif
