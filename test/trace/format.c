/* The text of dumps: what tools parse, and that it says what is so. */
#include "trace_test.h"

#include <stdatomic.h>

static NOT_INLINED void receive_for_ever(int_chan ch) {
    int v;
    (void)!weir_recv(ch, &v);
    STAY();
}

/* Started by a function whose name is known. */
static NOT_INLINED uint64_t start_receiver(int_chan ch) {
    size_t before = test_parked("chan receive");
    TEST_GO(receive_for_ever, ch);
    test_until_n_parked(before + 1, "chan receive");
    return 0;
}

/* A goroutine that says who it is and then parks. */
struct talker {
    _Atomic uint64_t id;
    void (*setup)(void *);
    void *arg;
    int_chan ch;
};
static void talk(struct talker *t) {
    if (t->setup) t->setup(t->arg);
    atomic_store(&t->id, weir_id());
    int v;
    (void)!weir_recv(t->ch, &v);
    STAY();
}
static uint64_t start_talker(struct talker *t) {
    TEST_GO(talk, t);
    TEST_UNTIL(atomic_load(&t->id));
    test_until_parked(t->id, "chan receive");
    return t->id;
}

static void set_name(void *name) { weir_name("%s", (const char *)name); }
static void lock_thread(void *arg) { weir_lock_thread(); }

/* ---- Level 2 -------------------------------------------------------------------------------------- */

TEST(level_2_parses_and_has_every_goroutine) {
    int_chan ch = weir_make(int_chan, 0);
    struct talker named = { .setup = set_name, .arg = "with (odd) name", .ch = ch };
    struct talker locked = { .setup = lock_thread, .ch = ch };
    start_receiver(ch);
    start_talker(&named);
    start_talker(&locked);
    char *text = dump_text(2);
    CHECK_EQ(check_level2(text), 4);
    CHECK_EQ(weir_count(), 4);
    free(text);
}

TEST(the_caller_comes_first_and_runs) {
    int_chan ch = weir_make(int_chan, 0);
    start_receiver(ch);
    char *text = dump_text(2);
    CHECK(strncmp(text, "goroutine 1 [running]:\n", 23) == 0);
    NEEDS_LINES();
    CHECK_MATCHES(text, "^weir_dump\\(\\.\\.\\.\\)$");
    CHECK_MATCHES(text, "^dump_text\\(\\.\\.\\.\\)$");
    CHECK_MATCHES(text, "^test_body_the_caller_comes_first_and_runs\\(\\.\\.\\.\\)$");
    free(text);
}

TEST(static_functions_have_names_and_lines) {
    NEEDS_LINES();
    int_chan ch = weir_make(int_chan, 0);
    struct talker t = { .ch = ch };
    uint64_t id = start_talker(&t);
    char *text = dump_text(2), *one = goroutine_text(text, id);
    /* the line of the call in talk(), whichever it is by now, in this file; and its absolute path */
    CHECK_MATCHES(one, "^weir_chan_recv\\(\\.\\.\\.\\)$");
    CHECK_MATCHES(one, "^talk\\(\\.\\.\\.\\)$");
    CHECK_MATCHES(one, "^\t/.*test/trace/format\\.c:[0-9]+ \\+0x[0-9a-f]+$");
    free(one), free(text);
}

static int line_of_call;
static NOT_INLINED void call_on_a_known_line(int_chan ch, _Atomic uint64_t *id) {
    atomic_store(id, weir_id());
    int v;
    line_of_call = __LINE__ + 1;
    (void)!weir_recv(ch, &v);
    STAY();
}

