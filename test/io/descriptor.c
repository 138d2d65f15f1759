/* Descriptors: reading, writing, waiting and closing, on pipes, sockets, files and terminals. */
#include "test.h"
#include "threads.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "sched/inner.h"

static void make_pair(int fds[2]) { CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0); }

static void close_both(int fds[2]) {
    CHECK_EQ(weir_close_fd(fds[0]), 0);
    CHECK_EQ(weir_close_fd(fds[1]), 0);
}

static void write_text(int fd, const char *text) {
    CHECK_EQ(weir_write_all(fd, text, strlen(text)), (int64_t)strlen(text));
}
static void write_when_parked(int fd, const char *text) {
    test_until_n_parked(1, "IO wait");
    write_text(fd, text);
}

/* ---- Reading and writing ---------------------------------------------------------------------------- */

static void a_read_waits(int fds[2]) {
    char buffer[8] = "";
    TEST_GO(write_when_parked, fds[1], "hello");
    CHECK_EQ(weir_read(fds[0], buffer, sizeof buffer), 5);
    CHECK_STR(buffer, "hello");
    close_both(fds);
}

TEST(a_read_waits_on_a_pipe_of_weirs) {
    int fds[2];
    CHECK_EQ(weir_pipe(fds), 0);
    a_read_waits(fds);
}

TEST(a_read_waits_on_a_blocking_pipe) {
    int fds[2];
    CHECK_EQ(pipe(fds), 0);
    a_read_waits(fds);
}

TEST(a_read_waits_on_a_blocking_socket) {
    int fds[2];
    make_pair(fds);
    a_read_waits(fds);
}

TEST(a_read_waits_on_a_nonblocking_socket) {
    int fds[2];
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    a_read_waits(fds);
}

TEST(a_read_waits_on_a_terminal) {
    int master = posix_openpt(O_RDWR | O_NOCTTY);
    if (master < 0) SKIP("no terminals here");
    CHECK_EQ(grantpt(master), 0);
    CHECK_EQ(unlockpt(master), 0);
    int fds[2] = { open(ptsname(master), O_RDWR | O_NOCTTY), master };
    CHECK_GE(fds[0], 0);
    char buffer[8] = "";
    TEST_GO(write_when_parked, fds[1], "hi\n");
    CHECK_EQ(weir_read(fds[0], buffer, sizeof buffer), 3);
    CHECK_STR(buffer, "hi\n");
    CHECK_EQ(fcntl(fds[0], F_GETFL) & O_NONBLOCK, 0); /* left as it was */
    close_both(fds);
}

TEST(a_counter_that_is_no_stream_can_be_read) {
    int fd = eventfd(0, 0);
    uint64_t five = 5, got = 0;
    CHECK_EQ(weir_write(fd, &five, sizeof five), 8);
    CHECK_EQ(weir_read(fd, &got, sizeof got), 8);
    CHECK_EQ(got, 5);
    CHECK_EQ(weir_close_fd(fd), 0);
}

#define MUCH ((size_t)8 << 20)

static void write_much(int fd) {
    unsigned char *data = malloc(MUCH);
    CHECK(data);
    for (size_t i = 0; i < MUCH; i++) data[i] = (unsigned char)(i * 2654435761u >> 24);
    CHECK_EQ(weir_write_all(fd, data, MUCH), (int64_t)MUCH);
    free(data);
    CHECK_EQ(weir_close_fd(fd), 0);
}

static void much_arrives(int fds[2]) {
    unsigned char *data = malloc(MUCH + 1);
    CHECK(data);
    weir_scoped(s) {
        CHECK_EQ(weir_scope_go(&s, write_much, fds[1]), 0);
        CHECK_EQ(weir_read_full(fds[0], data, MUCH + 1), (int64_t)MUCH); /* and then the end */
    }
    for (size_t i = 0; i < MUCH; i++)
        if (data[i] != (unsigned char)(i * 2654435761u >> 24)) FAIL("byte %zu is wrong", i);
    free(data);
    CHECK_EQ(weir_read(fds[0], &(char){ 0 }, 1), 0);
    CHECK_EQ(weir_close_fd(fds[0]), 0);
}

