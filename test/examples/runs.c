/* What the programs in examples/leaks rely on: a run of the runtime begins afresh, whatever the one before left behind. */
#include "test.h"

#include <stdlib.h>

static void receive(weir_unit_chan ch) {
    if (weir_recv(ch, NULL) == 0) FAIL("nobody sent");
}

static weir_unit_chan channels[2]; /* where the address sanitizer sees them: nobody is left to release them */

static int leave_some_behind(void *n) {
    weir_unit_chan ch = channels[*(int *)n] = weir_make(weir_unit_chan, 0);
    for (int i = 0; i < 10; i++) CHECK_EQ(weir_go(receive, ch), 0);
    test_until_n_parked(10, "chan receive");
    CHECK_EQ(weir_count(), 11);
    return 0;
}

static int goroutines_in_dump(int level, const char *mark) {
    FILE *dump = tmpfile();
    CHECK(dump);
    CHECK_EQ(weir_dump(fileno(dump), level), 0);
    rewind(dump);
    char *line = NULL;
    size_t size = 0;
    int n = 0;
    while (getline(&line, &size, dump) > 0) n += strncmp(line, mark, strlen(mark)) == 0;
    free(line);
    fclose(dump);
    return n;
}

static int look_around(void *arg) {
    (void)arg;
    CHECK_EQ(weir_count(), 1);
    CHECK_EQ(test_parked(NULL), 0);
    CHECK_EQ(goroutines_in_dump(2, "goroutine "), 1);
    CHECK_EQ(goroutines_in_dump(1, "goroutine profile: total 1\n"), 1);
    return 0;
}

PLAIN_TEST(a_run_does_not_see_what_an_earlier_one_left_behind) {
    CHECK_EQ(weir_run(look_around, NULL), 0);
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(weir_run(leave_some_behind, &i), 0);
        CHECK_EQ(weir_run(look_around, NULL), 0);
    }
}
