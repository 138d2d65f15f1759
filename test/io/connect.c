/* Connections: accepting, talking, the ends of them. */
#include "net_test.h"
#include "sched/poll.h"
#include "threads.h"

#include <sched.h>
#include <sys/un.h>

/* ---- Every network --------------------------------------------------------------------------------- */

static void answers(int listener) {
    int fd = weir_accept(listener);
    CHECK_GE(fd, 0);
    HEARS(fd, "hello");
    say(fd, "and to you");
    shut(fd);
    shut(listener);
}

/* address NULL: where it listens. */
static void talks_over(const char *network, const char *listen_address, const char *dial_address) {
    int listener = listen_on(network, listen_address);
    struct text there = local_text(listener);
    char address[160];
    if (dial_address) snprintf(address, sizeof address, "%s:%u", dial_address, port_of(listener));
    weir_scoped(s) {
        CHECK_EQ(weir_scope_go(&s, answers, listener), 0);
        test_until_n_parked(1, "IO wait");
        int fd = dial_to(network, dial_address ? address : there.at);
        say(fd, "hello");
        HEARS(fd, "and to you");
        CHECK_EQ(weir_read(fd, &(char){ 0 }, 1), 0);
        shut(fd);
    }
}

TEST(tcp_over_ipv4) { talks_over("tcp", "127.0.0.1:0", NULL); }
TEST(tcp4_over_ipv4) { talks_over("tcp4", ":0", "127.0.0.1"); }
TEST(tcp_to_a_name) { talks_over("tcp", "localhost:0", "localhost"); }
TEST(tcp_to_no_host_is_to_this_machine) { talks_over("tcp", ":0", ""); }
TEST(tcp_over_ipv6) {
    if (!has_ipv6()) SKIP("no IPv6 here");
    talks_over("tcp", "[::1]:0", NULL);
    talks_over("tcp6", "[::1]:0", NULL);
    talks_over("tcp6", ":0", "[::1%lo]");
}
TEST(unix_stream) {
    char directory[] = "/tmp/weir-net-XXXXXX", path[64];
    CHECK(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/socket", directory);
    talks_over("unix", path, NULL);
    CHECK_EQ(unlink(path), 0);
    CHECK_EQ(rmdir(directory), 0);
}
TEST(unix_abstract) { talks_over("unix", abstract_name(), NULL); }
TEST(unix_name_that_the_system_chooses) { talks_over("unix", "@", NULL); }
TEST(unix_packets) { talks_over("unixpacket", abstract_name(), NULL); }

/* ---- Accepting ------------------------------------------------------------------------------------- */

static _Atomic int accepted, ended;
static void accepts(int listener, int result) {
    int fd = weir_accept(listener);
    if (result < 0) {
        CHECK_EQ(fd, result);
        ended++;
        return;
    }
    CHECK_GE(fd, 0);
    shut(fd);
    accepted++;
}

TEST(a_close_wakes_who_accepts) {
    int listener = listen_on("tcp", "127.0.0.1:0");
    for (int i = 0; i < 5; i++) TEST_GO(accepts, listener, -EBADF);
    test_until_n_parked(5, "IO wait");
    shut(listener);
    TEST_UNTIL(ended == 5);
}

TEST(many_accept_on_one_listener) {
    enum { MANY = 100 };
    int listener = listen_on("tcp", "127.0.0.1:0"), fds[MANY];
    struct text there = local_text(listener);
    for (int i = 0; i < MANY; i++) TEST_GO(accepts, listener, 0);
    test_until_n_parked(MANY, "IO wait");
    for (int i = 0; i < MANY; i++) fds[i] = dial_to("tcp", there.at);
    TEST_UNTIL(accepted == MANY);
    for (int i = 0; i < MANY; i++) shut(fds[i]);
    shut(listener);
}

static void accept_is_cancelled(int listener) { CHECK_EQ(weir_accept(listener), -ECANCELED); }

TEST(accepting_obeys_the_context) {
    int listener = listen_on("tcp", "127.0.0.1:0");
    weir_timeout(5 * WEIR_MILLISECOND) CHECK_EQ(weir_accept(listener), -ETIMEDOUT);
    weir_scoped(s) {
        CHECK_EQ(weir_scope_go(&s, accept_is_cancelled, listener), 0);
        test_until_n_parked(1, "IO wait");
        weir_scope_cancel(&s);
    }
    int fd = dial_to("tcp", local_text(listener).at);
    weir_timeout(-1) CHECK_EQ(weir_accept(listener), -ETIMEDOUT); /* and has taken none */
    int in = weir_accept(listener);
    CHECK_GE(in, 0);
    shut(in);
    shut(fd);
    shut(listener);
}

/* One processor: if accept blocked the thread, nobody could dial. Two wait for one connection, and both must leave in the end. */
TEST(a_listener_in_blocking_mode_blocks_no_thread) {
    int listener = listen_on("tcp", "127.0.0.1:0");
    CHECK_EQ(fcntl(listener, F_SETFL, 0), 0);
    CHECK_GE(weir_procs(1), 1);
    for (int i = 0; i < 3; i++) {
        accepted = 0;
        TEST_GO(accepts, listener, 0);
        TEST_GO(accepts, listener, 0);
        test_until_n_parked(2, "IO wait");
        int a = dial_to("tcp", local_text(listener).at);
        TEST_UNTIL(accepted == 1);
        test_until_n_parked(1, "IO wait");
        int b = dial_to("tcp", local_text(listener).at);
        TEST_UNTIL(accepted == 2);
        shut(a);
        shut(b);
    }
    CHECK_EQ(fcntl(listener, F_GETFL) & O_NONBLOCK, 0); /* left as it was */
    shut(listener);
}

TEST(what_does_not_listen_is_not_accepted_from) {
    int fds[2];
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    CHECK_EQ(weir_accept(fds[0]), -EINVAL);
    CHECK_EQ(weir_accept(-1), -EBADF);
    CHECK_EQ(weir_accept(999), -EBADF);
    CHECK_EQ(weir_pipe(fds), 0);
    CHECK_EQ(weir_accept(fds[0]), -ENOTSOCK);
}

TEST(without_numbers_accept_says_so_and_the_connection_waits) {
    int listener = listen_on("tcp", "127.0.0.1:0"), fd = dial_to("tcp", local_text(listener).at);
    say(fd, "patient");
    weir_timeout(5 * WEIR_MILLISECOND) CHECK_EQ(weir_read(fd, &(char){ 0 }, 1), -ETIMEDOUT); /* the poller has its numbers now */
    struct rlimit before = numbers_left(0);
    CHECK_EQ(weir_accept(listener), -EMFILE);
    CHECK_EQ(weir_accept(listener), -EMFILE);
    CHECK_EQ(weir_dial("tcp", local_text(listener).at), -EMFILE);
    CHECK_EQ(weir_listen("tcp", "127.0.0.1:0"), -EMFILE);
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
    int in = weir_accept(listener);
    HEARS(in, "patient");
    shut(in);
    shut(fd);
    shut(listener);
}

/* ---- The ends of a connection ---------------------------------------------------------------------- */

TEST(who_has_finished_speaking_can_still_listen) {
    int fds[2];
    tcp_pair(fds);
    say(fds[0], "last words");
    CHECK_EQ(shutdown(fds[0], SHUT_WR), 0);
    HEARS(fds[1], "last words");
    CHECK_EQ(weir_read(fds[1], &(char){ 0 }, 1), 0);
    CHECK_EQ(weir_read(fds[1], &(char){ 0 }, 1), 0);
    say(fds[1], "are answered");
    HEARS(fds[0], "are answered");
    shut(fds[0]);
    shut(fds[1]);
}

static void reset_when_read(int fd) {
    test_until_n_parked(1, "IO wait");
    reset(fd);
}

TEST(a_connection_that_is_reset_says_so) {
    int fds[2];
    tcp_pair(fds);
    TEST_GO(reset_when_read, fds[0]);
    CHECK_EQ(weir_read(fds[1], &(char){ 0 }, 1), -ECONNRESET);
    CHECK_EQ(weir_write(fds[1], "x", 1), -EPIPE);
    shut(fds[1]);
    tcp_pair(fds);
    say(fds[0], "lost");
    HEARS(fds[1], "lost"); /* a short read, and nothing after it */
    reset(fds[0]);
    CHECK_EQ(weir_read(fds[1], &(char){ 0 }, 1), -ECONNRESET);
    shut(fds[1]);
}

/* Whoever has something by then returns that, and the kernel does not say it again. */
TEST(a_reset_is_told_once) {
    int fds[2];
    weir_address peer;
    tcp_pair(fds);
    say(fds[0], "x");
    TEST_GO(reset_when_read, fds[0]);
    CHECK_EQ(weir_read_full(fds[1], (char[2]){ 0 }, 2), 1);
    CHECK_EQ(weir_read(fds[1], &(char){ 0 }, 1), 0);
    CHECK_EQ(weir_write(fds[1], "x", 1), -EPIPE);
    CHECK_EQ(weir_peer_address(fds[1], &peer), -ENOTCONN);
    shut(fds[1]);
}

static void say_when_read(int fd, const char *text) {
    test_until_n_parked(1, "IO wait");
    say(fd, text);
}

/* A read stops at the urgent mark, short of what there is: the next one must look, and not wait for more to come. */
TEST(urgent_data_does_not_hide_what_follows) {
    /* What is received ahead stops at the mark, too, and goes on only with what comes next: the kernel takes it for the end of what there is. */
    for (int i = 0; i < 20; i += wr_has_ring ? 2 : 1) {
        int fds[2];
        tcp_pair(fds);
        if (i % 2) { /* the descriptor is known to the poller, and was found empty */
            TEST_GO(say_when_read, fds[0], "before");
            HEARS(fds[1], "before");
        }
        say(fds[0], "ab");
        CHECK_EQ(send(fds[0], "!", 1, MSG_OOB), 1);
        say(fds[0], "cd");
        char heard[16] = "", urgent = 0;
        if (i % 3) { /* passing the mark would drop it */
            CHECK_EQ(weir_recvfrom(fds[1], &urgent, 1, MSG_OOB, NULL, NULL), 1);
            CHECK_EQ(urgent, '!');
        }
        weir_timeout(WEIR_SECOND * 20) {
            for (size_t n = 0; n < 4;) {
                int64_t got = weir_read(fds[1], heard + n, sizeof heard - 1 - n);
                CHECK_GE(got, 1);
                n += (size_t)got;
            }
        }
        CHECK_STR(heard, "abcd");
        shut(fds[0]);
        shut(fds[1]);
    }
}

/* The mark comes between the edge and the read, so that no edge has told of it when the read stops there. */
TEST(urgent_data_that_comes_unannounced_does_not_hide_what_follows) {
    CHECK_GE(weir_procs(1), 1); /* the poller is not asked while we run on */
    for (int i = 0; i < 20; i++) {
        int fds[2];
        tcp_pair(fds);
        TEST_GO(say_when_read, fds[0], "x");
        HEARS(fds[1], "x");
        CHECK_EQ(send(fds[0], "ab", 2, 0), 2);
        CHECK_EQ(send(fds[0], "!", 1, MSG_OOB), 1);
        CHECK_EQ(send(fds[0], "cd", 2, 0), 2);
        char heard[16] = "";
        weir_timeout(WEIR_SECOND * 20) CHECK_EQ(weir_read_full(fds[1], heard, 4), 4);
        CHECK_STR(heard, "abcd");
        shut(fds[0]);
        shut(fds[1]);
    }
}

/* ---- Many ------------------------------------------------------------------------------------------ */

static void echo(int fd) {
    char data[512];
    for (int64_t n; (n = weir_read(fd, data, sizeof data)) > 0;) CHECK_EQ(weir_write_all(fd, data, (size_t)n), n);
    shut(fd);
}
static void serve(int listener) {
    weir_scoped(s)
        for (int fd; (fd = weir_accept(listener)) >= 0;) CHECK_EQ(weir_scope_go(&s, echo, fd), 0);
}

static void meet(weir_wg *met) { /* all are connected at the same time */
    CHECK_EQ(weir_wg_done(met), 0);
    CHECK_EQ(weir_wg_wait(met), 0);
}
static void client(const char *address, long rounds, weir_wg *met) {
    int fd = dial_to("tcp", address);
    meet(met);
    for (long i = 0; i < rounds; i++) {
        char sent[64], back[64];
        snprintf(sent, sizeof sent, "%d %ld", fd, i);
        CHECK_EQ(weir_write_all(fd, sent, sizeof sent), (int64_t)sizeof sent);
        CHECK_EQ(weir_read_full(fd, back, sizeof back), (int64_t)sizeof back);
        CHECK_STR(back, sent);
    }
    shut(fd);
}

TEST(a_thousand_connections_at_once) {
    enum { CLIENTS = 1000 };
    struct rlimit r;
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &r), 0);
    r.rlim_cur = r.rlim_max;
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &r), 0);
    if (r.rlim_cur < 2 * CLIENTS + 50) SKIP("no more than %ld descriptors here", (long)r.rlim_cur);
    int listener = listen_on("tcp", "127.0.0.1:0");
    struct text there = local_text(listener);
    weir_wg met = { 0 };
    CHECK_EQ(weir_wg_add(&met, CLIENTS), 0);
    weir_scope server;
    CHECK_EQ(weir_scope_open(&server, NULL), 0);
    CHECK_EQ(weir_scope_go(&server, serve, listener), 0);
    weir_scoped(s)
        for (int i = 0; i < CLIENTS; i++) CHECK_EQ(weir_scope_go(&s, client, (const char *)there.at, TEST_SCALE(20), &met), 0);
    shut(listener);
    CHECK_EQ(weir_scope_close(&server), 0);
}

/* ---- Without a runtime ----------------------------------------------------------------------------- */

PLAIN_TEST(without_a_runtime_what_need_not_wait_works) {
    int listener = listen_on("tcp", "127.0.0.1:0");
    CHECK_EQ(weir_accept(listener), -EPERM);
    int fd = dial_to("tcp", local_text(listener).at), in = weir_accept(listener);
    CHECK_GE(in, 0);
    say(fd, "x");
    HEARS(in, "x");
    CHECK_EQ(weir_dial("tcp", "a.name:1"), -EPERM);
    shut(fd);
    shut(in);
    shut(listener);
}
