/* Networks and addresses: what is taken, what is refused, what comes out as text. */
#include "net_test.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/un.h>

#include "io/net.h"

/* ---- Refused --------------------------------------------------------------------------------------- */

static void refused(const char *network, const char *address, int error) {
    int before = open_fds(), fd = weir_listen(network, address), dialled = weir_dial(network, address);
    if (fd != error || dialled != error)
        FAIL("%s '%s': listen gives %d, dial %d, not %d", network, address, fd, dialled, error);
    CHECK_EQ(open_fds(), before);
}

TEST(an_unknown_network_is_refused) {
    static const char *const bad[] = { "", "t", "TCP", "tcp5", "tcp ", " tcp", "tcp44", "ip", "ip4:icmp", "unixstream", "udp:53" };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) refused(bad[i], "127.0.0.1:1", -EINVAL);
    CHECK_EQ(weir_listen(NULL, "127.0.0.1:0"), -EINVAL);
    CHECK_EQ(weir_dial(NULL, "127.0.0.1:1"), -EINVAL);
}

TEST(an_address_of_the_wrong_form_is_refused) {
    static const char *const bad[] = { "", "80", "127.0.0.1", "localhost", "[::1]", "::1", "::1:80", "[::1:80", "::1]:80", "[]:80", "[:80",
                                       "]:80", "[[::1]]:80", "[::1]x:80", "x[::1]:80", "a:b:c", "127.0.0.1:65536", "127.0.0.1:99999999999999999999",
                                       "127.0.0.1:-1", "127.0.0.1:+80", "127.0.0.1: 80", "127.0.0.1:_", "[", "[]", ":80:" };
    static const char *const networks[] = { "tcp", "udp", "tcp4", "udp6" };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        for (size_t n = 0; n < 4; n++) refused(networks[n], bad[i], -EINVAL);
    static const char *const all[] = { "tcp", "tcp4", "tcp6", "udp", "udp4", "udp6", "unix", "unixgram", "unixpacket" };
    for (size_t n = 0; n < 9; n++) refused(all[n], NULL, -EINVAL);
}

TEST(an_address_of_the_other_family_is_refused) {
    refused("tcp4", "[::1]:80", -EAFNOSUPPORT);
    refused("udp4", "[::1]:80", -EAFNOSUPPORT);
    refused("tcp6", "127.0.0.1:80", -EAFNOSUPPORT);
    refused("udp6", "127.0.0.1:80", -EAFNOSUPPORT);
}

TEST(what_is_too_long_is_refused) {
    static char host[400], path[200], abstract[200];
    memset(host, 'a', 300);
    strcat(host, ":80");
    refused("tcp", host, -ENAMETOOLONG);
    memset(path, 'a', 108); /* with its zero one too many */
    path[0] = '/';
    refused("unix", path, -ENAMETOOLONG);
    memset(abstract, 'a', 109);
    abstract[0] = '@';
    refused("unixgram", abstract, -ENAMETOOLONG);
}

TEST(a_path_must_be_named) {
    refused("unix", "", -EINVAL);
    CHECK_EQ(weir_dial("unix", "@"), -EINVAL);
    CHECK_EQ(weir_dial("unix", "/no/such/socket"), -ENOENT);
    CHECK_EQ(weir_listen("unix", "/no/such/directory/socket"), -ENOENT);
    CHECK_EQ(weir_dial("unixgram", "@weir-nobody-has-this-name"), -ECONNREFUSED);
}

TEST(a_port_must_be_dialled_and_a_service_known) {
    CHECK_EQ(weir_dial("tcp", "127.0.0.1:"), -EINVAL);
    CHECK_EQ(weir_dial("udp", "127.0.0.1:0"), -EINVAL);
    refused("tcp", "127.0.0.1:no-such-service", -EINVAL);
    refused("udp", ":no-such-service", -EINVAL);
}

TEST(flags_are_checked) {
    CHECK_EQ(weir_listen_flags("tcp", "127.0.0.1:0", 2), -EINVAL);
    CHECK_EQ(weir_listen_flags("tcp", "127.0.0.1:0", -1), -EINVAL);
    CHECK_EQ(weir_listen_flags("unix", "@weir-flags", WEIR_REUSEPORT), -EINVAL);
}

TEST(an_address_that_is_not_ours_cannot_be_listened_at) {
    CHECK_EQ(weir_listen("tcp", "192.0.2.1:0"), -EADDRNOTAVAIL);
    int fd = listen_on("tcp", "127.0.0.1:0");
    CHECK_EQ(weir_listen("tcp", local_text(fd).at), -EADDRINUSE);
    shut(fd);
}

/* ---- Taken ----------------------------------------------------------------------------------------- */

static bool begins(const char *text, const char *with) { return strncmp(text, with, strlen(with)) == 0; }

