/*
 * sieve: the first N primes, by a chain of goroutines: one counts 2, 3, 4 …, and for each prime found so far another
 * lets only those numbers through that the prime does not divide. What comes out of the last one is the next prime.
 *
 * None of them ever ends by itself. They run in a scope that main leaves by `break` when it has seen enough, which
 * cancels them and waits.
 */
#include <weir.h>

#include <getopt.h>
#include <stdlib.h>
#include <string.h>

typedef WEIR_CHAN(int) int_chan;

static void count(int_chan out) {
    for (int i = 2; weir_send(out, i) == 0; i++) continue;
    weir_release(out);
}

static void filter(int_chan in, int_chan out, int prime) {
    int i;
    while (weir_recv(in, &i) == 0)
        if (i % prime != 0 && weir_send(out, i) != 0) break;
    weir_release(in);
    weir_release(out);
}

static int usage(FILE *to, int status) {
    fputs("usage: sieve [N]\nPrint the Nth prime (default 1000), found by a chain of N goroutines.\n", to);
    return status;
}

int weir_main(int argc, char **argv) {
    static const struct option options[] = { { "help", no_argument, NULL, 'h' }, { 0 } };
    for (int c; (c = getopt_long(argc, argv, "h", options, NULL)) != -1;)
        return c == 'h' ? usage(stdout, 0) : usage(stderr, 2);
    long wanted = 1000;
    if (argc - optind > 1) return usage(stderr, 2);
    if (argc - optind == 1) {
        char *end;
        wanted = strtol(argv[optind], &end, 10);
        if (end == argv[optind] || *end || wanted < 1 || wanted > 100000)
            return fprintf(stderr, "sieve: N is a number from 1 to 100000, not '%s'\n", argv[optind]), 2;
    }

    int prime = 0, error = 0;
    int_chan last = weir_make(int_chan, 0); /* the end of the chain; each goroutine releases those it was given */
    weir_scoped(s) {
        if ((error = weir_scope_go(&s, count, weir_retain(last)))) {
            weir_release(last);
            break;
        }
        for (long found = 0; !(error = weir_recv(last, &prime)) && ++found < wanted;) {
            int_chan next = weir_make(int_chan, 0);
            if ((error = weir_scope_go(&s, filter, last, weir_retain(next), prime))) {
                weir_release(next);
                weir_release(next);
                break;
            }
            last = next;
        }
        break; /* end the others */
    }
    weir_release(last);
    if (error) return fprintf(stderr, "sieve: %s\n", strerror(-error)), 1;
    printf("%d\n", prime);
    return 0;
}
