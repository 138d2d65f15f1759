/*
 * philosophers: N philosophers sit around a table with N forks, one between any two; each needs both forks beside it to
 * eat. Nobody may starve, and they must not each take one fork and wait for the other for ever.
 *
 * A fork is a channel of capacity 1 with one element in it: to take it is to receive, to put it back is to send. There
 * is a chair less than there are philosophers, a semaphore, so somebody always gets both forks. Chairs and forks
 * go to those who wait for them in the order in which they came, so everybody eats about as often.
 */
#include <weir.h>

#include <getopt.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

struct table {
    int philosophers;
    long meals;             /* to be eaten in all */
    _Atomic long served;
    weir_sem chairs;
    weir_unit_chan *forks;  /* forks[i] is to the left of philosopher i */
    long *eaten;            /* by each */
};

static int dine(struct table *t, int i) {
    weir_unit_chan left = t->forks[i], right = t->forks[(i + 1) % t->philosophers];
    int error;
    while (!(error = weir_sem_acquire(&t->chairs, 1)) && !(error = weir_recv(left, NULL)) &&
           !(error = weir_recv(right, NULL))) {
        bool hungry = t->served++ < t->meals;
        if (hungry) {
            t->eaten[i]++;
            error = weir_sleep(20 * WEIR_MICROSECOND);
        }
        if (!error) error = weir_send(left, weir_unit_value);
        if (!error) error = weir_send(right, weir_unit_value);
        weir_sem_release(&t->chairs, 1);
        if (!hungry || error) break;
        weir_yield(); /* think */
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
    for (int i = 0; i < t->philosophers; i++) {
        printf("philosopher %d: %ld\n", i + 1, t->eaten[i]);
        if (t->eaten[i] < fewest) fewest = t->eaten[i];
        if (t->eaten[i] > most) most = t->eaten[i];
        all += t->eaten[i];
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

    struct table t = { .philosophers = (int)n, .meals = meals };
    t.forks = calloc((size_t)n, sizeof *t.forks);
    t.eaten = calloc((size_t)n, sizeof *t.eaten);
    if (!t.forks || !t.eaten) return fputs("philosophers: out of memory\n", stderr), 1;
    int error = weir_sem_init(&t.chairs, n - 1);
    for (int i = 0; i < n && !error; i++) {
        t.forks[i] = weir_make(weir_unit_chan, 1);
        error = weir_try_send(t.forks[i], weir_unit_value);
    }
    int failed = 0;
    weir_scoped(s, &failed) {
        for (int i = 0; i < n && !error; i++) error = weir_scope_go(&s, dine, &t, i);
        if (error) break;
    }
    if (!error) error = failed;
    if (error) fprintf(stderr, "philosophers: %s\n", strerror(-error));
    else print(&t);
    for (int i = 0; i < n; i++) weir_release(t.forks[i]);
    free(t.forks);
    free(t.eaten);
    return error != 0;
}
