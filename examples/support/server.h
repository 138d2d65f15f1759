/* What the servers among the examples have in common: listen, one goroutine for each connection, and an orderly end. */
#ifndef SUPPORT_SERVER_H
#define SUPPORT_SERVER_H

#include <weir.h>

struct server {
    const char *name;          /* of the program, for its messages */
    const char *what;          /* what it does, for --help */
    const char *operand;       /* what follows the options, for --help; NULL: nothing */
    const char *address;       /* to listen on, unless --listen says otherwise; port 0: any free one */
    void (*serve)(int fd, void *arg); /* one connection, on a goroutine of its own; fd is closed after it */
    void *arg;
    weir_duration idle;        /* how long a connection may say nothing, 0: for ever; set by --idle, if it is not 0 before */
};

/*
 * The main() of such a program. It prints where it listens on standard output, and serves until SIGINT or SIGTERM. Then
 * it accepts no more, and connections have a time to end by themselves (--grace, 10 s); after that, or at a second signal, they
 * are cancelled: the calls they are in return -ECANCELED. `operands` gets what follows the options. The exit status.
 */
int run_server(int argc, char **argv, struct server *s, int (*operands)(int n, char **operands, struct server *s));

#endif
