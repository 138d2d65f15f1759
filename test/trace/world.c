/* Dumps in a program that goes on: many goroutines, hot ones, other threads, bad and slow descriptors, a
 * runtime that stops. */
#include "trace_test.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>

static NOT_INLINED void receive_for_ever(int_chan ch) {
    int v;
    (void)!weir_recv(ch, &v);
    STAY();
}

/* ---- Many ------------------------------------------------------------------------------------------- */

TEST(ten_thousand_goroutines_are_all_there) {
    int_chan ch = weir_make(int_chan, 0);
    size_t n = (size_t)TEST_SCALE(10000);
    for (size_t i = 0; i < n; i++) TEST_GO(receive_for_ever, ch);
    test_until_n_parked(n, "chan receive");
    char *text = dump_text(1), first[64];
    CHECK_EQ(check_level1(text), n + 1);
    snprintf(first, sizeof first, "\n%zu @ 0x", n);
    CHECK_EQ(count_of(text, first), 1);
    free(text);
    text = dump_text(2);
    CHECK_EQ(count_of(text, "] ") + count_of(text, "\ngoroutine ") + 1, n + 1);
    CHECK_EQ(count_of(text, " [chan receive]:\n"), n);
    free(text);
}

/* ---- Hot --------------------------------------------------------------------------------------------- */

static _Atomic int stop;
static _Atomic long turns;

static void ping(int_chan in, int_chan out) {
    int v;
    while (weir_recv(in, &v) == 0 && weir_send(out, v + 1) == 0) atomic_fetch_add(&turns, 1);
    weir_close(out);
}
static void compute(_Atomic int *running) {
    atomic_fetch_add(running, 1);
    while (!atomic_load(&stop)) atomic_fetch_add(&turns, 1);
    atomic_fetch_sub(running, 1);
}

TEST(dumping_while_goroutines_run_hot_disturbs_nobody) {
    enum { PAIRS = 8 };
    int_chan a[PAIRS], b[PAIRS];
    weir_procs(4);
    for (int i = 0; i < PAIRS; i++) {
        a[i] = weir_make(int_chan, 0), b[i] = weir_make(int_chan, 1);
        TEST_GO(ping, a[i], b[i]);
        TEST_GO(ping, b[i], a[i]);
        CHECK_EQ(weir_send(a[i], 0), 0);
    }
    for (int i = 0; i < 20; i++) {
        long before = atomic_load(&turns);
        char *text = dump_text(1 + i % 2);
        CHECK_EQ(i % 2 ? check_level2(text) : check_level1(text), 2 * PAIRS + 1);
        free(text);
        TEST_UNTIL(atomic_load(&turns) > before);
    }
}

TEST(a_goroutine_that_runs_elsewhere_shows_where) {
    NEEDS_LINES();
    static _Atomic int running;
    weir_procs(2);
    TEST_GO(compute, &running);
    TEST_UNTIL(atomic_load(&running));
    char *text = dump_text(2);
    CHECK_EQ(check_level2(text), 2);
    CHECK_EQ(count_of(text, " [running]:\n"), 2);
    CHECK_CONTAINS(text, "compute(...)\n");
    CHECK_EQ(count_of(text, "stack_unavailable"), 0);
    atomic_store(&stop, 1);
    TEST_UNTIL(!atomic_load(&running));
    free(text);
}

/* A dump is made of many goroutines at a time: none is shown with the stack of one before. */
TEST(among_many_it_shows_where_too) {
    NEEDS_LINES();
    static _Atomic int running;
    enum { PARKED = 500 };
    int_chan ch = weir_make(int_chan, 0);
    weir_procs(2);
    for (int i = 0; i < PARKED; i++) TEST_GO(receive_for_ever, ch);
    test_until_n_parked(PARKED, "chan receive");
    TEST_GO(compute, &running);
    TEST_UNTIL(atomic_load(&running));
    char *text = dump_text(2);
    CHECK_EQ(check_level2(text), PARKED + 2);
    CHECK_EQ(count_of(text, "receive_for_ever(...)\n"), PARKED);
    CHECK_EQ(count_of(text, "compute(...)\n"), 1);
    atomic_store(&stop, 1);
    TEST_UNTIL(!atomic_load(&running));
    free(text);
    weir_close(ch);
}

