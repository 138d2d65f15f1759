/* Reading what comes from outside: pure functions, which fuzz/debug_parse.c feeds with anything. */
#include "debug/debug.h"

#include <string.h>

static int digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return 16;
}

/* ---- Addresses ---------------------------------------------------------------------------------------------- */

bool wr_parse_address(const char *text, char *host, size_t size, uint16_t *port) {
    const char *colon = strrchr(text, ':'), *from = text, *to = colon;
    int64_t n;
    if (!colon || !colon[1] || digit(colon[1]) > 9 || wr_parse_integer(colon + 1, &n) || n > UINT16_MAX) return false;
    if (*text == '[') {
        if (colon == text || colon[-1] != ']') return false;
        from++, to--;
    }
    size_t length = (size_t)(to - from);
    if (length >= size || memchr(from, '[', length) || memchr(from, ']', length)) return false;
    if (*text == '[' ? length == 0 : memchr(from, ':', length) != NULL) return false;
    memcpy(host, from, length);
    host[length] = 0;
    *port = (uint16_t)n;
    return true;
}

/* ---- Queries ------------------------------------------------------------------------------------------------ */

/* Decode [from, to). False: it is malformed. */
static bool decode(const char *from, const char *to, char *out, size_t size) {
    size_t n = 0;
    for (; from < to; from++) {
        char c = *from == '+' ? ' ' : *from;
        if (c == ';') return false;
        if (c == '%') {
            if (to - from < 3 || digit(from[1]) > 15 || digit(from[2]) > 15) return false;
            c = (char)(digit(from[1]) * 16 + digit(from[2]));
            from += 2;
        }
        if (!c) return false;
        if (n + 1 < size) out[n++] = c;
    }
    out[n] = 0;
    return true;
}

bool wr_query_get(const char *query, const char *name, char *value, size_t size) {
    for (const char *at = query, *end; *at; at = *end ? end + 1 : end) {
        char key[64];
        end = at + strcspn(at, "&");
        const char *equals = memchr(at, '=', (size_t)(end - at)), *key_end = equals ? equals : end;
        if (!decode(at, key_end, key, sizeof key) || strcmp(key, name)) continue;
        if (decode(equals ? equals + 1 : end, end, value, size)) return true;
    }
    return false;
}

/* ---- Numbers ------------------------------------------------------------------------------------------------ */

int wr_parse_integer(const char *text, int64_t *n) {
    bool negative = *text == '-', overflow = false;
    uint64_t sum = 0, most = negative ? (uint64_t)INT64_MAX + 1 : (uint64_t)INT64_MAX;
    if (*text == '-' || *text == '+') text++;
    *n = 0;
    if (!*text) return -EINVAL;
    for (; *text; text++) {
        if (digit(*text) > 9) return -EINVAL;
        uint64_t d = (uint64_t)digit(*text);
        overflow |= sum > (most - d) / 10;
        if (!overflow) sum = sum * 10 + d;
    }
    if (overflow) sum = most;
    *n = negative ? (int64_t)(0 - sum) : (int64_t)sum;
    return overflow ? -ERANGE : 0;
}

/* False: none that fits. */
static bool parse_address_word(const char *from, const char *to, uintptr_t *address) {
    unsigned base = 10;
    uintptr_t sum = 0;
    if (to - from > 1 && *from == '0') {
        base = from[1] == 'x' || from[1] == 'X' ? 16 : 8;
        from += base == 16 ? 2 : 1;
    }
    if (from == to) return false;
    for (; from < to; from++) {
        unsigned d = (unsigned)digit(*from);
        if (d >= base || __builtin_mul_overflow(sum, base, &sum) || __builtin_add_overflow(sum, d, &sum)) return false;
    }
    *address = sum;
    return true;
}

void wr_parse_addresses(const char *text, size_t n, void (*visit)(uintptr_t address, void *arg), void *arg) {
    for (const char *at = text, *end = text + n; at < end;) {
        const char *plus = memchr(at, '+', (size_t)(end - at)), *to = plus ? plus : end;
        uintptr_t address;
        if (parse_address_word(at, to, &address) && address) visit(address, arg);
        at = plus ? plus + 1 : end;
    }
}