TEST(the_line_is_that_of_the_call) {
    NEEDS_LINES();
    int_chan ch = weir_make(int_chan, 0);
    _Atomic uint64_t id = 0;
    TEST_GO(call_on_a_known_line, ch, &id);
    TEST_UNTIL(atomic_load(&id));
    test_until_parked(id, "chan receive");
    char *text = dump_text(2), *one = goroutine_text(text, id), expected[128];
    snprintf(expected, sizeof expected, "^call_on_a_known_line\\(\\.\\.\\.\\)\n\t.*format\\.c:%d \\+", line_of_call);
    const char *at = strstr(one, "call_on_a_known_line(...)\n");
    CHECK(at != NULL);
    snprintf(expected, sizeof expected, "format.c:%d +0x", line_of_call);
    CHECK_CONTAINS(at, expected);
    free(one), free(text);
}

static inline __attribute__((always_inline)) void inlined_receive(int_chan ch) {
    int v;
    (void)!weir_recv(ch, &v);
    STAY();
}
static NOT_INLINED void inlines_its_receive(int_chan ch) {
    inlined_receive(ch);
    STAY();
}

TEST(inlined_calls_are_frames) {
    NEEDS_LINES();
    int_chan ch = weir_make(int_chan, 0);
    TEST_GO(inlines_its_receive, ch);
    test_until_n_parked(1, "chan receive");
    char *text = dump_text(2);
    const char *inner = strstr(text, "\ninlined_receive(...)\n"), *outer = strstr(text, "\ninlines_its_receive(...)\n");
    CHECK(inner && outer && inner < outer);
    free(text);
}

TEST(created_by_says_where_and_by_whom) {
    int_chan ch = weir_make(int_chan, 0);
    start_receiver(ch);
    char *text = dump_text(2);
    CHECK_MATCHES(text, "^created by start_receiver in goroutine 1$");
    CHECK_CONTAINS(text, "created by start_receiver in goroutine 1\n\t" __FILE__ ":");
    CHECK_EQ(count_of(text, "created by"), 1); /* nobody has created main */
    free(text);
}

static void start_another(int_chan ch) {
    TEST_GO(receive_for_ever, ch);
    int v;
    (void)!weir_recv(ch, &v);
    STAY();
}

TEST(created_by_gives_the_creators_id) {
    int_chan ch = weir_make(int_chan, 0);
    TEST_GO(start_another, ch);
    test_until_n_parked(2, "chan receive");
    char *text = dump_text(2);
    CHECK_MATCHES(text, "^created by start_another in goroutine [2-9]$");
    CHECK_MATCHES(text, "^created by test_body_created_by_gives_the_creators_id in goroutine 1$");
    free(text);
}

static void after(void *arg) { receive_for_ever(*(int_chan *)arg); }

TEST(an_after_func_is_created_by_the_function_that_set_it) {
    int_chan ch = weir_make(int_chan, 0);
    weir_timer *t = weir_after_func(1, after, &ch);
    test_until_n_parked(1, "chan receive");
    char *text = dump_text(2);
    CHECK_EQ(check_level2(text), 2);
    CHECK_CONTAINS(text, "created by test_body_an_after_func_is_created_by_the_function_that_set_it in goroutine ");
    weir_timer_free(t);
    free(text);
}

/* ---- States ---------------------------------------------------------------------------------------- */

static void send_for_ever(int_chan ch) {
    (void)!weir_send(ch, 1);
    STAY();
}
static void select_for_ever(int_chan ch) {
    int v;
    (void)!weir_select(weir_on_recv(ch, &v));
    STAY();
}
static void select_nothing(void) {
    (void)!weir_select();
    STAY();
}
static void sleep_long(void) { weir_sleep(WEIR_HOUR); }
static void lock_it(weir_mutex *mu) { weir_mutex_lock(mu); }
static void wait_wg(weir_wg *wg) { (void)!weir_wg_wait(wg); }
static _Atomic int in_call;
static int wait_in_call(void *pipe) {
    char c;
    atomic_store(&in_call, 1);
    return read(*(int *)pipe, &c, 1) < 0;
}
static void call_out(int *pipe) { weir_blocking(wait_in_call, pipe); }

