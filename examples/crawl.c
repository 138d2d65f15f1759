/*
 * crawl: visit every page of a site once, following the links, so many at a time.
 *
 * Level by level: first the pages that the start page links to, then those that these link to. So each page is visited at its smallest
 * distance, however long the others take, and --depth means what it says. A level is a scope with a limit: a goroutine for each page, but
 * no more than the limit at once, so a page with 10,000 links is 10,000 entries in a list and not 10,000 goroutines.
 *
 * Links are found by libxml2's parser of HTML, and resolved by libcurl's of URLs. A redirect is a link, at the distance of the page itself,
 * so it leads to no page twice and to no other host.
 */
#define _GNU_SOURCE /* tdestroy, strcasestr */
#include <curl/curl.h>
#include <getopt.h>
#include <libxml/HTMLparser.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "weir.h"
#include "weir/http.h"

struct page {
    struct page *next;
    int redirects;          /* that led here */
    char url[];             /* without fragment */
};

struct crawl {
    weir_mutex lock;        /* the fields down to `here` */
    void *seen;             /* a tree (tsearch) of page.url */
    struct page *later;     /* the next level */
    struct page *here;      /* redirected to in this one */
    char *host, *port;      /* of the start page: no other is asked */
    char **disallowed;      /* prefixes of paths, from robots.txt; the last is NULL */
    bool verbose;
    _Atomic size_t pages, bytes, errors, refused;
};

enum { MAX_REDIRECTS = 10 };

static int by_url(const void *a, const void *b) { return strcmp(a, b); }

/* ---- robots.txt ------------------------------------------------------------------------------------------ */

/* The value of a line `name: value # comment`, cut off in place; NULL: another line. */
static char *value_of(char *line, const char *name) {
    size_t n = strlen(name);
    if (strncasecmp(line, name, n) || line[n] != ':') return NULL;
    line += n + 1;
    line += strspn(line, " \t");
    line[strcspn(line, " \t\r#")] = 0;
    return line;
}

/* What those that say `User-agent: *` disallow. Several User-agent lines may head one group of rules. */
static int read_robots(struct crawl *c, char *text) {
    bool heading = false, ours = false;
    size_t n = 0;
    char *value, *rest = NULL;
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        line += strspn(line, " \t");
        if ((value = value_of(line, "User-agent"))) {
            ours = (heading && ours) || !strcmp(value, "*");
            heading = true;
        } else if ((value = value_of(line, "Disallow")) || value_of(line, "Allow")) {
            heading = false;
            if (!ours || !value || !*value) continue;
            char **more = realloc(c->disallowed, (n + 2) * sizeof *more);
            if (!more) return -ENOMEM;
            c->disallowed = more;
            if (!(more[n] = strdup(value))) return -ENOMEM;
            more[++n] = NULL;
        }
    }
    return 0;
}

static bool allowed(struct crawl *c, CURLU *url) {
    char *path = NULL;
    bool fine = !curl_url_get(url, CURLUPART_PATH, &path, 0);
    for (char **prefix = c->disallowed; fine && prefix && *prefix; prefix++) fine = strncmp(path, *prefix, strlen(*prefix));
    curl_free(path);
    return fine;
}

/* ---- Links ----------------------------------------------------------------------------------------------- */

static bool is_ours(struct crawl *c, CURLU *url) {
    char *scheme = NULL, *host = NULL, *port = NULL;
    bool ours = !curl_url_get(url, CURLUPART_SCHEME, &scheme, 0) && !curl_url_get(url, CURLUPART_HOST, &host, 0) &&
                !curl_url_get(url, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) && !strncmp(scheme, "http", 4) &&
                !strcasecmp(host, c->host) && !strcmp(port, c->port);
    curl_free(scheme), curl_free(host), curl_free(port);
    return ours;
}

