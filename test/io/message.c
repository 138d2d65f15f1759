/* Datagrams, messages, and the descriptors that are sent with them. */
#include "net_test.h"

#include <netinet/in.h>
#include <sys/un.h>

/* ---- Datagrams ------------------------------------------------------------------------------------- */

static void datagrams_over(const char *network, const char *address) {
    int a = listen_on(network, address), b = listen_on(network, address);
    weir_address to, from = { .length = sizeof from.bytes };
    char data[16] = "", text[160];
    CHECK_EQ(weir_local_address(b, &to), 0);
    CHECK_EQ(weir_sendto(a, "to b", 4, 0, (struct sockaddr *)to.bytes, to.length), 4);
    CHECK_EQ(weir_sendto(a, "", 0, 0, (struct sockaddr *)to.bytes, to.length), 0);
    CHECK_EQ(weir_recvfrom(b, data, sizeof data, 0, (struct sockaddr *)from.bytes, &from.length), 4);
    CHECK_STR(data, "to b");
    CHECK_GE(weir_address_text(&from, text, sizeof text), 1);
    CHECK_STR(text, local_text(a).at);
    CHECK_EQ(weir_recvfrom(b, data, sizeof data, 0, NULL, NULL), 0);
    int c = dial_to(network, local_text(b).at); /* knows where to */
    say(c, "from c");
    HEARS(b, "from c");
    shut(a);
    shut(b);
    shut(c);
}

TEST(udp_over_ipv4) { datagrams_over("udp4", "127.0.0.1:0"); }
TEST(udp_to_a_name) { datagrams_over("udp", "localhost:0"); }
TEST(udp_over_ipv6) {
    if (!has_ipv6()) SKIP("no IPv6 here");
    datagrams_over("udp6", "[::1]:0");
}
TEST(unix_datagrams) { datagrams_over("unixgram", "@"); }

TEST(an_answer_comes_back_to_who_dialled) {
    int server = listen_on("udp", "127.0.0.1:0"), client = dial_to("udp", local_text(server).at), other = listen_on("udp", "127.0.0.1:0");
    weir_address back = { .length = sizeof back.bytes };
    say(client, "?");
    CHECK_EQ(weir_recvfrom(server, &(char){ 0 }, 1, 0, (struct sockaddr *)back.bytes, &back.length), 1);
    CHECK_EQ(weir_sendto(other, "no", 2, 0, (struct sockaddr *)back.bytes, back.length), 2); /* is not heard */
    CHECK_EQ(weir_sendto(server, "yes", 3, 0, (struct sockaddr *)back.bytes, back.length), 3);
    HEARS(client, "yes");
    shut(server);
    shut(client);
    shut(other);
}

TEST(nobody_there_is_told_to_who_dialled) {
    int fd = listen_on("udp", "127.0.0.1:0");
    struct text nowhere = local_text(fd);
    shut(fd);
    fd = dial_to("udp", nowhere.at);
    say(fd, "anybody?");
    CHECK_EQ(weir_read(fd, &(char){ 0 }, 1), -ECONNREFUSED);
    shut(fd);
}

static void send_when_parked(int fd, weir_address *to) {
    test_until_n_parked(1, "IO wait");
    CHECK_EQ(weir_sendto(fd, "late", 4, 0, (struct sockaddr *)to->bytes, to->length), 4);
}

TEST(receiving_waits_in_every_mode) {
    weir_address all[2]; /* that what was sent comes after it was read is known to the kernel alone */
    for (int blocking = 0; blocking < 2; blocking++) {
        int fd = listen_on("udp", "127.0.0.1:0");
        if (blocking) CHECK_EQ(fcntl(fd, F_SETFL, 0), 0);
        weir_address *own = &all[blocking];
        char data[8] = "";
        CHECK_EQ(weir_local_address(fd, own), 0);
        CHECK_EQ(weir_recvfrom(fd, data, sizeof data, MSG_DONTWAIT, NULL, NULL), -EAGAIN);
        weir_timeout(5 * WEIR_MILLISECOND) CHECK_EQ(weir_recvfrom(fd, data, sizeof data, 0, NULL, NULL), -ETIMEDOUT);
        TEST_GO(send_when_parked, fd, own);
        CHECK_EQ(weir_recvfrom(fd, data, sizeof data, 0, NULL, NULL), 4);
        CHECK_STR(data, "late");
        shut(fd);
    }
}

