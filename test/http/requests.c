/* Requests: what is sent, what comes back, and which error says what went wrong. */
#include "server.h"

#include <sys/resource.h>

static struct server server;

/* The answer to `path` must be this error, with that in its sentence. */
static void fails(const char *path, int error, const char *text) {
    weir_http_response resp;
    CHECK_EQ(weir_http_get(URL(&server, path), &resp), error);
    CHECK_CONTAINS(resp.error, text);
    CHECK(!resp.body && !resp.headers && !resp.url);
    weir_http_free(&resp); /* harmless */
}

static void fails_alone(const char *path, int error, const char *text) {
    server_start(&server);
    fails(path, error, text);
    server_stop(&server);
    CHECK_EQ(weir_count(), 1);
}

/* What the server says it was asked, lines and all; freed by the caller. */
static char *echo(weir_http_request req, const char *path) {
    weir_http_response resp;
    req.url = URL(&server, path);
    CHECK_EQ(weir_http_do(&req, &resp), 0);
    CHECK_EQ(resp.status, 200);
    char *text = strdup(resp.body);
    weir_http_free(&resp);
    return text;
}

/* ---- Answers --------------------------------------------------------------------------------------------- */

TEST(a_get_brings_status_headers_and_body) {
    weir_http_response resp;
    server_start(&server);
    CHECK_EQ(weir_http_get(URL(&server, "/ok"), &resp), 0);
    CHECK_EQ(resp.status, 200);
    CHECK_STR(resp.body, "hello");
    CHECK_EQ(resp.length, 5);
    CHECK_STR(resp.error, "");
    CHECK_STR(weir_http_header(&resp, "content-TYPE"), "text/plain");
    CHECK_STR(weir_http_header(&resp, "X-Two"), "a");
    CHECK(!weir_http_header(&resp, "X-Tw"));
    CHECK(!weir_http_header(&resp, "X-Three"));
    CHECK_STR(resp.headers[0], "Content-Length: 5");
    CHECK(!resp.headers[4]);
    CHECK_CONTAINS(resp.url, "/ok");
    weir_http_free(&resp);
    CHECK(!resp.body);
    weir_http_free(&resp);
    weir_http_free(NULL);
    server_stop(&server);
}

TEST(a_status_of_404_is_no_error) {
    weir_http_response resp;
    server_start(&server);
    CHECK_EQ(weir_http_get(URL(&server, "/missing"), &resp), 0);
    CHECK_EQ(resp.status, 404);
    CHECK_STR(resp.body, "nothing here");
    weir_http_free(&resp);
    CHECK_EQ(weir_http_get(URL(&server, "/empty"), &resp), 0);
    CHECK_EQ(resp.status, 204);
    CHECK_STR(resp.body, "");
    CHECK(!resp.headers[0]);
    weir_http_free(&resp);
    server_stop(&server);
}

TEST(headers_of_hints_before_the_answer_are_not_its) {
    weir_http_response resp;
    server_start(&server);
    CHECK_EQ(weir_http_get(URL(&server, "/continue"), &resp), 0);
    CHECK(!weir_http_header(&resp, "X-Early"));
    CHECK_STR(weir_http_header(&resp, "X-Late"), "1");
    weir_http_free(&resp);
    server_stop(&server);
}

TEST(gzip_is_asked_for_and_decoded) {
    weir_http_response resp;
    server_start(&server);
    CHECK_EQ(weir_http_get(URL(&server, "/gzip"), &resp), 0);
    CHECK_STR(resp.body, "hello");
    weir_http_free(&resp);
    char *asked = echo((weir_http_request){ 0 }, "/echo");
    CHECK_CONTAINS(asked, "Accept-Encoding: gzip, deflate\r\n");
    CHECK_CONTAINS(asked, "User-Agent: weir/0.1\r\n");
    free(asked);
    server_stop(&server);
}

TEST(connections_are_used_again) {
    server_start(&server);
    for (int i = 0; i < 50; i++) {
        weir_http_response resp;
        CHECK_EQ(weir_http_get(URL(&server, "/ok"), &resp), 0);
        weir_http_free(&resp);
    }
    CHECK_EQ(server.connections, 1);
    CHECK_EQ(server.requests, 50);
    weir_http_close_idle();
    weir_http_response resp;
    CHECK_EQ(weir_http_get(URL(&server, "/ok"), &resp), 0);
    weir_http_free(&resp);
    CHECK_EQ(server.connections, 2);
    server_stop(&server);
}

