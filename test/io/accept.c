/* Connections that were accepted ahead of weir_accept (WEIR_POLLER=uring): none is lost, left open, or given to another. */
#include "ring_test.h"
#include "threads.h"

#include <sys/wait.h>

static void until_ahead(int listener, unsigned n) { TEST_UNTIL(look(listener).count >= n); }

static void dials_soon(int listener) {
    struct text there = local_text(listener);
    test_until_n_parked(1, "IO wait");
    int fd = dial_to("tcp", there.at);
    CHECK_EQ(weir_read(fd, &(char){ 0 }, 1), 0);
    shut(fd);
}
/* Somebody waits, and gets a connection: from then on the ring accepts. */
static void until_asked(int listener) {
    TEST_GO(dials_soon, listener);
    int in = weir_accept(listener);
    CHECK_GE(in, 0);
    shut(in);
    CHECK(look(listener).asked);
    TEST_UNTIL(weir_count() == 1);
}
static int ring_listener(void) {
    int listener = listen_on("tcp", "127.0.0.1:0");
    until_asked(listener);
    return listener;
}
static int dials_and_says(struct text there, const char *text) {
    int fd = dial_to("tcp", there.at);
    say(fd, text);
    return fd;
}
static void accepts_one_that_says(int listener, const char *text) {
    int in = weir_accept(listener);
    CHECK_GE(in, 0);
    HEARS(in, text);
    shut(in);
}

RING_TEST(what_came_ahead_is_accepted_in_order) {
    int listener = ring_listener(), fds[3];
    const char *says[3] = { "first", "second", "third" };
    for (int i = 0; i < 3; i++) {
        fds[i] = dials_and_says(local_text(listener), says[i]);
        until_ahead(listener, (unsigned)i + 1);
    }
    for (int i = 0; i < 3; i++) accepts_one_that_says(listener, says[i]), shut(fds[i]);
    shut(listener);
}

