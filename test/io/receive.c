/* WEIR_POLLER, and what has been received ahead of who reads: none of it is lost, moved, or mixed up. */
#include "ring_test.h"
#include "threads.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/select.h>
#include <sys/syscall.h>

#include "io/io.h"

/* ---- Which poller ------------------------------------------------------------------------------------- */

static void say_soon(int fd) {
    test_until_n_parked(1, "IO wait");
    say(fd, "hello");
}
static int talks(void *arg) {
    int fds[2];
    tcp_pair(fds);
    for (int i = 0; i < 3; i++) {
        TEST_GO(say_soon, fds[0]);
        HEARS(fds[1], "hello");
    }
    shut(fds[0]);
    shut(fds[1]);
    return 0;
}
static void talk_by(const char *poller) {
    CHECK_EQ(setenv("WEIR_POLLER", poller, 1), 0);
    CHECK_EQ(weir_run(talks, NULL), 0);
}
static void talk_silently_by(const char *poller) {
    int real = dup(STDERR_FILENO), file = memfd_create("said", MFD_CLOEXEC);
    CHECK(real >= 0 && file >= 0 && dup2(file, STDERR_FILENO) == STDERR_FILENO);
    talk_by(poller);
    CHECK_EQ(dup2(real, STDERR_FILENO), STDERR_FILENO);
    char said[200] = "";
    CHECK_GE(pread(file, said, sizeof said - 1, 0), 0);
    CHECK_STR(said, "");
}

PLAIN_TEST(epoll_may_be_asked_for) {
    talk_silently_by("epoll");
    CHECK(!wr_has_ring);
}
PLAIN_TEST(auto_chooses_without_a_word) { talk_silently_by("auto"); }
PLAIN_TEST(nothing_is_auto) { talk_silently_by(""); }
EXIT_PLAIN_TEST(an_unknown_poller_is_named_and_ignored, 0, "weir: WEIR_POLLER=kqueue: not epoll, uring or auto; ignored\n") {
    talk_by("kqueue");
    CHECK(!wr_has_ring);
    exit(0);
}

/* As in most containers. */
static void refuse_io_uring(void) {
    struct sock_filter code[] = { BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
                                  BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
                                  BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW) };
    CHECK_EQ(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &(struct sock_fprog){ 4, code }) != 0) SKIP("no seccomp filters here");
}
EXIT_PLAIN_TEST(where_io_uring_is_refused_epoll_does_its_work, 0, "weir: WEIR_POLLER=uring: there is no io_uring to be had (") {
    refuse_io_uring();
    talk_by("uring");
    CHECK(!wr_has_ring);
    exit(0);
}
PLAIN_TEST(auto_says_nothing_where_io_uring_is_refused) {
    refuse_io_uring();
    talk_silently_by("auto");
}

/* ---- With a ring -------------------------------------------------------------------------------------- */

/* A pair of which fds[1] is received from ahead: somebody has waited there. */
static void ring_pair(int fds[2]) {
    tcp_pair(fds);
    TEST_GO(say_soon, fds[0]);
    HEARS(fds[1], "hello");
}
/* Until at least n bytes are out of the socket, and here; at most 256. */
static void until_ahead(int fd, int64_t n) {
    char bytes[256];
    do wr_poll_settle();
    while (wr_io_ahead_of(fd, bytes, sizeof bytes, true) < n && (test_pause(), true));
}
static void say_ahead(int fds[2], const char *text) {
    say(fds[0], text);
    until_ahead(fds[1], (int64_t)strlen(text));
    CHECK_EQ(recv(fds[1], &(char){ 0 }, 1, MSG_PEEK | MSG_DONTWAIT), -1); /* it has left the socket */
}

/* One that has asked on this thread, for all that comes from fds[0]. */
static void asked_here(int fds[2]) {
    for (;;) {
        tcp_pair(fds);
        weir_timeout(200 * WEIR_MICROSECOND) CHECK_EQ(weir_read(fds[1], &(char){ 0 }, 1), -ETIMEDOUT);
        if (asked_by_me(fds[1])) return;
        shut(fds[0]);
        shut(fds[1]);
    }
}

