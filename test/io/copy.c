/* Copying between descriptors of every kind; what a cancel, an error or a bound leaves behind. */
#include "net_test.h"
#include "threads.h"

#define MUCH ((size_t)3 << 20)

static unsigned char byte_at(size_t i) { return (unsigned char)(i * 2654435761u >> 24); }

/* ---- Kinds ----------------------------------------------------------------------------------------- */

/* A pair of descriptors, data going from the second to the first: fds[0] is read. */
static void tcp(int fds[2]) { tcp_pair(fds); }
static void local(int fds[2]) { CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0); }
static void piped(int fds[2]) { CHECK_EQ(weir_pipe(fds), 0); }
static void piped_blocking(int fds[2]) { CHECK_EQ(pipe(fds), 0); }
static void tcp_blocking(int fds[2]) {
    tcp_pair(fds);
    CHECK_EQ(fcntl(fds[0], F_SETFL, 0), 0);
    CHECK_EQ(fcntl(fds[1], F_SETFL, 0), 0);
}

static int file_with(size_t n) {
    char name[] = "/tmp/weir-copy-XXXXXX", *data = malloc(n + 1);
    int fd = mkstemp(name);
    CHECK(fd >= 0 && data);
    CHECK_EQ(unlink(name), 0);
    for (size_t i = 0; i < n; i++) data[i] = (char)byte_at(i);
    CHECK_EQ(pwrite(fd, data, n, 0), (ssize_t)n);
    free(data);
    return fd;
}

static void feed(int fd) {
    unsigned char data[5000];
    for (size_t at = 0; at < MUCH; at += sizeof data) {
        size_t n = MUCH - at < sizeof data ? MUCH - at : sizeof data;
        for (size_t i = 0; i < n; i++) data[i] = byte_at(at + i);
        CHECK_EQ(weir_write_all(fd, data, n), (int64_t)n);
    }
    shut(fd);
}
static void drain(int fd, size_t much) {
    unsigned char data[7000];
    size_t at = 0;
    for (int64_t n; (n = weir_read(fd, data, sizeof data)) != 0; at += (size_t)n) {
        CHECK_GE(n, 1);
        for (size_t i = 0; i < (size_t)n; i++)
            if (data[i] != byte_at(at + i)) FAIL("byte %zu is wrong", at + i);
    }
    CHECK_EQ(at, much);
    shut(fd);
}

typedef void make_pair(int fds[2]);
static void copies(make_pair *source, make_pair *target) {
    int from[2], to[2];
    source(from);
    target(to);
    weir_scoped(s) {
        CHECK_EQ(weir_scope_go(&s, feed, from[1]), 0);
        CHECK_EQ(weir_scope_go(&s, drain, to[0], MUCH), 0);
        CHECK_EQ(weir_copy_fd(to[1], from[0], -1), (int64_t)MUCH);
        CHECK_EQ(weir_copy_fd(to[1], from[0], -1), 0);
        shut(to[1]);
    }
    shut(from[0]);
}

TEST(from_every_kind_of_stream_to_every_kind) {
    make_pair *const kinds[] = { tcp, local, piped, piped_blocking, tcp_blocking };
    for (int i = 0; i < 5; i++)
        for (int j = 0; j < 5; j++) copies(kinds[i], kinds[j]);
}

TEST(from_a_file_to_every_kind) {
    make_pair *const kinds[] = { tcp, local, piped, piped_blocking, tcp_blocking };
    for (int i = 0; i < 5; i++) {
        int file = file_with(MUCH), to[2];
        kinds[i](to);
        weir_scoped(s) {
            CHECK_EQ(weir_scope_go(&s, drain, to[0], MUCH), 0);
            CHECK_EQ(weir_copy_fd(to[1], file, 1000), 1000); /* a part, and then the rest */
            CHECK_EQ(lseek(file, 0, SEEK_CUR), 1000);
            CHECK_EQ(weir_copy_fd(to[1], file, -1), (int64_t)MUCH - 1000);
            shut(to[1]);
        }
        shut(file);
    }
}

