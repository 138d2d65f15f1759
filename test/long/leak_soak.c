/*
 * Ten thousand proofs at random moments, while programs run that do not leak: not one may accuse anybody. Each round takes another
 * program, asked by a goroutine or by a thread, with or without others that take and give back memory, on one
 * processor or several. WEIR_LONG_SECONDS: how long in all; from 600 on it does not end before the ten thousand are full.
 */
#include "../leak/under_proof.h"
#include "soak.h"

__attribute__((constructor)) static void before_all(void) { take_longer(30); }

TEST(ten_thousand_proofs_accuse_nobody) {
    enum { PROOFS = 10000, EACH = 10 };
    static const int procs[] = { 1, 2, 2, 4, 8 };
    weir_time until = weir_now() + long_seconds() * WEIR_SECOND;
    long wanted = long_seconds() >= 600 ? PROOFS : 0, proofs = 0, runs = 0, inconclusive = 0;
    for (unsigned round = 0; proofs < wanted || weir_now() < until; round++) {
        unsigned way = round / PROGRAMS;
        weir_procs(procs[way % 5]);
        runs += run_under_proof(&programs[round % PROGRAMS], EACH, way % 2, way / 2 % 2 ? 2 : 0);
        proofs += under.proofs, inconclusive += under.inconclusive;
    }
    printf("%ld proofs of %ld runs of %d programs, %ld more were inconclusive\n", proofs, runs, (int)PROGRAMS, inconclusive);
    CHECK_LE(inconclusive, proofs / 20);
}
