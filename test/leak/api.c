/* weir_leaks and its report: what is in it, what is not, and what a reader gets to see. */
#include "leak_test.h"

#include <stdatomic.h>

#include "leak/report.h"

static NOT_INLINED void produce(int_chan ch) {
    (void)!weir_send(ch, 1); /* HERE */
    STAY();
}
static NOT_INLINED void consume(int_chan ch) {
    int v;
    (void)!weir_recv(ch, &v);
    STAY();
}
static NOT_INLINED int start_leak(void) {
    int_chan ch = weir_make(int_chan, 0);
    TEST_GO(produce, ch);
    int line = __LINE__ - 1;
    test_until_parked(last_id(), "chan send");
    weir_release(ch);
    return line;
}

TEST(a_program_without_leaks_has_none) {
    PROOF_WANTS_SIGNALS();
    weir_leak_report *r;
    CHECK_EQ(weir_leaks(&r), 0);
    CHECK_EQ(weir_leak_report_count(r), 0);
    CHECK(weir_leak_report_at(r, 0) == NULL);
    char *text = printed(r);
    CHECK_CONTAINS(text, "no goroutine has leaked");
    free(text);
    weir_leak_report_free(r);
}

PLAIN_TEST(without_a_runtime_there_are_no_goroutines) {
    weir_leak_report *r;
    CHECK_EQ(weir_leaks(&r), 0);
    CHECK_EQ(weir_leak_report_count(r), 0);
    weir_leak_report_free(r);
    CHECK_EQ(weir_leaks(NULL), 0);
    weir_leak_report_free(NULL);
    weir_leak_report_print(NULL, stdout);
}

TEST(the_fields_say_who_where_and_since_when) {
    weir_time before = weir_now();
    int line = hidden(start_leak);
    weir_leak_report *r = leaks(1);
    const weir_leak *l = weir_leak_report_at(r, 0);
    CHECK_STR(l->state, "chan send");
    CHECK_STR(l->function, "produce");
    CHECK_STR(l->created_by, "start_leak");
    CHECK_CONTAINS(l->file, "api.c");
    CHECK_EQ(l->line, line);
    CHECK(l->object != NULL);
    CHECK_EQ(l->creator, 1);
    CHECK(l->since >= before - test_slowness() * WEIR_SECOND && l->since <= weir_now());
    CHECK(l->waited >= 0);
    CHECK_STR(l->name, "");
    if (wr_symbol_has_lines()) {
        CHECK_STR(l->at_function, "produce");
        CHECK_CONTAINS(l->at_file, "api.c");
        CHECK_EQ(l->at_line, 9);
        CHECK_CONTAINS(l->stack, "weir_chan_send(...)\n\t");
        CHECK_CONTAINS(l->stack, "produce(...)\n\t");
        CHECK_CONTAINS(l->creator_stack, "weir_leaks(...)\n\t");
    }
    CHECK(weir_leak_report_at(r, 1) == NULL);
    weir_leak_report_free(r);
}

static void named(int_chan ch) {
    weir_name("the %s one", "lost");
    weir_label("request", "42");
    consume(ch);
}
static int start_named(void) {
    int_chan ch = weir_make(int_chan, 0);
    TEST_GO(named, ch);
    test_until_parked(last_id(), "chan receive");
    weir_release(ch);
    return 0;
}
TEST(names_and_labels_are_kept) {
    hidden(start_named);
    weir_leak_report *r = leaks(1);
    CHECK_STR(weir_leak_report_at(r, 0)->name, "the lost one");
    CHECK_STR(weir_leak_report_at(r, 0)->labels, "{\"request\":\"42\"}");
    weir_leak_report_free(r);
}

static void start_leak_and_end(void) { start_leak(); }
static int start_orphan(void) {
    TEST_GO(start_leak_and_end);
    test_until_n_parked(1, "chan send");
    TEST_UNTIL(weir_count() == 2);
    return 0;
}
TEST(a_creator_that_has_ended_has_no_stack) {
    hidden(start_orphan);
    weir_leak_report *r = leaks(1);
    CHECK_STR(weir_leak_report_at(r, 0)->creator_stack, "");
    CHECK_CONTAINS(printed(r), "which has ended");
    weir_leak_report_free(r);
}

static int start_several(void) {
    for (int i = 0; i < 12; i++) start_leak();
    hidden(start_named);
    return 0;
}
TEST(the_print_groups_by_stack_most_first) {
    hidden(start_several);
    weir_leak_report *r = leaks(13);
    for (size_t i = 1; i < 13; i++) CHECK(weir_leak_report_at(r, i - 1)->id < weir_leak_report_at(r, i)->id);
    char *text = printed(r);
    CHECK_CONTAINS(text, "weir: 13 goroutines have leaked");
    const char *first = strstr(text, "\n12 goroutines leaked, started at start_leak (");
    const char *second = strstr(text, "\n1 goroutine leaked, started at start_named (");
    CHECK(first && second && first < second);
    CHECK_CONTAINS(text, "and 2 more");
    CHECK_CONTAINS(second, "named \"the lost one\"");
    CHECK_CONTAINS(first, "chan send, for ");
    if (wr_symbol_has_lines()) {
        CHECK_CONTAINS(first, "(void)!weir_send(ch, 1); /* HERE */");
        CHECK_CONTAINS(first, " (unbuffered, made by start_leak at ");
    }
    CHECK_CONTAINS(text, "The proof looked at 14 goroutines");
    free(text);
    weir_leak_report_free(r);
}

