/* A plain HTTP client for the tests of the debug server, on a thread's own blocking sockets. */
#ifndef DEBUG_CLIENT_H
#define DEBUG_CLIENT_H

#include "test.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "weir/debug.h"

/* A connection to the server of this process. */
__attribute__((unused)) static int dial(int port) {
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr = { htonl(INADDR_LOOPBACK) } };
    int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK_GE(s, 0);
    if (connect(s, (struct sockaddr *)&at, sizeof at) == 0) return s;
    close(s);
    return -1;
}

__attribute__((unused)) static void send_text(int s, const char *text) {
    for (size_t n = strlen(text); n > 0;) {
        ssize_t sent = send(s, text, n, MSG_NOSIGNAL);
        if (sent < 0) return; /* the server may have closed it already */
        text += sent, n -= (size_t)sent;
    }
}

/* Everything until the server closes the connection; the caller frees it. */
__attribute__((unused)) static char *receive_all(int s) {
    size_t n = 0, room = 1 << 16;
    char *text = malloc(room);
    for (ssize_t got; text && (got = recv(s, text + n, room - n - 1, 0)) > 0;) {
        n += (size_t)got;
        if (room - n < 2) text = realloc(text, room *= 2);
    }
    CHECK(text);
    text[n] = 0;
    close(s);
    return text;
}

/* Status, headers and body of the answer to one request; "" if the connection broke. */
__attribute__((unused)) static char *ask(const char *method, const char *path, const char *more) {
    char request[1024];
    int s = dial(weir_debug_port());
    CHECK_GE(s, 0);
    snprintf(request, sizeof request, "%s %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n%s\r\n", method, path, more);
    send_text(s, request);
    return receive_all(s);
}
__attribute__((unused)) static char *get(const char *path) { return ask("GET", path, ""); }

#define CHECK_ANSWER(answer, status, text)                                                          \
    do {                                                                                            \
        char *answer_ = (answer);                                                                   \
        if (strncmp(answer_, "HTTP/1.1 " status " ", strlen("HTTP/1.1 " status " ")) || !strstr(answer_, text)) \
            FAIL("not " status " with \"%s\":\n%s", text, answer_);                                 \
        free(answer_);                                                                              \
    } while (0)

#define SERVE() CHECK_EQ(weir_debug_serve("127.0.0.1:0"), 0)

#endif
