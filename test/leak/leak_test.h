/* For the tests of leaks: starting goroutines so that nothing of theirs stays on the tester's stack. */
#ifndef LEAK_TEST_H
#define LEAK_TEST_H

#include "test.h"

#include <fcntl.h>
#include <stdio.h>
#include <malloc.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "allocator.h"
#include "leak/report.h"
#include "sched/sched.h"
#include "trace/trace.h"

#define NOT_INLINED __attribute__((noinline))
/* Ends a function whose frame is to be seen: the call before it is no tail call. */
#define STAY() __asm__ volatile("")

typedef WEIR_CHAN(int) int_chan;

/* Of the goroutine started last, if nobody else starts any. */
__attribute__((unused)) static uint64_t last_id(void) { return wr_ids_end() - 1; }

/* Run fn, and then write over what it has left on the stack below us. */
__attribute__((unused)) static NOT_INLINED void wipe(void) {
    volatile char deep[16384];
    for (size_t i = 0; i < sizeof deep; i++) deep[i] = 0;
}
__attribute__((unused)) static NOT_INLINED int hidden(int (*fn)(void)) {
    int result = fn();
    wipe();
    return result;
}

/* What was found, and what reaches the others. */
__attribute__((unused)) static void explain(weir_leak_report *r) {
    weir_leak_report_print(r, stderr);
    wr_long_blocked = -WEIR_SECOND;
    if (weir_leaks(&r) >= 0) weir_leak_report_print(r, stderr);
}

/* A proof that must find n, tried again while it is inconclusive, as it may be on a busy machine. */
__attribute__((unused)) static NOT_INLINED weir_leak_report *leaks(int n) {
    weir_leak_report *r = NULL;
    PROOF_WANTS_SIGNALS();
    if (n) RECALL_WANTS_GLIBC();
    for (int i = 0; i < 20; i++) {
        int found = weir_leaks(&r);
        if (found != -EBUSY) {
            if (found != n) explain(r);
            CHECK_EQ(found, n);
            CHECK_EQ(weir_leak_report_count(r), n);
            return r;
        }
        weir_leak_report_print(r, stderr);
        weir_leak_report_free(r);
    }
    FAIL("inconclusive, again and again");
}

__attribute__((unused)) static char *read_back(FILE *f) {
    long n = ftell(f);
    char *text = calloc(1, (size_t)n + 1);
    CHECK(text != NULL);
    rewind(f);
    CHECK_EQ(fread(text, 1, (size_t)n, f), n);
    fclose(f);
    return text;
}
__attribute__((unused)) static char *printed(const weir_leak_report *r) {
    FILE *f = tmpfile();
    CHECK(f != NULL);
    weir_leak_report_print(r, f);
    return read_back(f);
}
__attribute__((unused)) static char *dump_text(void) {
    FILE *f = tmpfile();
    CHECK(f != NULL);
    CHECK_EQ(weir_dump(fileno(f), 2), 0);
    fseek(f, 0, SEEK_END);
    return read_back(f);
}

#endif