TEST(from_every_kind_to_a_file) {
    make_pair *const kinds[] = { tcp, local, piped, piped_blocking };
    for (int i = 0; i < 8; i++) {
        int file = file_with(0), from[2];
        if (i >= 4) CHECK_EQ(fcntl(file, F_SETFL, O_APPEND), 0); /* the kernel does not splice into that */
        kinds[i % 4](from);
        TEST_GO(feed, from[1]);
        CHECK_EQ(weir_copy_fd(file, from[0], -1), (int64_t)MUCH);
        shut(from[0]);
        CHECK_EQ(lseek(file, 0, SEEK_SET), 0);
        drain(file, MUCH);
    }
    int a = file_with(MUCH), b = file_with(0);
    CHECK_EQ(weir_copy_fd(b, a, -1), (int64_t)MUCH);
    CHECK_EQ(lseek(b, 0, SEEK_SET), 0);
    drain(b, MUCH);
    shut(a);
}

TEST(from_a_file_of_the_kernels) {
    int file = open("/proc/self/status", O_RDONLY), to[2];
    piped(to);
    CHECK_GE(weir_copy_fd(to[1], file, -1), 100);
    char begin[6] = "";
    CHECK_EQ(weir_read(to[0], begin, 5), 5);
    CHECK_STR(begin, "Name:");
    shut(file);
    shut(to[0]);
    shut(to[1]);
}

/* ---- Bounds and errors ----------------------------------------------------------------------------- */

TEST(no_more_is_copied_than_was_asked_for) {
    make_pair *const kinds[] = { tcp, local, piped, piped_blocking, tcp_blocking };
    for (int i = 0; i < 5; i++)
        for (int j = 0; j < 5; j++) {
            int from[2], to[2];
            kinds[i](from);
            kinds[j](to);
            say(from[1], "one two");
            CHECK_EQ(weir_copy_fd(to[1], from[0], 0), 0);
            CHECK_EQ(weir_copy_fd(to[1], from[0], 3), 3);
            HEARS(to[0], "one");
            HEARS(from[0], " two");
            shut(from[0]), shut(from[1]), shut(to[0]), shut(to[1]);
        }
}

TEST(who_does_not_take_it_loses_nothing) {
    make_pair *const sources[] = { tcp, local, piped, tcp_blocking };
    make_pair *const targets[] = { tcp, local, piped };
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 3; j++) {
            int from[2], to[2];
            sources[i](from);
            targets[j](to);
            say(from[1], "still here");
            shut(to[0]);
            if (j == 0) { /* TCP learns of it by the first write */
                CHECK_EQ(weir_write(to[1], "x", 1), 1);
                CHECK_GE(weir_wait_fd(to[1], WEIR_IN), 1);
                while (weir_write(to[1], "x", 1) >= 0) {}
            }
            int64_t n = weir_copy_fd(to[1], from[0], -1); /* and no SIGPIPE */
            CHECK_EQ(n, -EPIPE);
            HEARS(from[0], "still here");
            shut(from[0]), shut(from[1]), shut(to[1]);
        }
    int file = file_with(100), to[2];
    piped(to);
    shut(to[0]);
    CHECK_EQ(weir_copy_fd(to[1], file, -1), -EPIPE);
    CHECK_EQ(lseek(file, 0, SEEK_CUR), 0);
    shut(to[1]);
    shut(file);
}

TEST(errors_of_copying) {
    int fds[2];
    piped(fds);
    CHECK_EQ(weir_copy_fd(-1, fds[0], -1), -EBADF);
    CHECK_EQ(weir_copy_fd(fds[1], -1, -1), -EBADF);
    CHECK_EQ(weir_copy_fd(999, fds[0], -1), -EBADF);
    CHECK_EQ(weir_copy_fd(fds[1], 999, -1), -EBADF);
    int directory = open("/", O_RDONLY | O_DIRECTORY);
    CHECK_EQ(weir_copy_fd(fds[1], directory, -1), -EISDIR);
    int read_only = open("/dev/null", O_RDONLY);
    say(fds[1], "x");
    CHECK_EQ(weir_copy_fd(read_only, fds[0], -1), -EBADF);
    shut(directory), shut(read_only), shut(fds[0]), shut(fds[1]);
}