/* Add the page that `link` on the page `base` leads to, if it is ours and new. */
static void add_link(struct crawl *c, const char *base, const char *link, int redirects) {
    char *text = NULL;
    CURLU *url = curl_url();
    if (!url || curl_url_set(url, CURLUPART_URL, base, 0) || curl_url_set(url, CURLUPART_URL, link, CURLU_URLENCODE) ||
        curl_url_set(url, CURLUPART_FRAGMENT, NULL, 0) || !is_ours(c, url) ||
        curl_url_get(url, CURLUPART_URL, &text, CURLU_NO_DEFAULT_PORT))
        goto out; /* mailto:, javascript:, another host, nonsense */
    struct page *page = malloc(sizeof *page + strlen(text) + 1);
    if (!page) goto out;
    page->redirects = redirects;
    strcpy(page->url, text);
    weir_locked(&c->lock) {
        char **at = tsearch(page->url, &c->seen, by_url);
        bool fresh = at && *at == page->url;
        if (!fresh) {
            free(page);
        } else if (!allowed(c, url)) {
            c->refused++; /* the page is not freed: it lies in the tree */
        } else {
            struct page **to = redirects ? &c->here : &c->later;
            page->next = *to;
            *to = page;
        }
    }
out:
    curl_free(text);
    curl_url_cleanup(url);
}

/* The element after this one in the order of the text, without recursion; NULL: none. */
static xmlNode *after(xmlNode *node) {
    if (node->children && node->type == XML_ELEMENT_NODE) return node->children;
    while (node && !node->next) node = node->parent && node->parent->type == XML_ELEMENT_NODE ? node->parent : NULL;
    return node ? node->next : NULL;
}

static void add_links(struct crawl *c, const struct page *page, const weir_http_response *resp) {
    htmlDocPtr html = htmlReadMemory(resp->body, (int)resp->length, page->url, NULL,
                                     HTML_PARSE_NOERROR | HTML_PARSE_NOWARNING | HTML_PARSE_NONET | HTML_PARSE_COMPACT);
    if (!html) return;
    xmlChar *base = NULL;
    for (xmlNode *node = xmlDocGetRootElement(html); node; node = after(node)) {
        if (node->type != XML_ELEMENT_NODE) continue;
        const char *name = (const char *)node->name;
        bool is_base = !base && !strcasecmp(name, "base");
        if (!is_base && strcasecmp(name, "a") && strcasecmp(name, "area")) continue;
        xmlChar *href = xmlGetProp(node, BAD_CAST "href");
        if (is_base) {
            base = href;
            continue;
        }
        if (href) add_link(c, base ? (const char *)base : page->url, (const char *)href, 0);
        xmlFree(href);
    }
    xmlFree(base);
    xmlFreeDoc(html);
}

/* ---- Visiting -------------------------------------------------------------------------------------------- */

/* Returns nothing: a page that cannot be had is counted, and ends nobody else. */
static void visit(struct crawl *c, const struct page *page, bool follow) {
    weir_http_response resp;
    int error = 0;
    weir_timeout(30 * WEIR_SECOND)
        error = weir_http_do(&(weir_http_request){ .url = page->url, .max_redirects = -1, .user_agent = "weir-crawl/0.1" }, &resp);
    if (error) {
        c->errors++;
        fprintf(stderr, "crawl: %s: %s\n", page->url, resp.error);
        return;
    }
    c->pages++;
    c->bytes += resp.length;
    if (resp.status >= 400) {
        c->errors++;
        fprintf(stderr, "crawl: %s: status %d\n", page->url, resp.status);
    }
    if (c->verbose) printf("%d %zu %s\n", resp.status, resp.length, page->url);
    const char *type = weir_http_header(&resp, "Content-Type"), *to = weir_http_header(&resp, "Location");
    if (resp.status / 100 == 3 && to && page->redirects < MAX_REDIRECTS) add_link(c, page->url, to, page->redirects + 1);
    else if (follow && resp.status == 200 && type && strcasestr(type, "html")) add_links(c, page, &resp);
    weir_http_free(&resp);
}

