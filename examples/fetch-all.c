/*
 * fetch-all: fetch many pages, at most so many at once, and print them in the order in which they were asked for.
 *
 * Each fetch is a goroutine in one scope, which has a limit: the goroutine that starts them waits at the limit. Each writes to a place of
 * its own, so nothing need be sent or sorted. The first that fails cancels the scope, so the others are cut off in the middle, their
 * connections closed; and when the scope has ended, all of them have.
 */
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "weir.h"
#include "weir/http.h"

struct page {
    char *url;
    int status;
    size_t bytes;
};

/* The page itself is not needed: what is not kept takes no memory. */
static int drop(const char *data, size_t length, void *arg) {
    (void)data, (void)length, (void)arg;
    return 0;
}

static const char *ca_file; /* NULL: the system's */

static int fetch(struct page *page, weir_duration timeout) {
    weir_http_response resp;
    weir_http_request req = { .url = page->url, .on_body = drop, .ca_file = ca_file };
    int error = 0;
    weir_timeout(timeout) error = weir_http_do(&req, &resp);
    if (error) {
        if (error != -ECANCELED) fprintf(stderr, "fetch-all: %s\n", resp.error);
        return error;
    }
    page->status = resp.status;
    page->bytes = resp.length;
    weir_http_free(&resp);
    return 0;
}

static int fetch_all(struct page *pages, size_t n, int jobs, weir_duration timeout) {
    int error = 0;
    weir_scoped(s, &error) {
        weir_scope_limit(&s, jobs);
        for (size_t i = 0; i < n; i++)
            if (weir_scope_go(&s, fetch, &pages[i], timeout)) break; /* one has failed: the scope says which error */
    }
    return error;
}

static bool add(struct page **pages, size_t *n, const char *url) {
    struct page *more = realloc(*pages, (*n + 1) * sizeof **pages);
    if (!more) return false;
    *pages = more;
    more[*n] = (struct page){ .url = strdup(url) };
    return more[(*n)++].url;
}

static bool add_lines(struct page **pages, size_t *n, FILE *from) {
    char *line = NULL;
    size_t size = 0;
    bool fine = true;
    while (fine && getline(&line, &size, from) > 0) {
        line[strcspn(line, "\r\n")] = 0;
        if (*line) fine = add(pages, n, line);
    }
    free(line);
    return fine;
}

static int usage(FILE *to, int status) {
    fputs("usage: fetch-all [-j N] [-t SECONDS] [-c FILE] [URL...]\n"
          "Fetch pages, and print status, bytes and URL of each, in the order of asking.\n"
          "Without a URL they are read from standard input, one a line. The first that fails ends it; a status such as 404\n"
          "is no failure.\n\n"
          "  -j, --jobs N         at most N at once (default: 10)\n"
          "  -t, --timeout S      give each S seconds (default: 30)\n"
          "  -c, --ca FILE        trust the certificates in FILE (PEM) only\n"
          "  -h, --help           this text\n\n"
          "Exit status: 0, 1 if a page could not be fetched, 2 for wrong arguments.\n",
          to);
    return status;
}

int weir_main(int argc, char **argv) {
    static const struct option options[] = {
        { "jobs", required_argument, NULL, 'j' },
        { "timeout", required_argument, NULL, 't' },
        { "ca", required_argument, NULL, 'c' },
        { "help", no_argument, NULL, 'h' },
        { 0 }
    };
    struct page *pages = NULL;
    size_t n = 0;
    double seconds = 30;
    int jobs = 10;
    bool fine = true;
    for (int c; (c = getopt_long(argc, argv, "j:t:c:h", options, NULL)) != -1;) {
        if (c == 'h') return usage(stdout, 0);
        if (c == 'c') ca_file = optarg;
        else if (c == 'j') jobs = atoi(optarg);
        else if (c == 't') seconds = atof(optarg);
        else return usage(stderr, 2);
    }
    if (jobs < 1 || !(seconds > 0 && seconds < 1e6)) return usage(stderr, 2);
    for (int i = optind; i < argc && fine; i++) fine = add(&pages, &n, argv[i]);
    if (optind == argc) fine = add_lines(&pages, &n, stdin);
    int error = fine ? fetch_all(pages, n, jobs, (weir_duration)(seconds * WEIR_SECOND)) : -ENOMEM;
    for (size_t i = 0; i < n; i++) {
        if (!error) printf("%d %zu %s\n", pages[i].status, pages[i].bytes, pages[i].url);
        free(pages[i].url);
    }
    free(pages);
    if (!fine) fputs("fetch-all: out of memory\n", stderr);
    return error ? 1 : 0;
}