/* ---- What is sent ---------------------------------------------------------------------------------------- */

TEST(a_body_is_posted) {
    server_start(&server);
    char *asked = echo((weir_http_request){ .body = "a=b", .body_length = 3 }, "/echo");
    CHECK_CONTAINS(asked, "POST /echo HTTP/1.1\r\n");
    CHECK_CONTAINS(asked, "Content-Length: 3\r\n");
    CHECK_CONTAINS(asked, "\r\n\r\na=b");
    CHECK(!strcasestr(asked, "Content-Type"));
    CHECK(!strcasestr(asked, "Expect"));
    free(asked);
    asked = echo((weir_http_request){ .method = "PATCH", .body = "", .headers = (const char *[]){ "Content-Type: x/y", NULL } }, "/echo");
    CHECK_CONTAINS(asked, "PATCH /echo HTTP/1.1\r\n");
    CHECK_CONTAINS(asked, "Content-Type: x/y\r\n");
    CHECK_CONTAINS(asked, "Content-Length: 0\r\n");
    free(asked);
    asked = echo((weir_http_request){ .method = "POST" }, "/echo");
    CHECK_CONTAINS(asked, "POST /echo HTTP/1.1\r\n");
    CHECK_CONTAINS(asked, "Content-Length: 0\r\n");
    free(asked);
    server_stop(&server);
}

TEST(a_large_body_is_posted_whole) {
    enum { LENGTH = 8 << 20 };
    unsigned char *body = malloc(LENGTH);
    size_t sum = 0;
    char text[32];
    weir_http_response resp;
    for (size_t i = 0; i < LENGTH; i++) sum += body[i] = (unsigned char)(i * 2654435761u >> 24);
    server_start(&server);
    CHECK_EQ(weir_http_do(&(weir_http_request){ .url = URL(&server, "/sink"), .body = body, .body_length = LENGTH }, &resp), 0);
    snprintf(text, sizeof text, "%zu", sum);
    CHECK_STR(resp.body, text);
    weir_http_free(&resp);
    /* Who does not read it holds nobody up beyond the deadline. */
    weir_timeout(100 * WEIR_MILLISECOND)
        CHECK_EQ(weir_http_do(&(weir_http_request){ .url = URL(&server, "/deaf"), .body = body, .body_length = LENGTH }, &resp), -ETIMEDOUT);
    free(body);
    server_stop(&server);
}

TEST(methods_and_headers_are_the_callers) {
    server_start(&server);
    const char *const headers[] = { "X-One: 1", "Accept:", "User-Agent: me", NULL };
    char *asked = echo((weir_http_request){ .method = "DELETE", .headers = headers }, "/echo");
    CHECK_CONTAINS(asked, "DELETE /echo HTTP/1.1\r\n");
    CHECK_CONTAINS(asked, "X-One: 1\r\n");
    CHECK_CONTAINS(asked, "User-Agent: me\r\n");
    CHECK(!strstr(asked, "Accept:"));
    free(asked);
    weir_http_response resp;
    CHECK_EQ(weir_http_do(&(weir_http_request){ .url = URL(&server, "/ok"), .method = "HEAD" }, &resp), 0);
    CHECK_EQ(resp.status, 200);
    CHECK_EQ(resp.length, 0);
    CHECK_STR(weir_http_header(&resp, "Content-Length"), "5");
    weir_http_free(&resp);
    server_stop(&server);
}

TEST(a_header_cannot_smuggle_in_another) {
    weir_http_response resp;
    static const char *const wrong[] = { "X: a\r\nY: b", "X: a\nY: b", "no colon", ": no name", "a b: c", "" };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        const char *const headers[] = { wrong[i], NULL };
        CHECK_EQ(weir_http_do(&(weir_http_request){ .url = "http://127.0.0.1:1/", .headers = headers }, &resp), -EINVAL);
    }
    static const char *const methods[] = { "", "GET /", "A\r\nB", "\xc3\xa4" };
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++)
        CHECK_EQ(weir_http_do(&(weir_http_request){ .url = "http://127.0.0.1:1/", .method = methods[i] }, &resp), -EINVAL);
    CHECK_EQ(weir_http_do(&(weir_http_request){ .url = "http://127.0.0.1:1/", .method = "HEAD", .body = "x" }, &resp), -EINVAL);
}