TEST(much_passes_through_a_pipe) {
    int fds[2];
    CHECK_EQ(weir_pipe(fds), 0);
    much_arrives(fds);
}
TEST(much_passes_through_a_blocking_pipe) {
    int fds[2];
    CHECK_EQ(pipe(fds), 0);
    much_arrives(fds);
}
TEST(much_passes_through_a_socket) {
    int fds[2];
    make_pair(fds);
    much_arrives(fds);
}

TEST(a_file_is_read_and_written) {
    char name[] = "/tmp/weir-io-XXXXXX", buffer[16] = "";
    int fd = mkstemp(name);
    CHECK_GE(fd, 0);
    CHECK_EQ(unlink(name), 0);
    write_text(fd, "in a file");
    CHECK_EQ(lseek(fd, 3, SEEK_SET), 3);
    CHECK_EQ(weir_read(fd, buffer, sizeof buffer), 6);
    CHECK_STR(buffer, "a file");
    CHECK_EQ(weir_read(fd, buffer, sizeof buffer), 0);
    CHECK_EQ(weir_wait_fd(fd, WEIR_IN | WEIR_OUT), WEIR_IN | WEIR_OUT);
    CHECK_EQ(weir_close_fd(fd), 0);
}

TEST(errors_come_as_negative_numbers) {
    char byte;
    CHECK_EQ(weir_read(-1, &byte, 1), -EBADF);
    CHECK_EQ(weir_read(1 << 30, &byte, 1), -EBADF);
    CHECK_EQ(weir_read(999, &byte, 1), -EBADF);
    CHECK_EQ(weir_write(999, &byte, 1), -EBADF);
    CHECK_EQ(weir_wait_fd(999, WEIR_IN), -EBADF);
    CHECK_EQ(weir_wait_fd(0, 0), -EINVAL);
    CHECK_EQ(weir_wait_fd(0, 8), -EINVAL);
    CHECK_EQ(weir_close_fd(999), -EBADF);
    CHECK_EQ(weir_close_fd(-1), -EBADF);
    int fd = open("/", O_RDONLY | O_DIRECTORY);
    CHECK_EQ(weir_read(fd, &byte, 1), -EISDIR);
    CHECK_EQ(weir_write(fd, &byte, 1), -EBADF);
    CHECK_EQ(weir_close_fd(fd), 0);
    CHECK_EQ(weir_read(fd, &byte, 1), -EBADF);
}

TEST(no_numbers_are_left_is_an_error) {
    struct rlimit none = { 0, 0 }, before;
    int fds[2];
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
    none.rlim_max = before.rlim_max;
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
    CHECK_EQ(weir_pipe(fds), -EMFILE);
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
}

TEST(a_write_that_nobody_reads_raises_no_signal) {
    int pipe_fds[2], pair[2];
    CHECK_EQ(weir_pipe(pipe_fds), 0);
    make_pair(pair);
    CHECK_EQ(weir_close_fd(pipe_fds[0]), 0);
    CHECK_EQ(weir_close_fd(pair[0]), 0);
    CHECK_EQ(weir_write(pipe_fds[1], "x", 1), -EPIPE);
    CHECK_EQ(weir_write(pair[1], "x", 1), -EPIPE);
    sigset_t pending;
    CHECK_EQ(sigpending(&pending), 0);
    CHECK(!sigismember(&pending, SIGPIPE));
    CHECK_EQ(weir_close_fd(pipe_fds[1]), 0);
    CHECK_EQ(weir_close_fd(pair[1]), 0);
}

/* ---- Who waits -------------------------------------------------------------------------------------- */

static _Atomic int readers_done, writers_done;
static void read_one(int fd, int64_t result) {
    char byte;
    CHECK_EQ(weir_read(fd, &byte, 1), result);
    readers_done++;
}
static void write_one(int fd, int64_t result) {
    char data[64] = "";
    CHECK_EQ(weir_write(fd, data, sizeof data), result);
    writers_done++;
}

