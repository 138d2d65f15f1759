/*
 * What curl hands over of an answer. curl calls back here under the pool's lock, amid its own work, so nothing here waits: it copies, or
 * tells curl to hold the rest back.
 */
#include "http/http.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { AHEAD = 64 << 10, HEAD_MAX = 256 << 10 };

/* Room for n bytes more and a zero. */
static bool make_room(struct bytes *b, size_t n) {
    size_t need = b->length + n + 1, room = b->room ? b->room : 4096;
    if (need <= b->room) return true;
    while (room < need) room *= 2;
    char *data = realloc(b->data, room);
    if (!data) return false;
    b->data = data;
    b->room = room;
    return true;
}

static bool append(struct bytes *b, const char *data, size_t n) {
    if (!make_room(b, n)) return false;
    memcpy(b->data + b->length, data, n);
    b->length += n;
    b->data[b->length] = 0;
    return true;
}

/* curl ends a transfer whose callback takes less than it was given. */
static size_t refuse(struct wr_http *r, int error) {
    r->error = error;
    return 0;
}

/* One line, the status line and the empty line at the end included. Of several answers (100, redirects) the last one's are kept; what
 * comes after a body, in trailers, belongs to it. */
size_t wr_http_on_header(char *line, size_t one, size_t n, void *request) {
    struct wr_http *r = request;
    size_t end = n;
    r->head_received += n;
    if (r->head_received > HEAD_MAX) return refuse(r, -EMSGSIZE);
    while (end && (line[end - 1] == '\r' || line[end - 1] == '\n')) end--;
    if (r->head_ended && end > 5 && !strncmp(line, "HTTP/", 5)) {
        r->head.length = 0;
        r->head_ended = false;
    }
    if (!end) r->head_ended = true;
    bool more = end && (line[0] == ' ' || line[0] == '\t') && r->head.length; /* of the line before */
    if (more) r->head.data[r->head.length - 1] = ' ';
    else if (!memchr(line, ':', end)) return n;
    while (end && (line[end - 1] == ' ' || line[end - 1] == '\t')) end--;
    size_t from = 0;
    while (more && from < end && (line[from] == ' ' || line[from] == '\t')) from++;
    if (!append(&r->head, line + from, end - from)) return refuse(r, -ENOMEM);
    r->head.length++; /* the zero too */
    return n;
}

size_t wr_http_on_body(char *data, size_t one, size_t n, void *request) {
    struct wr_http *r = request;
    bool streamed = r->asked->on_body;
    if (r->ending) return n;
    if (streamed && r->body.length && r->body.length + n > AHEAD) {
        r->paused = true; /* until its caller has taken what there is */
        return CURL_WRITEFUNC_PAUSE;
    }
    if (r->max_body >= 0 && (int64_t)n > r->max_body - r->received) return refuse(r, -EMSGSIZE);
    if (!append(&r->body, data, n)) return refuse(r, -ENOMEM);
    r->received += (int64_t)n;
    if (streamed) wr_http_wake(r);
    return n;
}

bool wr_http_body_comes(struct wr_http *r, struct bytes *taken) {
    if (!r->asked->on_body || !r->body.length) return false;
    struct bytes other = *taken; /* two buffers take turns */
    *taken = r->body;
    r->body = other;
    r->body.length = 0;
    return true;
}

/* ---- For the caller ---------------------------------------------------------------------------------- */

/* The array first, then the lines, in one piece. */
static char **split(const struct bytes *head) {
    size_t n = 0, i = 0;
    for (size_t at = 0; at < head->length; at++) n += !head->data[at];
    char **lines = malloc((n + 1) * sizeof *lines + head->length);
    if (!lines) return NULL;
    char *text = (char *)(lines + n + 1);
    if (head->length) memcpy(text, head->data, head->length);
    for (; i < n; i++, text += strlen(text) + 1) lines[i] = text;
    lines[n] = NULL;
    return lines;
}

int wr_http_fill_answer(struct wr_http *r) {
    weir_http_response *to = r->answer;
    char *url = NULL;
    curl_easy_getinfo(r->easy, CURLINFO_EFFECTIVE_URL, &url);
    to->url = strdup(url ? url : r->asked->url);
    to->headers = split(&r->head);
    to->length = (size_t)r->received;
    bool kept = !r->asked->on_body;
    if (!to->url || !to->headers || (kept && !append(&r->body, "", 0))) {
        weir_http_free(to);
        return -ENOMEM;
    }
    if (kept) {
        char *less = r->body.room - r->body.length > 4096 ? realloc(r->body.data, r->body.length + 1) : NULL;
        to->body = less ? less : r->body.data;
        r->body.data = NULL;
    }
    return 0;
}

const char *weir_http_header(const weir_http_response *resp, const char *name) {
    size_t n = strlen(name);
    for (char **h = resp->headers; h && *h; h++) {
        if (strncasecmp(*h, name, n) || (*h)[n] != ':') continue;
        const char *value = *h + n + 1;
        return value + strspn(value, " \t");
    }
    return NULL;
}

void weir_http_free(weir_http_response *resp) {
    if (!resp) return;
    free(resp->body);
    free(resp->headers);
    free(resp->url);
    resp->body = resp->url = NULL;
    resp->headers = NULL;
}