/* ---- Cancelling ------------------------------------------------------------------------------------ */

static _Atomic int64_t copied;
static void copies_until_cancelled(int to, int from) {
    int64_t n = weir_copy_fd(to, from, -1);
    CHECK(n >= 0 || n == -ECANCELED); /* 0: the end, at last */
    copied = n < 0 ? 0 : n;
}

/* Sent are numbers, one after the other; the copier is cancelled again and again, by turns for want of data and of room. Nothing may be
 * missing at the end, and nothing come twice. */
static void nothing_is_lost(make_pair *source, make_pair *target) {
    int from[2], to[2];
    source(from);
    target(to);
    weir_scoped(all) {
        CHECK_EQ(weir_scope_go(&all, feed, from[1]), 0);
        size_t at = 0, in_between = 0;
        for (int round = 0; at < MUCH; round++) {
            weir_scoped(s) {
                CHECK_EQ(weir_scope_go(&s, copies_until_cancelled, to[1], from[0]), 0);
                for (int i = 0; i < round % 7; i++) weir_yield();
                if (round % 5 == 0) CHECK_EQ(weir_sleep(100 * WEIR_MICROSECOND), 0);
                weir_scope_cancel(&s);
            }
            in_between += (size_t)copied;
            unsigned char data[20000];
            size_t want = in_between < sizeof data ? in_between : sizeof data;
            if (round % 3 == 0 || want == 0) continue;
            CHECK_EQ(weir_read_full(to[0], data, want), (int64_t)want);
            for (size_t i = 0; i < want; i++)
                if (data[i] != byte_at(at + i)) FAIL("byte %zu is wrong", at + i);
            at += want;
            in_between -= want;
        }
    }
    shut(from[0]), shut(to[0]), shut(to[1]);
}

TEST(a_cancel_loses_nothing_between_sockets) {
    nothing_is_lost(tcp, tcp);
    nothing_is_lost(local, tcp);
    nothing_is_lost(tcp_blocking, tcp_blocking);
}
TEST(a_cancel_loses_nothing_from_a_pipe) {
    nothing_is_lost(piped, tcp);
    nothing_is_lost(piped, piped);
    nothing_is_lost(piped_blocking, local);
}
TEST(a_cancel_loses_nothing_into_a_pipe) { nothing_is_lost(tcp, piped); }

static void expects(int to, int from, int64_t result) { CHECK_EQ(weir_copy_fd(to, from, -1), result); }

TEST(a_copy_without_data_is_ended_by_the_context_and_by_close) {
    make_pair *const kinds[] = { tcp, local, piped, piped_blocking };
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4; j++) {
            int from[2], to[2];
            kinds[i](from);
            kinds[j](to);
            weir_timeout(2 * WEIR_MILLISECOND) CHECK_EQ(weir_copy_fd(to[1], from[0], -1), -ETIMEDOUT);
            weir_scoped(s) {
                CHECK_EQ(weir_scope_go(&s, expects, to[1], from[0], (int64_t)-EBADF), 0);
                test_until_n_parked(1, "IO wait");
                shut(from[0]);
            }
            shut(from[1]), shut(to[0]), shut(to[1]);
        }
}

TEST(a_file_stops_where_there_is_no_room) {
    for (int blocking = 0; blocking < 2; blocking++) {
        int file = file_with(MUCH), to[2];
        if (blocking) piped_blocking(to);
        else piped(to);
        int64_t n = -ETIMEDOUT;
        for (weir_duration d = 5 * WEIR_MILLISECOND; n == -ETIMEDOUT; d *= 2) /* until it has begun before its time is over */
            weir_timeout(d) n = weir_copy_fd(to[1], file, -1);
        CHECK_GE(n, 1);
        CHECK_LE(n, (int64_t)MUCH - 1);
        CHECK_EQ(lseek(file, 0, SEEK_CUR), n);
        weir_scoped(s) {
            CHECK_EQ(weir_scope_go(&s, drain, to[0], MUCH), 0);
            CHECK_EQ(weir_copy_fd(to[1], file, -1), (int64_t)MUCH - n);
            shut(to[1]);
        }
        shut(file);
    }
}