static void listens_at(const char *network, const char *address, const char *text) {
    int fd = listen_on(network, address);
    if (!begins(local_text(fd).at, text)) FAIL("%s '%s' listens at %s", network, address, local_text(fd).at);
    CHECK(fcntl(fd, F_GETFL) & O_NONBLOCK);
    CHECK_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
    shut(fd);
}

TEST(listeners_are_where_they_are_told) {
    listens_at("tcp", "127.0.0.1:0", "127.0.0.1:");
    listens_at("tcp", "127.0.0.1:", "127.0.0.1:");
    listens_at("tcp4", ":0", "0.0.0.0:");
    listens_at("tcp4", "localhost:0", "127.0.0.1:");
    listens_at("tcp", "localhost:0", "127.0.0.1:"); /* though it may be ::1 as well */
    listens_at("tcp", "0.0.0.0:0", "0.0.0.0:");
    listens_at("udp", "127.0.0.1:0", "127.0.0.1:");
    listens_at("udp4", ":0", "0.0.0.0:");
    listens_at("unix", abstract_name(), abstract_name());
    listens_at("unixpacket", abstract_name(), abstract_name());
    listens_at("unixgram", "@", "@");
    if (!has_ipv6()) SKIP("no IPv6 here");
    listens_at("tcp", "[::1]:0", "[::1]:");
    listens_at("tcp6", ":0", "[::]:");
    listens_at("udp6", "[::1]:0", "[::1]:");
    listens_at("tcp", ":0", "[::]:");
    listens_at("tcp", "[::1%lo]:0", "[::1");
}

static int option(int fd, int level, int name) {
    int value = -1;
    socklen_t size = sizeof value;
    CHECK_EQ(getsockopt(fd, level, name, &value, &size), 0);
    return value;
}

TEST(without_a_host_both_families_are_served) {
    if (!has_ipv6()) SKIP("no IPv6 here");
    int fd = listen_on("tcp", ":0");
    char address[64];
    snprintf(address, sizeof address, "127.0.0.1:%u", port_of(fd));
    shut(dial_to("tcp", address));
    int in = weir_accept(fd);
    CHECK(begins(peer_text(in).at, "127.0.0.1:")); /* in the guise of an IPv6 address */
    shut(in);
    snprintf(address, sizeof address, "[::1]:%u", port_of(fd));
    shut(dial_to("tcp", address));
    snprintf(address, sizeof address, ":%u", port_of(fd));
    shut(dial_to("tcp", address));
    shut(dial_to("tcp6", address));
    shut(fd);
    fd = listen_on("tcp6", ":0");
    CHECK_EQ(option(fd, IPPROTO_IPV6, IPV6_V6ONLY), 1);
    snprintf(address, sizeof address, "127.0.0.1:%u", port_of(fd));
    CHECK_EQ(weir_dial("tcp", address), -ECONNREFUSED);
    shut(fd);
}

static void tcp_options_are_set(int fd) {
    CHECK_EQ(option(fd, IPPROTO_TCP, TCP_NODELAY), 1);
    CHECK_EQ(option(fd, SOL_SOCKET, SO_KEEPALIVE), 1);
    CHECK_EQ(option(fd, IPPROTO_TCP, TCP_KEEPIDLE), 15);
    CHECK_EQ(option(fd, IPPROTO_TCP, TCP_KEEPINTVL), 15);
    CHECK_EQ(option(fd, IPPROTO_TCP, TCP_KEEPCNT), 9);
    CHECK(fcntl(fd, F_GETFL) & O_NONBLOCK);
    CHECK_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
}

TEST(both_ends_have_no_delay_and_keep_alive) {
    int fds[2];
    tcp_pair(fds);
    tcp_options_are_set(fds[0]);
    tcp_options_are_set(fds[1]);
    shut(fds[0]);
    shut(fds[1]);
}

TEST(a_port_can_be_shared_if_that_is_asked_for) {
    int first = weir_listen_flags("tcp", "127.0.0.1:0", WEIR_REUSEPORT);
    CHECK_GE(first, 0);
    int second = weir_listen_flags("tcp", local_text(first).at, WEIR_REUSEPORT);
    CHECK_GE(second, 0);
    CHECK_EQ(weir_listen("tcp", local_text(first).at), -EADDRINUSE);
    shut(first);
    shut(second);
}

TEST(a_service_has_a_port) {
    struct servent *s = getservbyname("domain", "udp");
    if (!s) SKIP("no /etc/services here");
    int fd = dial_to("udp", "127.0.0.1:domain");
    CHECK_STR(peer_text(fd).at, "127.0.0.1:53");
    shut(fd);
    fd = dial_to("udp4", "localhost:domain");
    CHECK_STR(peer_text(fd).at, "127.0.0.1:53");
    shut(fd);
}

