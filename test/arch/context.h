/*
 * Stacks to switch between, without the scheduler: this takes its place, so a test of this folder runs no goroutine of
 * weir's (its programs are linked so that the two functions below win). One thread, no locks.
 */
#ifndef TEST_ARCH_CONTEXT_H
#define TEST_ARCH_CONTEXT_H

#include "test.h"

#include "arch/arch.h"

#include <stdlib.h>
#include <sys/mman.h>

#define STACK_SIZE ((size_t)256 << 10)

struct context {
    char *stack;        /* lowest address */
    void *sp;           /* while it is parked */
    void *resumer;      /* the context that resumed it */
    void *begun_with;   /* what wr_goroutine_begin was given */
    intptr_t result;    /* what wr_goroutine_end was given */
    bool ended;
};

static struct context *running; /* NULL: the thread's own stack */

void wr_goroutine_begin(void *arg) { running->begun_with = arg; }

_Noreturn void wr_goroutine_end(intptr_t result) {
    running->ended = true;
    running->result = result;
    wr_switch(&running->sp, running->resumer, NULL);
    abort();
}

static void *top_of(struct context *c) { return c->stack + STACK_SIZE; }

static void context_open(struct context *c, void (*fn)(void)) {
    memset(c, 0, sizeof *c);
    c->stack = mmap(NULL, STACK_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(c->stack != MAP_FAILED);
    c->sp = wr_prepare(top_of(c), fn, &wr_captured_args);
}

/* Prepare `c` to run fn(…). A variable, as gcc warns where it sees a call through a type that is not the function's. */
static void (*capture)(void) = weir_go_capture_;
#define PREPARE(c, fn, ...) (((__typeof__(&*(fn)))capture)(__VA_ARGS__), context_open((c), (void (*)(void))(fn)))

/* Run `c` until it parks or ends; returns what it parks with. `arg` is what its begin or park gets. */
static inline void *resume(struct context *c, void *arg) {
    struct context *before = running;
    running = c;
    void *got = wr_switch(&c->resumer, c->sp, arg);
    running = before;
    return got;
}

__attribute__((noinline, unused)) static void *park(void *arg) { return wr_switch(&running->sp, running->resumer, arg); }

#endif