/* Until it takes no more; how much that was. */
static size_t fill(int fd) {
    char data[4096] = "";
    size_t sum = 0;
    for (ssize_t n; (n = send(fd, data, sizeof data, MSG_DONTWAIT)) > 0;) sum += (size_t)n;
    return sum;
}

TEST(readers_and_writers_wait_side_by_side) {
    int fds[2];
    make_pair(fds);
    size_t left = fill(fds[0]) + 64;
    TEST_GO(read_one, fds[0], (int64_t)1);
    TEST_GO(write_one, fds[0], (int64_t)64);
    test_until_n_parked(2, "IO wait");
    write_text(fds[1], "x");
    TEST_UNTIL(readers_done == 1);
    CHECK_EQ(writers_done, 0);
    for (char sink[4096]; left > 0;) {
        int64_t n = weir_read(fds[1], sink, sizeof sink);
        CHECK_GE(n, 1);
        left -= (size_t)n;
    }
    TEST_UNTIL(writers_done == 1);
    close_both(fds);
}

static void a_close_wakes(int fds[2]) {
    fill(fds[0]);
    for (int i = 0; i < 3; i++) {
        TEST_GO(read_one, fds[0], (int64_t)-EBADF);
        TEST_GO(write_one, fds[0], (int64_t)-EBADF);
    }
    test_until_n_parked(6, "IO wait");
    CHECK_EQ(weir_close_fd(fds[0]), 0);
    TEST_UNTIL(readers_done == 3 && writers_done == 3);
    CHECK_EQ(weir_read(fds[0], &(char){ 0 }, 1), -EBADF);
    CHECK_EQ(weir_close_fd(fds[1]), 0);
}

TEST(a_close_wakes_every_reader_and_writer) {
    int fds[2];
    make_pair(fds);
    a_close_wakes(fds);
}

static void wait_for(int fd, int events, int64_t result) {
    CHECK_EQ(weir_wait_fd(fd, events), result);
    readers_done++;
}

TEST(a_close_wakes_who_only_waits) {
    int fds[2];
    make_pair(fds);
    fill(fds[0]);
    TEST_GO(wait_for, fds[0], WEIR_IN | WEIR_OUT, (int64_t)-EBADF);
    TEST_GO(wait_for, fds[0], WEIR_IN, (int64_t)-EBADF);
    test_until_n_parked(2, "IO wait");
    CHECK_EQ(weir_close_fd(fds[0]), 0);
    TEST_UNTIL(readers_done == 2);
    CHECK_EQ(weir_close_fd(fds[1]), 0);
}

/* Each byte wakes one reader, and every byte is taken. */
TEST(many_readers_of_one_descriptor_all_get_theirs) {
    enum { READERS = 50 };
    int fds[2];
    make_pair(fds);
    for (int i = 0; i < READERS; i++) TEST_GO(read_one, fds[0], (int64_t)1);
    test_until_n_parked(READERS, "IO wait");
    char all[READERS] = "";
    CHECK_EQ(weir_write_all(fds[1], all, READERS), READERS); /* one edge for all of them */
    TEST_UNTIL(readers_done == READERS);
    close_both(fds);
}

TEST(the_end_wakes_every_reader) {
    int fds[2];
    CHECK_EQ(weir_pipe(fds), 0);
    for (int i = 0; i < 20; i++) TEST_GO(read_one, fds[0], (int64_t)0);
    test_until_n_parked(20, "IO wait");
    CHECK_EQ(weir_close_fd(fds[1]), 0);
    TEST_UNTIL(readers_done == 20);
    CHECK_EQ(weir_close_fd(fds[0]), 0);
}

static weir_wg threads_left;
static void *read_on_a_thread(void *arg) {
    char byte = 0;
    CHECK_EQ(weir_read(*(int *)arg, &byte, 1), 1);
    CHECK_EQ(byte, 't');
    weir_wg_done(&threads_left);
    return NULL;
}

