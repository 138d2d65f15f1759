/*
 * For a debugger: where the scheduler's data lies, and the offsets of the fields that packaging/gdb reads in a process or in
 * a core file. A library without debug information has them too, so the script knows no other way.
 *
 * Tables of named numbers, which the script looks up by name: it tells what it misses, and a table may grow. Constants, made
 * by the compiler; nobody in here reads them. wr_sched points to weir_gdb_, or a linker would leave it out of static programs.
 */
#include "sched/inner.h"

#define OFFSET(type, field) { #type "." #field, offsetof(struct type, field) }
#define TALLIED(type, name, what) { #type "." name, offsetof(struct type, tallies.n[what]) }
#define STATE(name, value) { "state." name, value }

static const struct wr_gdb_number numbers[] = {
    { "version", 1 },
    { "sched", (uintptr_t)&wr_sched },
    OFFSET(sched, running), OFFSET(sched, foreigns), OFFSET(sched, coarse), OFFSET(sched, all_ms), OFFSET(sched, foreign),
    TALLIED(sched, "started", WR_STARTED), TALLIED(sched, "ended", WR_ENDED), TALLIED(m, "started", WR_STARTED), TALLIED(m, "ended", WR_ENDED),
    OFFSET(m, g), OFFSET(m, tid), OFFSET(m, next_m),
    { "g", sizeof(struct g) },
    OFFSET(g, sp), OFFSET(g, on_cpu), OFFSET(g, state), OFFSET(g, locked_m), OFFSET(g, leaked), OFFSET(g, wait), OFFSET(g, id),
    OFFSET(g, creator), OFFSET(g, site), OFFSET(g, fn), OFFSET(g, name), OFFSET(g, stack_lo), OFFSET(g, stack_hi),
    OFFSET(g, foreign), OFFSET(g, in_foreign), OFFSET(g, thread),
    { "wait", sizeof(struct wr_wait) },
    { "wait.reason", offsetof(struct wr_wait, reason) }, { "wait.since", offsetof(struct wr_wait, since) },
    { "site.file", offsetof(weir_site_, file) }, { "site.creator", offsetof(weir_site_, creator) },
    { "site.function", offsetof(weir_site_, function) }, { "site.line", offsetof(weir_site_, line) },
    STATE("dead", WR_G_DEAD), STATE("runnable", WR_G_RUNNABLE), STATE("running", WR_G_RUNNING), STATE("waiting", WR_G_WAITING),
    STATE("syscall", WR_G_BLOCKING),
    { "reasons", (uintptr_t)wr_reason_text }, { "reasons.n", WR_REASONS },
    /* A stack that nobody runs on is as if its goroutine stood in wr_switch at this instruction, with its saved stack pointer. */
    { "parked", (uintptr_t)wr_switch }, { "parked.offset", (uintptr_t)&wr_switch_parked },
    { "entry", (uintptr_t)wr_entry }, { "entry.end", (uintptr_t)wr_entry_end },
    { "api", (uintptr_t)__start_weir_api }, { "api.end", (uintptr_t)__stop_weir_api },
    { "", 0 },
};

__attribute__((used)) const struct wr_gdb_number *const weir_gdb_[] = { numbers, wr_stack_numbers, NULL };