RING_TEST(what_came_ahead_is_read_in_order_by_pieces_of_any_size) {
    int fds[2];
    ring_pair(fds);
    say_ahead(fds, "abc");
    say(fds[0], "defgh");
    until_ahead(fds[1], 8);
    char byte;
    CHECK_EQ(weir_read(fds[1], &byte, 1), 1);
    CHECK_EQ(byte, 'a');
    CHECK_EQ(weir_read(fds[1], &byte, 0), 0);
    HEARS(fds[1], "bcdefgh");
    shut(fds[0]);
    CHECK_EQ(weir_read(fds[1], &byte, 1), 0);
    CHECK_EQ(weir_read(fds[1], &byte, 1), 0);
    shut(fds[1]);
}

RING_TEST(a_cancelled_reader_loses_nothing) {
    int fds[2];
    ring_pair(fds);
    weir_timeout(WEIR_MILLISECOND) CHECK_EQ(weir_read(fds[1], &(char){ 0 }, 1), -ETIMEDOUT);
    say_ahead(fds, "later");
    weir_timeout(1) {
        weir_sleep(WEIR_MILLISECOND);
        CHECK_EQ(weir_read(fds[1], &(char){ 0 }, 1), -ETIMEDOUT); /* though it is here */
    }
    HEARS(fds[1], "later");
    shut(fds[0]);
    shut(fds[1]);
}

static void cancelled_readers(int fd, _Atomic long *sum, _Atomic bool *stop) {
    while (!*stop) {
        unsigned char byte;
        int64_t n = 0;
        weir_timeout(20 * WEIR_MICROSECOND) n = weir_read(fd, &byte, 1);
        if (n == 1) *sum += byte;
        else if (n == 0) return;
        else CHECK_EQ(n, -ETIMEDOUT);
    }
}
RING_TEST(in_a_storm_of_cancels_each_byte_is_read_once) {
    int fds[2];
    _Atomic long sum = 0;
    _Atomic bool stop = false;
    long expected = 0;
    ring_pair(fds);
    weir_scoped(s) {
        for (int i = 0; i < 3; i++) CHECK_EQ(weir_scope_go(&s, cancelled_readers, fds[1], &sum, &stop), 0);
        for (long i = 0, n = TEST_SCALE(20000); i < n; i++) {
            unsigned char byte = (unsigned char)(i % 251);
            expected += byte;
            CHECK_EQ(weir_write_all(fds[0], &byte, 1), 1);
            if (i % 7 == 0) weir_yield();
        }
        CHECK_EQ(shutdown(fds[0], SHUT_WR), 0);
    }
    CHECK_EQ(sum, expected);
    shut(fds[0]);
    shut(fds[1]);
}

static void answers_each(int fd) {
    char byte;
    while (weir_read(fd, &byte, 1) == 1) {
        byte = (char)(byte + 1);
        say(fd, (char[2]){ byte });
    }
    shut(fd);
}
static void asks_each(int fd, long n) {
    for (long i = 0; i < n; i++) {
        char byte = (char)(1 + i % 100);
        say(fd, (char[2]){ byte });
        HEARS(fd, ((char[2]){ (char)(byte + 1) }));
    }
    shut(fd);
}
/* Who finds that the thread which has asked is asleep asks in its place: here as soon as it is, so over and over. */
RING_TEST(in_a_storm_of_asking_anew_each_byte_is_read_once) {
    wr_ring_patience = 0;
    CHECK_GE(weir_procs(4), 1);
    weir_scoped(s) {
        for (int i = 0; i < 6; i++) {
            int fds[2];
            ring_pair(fds);
            CHECK_EQ(weir_scope_go(&s, answers_each, fds[1]), 0);
            CHECK_EQ(weir_scope_go(&s, asks_each, fds[0], TEST_SCALE(3000)), 0);
        }
    }
}