TEST(a_socket_file_stays_and_is_in_the_way) {
    char path[] = "/tmp/weir-net-XXXXXX", socket_path[64];
    CHECK(mkdtemp(path));
    snprintf(socket_path, sizeof socket_path, "%s/socket", path);
    shut(listen_on("unix", socket_path));
    CHECK_EQ(weir_listen("unix", socket_path), -EADDRINUSE);
    CHECK_EQ(weir_dial("unix", socket_path), -ECONNREFUSED);
    CHECK_EQ(unlink(socket_path), 0);
    int fd = listen_on("unixgram", socket_path);
    CHECK_EQ(weir_dial("unix", socket_path), -EPROTOTYPE);
    CHECK_STR(local_text(fd).at, socket_path);
    shut(fd);
    CHECK_EQ(unlink(socket_path), 0);
    CHECK_EQ(rmdir(path), 0);
}

/* ---- Text ------------------------------------------------------------------------------------------ */

static weir_address unix_address(const char *path, size_t n) {
    weir_address a = { .length = (unsigned)(offsetof(struct sockaddr_un, sun_path) + n) };
    struct sockaddr_un un = { .sun_family = AF_UNIX };
    memcpy(un.sun_path, path, n);
    memcpy(a.bytes, &un, sizeof un);
    return a;
}

PLAIN_TEST(addresses_have_text) {
    static const char *const same[] = { "127.0.0.1:0", "255.255.255.255:65535", "[::]:1", "[2001:db8::1]:443" };
    static const char *const hosts[] = { "127.0.0.1", "255.255.255.255", "::", "2001:db8::1" };
    static const unsigned ports[] = { 0, 65535, 1, 443 };
    char text[160];
    for (int i = 0; i < 4; i++) {
        weir_address a;
        CHECK_EQ(weir_lookup(hosts[i], &a, 1), 1);
        wr_address_set_port(&a, ports[i]);
        CHECK_EQ(weir_address_text(&a, text, sizeof text), (int)strlen(same[i]));
        CHECK_STR(text, same[i]);
    }
    weir_address a;
    CHECK_EQ(weir_lookup("::ffff:10.1.2.3", &a, 1), 1);
    CHECK_EQ(weir_address_text(&a, text, sizeof text), 10);
    CHECK_STR(text, "10.1.2.3:0");
    a = unix_address("/tmp/x", 7);
    CHECK_EQ(weir_address_text(&a, text, sizeof text), 6);
    CHECK_STR(text, "/tmp/x");
    a = unix_address("\0a\0b", 4);
    CHECK_EQ(weir_address_text(&a, text, sizeof text), 4);
    CHECK_STR(text, "@a@b");
    a = unix_address("", 0);
    CHECK_EQ(weir_address_text(&a, text, sizeof text), 0);
    CHECK_STR(text, "");
    static char longest[109];
    memset(longest, 'p', 108); /* the kernel allows it: no zero at the end */
    a = unix_address(longest, 108);
    CHECK_EQ(weir_address_text(&a, text, sizeof text), 108);
    CHECK_STR(text, longest);
}

PLAIN_TEST(text_is_cut_where_there_is_no_room) {
    weir_address a;
    char text[8] = "0123456";
    CHECK_EQ(weir_lookup("127.0.0.1", &a, 1), 1);
    CHECK_EQ(weir_address_text(&a, NULL, 0), 11);
    CHECK_EQ(weir_address_text(&a, text, 5), 11);
    CHECK_STR(text, "127.");
    a = unix_address("/tmp/socket", 12);
    CHECK_EQ(weir_address_text(&a, NULL, 0), 11);
    CHECK_EQ(weir_address_text(&a, text, 5), 11);
    CHECK_STR(text, "/tmp");
    CHECK_EQ(weir_address_text(&a, text, 1), 11);
    CHECK_STR(text, "");
}

PLAIN_TEST(what_is_no_address_has_no_text) {
    char text[8];
    weir_address a = { .length = 0 };
    CHECK_EQ(weir_address_text(&a, text, sizeof text), -EAFNOSUPPORT);
    a.length = 16;
    a.bytes[0] = 99;
    CHECK_EQ(weir_address_text(&a, text, sizeof text), -EAFNOSUPPORT);
    a.bytes[0] = AF_INET6; /* cut short */
    CHECK_EQ(weir_address_text(&a, text, sizeof text), -EAFNOSUPPORT);
    a.length = 4000;
    CHECK_EQ(weir_address_text(&a, text, sizeof text), -EAFNOSUPPORT);
}

PLAIN_TEST(only_sockets_have_addresses) {
    weir_address a;
    int fds[2];
    CHECK_EQ(weir_local_address(-1, &a), -EBADF);
    CHECK_EQ(weir_local_address(0, &a), -ENOTSOCK);
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    CHECK_EQ(weir_peer_address(fds[0], &a), 0);
    CHECK_STR(peer_text(fds[0]).at, "");
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    CHECK_EQ(weir_peer_address(fd, &a), -ENOTCONN);
}