extern const void *volatile kept;
const void *volatile kept;

/* The next proof finds the object in our hands, and lists the goroutine all the same. */
TEST(a_verdict_stays_though_a_word_reaches_the_object) {
    hidden(start_leak);
    weir_leak_report *r = leaks(1);
    kept = weir_leak_report_at(r, 0)->object;
    uint64_t id = weir_leak_report_at(r, 0)->id;
    weir_leak_report *again = leaks(1);
    CHECK_EQ(weir_leak_report_at(again, 0)->id, id);
    weir_leak_report_free(again);
    weir_leak_report_free(r);
}

/* What was leaked and goes on was not leaked: nobody hears of it again. */
TEST(a_goroutine_that_goes_on_is_not_listed_any_more) {
    hidden(start_leak);
    weir_leak_report *r = leaks(1);
    int_chan ch = { .chan_ = (weir_chan *)(uintptr_t)weir_leak_report_at(r, 0)->object };
    weir_leak_report_free(r);
    int v = 0;
    CHECK_EQ(weir_recv(ch, &v), 0);
    TEST_UNTIL(weir_count() == 1);
    weir_leak_report_free(leaks(0));
}

TEST(dumps_say_leaked) {
    hidden(start_leak);
    weir_leak_report *r = leaks(1);
    char *text = dump_text();
    CHECK_CONTAINS(text, " [chan send (leaked)]:\n");
    free(text);
    weir_leak_report_free(r);
}

/* ---- Reachable ------------------------------------------------------------------------------------------- */

static int_chan reachable;

TEST(what_is_blocked_for_long_and_reached_is_told_with_the_reason) {
    reachable = weir_make(int_chan, 0);
    TEST_GO(consume, reachable);
    test_until_parked(last_id(), "chan receive");
    wr_long_blocked = 0;
    weir_sleep(30 * WEIR_MILLISECOND); /* the clock of waits is coarse */
    weir_leak_report *r = leaks(0);
    char *text = printed(r);
    CHECK_CONTAINS(text, "no goroutine has leaked");
    CHECK_CONTAINS(text, "1 goroutine blocked, started at ");
    CHECK_CONTAINS(text, "reached by  ");
    free(text);
    weir_leak_report_free(r);
    weir_close(reachable);
}

static struct node {
    struct node *next;
    int_chan ch;
    long filler[9];
} *nodes;
static int start_in_a_node(void) {
    nodes = calloc(1, sizeof *nodes);
    nodes->next = calloc(1, sizeof *nodes);
    nodes->next->ch = weir_make(int_chan, 0);
    TEST_GO(consume, nodes->next->ch);
    test_until_parked(last_id(), "chan receive");
    return 0;
}
TEST(the_reason_names_the_variable_and_the_block_that_holds_the_last_pointer) {
    RECALL_WANTS_GLIBC();
    char expected[160];
    hidden(start_in_a_node);
    wr_long_blocked = -WEIR_SECOND;
    weir_leak_report *r = leaks(0);
    char *text = printed(r);
    snprintf(expected, sizeof expected, "reached by  the variable nodes, by way of a block of %zu bytes at %p\n",
             malloc_usable_size(nodes->next), (void *)nodes->next);
    CHECK_CONTAINS(text, expected);
    free(text);
    weir_leak_report_free(r);
    weir_close(nodes->next->ch);
    weir_release(nodes->next->ch);
    free(nodes->next), free(nodes);
}

/* ---- What was registered ------------------------------------------------------------------------------------ */

static uintptr_t disguised;

static int start_disguised(void) {
    int_chan ch = weir_make(int_chan, 0);
    TEST_GO(consume, ch);
    test_until_parked(last_id(), "chan receive");
    disguised = ~(uintptr_t)weir_chan_of(ch);
    return 0;
}
static int ignore_it(void) {
    weir_leak_ignore((void *)~disguised);
    return 0;
}
static int unignore_it(void) {
    weir_leak_unignore((void *)~disguised);
    return 0;
}

TEST(what_is_ignored_has_not_leaked_until_it_is_unignored) {
    hidden(start_disguised);
    hidden(ignore_it);
    hidden(ignore_it);
    weir_leak_report_free(leaks(0));
    hidden(unignore_it);
    weir_leak_report_free(leaks(0));
    hidden(unignore_it);
    weir_leak_report_free(leaks(1));
    hidden(ignore_it); /* an earlier verdict counts no more */
    weir_leak_report_free(leaks(0));
}