RING_TEST(what_came_ahead_is_not_for_who_gets_the_number_next) {
    int fds[2], number, again = 0;
    ring_pair(fds);
    say_ahead(fds, "for the first");
    number = fds[1];
    CHECK_EQ(weir_close_fd(fds[1]), 0);
    CHECK_EQ(weir_read(fds[0], &(char){ 0 }, 1), 0); /* the ring does not hold the connection open */
    shut(fds[0]);
    for (int i = 0; i < 50; i++) {
        ring_pair(fds);
        again += fds[0] == number || fds[1] == number;
        say_ahead(fds, "for the second");
        HEARS(fds[1], "for the second");
        say(fds[1], "for its peer");
        HEARS(fds[0], "for its peer");
        shut(fds[1]);
        shut(fds[0]);
    }
    CHECK_GE(again, 1);
}

static void reads_until_closed(int fd) { CHECK_EQ(weir_read(fd, &(char){ 0 }, 1), -EBADF); }
RING_TEST(a_close_wakes_who_waits_on_the_ring) {
    int fds[2];
    ring_pair(fds);
    weir_scoped(s) {
        for (int i = 0; i < 3; i++) CHECK_EQ(weir_scope_go(&s, reads_until_closed, fds[1]), 0);
        test_until_n_parked(3, "IO wait");
        CHECK_EQ(weir_close_fd(fds[1]), 0);
    }
    CHECK_EQ(weir_read(fds[0], &(char){ 0 }, 1), 0);
    shut(fds[0]);
}

RING_TEST(copying_begins_with_what_came_ahead) {
    int fds[2], out[2];
    ring_pair(fds);
    CHECK_EQ(weir_pipe(out), 0);
    say_ahead(fds, "ahead, ");
    say(fds[0], "and after");
    CHECK_EQ(shutdown(fds[0], SHUT_WR), 0);
    CHECK_EQ(weir_copy_fd(out[1], fds[1], 3), 3);
    CHECK_EQ(weir_copy_fd(out[1], fds[1], -1), 13);
    HEARS(out[0], "ahead, and after");
    for (int i = 0; i < 2; i++) shut(fds[i]), shut(out[i]);
}

RING_TEST(waiting_tells_of_what_came_ahead_and_leaves_the_rest_to_the_program) {
    int fds[2];
    ring_pair(fds);
    say_ahead(fds, "ahead");
    CHECK_EQ(weir_wait_fd(fds[1], WEIR_IN), WEIR_IN);
    HEARS(fds[1], "ahead");
    TEST_GO(say_soon, fds[0]);
    CHECK_EQ(weir_wait_fd(fds[1], WEIR_IN), WEIR_IN);
    char plain[8] = "";
    CHECK_EQ(read(fds[1], plain, sizeof plain), 5);
    CHECK_STR(plain, "hello");
    TEST_GO(say_soon, fds[0]);
    HEARS(fds[1], "hello");
    say(fds[0], "x");
    while (weir_wait_fd(fds[1], WEIR_IN) != WEIR_IN) {}
    CHECK_EQ(read(fds[1], plain, sizeof plain), 1);
    shut(fds[0]);
    shut(fds[1]);
}

RING_TEST(messages_are_made_of_what_came_ahead) {
    int fds[2];
    char part[4][4] = { "" };
    ring_pair(fds);
    say_ahead(fds, "abcdefgh");
    CHECK_EQ(weir_recvfrom(fds[1], part[0], 3, MSG_PEEK, NULL, NULL), 3);
    CHECK_STR(part[0], "abc");
    struct iovec v[2] = { { part[1], 0 }, { part[2], 3 } };
    struct msghdr m = { .msg_iov = v, .msg_iovlen = 2 };
    CHECK_EQ(weir_recvmsg(fds[1], &m, 0), 3);
    CHECK_STR(part[2], "abc");
    CHECK_EQ(weir_recvfrom(fds[1], part[3], 3, MSG_DONTWAIT, NULL, NULL), 3);
    CHECK_STR(part[3], "def");
    HEARS(fds[1], "gh");
    CHECK_EQ(weir_recvfrom(fds[1], part[3], 3, MSG_DONTWAIT, NULL, NULL), -EAGAIN);
    shut(fds[0]);
    shut(fds[1]);
}

