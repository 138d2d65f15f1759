/*
 * proxy: passes TCP connections on to another server, both ways, until both sides have ended. When one side will send no more, the other is told
 * so and may go on (half-closed connections); when one breaks, so does the other.
 */
#include "support/server.h"

#include <string.h>
#include <sys/socket.h>

static void pass(int from, int to, weir_scope *both) {
    weir_address peer;
    int64_t n = weir_copy_fd(to, from, -1);
    /* A reset after the first byte is not told by the result; but then nobody is at the other end any more. */
    if (n < 0 || weir_peer_address(from, &peer) == -ENOTCONN) weir_scope_cancel(both);
    shutdown(to, SHUT_WR);
}

static void proxy(int client, void *target) {
    int server = -1;
    weir_timeout(5 * WEIR_SECOND) server = weir_dial("tcp", target);
    if (server < 0) {
        fprintf(stderr, "proxy: %s: %s\n", (char *)target, strerror(-server));
        return;
    }
    weir_scoped(both) {
        if (weir_scope_go(&both, pass, client, server, &both) == 0) pass(server, client, &both);
    }
    weir_close_fd(server);
}

static int take_target(int n, char **operands, struct server *s) {
    if (n != 1) return 2;
    s->arg = operands[0];
    return 0;
}

int weir_main(int argc, char **argv) {
    struct server s = { .name = "proxy", .what = "Pass connections on to HOST:PORT.", .operand = "HOST:PORT",
                        .address = "127.0.0.1:7008", .serve = proxy };
    return run_server(argc, argv, &s, take_target);
}
