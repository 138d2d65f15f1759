/*
 * What the debug server reads by itself of what comes from outside: addresses, queries, numbers, the body of symbol, what a client accepts. The first byte says
 * which; the rest is the text.
 *
 *     clang -g -fsanitize=fuzzer,address,undefined -D_GNU_SOURCE -Iinclude -Isrc fuzz/debug_parse.c src/debug/parse.c src/debug/accept.c -o fuzz-debug-parse
 *     ./fuzz-debug-parse -max_len=4096
 *
 * test/debug/parse.c runs it for a moment, on texts made at random.
 */
#include "debug/debug.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void demand(bool holds) {
    if (!holds) abort();
}

static void address(const char *text) {
    char host[32];
    uint16_t port;
    memset(host, 'x', sizeof host);
    if (wr_parse_address(text, host, sizeof host, &port)) demand(strlen(host) < sizeof host && !strpbrk(host, "[]"));
}

static void query(const char *text) {
    char value[8];
    memset(value, 'x', sizeof value);
    if (wr_query_get(text, "debug", value, sizeof value)) demand(strlen(value) < sizeof value);
    if (!strstr(text, "d") && !strchr(text, '%')) demand(!wr_query_get(text, "debug", value, sizeof value));
}

static void integer(const char *text) {
    int64_t n;
    int e = wr_parse_integer(text, &n);
    demand(e == 0 || (e == -EINVAL && n == 0) || (e == -ERANGE && (n == INT64_MAX || n == INT64_MIN)));
}

static void note(uintptr_t address, void *arg) {
    demand(address != 0);
    ++*(size_t *)arg;
}
static void addresses(const char *text, size_t size) {
    size_t n = 0, pluses = 0;
    wr_parse_addresses(text, size, note, &n);
    for (size_t i = 0; i < size; i++) pluses += text[i] == '+';
    demand(n <= pluses + 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0) return 0;
    char *text = malloc(size); /* exactly as much, so that a sanitizer sees one byte too many */
    if (!text) return 0;
    memcpy(text, data + 1, size - 1);
    text[size - 1] = 0;
    switch (data[0] % 5) {
    case 0: address(text); break;
    case 1: query(text); break;
    case 4: demand(!wr_wants_openmetrics(text) || strcasestr(text, "openmetrics")); break;
    case 2: integer(text); break;
    case 3: addresses(text, size - 1); break;
    }
    free(text);
    return 0;
}