static void send_much(int fd, size_t n) {
    char *much = malloc(n);
    CHECK(much);
    for (size_t i = 0; i < n; i++) much[i] = (char)(i * 7 % 253);
    CHECK_EQ(weir_write_all(fd, much, n), (int64_t)n);
    free(much);
    CHECK_EQ(shutdown(fd, SHUT_WR), 0);
}
RING_TEST(who_reads_slowly_gets_everything) {
    int fds[2];
    size_t n = 1 << 20, seen = 0;
    ring_pair(fds);
    TEST_GO(send_much, fds[0], n);
    until_ahead(fds[1], 1);
    for (int i = 0; i < 1000; i++) wr_poll_settle(), test_pause();
    char piece[1000];
    for (int64_t got; (got = weir_read(fds[1], piece, 777 + seen % 100)) != 0; seen += (size_t)got) {
        CHECK_GE(got, 1);
        for (int64_t i = 0; i < got; i++) CHECK_EQ(piece[i], (char)((seen + (size_t)i) * 7 % 253));
    }
    CHECK_EQ(seen, n);
    shut(fds[0]);
    shut(fds[1]);
}

static void one_each(void) {
    enum { PAIRS = 64 };
    int fds[PAIRS][2];
    for (int i = 0; i < PAIRS; i++) ring_pair(fds[i]);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < PAIRS; i++) say(fds[i][0], "one");
        wr_poll_settle();
        for (int i = 0; i < PAIRS; i++) HEARS(fds[i][1], "one");
    }
    for (int i = 0; i < PAIRS; i++) shut(fds[i][0]), shut(fds[i][1]);
}
/* One that nobody reads has all of them, if what comes is not looked at in time; and no byte is lost, neither its own nor of another's. */
static void one_floods(void) {
    int flooded[2], other[2], n = 0;
    ring_pair(flooded);
    ring_pair(other);
    for (; n < 3000; n++) {
        say(flooded[0], (char[2]){ (char)('a' + n % 23) });
        if (n % 100 == 0) CHECK_LE(look(flooded[1]).count, wr_buffers);
    }
    for (int i = 0; i < 3; i++) {
        TEST_GO(say_soon, other[0]);
        HEARS(other[1], "hello");
    }
    for (int i = 0; i < n;) {
        char bytes[100];
        int64_t got = weir_read(flooded[1], bytes, sizeof bytes);
        CHECK_GE(got, 1);
        for (int k = 0; k < got; k++, i++) CHECK_EQ(bytes[k], 'a' + i % 23);
    }
    for (int i = 0; i < 2; i++) shut(flooded[i]), shut(other[i]);
}
PLAIN_TEST(a_socket_that_nobody_reads_has_no_more_than_all_buffers) {
    wr_buffers = 8;
    run_with_ring(one_floods);
}
/* Eight are received, and the request ends; nobody has been told of that when the first is wanted, and the ninth is in the socket. */
static void many_before_one_is_told(void) {
    int fds[2];
    char first;
    asked_here(fds);
    for (char c = 'a'; c <= 'l'; c++) say(fds[0], (char[2]){ c });
    CHECK_EQ(weir_read(fds[1], &first, 1), 1);
    CHECK_EQ(first, 'a');
    char rest[12] = "";
    CHECK_EQ(weir_read_full(fds[1], rest, 11), 11);
    CHECK_STR(rest, "bcdefghijkl");
    shut(fds[0]);
    shut(fds[1]);
}
PLAIN_TEST(what_the_ring_has_not_told_of_yet_comes_before_what_is_in_the_socket) {
    wr_buffers = 8;
    run_with_ring(many_before_one_is_told);
}
PLAIN_TEST(where_no_buffer_is_free_the_socket_is_read) {
    wr_buffers = 8;
    run_with_ring(one_each);
}

