/*
 * curl's errors, as errno values and as sentences that say which step failed against whom:
 *
 *     connect to 127.0.0.1:1: Connection refused
 */
#include "http/http.h"

#include <stdlib.h>
#include <string.h>

/* What was being done, in words that go before the other side's name. By what curl says, or else by how far it came. */
static const char *step_of(struct wr_http *r, CURLcode code) {
    static const struct {
        CURLINFO info;
        const char *before;
    } times[] = {
        { CURLINFO_NAMELOOKUP_TIME_T, "look up" },
        { CURLINFO_CONNECT_TIME_T, "connect to" },
        { CURLINFO_PRETRANSFER_TIME_T, "TLS with" },
        { CURLINFO_STARTTRANSFER_TIME_T, "wait for the answer of" },
    };
    switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST: return "look up";
    case CURLE_COULDNT_RESOLVE_PROXY: return "look up the proxy for";
    case CURLE_COULDNT_CONNECT: return "connect to";
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CIPHER:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_SSL_INVALIDCERTSTATUS:
    case CURLE_PEER_FAILED_VERIFICATION: return "TLS with";
    case CURLE_SEND_ERROR: return "send to";
    default: break;
    }
    for (size_t i = 0; i < sizeof times / sizeof *times; i++) {
        curl_off_t reached = 0;
        curl_easy_getinfo(r->easy, times[i].info, &reached);
        if (!reached) return times[i].before;
    }
    return "read the answer of";
}

/* host:port of the URL that curl had come to, by redirects. */
static void name_peer(struct wr_http *r, char *to, size_t size) {
    char *url = NULL, *host = NULL, *port = NULL;
    CURLU *parts = curl_url();
    if (r->easy) curl_easy_getinfo(r->easy, CURLINFO_EFFECTIVE_URL, &url);
    if (parts && url && !curl_url_set(parts, CURLUPART_URL, url, CURLU_GUESS_SCHEME | CURLU_NON_SUPPORT_SCHEME)) {
        curl_url_get(parts, CURLUPART_HOST, &host, 0);
        curl_url_get(parts, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT);
    }
    if (host) snprintf(to, size, port ? "%.128s:%s" : "%.128s", host, port);
    else snprintf(to, size, "%.128s", url && *url ? url : r->asked->url ? r->asked->url : "(no URL)");
    curl_free(host);
    curl_free(port);
    curl_url_cleanup(parts);
}

static int say(struct wr_http *r, CURLcode code, int error, const char *why) {
    char peer[160];
    name_peer(r, peer, sizeof peer);
    snprintf(r->answer->error, sizeof r->answer->error, "%s %s: %s", step_of(r, code), peer, why);
    return error;
}

int wr_http_ended(struct wr_http *r, int error) {
    char room[80];
    const char *why = error == -ETIMEDOUT  ? "the deadline has passed"
                      : error == -ECANCELED ? "cancelled"
                      : error == -EMSGSIZE  ? "too large"
                                            : strerror_r(-error, room, sizeof room);
    if (r->easy && r->pool) return say(r, CURLE_OK, error, why);
    snprintf(r->answer->error, sizeof r->answer->error, "%.150s: %s", r->asked->url ? r->asked->url : "(no URL)", why);
    return error;
}

int wr_http_failed(struct wr_http *r, CURLcode code) {
    char room[80];
    const char *why = r->why[0] ? r->why : curl_easy_strerror(code);
    long system = 0;
    curl_off_t begun = 0;
    curl_easy_getinfo(r->easy, CURLINFO_OS_ERRNO, &system);
    curl_easy_getinfo(r->easy, CURLINFO_STARTTRANSFER_TIME_T, &begun);
    switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY: return say(r, code, -ENOENT, "no such host");
    case CURLE_COULDNT_CONNECT:
        if (r->socket_error) system = r->socket_error;
        if (!system) return say(r, code, -ECONNREFUSED, why);
        return say(r, code, -(int)system, strerror_r((int)system, room, sizeof room));
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
        if (system) return say(r, code, -(int)system, strerror_r((int)system, room, sizeof room));
        return say(r, code, code == CURLE_SEND_ERROR ? -EPIPE : -EPROTO, why); /* what it received was at fault */
    case CURLE_GOT_NOTHING: return say(r, code, -ECONNRESET, "the connection was closed before an answer");
    case CURLE_OPERATION_TIMEDOUT: return say(r, code, -ETIMEDOUT, why);
    case CURLE_UNSUPPORTED_PROTOCOL: /* of a redirect; or it answers in words that are no HTTP, not even a status */
        return say(r, code, r->answer->status ? -EINVAL : -EPROTO, why);
    case CURLE_URL_MALFORMAT:
    case CURLE_SSL_CACERT_BADFILE: return say(r, code, -EINVAL, why);
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_SSL_INVALIDCERTSTATUS: return say(r, code, -EKEYREJECTED, why);
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_PARTIAL_FILE:
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM:
    case CURLE_WRITE_ERROR: /* our callbacks' refusals have errors of their own: it could not decode */
    case CURLE_BAD_CONTENT_ENCODING: return say(r, code, -EPROTO, why);
    case CURLE_TOO_MANY_REDIRECTS: return say(r, code, -ELOOP, "too many redirects");
#if LIBCURL_VERSION_NUM >= 0x080600
    case CURLE_TOO_LARGE: return say(r, code, -EMSGSIZE, why);
#endif
    case CURLE_OUT_OF_MEMORY: /* curl says so of a header line beyond its own limit too */
        if (begun && !r->head_ended) return say(r, code, -EMSGSIZE, "a header is too large");
        return say(r, code, -ENOMEM, "out of memory");
    default: return say(r, code, -EIO, why);
    }
}