static _Atomic int deaf_ones;
static void compute_deaf(void) {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    atomic_fetch_add(&deaf_ones, 1);
    while (!atomic_load(&stop)) {}
    sigemptyset(&all);
    pthread_sigmask(SIG_SETMASK, &all, NULL);
    atomic_fetch_sub(&deaf_ones, 1);
}

/* Shown at the function that they were started with; and the dump does not wait for each. */
TEST(goroutines_that_block_signals_are_in_the_dump) {
    enum { N = 20 };
    weir_procs(N + 2);
    for (int i = 0; i < N; i++) TEST_GO(compute_deaf);
    TEST_UNTIL(atomic_load(&deaf_ones) == N);
    char *text = dump_text(2);
    CHECK_EQ(check_level2(text), N + 1);
    atomic_store(&stop, 1);
    TEST_UNTIL(atomic_load(&deaf_ones) == 0);
    CHECK_EQ(count_of(text, " [running]:\n"), N + 1);
    if (has_lines()) CHECK_EQ(count_of(text, " [running]:\ncompute_deaf(...)\n"), N);
    free(text);
}

static void dump_often(int n, weir_wg *wg) {
    for (int i = 0; i < n; i++) {
        char *text = dump_text(1 + i % 2);
        CHECK(strlen(text) > 0);
        free(text);
    }
    weir_wg_done(wg);
}
static void *dump_often_too(void *arg) {
    for (int i = 0; i < 20; i++) {
        char *text = dump_text(1 + i % 2);
        CHECK(strlen(text) > 0);
        free(text);
    }
    return arg;
}