TEST(a_thread_of_the_programs_own_may_wait) {
    int fds[2];
    make_pair(fds);
    weir_wg_add(&threads_left, 1);
    pthread_t t = thread_start(read_on_a_thread, &fds[0]);
    TEST_UNTIL(wr_sched.waiting == 1);
    CHECK_EQ(write(fds[1], "t", 1), 1); /* no goroutine waits for anything of the poller's */
    CHECK_EQ(weir_wg_wait(&threads_left), 0);
    thread_end(t);
    close_both(fds);
}

static _Atomic bool tried, may_end;
static void *uses_no_number(void *arg) {
    char byte;
    CHECK_EQ(weir_read(-1, &byte, 1), -EBADF);
    CHECK_EQ(weir_wait_fd(-1, WEIR_IN), -EBADF);
    CHECK_EQ(weir_close_fd(-1), -EBADF);
    tried = true;
    while (!may_end) {}
    return arg;
}
TEST(a_thread_does_not_become_a_goroutine_by_a_number_that_is_none) {
    pthread_t t = thread_start(uses_no_number, NULL);
    TEST_UNTIL(tried);
    CHECK_EQ(weir_count(), 1);
    may_end = true;
    thread_end(t);
}

PLAIN_TEST(without_a_runtime_nobody_waits) {
    int fds[2];
    char byte;
    make_pair(fds);
    CHECK_EQ(weir_read(fds[0], &byte, 1), -EPERM);
    CHECK_EQ(weir_wait_fd(fds[0], WEIR_IN), -EPERM);
    CHECK_EQ(weir_write(fds[1], "x", 1), 1);
    CHECK_EQ(weir_read(fds[0], &byte, 1), 1);
    close_both(fds);
}

static int leave_a_reader_behind(void *arg) {
    TEST_GO(read_one, *(int *)arg, (int64_t)1);
    test_until_n_parked(1, "IO wait");
    return 0;
}
static int wait_for_ever(void *arg) {
    (void)arg;
    return weir_recv((weir_unit_chan){ 0 }, NULL);
}

/* Who waited for a descriptor when the runtime stopped keeps nobody waiting for it in the next run. */
EXIT_PLAIN_TEST(a_reader_left_behind_hides_no_deadlock_of_the_next_run, 2, "all goroutines are asleep - deadlock!") {
    int fds[2];
#ifdef TEST_TSAN
    SKIP("in a second run the sanitizer's own thread is taken for one of the program's");
#endif
    make_pair(fds);
    test_ignore_leaks();
    CHECK_EQ(weir_run(leave_a_reader_behind, &fds[0]), 0);
    CHECK_EQ(wr_sched.waiting, 0);
    (void)weir_run(wait_for_ever, NULL);
}

static int close_both_of(void *fds) {
    close_both(fds);
    return 0;
}

PLAIN_TEST(the_number_of_a_reader_left_behind_can_be_given_back) {
    int fds[2];
    make_pair(fds);
    test_ignore_leaks();
    CHECK_EQ(weir_run(leave_a_reader_behind, &fds[0]), 0);
    CHECK_EQ(weir_run(close_both_of, fds), 0);
    CHECK_EQ(fcntl(fds[0], F_GETFD), -1);
    CHECK_EQ(fcntl(fds[1], F_GETFD), -1);
}

static void locked_echo(int fd) {
    weir_lock_thread();
    char byte;
    while (weir_read(fd, &byte, 1) == 1) CHECK_EQ(weir_write(fd, &byte, 1), 1);
    weir_unlock_thread();
    readers_done++;
}

TEST(a_goroutine_with_a_thread_of_its_own_waits_too) {
    int fds[2];
    make_pair(fds);
    TEST_GO(locked_echo, fds[0]);
    for (char i = 0; i < 100; i++) {
        char back = -1;
        CHECK_EQ(weir_write(fds[1], &i, 1), 1);
        CHECK_EQ(weir_read(fds[1], &back, 1), 1);
        CHECK_EQ(back, i);
    }
    CHECK_EQ(weir_close_fd(fds[1]), 0);
    TEST_UNTIL(readers_done == 1);
    CHECK_EQ(weir_close_fd(fds[0]), 0);
}

