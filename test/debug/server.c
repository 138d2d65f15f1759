/* The debug server as a part of a process: runs of the runtime, deadlocks, forks, exits, limits, permissions. */
#include "client.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/wait.h>

static int nothing(void *arg) { return 0; }

/* ---- Starting ------------------------------------------------------------------------------------- */

PLAIN_TEST(an_address_that_is_none_is_refused) {
    CHECK_EQ(weir_debug_port(), 0);
    CHECK_EQ(weir_debug_serve("6060"), -EINVAL);
    CHECK_EQ(weir_debug_serve("127.0.0.1:99999"), -EINVAL);
    CHECK_EQ(weir_debug_serve("no.such.host.invalid:0"), -ENOENT);
    CHECK_EQ(weir_debug_serve("192.0.2.1:0"), -EADDRNOTAVAIL);
    CHECK_EQ(weir_debug_port(), 0);
    SERVE();
    CHECK(weir_debug_port() > 0);
}

PLAIN_TEST(there_is_one_server) {
    SERVE();
    CHECK_EQ(weir_debug_serve("127.0.0.1:0"), -EBUSY);
}

PLAIN_TEST(an_address_in_use_is_an_error) {
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
    socklen_t n = sizeof at;
    char address[32];
    int s = socket(AF_INET, SOCK_STREAM, 0);
    CHECK_EQ(bind(s, (struct sockaddr *)&at, sizeof at), 0);
    CHECK_EQ(listen(s, 1), 0);
    CHECK_EQ(getsockname(s, (struct sockaddr *)&at, &n), 0);
    snprintf(address, sizeof address, "127.0.0.1:%d", ntohs(at.sin_port));
    CHECK_EQ(weir_debug_serve(address), -EADDRINUSE);
    SERVE();
}

/* Does the kernel list a socket of that address with the server's port? */
static bool listens_at(uint32_t address) {
    char wanted[32], line[256];
    bool found = false;
    snprintf(wanted, sizeof wanted, " %08X:%04X ", htonl(address), weir_debug_port());
    FILE *f = fopen("/proc/net/tcp", "r");
    while (f && fgets(line, sizeof line, f)) found |= strstr(line, wanted) != NULL;
    if (f) fclose(f);
    return found;
}
EXIT_PLAIN_TEST(no_host_is_loopback_and_says_so, 7, "takes :0 as 127.0.0.1:0") {
    CHECK_EQ(weir_debug_serve(":0"), 0);
    CHECK(listens_at(INADDR_LOOPBACK));
    CHECK(!listens_at(INADDR_ANY));
    exit(7);
}
EXIT_PLAIN_TEST(an_address_for_others_is_warned_of, 7, "can be reached from other machines") {
    CHECK_EQ(weir_debug_serve("0.0.0.0:0"), 0);
    CHECK(listens_at(INADDR_ANY));
    exit(7);
}

/* ---- Runs ----------------------------------------------------------------------------------------- */

static int look_from_inside(void *arg) {
    CHECK_EQ(weir_count(), 1);
    CHECK_ANSWER(get("/debug/pprof/goroutine?debug=1"), "200", "goroutine profile: total 1\n");
    CHECK_ANSWER(get("/debug/pprof/goroutine?debug=2"), "200", "goroutine 1 [");
    CHECK_EQ(weir_count(), 1);
    return 0;
}

PLAIN_TEST(it_serves_before_between_and_after_runs) {
    SERVE();
    for (int i = 0; i < 3; i++) {
        CHECK_ANSWER(get("/debug/pprof/goroutine?debug=1"), "200", "goroutine profile: total 0\n");
        CHECK_ANSWER(get("/debug/pprof/"), "200", "<td>0</td><td><a href='goroutine?debug=1'>");
        CHECK_EQ(weir_run(look_from_inside, NULL), 0);
    }
    CHECK_ANSWER(get("/debug/pprof/goroutine?debug=2"), "200", "\r\n\r\n");
}

TEST(it_can_be_started_by_a_goroutine) {
    SERVE();
    look_from_inside(NULL);
}