static void park_in_everything(int_chan ch, weir_mutex *mu, weir_wg *wg) {
    TEST_GO(send_for_ever, ch);
    TEST_GO(send_for_ever, (int_chan){ 0 });
    TEST_GO(receive_for_ever, (int_chan){ 0 });
    TEST_GO(select_for_ever, weir_make(int_chan, 0));
    TEST_GO(select_nothing);
    TEST_GO(sleep_long);
    TEST_GO(lock_it, mu);
    TEST_GO(wait_wg, wg);
    test_until_n_parked(8, NULL);
}

TEST(states_are_in_gos_words) {
    weir_mutex mu = WEIR_MUTEX_INIT;
    weir_wg wg = WEIR_WG_INIT;
    int pipes[2];
    weir_mutex_lock(&mu);
    weir_wg_add(&wg, 1);
    CHECK_EQ(pipe(pipes), 0);
    park_in_everything(weir_make(int_chan, 0), &mu, &wg);
    TEST_GO(call_out, &pipes[0]);
    TEST_UNTIL(atomic_load(&in_call));
    char *text = dump_text(2);
    CHECK_EQ(check_level2(text), 10);
    static const char *const states[] = {
        "[running]:", "[chan send]:", "[chan send (nil chan)]:", "[chan receive (nil chan)]:", "[select]:",
        "[select (no cases)]:", "[sleep]:", "[sync.Mutex.Lock]:", "[sync.WaitGroup.Wait]:", "[syscall]:",
    };
    for (size_t i = 0; i < sizeof states / sizeof states[0]; i++) CHECK_EQ(count_of(text, states[i]), 1);
    CHECK_EQ(write(pipes[1], "", 1), 1);
    free(text);
}

/* On one processor the new goroutine runs only if the caller is interrupted for long, so soon one is seen that
 * has not. */
TEST(a_goroutine_that_has_not_run_is_runnable_at_its_function) {
    NEEDS_LINES();
    int_chan ch = weir_make(int_chan, 0);
    weir_procs(1);
    for (bool seen = false; !seen;) {
        TEST_GO(receive_for_ever, ch);
        char *text = dump_text(2);
        char *at = strstr(text, " [runnable]:\n");
        if (at) CHECK(strncmp(strchr(at, '\n'), "\nreceive_for_ever(...)\n", 23) == 0);
        seen = at != NULL;
        free(text);
        weir_yield();
    }
}

/* The wait records say since when; these goroutines have waited for less than a second. */
static void wait_longer(struct g *g, bool held, void *by) {
    struct wr_wait *w = atomic_load(&g->wait);
    if (held && w && atomic_load(&g->state) == WR_G_WAITING) w->since -= *(weir_duration *)by;
}

TEST(minutes_are_shown_from_the_first_whole_one) {
    int_chan ch = weir_make(int_chan, 0);
    start_receiver(ch);
    char *text = dump_text(2);
    CHECK_CONTAINS(text, "[chan receive]:");
    free(text);

    weir_duration d = 40 * WEIR_SECOND;
    wr_each_goroutine(wait_longer, &d);
    text = dump_text(2);
    CHECK_CONTAINS(text, "[chan receive]:");
    free(text);

    d = 25 * WEIR_SECOND;
    wr_each_goroutine(wait_longer, &d);
    text = dump_text(2);
    CHECK_CONTAINS(text, "[chan receive, 1 minutes]:");
    CHECK_CONTAINS(text, "goroutine 1 [running]:");
    free(text);

    d = 4 * WEIR_MINUTE;
    wr_each_goroutine(wait_longer, &d);
    text = dump_text(2);
    CHECK_CONTAINS(text, "[chan receive, 5 minutes]:");
    CHECK_EQ(check_level2(text), 2);
    free(text);
}

