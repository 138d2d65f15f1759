/*
 * philosophers: N philosophers sit around a table with N forks, one between any two; each needs both forks beside it
 * to eat. They must not each hold one fork and wait for the other for ever, and nobody may starve.
 *
 * Here a fork is never put back on the table: who has eaten hands both on to the neighbours. So neighbours take turns,
 * nobody is ever two meals ahead of one, and however the goroutines are scheduled, all get their share. Nor can they
 * block one another: draw an arrow for each fork, to the one who is to use it next. The arrows never all go round the
 * table in one direction: not at first, as every second philosopher has both forks; nor later, as those who have eaten
 * turn both arrows away from themselves. So there is always somebody to whom both point.
 *
 * The price: one who thinks for long delays the neighbours.
 */
#include <weir.h>

#include <getopt.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

struct philosopher {
    weir_unit_chan left, right; /* forks handed to this one by the neighbours; each has room for the one fork */
    long eaten;
};

struct table {
    int size;
    long meals;                 /* to be eaten in all */
    _Atomic long served;
    struct philosopher *who;
};

/* The neighbour on the left has our left fork as its right one. */
static struct philosopher *left_of(struct table *t, int i) {
    return &t->who[(i + t->size - 1) % t->size];
}

static struct philosopher *right_of(struct table *t, int i) {
    return &t->who[(i + 1) % t->size];
}

static int dine(struct table *t, int i) {
    struct philosopher *me = &t->who[i];
    bool hungry = true;
    int error = 0;
    while (hungry && !(error = weir_recv(me->left, NULL)) && !(error = weir_recv(me->right, NULL))) {
        hungry = t->served++ < t->meals;
        if (hungry) {
            me->eaten++;
            error = weir_sleep(20 * WEIR_MICROSECOND);
        }
        if (!error) error = weir_send(left_of(t, i)->right, weir_unit_value);
        if (!error) error = weir_send(right_of(t, i)->left, weir_unit_value);
        if (error) break;
    }
    return error;
}

/* Give both forks to every second one, beginning with the first. */
static int lay(struct table *t) {
    int error = 0;
    for (int i = 0; i < t->size; i++) {
        t->who[i].left = weir_make(weir_unit_chan, 1);
        t->who[i].right = weir_make(weir_unit_chan, 1);
    }
    for (int i = 0; i < t->size && !error; i++) {
        /* The fork between i and the next one. */
        bool first = i % 2 == 0 && i != t->size - 1;
        error = weir_try_send(first ? t->who[i].right : right_of(t, i)->left, weir_unit_value);
    }
    return error;
}

static int usage(FILE *to, int status) {
    fputs("usage: philosophers [N [MEALS]]\n"
          "N philosophers (default 5) eat MEALS meals in all (default 1000); prints how many each has had.\n",
          to);
    return status;
}

static long number(const char *text, long min, long max) {
    char *end;
    long n = strtol(text, &end, 10);
    if (end != text && !*end && n >= min && n <= max) return n;
    fprintf(stderr, "philosophers: a number from %ld to %ld is wanted, not '%s'\n", min, max, text);
    return -1;
}

static void print(const struct table *t) {
    long fewest = t->meals, most = 0, all = 0;
    for (int i = 0; i < t->size; i++) {
        long eaten = t->who[i].eaten;
        printf("philosopher %d: %ld\n", i + 1, eaten);
        if (eaten < fewest) fewest = eaten;
        if (eaten > most) most = eaten;
        all += eaten;
    }
    printf("%ld meals, fewest %ld, most %ld\n", all, fewest, most);
}

int weir_main(int argc, char **argv) {
    static const struct option options[] = { { "help", no_argument, NULL, 'h' }, { 0 } };
    for (int c; (c = getopt_long(argc, argv, "h", options, NULL)) != -1;)
        return c == 'h' ? usage(stdout, 0) : usage(stderr, 2);
    if (argc - optind > 2) return usage(stderr, 2);
    long n = 5, meals = 1000;
    if (argc > optind && (n = number(argv[optind], 2, 10000)) < 0) return 2;
    if (argc > optind + 1 && (meals = number(argv[optind + 1], 1, 1000000000)) < 0) return 2;

    struct table t = { .size = (int)n, .meals = meals, .who = calloc((size_t)n, sizeof *t.who) };
    if (!t.who) return fputs("philosophers: out of memory\n", stderr), 1;
    int failed = 0, error = lay(&t);
    weir_scoped(s, &failed) {
        for (int i = 0; i < n && !error; i++) error = weir_scope_go(&s, dine, &t, i);
        if (error) break;
    }
    if (!error) error = failed;
    if (error) fprintf(stderr, "philosophers: %s\n", strerror(-error));
    else print(&t);
    for (int i = 0; i < n; i++) {
        weir_release(t.who[i].left);
        weir_release(t.who[i].right);
    }
    free(t.who);
    return error != 0;
}