TEST(errors_of_messages) {
    char byte = 0;
    CHECK_EQ(weir_recvfrom(-1, &byte, 1, 0, NULL, NULL), -EBADF);
    CHECK_EQ(weir_recvfrom(-1, &byte, 1, MSG_DONTWAIT, NULL, NULL), -EBADF);
    CHECK_EQ(weir_sendto(999, &byte, 1, 0, NULL, 0), -EBADF);
    CHECK_EQ(weir_recvmsg(0, NULL, 0), -EFAULT);
    CHECK_EQ(weir_sendmsg(0, NULL, 0), -EFAULT);
    int fds[2];
    CHECK_EQ(weir_pipe(fds), 0);
    CHECK_EQ(weir_recvfrom(fds[0], &byte, 1, 0, NULL, NULL), -ENOTSOCK);
    CHECK_EQ(weir_sendto(fds[1], &byte, 1, 0, NULL, 0), -ENOTSOCK);
    int fd = listen_on("udp", "127.0.0.1:0");
    static char much[70000];
    struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(9), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    CHECK_EQ(weir_sendto(fd, much, sizeof much, 0, (struct sockaddr *)&in, sizeof in), -EMSGSIZE);
    CHECK_EQ(weir_sendto(fd, much, 1, 0, NULL, 0), -EDESTADDRREQ);
    shut(fd);
}

TEST(several_pieces_are_one_message) {
    int fds[2];
    CHECK_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fds), 0);
    char a[] = "two ", b[] = "pieces", data[16] = "";
    struct iovec out[] = { { a, 4 }, { b, 6 } }, in = { data, sizeof data };
    struct msghdr sent = { .msg_iov = out, .msg_iovlen = 2 }, got = { .msg_iov = &in, .msg_iovlen = 1 };
    CHECK_EQ(weir_sendmsg(fds[0], &sent, 0), 10);
    CHECK_EQ(weir_recvmsg(fds[1], &got, MSG_PEEK), 10);
    CHECK_EQ(weir_recvmsg(fds[1], &got, 0), 10);
    CHECK_STR(data, "two pieces");
    CHECK_EQ(weir_recvmsg(fds[1], &got, MSG_DONTWAIT), -EAGAIN);
    shut(fds[0]);
    CHECK_EQ(weir_sendmsg(fds[1], &sent, 0), -EPIPE);
    shut(fds[1]);
}

TEST(a_message_that_nobody_reads_raises_no_signal) {
    int fds[2];
    char byte = 0;
    struct iovec v = { &byte, 1 };
    struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1 };
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    shut(fds[0]);
    CHECK_EQ(weir_sendmsg(fds[1], &m, 0), -EPIPE);
    CHECK_EQ(weir_sendto(fds[1], &byte, 1, 0, NULL, 0), -EPIPE);
    CHECK_EQ(weir_sendto(fds[1], &byte, 1, MSG_DONTWAIT, NULL, 0), -EPIPE);
    shut(fds[1]);
}

/* ---- Descriptors ----------------------------------------------------------------------------------- */

static void pair(int type, int fds[2]) { CHECK_EQ(socketpair(AF_UNIX, type, 0, fds), 0); }

/* n copies of fd in one message of that many bytes. */
static void send_many(int sock, int fd, size_t n, size_t bytes) {
    char data[4] = "", room[CMSG_SPACE(8 * sizeof fd)] __attribute__((aligned(8))) = "";
    struct iovec v = { data, bytes };
    struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = n ? room : NULL, .msg_controllen = n ? CMSG_SPACE(n * sizeof fd) : 0 };
    if (n) {
        struct cmsghdr *c = CMSG_FIRSTHDR(&m);
        *c = (struct cmsghdr){ .cmsg_len = CMSG_LEN(n * sizeof fd), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS };
        for (size_t i = 0; i < n; i++) memcpy(CMSG_DATA(c) + i * sizeof fd, &fd, sizeof fd);
    }
    CHECK_EQ(weir_sendmsg(sock, &m, 0), (int64_t)bytes);
}

