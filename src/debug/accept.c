/*
 * What a client can read, by its Accept header: does it want OpenMetrics, or Prometheus's older text? A pure function; its argument comes
 * from outside.
 */
#include "debug/debug.h"

#include <string.h>
#include <strings.h>

struct span {
    const char *at;
    size_t n;
};

static bool is(struct span s, const char *word) { return s.n == strlen(word) && !strncasecmp(s.at, word, s.n); }

static struct span trimmed(struct span s) {
    while (s.n && (*s.at == ' ' || *s.at == '\t')) s.at++, s.n--;
    while (s.n && (s.at[s.n - 1] == ' ' || s.at[s.n - 1] == '\t')) s.n--;
    return s;
}

/* Cut off what comes before the first `end`, or all. */
static struct span next(struct span *rest, char end) {
    const char *stop = rest->n ? memchr(rest->at, end, rest->n) : NULL;
    struct span s = { rest->at, stop ? (size_t)(stop - rest->at) : rest->n };
    rest->at += s.n, rest->n -= s.n;
    if (stop) rest->at++, rest->n--;
    return trimmed(s);
}

/* "0.75" in thousandths; more than 1 is 1, and what is no number is 0. */
static int quality(struct span s) {
    int value = 0, digit = 1000;
    bool point = false;
    for (size_t i = 0; i < s.n; i++) {
        if (s.at[i] == '.' && !point) point = true, digit = 100;
        else if (s.at[i] < '0' || s.at[i] > '9') return 0;
        else if (!point && s.at[i] != '0') value = 1000;
        else if (point) value += (s.at[i] - '0') * digit, digit /= 10;
    }
    return value > 1000 ? 1000 : value;
}

bool wr_wants_openmetrics(const char *accept) {
    struct span rest = { accept, strlen(accept) };
    int open = 0, text = 0;
    while (rest.n) {
        struct span range = next(&rest, ','), type = next(&range, ';'), version = { "", 0 };
        int q = 1000;
        while (range.n) {
            struct span value = next(&range, ';'), name = next(&value, '=');
            if (is(name, "q")) q = quality(trimmed(value));
            else if (is(name, "version")) version = trimmed(value);
        }
        bool ours = !version.n || is(version, "1.0.0") || is(version, "0.0.1");
        if (is(type, "application/openmetrics-text") && ours && q > open) open = q;
        if (is(type, "text/plain") && q > text) text = q;
    }
    return open > 0 && open >= text;
}
