/* Ending requests: at once, seen by the server, and with nothing left behind. And who drives when the one who did is gone. */
#include "server.h"
#include "threads.h"

#include <dlfcn.h>
#include <malloc.h>
#include <netdb.h>
#include <stdlib.h>

static struct server server;

/* ---- One request ----------------------------------------------------------------------------------------- */

/* The deadline ends it at once, and the server sees the connection close. */
static void times_out(const char *path, const char *text) {
    weir_http_response resp;
    weir_duration d = 100 * WEIR_MILLISECOND / 2, took;
    bool in_time; /* not so early that it comes in an earlier step, nor while the machine was elsewhere */
    do {
        d *= 2;
        server_start(&server);
        weir_time start = weir_now();
        weir_timeout(d) CHECK_EQ(weir_http_get(URL(&server, path), &resp), -ETIMEDOUT);
        took = weir_now() - start;
        CHECK_GE(took, d);
        in_time = strstr(resp.error, text) && took <= d + test_slowness() * WEIR_SECOND;
        if (in_time) TEST_UNTIL(server.cut_off == 1);
        server_stop(&server);
    } while (!in_time && d < 10 * WEIR_SECOND);
    CHECK_CONTAINS(resp.error, text);
    CHECK_LE(took, d + test_slowness() * WEIR_SECOND);
    CHECK_EQ(weir_count(), 1);
}
TEST(a_deadline_ends_a_wait_for_the_answer) { times_out("/never", "wait for the answer of 127.0.0.1"); }
TEST(a_deadline_ends_a_slow_body) { times_out("/slow", "read the answer of 127.0.0.1"); }

