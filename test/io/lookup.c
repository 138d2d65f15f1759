/* Looking names up, with a resolver of ours in place of the system's: it answers when it is told to. */
#include "net_test.h"
#include "../leak/allocator.h"
#include "threads.h"

#include <netdb.h>
#include <netinet/in.h>
#include <stdatomic.h>

/* ---- The resolver ---------------------------------------------------------------------------------- */

static _Atomic int asking, most, answered, answers_left = 1 << 30, given;

static struct addrinfo *answer_ipv6(struct addrinfo *rest, const char *service) {
    struct addrinfo *a = calloc(1, sizeof *a);
    struct sockaddr_in6 *in = calloc(1, sizeof *in);
    CHECK(a && in);
    *in = (struct sockaddr_in6){ .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT, .sin6_port = htons(service ? 7 : 0) };
    *a = (struct addrinfo){ .ai_family = AF_INET6, .ai_addrlen = sizeof *in, .ai_addr = (struct sockaddr *)in, .ai_next = rest };
    given++;
    return a;
}
static struct addrinfo *answer_with(struct addrinfo *rest, unsigned host, const char *service) {
    struct addrinfo *a = calloc(1, sizeof *a);
    struct sockaddr_in *in = calloc(1, sizeof *in);
    CHECK(a && in);
    *in = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr.s_addr = htonl(host), .sin_port = htons(service ? 7 : 0) };
    *a = (struct addrinfo){ .ai_family = AF_INET, .ai_addrlen = sizeof *in, .ai_addr = (struct sockaddr *)in, .ai_next = rest };
    given++;
    return a;
}

void freeaddrinfo(struct addrinfo *a) {
    for (struct addrinfo *next; a; a = next) {
        next = a->ai_next;
        free(a->ai_addr);
        free(a);
        given--;
    }
}

/* Blocks its thread until there is an answer to give. The host says what it is: "error 5", "10 addresses", "twice", "both" families, …, else one address. */
int getaddrinfo(const char *host, const char *service, const struct addrinfo *hints, struct addrinfo **out) {
    int now = ++asking, seen = most, left;
    while (now > seen && !atomic_compare_exchange_weak(&most, &seen, now)) {}
    for (;;) {
        left = answers_left;
        if (left > 0 && atomic_compare_exchange_weak(&answers_left, &left, left - 1)) break;
        usleep(200);
    }
    asking--;
    answered++;
    int n = 0, eai = 0;
    *out = NULL;
    if (sscanf(host, "error %d", &eai) == 1) {
        errno = EMFILE;
        return eai;
    }
    if (strcmp(host, "twice") == 0) *out = answer_with(answer_with(NULL, 1, service), 1, service);
    else if (strcmp(host, "local") == 0) *out = answer_with(NULL, INADDR_LOOPBACK, service);
    else if (strcmp(host, "both") == 0) *out = answer_ipv6(answer_with(NULL, INADDR_LOOPBACK, service), service);
    else if (strcmp(host, "only ipv6") == 0) *out = answer_ipv6(NULL, service);
    else if (sscanf(host, "%d addresses", &n) != 1) n = 1;
    for (; n > 0; n--) *out = answer_with(*out, 0x7f010000 + (unsigned)n, service); /* 127.1.0.n */
    return 0;
}

/* ---- Answers --------------------------------------------------------------------------------------- */

static void gives(const char *host, const char *text) {
    weir_address a;
    char got[64];
    CHECK_EQ(weir_lookup(host, &a, 1), 1);
    CHECK_GE(weir_address_text(&a, got, sizeof got), 1);
    CHECK_STR(got, text);
}

TEST(an_address_is_not_looked_up) {
    gives("127.0.0.1", "127.0.0.1:0");
    gives("::1", "[::1]:0");
    gives("2001:db8::5", "[2001:db8::5]:0");
    CHECK_EQ(weir_lookup("10.0.0.1", NULL, 0), 1);
    CHECK_EQ(answered, 0);
    CHECK_EQ(weir_lookup(NULL, NULL, 0), -EINVAL);
    CHECK_EQ(weir_lookup("", NULL, 0), -EINVAL);
    CHECK_EQ(answered, 0);
}

TEST(what_looks_like_an_address_and_is_none_is_a_name) {
    static const char *const names[] = { "127.1", "1", "256.1.1.1", "127.0.0.1 ", "::1%no-such-interface", "1:2:3:4:5:6:7:8:9" };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) CHECK_GE(weir_lookup(names[i], NULL, 0), 1);
    CHECK_EQ(answered, (int)(sizeof names / sizeof *names));
}

