/* Dialling: several addresses, some of them dead; who does not answer; cancelling. */
#include "net_test.h"
#include "threads.h"

#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/ioctl.h>

#include "io/net.h"

static weir_address address_of(int fd) {
    weir_address a;
    CHECK_EQ(weir_local_address(fd, &a), 0);
    return a;
}
/* Where nobody listens. */
static weir_address refusing(void) {
    int fd = listen_on("tcp", "127.0.0.1:0");
    weir_address a = address_of(fd);
    shut(fd);
    return a;
}
static void is_connected_to(int fd, int listener) {
    if (fd < 0) FAIL("dialling: %s", strerror(-fd));
    CHECK_STR(peer_text(fd).at, local_text(listener).at);
    shut(fd);
}

/* ---- In turn --------------------------------------------------------------------------------------- */

static weir_address numbered(int family, unsigned n) {
    weir_address a;
    CHECK_EQ(weir_lookup(family == AF_INET ? "127.0.0.1" : "::1", &a, 1), 1);
    wr_address_set_port(&a, n);
    return a;
}
/* '4' and '6' in the order found; in the order tried, with their numbers. */
static void in_turn(const char *found, const char *tried) {
    weir_address list[WR_ADDRESSES];
    size_t n = strlen(found);
    char text[64], got[256] = "";
    for (size_t i = 0; i < n; i++) list[i] = numbered(found[i] == '4' ? AF_INET : AF_INET6, (unsigned)i);
    wr_addresses_interleave(list, n);
    for (size_t i = 0; i < n; i++) {
        CHECK_GE(weir_address_text(&list[i], text, sizeof text), 1);
        snprintf(got + strlen(got), 8, "%s%s", i ? " " : "", strrchr(text, ':') + 1);
    }
    CHECK_STR(got, tried);
}

PLAIN_TEST(families_take_turns) {
    in_turn("", "");
    in_turn("4", "0");
    in_turn("64", "0 1");
    in_turn("6644", "0 2 1 3");
    in_turn("4466", "0 2 1 3");
    in_turn("666", "0 1 2");
    in_turn("66664", "0 4 1 2 3");
    in_turn("4666", "0 1 2 3");
    in_turn("6444666644446666", "0 1 4 2 5 3 6 8 7 9 12 10 13 11 14 15");
}

/* ---- The race -------------------------------------------------------------------------------------- */

TEST(who_refuses_costs_no_time) {
    int listener = listen_on("tcp", "127.0.0.1:0");
    weir_address list[WR_ADDRESSES];
    struct deaf deaf = deaf_listener();
    list[0] = address_of(deaf.listener); /* which is still tried meanwhile */
    for (int i = 1; i < WR_ADDRESSES - 1; i++) list[i] = refusing();
    list[WR_ADDRESSES - 1] = address_of(listener);
    weir_time before = weir_now();
    is_connected_to(wr_dial_any(list, WR_ADDRESSES, SOCK_STREAM), listener);
    CHECK_LE(weir_now() - before, (WR_ADDRESSES - 3) * WR_DIAL_PACE); /* not one pace each, on the slowest machine */
    deaf_close(&deaf);
    shut(listener);
}

TEST(who_does_not_answer_costs_a_moment) {
    int before = open_fds();
    struct deaf deaf = deaf_listener();
    int listener = listen_on("tcp", "127.0.0.1:0");
    weir_address list[] = { address_of(deaf.listener), address_of(deaf.listener), address_of(listener) };
    weir_time start = weir_now();
    is_connected_to(wr_dial_any(list, 3, SOCK_STREAM), listener);
    CHECK_GE(weir_now() - start, 2 * WR_DIAL_PACE);
    shut(listener);
    deaf_close(&deaf);
    CHECK_LE(open_fds(), before + 2); /* the poller's */
}

/* The first is slow, not dead: it is not given up when the second has begun. */
static _Atomic int let_in;
static void let_in_later(int listener) {
    CHECK_EQ(weir_sleep(2 * WR_DIAL_PACE), 0);
    CHECK_EQ(listen(listener, 16), 0);
    for (int i = 0; i < 2; i++) shut(weir_accept(listener)); /* makes room; the kernel sends its SYN again each second */
    let_in++;
}
TEST(a_slow_address_is_still_waited_for) {
    struct deaf deaf = deaf_listener();
    weir_address list[] = { address_of(deaf.listener), refusing() };
    TEST_GO(let_in_later, deaf.listener);
    is_connected_to(wr_dial_any(list, 2, SOCK_STREAM), deaf.listener);
    TEST_UNTIL(let_in);
    deaf_close(&deaf);
}

TEST(the_error_is_that_of_the_first_address) {
    weir_address refused = refusing(), unreachable = refused;
    struct sockaddr_in broadcast = { .sin_family = AF_INET, .sin_port = htons(9), .sin_addr.s_addr = htonl(INADDR_BROADCAST) };
    memcpy(unreachable.bytes, &broadcast, sizeof broadcast);
    weir_address first[] = { refused, unreachable }, second[] = { unreachable, refused };
    CHECK_EQ(wr_dial_any(first, 2, SOCK_STREAM), -ECONNREFUSED);
    int error = wr_dial_any(second, 2, SOCK_STREAM);
    CHECK(error == -ENETUNREACH || error == -EACCES);
    CHECK_EQ(weir_dial("tcp", "127.0.0.1:1"), -ECONNREFUSED);
}

