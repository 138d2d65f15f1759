/* What the debug server reads by itself of what comes from outside; and its fuzz target, for a moment. */
#include "test.h"

#include "../../fuzz/debug_parse.c"

static void takes(const char *text, const char *host, int port) {
    char found[64];
    uint16_t number;
    CHECK(wr_parse_address(text, found, sizeof found, &number));
    CHECK(strcmp(found, host) == 0);
    CHECK_EQ(number, port);
}
static bool refuses(const char *text) {
    char host[64];
    uint16_t port;
    return !wr_parse_address(text, host, sizeof host, &port);
}

PLAIN_TEST(an_address_is_a_host_and_a_port) {
    takes("127.0.0.1:6060", "127.0.0.1", 6060);
    takes("localhost:0", "localhost", 0);
    takes("[::1]:65535", "::1", 65535);
    takes("[fe80::1%eth0]:80", "fe80::1%eth0", 80);
    takes(":6060", "", 6060);
}

PLAIN_TEST(what_is_no_address_is_refused) {
    static const char *const none[] = { "",       "6060",     "127.0.0.1",  "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:65536", "127.0.0.1:-1",
                                        "::1:80", "[::1]",    "[]:80",      "[::1:80",    "::1]:80",     "127.0.0.1:+80",   "[[::1]]:80",
                                        ":",      "host:80 ", "host:80/",   "]:1",        "[:1" };
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++)
        if (!refuses(none[i])) FAIL("\"%s\" was taken", none[i]);
    char longer[200];
    memset(longer, 'a', sizeof longer);
    memcpy(longer + sizeof longer - 4, ":80", 4);
    CHECK(refuses(longer));
}

static const char *value_in(const char *query, const char *name) {
    static char value[16];
    return wr_query_get(query, name, value, sizeof value) ? value : NULL;
}
#define CHECK_VALUE(query, name, want) CHECK(value_in(query, name) && strcmp(value_in(query, name), want) == 0)

PLAIN_TEST(the_first_field_of_a_name_counts) {
    CHECK_VALUE("debug=1", "debug", "1");
    CHECK_VALUE("seconds=3&debug=1&debug=2", "debug", "1");
    CHECK_VALUE("&&debug=2&", "debug", "2");
    CHECK_VALUE("debug", "debug", "");
    CHECK_VALUE("debug=", "debug", "");
    CHECK_VALUE("debug=1=2", "debug", "1=2");
    CHECK(!value_in("", "debug"));
    CHECK(!value_in("debugs=1&xdebug=2", "debug"));
}

PLAIN_TEST(names_and_values_are_decoded) {
    CHECK_VALUE("%64ebug=%31+%2b", "debug", "1 +");
    CHECK(!value_in("debug=%3", "debug"));
    CHECK(!value_in("debug=%zz", "debug"));
    CHECK(!value_in("debug=1%00", "debug"));
    CHECK(!value_in("debug=1;seconds=2", "debug"));
    CHECK_VALUE("debug=%3&debug=2", "debug", "2"); /* what is malformed is passed by */
    CHECK_VALUE("debug=01234567890123456789", "debug", "012345678901234"); /* what has no room is cut */
}

static int64_t integer_of(const char *text, int want) {
    int64_t n;
    CHECK_EQ(wr_parse_integer(text, &n), want);
    return n;
}

PLAIN_TEST(integers_are_those_of_go) {
    CHECK_EQ(integer_of("0", 0), 0);
    CHECK_EQ(integer_of("+12", 0), 12);
    CHECK_EQ(integer_of("-12", 0), -12);
    CHECK_EQ(integer_of("9223372036854775807", 0), INT64_MAX);
    CHECK_EQ(integer_of("-9223372036854775808", 0), INT64_MIN);
    CHECK_EQ(integer_of("9223372036854775808", -ERANGE), INT64_MAX);
    CHECK_EQ(integer_of("-99999999999999999999", -ERANGE), INT64_MIN);
    static const char *const none[] = { "", "-", "+", "1x", " 1", "0x10", "1e3", "--1", "1_000" };
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++) CHECK_EQ(integer_of(none[i], -EINVAL), 0);
}

struct found {
    size_t n;
    uintptr_t at[8];
};
static void keep(uintptr_t address, void *arg) {
    struct found *f = arg;
    if (f->n < 8) f->at[f->n] = address;
    f->n++;
}

PLAIN_TEST(addresses_are_separated_by_plus) {
    static const char text[] = "0x10+16+020+0+x+0x+18446744073709551616+0xFFFFFFFFFFFFFFFF+08+";
    struct found f = { 0 };
    wr_parse_addresses(text, sizeof text - 1, keep, &f);
    CHECK_EQ(f.n, 4);
    CHECK_EQ(f.at[0], 16);
    CHECK_EQ(f.at[1], 16);
    CHECK_EQ(f.at[2], 16);
    CHECK(f.at[3] == UINTPTR_MAX);
}

PLAIN_TEST(texts_made_at_random_do_no_harm) {
    static const char pieces[][8] = { "[",  "]",     ":", "%", "%4",    "%00", "&",  "=",   "+",
                                      ";", "0x", "debug", "-", "9", "99999", "f",   "\n", "\xff" };
    uint64_t state = 1;
    for (int round = 0; round < 200000; round++) {
        uint8_t text[65] = { 0 };
        size_t n = 1;
        text[0] = (uint8_t)round;
        for (;;) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            const char *piece = pieces[(state >> 33) % (sizeof pieces / sizeof pieces[0])];
            size_t length = strlen(piece);
            if (n + length > 64 || (state >> 60) == 0) break;
            memcpy(text + n, piece, length);
            n += length;
        }
        LLVMFuzzerTestOneInput(text, n);
    }
}