RING_TEST(a_reset_comes_after_what_came_ahead_and_is_told_once) {
    int fds[2];
    ring_pair(fds);
    say_ahead(fds, "last words");
    reset(fds[0]);
    struct pollfd p = { .fd = fds[1] }; /* recv would be told of it in weir_read's place */
    while (poll(&p, 1, 0) == 0 || !(p.revents & POLLHUP)) test_pause();
    HEARS(fds[1], "last words");
    CHECK_EQ(weir_read(fds[1], &(char){ 0 }, 1), -ECONNRESET);
    CHECK_EQ(weir_read(fds[1], &(char){ 0 }, 1), 0);
    shut(fds[1]);
}

static int kept[2];
static void leaves_a_connection(void) { ring_pair(kept); }
static void talks_on(void) {
    HEARS(kept[1], "between");
    TEST_GO(say_soon, kept[0]);
    HEARS(kept[1], "hello");
    shut(kept[0]);
    shut(kept[1]);
}
PLAIN_TEST(a_connection_outlives_the_runtime_and_its_threads) {
    run_with_ring(leaves_a_connection);
    CHECK_EQ(write(kept[0], "plain", 5), 5); /* the requests have ended with their threads: nothing is taken ahead */
    char plain[8] = "";
    CHECK_EQ(weir_read(kept[1], plain, sizeof plain), 5);
    CHECK_STR(plain, "plain");
    CHECK_EQ(weir_read(kept[1], plain, 1), -EPERM);
    CHECK_EQ(write(kept[0], "between", 7), 7);
    run_with_ring(talks_on);
}

static void *a_thread_reads(void *fd) {
    HEARS((int)(intptr_t)fd, "hello");
    return NULL;
}
RING_TEST(a_thread_of_the_programs_own_reads_what_came_ahead) {
    int fds[2];
    ring_pair(fds);
    pthread_t thread = thread_start(a_thread_reads, (void *)(intptr_t)fds[1]);
    say(fds[0], "hello");
    thread_end(thread);
    say_ahead(fds, "hello");
    thread_end(thread_start(a_thread_reads, (void *)(intptr_t)fds[1]));
    shut(fds[0]);
    shut(fds[1]);
}

static int waits_for_a_byte(void *fd) {
    char byte;
    return read((int)(intptr_t)fd, &byte, 1) == 1 ? 0 : -errno;
}
static void blocks(int fd) {
    CHECK_EQ(weir_blocking(waits_for_a_byte, (void *)(intptr_t)fd), 0);
}
static void asks_then_blocks(int fd, int block, weir_unit_chan asked) {
    HEARS(fd, "hello");
    weir_close(asked);
    blocks(block);
}
/* The thread that has asked for it sits in a system call of the program's: others get what comes. */
RING_TEST(data_comes_though_who_asked_for_it_is_in_a_system_call) {
    int fds[2], block[2];
    weir_unit_chan asked = weir_make(weir_unit_chan, 0);
    tcp_pair(fds);
    CHECK_EQ(pipe(block), 0);
    TEST_GO(asks_then_blocks, fds[1], block[0], asked);
    test_until_n_parked(1, "IO wait");
    say(fds[0], "hello");
    CHECK_EQ(weir_recv(asked, NULL), -EPIPE);
    for (int i = 0; i < 10; i++) {
        say(fds[0], "x");
        HEARS(fds[1], "x");
    }
    CHECK_EQ(write(block[1], "x", 1), 1);
    weir_release(asked);
    shut(fds[0]);
    shut(fds[1]);
}

/* ---- System calls of the program's, on a thread that has asked, while something comes ------------------ */

