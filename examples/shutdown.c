/*
 * shutdown: a server that ends in good order. Jobs come in all the time and workers do them; on SIGINT or SIGTERM no more jobs are
 * taken, those that are in work get a grace period, and what is not done by then is cancelled. A second signal ends it all at once.
 */
#include <weir.h>

#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

typedef WEIR_CHAN(int) int_chan;

struct server {
    int_chan jobs;              /* closed: no more come */
    weir_duration work;         /* that a job takes */
    int workers;
    _Atomic long taken, done, cancelled;
};

/* Until a signal comes: 0. */
static int accept_jobs(struct server *s, int_chan signals) {
    for (int job = 0;; job++) {
        int signo, arm = weir_select(weir_on_recv(signals, &signo), weir_on_send(s->jobs, job));
        if (arm < 0) return arm;
        if (arm == 0) {
            printf("%s: no more jobs\n", strsignal(signo));
            return 0;
        }
        if (s->taken++ == 0) puts("serving"), fflush(stdout);
    }
}

static void worker(struct server *s) {
    while (weir_recv(s->jobs, NULL) == 0) {
        if (weir_sleep(s->work) == 0) s->done++; /* the work */
        else s->cancelled++;
    }
}

static void work(struct server *s, weir_unit_chan all_done) {
    weir_scoped(workers)
        for (int i = 0; i < s->workers; i++)
            if (weir_scope_go(&workers, worker, s)) break;
    weir_close(all_done);
}

/* 0: the workers have ended by themselves; 1: time is up, or there was another signal. */
static int drain(weir_unit_chan all_done, int_chan signals, weir_duration grace) {
    int arm = -ETIMEDOUT;
    weir_timeout(grace) arm = weir_select(weir_on_recv(all_done, NULL), weir_on_recv(signals, NULL));
    if (arm == 0) return 0;
    puts(arm == 1 ? "another signal: at once" : "time is up");
    return 1;
}

static int serve(struct server *s, int_chan signals, weir_duration grace) {
    weir_unit_chan all_done = weir_make(weir_unit_chan, 0);
    int late = 0, error = 0;
    weir_scoped(all) {
        error = weir_scope_go(&all, work, s, all_done);
        if (!error) error = accept_jobs(s, signals);
        weir_close(s->jobs);
        fflush(stdout);
        if (!error) late = drain(all_done, signals, grace);
        if (late) weir_scope_cancel(&all);
    }
    weir_release(all_done);
    if (error) return fprintf(stderr, "shutdown: %s\n", strerror(-error)), 1;
    printf("%ld jobs: %ld done, %ld cancelled\n", s->taken, s->done, s->cancelled);
    return late;
}

static int usage(FILE *to, int status) {
    fputs("usage: shutdown [-w WORKERS] [-m MILLISECONDS] [-g MILLISECONDS]\n"
          "Serve until SIGINT or SIGTERM; then finish the jobs that were taken (each -m, default 20 ms) within a grace period\n"
          "(-g, default 1000 ms). What is late is cancelled, and so is all at a second signal; the exit status is then 1.\n",
          to);
    return status;
}

int weir_main(int argc, char **argv) {
    static const struct option options[] = { { "help", no_argument, NULL, 'h' }, { 0 } };
    long workers = 4, job = 20, grace = 1000;
    for (int c; (c = getopt_long(argc, argv, "hw:m:g:", options, NULL)) != -1;) {
        char *end = NULL;
        long *number = c == 'w' ? &workers : c == 'm' ? &job : c == 'g' ? &grace : NULL;
        if (!number) return c == 'h' ? usage(stdout, 0) : usage(stderr, 2);
        *number = strtol(optarg, &end, 10);
        if (end == optarg || *end || *number < 1 || *number > 1000000)
            return fprintf(stderr, "shutdown: -%c is a number from 1 to 1000000, not '%s'\n", c, optarg), 2;
    }
    if (argc > optind) return usage(stderr, 2);

    struct server s = { .jobs = weir_make(int_chan, 0), .work = job * WEIR_MILLISECOND, .workers = (int)workers };
    int_chan signals = weir_make(int_chan, 2);
    int error = weir_signal_notify(signals, SIGINT, SIGTERM), status = 1;
    if (error) fprintf(stderr, "shutdown: %s\n", strerror(-error));
    else status = serve(&s, signals, grace * WEIR_MILLISECOND);
    weir_signal_stop(signals);
    weir_release(signals);
    weir_release(s.jobs);
    return status;
}
