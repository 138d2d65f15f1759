/* Requests by TLS and HTTP/2, of a real server, which programs.sh starts: it has /one.txt and /big, of 50 MiB, and WEIR_TEST_CA is its
 * certificate. */
#include "test.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "weir/http.h"

enum { BIG = 50 << 20, ONE = 4 };

static char one[128], big[128];

static void need_server(void) {
    const char *url = getenv("WEIR_TEST_URL");
    if (!url) SKIP("no server here: programs.sh has one");
    snprintf(one, sizeof one, "%s/one.txt", url);
    snprintf(big, sizeof big, "%s/big", url);
}

TEST(a_certificate_is_trusted_or_not) {
    weir_http_response resp;
    need_server();
    CHECK_EQ(weir_http_get(one, &resp), -EKEYREJECTED);
    CHECK_CONTAINS(resp.error, "TLS with localhost:");
    CHECK_CONTAINS(resp.error, "certificate");
    CHECK_EQ(weir_http_do(&(weir_http_request){ .url = one, .ca_file = "/nonexistent" }, &resp), -EINVAL);
    CHECK_EQ(weir_http_do(&(weir_http_request){ .url = one, .ca_file = getenv("WEIR_TEST_CA") }, &resp), 0);
    CHECK_STR(resp.body, "one\n");
    weir_http_free(&resp);
    CHECK_EQ(weir_http_do(&(weir_http_request){ .url = one, .insecure = true }, &resp), 0);
    weir_http_free(&resp);
}

static _Atomic long answered, cut;

static int slowly(const char *data, size_t length, void *arg) {
    return random() % 8 ? 0 : weir_sleep(random() % 1000 * WEIR_MICROSECOND);
}

/* Most share one connection; some are paused, some are cut off in the middle, by which the others must not notice anything. */
static void get_in_storm(void) {
    for (long i = TEST_SCALE(12); i > 0; i--) { /* nginx enciphers up to 32 MiB ahead for each that is cut off */
        long chance = random();
        weir_http_response resp;
        weir_http_request req = { .url = chance % 2 ? one : big, .insecure = true, .on_body = chance / 2 % 2 ? slowly : NULL };
        weir_duration limit = chance % 2 && chance / 4 % 2 ? WEIR_MINUTE : random() % 20000 * WEIR_MICROSECOND;
        weir_timeout(limit) {
            int error = weir_http_do(&req, &resp);
            if (error) CHECK_EQ(error, -ETIMEDOUT), CHECK_LE(limit, WEIR_SECOND);
            else CHECK_EQ(resp.length, chance % 2 ? ONE : BIG), weir_http_free(&resp);
            if (error) cut++;
            else answered++;
        }
    }
}

TEST(a_storm_on_a_shared_connection_leaves_nothing) {
    need_server();
    weir_scoped(s)
        for (int i = 0; i < 50; i++) CHECK_EQ(weir_scope_go(&s, get_in_storm), 0);
    weir_http_close_idle();
    CHECK_EQ(weir_count(), 1);
    CHECK_GE(answered, 10);
    CHECK_GE(cut, 10);
}
