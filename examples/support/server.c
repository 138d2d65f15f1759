#include "support/server.h"

#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

typedef WEIR_CHAN(int) signal_chan;

struct running {
    struct server *server;
    int listener;
    weir_duration grace;
    signal_chan signals;
    weir_scope *connections;
    _Atomic long served;
};

static void serve_one(struct running *r, int fd) {
    r->server->serve(fd, r->server->arg);
    weir_close_fd(fd);
    r->served++;
}

/* The first signal closes the door, the second one, or the end of the grace period, ends what is inside. */
static void wait_for_signals(struct running *r) {
    if (weir_recv(r->signals, NULL)) return; /* the server has ended by itself */
    weir_close_fd(r->listener);
    weir_timeout(r->grace) (void)!weir_recv(r->signals, NULL);
    weir_scope_cancel(r->connections);
}

/* Until the listener is closed: 0; or an error that will not pass. */
static int accept_all(struct running *r) {
    for (;;) {
        int fd = weir_accept(r->listener);
        if (fd == -EBADF) return 0;
        if (fd == -EMFILE || fd == -ENFILE || fd == -ENOMEM || fd == -ENOBUFS) {
            fprintf(stderr, "%s: accept: %s; trying again\n", r->server->name, strerror(-fd));
            if (weir_sleep(100 * WEIR_MILLISECOND)) return 0;
            continue;
        }
        if (fd < 0) return fd;
        if (weir_scope_go(r->connections, serve_one, r, fd)) weir_close_fd(fd);
    }
}

static int serve_until_signalled(struct running *r) {
    int error = weir_signal_notify(r->signals, SIGINT, SIGTERM);
    if (error) return error;
    weir_scoped(watching) {
        weir_scoped(connections) {
            r->connections = &connections;
            error = weir_scope_go(&watching, wait_for_signals, r);
            if (!error) error = accept_all(r);
        }
        weir_scope_cancel(&watching);
    }
    weir_signal_stop(r->signals);
    return error;
}

static int usage(const struct server *s, FILE *to, int status) {
    fprintf(to,
            "usage: %s [OPTION]...%s%s\n%s\n\n"
            "  -l, --listen ADDRESS  where to listen (default %s)\n"
            "  -g, --grace SECONDS   how long connections may go on after SIGINT or SIGTERM (default 10)\n"
            "  -h, --help            this text\n",
            s->name, s->operand ? " " : "", s->operand ? s->operand : "", s->what, s->address);
    if (s->idle)
        fprintf(to, "  -i, --idle SECONDS    how long a connection may say nothing; 0: for ever (default %lld)\n",
                (long long)(s->idle / WEIR_SECOND));
    return status;
}

static bool seconds(const struct server *s, const char *option, weir_duration *d) {
    char *end;
    double n = strtod(optarg, &end);
    if (end == optarg || *end || !(n >= 0 && n <= 1e6)) {
        fprintf(stderr, "%s: --%s takes seconds, not '%s'\n", s->name, option, optarg);
        return false;
    }
    *d = (weir_duration)(n * 1e9);
    return true;
}

int run_server(int argc, char **argv, struct server *s, int (*operands)(int n, char **operands, struct server *s)) {
    const struct option options[] = { { "listen", required_argument, NULL, 'l' },
                                             { "grace", required_argument, NULL, 'g' },
                                             { "help", no_argument, NULL, 'h' },
                                             { s->idle ? "idle" : NULL, required_argument, NULL, 'i' },
                                             { 0 } };
    struct running r = { .server = s, .grace = 10 * WEIR_SECOND };
    weir_duration idle = s->idle;
    for (int c; (c = getopt_long(argc, argv, s->idle ? "l:g:hi:" : "l:g:h", options, NULL)) != -1;) {
        switch (c) {
        case 'l': s->address = optarg; break;
        case 'g':
            if (!seconds(s, "grace", &r.grace)) return 2;
            break;
        case 'i':
            if (!seconds(s, "idle", &idle)) return 2;
            break;
        case 'h': return usage(s, stdout, 0);
        default: return usage(s, stderr, 2);
        }
    }
    if (!operands && optind < argc) return usage(s, stderr, 2);
    s->idle = idle;
    int status = operands ? operands(argc - optind, argv + optind, s) : 0;
    if (status) return usage(s, stderr, status);

    r.listener = weir_listen("tcp", s->address);
    if (r.listener < 0)
        return fprintf(stderr, "%s: cannot listen on %s: %s\n", s->name, s->address, strerror(-r.listener)), 1;
    weir_address at;
    char text[64] = "";
    if (weir_local_address(r.listener, &at) == 0) weir_address_text(&at, text, sizeof text);
    printf("%s: listening on %s\n", s->name, text);
    fflush(stdout);
    r.signals = weir_make(signal_chan, 2);
    int error = serve_until_signalled(&r);
    weir_release(r.signals);
    if (error) return fprintf(stderr, "%s: %s\n", s->name, strerror(-error)), 1;
    printf("%s: %ld connections served\n", s->name, (long)r.served);
    return 0;
}