TEST(a_locked_goroutine_is_marked) {
    int_chan ch = weir_make(int_chan, 0);
    struct talker locked = { .setup = lock_thread, .ch = ch }, free_one = { .ch = ch };
    uint64_t a = start_talker(&locked), b = start_talker(&free_one);
    char *text = dump_text(2), *one = goroutine_text(text, a), *other = goroutine_text(text, b);
    CHECK_CONTAINS(one, "[chan receive, locked to thread]:\n");
    CHECK_CONTAINS(other, "[chan receive]:\n");
    free(one), free(other), free(text);
}

TEST(a_name_is_shown_and_harms_nobody) {
    int_chan ch = weir_make(int_chan, 0);
    struct talker t = { .setup = set_name, .arg = "conn 7 (tcp)\n%x", .ch = ch };
    uint64_t id = start_talker(&t);
    char *text = dump_text(2), *one = goroutine_text(text, id);
    CHECK_EQ(check_level2(text), 2);
    CHECK_CONTAINS(one, "\nweir_name \"conn 7 [tcp] _x\"(...)\n");
    free(one), free(text);
}

TEST(the_runtimes_own_frames_are_left_out) {
    NEEDS_LINES();
    weir_mutex mu = WEIR_MUTEX_INIT;
    weir_wg wg = WEIR_WG_INIT;
    weir_mutex_lock(&mu);
    weir_wg_add(&wg, 1);
    park_in_everything(weir_make(int_chan, 0), &mu, &wg);
    char *text = dump_text(2);
    CHECK_EQ(count_of(text, "\nwr_"), 0);
    static const char *const calls[] = { "\nweir_chan_send(...)\n", "\nweir_chan_recv(...)\n", "\nweir_selectv(...)\n",
                                         "\nweir_sleep(...)\n", "\nweir_mutex_lock(...)\n", "\nweir_wg_wait(...)\n" };
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) CHECK_CONTAINS(text, calls[i]);
    /* each call right below its header */
    CHECK_CONTAINS(text, "[sleep]:\nweir_sleep(...)\n");
    CHECK_CONTAINS(text, "[sync.Mutex.Lock]:\nweir_mutex_lock(...)\n");
    free(text);
}

static NOT_INLINED void recurse(int n, int_chan ch) {
    if (n > 0) recurse(n - 1, ch);
    else receive_for_ever(ch);
    STAY();
}

TEST(what_is_left_out_of_a_deep_stack_is_said) {
    NEEDS_LINES();
    int_chan ch = weir_make(int_chan, 0);
    TEST_GO(recurse, 300, ch);
    test_until_n_parked(1, "chan receive");
    char *text = dump_text(2);
    CHECK_EQ(check_level2(text), 2);
    CHECK_EQ(count_of(text, "...additional frames elided..."), 1);
    CHECK_GE(count_of(text, "\nrecurse(...)\n"), 80);
    CHECK_LE(count_of(text, "\nrecurse(...)\n"), 100);
    CHECK_CONTAINS(text, "created by test_body_what_is_left_out_of_a_deep_stack_is_said");
    free(text);

    TEST_GO(recurse, 50, ch);
    test_until_n_parked(2, "chan receive");
    text = dump_text(2);
    CHECK_EQ(count_of(text, "...additional frames elided..."), 1);
    free(text);
}

/* ---- Level 1 ----------------------------------------------------------------------------------------- */

static NOT_INLINED void first_kind(int_chan ch) {
    receive_for_ever(ch);
    STAY();
}
static NOT_INLINED void second_kind(int_chan ch) {
    receive_for_ever(ch);
    STAY();
}