/* ---- Redirects ------------------------------------------------------------------------------------------- */

TEST(redirects_are_followed_or_not) {
    weir_http_response resp;
    server_start(&server);
    CHECK_EQ(weir_http_get(URL(&server, "/see-other"), &resp), 0);
    CHECK_EQ(resp.status, 200);
    CHECK_CONTAINS(resp.url, "/echo");
    CHECK_CONTAINS(resp.body, "GET /echo");
    CHECK(!weir_http_header(&resp, "Location"));
    weir_http_free(&resp);
    CHECK_EQ(weir_http_do(&(weir_http_request){ .url = URL(&server, "/see-other"), .max_redirects = -1 }, &resp), 0);
    CHECK_EQ(resp.status, 303);
    CHECK_STR(weir_http_header(&resp, "Location"), "/echo");
    weir_http_free(&resp);
    char *asked = echo((weir_http_request){ .body = "b", .body_length = 1 }, "/see-other");
    CHECK_CONTAINS(asked, "GET /echo");
    CHECK(!strstr(asked, "\r\n\r\nb"));
    free(asked);
    asked = echo((weir_http_request){ .body = "b", .body_length = 1 }, "/temporary");
    CHECK_CONTAINS(asked, "POST /echo");
    CHECK_CONTAINS(asked, "\r\n\r\nb");
    free(asked);
    /* Who deletes does not want the next page deleted. */
    CHECK_EQ(weir_http_do(&(weir_http_request){ .url = URL(&server, "/see-other"), .method = "DELETE" }, &resp), 0);
    CHECK_EQ(resp.status, 303);
    weir_http_free(&resp);
    server_stop(&server);
}

TEST(credentials_stay_with_their_host) {
    server_start(&server);
    const char *const headers[] = { "Authorization: Bearer secret", "Cookie: secret", NULL };
    char *asked = echo((weir_http_request){ .headers = headers }, "/see-other");
    CHECK_CONTAINS(asked, "secret");
    free(asked);
    asked = echo((weir_http_request){ .headers = headers }, "/elsewhere");
    CHECK_CONTAINS(asked, "Host: localhost");
    CHECK(!strstr(asked, "secret"));
    free(asked);
    server_stop(&server);
}

TEST(a_redirect_to_itself_ends) {
    fails_alone("/loop", -ELOOP, "too many redirects");
    CHECK_EQ(server.requests, 11);
}
TEST(a_redirect_to_a_file_is_refused) { fails_alone("/to-file", -EINVAL, "file"); }

/* ---- Faults ---------------------------------------------------------------------------------------------- */

TEST(urls_that_are_none_are_refused) {
    static const char *const wrong[] = { "", "127.0.0.1", "ftp://127.0.0.1/", "file:///etc/passwd", "http://", "http://a b/",
                                         "gopher://127.0.0.1/", "http://127.0.0.1:99999/", "/path", "http://[::1" };
    weir_http_response resp;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        CHECK_EQ(weir_http_get(wrong[i], &resp), -EINVAL);
        CHECK_CONTAINS(resp.error, ": Invalid argument");
    }
    CHECK_EQ(weir_http_get(NULL, &resp), -EINVAL);
}

TEST(nobody_listens_is_an_error) {
    setenv("no_proxy", "*", 1);
    weir_http_response resp;
    CHECK_EQ(weir_http_get("http://127.0.0.1:1/", &resp), -ECONNREFUSED);
    CHECK_STR(resp.error, "connect to 127.0.0.1:1: Connection refused");
}

TEST(an_unknown_host_is_an_error) {
    setenv("no_proxy", "*", 1);
    weir_http_response resp;
    CHECK_EQ(weir_http_get("http://no-such-host.invalid/", &resp), -ENOENT);
    CHECK_STR(resp.error, "look up no-such-host.invalid:80: no such host");
}