TEST(dumps_may_be_taken_at_once) {
    weir_wg wg = WEIR_WG_INIT;
    pthread_t thread;
    weir_procs(3);
    weir_wg_add(&wg, 3);
    for (int i = 0; i < 3; i++) TEST_GO(dump_often, 20, &wg);
    CHECK_EQ(pthread_create(&thread, NULL, dump_often_too, NULL), 0);
    CHECK_EQ(weir_wg_wait(&wg), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
}

static void dump_here(_Atomic int *result) {
    int fd = open("/dev/null", O_WRONLY);
    atomic_store(result, 1 + weir_dump(fd, 2));
    close(fd);
}

TEST(a_small_stack_is_enough_to_dump) {
    static _Atomic int result;
    CHECK_EQ(weir_go_stack(16 << 10, dump_here, &result), 0);
    TEST_UNTIL(atomic_load(&result));
    CHECK_EQ(result, 1);
}

TEST(errno_survives_a_dump) {
    errno = 77;
    int e = weir_dump(-1, 1);
    int after = errno;
    CHECK_EQ(e, -EBADF);
    CHECK_EQ(after, 77);
}

/* ---- Other threads ------------------------------------------------------------------------------------ */

struct foreign {
    int_chan ch;
    _Atomic uint64_t id;
    char *text;
};
static NOT_INLINED void *block_in_weir(void *arg) {
    struct foreign *f = arg;
    int v;
    atomic_store(&f->id, weir_id());
    CHECK_EQ(weir_recv(f->ch, &v), 0);
    STAY();
    return NULL;
}
static void *dump_from_thread(void *arg) {
    ((struct foreign *)arg)->text = dump_text(2);
    return NULL;
}

TEST(a_thread_that_is_no_worker_can_dump) {
    struct foreign f = { .ch = weir_make(int_chan, 0) };
    pthread_t thread;
    TEST_GO(receive_for_ever, f.ch);
    test_until_n_parked(1, "chan receive");
    CHECK_EQ(pthread_create(&thread, NULL, dump_from_thread, &f), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(check_level2(f.text), 2); /* and does not become a goroutine by that */
    CHECK_CONTAINS(f.text, "[chan receive]");
    free(f.text);
}

static void state_of(struct g *g, bool held, void *arg) {
    struct foreign *f = arg;
    if (g->id == atomic_load(&f->id) && atomic_load(&g->state) == WR_G_WAITING) f->text = "waits";
}

TEST(a_thread_that_blocks_in_weir_is_shown_with_its_stack) {
    NEEDS_LINES();
#ifdef TEST_TSAN
    SKIP("ThreadSanitizer keeps signals from a thread in a system call of its own");
#endif
    struct foreign f = { .ch = weir_make(int_chan, 0) };
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, block_in_weir, &f), 0);
    while (!f.text) {
        wr_each_goroutine(state_of, &f);
        weir_yield();
    }
    char *text = dump_text(2), *one = goroutine_text(text, f.id);
    CHECK_EQ(check_level2(text), 2);
    CHECK_CONTAINS(one, "[chan receive, locked to thread]:\nweir_chan_recv(...)\n");
    CHECK_CONTAINS(one, "\nblock_in_weir(...)\n");
    CHECK_EQ(weir_send(f.ch, 1), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    weir_release(f.ch);
    free(one), free(text);
}

/* ---- Descriptors --------------------------------------------------------------------------------------- */

TEST(a_closed_descriptor_is_an_error) {
    int fd = open("/dev/null", O_WRONLY);
    close(fd);
    CHECK_EQ(weir_dump(fd, 1), -EBADF);
    CHECK_EQ(weir_dump(fd, 2), -EBADF);
    CHECK_EQ(weir_dump(-1, 2), -EBADF);
}

TEST(a_full_device_is_an_error) {
    int fd = open("/dev/full", O_WRONLY);
    if (fd < 0) SKIP("no /dev/full");
    CHECK_EQ(weir_dump(fd, 1), -ENOSPC);
    CHECK_EQ(weir_dump(fd, 2), -ENOSPC);
    close(fd);
}

TEST(a_reader_that_has_gone_is_an_error_and_no_signal) {
    int pipes[2];
    CHECK_EQ(pipe(pipes), 0);
    close(pipes[0]);
    signal(SIGPIPE, SIG_DFL);
    CHECK_EQ(weir_dump(pipes[1], 2), -EPIPE);
    CHECK_EQ(weir_dump(pipes[1], 1), -EPIPE);
    sigset_t pending;
    sigpending(&pending);
    CHECK(!sigismember(&pending, SIGPIPE));
    close(pipes[1]);
}

struct slow {
    int fd;
    size_t n;
    char *text;
    _Atomic int go_on;
};
/* Nothing until told, then small pieces. */
static void *read_slowly(void *arg) {
    struct slow *s = arg;
    char piece[100];
    while (!atomic_load(&s->go_on)) poll(NULL, 0, 1);
    s->text = calloc(1, 1);
    for (ssize_t n; (n = read(s->fd, piece, sizeof piece)) != 0;) {
        CHECK_GE(n, 0);
        s->text = realloc(s->text, s->n + (size_t)n + 1);
        memcpy(s->text + s->n, piece, (size_t)n);
        s->n += (size_t)n;
        s->text[s->n] = 0;
    }
    return NULL;
}
struct dump_to {
    int fd, result;
    _Atomic int done;
};
static void dump_to(struct dump_to *d) {
    d->result = weir_dump(d->fd, 2);
    atomic_store(&d->done, 1);
}

static void slow_reader(int flags) {
    int pipes[2];
    pthread_t reader;
    size_t n = 500;
    int_chan ch = weir_make(int_chan, 0);
    CHECK_EQ(pipe2(pipes, O_CLOEXEC), 0);
    fcntl(pipes[1], F_SETFL, flags);
    fcntl(pipes[1], F_SETPIPE_SZ, 4096);
    for (size_t i = 0; i < n; i++) TEST_GO(receive_for_ever, ch);
    test_until_n_parked(n, "chan receive");
    struct slow slow = { .fd = pipes[0] };
    struct dump_to d = { .fd = pipes[1] };
    weir_procs(2);
    CHECK_EQ(pthread_create(&reader, NULL, read_slowly, &slow), 0);
    TEST_GO(dump_to, &d);
    /* The dump cannot be through before somebody reads; the others go on. */
    int_chan a = weir_make(int_chan, 0), b = weir_make(int_chan, 0);
    TEST_GO(ping, a, b);
    for (int i = 0, v; i < 1000; i++) {
        CHECK_EQ(weir_send(a, i), 0);
        CHECK_EQ(weir_recv(b, &v), 0);
        CHECK_EQ(v, i + 1);
    }
    CHECK_EQ(atomic_load(&d.done), 0);
    atomic_store(&slow.go_on, 1);
    TEST_UNTIL(atomic_load(&d.done));
    close(pipes[1]);
    CHECK_EQ(pthread_join(reader, NULL), 0);
    CHECK_EQ(d.result, 0);
    size_t seen = count_of(slow.text, " [chan receive]:\n"); /* ping perhaps, too */
    CHECK_GE(seen, n);
    CHECK_LE(seen, n + 1);
    CHECK_EQ(check_level2(slow.text), count_of(slow.text, "]:\n"));
    free(slow.text);
}

TEST(a_slow_reader_gets_it_all_and_holds_nobody_up) { slow_reader(0); }
TEST(a_descriptor_that_does_not_block_gets_it_all) { slow_reader(O_NONBLOCK); }

/* Level 2 looks at goroutines as it writes: those that end while its reader dawdles are not in it, nor are they
 * held. */
TEST(level_2_is_written_as_it_goes) {
    int pipes[2];
    pthread_t reader;
    size_t n = 500;
    int_chan ch = weir_make(int_chan, 0);
    CHECK_EQ(pipe2(pipes, O_CLOEXEC), 0);
    fcntl(pipes[1], F_SETPIPE_SZ, 4096);
    struct slow slow = { .fd = pipes[0] };
    struct dump_to d = { .fd = pipes[1] };
    for (size_t i = 0; i < n; i++) TEST_GO(receive_for_ever, ch);
    test_until_n_parked(n, "chan receive");
    weir_procs(2);
    TEST_GO(dump_to, &d);
    struct pollfd p = { .fd = d.fd, .events = POLLOUT };
    TEST_UNTIL(poll(&p, 1, 0) == 0);
    weir_close(ch);
    TEST_UNTIL(weir_count() == 2);
    atomic_store(&slow.go_on, 1);
    CHECK_EQ(pthread_create(&reader, NULL, read_slowly, &slow), 0);
    TEST_UNTIL(atomic_load(&d.done));
    close(pipes[1]);
    CHECK_EQ(pthread_join(reader, NULL), 0);
    size_t seen = check_level2(slow.text);
    CHECK_GE(seen, 10);
    CHECK_LE(seen, n / 2);
    weir_release(ch);
    free(slow.text);
}

/* ---- The runtime comes and goes -------------------------------------------------------------------------- */

PLAIN_TEST(without_a_runtime_there_are_no_goroutines) {
    char *text = dump_text(1);
    CHECK_STR(text, "goroutine profile: total 0\n");
    free(text);
    text = dump_text(2);
    CHECK_STR(text, "");
    free(text);
    CHECK_EQ(weir_dump(-1, 1), -EBADF);
    CHECK_EQ(weir_dump(1, 7), -EINVAL);
}

static int leave_while_dumping(void *arg) {
    struct dump_to *d = arg;
    int_chan ch = weir_make(int_chan, 0);
    for (int i = 0; i < 500; i++) TEST_GO(receive_for_ever, ch);
    test_until_n_parked(500, "chan receive");
    weir_procs(2);
    TEST_GO(dump_to, d);
    struct pollfd p = { .fd = d->fd, .events = POLLOUT };
    TEST_UNTIL(poll(&p, 1, 0) == 0); /* the pipe is full: the dump waits for a reader who will not come */
    return 5;
}

PLAIN_TEST(the_runtime_stops_though_a_dump_has_no_reader) {
    int pipes[2];
    test_ignore_leaks();
    CHECK_EQ(pipe(pipes), 0);
    fcntl(pipes[1], F_SETPIPE_SZ, 4096);
    struct dump_to d = { .fd = pipes[1] };
    CHECK_EQ(weir_run(leave_while_dumping, &d), 5);
    /* and afterwards a new runtime can dump */
    struct dump_to again = { .fd = open("/dev/null", O_WRONLY) };
    CHECK_GE(again.fd, 0);
    CHECK_EQ(weir_dump(again.fd, 2), 0);
}

static int dump_in_a_run(void *arg) {
    int_chan ch = weir_make(int_chan, 0);
    TEST_GO(receive_for_ever, ch);
    test_until_n_parked(1, "chan receive");
    char *text = dump_text(2);
    CHECK_EQ(check_level2(text), 2);
    free(text);
    return 0;
}

PLAIN_TEST(every_run_can_dump) {
    test_ignore_leaks();
    for (int i = 0; i < 3; i++) CHECK_EQ(weir_run(dump_in_a_run, NULL), 0);
}

/* ---- Names ------------------------------------------------------------------------------------------------- */

TEST(names_are_right_after_a_library_was_loaded) {
    NEEDS_LINES();
    char *text = dump_text(2);
    CHECK_CONTAINS(text, "dump_text(...)");
    free(text);
    void *library = dlopen("libresolv.so.2", RTLD_NOW);
    if (!library) SKIP("no library to load");
    text = dump_text(2);
    CHECK_EQ(check_level2(text), 1);
    CHECK_CONTAINS(text, "test_body_names_are_right_after_a_library_was_loaded(...)\n\t/");
    free(text);
    dlclose(library);
    text = dump_text(2);
    CHECK_CONTAINS(text, "test_body_names_are_right_after_a_library_was_loaded(...)\n\t/");
    free(text);
}

struct name_of {
    uintptr_t pc;
    struct wr_frame frame;
};
static void name_of(void *arg) {
    struct name_of *n = arg;
    wr_symbol_refresh();
    CHECK_EQ(wr_symbol(n->pc, &n->frame, 1), 1);
}

TEST(an_address_in_no_object_has_no_name) {
    struct name_of n = { .pc = 17 };
    CHECK_EQ(wr_on_large_stack(name_of, &n), 0);
    CHECK(!n.frame.named);
    CHECK_EQ(n.frame.line, 0);
    CHECK_STR(n.frame.file, "?\?");
}

TEST(functions_of_libraries_have_names) {
    struct name_of n = { .pc = (uintptr_t)dlsym(RTLD_DEFAULT, "qsort") + 1 };
    if (n.pc == 1) SKIP("a static program");
    CHECK_EQ(wr_on_large_stack(name_of, &n), 0);
    CHECK(n.frame.named);
    CHECK_CONTAINS(n.frame.function, "qsort");
    CHECK_EQ(n.frame.offset, 0);
}

/* libdw would ask a server for debug information that is not here, if we let it. */
TEST(nobody_is_asked_over_the_network) {
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, size) || listen(listener, 10) ||
        getsockname(listener, (struct sockaddr *)&address, &size))
        SKIP("no loopback network");
    char url[64];
    snprintf(url, sizeof url, "http://127.0.0.1:%d", ntohs(address.sin_port));
    setenv("DEBUGINFOD_URLS", url, 1);
    setenv("DEBUGINFOD_CACHE_PATH", "/nonexistent", 1);
    setenv("DEBUGINFOD_TIMEOUT", "1", 1);
    struct name_of n = { .pc = (uintptr_t)dlsym(RTLD_DEFAULT, "qsort") + 1 };
    CHECK_EQ(wr_on_large_stack(name_of, &n), 0);
    n.pc = (uintptr_t)dlsym(RTLD_DEFAULT, "_Unwind_Backtrace") + 1; /* libgcc_s: hardly ever has debug information */
    CHECK_EQ(wr_on_large_stack(name_of, &n), 0);
    CHECK_EQ(accept(listener, NULL, NULL), -1);
    CHECK_EQ(errno, EAGAIN);
}