TEST(level_1_groups_by_stack_most_first) {
    NEEDS_LINES();
    int_chan ch = weir_make(int_chan, 0);
    for (int i = 0; i < 3; i++) TEST_GO(first_kind, ch);
    for (int i = 0; i < 5; i++) TEST_GO(second_kind, ch);
    test_until_n_parked(8, "chan receive");
    char *text = dump_text(1);
    CHECK_EQ(check_level1(text), 9);
    const char *five = strstr(text, "\n5 @ 0x"), *three = strstr(text, "\n3 @ 0x"), *one = strstr(text, "\n1 @ 0x");
    CHECK(five && three && one && five < three && three < one);
    CHECK_CONTAINS(five, "\tsecond_kind+0x");
    CHECK(strstr(five, "\tsecond_kind+0x") < three);
    CHECK(strstr(three, "\tfirst_kind+0x") < one);
    CHECK_MATCHES(text, "^#\t0x[0-9a-f]+\tweir_chan_recv\\+0x[0-9a-f]+\t/.*/chan\\.c:[0-9]+$");
    CHECK_EQ(count_of(text, "\twr_"), 0);
    free(text);
}

/* The addresses of a group are return addresses, the lines below it lie one byte before them. */
TEST(level_1_lines_are_at_the_call) {
    int_chan ch = weir_make(int_chan, 0);
    start_receiver(ch);
    char *text = dump_text(1);
    const char *group = strstr(text, "\n1 @ 0x");
    CHECK(group != NULL);
    unsigned long pc = strtoul(group + strlen("\n1 @ "), NULL, 16);
    const char *line = strstr(group, "\n#\t0x");
    CHECK(line != NULL);
    CHECK_EQ(strtoul(line + 3, NULL, 16), pc - 1);
    free(text);
}

static void set_labels(void *arg) {
    weir_label("tenant", arg);
    weir_label("kind", "a \"b\" \\ c");
    weir_label("gone", "x");
    weir_label("gone", NULL);
}

TEST(labels_are_shown_and_keep_groups_apart) {
    int_chan ch = weir_make(int_chan, 0);
    struct talker a = { .setup = set_labels, .arg = "one", .ch = ch }, b = a, c = a, plain = { .ch = ch };
    c.arg = "two";
    start_talker(&a), start_talker(&b), start_talker(&c), start_talker(&plain);
    char *text = dump_text(1);
    CHECK_EQ(check_level1(text), 5);
    CHECK_EQ(count_of(text, "\n# labels: {\"kind\":\"a \\\"b\\\" \\\\ c\", \"tenant\":\"one\"}\n"), 1);
    CHECK_EQ(count_of(text, "\n# labels: {\"kind\":\"a \\\"b\\\" \\\\ c\", \"tenant\":\"two\"}\n"), 1);
    CHECK_EQ(count_of(text, "# labels: "), 2);
    CHECK_EQ(count_of(text, "\n2 @ 0x"), 1);
    free(text);
}

TEST(children_inherit_labels) {
    int_chan ch = weir_make(int_chan, 0);
    weir_label("from", "main");
    start_receiver(ch);
    char *text = dump_text(1);
    CHECK_EQ(count_of(text, "# labels: {\"from\":\"main\"}\n"), 2);
    free(text);
}

TEST(a_group_shows_the_name_that_all_have) {
    int_chan ch = weir_make(int_chan, 0);
    struct talker a = { .setup = set_name, .arg = "worker", .ch = ch }, b = a, c = a;
    start_talker(&a), start_talker(&b);
    char *text = dump_text(1);
    CHECK_EQ(count_of(text, "# labels: {\"name\":\"worker\"}\n"), 1);
    free(text);
    c.arg = "another";
    start_talker(&c);
    text = dump_text(1);
    CHECK_EQ(check_level1(text), 4);
    CHECK_EQ(count_of(text, "# labels"), 0);
    CHECK_EQ(count_of(text, "\n3 @ 0x"), 1); /* and names do not split groups */
    free(text);
}

TEST(no_other_level_is_known) {
    CHECK_EQ(weir_dump(2, 0), -EINVAL);
    CHECK_EQ(weir_dump(2, 3), -EINVAL);
    CHECK_EQ(weir_dump(2, -1), -EINVAL);
}