static _Atomic bool enough;
static void compute(void) {
    while (!enough) {}
}

/* Every processor is held by one that does not give way. */
TEST(who_computes_does_not_keep_others_from_their_data) {
    int fds[2];
    make_pair(fds);
    for (int i = 0; i < weir_procs(0); i++) TEST_GO(compute);
    TEST_GO(write_when_parked, fds[1], "x");
    CHECK_EQ(weir_read(fds[0], &(char){ 0 }, 1), 1);
    enough = true;
    close_both(fds);
}

/* ---- Cancelling ------------------------------------------------------------------------------------- */

static void cancelled_read(int fd) {
    char byte;
    CHECK_EQ(weir_read(fd, &byte, 1), -ECANCELED);
    CHECK_EQ(weir_read(fd, &byte, 1), -ECANCELED); /* though there may be something by now */
    CHECK_EQ(weir_wait_fd(fd, WEIR_IN), -ECANCELED);
    CHECK_EQ(weir_write(fd, &byte, 1), -ECANCELED);
}

TEST(a_cancelled_read_has_read_nothing) {
    int fds[2];
    make_pair(fds);
    weir_scoped(s) {
        CHECK_EQ(weir_scope_go(&s, cancelled_read, fds[0]), 0);
        test_until_n_parked(1, "IO wait");
        weir_scope_cancel(&s);
        CHECK_EQ(write(fds[1], "x", 1), 1);
    }
    CHECK_EQ(weir_read(fds[0], &(char){ 0 }, 1), 1);
    CHECK_EQ(weir_try_recv((weir_unit_chan){ 0 }, NULL), -EAGAIN);
    CHECK_EQ(recv(fds[1], &(char){ 0 }, 1, MSG_DONTWAIT), -1);
    close_both(fds);
}

TEST(a_deadline_ends_a_read_and_a_write) {
    int fds[2];
    make_pair(fds);
    weir_timeout(5 * WEIR_MILLISECOND) CHECK_EQ(weir_read(fds[0], &(char){ 0 }, 1), -ETIMEDOUT);
    fill(fds[0]);
    weir_timeout(5 * WEIR_MILLISECOND) CHECK_EQ(weir_write(fds[0], "x", 1), -ETIMEDOUT);
    weir_timeout(5 * WEIR_MILLISECOND) CHECK_EQ(weir_wait_fd(fds[0], WEIR_IN | WEIR_OUT), -ETIMEDOUT);
    close_both(fds);
}

static void reads_a_part(int fd) {
    char buffer[8] = "";
    CHECK_EQ(weir_read_full(fd, buffer, sizeof buffer), 3);
    CHECK_STR(buffer, "abc");
    CHECK_EQ(weir_read_full(fd, buffer, sizeof buffer), -ECANCELED);
}
static void writes_a_part(int fd) {
    static char much[1 << 20];
    int64_t n = weir_write_all(fd, much, sizeof much);
    CHECK_GE(n, 1);
    CHECK_LE(n, (int64_t)sizeof much - 1);
    CHECK_EQ(weir_write_all(fd, much, sizeof much), -ECANCELED);
}
static void is_cancelled_amid(void (*moves)(int), int fd) {
    weir_scoped(s) {
        CHECK_EQ(weir_scope_go(&s, moves, fd), 0);
        test_until_n_parked(1, "IO wait");
        weir_scope_cancel(&s);
    }
}
TEST(what_was_moved_before_the_end_is_told) {
    int fds[2];
    make_pair(fds);
    write_text(fds[1], "abc");
    is_cancelled_amid(reads_a_part, fds[0]);
    is_cancelled_amid(writes_a_part, fds[0]);
    close_both(fds);
}

/* Cancelling and data come at the same moment: either the byte was read, or it is still there. */
static _Atomic long taken;
static void read_or_be_cancelled(int fd) {
    char byte;
    int64_t n = weir_read(fd, &byte, 1);
    if (n == 1) taken++;
    else CHECK_EQ(n, -ECANCELED);
}