TEST(without_numbers_dial_says_so_and_leaves_none) {
    struct deaf deaf = deaf_listener();
    int listener = listen_on("tcp", "127.0.0.1:0");
    weir_address list[] = { address_of(deaf.listener), address_of(listener), address_of(listener) };
    int before = open_fds_with_poller();
    struct rlimit limit = numbers_left(0);
    CHECK_EQ(wr_dial_any(list, 3, SOCK_STREAM), -EMFILE);
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
    limit = numbers_left(1); /* enough for the first, which does not answer, and none for those that would */
    weir_timeout(2 * WR_DIAL_PACE) CHECK_EQ(wr_dial_any(list, 3, SOCK_STREAM), -ETIMEDOUT);
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
    CHECK_EQ(open_fds(), before);
    shut(listener);
    deaf_close(&deaf);
}

/* ---- Cancelling ------------------------------------------------------------------------------------ */

static void dial_is_cancelled(const char *network, const char *address) { CHECK_EQ(weir_dial(network, address), -ECANCELED); }

TEST(a_cancelled_dial_leaves_nothing) {
    struct deaf deaf = deaf_listener();
    int before = open_fds_with_poller();
    weir_timeout(5 * WEIR_MILLISECOND) CHECK_EQ(weir_dial("tcp", deaf.address.at), -ETIMEDOUT);
    weir_timeout(-1) CHECK_EQ(weir_dial("udp", "127.0.0.1:9"), -ETIMEDOUT);
    weir_timeout(-1) CHECK_EQ(weir_dial("unix", "@weir-nobody"), -ETIMEDOUT);
    weir_scoped(s) {
        CHECK_EQ(weir_scope_go(&s, dial_is_cancelled, "tcp", (const char *)deaf.address.at), 0);
        test_until_n_parked(1, "IO wait");
        weir_scope_cancel(&s);
    }
    CHECK_EQ(open_fds(), before);
    deaf_close(&deaf);
}

static _Atomic int came;
static void dials(const char *address) {
    shut(dial_to("unix", address));
    came++;
}

/* Where nobody is accepted, one after the other has to wait, with no readiness to wait for. */
TEST(a_full_unix_listener_is_waited_for) {
    const char *name = abstract_name();
    int listener = listen_on("unix", name), before = open_fds();
    CHECK_EQ(listen(listener, 0), 0);
    enum { MANY = 5 };
    for (int i = 0; i < MANY; i++) TEST_GO(dials, name);
    TEST_UNTIL(came == 1);
    test_until_n_parked(MANY - 1, "sleep");
    weir_timeout(20 * WEIR_MILLISECOND) CHECK_EQ(weir_dial("unix", name), -ETIMEDOUT);
    weir_scoped(s) {
        CHECK_EQ(weir_scope_go(&s, dial_is_cancelled, "unix", name), 0);
        test_until_n_parked(MANY, "sleep");
        weir_scope_cancel(&s);
    }
    CHECK_EQ(open_fds(), before + MANY - 1);
    for (int i = 0; i < MANY; i++) {
        int fd = weir_accept(listener);
        CHECK_GE(fd, 0);
        shut(fd);
    }
    TEST_UNTIL(came == MANY);
    shut(listener);
}

/* ---- To oneself ------------------------------------------------------------------------------------ */

static weir_address itself;

TEST(a_socket_that_has_connected_to_itself_is_found_out) {
    int fd = socket(AF_INET, SOCK_STREAM, 0), fds[2];
    struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    CHECK_EQ(bind(fd, (struct sockaddr *)&in, sizeof in), 0);
    weir_address own = address_of(fd);
    CHECK_EQ(connect(fd, (struct sockaddr *)own.bytes, own.length), 0);
    CHECK(wr_connected_to_itself(fd));
    CHECK_EQ(close(fd), 0);
    tcp_pair(fds);
    CHECK(!wr_connected_to_itself(fds[0]));
    CHECK(!wr_connected_to_itself(fds[1]));
    shut(fds[0]);
    shut(fds[1]);
}

static int dial_the_only_port(void *arg) {
    int before = open_fds();
    for (int i = 0; i < 10; i++) {
        CHECK_EQ(wr_dial_any(&itself, 1, SOCK_STREAM), -ECONNREFUSED);
        CHECK_LE(open_fds(), before + 2); /* the poller's */
    }
    return 0;
}

/* Where there is but one port to dial from, and it is the one that is dialled. */
PLAIN_TEST(who_would_connect_to_itself_is_refused) {
    struct ifreq lo = { .ifr_name = "lo", .ifr_flags = IFF_UP };
    if (unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0) SKIP("no user namespaces here: %s", strerror(errno));
    int fd = socket(AF_INET, SOCK_DGRAM, 0), range = open("/proc/sys/net/ipv4/ip_local_port_range", O_WRONLY);
    if (ioctl(fd, SIOCSIFFLAGS, &lo) < 0 || range < 0 || write(range, "40001 40001", 11) != 11) SKIP("no network to play with");
    close(fd);
    close(range);
    itself = numbered(AF_INET, 40001);
    CHECK_EQ(weir_run(dial_the_only_port, NULL), 0);
}
