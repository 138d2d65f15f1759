/* echo: sends back whatever comes, on each connection, until its end. Try: nc 127.0.0.1 7007 */
#include "support/server.h"

static void echo(int fd, void *arg) {
    char buffer[1024];
    for (int64_t n; (n = weir_read(fd, buffer, sizeof buffer)) > 0;)
        if (weir_write_all(fd, buffer, (size_t)n) != n) return;
}

int weir_main(int argc, char **argv) {
    struct server s = { .name = "echo", .what = "Send back what comes on each connection.", .address = "127.0.0.1:7007", .serve = echo };
    return run_server(argc, argv, &s, NULL);
}
