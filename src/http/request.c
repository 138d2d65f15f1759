/* A request, from its options to its answer, on its caller's goroutine. */
#include "http/http.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)
#define USER_AGENT "weir/" TEXT(WEIR_VERSION_MAJOR) "." TEXT(WEIR_VERSION_MINOR)

enum { MAX_REDIRECTS = 10 };
#define MAX_BODY ((int64_t)64 << 20)

static pthread_once_t once = PTHREAD_ONCE_INIT; /* a few ms, in which nobody parks */
static CURLcode started;
static void start_curl(void) { started = curl_global_init(CURL_GLOBAL_DEFAULT); }

/* ---- Options ----------------------------------------------------------------------------------------- */

static bool is_token(const char *s) {
    static const char chars[] = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    return *s && !s[strspn(s, chars)];
}

/* Whether a line may go out as a header: it cannot smuggle in another. */
static bool is_header(const char *line) {
    const char *colon = strchr(line, ':');
    return colon && colon != line && !memchr(line, ' ', (size_t)(colon - line)) && !line[strcspn(line, "\r\n")];
}

static bool names(const char *line, const char *name) {
    size_t n = strlen(name);
    return !strncasecmp(line, name, n) && line[n] == ':';
}

static bool add_header(struct wr_http *r, const char *line) {
    struct curl_slist *longer = curl_slist_append(r->headers, line);
    if (longer) r->headers = longer;
    return longer;
}

static int set_headers(struct wr_http *r) {
    bool type = false, expect = false, fine = true;
    for (const char *const *h = r->asked->headers; h && *h; h++) {
        if (!is_header(*h)) return -EINVAL;
        type |= names(*h, "Content-Type");
        expect |= names(*h, "Expect");
        fine = fine && add_header(r, *h);
    }
    /* With a body curl would claim that it is a form, and wait a second for a server that does not say "continue". */
    if (r->asked->body && !type) fine = fine && add_header(r, "Content-Type:");
    if (r->asked->body && !expect) fine = fine && add_header(r, "Expect:");
    return fine ? 0 : -ENOMEM;
}

static int set_url(struct wr_http *r) {
    char *scheme = NULL;
    r->url = curl_url();
    if (!r->url) return -ENOMEM;
    if (!r->asked->url || curl_url_set(r->url, CURLUPART_URL, r->asked->url, CURLU_NON_SUPPORT_SCHEME) ||
        curl_url_get(r->url, CURLUPART_SCHEME, &scheme, 0))
        return -EINVAL;
    bool ours = !strcmp(scheme, "http") || !strcmp(scheme, "https");
    curl_free(scheme);
    return ours ? 0 : -EINVAL;
}

/* Errors of single options are out of memory and nothing else. */
static int set_method(struct wr_http *r) {
    const weir_http_request *asked = r->asked;
    const char *method = asked->method ? asked->method : asked->body ? "POST" : "GET";
    bool head = !strcmp(method, "HEAD"), get = !strcmp(method, "GET"), post = !strcmp(method, "POST");
    unsigned failed = 0;
    if (!is_token(method) || (head && asked->body)) return -EINVAL;
    if (head) {
        failed |= curl_easy_setopt(r->easy, CURLOPT_NOBODY, 1L);
    } else if (asked->body || post) {
        failed |= curl_easy_setopt(r->easy, CURLOPT_POST, 1L);
        failed |= curl_easy_setopt(r->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)(asked->body ? asked->body_length : 0));
        failed |= curl_easy_setopt(r->easy, CURLOPT_POSTFIELDS, asked->body ? (const char *)asked->body : "");
    }
    if (!head && !(asked->body ? post : get || post)) failed |= curl_easy_setopt(r->easy, CURLOPT_CUSTOMREQUEST, method);
    /* curl would keep a method that it does not know, after 303 too. */
    bool follow = asked->max_redirects >= 0 && (head || get || post);
    failed |= curl_easy_setopt(r->easy, CURLOPT_FOLLOWLOCATION, follow ? 1L : 0L);
    failed |= curl_easy_setopt(r->easy, CURLOPT_MAXREDIRS, asked->max_redirects ? (long)asked->max_redirects : MAX_REDIRECTS);
    return failed ? -ENOMEM : 0;
}

/* As curl would, but closed on exec. curl loses the error. */
static curl_socket_t open_socket(void *request, curlsocktype purpose, struct curl_sockaddr *to) {
    struct wr_http *r = request;
    int fd = socket(to->family, to->socktype | SOCK_CLOEXEC, to->protocol);
    r->socket_error = fd < 0 ? errno : 0;
    return fd;
}