TEST(a_byte_is_read_or_left_never_lost) {
    int fds[2];
    long sent = TEST_SCALE(3000), left = 0;
    make_pair(fds);
    for (long i = 0; i < sent; i++) {
        weir_scoped(s) {
            CHECK_EQ(weir_scope_go(&s, read_or_be_cancelled, fds[0]), 0);
            if (i % 2) weir_yield();
            CHECK_EQ(write(fds[1], "x", 1), 1);
            if (i % 3) weir_yield();
            weir_scope_cancel(&s);
        }
        char byte;
        while (recv(fds[0], &byte, 1, MSG_DONTWAIT) == 1) left++;
    }
    CHECK_EQ(taken + left, sent);
    close_both(fds);
}

/* ---- Waiting only ------------------------------------------------------------------------------------ */

TEST(a_wait_says_what_it_is_ready_for) {
    int fds[2];
    make_pair(fds);
    CHECK_EQ(weir_wait_fd(fds[0], WEIR_OUT), WEIR_OUT);
    CHECK_EQ(weir_wait_fd(fds[0], WEIR_IN | WEIR_OUT), WEIR_OUT);
    write_text(fds[1], "x");
    CHECK_EQ(weir_wait_fd(fds[0], WEIR_IN | WEIR_OUT), WEIR_IN | WEIR_OUT);
    CHECK_EQ(weir_wait_fd(fds[0], WEIR_IN), WEIR_IN); /* it is a level: still so */
    CHECK_EQ(weir_close_fd(fds[1]), 0);
    CHECK_EQ(weir_wait_fd(fds[0], WEIR_IN), WEIR_IN);
    CHECK_EQ(weir_close_fd(fds[0]), 0);
}

TEST(a_wait_ends_when_the_other_side_writes) {
    int fds[2];
    make_pair(fds);
    TEST_GO(write_when_parked, fds[1], "x");
    CHECK_EQ(weir_wait_fd(fds[0], WEIR_IN), WEIR_IN);
    close_both(fds);
}

/* As libraries do that know nothing of weir. */
TEST(a_number_that_was_closed_behind_weirs_back_can_be_waited_on_again) {
    for (int i = 0; i < 50; i++) {
        int fds[2];
        make_pair(fds);
        TEST_GO(write_when_parked, fds[1], "x");
        if (i % 2) CHECK_EQ(weir_wait_fd(fds[0], WEIR_IN), WEIR_IN);
        CHECK_EQ(weir_read(fds[0], &(char){ 0 }, 1), 1);
        CHECK_EQ(close(fds[0]), 0);
        CHECK_EQ(close(fds[1]), 0);
    }
}

/* ---- Storms ------------------------------------------------------------------------------------------ */

/* Every pair carries its own number. Who sleeps in a read when its descriptor is closed, its number given to the next pair, and data come,
 * must never read another's. */
static _Atomic long read_in_storm;
static void read_own(int fd, long own, _Atomic uint64_t *id) {
    long got;
    *id = weir_id();
    int64_t n = weir_read(fd, &got, sizeof got);
    if (n == -EBADF) return;
    CHECK_EQ(n, (int64_t)sizeof got);
    CHECK_EQ(got, own);
    read_in_storm++;
}

static void storm(long rounds, long seed) {
    for (long i = 0; i < rounds; i++) {
        enum { READERS = 2 };
        int fds[2];
        long own = seed << 32 | i;
        _Atomic uint64_t ids[READERS] = { 0 };
        CHECK_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fds), 0);
        weir_scoped(s) {
            for (int r = 0; r < READERS; r++) CHECK_EQ(weir_scope_go(&s, read_own, fds[0], own, &ids[r]), 0);
            for (int r = 0; r < READERS; r++) {
                TEST_UNTIL(ids[r]);
                test_until_parked(ids[r], "IO wait");
            }
            long before = read_in_storm;
            for (long w = 0; w < i % 4; w++) CHECK_EQ(weir_write(fds[1], &own, sizeof own), (int64_t)sizeof own);
            if (i % 8 == 7) TEST_UNTIL(read_in_storm > before);
            if (i % 3 == 0) weir_yield();
            CHECK_EQ(weir_close_fd(fds[0]), 0);
        }
        CHECK_EQ(weir_close_fd(fds[1]), 0);
    }
}

