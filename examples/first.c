/*
 * first: ask several servers for the same, take the first answer, and cut the others off.
 *
 * Every fetch is a goroutine in one scope and sends what it has to a channel with room for all, so none waits for a receiver who has
 * left. Leaving the block by `break` cancels the scope: the losers' requests end in the middle, their connections are closed, and
 * only when all are gone does the block end. A server that fails, or answers with an error, does not win.
 */
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "weir.h"
#include "weir/http.h"

struct answer {
    const char *url;
    int error;
    weir_http_response resp;
};
typedef WEIR_CHAN(struct answer *) answer_chan;

static void fetch(struct answer *a, answer_chan answers) {
    a->error = weir_http_get(a->url, &a->resp);
    if (!a->error && a->resp.status >= 400) {
        snprintf(a->resp.error, sizeof a->resp.error, "%s: status %d", a->url, a->resp.status);
        a->error = -EIO;
    }
    if (weir_send(answers, a)) {} /* cancelled: there is a winner */
    weir_release(answers);
}

static struct answer *first(struct answer *all, int n) {
    answer_chan answers = weir_make(answer_chan, (size_t)n);
    struct answer *winner = NULL;
    int failed = 0;
    weir_scoped(s, &failed) {
        for (int i = 0; i < n && !failed; i++)
            if ((failed = weir_scope_go(&s, fetch, &all[i], weir_retain(answers)))) weir_release(answers);
        struct answer *a;
        for (int i = 0; i < n && !failed && !winner && !(failed = weir_recv(answers, &a)); i++) {
            if (!a->error) winner = a;
            else fprintf(stderr, "first: %s\n", a->resp.error);
        }
        break;
    }
    weir_release(answers);
    return winner;
}

static int usage(FILE *to, int status) {
    fputs("usage: first [-t SECONDS] URL...\n"
          "Ask all at once, print the answer that comes first, and cut the others off.\n\n"
          "  -t, --timeout S   give up after S seconds (default: 10)\n"
          "  -h, --help        this text\n\n"
          "Exit status: 0, 1 if there was no answer, 2 for wrong arguments. Which one it was goes to standard error.\n",
          to);
    return status;
}

int weir_main(int argc, char **argv) {
    static const struct option options[] = {
        { "timeout", required_argument, NULL, 't' },
        { "help", no_argument, NULL, 'h' },
        { 0 }
    };
    double seconds = 10;
    for (int c; (c = getopt_long(argc, argv, "t:h", options, NULL)) != -1;) {
        if (c == 'h') return usage(stdout, 0);
        if (c != 't') return usage(stderr, 2);
        seconds = atof(optarg);
    }
    int n = argc - optind;
    if (n < 1 || !(seconds > 0 && seconds < 1e6)) return usage(stderr, 2);
    struct answer *all = calloc((size_t)n, sizeof *all), *winner = NULL;
    if (!all) return 1;
    for (int i = 0; i < n; i++) all[i].url = argv[optind + i];
    weir_time start = weir_now();
    weir_timeout((weir_duration)(seconds * WEIR_SECOND)) winner = first(all, n);
    if (winner) {
        fwrite(winner->resp.body, 1, winner->resp.length, stdout);
        fprintf(stderr, "first: %s, after %.3f s, of %d\n", winner->url, (double)(weir_now() - start) / 1e9, n);
    } else {
        fputs("first: no answer\n", stderr);
    }
    for (int i = 0; i < n; i++) weir_http_free(&all[i].resp);
    free(all);
    return winner ? 0 : 1;
}