struct sleeper {
    int fds[2];       /* of a connection */
    int tid;
    uint32_t word;    /* a futex */
    int pipe[2];      /* or this, or a child's end: wakes it */
};
/* Once it sleeps in the kernel: what comes has it woken and go on sleeping; then it is woken for good. */
static void *disturbs_and_wakes(void *arg) {
    struct sleeper *s = arg;
    for (int i = 0; i < 3; i++) {
        do test_pause();
        while (!thread_sleeps(s->tid));
        CHECK_EQ(write(s->fds[0], "x", 1), 1);
        for (int in_socket = 0; in_socket <= i && look(s->fds[1]).count <= (unsigned)i; test_pause())
            CHECK_EQ(ioctl(s->fds[1], FIONREAD, &in_socket), 0);
    }
    __atomic_store_n(&s->word, 1, __ATOMIC_SEQ_CST);
    syscall(SYS_futex, &s->word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    CHECK_EQ(write(s->pipe[1], "x", 1), 1);
    return NULL;
}
static int in_poll(struct sleeper *s) { return poll(&(struct pollfd){ .fd = s->pipe[0], .events = POLLIN }, 1, -1); }
static int in_select(struct sleeper *s) {
    fd_set set;
    FD_ZERO(&set);
    FD_SET(s->pipe[0], &set);
    return select(s->pipe[0] + 1, &set, NULL, NULL, NULL);
}
static int in_read(struct sleeper *s) { return (int)read(s->pipe[0], &(char){ 0 }, 1); }
/* Begun again after the word has changed, it says so instead of waiting. */
static int in_futex(struct sleeper *s) {
    long result = syscall(SYS_futex, &s->word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
    return result == 0 || (errno == EAGAIN && __atomic_load_n(&s->word, __ATOMIC_SEQ_CST) == 1) ? 1 : -1;
}

static int disturbed(int (*call)(struct sleeper *s)) {
    struct sleeper s = { 0 };
    asked_here(s.fds);
    s.tid = (int)syscall(SYS_gettid);
    CHECK_EQ(pipe(s.pipe), 0);
    pthread_t thread = thread_start(disturbs_and_wakes, &s);
    int result = call(&s);
    if (result < 0) FAIL("%s", strerror(errno));
    thread_end(thread);
    shut(s.fds[0]), shut(s.fds[1]), close(s.pipe[0]), close(s.pipe[1]);
    return result;
}
RING_TEST(calls_that_the_kernel_begins_again_go_on_when_something_comes) {
    CHECK_EQ(disturbed(in_poll), 1);
    CHECK_EQ(disturbed(in_select), 1);
    CHECK_EQ(disturbed(in_read), 1);
    CHECK_EQ(disturbed(in_futex), 1);
}

static int in_epoll(struct sleeper *s) {
    int ep = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event e = { .events = EPOLLIN };
    CHECK_EQ(epoll_ctl(ep, EPOLL_CTL_ADD, s->pipe[0], &e), 0);
    int n = epoll_wait(ep, &e, 1, -1);
    close(ep);
    return n;
}
/* It has waited in weir_read, but only workers ask. */
static void *reads_and_then_sleeps_in_epoll(void *arg) {
    struct sleeper *s = arg;
    weir_timeout(WEIR_MILLISECOND) CHECK_EQ(weir_read(s->fds[1], &(char){ 0 }, 1), -ETIMEDOUT);
    s->tid = (int)syscall(SYS_gettid);
    pthread_t thread = thread_start(disturbs_and_wakes, s);
    CHECK_EQ(in_epoll(s), 1);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    return NULL;
}
RING_TEST(a_thread_of_the_programs_own_is_not_disturbed) {
    struct sleeper s = { 0 };
    tcp_pair(s.fds);
    CHECK_EQ(pipe(s.pipe), 0);
    thread_end(thread_start(reads_and_then_sleeps_in_epoll, &s));
    shut(s.fds[0]), shut(s.fds[1]), close(s.pipe[0]), close(s.pipe[1]);
}