TEST(a_deadline_ends_the_wait_for_a_connection) {
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t size = sizeof at;
    char url[64];
    weir_http_response resp;
    setenv("no_proxy", "*", 1);
    int fd = socket(AF_INET, SOCK_STREAM, 0), full[4];
    CHECK_EQ(bind(fd, (struct sockaddr *)&at, size), 0);
    CHECK_EQ(listen(fd, 0), 0);
    CHECK_EQ(getsockname(fd, (struct sockaddr *)&at, &size), 0);
    for (int i = 0; i < 4; i++) { /* nobody accepts them: the queue is full, and more are not answered */
        full[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        (void)!connect(full[i], (struct sockaddr *)&at, size);
    }
    snprintf(url, sizeof url, "http://127.0.0.1:%d/", ntohs(at.sin_port));
    weir_duration d = 25 * WEIR_MILLISECOND;
    do { /* not so early that it comes in an earlier step */
        d *= 2;
        weir_timeout(d) CHECK_EQ(weir_http_get(url, &resp), -ETIMEDOUT);
    } while (!strstr(resp.error, "connect to 127.0.0.1") && d < 10 * WEIR_SECOND);
    CHECK_CONTAINS(resp.error, "connect to 127.0.0.1");
    for (int i = 0; i < 4; i++) close(full[i]);
    close(fd);
    weir_http_close_idle();
}

/* Stands before libc's: a name server that does not answer until it may. */
static _Atomic int looking_up;
static _Atomic bool may_answer;
int getaddrinfo(const char *host, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
    int (*libcs)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
    if (!strcmp(host, "slow.test")) {
        looking_up++;
        while (!may_answer) usleep(1000);
        looking_up--;
        return EAI_NONAME;
    }
    *(void **)&libcs = dlsym(RTLD_NEXT, "getaddrinfo");
    return libcs(host, service, hints, found);
}

TEST(a_deadline_ends_the_lookup_of_a_name) {
    weir_http_response resp;
    setenv("no_proxy", "*", 1);
    for (int i = 0; i < 5; i++) {
        weir_duration d = 25 * WEIR_MILLISECOND;
        do { /* until it comes so far in time. It does not wait for curl's thread, which may still be on its way, and cannot end. */
            d *= 2;
            weir_timeout(d) CHECK_EQ(weir_http_get("http://slow.test/", &resp), -ETIMEDOUT);
        } while ((strncmp(resp.error, "look up", 7) || !looking_up) && d < 10 * WEIR_SECOND);
        CHECK_STR(resp.error, "look up slow.test:80: the deadline has passed");
    }
    may_answer = true;
    TEST_UNTIL(!looking_up);
    weir_http_close_idle();
    CHECK_EQ(weir_http_get("http://slow.test/", &resp), -ENOENT); /* without a deadline it waits, as long as it takes */
}

TEST(who_is_cancelled_before_does_nothing) {
    weir_http_response resp;
    server_start(&server);
    weir_ctx *ctx = weir_ctx_with_cancel(NULL);
    weir_ctx_cancel(ctx);
    weir_with(ctx) CHECK_EQ(weir_http_get(URL(&server, "/ok"), &resp), -ECANCELED);
    weir_ctx_release(ctx);
    CHECK_CONTAINS(resp.error, "/ok: cancelled");
    CHECK_EQ(server.connections, 0);
    server_stop(&server);
}

/* ---- Leading ----------------------------------------------------------------------------------------------- */

static _Atomic int ended;
static void get(const char *path, int result) {
    weir_http_response resp;
    CHECK_EQ(weir_http_get(URL(&server, path), &resp), result);
    weir_http_free(&resp);
    ended++;
}

/* The first is the leader; it goes, the rest are served all the same. */
TEST(when_the_leader_is_cancelled_another_leads) {
    server_start(&server);
    weir_ctx *ctx = weir_ctx_with_cancel(NULL);
    weir_with(ctx) weir_scoped(s) {
        CHECK_EQ(weir_scope_go(&s, get, "/never", -ECANCELED), 0);
        TEST_UNTIL(server.requests == 1);
        weir_shield(WEIR_MINUTE) weir_scoped(rest) {
            for (int i = 0; i < 10; i++) CHECK_EQ(weir_scope_go(&rest, get, i % 2 ? "/bytes/3000000" : "/ok", 0), 0);
            weir_ctx_cancel(ctx);
        }
    }
    weir_ctx_release(ctx);
    CHECK_EQ(ended, 11);
    server_stop(&server);
    CHECK_EQ(server.cut_off, 1);
}

TEST(when_the_leader_has_its_answer_another_leads) {
    server_start(&server);
    weir_scoped(s)
        for (int i = 0; i < 50; i++) CHECK_EQ(weir_scope_go(&s, get, i % 2 ? "/bytes/300000" : "/ok", 0), 0);
    CHECK_EQ(ended, 50);
    server_stop(&server);
}

static weir_wg threads_left;
static void *get_on_a_thread(void *arg) {
    for (int i = 0; i < 20; i++) get(arg, 0);
    weir_wg_done(&threads_left);
    return NULL;
}

TEST(threads_of_the_programs_own_ask_too) {
    enum { THREADS = 4 };
    pthread_t threads[THREADS];
    server_start(&server);
    weir_wg_add(&threads_left, THREADS);
    for (int i = 0; i < THREADS; i++) threads[i] = thread_start(get_on_a_thread, "/ok");
    weir_scoped(s)
        for (int i = 0; i < 20; i++) CHECK_EQ(weir_scope_go(&s, get, "/bytes/100000", 0), 0);
    CHECK_EQ(weir_wg_wait(&threads_left), 0);
    for (int i = 0; i < THREADS; i++) thread_end(threads[i]);
    CHECK_EQ(ended, THREADS * 20 + 20);
    server_stop(&server);
}

TEST(who_waits_for_an_answer_has_not_leaked) {
    server_start(&server);
    weir_ctx *ctx = weir_ctx_with_cancel(NULL);
    weir_with(ctx) weir_scoped(s) {
        for (int i = 0; i < 5; i++) CHECK_EQ(weir_scope_go(&s, get, "/never", -ECANCELED), 0);
        TEST_UNTIL(server.requests == 5);
        weir_leak_report *report;
        int leaks = weir_leaks(&report);
        CHECK(leaks == 0 || leaks == -EBUSY); /* proven not to, or not proven */
        weir_leak_report_free(report);
        weir_ctx_cancel(ctx);
    }
    weir_ctx_release(ctx);
    server_stop(&server);
}

TEST(idle_connections_are_closed_while_requests_go_on) {
    server_start(&server);
    weir_ctx *ctx = weir_ctx_with_cancel(NULL);
    weir_with(ctx) weir_scoped(s) {
        CHECK_EQ(weir_scope_go(&s, get, "/never", -ECANCELED), 0);
        TEST_UNTIL(server.requests == 1);
        weir_http_close_idle();
        weir_http_close_idle();
        CHECK_EQ(server.cut_off, 0);
        weir_shield(WEIR_MINUTE) get("/ok", 0); /* in a pool of its own by now */
        weir_ctx_cancel(ctx);
    }
    weir_ctx_release(ctx);
    server_stop(&server);
    CHECK_EQ(server.cut_off, 1);
}

/* ---- Storms ------------------------------------------------------------------------------------------------ */

static _Atomic long answered, cut;
static int drop(const char *data, size_t length, void *arg) { return 0; }

static void get_in_storm(unsigned random) {
    static const char *const paths[] = { "/ok", "/never", "/bytes/200000", "/slow", "/missing", "/see-other", "/bytes/1000" };
    weir_http_response resp;
    bool easy = random / 14 % 50 == 0; /* some are answered, however slow things are */
    weir_http_request req = { .url = URL(&server, paths[easy ? 0 : random % 7]), .on_body = random / 7 % 2 ? drop : NULL };
    weir_ctx *ctx = weir_ctx_with_timeout(NULL, easy ? WEIR_MINUTE : random / 14 % 1000 * 20 * WEIR_MICROSECOND);
    weir_with(ctx) {
        int error = weir_http_do(&req, &resp);
        if (error) CHECK(error == -ETIMEDOUT || error == -ECANCELED);
        else weir_http_free(&resp);
        if (error) cut++;
        else answered++;
    }
    weir_ctx_release(ctx);
}

static void storm(long rounds, int requests) {
    for (long i = 0; i < rounds; i++) {
        weir_scoped(s) {
            for (int k = 0; k < requests; k++) CHECK_EQ(weir_scope_go(&s, get_in_storm, (unsigned)random()), 0);
            if (i % 3 == 0) {
                weir_sleep(random() % 2000 * WEIR_MICROSECOND);
                weir_scope_cancel(&s);
            }
        }
        if (i % 10 == 0) weir_http_close_idle();
    }
    weir_http_close_idle();
    get("/ok", 0); /* by a new connection: those that came before it have been accepted too, when this is answered */
    weir_http_close_idle();
    while (weir_count() > 2) test_pause(); /* the server's ends of the connections; we and who accepts stay */
}

enum { SOME = 16 << 10, THREAD = 80 << 10 }; /* what may be kept: by whatever was busier than before; of a thread more */

static size_t in_use(void) {
    struct mallinfo2 m = mallinfo2(); /* of all arenas; 0 under a sanitizer */
    return m.uordblks + m.hblkhd;
}

TEST(a_storm_leaves_nothing_that_a_sanitizer_finds) {
    server_start(&server);
    storm(TEST_SCALE(30), 100);
    server_stop(&server);
}

static int storm_leaves_nothing(void *arg) {
    server_start(&server);
    storm(TEST_SCALE(30), 100); /* what is kept for ever is there after this */
    int descriptors = open_descriptors();
    size_t bytes = in_use();
    int threads = entries_of("/proc/self/task");
    answered = cut = 0;
    storm(TEST_SCALE(200), 100);
    CHECK_EQ(open_descriptors(), descriptors);
    size_t more = in_use() > bytes ? in_use() - bytes : 0;
    threads = entries_of("/proc/self/task") - threads;
    if (more > (size_t)(SOME + (threads > 0 ? threads * THREAD : 0)))
        FAIL("%zu bytes and %d threads more after %ld requests", more, threads, answered + cut);
    CHECK_GE(answered, TEST_SCALE(20));
    CHECK_GE(cut, TEST_SCALE(20));
    server_stop(&server);
    CHECK_EQ(weir_count(), 1);
    fprintf(stderr, "nothing left of %ld requests, %ld of them cut off; %zu bytes more\n", answered + cut, cut, more);
    return 0;
}

/* Without the threads' caches of free memory, which the count would take for memory in use: asks malloc for that, so starts anew. */
EXIT_PLAIN_TEST(a_storm_of_cancellations_leaves_nothing, 0, "nothing left of") {
    static char *const again[] = { "storm", "--no-fork", "a_storm_of_cancellations_leaves_nothing", NULL };
    if (getenv("GLIBC_TUNABLES")) exit(weir_run(storm_leaves_nothing, NULL));
    setenv("GLIBC_TUNABLES", "glibc.malloc.tcache_count=0", 1);
    execv("/proc/self/exe", again);
    FAIL("execv: %s", strerror(errno));
}
