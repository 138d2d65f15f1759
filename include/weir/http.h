/*
 * HTTP: requests that block the goroutine and obey its context. A library of its own, libweir-http, on top of libcurl (pkg-config
 * weir-http); weir.h does not bring it in. Go: net/http's Client.
 *
 *     weir_http_response resp;
 *     weir_timeout(5 * WEIR_SECOND) error = weir_http_get("https://example.com/", &resp);
 *     if (error) fprintf(stderr, "%s\n", resp.error);
 *     else printf("%d, %zu bytes\n", resp.status, resp.length), weir_http_free(&resp);
 *
 * What holds for all requests
 * - When the current context ends, the request ends at once, wherever it is, with -ECANCELED or -ETIMEDOUT: its connection is closed, so
 *   the server sees it too. There is no other time limit, but curl's own of 5 minutes for getting a connection.
 * - Connections are kept and used again, 100 idle ones at most. No goroutine and no thread is behind them; while a name is looked up,
 *   curl has a thread for that.
 * - http_proxy, https_proxy, all_proxy and no_proxy count, as everywhere. No cookies are kept, no .netrc is read.
 * - A stack of 32 KiB is enough for a request, with TLS too.
 * - Any goroutine or thread may call, while a runtime runs. What weir_run leaves behind when it returns (a goroutine amid a request) keeps
 *   later requests of the process waiting: end requests first.
 */
#ifndef WEIR_HTTP_H
#define WEIR_HTTP_H

#include "weir.h"

WEIR_BEGIN_

/* What to ask. Zero-initialise it; only url must be set. All of it stays the caller's, and must be there until weir_http_do returns. */
typedef struct weir_http_request {
    const char *url;            /* http:// or https:// */
    const char *method;         /* NULL: GET, or POST if there is a body */
    const char *const *headers; /* "Name: value", the last is NULL; or NULL. "Name:" leaves out what would be sent by itself (Accept:) */
    const void *body;           /* what to send; NULL: nothing */
    size_t body_length;
    /* Called with each piece of the answer's body as it comes, instead of keeping it; by the goroutine that called weir_http_do, so it may
     * block, and the server waits for it once 64 KiB have come ahead. A negative result ends the request, which then returns it. It must
     * not end by weir_exit. */
    int (*on_body)(const char *data, size_t length, void *arg);
    void *arg;
    int64_t max_body;           /* bytes of the decoded body; 0: 64 MiB, but no limit with on_body; -1: no limit */
    int max_redirects;          /* 0: 10; -1: none are followed, the first answer counts */
    bool insecure;              /* take any certificate */
    const char *ca_file;        /* certificates to trust, in PEM; NULL: the system's */
    const char *user_agent;     /* NULL: weir/VERSION */
} weir_http_request;

/* The answer. Needs no initialising: weir_http_do sets all of it. */
typedef struct weir_http_response {
    int status;                 /* 200, 404, …; 0: none came */
    char *body;                 /* and a zero byte after it; NULL with on_body */
    size_t length;              /* of the body: kept, or given to on_body */
    char **headers;             /* "Name: value", as they came; the last is NULL */
    char *url;                  /* where the answer came from in the end */
    char error[256];            /* "connect to 127.0.0.1:1: Connection refused"; "" when all went well */
} weir_http_response;

/*
 * Ask, and wait for the whole answer. 0, whatever the status; then weir_http_free it. Or an error, when only resp->error says more (and
 * resp->status, if it came to that) and nothing need be freed. Blocks; cancellable. Go: Client.Do.
 *
 * gzip and deflate are asked for and decoded. Redirects are followed for GET, HEAD and POST, over http and https only, and without
 * the Authorization and Cookie headers when they lead to another host; 301, 302 and 303 turn POST into GET. With other methods the redirect
 * is the answer. Answers with more than 256 KiB of headers, those of redirects included, are refused.
 *
 * -ECANCELED, -ETIMEDOUT: the context has ended. (-ETIMEDOUT too when the system, or curl, gives up a host that does not answer.)
 * -EINVAL: not a URL with http or https, in a redirect too; a method, header or CA file that is none; HEAD with a body.
 * -ENOENT: no such host. -ECONNREFUSED, -EHOSTUNREACH, -EMFILE, … of connect(2) and socket(2).
 * -ECONNRESET, -EPIPE, …: the connection broke. -EPROTO: the answer is not HTTP, ends too early, or cannot be decoded; or no TLS.
 * -EKEYREJECTED: the certificate is not to be trusted. -ELOOP: too many redirects. -EMSGSIZE: the body or the headers are too large.
 * -EPERM: no runtime is running. -ENOMEM. -EIO: anything else, which resp->error names. What on_body returned.
 */
WEIR_API_ WEIR_MUST_USE_ int weir_http_do(const weir_http_request *req, weir_http_response *resp);

/* weir_http_do with a URL and nothing else. Blocks; cancellable. Go: http.Get. */
WEIR_API_ WEIR_MUST_USE_ int weir_http_get(const char *url, weir_http_response *resp);

/* The value of the first header of that name, in capitals or not; NULL: there is none. Lives as long as the answer. Go: Header.Get. */
WEIR_API_ const char *weir_http_header(const weir_http_response *resp, const char *name);

/* Free what the answer holds, and clear it but for status, length and error. NULL is fine, and so is a second time. */
WEIR_API_ void weir_http_free(weir_http_response *resp);

/* Close the connections that are kept, and all descriptors behind them: at once where no request is under way, else with the last of
 * those that are. Requests that begin later make new ones. Does not park. Go: CloseIdleConnections. */
WEIR_API_ void weir_http_close_idle(void);

WEIR_END_

#endif
