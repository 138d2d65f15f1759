// The interface from C++: lambdas, references, handles in containers, RAII around what is counted. Run by
// programs.sh; prints what went wrong, and exits with the number of failures.
#include <weir.h>

#include <atomic>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

static int failures;
static void check(bool holds, const char *what, int line) {
    if (holds) return;
    std::fprintf(stderr, "%d: %s does not hold\n", line, what);
    failures++;
}
#define CHECK(condition) check(condition, #condition, __LINE__)

struct point {
    int x, y;
};
typedef WEIR_CHAN(int) int_chan;
using point_chan = WEIR_CHAN(point);
WEIR_CHAN_DECLARE(tagged_chan, struct point);
struct request {
    const char *text;
    int_chan reply;
};
typedef WEIR_CHAN(request) request_chan;
typedef WEIR_CHAN(std::string *) string_chan;

static void count_up(int_chan out, int n) {
    for (int i = 0; i < n; i++)
        if (weir_send(out, i)) break;
    weir_close(out);
    weir_release(out);
}

static void a_producer() {
    int_chan ch = weir_make(int_chan, 0);
    CHECK(weir_go(count_up, weir_retain(ch), 100) == 0);
    int sum = 0;
    for (int v; weir_recv(ch, &v) == 0;) sum += v;
    CHECK(sum == 4950);
    weir_release(ch);
}

static void lambdas() {
    point_chan ch = weir_make(point_chan, 3);
    for (int i = 0; i < 3; i++)
        CHECK(weir_go([](point_chan out, double x, int y) { (void)!weir_send(out, { static_cast<int>(x), y }); }, ch, i,
                      10 * i) == 0);
    int x = 0, y = 0;
    for (int i = 0; i < 3; i++) {
        point p;
        CHECK(weir_recv(ch, &p) == 0);
        x += p.x, y += p.y;
    }
    CHECK(x == 3 && y == 30);
    weir_release(ch);
}

static void null_arguments() {
    static std::atomic<int> seen;
    CHECK(weir_go([](void *p, const char *t, std::nullptr_t) noexcept { seen = p == nullptr && t == nullptr ? 1 : 2; },
                  NULL, nullptr, nullptr) == 0);
    while (!seen) weir_yield();
    CHECK(seen == 1);
}

static void objects_by_pointer() {
    string_chan ch = weir_make(string_chan, 2);
    weir_chan_on_drop(ch, [](void *elem) { delete *static_cast<std::string **>(elem); });
    CHECK(weir_send(ch, new std::string("one")) == 0 && weir_send(ch, new std::string("two")) == 0);
    std::string *raw;
    CHECK(weir_recv(ch, &raw) == 0);
    std::unique_ptr<std::string> own(raw);
    CHECK(*own == "one");
    weir_release(ch); // deletes "two"
}

static void a_server() {
    request_chan requests = weir_make(request_chan, 0);
    CHECK(weir_go([](request_chan in) {
              for (request r; weir_recv(in, &r) == 0;) {
                  const std::string text = r.text;
                  (void)!weir_send(r.reply, static_cast<int>(text.size()));
              }
              weir_release(in);
          }, weir_retain(requests)) == 0);
    int_chan reply = weir_make(int_chan, 1);
    const std::vector<std::string> texts = { "", "a", "bcd" };
    for (const auto &t : texts) {
        int length = -1;
        CHECK(weir_send(requests, { t.c_str(), reply }) == 0);
        CHECK(weir_recv(reply, &length) == 0);
        CHECK(length == static_cast<int>(t.size()));
    }
    weir_close(requests);
    weir_release(requests), weir_release(reply);
}

static void selects() {
    std::vector<int_chan> chans;
    std::vector<weir_arm> arms;
    int v = 0;
    bool ok = false;
    for (int i = 0; i < 20; i++) {
        chans.push_back(weir_make(int_chan, 1));
        arms.push_back(weir_on_recv(chans.back(), &v));
    }
    CHECK(weir_send(chans[13], 5) == 0);
    CHECK(weir_selectv(arms.data(), arms.size()) == 13 && v == 5);
    CHECK(weir_select(weir_on_recv_ok(chans[0], &v, &ok), weir_on_send(chans[1], 7), weir_on_done(nullptr)) == 1);
    CHECK(weir_select(weir_on_recv(chans[0], &v), weir_on_recv_ok(chans[1], &v, &ok), weir_on_after(WEIR_HOUR)) == 1);
    CHECK(ok && v == 7);
    CHECK(weir_select(weir_on_recv(chans[0], &v), weir_on_default()) == 1);
    CHECK(weir_select(weir_on_after(WEIR_MILLISECOND)) == 0);
    const point p = { 3, 4 };
    tagged_chan t = weir_make(tagged_chan, 1);
    point q = {};
    CHECK(weir_select(weir_on_send_ptr(t, &p)) == 0 && weir_recv(t, &q) == 0 && q.y == 4);
    weir_release(t);
    for (auto c : chans) weir_release(c);
}