TEST(in_a_storm_of_closing_and_opening_nobody_reads_from_a_foreign_descriptor) {
    weir_scoped(s)
        for (long i = 1; i <= 8; i++) CHECK_EQ(weir_scope_go(&s, storm, TEST_SCALE(1000) + 8, i), 0);
    CHECK_GE(read_in_storm, 1);
}

static void ping(int fd, long rounds) {
    for (long i = 0; i < rounds; i++) {
        char byte = (char)i;
        CHECK_EQ(weir_write(fd, &byte, 1), 1);
        CHECK_EQ(weir_read(fd, &byte, 1), 1);
        CHECK_EQ(byte, (char)i);
    }
    CHECK_EQ(weir_close_fd(fd), 0);
}
static void pong(int fd) {
    char byte;
    while (weir_read(fd, &byte, 1) == 1) CHECK_EQ(weir_write(fd, &byte, 1), 1);
    CHECK_EQ(weir_close_fd(fd), 0);
}

TEST(many_pairs_talk_at_once) {
    weir_scoped(s)
        for (int i = 0; i < 100; i++) {
            int fds[2];
            make_pair(fds);
            CHECK_EQ(weir_scope_go(&s, ping, fds[0], TEST_SCALE(200)), 0);
            CHECK_EQ(weir_scope_go(&s, pong, fds[1]), 0);
        }
}

/* ---- Many at once ------------------------------------------------------------------------------------- */

static _Atomic int woken;
static void reads(int fd) {
    (void)!weir_read(fd, &(char){ 0 }, 1);
    woken++;
}
static void writes(int fd) {
    static char much[1 << 20];
    CHECK_GE((int64_t)sizeof much - 1, weir_write_all(fd, much, sizeof much));
    woken++;
}
/* An event may wake one who reads and one who writes, so there may be twice as many as events are taken at once. */
TEST(all_are_woken_whom_one_look_at_the_poller_finds) {
    enum { PAIRS = 100 };
    static int fds[PAIRS][2];
    CHECK_GE(weir_procs(1), 1);
    for (int i = 0; i < PAIRS; i++) {
        make_pair(fds[i]);
        TEST_GO(reads, fds[i][0]);
        TEST_GO(writes, fds[i][0]);
    }
    test_until_n_parked(2 * PAIRS, "IO wait");
    for (int i = 0; i < PAIRS; i++) close(fds[i][1]); /* nobody looks meanwhile */
    TEST_UNTIL(woken == 2 * PAIRS);
    for (int i = 0; i < PAIRS; i++) CHECK_EQ(weir_close_fd(fds[i][0]), 0);
}

/* ---- Deadlocks ---------------------------------------------------------------------------------------- */

static void write_in_a_while(void *arg) {
    usleep(50000);
    CHECK_EQ(write(*(int *)arg, "x", 1), 1);
}
static void *writes_in_a_while(void *arg) {
    write_in_a_while(arg);
    return NULL;
}

/* The writer is outside: the program only waits for a descriptor, and that may come any time. */
TEST(who_waits_for_a_descriptor_is_not_deadlocked) {
    int fds[2];
    make_pair(fds);
    pthread_t t = thread_start(writes_in_a_while, &fds[1]);
    CHECK_EQ(weir_read(fds[0], &(char){ 0 }, 1), 1);
    thread_end(t);
    close_both(fds);
}

EXIT_TEST(once_nobody_waits_for_one_a_deadlock_is_found, 2, "all goroutines are asleep - deadlock!") {
    int fds[2];
    make_pair(fds);
    TEST_GO(write_when_parked, fds[1], "x");
    CHECK_EQ(weir_read(fds[0], &(char){ 0 }, 1), 1);
    weir_unit_chan never = weir_make(weir_unit_chan, 0);
    (void)!weir_recv(never, NULL);
}