TEST(as_many_addresses_are_written_as_there_is_room_for) {
    weir_address a[12];
    memset(a, 0x55, sizeof a);
    CHECK_EQ(weir_lookup("10 addresses", a, 3), 10);
    CHECK_EQ(a[2].length, sizeof(struct sockaddr_in));
    CHECK_EQ(a[3].length, 0x55555555);
    CHECK_EQ(weir_lookup("10 addresses", a, 12), 10);
    CHECK_EQ(a[10].length, 0x55555555);
    CHECK_EQ(weir_lookup("10 addresses", NULL, 0), 10);
    CHECK_EQ(weir_lookup("twice", a, 12), 1);
    CHECK_EQ(given, 0);
}

TEST(errors_of_the_resolver) {
    static const struct {
        int eai, error;
    } all[] = { { EAI_NONAME, -ENOENT }, { EAI_AGAIN, -EAGAIN },   { EAI_MEMORY, -ENOMEM }, { EAI_SYSTEM, -EMFILE },
                { EAI_FAIL, -EIO },      { EAI_SERVICE, -EINVAL }, { EAI_FAMILY, -EIO },    { EAI_NODATA, -ENOENT } };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        char host[32];
        snprintf(host, sizeof host, "error %d", all[i].eai);
        CHECK_EQ(weir_lookup(host, NULL, 0), all[i].error);
        strcat(host, ":80");
        CHECK_EQ(weir_dial("tcp", host), all[i].error);
        CHECK_EQ(weir_listen("udp", host), all[i].error);
    }
    CHECK_EQ(weir_lookup("0 addresses", NULL, 0), -ENOENT);
    TEST_UNTIL(weir_count() == 1);
}

TEST(a_service_is_looked_up_with_its_host) {
    int fd = dial_to("udp", "local:echo");
    CHECK_STR(peer_text(fd).at, "127.0.0.1:7");
    shut(fd);
}

TEST(of_both_families_the_ipv4_address_is_listened_at_and_each_is_dialled) {
    int fd = listen_on("tcp", "both:0");
    char address[32];
    CHECK(strncmp(local_text(fd).at, "127.0.0.1:", 10) == 0);
    snprintf(address, sizeof address, "both:%u", port_of(fd));
    int client = dial_to("tcp", address); /* nobody is at ::1 */
    CHECK_STR(peer_text(client).at, local_text(fd).at);
    shut(client);
    shut(fd);
    if (!has_ipv6()) SKIP("no IPv6 here");
    fd = listen_on("tcp", "only ipv6:0");
    CHECK(strncmp(local_text(fd).at, "[::1]:", 6) == 0);
    shut(fd);
}

TEST(the_first_addresses_of_very_many_are_tried) {
    CHECK_EQ(weir_dial("tcp", "100 addresses:9"), -ECONNREFUSED);
}

static void *look_up_on_a_thread(void *arg) {
    CHECK_EQ(weir_lookup("local", NULL, 0), 1);
    *(_Atomic int *)arg = 1;
    return NULL;
}
TEST(a_thread_of_the_programs_own_may_look_up) {
    _Atomic int done = 0;
    pthread_t t = thread_start(look_up_on_a_thread, &done);
    TEST_UNTIL(done);
    thread_end(t);
}

PLAIN_TEST(without_a_runtime_no_name_is_looked_up) {
    CHECK_EQ(weir_lookup("local", NULL, 0), -EPERM);
    CHECK_EQ(weir_lookup("127.0.0.1", NULL, 0), 1);
}

/* ---- Waiting --------------------------------------------------------------------------------------- */

static _Atomic int done;
static void looks_up(const char *host, int result) {
    CHECK_EQ(weir_lookup(host, NULL, 0), result);
    done++;
}
static void lets_answer(int n) { answers_left += n; }

/* With one processor: the resolver must have none of it. */
TEST(others_go_on_while_the_resolver_blocks) {
    CHECK_GE(weir_procs(1), 1);
    answers_left = 0;
    TEST_GO(looks_up, "host", 1);
    test_until_n_parked(1, "IO wait");
    TEST_UNTIL(asking == 1);
    CHECK_EQ(weir_count(), 3); /* with the one that asks */
    lets_answer(1);
    TEST_UNTIL(done == 1 && weir_count() == 1);
}