static int set_rest(struct wr_http *r) {
    const weir_http_request *asked = r->asked;
    CURL *c = r->easy;
    unsigned failed = 0;
    failed |= curl_easy_setopt(c, CURLOPT_CURLU, r->url);
    failed |= curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
    failed |= curl_easy_setopt(c, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
    failed |= curl_easy_setopt(c, CURLOPT_HTTPHEADER, r->headers);
    failed |= curl_easy_setopt(c, CURLOPT_USERAGENT, asked->user_agent ? asked->user_agent : USER_AGENT);
    failed |= curl_easy_setopt(c, CURLOPT_ACCEPT_ENCODING, "gzip, deflate");
    failed |= curl_easy_setopt(c, CURLOPT_PRIVATE, r);
    failed |= curl_easy_setopt(c, CURLOPT_ERRORBUFFER, r->why);
    failed |= curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, wr_http_on_header);
    failed |= curl_easy_setopt(c, CURLOPT_HEADERDATA, r);
    failed |= curl_easy_setopt(c, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    failed |= curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, wr_http_on_body);
    failed |= curl_easy_setopt(c, CURLOPT_WRITEDATA, r);
    failed |= curl_easy_setopt(c, CURLOPT_OPENSOCKETFUNCTION, open_socket);
    failed |= curl_easy_setopt(c, CURLOPT_OPENSOCKETDATA, r);
    failed |= curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    failed |= curl_easy_setopt(c, CURLOPT_QUICK_EXIT, 1L); /* ending does not wait for a thread that looks up a name */
    failed |= curl_easy_setopt(c, CURLOPT_SSL_VERIFYPEER, asked->insecure ? 0L : 1L);
    failed |= curl_easy_setopt(c, CURLOPT_SSL_VERIFYHOST, asked->insecure ? 0L : 2L);
    if (asked->ca_file) failed |= curl_easy_setopt(c, CURLOPT_CAINFO, asked->ca_file);
    r->max_body = asked->max_body > 0 ? asked->max_body : asked->max_body < 0 || asked->on_body ? -1 : MAX_BODY;
    return failed ? -ENOMEM : 0;
}

static int prepare(struct wr_http *r) {
    pthread_once(&once, start_curl);
    if (started) return -ENOMEM;
    int error = set_url(r);
    if (!error) error = set_headers(r);
    if (!error && !(r->easy = curl_easy_init())) error = -ENOMEM;
    if (!error) error = set_method(r);
    return error ? error : set_rest(r);
}

/* ---- The conversation ---------------------------------------------------------------------------------- */

/* What on_body says of what has come. The lock is not held meanwhile; then curl may go on. */
static int hand_on(struct wr_http *r, const struct bytes *taken) {
    wr_http_unlock();
    int error = r->asked->on_body(taken->data, taken->length, r->asked->arg);
    wr_http_lock();
    if (error >= 0 && r->paused && !r->done) {
        r->paused = false;
        CURLcode code = curl_easy_pause(r->easy, CURLPAUSE_CONT); /* may call back */
        if (code) r->code = code, r->done = true;
    }
    return error < 0 ? error : 0;
}

/* Lock held. 0: done, and all of the body has been handed on. */
static int converse(struct wr_http *r) {
    struct bytes taken = { 0 };
    int error = 0;
    for (;;) {
        error = wr_http_wait(r);
        bool comes = wr_http_body_comes(r, &taken);
        if (!comes && r->done) error = 0; /* it has ended, and just before the context */
        if (!comes || error) break;
        if ((error = hand_on(r, &taken))) break;
    }
    free(taken.data);
    return error;
}

static int perform(struct wr_http *r) {
    long status = 0;
    int error = wr_http_begin(r);
    if (error) return wr_http_ended(r, error);
    error = converse(r);
    curl_easy_getinfo(r->easy, CURLINFO_RESPONSE_CODE, &status);
    r->answer->status = (int)status;
    if (!error && r->code && !r->error) error = wr_http_failed(r, r->code);
    else if ((error = error ? error : r->error)) wr_http_ended(r, error);
    wr_http_end(r);
    if (error) return error;
    error = wr_http_fill_answer(r);
    return error ? wr_http_ended(r, error) : 0;
}

int weir_http_do(const weir_http_request *req, weir_http_response *resp) {
    memset(resp, 0, sizeof *resp);
    struct wr_http *r = calloc(1, sizeof *r);
    if (!r) {
        snprintf(resp->error, sizeof resp->error, "out of memory");
        return -ENOMEM;
    }
    r->asked = req;
    r->answer = resp;
    int error = weir_ctx_err(NULL);
    if (!error) error = prepare(r);
    error = error ? wr_http_ended(r, error) : perform(r);
    curl_easy_cleanup(r->easy);
    curl_slist_free_all(r->headers);
    curl_url_cleanup(r->url);
    free(r->body.data);
    free(r->head.data);
    free(r);
    return error;
}

int weir_http_get(const char *url, weir_http_response *resp) {
    return weir_http_do(&(weir_http_request){ .url = url }, resp);
}