static int deadlock(void *arg) {
    weir_chan *none = NULL;
    free(get("/debug/pprof/goroutine?debug=1"));
    CHECK_EQ(weir_chan_recv(none, NULL), 0);
    return 0;
}
#define DEADLOCK "all goroutines are asleep - deadlock!"
EXIT_PLAIN_TEST(a_deadlock_is_found_although_it_serves, 2, DEADLOCK) {
    SERVE();
    free(get("/debug/pprof/goroutine?debug=1"));
    weir_run(deadlock, NULL);
}
EXIT_PLAIN_TEST(a_deadlock_is_found_in_a_later_run, 2, DEADLOCK) {
    SERVE();
    free(get("/debug/pprof/goroutine?debug=2"));
    CHECK_EQ(weir_run(nothing, NULL), 0);
    CHECK_EQ(weir_run(look_from_inside, NULL), 0);
    weir_run(deadlock, NULL);
}
EXIT_TEST(a_deadlock_is_found_after_a_proof, 2, DEADLOCK) {
    SERVE();
    free(get("/debug/pprof/goroutineleak?debug=1"));
    deadlock(NULL);
}

static void *call_in(void *arg) {
    weir_chan *ch = arg;
    sleep(1);
    CHECK_EQ(weir_chan_send(ch, NULL), 0);
    return NULL;
}
static int wait_for_thread(void *arg) { return weir_chan_recv(arg, NULL) < 0; }
/* One thread too few counted would make a deadlock of this. */
PLAIN_TEST(threads_of_the_program_are_still_counted) {
    pthread_t thread;
    SERVE();
    CHECK_EQ(weir_run(look_from_inside, NULL), 0);
    weir_chan *ch = weir_chan_make(0, 0);
    CHECK_EQ(pthread_create(&thread, NULL, call_in, ch), 0);
    CHECK_EQ(weir_run(wait_for_thread, ch), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    weir_chan_release(ch);
}

/* ---- Forks and exits ------------------------------------------------------------------------------ */

static int status_of(pid_t pid) {
    int status;
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000;
}

PLAIN_TEST(a_forked_child_serves_nothing_and_may_begin_anew) {
#ifdef TEST_TSAN
    SKIP("ThreadSanitizer lets no child of a process with threads make threads");
#endif
    SERVE();
    int port = weir_debug_port(), held = dial(port);
    CHECK_ANSWER(get("/debug/pprof/cmdline"), "200", "");
    pid_t pid = fork();
    if (pid == 0) {
        if (weir_debug_port() != 0) _exit(1);
        SERVE();
        if (weir_debug_port() == port) _exit(2);
        CHECK_ANSWER(get("/debug/pprof/goroutine?debug=1"), "200", "total 0\n");
        CHECK_EQ(weir_run(look_from_inside, NULL), 0);
        _exit(0);
    }
    CHECK_EQ(status_of(pid), 0);
    CHECK_ANSWER(get("/debug/pprof/goroutine?debug=1"), "200", "total 0\n");
    send_text(held, "GET /debug/pprof/cmdline HTTP/1.0\r\n\r\n");
    CHECK_ANSWER(receive_all(held), "200", "");
}

static int descriptors(void) {
    int n = 0;
    for (int fd = 0; fd < 256; fd++) n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

/* A child that lives on must not keep clients waiting for an end that they have been sent. */
PLAIN_TEST(a_forked_child_keeps_no_connection_open) {
    int s[4];
    char byte;
    SERVE();
    CHECK_ANSWER(get("/debug/pprof/cmdline"), "200", ""); /* after which names are known, and their files open */
    int before = descriptors();
    for (int i = 0; i < 4; i++) {
        s[i] = dial(weir_debug_port());
        send_text(s[i], "GET /debug/pprof/cmdline HTTP/1.1\r\nHost: x\r\n\r\n");
        CHECK_EQ(recv(s[i], &byte, 1, MSG_PEEK), 1); /* it has been taken in */
    }
    pid_t pid = fork();
    if (pid == 0) {
        for (int i = 0; i < 4; i++) close(s[i]);
        CHECK_LE(descriptors(), before - 4); /* nor has it the listener, and what the server waits by */
        _exit(0);
    }
    CHECK_EQ(status_of(pid), 0);
    CHECK_ANSWER(get("/debug/pprof/cmdline"), "200", "");
}

static void begin_long_request(void) {
    int s = dial(weir_debug_port());
    send_text(s, "GET /debug/pprof/goroutine?seconds=1000 HTTP/1.1\r\nHost: x\r\n\r\n");
}
EXIT_PLAIN_TEST(a_process_may_exit_amid_requests, 7, NULL) {
    SERVE();
    for (int i = 0; i < 4; i++) begin_long_request();
    free(get("/debug/pprof/goroutine?debug=2"));
    exit(7);
}
EXIT_TEST(a_goroutine_may_exit_amid_requests, 7, NULL) {
    SERVE();
    for (int i = 0; i < 4; i++) begin_long_request();
    free(get("/debug/pprof/goroutineleak?debug=2"));
    exit(7);
}

/* ---- Limits --------------------------------------------------------------------------------------- */

/* What was sent before may be taken in a little later. */
static void await_answer(const char *start) {
    for (bool there = false; !there; poll(NULL, 0, there ? 0 : 1)) {
        char *answer = get("/debug/pprof/goroutine?debug=1");
        there = strncmp(answer, start, strlen(start)) == 0;
        free(answer);
    }
}

TEST(more_requests_than_there_are_threads_are_refused) {
    SERVE();
    for (int i = 0; i < 16; i++) begin_long_request();
    await_answer("HTTP/1.1 503");
    CHECK_ANSWER(get("/debug/pprof/goroutine?debug=1"), "503", "too many requests at once");
    CHECK_ANSWER(get("/debug/pprof/nonsense"), "404", "Unknown profile");
}

PLAIN_TEST(a_client_that_goes_frees_its_thread) {
    int s[16];
    SERVE();
    for (int i = 0; i < 16; i++) {
        s[i] = dial(weir_debug_port());
        send_text(s[i], "GET /debug/pprof/goroutine?seconds=1000 HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    await_answer("HTTP/1.1 503");
    for (int i = 0; i < 16; i++) close(s[i]);
    await_answer("HTTP/1.1 200");
}

PLAIN_TEST(more_connections_than_allowed_wait_or_are_closed) {
    int s[100];
    SERVE();
    for (int i = 0; i < 100; i++) s[i] = dial(weir_debug_port());
    for (int i = 0; i < 100; i++)
        if (s[i] >= 0) close(s[i]);
    CHECK_ANSWER(get("/debug/pprof/cmdline"), "200", "");
}

/* Each would take a connection for a minute. */
PLAIN_TEST(clients_that_leave_amid_their_request_do_not_stay) {
    static const char *const beginnings[] = { "G", "GET / HTTP/1.1\r\n",
                                              "POST /debug/pprof/symbol HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n0x" };
    SERVE();
    for (int i = 0; i < 300; i++) {
        int s = dial(weir_debug_port());
        send_text(s, beginnings[i % 3]);
        close(s);
    }
    CHECK_ANSWER(get("/debug/pprof/cmdline"), "200", "");
    for (int i = 0; i < 300; i++) {
        int s = dial(weir_debug_port());
        send_text(s, beginnings[i % 3]);
        shutdown(s, SHUT_WR);
        free(receive_all(s)); /* the server closes it */
    }
    CHECK_ANSWER(get("/debug/pprof/cmdline"), "200", "");
}

TEST(a_long_line_or_body_is_refused) {
    SERVE();
    char *line = malloc(100001);
    memset(line, 'x', 100000);
    line[100000] = 0;
    int s = dial(weir_debug_port());
    send_text(s, "GET /"), send_text(s, line), send_text(s, " HTTP/1.1\r\nHost: x\r\n\r\n");
    char *answer = receive_all(s);
    CHECK(strncmp(answer, "HTTP/1.1 4", 10) == 0 || !*answer);
    free(answer), free(line);
    CHECK_ANSWER(ask("POST", "/debug/pprof/symbol", "Content-Length: 99999999\r\n"), "413", "the body is too large");
    CHECK_ANSWER(get("/debug/pprof/cmdline"), "200", "");
}

/* ---- What is no request --------------------------------------------------------------------------- */

TEST(malformed_requests_by_the_thousand_do_nothing) {
    static const char *const pieces[] = { "GET ", "POST ", "HEAD ", "BREW ", "/", "/debug/pprof/", "goroutine", "goroutineleak", "symbol",
                                          "?debug=2", "?seconds=-1", "&seconds=%00", "?heal=1", " HTTP/1.1", " HTTP/9.9", "\r\n", "\n",
                                          "Host: x", "Content-Length: -5", "Content-Length: 3", "Transfer-Encoding: chunked", "\r\n\r\n",
                                          "ffffffffffff\r\n", "0x1+0x2", "%%%", "\xff\xfe", ":", " " };
    uint64_t state = 42;
    SERVE();
    for (int round = 0; round < 3000; round++) {
        char text[512] = "";
        do {
            state = state * 6364136223846793005u + 1442695040888963407u;
            strncat(text, pieces[(state >> 33) % (sizeof pieces / sizeof pieces[0])], sizeof text - strlen(text) - 1);
        } while (state >> 60 && strlen(text) < sizeof text - 32);
        int s = dial(weir_debug_port());
        CHECK_GE(s, 0);
        send_text(s, text);
        if (round % 2) {
            shutdown(s, SHUT_WR);
            free(receive_all(s)); /* closes it */
        } else {
            close(s);
        }
    }
    CHECK_EQ(weir_count(), 1);
    look_from_inside(NULL);
}

/* ---- Healing -------------------------------------------------------------------------------------- */

static void forgotten(weir_chan *ch) {
    CHECK_EQ(weir_chan_send(ch, NULL), -EDEADLK);
    weir_chan_release(ch);
}
__attribute__((noinline)) static void forget_one(void) {
    weir_chan *ch = weir_chan_make(0, 0);
    CHECK_EQ(weir_go(forgotten, ch), 0);
}

static char *heal(const char *more) { return ask("POST", "/debug/pprof/goroutineleak?heal=1", more); }

TEST(healing_wants_a_permission) {
    SERVE();
    unsetenv("WEIR_DEBUG_HEAL");
    CHECK_ANSWER(heal(""), "403", "without WEIR_DEBUG_HEAL=1");
    setenv("WEIR_DEBUG_HEAL", "0", 1);
    CHECK_ANSWER(heal(""), "403", "without WEIR_DEBUG_HEAL=1");
    setenv("WEIR_DEBUG_HEAL", "1", 1);
    CHECK_ANSWER(heal("Origin: http://evil.example\r\n"), "403", "to web pages");
    CHECK_ANSWER(get("/debug/pprof/goroutineleak?heal=1"), "405", "Allow: POST\r\n");
    CHECK_ANSWER(ask("POST", "/debug/pprof/goroutineleak", ""), "405", "Allow: GET, HEAD\r\n");
}

static int how_often(char *answer, const char *text) {
    int n = 0;
    for (char *at = answer; (at = strstr(at, text)); at++) n++;
    free(answer);
    return n;
}

TEST(who_may_heal_wakes_what_has_leaked) {
#if defined(TEST_TSAN) || defined(TEST_ASAN)
    SKIP("ThreadSanitizer lets no proof be made, and AddressSanitizer's malloc no leak be found");
#endif
    SERVE();
    setenv("WEIR_DEBUG_HEAL", "1", 1);
    CHECK_ANSWER(get("/debug/pprof/"), "200", "<td>never asked</td>");
    for (int i = 0; i < 10; i++) forget_one();
    while (how_often(get("/debug/pprof/goroutine?debug=2"), " [chan send]:\n") < 10) {} /* to look ourselves would leave them on our stack */
    CHECK_ANSWER(get("/debug/pprof/goroutineleak?debug=1"), "200", "goroutineleak profile: total ");
    CHECK_ANSWER(get("/debug/pprof/"), "200", " (proven ");
    char *answer = heal("");
    int leaked = 0, healed = 0;
    CHECK(sscanf(strstr(answer, "\r\n\r\n"), " %d leaked, %d healed", &leaked, &healed) == 2);
    free(answer);
    CHECK_GE(leaked, 1); /* some channels' addresses may yet lie in dead words of main's stack */
    CHECK_EQ(healed, leaked);
    while (weir_count() > 11 - (size_t)healed) weir_sleep(WEIR_MILLISECOND);
}
