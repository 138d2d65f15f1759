/*
 * A recursion that spawns.
 *
 * crawl() fetches a page and starts a goroutine for each of its links: at depth 5 with 10 links a page that is 111,110
 * goroutines. They end, so this is no leak; they are there at once, and so this program counts how many at most.
 *
 * The web is made of numbers here: page p has links to the pages 10p + 1 … 10p + 10, and fetching it takes a while.
 */
#include "support/leaks.h"

#include <stdatomic.h>

#define DEPTH 5
#define LINKS 10
#define PAGES 111111 /* 1 + 10 + … + 10^5 */
#define WORKERS 10
#define QUEUE 100
#define LATENCY (200 * WEIR_MICROSECOND)

typedef uint64_t url;

static atomic_size_t most; /* goroutines at once */
static atomic_int in_place; /* pages that were crawled by whoever found the link */
static weir_wg pages;       /* those not seen yet; waiting for 0 shows that none was skipped */

/* Asked before a form and after it; each begins to count anew. */
static size_t at_most(void) {
    size_t n = atomic_exchange(&most, 0);
    return n ? n : weir_count();
}

static void see(void) {
    size_t n = weir_count(), seen = most;
    while (seen < n && !atomic_compare_exchange_weak(&most, &seen, n)) {}
    weir_wg_done(&pages);
}

static int fetch_links(url page, url links[LINKS]) {
    for (int i = 0; i < LINKS; i++) links[i] = LINKS * page + 1 + (url)i;
    return weir_sleep(LATENCY);
}

static void crawl(url page, int depth) {
    url links[LINKS];
    see();
    if (depth <= 0 || fetch_links(page, links) != 0) return;
    for (int i = 0; i < LINKS; i++) {
        if (weir_go(crawl, links[i], depth - 1) == 0) continue;
        in_place++; /* no memory for yet another stack */
        crawl(links[i], depth - 1);
    }
}

/*
 * The pool of workers with a bounded queue. Two things are easily got wrong, and the article's pool gets them wrong.
 * When may the queue be closed? Not once the first page is in it, for the workers are still to send their finds: only
 * when no page is left that is queued or being crawled, which takes a count. And when the queue is full? A worker must
 * not wait for room, since all workers may do so at once, and should not drop the page: it crawls it itself. The depth
 * bounds that recursion.
 */
struct job {
    url page;
    int depth;
};
typedef WEIR_CHAN(struct job) job_chan;

struct pool {
    job_chan jobs;
    atomic_long outstanding; /* queued, or being crawled */
};

static void visit(struct pool *pool, struct job j) {
    url links[LINKS];
    see();
    if (j.depth > 0 && fetch_links(j.page, links) == 0) {
        for (int i = 0; i < LINKS; i++) {
            struct job next = { links[i], j.depth - 1 };
            pool->outstanding++;
            if (weir_try_send(pool->jobs, next) == 0) continue;
            in_place++;
            visit(pool, next);
        }
    }
    /* Who takes the count to 0 is the only one left, and has sent all that it had to send. */
    if (--pool->outstanding == 0) weir_close(pool->jobs);
}

static void work(struct pool *pool) {
    for (struct job j; weir_recv(pool->jobs, &j) == 0;) visit(pool, j);
}

static void crawl_in_pool(url start, int depth, int workers) {
    struct pool pool = { weir_make(job_chan, QUEUE), 1 };
    weir_wg running = WEIR_WG_INIT;
    for (int i = 0; i < workers; i++)
        if (weir_wg_go(&running, work, &pool) != 0) say("    no memory for worker %d\n", i);
    if (weir_send(pool.jobs, (struct job){ start, depth }) != 0 || weir_wg_wait(&running) != 0)
        say("    the crawl was cut short\n");
    weir_release(pool.jobs);
}

/* The scope is the pool: it knows how many run and when the last has ended. No queue, no count, nothing to close. */
static void crawl_scoped(weir_scope *s, url page, int depth) {
    url links[LINKS];
    see();
    if (depth <= 0 || fetch_links(page, links) != 0) return;
    for (int i = 0; i < LINKS; i++) {
        if (weir_scope_try_go(s, crawl_scoped, s, links[i], depth - 1) == 0) continue;
        in_place++;
        crawl_scoped(s, links[i], depth - 1);
    }
}

static void begin(void) {
    in_place = 0;
    pages = (weir_wg)WEIR_WG_INIT;
    weir_wg_add(&pages, PAGES);
}

static void end(void) {
    if (weir_wg_wait(&pages) != 0) return;
    say("    %d pages crawled, %d of them in place, none skipped; at most %zu goroutines at once\n", PAGES, in_place,
        most);
}

static void leaky(void) {
    begin();
    if (weir_go(crawl, (url)0, DEPTH) != 0) return;
    end();
}

static void pool(void) {
    begin();
    crawl_in_pool(0, DEPTH, WORKERS);
    end();
}

static void scoped(void) {
    begin();
    weir_scoped(s) {
        weir_scope_limit(&s, WORKERS);
        weir_scope_go(&s, crawl_scoped, &s, (url)0, DEPTH);
    }
    end();
}

int main(int argc, char **argv) {
    static const struct pattern pattern = {
        .name = "crawl",
        .title = "a goroutine for each link, depth 5, 10 links a page",
        .forms = { { "leaky", LEAKY, leaky }, { "pool", FIXED, pool }, { "scoped", SCOPED, scoped } },
        .count = at_most,
        .unit = "goroutines at once",
        .note = "not stuck: 111,110 were started, and ended",
    };
    return run_pattern(argc, argv, &pattern);
}