RING_TEST(it_is_like_what_accept_gives) {
    int listener = ring_listener(), fd = dials_and_says(local_text(listener), "");
    until_ahead(listener, 1);
    int in = weir_accept(listener);
    CHECK_EQ(fcntl(in, F_GETFD), FD_CLOEXEC);
    CHECK_EQ(fcntl(in, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
    CHECK_STR(peer_text(in).at, local_text(fd).at);
    TEST_GO(dials_soon, listener); /* and it can be waited for */
    int next = weir_accept(listener);
    CHECK_GE(next, 0);
    shut(next);
    shut(in);
    shut(fd);
    shut(listener);
}

RING_TEST(a_cancelled_accept_leaves_it_to_the_next) {
    int listener = ring_listener();
    weir_timeout(WEIR_MILLISECOND) CHECK_EQ(weir_accept(listener), -ETIMEDOUT);
    int fd = dials_and_says(local_text(listener), "later");
    until_ahead(listener, 1);
    weir_timeout(-1) CHECK_EQ(weir_accept(listener), -ETIMEDOUT); /* though it is here */
    accepts_one_that_says(listener, "later");
    shut(fd);
    shut(listener);
}

static void cancelled_acceptors(int listener, _Atomic long *sum, _Atomic bool *stop) {
    while (!*stop) {
        int fd = -1;
        weir_timeout(20 * WEIR_MICROSECOND) fd = weir_accept(listener);
        if (fd == -ETIMEDOUT) continue;
        CHECK_GE(fd, 0);
        unsigned char byte;
        CHECK_EQ(weir_read(fd, &byte, 1), 1);
        *sum += byte;
        shut(fd);
    }
}
static void dials_many(int listener, long n, _Atomic long *expected) {
    struct text there = local_text(listener);
    for (long i = 0; i < n; i++) {
        unsigned char byte = (unsigned char)(i % 251);
        int fd = dial_to("tcp", there.at);
        *expected += byte;
        CHECK_EQ(weir_write_all(fd, &byte, 1), 1);
        CHECK_EQ(weir_read(fd, &byte, 1), 0); /* it was accepted, by one that has read */
        shut(fd);
    }
}
RING_TEST(in_a_storm_of_cancels_each_connection_is_accepted_once) {
    int listener = ring_listener();
    _Atomic long sum = 0, expected = 0;
    _Atomic bool stop = false;
    weir_scoped(acceptors) {
        for (int i = 0; i < 3; i++) CHECK_EQ(weir_scope_go(&acceptors, cancelled_acceptors, listener, &sum, &stop), 0);
        weir_scoped(s)
            for (int i = 0; i < 3; i++) CHECK_EQ(weir_scope_go(&s, dials_many, listener, TEST_SCALE(300), &expected), 0);
        stop = true;
    }
    CHECK_EQ(sum, expected);
    shut(listener);
}

/* Nor do the connections of the one before come to who listens with its number. */
RING_TEST(closing_a_listener_closes_what_it_has_accepted_ahead_and_frees_its_address) {
    int listener = ring_listener(), before = open_fds(), number = listener;
    CHECK_GE(weir_procs(4), 1);
    for (int i = 0; i < 30; i++) {
        struct text there = local_text(listener);
        int fds[70];
        for (int c = 0; c < 70; c++) fds[c] = dial_to("tcp", there.at);
        if (i % 2) until_ahead(listener, 64);
        shut(listener);
        for (int c = 0; c < 70; c++) {
            int64_t n = weir_read(fds[c], &(char){ 0 }, 1);
            CHECK(n == 0 || n == -ECONNRESET);
            shut(fds[c]);
        }
        CHECK_EQ(open_fds(), before - 1);
        listener = listen_on("tcp", there.at);
        CHECK_EQ(listener, number);
        until_asked(listener);
    }
    shut(listener);
}

/* Asks for connections, and keeps the thread that has asked away from the kernel. */
static void asks_and_computes(int listener, _Atomic int *state) {
    do weir_timeout(200 * WEIR_MICROSECOND) CHECK_EQ(weir_accept(listener), -ETIMEDOUT);
    while (!asked_by_me(listener));
    *state = 1;
    while (*state == 1) {}
}
RING_TEST(a_closed_listener_is_closed_though_who_has_asked_computes) {
    wr_ring_patience = 0; /* whoever finds that another has asked, and sleeps, asks in its place */
    CHECK_GE(weir_procs(2), 1);
    for (int i = 0; i < 10; i++) {
        _Atomic int state = 0;
        int listener = listen_on("tcp", "127.0.0.1:0");
        struct text there = local_text(listener);
        weir_scoped(s) {
            CHECK_EQ(weir_scope_go(&s, asks_and_computes, listener, &state), 0);
            TEST_UNTIL(state == 1);
            shut(listener);
            listener = listen_on("tcp", there.at);
            state = 2;
        }
        shut(listener);
    }
}

RING_TEST(who_accepts_late_has_the_backlog_wait) {
    enum { MOST = 120, ENOUGH = 64, A_FEW = 8 };
    int listener = ring_listener(), fds[MOST];
    struct text there = local_text(listener);
    char name[16];
    unsigned n = 0;
    for (; look(listener).asked; n++) { /* one at a time, and seen, so that it can end at the right one */
        CHECK_LE(n, MOST - 20);
        snprintf(name, sizeof name, "%u", n);
        fds[n] = dials_and_says(there, name);
        TEST_UNTIL(look(listener).count == n + 1 || !look(listener).asked);
    }
    unsigned ahead = look(listener).count;
    CHECK_GE(ahead, ENOUGH);
    CHECK_LE(ahead, ENOUGH + A_FEW);
    for (int i = 0; i < 10; i++, n++) {
        snprintf(name, sizeof name, "%u", n);
        fds[n] = dials_and_says(there, name);
    }
    CHECK_EQ(look(listener).count, ahead);
    for (unsigned i = 0; i < n; i++) {
        snprintf(name, sizeof name, "%u", i);
        accepts_one_that_says(listener, name);
        shut(fds[i]);
    }
    CHECK(!look(listener).asked);
    until_asked(listener);
    shut(listener);
}

/* The limit counts as it was when the ring was asked, so it is lowered before. */
RING_TEST(without_numbers_accept_says_so_and_the_connection_waits) {
    int fds[2] = { socket(AF_INET, SOCK_STREAM, 0), socket(AF_INET, SOCK_STREAM, 0) }, fill[2];
    shut(ring_listener()); /* the poller has its numbers now */
    int listener = listen_on("tcp", "127.0.0.1:0");
    weir_address a;
    CHECK_EQ(weir_local_address(listener, &a), 0);
    struct rlimit before = numbers_left(2);
    for (int i = 0; i < 2; i++) {
        until_asked(listener);
        CHECK((fill[0] = dup(listener)) >= 0 && (fill[1] = dup(listener)) >= 0);
        CHECK_EQ(connect(fds[i], (struct sockaddr *)a.bytes, a.length), 0);
        if (i) TEST_UNTIL(!look(listener).asked); /* nobody waits for it */
        CHECK_EQ(weir_accept(listener), -EMFILE);
        CHECK_EQ(weir_accept(listener), -EMFILE);
        close(fill[0]);
        close(fill[1]);
        say(fds[i], "patient");
        accepts_one_that_says(listener, "patient");
    }
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
    shut(fds[0]), shut(fds[1]), shut(listener);
}

static void accepts_plainly(int fd, const char *text) {
    int in = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
    CHECK_GE(in, 0);
    HEARS(in, text);
    shut(in);
}

RING_TEST(waiting_tells_of_what_came_ahead_and_leaves_the_rest_to_the_program) {
    int listener = ring_listener(), ahead = dials_and_says(local_text(listener), "ahead");
    until_ahead(listener, 1);
    CHECK_EQ(weir_wait_fd(listener, WEIR_IN), WEIR_IN);
    accepts_one_that_says(listener, "ahead");
    TEST_UNTIL(!look(listener).asked);
    int later = dials_and_says(local_text(listener), "later");
    CHECK_EQ(weir_wait_fd(listener, WEIR_IN), WEIR_IN);
    accepts_plainly(listener, "later");
    shut(ahead);
    shut(later);
    shut(listener);
}

RING_TEST(who_is_sent_a_listener_accepts_what_comes_from_then_on) {
    int listener = ring_listener(), sockets[2];
    int ahead = dials_and_says(local_text(listener), "ahead");
    until_ahead(listener, 1);
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
    CHECK_EQ(weir_send_fd(sockets[0], listener), 0);
    int sent = weir_recv_fd(sockets[1]);
    CHECK_GE(sent, 0);
    int later = dials_and_says(local_text(listener), "later");
    accepts_plainly(sent, "later");
    accepts_one_that_says(listener, "ahead");
    shut(listener);
    int last = dials_and_says(local_text(sent), "last"); /* the listener lives on */
    accepts_plainly(sent, "last");
    shut(ahead), shut(later), shut(last), shut(sent), shut(sockets[0]), shut(sockets[1]);
}

static int kept, clients[3];
static void leaves_a_listener(void) {
    kept = ring_listener();
    for (int i = 0; i < 2; i++) {
        clients[i] = dials_and_says(local_text(kept), i ? "two" : "one");
        until_ahead(kept, (unsigned)i + 1);
    }
}
static void accepts_on(void) {
    accepts_one_that_says(kept, "two");
    accepts_one_that_says(kept, "three");
    until_asked(kept);
    shut(kept);
}
PLAIN_TEST(a_listener_and_what_came_ahead_outlive_the_runtime) {
    run_with_ring(leaves_a_listener);
    accepts_one_that_says(kept, "one"); /* without a runtime */
    clients[2] = dials_and_says(local_text(kept), "three");
    CHECK_EQ(look(kept).count, 1); /* the request has ended with its thread: it waits in the backlog */
    CHECK(!look(kept).asked);
    run_with_ring(accepts_on);
    for (int i = 0; i < 3; i++) shut(clients[i]);
}

/* It has them open too, and no other way to close them. */
PLAIN_TEST(a_copy_of_the_process_closes_what_came_ahead_with_the_listener) {
    run_with_ring(leaves_a_listener);
    pid_t child = fork();
    if (child == 0) {
        int before = open_fds();
        _exit(weir_close_fd(kept) == 0 && open_fds() == before - 3 ? 0 : 1);
    }
    int status;
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
    accepts_one_that_says(kept, "one");
    accepts_one_that_says(kept, "two");
    shut(kept);
    for (int i = 0; i < 2; i++) shut(clients[i]);
}

RING_TEST(listeners_of_unix_sockets_accept_ahead_too) {
    int listener = listen_on("unix", "@");
    struct text there = local_text(listener);
    for (weir_duration d = WEIR_MILLISECOND; !look(listener).asked; d *= 2) weir_timeout(d) CHECK_EQ(weir_accept(listener), -ETIMEDOUT);
    int fd = dial_to("unix", there.at);
    until_ahead(listener, 1);
    say(fd, "hello");
    accepts_one_that_says(listener, "hello");
    shut(fd);
    shut(listener);
    listener = listen_on("unix", there.at); /* the name is free */
    shut(listener);
}

static void *a_thread_accepts(void *listener) {
    accepts_one_that_says((int)(intptr_t)listener, "hello");
    return NULL;
}
RING_TEST(a_thread_of_the_programs_own_accepts_what_came_ahead) {
    int listener = ring_listener();
    pthread_t thread = thread_start(a_thread_accepts, (void *)(intptr_t)listener);
    int first = dials_and_says(local_text(listener), "hello");
    thread_end(thread);
    int second = dials_and_says(local_text(listener), "hello");
    until_ahead(listener, 1);
    thread_end(thread_start(a_thread_accepts, (void *)(intptr_t)listener));
    shut(first), shut(second), shut(listener);
}