TEST(a_descriptor_is_sent_and_received) {
    static const int types[] = { SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET };
    for (int i = 0; i < 3; i++) {
        int fds[2], carried[2];
        pair(types[i], fds);
        CHECK_EQ(weir_pipe(carried), 0);
        CHECK_EQ(weir_send_fd(fds[0], carried[1]), 0);
        CHECK_EQ(weir_send_fd(fds[0], carried[1]), 0);
        shut(carried[1]);
        for (int n = 0; n < 2; n++) {
            int fd = weir_recv_fd(fds[1]);
            CHECK_GE(fd, 0);
            CHECK_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
            say(fd, "through");
            HEARS(carried[0], "through");
            shut(fd);
        }
        CHECK_EQ(weir_read(carried[0], &(char){ 0 }, 1), 0); /* no copy is left */
        shut(carried[0]);
        shut(fds[0]);
        shut(fds[1]);
    }
}

static void send_fd_when_parked(int sock, int fd) {
    test_until_n_parked(1, "IO wait");
    CHECK_EQ(weir_send_fd(sock, fd), 0);
}

TEST(receiving_a_descriptor_waits_and_obeys_the_context) {
    int fds[2];
    pair(SOCK_STREAM, fds);
    weir_timeout(5 * WEIR_MILLISECOND) CHECK_EQ(weir_recv_fd(fds[1]), -ETIMEDOUT);
    TEST_GO(send_fd_when_parked, fds[0], fds[0]);
    int fd = weir_recv_fd(fds[1]);
    CHECK_GE(fd, 0);
    shut(fd);
    shut(fds[0]);
    CHECK_EQ(weir_recv_fd(fds[1]), -EPIPE);
    shut(fds[1]);
}

TEST(several_descriptors_at_once_are_not_lost) {
    int fds[2], carried[2];
    pair(SOCK_STREAM, fds);
    CHECK_EQ(weir_pipe(carried), 0);
    send_many(fds[0], carried[1], 2, 1);
    send_many(fds[0], carried[1], 8, 1);
    send_many(fds[0], carried[1], 1, 1);
    int before = open_fds();
    CHECK_EQ(weir_recv_fd(fds[1]), -EMSGSIZE);
    CHECK_EQ(weir_recv_fd(fds[1]), -EMSGSIZE);
    CHECK_EQ(open_fds(), before);
    int fd = weir_recv_fd(fds[1]);
    CHECK_GE(fd, 0);
    shut(fd);
    shut(carried[1]);
    CHECK_EQ(weir_read(carried[0], &(char){ 0 }, 1), 0);
    shut(carried[0]);
    shut(fds[0]);
    shut(fds[1]);
}

TEST(a_message_without_a_descriptor_says_so) {
    int fds[2];
    pair(SOCK_SEQPACKET, fds);
    send_many(fds[0], 0, 0, 1);
    CHECK_EQ(weir_recv_fd(fds[1]), -ENOMSG);
    send_many(fds[0], fds[0], 1, 4); /* more bytes than are received: the message is cut, the descriptor is there */
    int fd = weir_recv_fd(fds[1]);
    CHECK_GE(fd, 0);
    shut(fd);
    shut(fds[0]);
    shut(fds[1]);
}

TEST(without_numbers_what_was_sent_is_dropped) {
    int fds[2], carried[2];
    pair(SOCK_STREAM, fds);
    CHECK_EQ(weir_pipe(carried), 0);
    send_many(fds[0], carried[1], 1, 1);
    send_many(fds[0], carried[1], 3, 1);
    shut(carried[1]);
    struct rlimit before = numbers_left(0);
    CHECK_EQ(weir_recv_fd(fds[1]), -EMFILE);
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
    before = numbers_left(1); /* and the other two are left out */
    CHECK_EQ(weir_recv_fd(fds[1]), -EMFILE);
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
    CHECK_EQ(weir_read(carried[0], &(char){ 0 }, 1), 0);
    shut(carried[0]);
    shut(fds[0]);
    shut(fds[1]);
}

TEST(only_unix_sockets_carry_descriptors) {
    int fds[2];
    pair(SOCK_STREAM, fds);
    CHECK_EQ(weir_send_fd(fds[0], 999), -EBADF);
    CHECK_EQ(weir_send_fd(999, fds[0]), -EBADF);
    CHECK_EQ(weir_recv_fd(-1), -EBADF);
    shut(fds[0]);
    CHECK_EQ(weir_send_fd(fds[1], fds[1]), -EPIPE);
    shut(fds[1]);
    CHECK_EQ(weir_pipe(fds), 0);
    CHECK_EQ(weir_send_fd(fds[1], fds[0]), -ENOTSOCK);
    CHECK_EQ(weir_recv_fd(fds[0]), -ENOTSOCK);
    shut(fds[0]);
    shut(fds[1]);
}
