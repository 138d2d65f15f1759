/*
 * skynet: a goroutine starts ten, each of which starts ten, and so on down to a million, each of which sends its
 * number to the one that started it, which sends up the sum.
 */
#include <weir.h>

#include <getopt.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

typedef WEIR_CHAN(int64_t) sum_chan;

static _Atomic int failed; /* negative errno: a goroutine could not be started */

/* Send up the sum of the numbers of `leaves` leaves, which begin at `first`. */
static void node(sum_chan up, int64_t first, int64_t leaves, int64_t width) {
    int64_t sum = first;
    if (leaves > 1) {
        sum_chan down = weir_make(sum_chan, 0);
        int64_t part, share = leaves / width, started = 0;
        while (started < width) {
            int error = weir_go(node, weir_retain(down), first + started * share, share, width);
            if (error) {
                weir_release(down);
                failed = error;
                break;
            }
            started++;
        }
        for (sum = 0; started > 0 && weir_recv(down, &part) == 0; started--) sum += part;
        weir_release(down);
    }
    if (weir_send(up, sum)) failed = -ECANCELED;
    weir_release(up);
}

static int usage(FILE *to, int status) {
    fputs("usage: skynet [DEPTH [WIDTH]]\n"
          "Start a tree of goroutines, DEPTH levels below the root (default 6), where each starts WIDTH (default 10).\n"
          "Its leaves send up their numbers, and the sum of all is printed.\n",
          to);
    return status;
}

static int64_t number(const char *text, int64_t min, int64_t max) {
    char *end;
    long long n = strtoll(text, &end, 10);
    if (end != text && !*end && n >= min && n <= max) return n;
    fprintf(stderr, "skynet: a number from %lld to %lld is wanted, not '%s'\n", (long long)min, (long long)max, text);
    return -1;
}

int weir_main(int argc, char **argv) {
    static const struct option options[] = { { "help", no_argument, NULL, 'h' }, { 0 } };
    for (int c; (c = getopt_long(argc, argv, "h", options, NULL)) != -1;)
        return c == 'h' ? usage(stdout, 0) : usage(stderr, 2);
    if (argc - optind > 2) return usage(stderr, 2);
    int64_t depth = 6, width = 10, leaves = 1, sum = 0;
    if (argc > optind && (depth = number(argv[optind], 0, 30)) < 0) return 2;
    if (argc > optind + 1 && (width = number(argv[optind + 1], 2, 1000)) < 0) return 2;
    for (int64_t level = 0; level < depth && leaves <= 100000000; level++) leaves *= width;
    if (leaves > 100000000) return fputs("skynet: that would be more than 100 million leaves\n", stderr), 2;

    weir_time start = weir_now();
    sum_chan result = weir_make(sum_chan, 0);
    int error = weir_go(node, weir_retain(result), 0, leaves, width);
    if (!error) error = weir_recv(result, &sum);
    if (!error) error = failed;
    if (error) return fprintf(stderr, "skynet: %s\n", strerror(-error)), 1;
    weir_release(result);
    printf("%lld leaves in %.3f s: %lld\n", (long long)leaves, (double)(weir_now() - start) / (double)WEIR_SECOND,
           (long long)sum);
    return 0;
}