TEST(who_is_cancelled_goes_at_once_and_the_answer_is_dropped) {
    answers_left = 0;
    weir_scoped(s) {
        CHECK_EQ(weir_scope_go(&s, looks_up, "5 addresses", -ECANCELED), 0);
        test_until_n_parked(1, "IO wait");
        weir_scope_cancel(&s);
    }
    for (weir_duration d = 5 * WEIR_MILLISECOND; weir_count() < 3; d *= 2) /* until it has been asked before its time is over */
        weir_timeout(d) CHECK_EQ(weir_lookup("host", NULL, 0), -ETIMEDOUT);
    for (weir_duration d = 5 * WEIR_MILLISECOND; weir_count() < 4; d *= 2)
        weir_timeout(d) CHECK_EQ(weir_dial("tcp", "host:80"), -ETIMEDOUT);
    weir_timeout(-1) CHECK_EQ(weir_lookup("host", NULL, 0), -ETIMEDOUT); /* not even asked */
    TEST_UNTIL(asking == 3);
    CHECK_EQ(weir_count(), 4);
    lets_answer(3);
    TEST_UNTIL(weir_count() == 1);
    CHECK_EQ(given, 0);
    CHECK_EQ(answered, 3);
}

TEST(no_more_than_32_are_asked_at_once) {
    enum { MANY = 100 };
    answers_left = 0;
    for (int i = 0; i < MANY; i++) TEST_GO(looks_up, "host", 1);
    test_until_n_parked(32, "IO wait");
    test_until_n_parked(MANY - 32, "semacquire");
    weir_timeout(5 * WEIR_MILLISECOND) CHECK_EQ(weir_lookup("host", NULL, 0), -ETIMEDOUT); /* whoever waits for his turn, too */
    TEST_UNTIL(asking == 32);
    lets_answer(MANY);
    TEST_UNTIL(done == MANY && weir_count() == 1);
    CHECK_EQ(most, 32);
    CHECK_EQ(answered, MANY);
}

TEST(who_waits_for_an_answer_or_his_turn_has_not_leaked) {
    PROOF_WANTS_SIGNALS();
    answers_left = 0;
    for (int i = 0; i < 40; i++) TEST_GO(looks_up, "host", 1);
    test_until_n_parked(32, "IO wait");
    test_until_n_parked(8, "semacquire");
    weir_leak_report *report = NULL;
    int leaks = weir_leaks(&report);
    CHECK(leaks == 0 || leaks == -EBUSY); /* proven not to, or not proven */
    weir_leak_report_free(report);
    lets_answer(40);
    TEST_UNTIL(done == 40 && weir_count() == 1);
}

TEST(a_lookup_that_has_ended_leaves_nothing) {
    weir_no_leaks("lookup") CHECK_EQ(weir_lookup("host", NULL, 0), 1);
}

static void looks_up_or_is_cancelled(void) {
    int n = weir_lookup("3 addresses", NULL, 0);
    CHECK(n == 3 || n == -ECANCELED);
}

/* Answer and cancel come at the same moment. */
TEST(an_answer_is_taken_or_dropped_never_lost) {
    long rounds = TEST_SCALE(300);
    for (long i = 0; i < rounds; i++) {
        answers_left = 0;
        weir_scope s;
        CHECK_EQ(weir_scope_open(&s, NULL), 0);
        for (int n = 0; n < 4; n++)
            CHECK_EQ(weir_scope_go(&s, looks_up_or_is_cancelled), 0);
        if (i % 2) TEST_UNTIL(asking == 4);
        lets_answer(4);
        if (i % 3) weir_yield();
        weir_scope_cancel(&s);
        CHECK_EQ(weir_scope_close(&s), 0);
        TEST_UNTIL(weir_count() == 1);
        CHECK_EQ(given, 0);
    }
}

/* ---- Stopping the runtime -------------------------------------------------------------------------- */

static int leave_32_asking(void *arg) {
    for (int i = 0; i < 32; i++) TEST_GO(looks_up, "host", 1);
    TEST_UNTIL(asking == 32);
    return 0;
}
static int look_up_again(void *arg) {
    CHECK_EQ(weir_lookup("host", NULL, 0), 1);
    return 0;
}

PLAIN_TEST(what_was_asked_in_one_run_takes_no_place_in_the_next) {
    answers_left = 0;
    CHECK_EQ(weir_run(leave_32_asking, NULL), 0);
    answers_left = 1000;
    CHECK_EQ(weir_run(look_up_again, NULL), 0);
    test_ignore_leaks();
}