static void visit_level(struct crawl *c, struct page *level, int workers, bool follow) {
    while (level) {
        weir_scoped(s) {
            weir_scope_limit(&s, workers);
            for (struct page *p = level; p; p = p->next)
                if (weir_scope_go(&s, visit, c, p, follow)) break;
        }
        level = c->here; /* the same distance once more */
        c->here = NULL;
    }
}

static int start(struct crawl *c, const char *url) {
    weir_http_response resp;
    CURLU *parts = curl_url();
    int error = parts ? 0 : -ENOMEM;
    if (!error && (curl_url_set(parts, CURLUPART_URL, url, 0) || curl_url_get(parts, CURLUPART_HOST, &c->host, 0) ||
                   curl_url_get(parts, CURLUPART_PORT, &c->port, CURLU_DEFAULT_PORT) || !is_ours(c, parts))) {
        fprintf(stderr, "crawl: %s: not a URL with http or https\n", url);
        error = -EINVAL;
    }
    char *robots = NULL;
    if (!error && !curl_url_set(parts, CURLUPART_URL, "/robots.txt", 0) && !curl_url_get(parts, CURLUPART_URL, &robots, 0)) {
        error = weir_http_do(&(weir_http_request){ .url = robots, .max_body = 1 << 20, .user_agent = "weir-crawl/0.1" }, &resp);
        if (error) fprintf(stderr, "crawl: %s\n", resp.error);
        else if (resp.status == 200) error = read_robots(c, resp.body);
        weir_http_free(&resp);
    }
    curl_free(robots);
    curl_url_cleanup(parts);
    if (!error) add_link(c, url, url, 0);
    return error;
}

static void free_page(void *url) { free((char *)url - offsetof(struct page, url)); }

static int usage(FILE *to, int status) {
    fputs("usage: crawl [-d N] [-w N] [-v] URL\n"
          "Visit every page of the host that links lead to from URL, each once, as far as its robots.txt allows.\n\n"
          "  -d, --depth N     follow links N deep (default: all the way)\n"
          "  -w, --workers N   N pages at a time (default: 10)\n"
          "  -v, --verbose     print status, bytes and URL of every page\n"
          "  -h, --help        this text\n\n"
          "Exit status: 0, 1 if a page could not be had, 2 for wrong arguments.\n",
          to);
    return status;
}

int weir_main(int argc, char **argv) {
    static const struct option options[] = {
        { "depth", required_argument, NULL, 'd' },
        { "workers", required_argument, NULL, 'w' },
        { "verbose", no_argument, NULL, 'v' },
        { "help", no_argument, NULL, 'h' },
        { 0 }
    };
    struct crawl c = { 0 };
    int depth = -1, workers = 10;
    for (int o; (o = getopt_long(argc, argv, "d:w:vh", options, NULL)) != -1;) {
        if (o == 'h') return usage(stdout, 0);
        if (o == 'd') depth = atoi(optarg);
        else if (o == 'w') workers = atoi(optarg);
        else if (o == 'v') c.verbose = true;
        else return usage(stderr, 2);
    }
    if (optind != argc - 1 || workers < 1) return usage(stderr, 2);
    weir_time begin = weir_now();
    int error = start(&c, argv[optind]);
    for (int at = 0; !error && c.later; at++) {
        struct page *level = c.later;
        c.later = NULL;
        visit_level(&c, level, workers, at != depth);
    }
    if (!error)
        printf("%zu pages, %zu bytes, %zu errors, %zu not allowed, %.2f s\n", c.pages, c.bytes, c.errors, c.refused,
               (double)(weir_now() - begin) / 1e9);
    tdestroy(c.seen, free_page);
    for (char **p = c.disallowed; p && *p; p++) free(*p);
    free(c.disallowed);
    curl_free(c.host), curl_free(c.port);
    weir_http_close_idle();
    return error || c.errors ? 1 : 0;
}