TEST(a_server_that_hangs_up_is_an_error) { fails_alone("/hangup", -ECONNRESET, "closed before an answer"); }
TEST(a_reset_amid_the_body_is_an_error) { fails_alone("/reset", -ECONNRESET, "Connection reset"); }
TEST(a_body_shorter_than_promised_is_an_error) { fails_alone("/short", -EPROTO, "95 bytes remaining"); }
TEST(what_is_not_http_is_an_error) { fails_alone("/garbage", -EPROTO, "HTTP/0.9"); }
TEST(a_bad_chunk_is_an_error) { fails_alone("/bad-chunk", -EPROTO, "chunk"); }
TEST(bad_gzip_is_an_error) { fails_alone("/bad-gzip", -EPROTO, "127.0.0.1"); }
TEST(endless_headers_are_refused) { fails_alone("/headers", -EMSGSIZE, "large"); }
TEST(an_endless_header_is_refused) { fails_alone("/line", -EMSGSIZE, "large"); }

static void body_is_refused(const char *path) {
    weir_http_response resp;
    server_start(&server);
    CHECK_EQ(weir_http_do(&(weir_http_request){ .url = URL(&server, path), .max_body = 1 << 20 }, &resp), -EMSGSIZE);
    CHECK_CONTAINS(resp.error, "too large");
    server_stop(&server);
    CHECK_EQ(server.cut_off, 1);
}
TEST(an_endless_body_is_refused) { body_is_refused("/endless"); }
TEST(the_limit_counts_what_comes_out_of_gzip) { body_is_refused("/bomb"); }
TEST(there_is_a_limit_by_itself) { fails_alone("/bomb", -EMSGSIZE, "too large"); }

TEST(a_body_of_just_the_limit_is_fine) {
    weir_http_response resp;
    server_start(&server);
    CHECK_EQ(weir_http_do(&(weir_http_request){ .url = URL(&server, "/ok"), .max_body = 5 }, &resp), 0);
    weir_http_free(&resp);
    CHECK_EQ(weir_http_do(&(weir_http_request){ .url = URL(&server, "/ok"), .max_body = 4 }, &resp), -EMSGSIZE);
    server_stop(&server);
}

TEST(no_descriptors_are_left_is_an_error) {
    struct rlimit few, before;
    int none = 0, some = 0;
    weir_http_response resp;
    setenv("no_proxy", "*", 1);
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
    for (int more = 0; more < 12; more++) {
        few = (struct rlimit){ (rlim_t)(open_descriptors() + more), before.rlim_max };
        CHECK_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
        int error = weir_http_get("http://127.0.0.1:1/", &resp);
        CHECK(error == -EMFILE || error == -ECONNREFUSED || error == -ENOMEM); /* curl has no other word for its own descriptors */
        none += error == -EMFILE;
        some += error == -ECONNREFUSED;
        if (error == -EMFILE) CHECK_CONTAINS(resp.error, "Too many open files");
        CHECK_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
        weir_http_close_idle();
    }
    CHECK_GE(none, 2);
    CHECK_GE(some, 1);
    CHECK_EQ(weir_http_get("http://127.0.0.1:1/", &resp), -ECONNREFUSED);
}

PLAIN_TEST(without_a_runtime_nobody_waits) {
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t size = sizeof at;
    char url[64];
    weir_http_response resp;
    setenv("no_proxy", "*", 1);
    int fd = socket(AF_INET, SOCK_STREAM, 0); /* takes connections and no more */
    CHECK_EQ(bind(fd, (struct sockaddr *)&at, size), 0);
    CHECK_EQ(listen(fd, 1), 0);
    CHECK_EQ(getsockname(fd, (struct sockaddr *)&at, &size), 0);
    snprintf(url, sizeof url, "http://127.0.0.1:%d/", ntohs(at.sin_port));
    CHECK_EQ(weir_http_get(url, &resp), -EPERM);
    weir_http_close_idle();
    close(fd);
}

/* ---- A body in pieces ------------------------------------------------------------------------------------ */

struct sink {
    size_t received;
    _Atomic int calls;
    int result;
    weir_duration pause;
};
static int take_piece(const char *data, size_t length, void *arg) {
    struct sink *k = arg;
    for (size_t i = 0; i < length; i++)
        if (data[i] != (char)((k->received + i) * 2654435761u >> 24)) FAIL("byte %zu is wrong", k->received + i);
    k->received += length;
    k->calls++;
    if (k->pause) CHECK_EQ(weir_sleep(k->pause), 0);
    return k->result;
}

