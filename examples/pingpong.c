/* pingpong: how many times a second can two goroutines hand a number to and fro over a pair of channels? */
#include <weir.h>

#include <getopt.h>
#include <stdlib.h>
#include <string.h>

typedef WEIR_CHAN(long) long_chan;

static void pong(long_chan in, long_chan out) {
    long n;
    while (weir_recv(in, &n) == 0)
        if (weir_send(out, n + 1)) break;
}

static int usage(FILE *to, int status) {
    fputs("usage: pingpong [N]\n"
          "Send a number to and fro between two goroutines, N times (default 1000000), and say how fast it went.\n",
          to);
    return status;
}

int weir_main(int argc, char **argv) {
    static const struct option options[] = { { "help", no_argument, NULL, 'h' }, { 0 } };
    for (int c; (c = getopt_long(argc, argv, "h", options, NULL)) != -1;)
        return c == 'h' ? usage(stdout, 0) : usage(stderr, 2);
    long rounds = 1000000;
    if (argc - optind > 1) return usage(stderr, 2);
    if (argc - optind == 1) {
        char *end;
        rounds = strtol(argv[optind], &end, 10);
        if (end == argv[optind] || *end || rounds < 1 || rounds > 1000000000000)
            return fprintf(stderr, "pingpong: N is a number from 1 to 1000000000000, not '%s'\n", argv[optind]), 2;
    }

    long_chan there = weir_make(long_chan, 0), back = weir_make(long_chan, 0);
    long done = 0;
    weir_time start = weir_now();
    int error = 0;
    weir_scoped(s) {
        error = weir_scope_go(&s, pong, there, back);
        while (!error && done < rounds) {
            error = weir_send(there, done);
            if (!error) error = weir_recv(back, &done);
        }
        weir_close(there);
    }
    double seconds = (double)(weir_now() - start) / (double)WEIR_SECOND;
    weir_release(there);
    weir_release(back);
    if (error) return fprintf(stderr, "pingpong: %s\n", strerror(-error)), 1;
    printf("%ld round trips in %.3f s: %.0f a second\n", done, seconds, (double)done / seconds);
    return 0;
}
