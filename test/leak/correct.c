/*
 * Programs without a leak, and a few proofs for each at random moments; test/long/leak_soak.c makes ten thousand.
 */
#include "under_proof.h"

static void all_programs(bool by_thread, int load, int procs) {
    weir_procs(procs);
    for (size_t i = 0; i < PROGRAMS; i++) run_under_proof(&programs[i], TEST_SCALE(4), by_thread, load);
}
TEST(no_program_is_accused_by_a_goroutine) { all_programs(false, 0, 2); }
TEST(no_program_is_accused_by_a_thread) { all_programs(true, 0, 2); }
TEST(no_program_is_accused_under_load) { all_programs(false, 2, 4); }
TEST(no_program_is_accused_by_a_thread_under_load) { all_programs(true, 2, 4); }
TEST(no_program_is_accused_on_one_processor) { all_programs(false, 0, 1); }
TEST(no_program_is_accused_on_many_processors) { all_programs(true, 0, 16); }