static int add_all(int from, int to, std::atomic<long> *sum) {
    for (int i = from; i < to; i++) *sum += i;
    return 0;
}
static void scopes() {
    std::atomic<long> sum{ 0 };
    int err = -1;
    weir_scoped(s, &err) {
        for (int i = 0; i < 10; i++) weir_scope_go(&s, add_all, 100 * i, 100 * (i + 1), &sum);
    }
    CHECK(err == 0 && sum == 999 * 1000 / 2);
    weir_scoped(s, &err) {
        weir_scope_go(&s, [](int code) { return code; }, 7);
        weir_scope_go(&s, [] { weir_sleep(WEIR_HOUR); }); // is cancelled
    }
    CHECK(err == 7);
}

static void contexts_and_blocks() {
    weir_timeout(2 * WEIR_MILLISECOND) { CHECK(weir_sleep(WEIR_HOUR) == -ETIMEDOUT); }
    WEIR_AUTO_CANCEL weir_ctx *ctx = weir_ctx_with_cancel(nullptr);
    weir_ctx_cancel(ctx);
    weir_with(ctx) {
        CHECK(weir_sleep(WEIR_HOUR) == -ECANCELED);
        weir_shield(WEIR_SECOND) { CHECK(weir_sleep(WEIR_MICROSECOND) == 0); }
    }
    static weir_mutex m = WEIR_MUTEX_INIT;
    weir_locked(&m) { CHECK(weir_mutex_try_lock(&m) == -EAGAIN); }
    CHECK(weir_mutex_try_lock(&m) == 0 && weir_mutex_unlock(&m) == 0);
}

static void wait_groups() {
    weir_wg wg = WEIR_WG_INIT;
    static std::atomic<int> ran;
    for (int i = 0; i < 50; i++) CHECK(weir_wg_go(&wg, [] { ran++; }) == 0);
    CHECK(weir_wg_wait(&wg) == 0);
    CHECK(ran == 50);
}

// Exceptions are ordinary control flow within a goroutine.
static void throws_and_catches(int_chan out) {
    int got = 0;
    try {
        weir_yield();
        throw std::string("thrown");
    } catch (const std::string &s) {
        got = static_cast<int>(s.size());
    }
    (void)!weir_send(out, got);
    weir_release(out);
}
static void exceptions() {
    int_chan ch = weir_make(int_chan, 0);
    for (int i = 0; i < 20; i++) CHECK(weir_go(throws_and_catches, weir_retain(ch)) == 0);
    for (int i = 0; i < 20; i++) {
        int v = 0;
        CHECK(weir_recv(ch, &v) == 0 && v == 6);
    }
    weir_release(ch);
}

static std::atomic<int> destroyed;
struct counted {
    ~counted() { destroyed++; }
};
static void destructors_run_when_a_block_is_left() {
    for (int i = 0; i < 3; i++) {
        weir_timeout(WEIR_SECOND) {
            counted c;
            if (i) break;
        }
    }
    CHECK(destroyed == 3);
}

static std::atomic<int> left;
static void leaks() {
    int_chan never = weir_make(int_chan, 0);
    weir_on_leak([](const char *name, const weir_leak_report *report) {
        if (std::string(name) == "left" && std::string(weir_leak_report_at(report, 0)->state) == "chan receive") left++;
    });
    weir_no_leaks("none") CHECK(weir_go([] {}) == 0);
    weir_no_leaks("left") {
        counted c;
        CHECK(weir_go([](int_chan ch) { (void)!weir_recv(ch, nullptr); }, never) == 0);
    }
    CHECK(left == 1 && destroyed == 4);
    weir_leak_ignore(weir_chan_of(never)), weir_leak_unignore(weir_chan_of(never));
    weir_leak_root(&never, sizeof never), weir_leak_unroot(&never, sizeof never);
    weir_leak_report *report = nullptr;
    CHECK(weir_leaks(&report) <= 0 && weir_leak_report_count(report) == 0);
    CHECK(weir_leak_heal(report) == 0);
    weir_leak_report_free(report);
    weir_leak_watch(WEIR_HOUR, [](const weir_leak_report *, void *) {}, nullptr);
    weir_watch_count(10, WEIR_HOUR, [](size_t, void *) {}, nullptr);
    weir_leak_watch(0, nullptr, nullptr), weir_watch_count(0, 0, nullptr, nullptr);
    weir_close(never), weir_release(never);
}

int weir_main(int argc, char **argv) {
    (void)argc, (void)argv;
    a_producer();
    lambdas();
    null_arguments();
    objects_by_pointer();
    a_server();
    selects();
    scopes();
    contexts_and_blocks();
    wait_groups();
    exceptions();
    destructors_run_when_a_block_is_left();
    leaks();
    return failures;
}
