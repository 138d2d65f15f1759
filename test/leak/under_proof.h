/*
 * Running programs.h's and passing.h's programs while somebody proves at random moments that nobody has leaked: another goroutine,
 * or a thread that weir did not start; alone, or with goroutines about that take and give back memory without a pause.
 */
#ifndef UNDER_PROOF_H
#define UNDER_PROOF_H

#include "passing.h"

#include <time.h>

static struct {
    const char *_Atomic program;
    _Atomic long proofs, inconclusive;
    _Atomic bool over;
    _Atomic int provers, busy;
} under;

static void prove_once(void) {
    if (nobody_leaks(under.program)) under.proofs++;
    else under.inconclusive++;
}
static void prover(void) {
    while (!under.over) {
        prove_once();
        CHECK_EQ(weir_sleep(1 + dice(1500) * WEIR_MICROSECOND), 0);
    }
    under.provers--;
}
static void *prover_thread(void *arg) {
    while (!under.over) {
        prove_once();
        nanosleep(&(struct timespec){ .tv_nsec = 1 + (long)dice(1500) * 1000 }, NULL);
    }
    return arg;
}
/* Memory comes and goes: small blocks and large ones, resized, in the order in which they came or the other. */
static void busy(void) {
    enum { BLOCKS = 64 };
    void *blocks[BLOCKS] = { 0 };
    while (!under.over) {
        for (int i = 0; i < 50; i++) {
            void **b = &blocks[dice(BLOCKS)];
            size_t size = dice(20) ? dice(2000) : dice(300000);
            if (dice(3) == 0) {
                void *p = realloc(*b, size + 1);
                CHECK(p);
                *b = p;
            } else {
                free(*b);
                CHECK((*b = malloc(size + 1)));
            }
        }
        if (dice(4) == 0) CHECK_EQ(weir_sleep(50 * WEIR_MICROSECOND), 0);
        else weir_yield();
    }
    for (int i = 0; i < BLOCKS; i++) free(blocks[i]);
    under.busy--;
}

/* Not by main, which is never reported. */
struct running {
    const struct program *p;
    long proofs, times;
    int load;
    weir_unit_chan done;
};
static void run_often(struct running *r) {
    do {
        r->p->run();
        until_alone_but(2 + (size_t)r->load);
        r->times++;
    } while (under.proofs < r->proofs && under.inconclusive < 100 * r->proofs);
    CHECK_EQ(weir_close(r->done), 0);
}

/* The program again and again, until that many proofs were made. Returns how often. */
static NOINLINE long run_under_proof(const struct program *p, long proofs, bool by_thread, int load) {
    struct running r = { p, proofs, 0, load, weir_make(weir_unit_chan, 0) };
    pthread_t thread = 0;
    under.program = p->name;
    under.proofs = 0;
    under.inconclusive = 0;
    under.over = false;
    under.busy = load;
    under.provers = !by_thread;
    for (int i = 0; i < load; i++) TEST_GO(busy);
    if (by_thread) thread = thread_start(prover_thread, NULL);
    else TEST_GO(prover);
    TEST_GO(run_often, &r);
    CHECK_EQ(weir_wait_closed(r.done), 0);
    weir_release(r.done);
    under.over = true;
    if (by_thread) thread_end(thread);
    TEST_UNTIL(under.provers == 0 && under.busy == 0);
    TEST_UNTIL(weir_count() == 1);
#ifndef TEST_TSAN
    if (under.proofs < proofs) FAIL("%s: %ld proofs, and %ld inconclusive", p->name, under.proofs, under.inconclusive);
#endif
    return r.times;
}

#endif