TEST(a_large_body_comes_in_pieces) {
    struct sink sink = { 0 };
    weir_http_response resp;
    server_start(&server);
    weir_http_request req = { .url = URL(&server, "/bytes/10000001"), .on_body = take_piece, .arg = &sink };
    CHECK_EQ(weir_http_do(&req, &resp), 0);
    CHECK_EQ(resp.length, 10000001);
    CHECK_EQ(sink.received, 10000001);
    CHECK(!resp.body);
    weir_http_free(&resp);
    req.max_body = 100000;
    sink.received = 0;
    CHECK_EQ(weir_http_do(&req, &resp), -EMSGSIZE);
    CHECK_LE(sink.received, 100000);
    server_stop(&server);
}

/* The one that waits in its callback leads nobody, and keeps no other waiting. */
static weir_unit_chan others_done;
static int take_piece_and_wait(const char *data, size_t length, void *arg) {
    int e = take_piece(data, length, arg);
    CHECK_EQ(weir_recv(others_done, NULL), -EPIPE);
    return e;
}
static void fetch_slowly(struct sink *sink) {
    weir_http_response resp;
    CHECK_EQ(weir_http_do(&(weir_http_request){ .url = URL(&server, "/bytes/1000000"), .on_body = take_piece_and_wait, .arg = sink }, &resp), 0);
    CHECK_EQ(sink->received, 1000000);
    weir_http_free(&resp);
}

TEST(a_callback_may_block) {
    struct sink sink = { .pause = WEIR_MILLISECOND };
    others_done = weir_make(weir_unit_chan, 0);
    server_start(&server);
    weir_scoped(s) {
        CHECK_EQ(weir_scope_go(&s, fetch_slowly, &sink), 0);
        TEST_UNTIL(sink.calls == 1);
        for (int i = 0; i < 5; i++) {
            weir_http_response resp;
            CHECK_EQ(weir_http_get(URL(&server, "/ok"), &resp), 0);
            weir_http_free(&resp);
        }
        CHECK_EQ(sink.calls, 1);
        weir_close(others_done);
    }
    CHECK_GE(sink.calls, 10);
    weir_release(others_done);
    server_stop(&server);
}

TEST(a_callback_ends_the_request) {
    struct sink sink = { .result = -ENOSPC };
    weir_http_response resp;
    server_start(&server);
    CHECK_EQ(weir_http_do(&(weir_http_request){ .url = URL(&server, "/bytes/10000000"), .on_body = take_piece, .arg = &sink }, &resp),
             -ENOSPC);
    CHECK_CONTAINS(resp.error, "No space left");
    CHECK_EQ(resp.status, 200);
    CHECK_EQ(sink.calls, 1);
    server_stop(&server);
}

/* Nothing is read ahead without bound: the server is held up. */
static int count_only(const char *data, size_t length, void *arg) {
    size_t *received = arg;
    *received += length;
    return weir_sleep(5 * WEIR_MILLISECOND);
}
static void watched_until_the_deadline(const char *path) {
    size_t received = 0;
    weir_duration d = 100 * WEIR_MILLISECOND / 2;
    do { /* a deadline that comes before the first byte is another case */
        weir_http_response resp;
        d *= 2;
        server_start(&server);
        weir_timeout(d)
            CHECK_EQ(weir_http_do(&(weir_http_request){ .url = URL(&server, path), .on_body = count_only, .arg = &received }, &resp),
                     -ETIMEDOUT);
        CHECK_LE(received, (size_t)(d / (5 * WEIR_MILLISECOND) + 1) * (80 << 10));
        server_stop(&server);
    } while (!received && d < 30 * WEIR_SECOND);
    CHECK_GE(received, 1);
    CHECK_EQ(server.cut_off, 1);
}
TEST(an_endless_body_can_be_watched_until_the_deadline) { watched_until_the_deadline("/endless"); }
TEST(an_endless_gzip_can_be_watched_until_the_deadline) { watched_until_the_deadline("/bomb"); }
