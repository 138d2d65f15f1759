/* Child processes: how they start, talk, end and are ended; and that nothing of them is left. */
#include "net_test.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "io/io.h"
#undef errno
#define errno (*weir_errno_())

#define ARGV(...) ((const char *const[]){ __VA_ARGS__, NULL })
#define SHELL(script) ARGV("sh", "-c", script)

static int run(const char *script) {
    int status = 12345;
    weir_command c = { .argv = SHELL(script) };
    CHECK_EQ(weir_process_run(&c, &status), 0);
    return status;
}

static void no_child_is_left(void) {
    CHECK_EQ(waitpid(-1, NULL, WNOHANG), -1);
    CHECK_EQ(errno, ECHILD);
}

/* All that the script writes. */
static const char *output_with(weir_command *c) {
    static char text[4096];
    int out[2], status;
    weir_process p;
    CHECK_EQ(weir_pipe(out), 0);
    c->out = out[1];
    CHECK_EQ(weir_process_start(c, &p), 0);
    CHECK_EQ(weir_close_fd(out[1]), 0);
    int64_t n = weir_read_full(out[0], text, sizeof text - 1);
    CHECK_GE(n, 0);
    text[n] = 0;
    CHECK_EQ(weir_close_fd(out[0]), 0);
    CHECK_EQ(weir_process_wait(&p, &status), 0);
    CHECK_EQ(status, 0);
    return text;
}
static const char *output(const char *script) {
    weir_command c = { .argv = SHELL(script) };
    return output_with(&c);
}

/* ---- Starting and ending --------------------------------------------------------------------------------- */

TEST(a_child_says_how_it_ended) {
    int before = open_fds_with_poller();
    CHECK_EQ(run("exit 0"), 0);
    CHECK_EQ(run("exit 7"), 7);
    CHECK_EQ(run("kill -TERM $$"), -SIGTERM);
    CHECK_EQ(run("kill -KILL $$"), -SIGKILL);
    weir_command c = { .argv = SHELL("exit 3") };
    CHECK_EQ(weir_process_run(&c, NULL), 0);
    CHECK_EQ(open_fds(), before);
    no_child_is_left();
}

TEST(start_itself_says_what_went_wrong) {
    int before = open_fds_with_poller();
    char name[] = "/tmp/weir-process-XXXXXX";
    int fd = mkstemp(name);
    CHECK_GE(fd, 0);
    CHECK_EQ(write(fd, "nothing", 7), 7);
    weir_process p;
    weir_command c = { .argv = ARGV("no-such-program-anywhere") };
    CHECK_EQ(weir_process_start(&c, &p), -ENOENT);
    CHECK_EQ(weir_process_wait(&p, NULL), -EINVAL);
    CHECK_EQ(weir_process_kill(&p, SIGTERM), -EINVAL);
    c.argv = ARGV("/no/such/program");
    CHECK_EQ(weir_process_start(&c, &p), -ENOENT);
    c.argv = ARGV(name); /* not executable, not even for root */
    CHECK_EQ(weir_process_start(&c, &p), -EACCES);
    CHECK_EQ(fchmod(fd, 0755), 0);
    close(fd);
    CHECK_EQ(weir_process_start(&c, &p), -ENOEXEC);
    CHECK_EQ(unlink(name), 0);
    c = (weir_command){ .argv = ARGV("true"), .dir = "/no/such/directory" };
    CHECK_EQ(weir_process_start(&c, &p), -ENOENT);
    c = (weir_command){ .argv = ARGV("true"), .err = 999 };
    CHECK_EQ(weir_process_start(&c, &p), -EBADF);
    c = (weir_command){ .argv = ARGV("true"), .in = -2 };
    CHECK_EQ(weir_process_start(&c, &p), -EBADF);
    c = (weir_command){ .argv = ARGV("true"), .flags = 2 };
    CHECK_EQ(weir_process_start(&c, &p), -EINVAL);
    c = (weir_command){ .argv = (const char *const[]){ NULL } };
    CHECK_EQ(weir_process_start(&c, &p), -EINVAL);
    CHECK_EQ(open_fds(), before);
    no_child_is_left();
}

TEST(the_program_is_looked_for_in_path) {
    char directory[] = "/tmp/weir-path-XXXXXX", path[300], file[100];
    CHECK(mkdtemp(directory));
    snprintf(file, sizeof file, "%s/weir-test-program", directory);
    int fd = open(file, O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
    CHECK_GE(fd, 0);
    CHECK_EQ(write(fd, "#!/bin/sh\nexit 9\n", 17), 17);
    close(fd);
    snprintf(path, sizeof path, "/dev/null:/no/such:%s:%s", directory, getenv("PATH"));
    CHECK_EQ(setenv("PATH", path, 1), 0);
    int status;
    weir_command c = { .argv = ARGV("weir-test-program") };
    CHECK_EQ(weir_process_run(&c, &status), 0);
    CHECK_EQ(status, 9);
    CHECK_EQ(chmod(file, 0644), 0);
    CHECK_EQ(weir_process_run(&c, &status), -EACCES); /* seen, and not for us */
    CHECK_EQ(unlink(file), 0);
    CHECK_EQ(rmdir(directory), 0);
}

TEST(arguments_environment_and_directory_arrive) {
    weir_command c = { .argv = ARGV("sh", "-c", "echo \"$0-$1\"; echo \"$COLOUR\"; pwd", "zero", "one two"),
                       .env = ARGV("COLOUR=blue"), .dir = "/" };
    CHECK_STR(output_with(&c), "zero-one two\nblue\n/\n");
    CHECK_EQ(setenv("WEIR_TEST_COLOUR", "red", 1), 0);
    CHECK_STR(output("echo $WEIR_TEST_COLOUR"), "red\n");
}

static void wait_for_end(weir_process *p, int *status) { CHECK_EQ(weir_process_wait(p, status), 0); }

TEST(several_may_wait_for_one_child) {
    int fds[2], status = 0;
    weir_process p;
    CHECK_EQ(weir_pipe(fds), 0);
    weir_command c = { .argv = SHELL("read x; exit 5"), .in = fds[0] };
    CHECK_EQ(weir_process_start(&c, &p), 0);
    int results[4] = { 0 };
    weir_scoped(s) {
        for (int i = 0; i < 4; i++) CHECK_EQ(weir_scope_go(&s, wait_for_end, &p, &results[i]), 0);
        test_until_n_parked(4, "IO wait");
        CHECK_EQ(weir_write_all(fds[1], "\n", 1), 1);
    }
    for (int i = 0; i < 4; i++) CHECK_EQ(results[i], 5);
    CHECK_EQ(weir_process_wait(&p, &status), 0); /* and after */
    CHECK_EQ(status, 5);
    CHECK_EQ(weir_process_kill(&p, SIGKILL), -ESRCH);
    CHECK_EQ(weir_close_fd(fds[0]), 0);
    CHECK_EQ(weir_close_fd(fds[1]), 0);
}

TEST(a_status_that_somebody_else_took_is_an_error_and_no_more) {
    CHECK(signal(SIGCHLD, SIG_IGN) != SIG_ERR);
    int before = open_fds_with_poller();
    weir_process p;
    weir_command c = { .argv = ARGV("true") };
    CHECK_EQ(weir_process_start(&c, &p), 0);
    CHECK_EQ(weir_process_wait(&p, NULL), -ECHILD);
    CHECK_EQ(weir_process_wait(&p, NULL), -ECHILD);
    CHECK_EQ(weir_process_run(&c, NULL), -ECHILD);
    CHECK_EQ(open_fds(), before);
}

/* ---- What a child gets ------------------------------------------------------------------------------------- */

#define BIG ((size_t)4 << 20)
static void feed(int fd) {
    char *data = malloc(BIG);
    CHECK(data);
    for (size_t i = 0; i < BIG; i++) data[i] = (char)(i * 2654435761u >> 24);
    CHECK_EQ(weir_write_all(fd, data, BIG), (int64_t)BIG);
    free(data);
    CHECK_EQ(weir_close_fd(fd), 0);
}

TEST(much_goes_into_a_child_and_comes_out_again) {
    int in[2], out[2], status = -1;
    weir_process p;
    CHECK_EQ(weir_pipe(in), 0);
    CHECK_EQ(weir_pipe(out), 0);
    weir_command c = { .argv = ARGV("cat"), .in = in[0], .out = out[1] };
    CHECK_EQ(weir_process_start(&c, &p), 0);
    CHECK_EQ(weir_close_fd(in[0]), 0);
    CHECK_EQ(weir_close_fd(out[1]), 0);
    char *data = malloc(BIG + 1);
    CHECK(data);
    weir_scoped(s) {
        CHECK_EQ(weir_scope_go(&s, feed, in[1]), 0);
        CHECK_EQ(weir_read_full(out[0], data, BIG + 1), (int64_t)BIG);
    }
    for (size_t i = 0; i < BIG; i++)
        if (data[i] != (char)(i * 2654435761u >> 24)) FAIL("byte %zu is wrong", i);
    free(data);
    CHECK_EQ(weir_process_wait(&p, &status), 0);
    CHECK_EQ(status, 0);
    CHECK_EQ(weir_close_fd(out[0]), 0);
}

/* A child that waits, of which /proc tells. */
static void start_cat(weir_command *c, weir_process *p, int in[2], int out[2]) {
    char byte = 0;
    CHECK_EQ(weir_pipe(in), 0);
    CHECK_EQ(weir_pipe(out), 0);
    c->argv = ARGV("cat"), c->in = in[0], c->out = out[1];
    CHECK_EQ(weir_process_start(c, p), 0);
    CHECK_EQ(weir_write_all(in[1], "x", 1), 1);
    CHECK_EQ(weir_read(out[0], &byte, 1), 1); /* it is past its beginning */
}
static void end_cat(weir_process *p, int in[2], int out[2]) {
    int status = -1;
    CHECK_EQ(weir_close_fd(in[1]), 0);
    CHECK_EQ(weir_process_wait(p, &status), 0);
    CHECK_EQ(status, 0);
    CHECK_EQ(weir_close_fd(in[0]), 0);
    CHECK_EQ(weir_close_fd(out[0]), 0);
    CHECK_EQ(weir_close_fd(out[1]), 0);
}

TEST(a_child_gets_its_three_descriptors_and_no_other) {
    int in[2], out[2];
    char name[64];
    weir_process p;
    CHECK_GE(open("/dev/null", O_RDONLY), 0); /* not closed on exec */
    CHECK_EQ(dup2(1, 500), 500);
    weir_command c = { .err = WEIR_DEV_NULL };
    start_cat(&c, &p, in, out);
    snprintf(name, sizeof name, "/proc/%d/fd", p.pid);
    DIR *d = opendir(name);
    CHECK(d);
    int seen = 0;
    for (struct dirent *e; (e = readdir(d));)
        if (e->d_name[0] != '.') seen |= 1 << (atoi(e->d_name) < 30 ? atoi(e->d_name) : 30);
    closedir(d);
    CHECK_EQ(seen, 1 | 2 | 4);
    char target[64] = "";
    snprintf(name, sizeof name, "/proc/%d/fd/2", p.pid);
    CHECK_GE(readlink(name, target, sizeof target - 1), 1);
    CHECK_STR(target, "/dev/null");
    end_cat(&p, in, out);
}

TEST(descriptors_given_to_a_child_are_blocking_there) {
    int in[2], out[2];
    weir_process p;
    weir_command c = { 0 };
    start_cat(&c, &p, in, out);
    CHECK_EQ(fcntl(in[0], F_GETFL) & O_NONBLOCK, 0); /* the same open file */
    CHECK_EQ(fcntl(out[1], F_GETFL) & O_NONBLOCK, 0);
    CHECK_EQ(fcntl(in[1], F_GETFL) & O_NONBLOCK, O_NONBLOCK); /* ours are as they were */
    CHECK_EQ(fcntl(out[0], F_GETFL) & O_NONBLOCK, O_NONBLOCK);
    end_cat(&p, in, out);
}

/* Every way round, and one for two. */
TEST(descriptors_may_be_swapped) {
    int out[2], err[2], status = -1;
    char text[32] = "";
    CHECK_EQ(weir_pipe(out), 0);
    CHECK_EQ(weir_pipe(err), 0);
    CHECK_EQ(dup2(out[1], 2), 2); /* what is 1 and 2 here is 2 and 1 there */
    CHECK_EQ(dup2(err[1], 1), 1);
    weir_command c = { .argv = SHELL("echo out; echo err >&2"), .out = 2, .err = 1 };
    CHECK_EQ(weir_process_run(&c, &status), 0);
    CHECK_EQ(status, 0);
    CHECK_EQ(weir_read(out[0], text, 4), 4);
    CHECK_STR(text, "out\n");
    CHECK_EQ(weir_read(err[0], text, 4), 4);
    CHECK_STR(text, "err\n");
    c.err = c.out = err[1];
    CHECK_EQ(weir_process_run(&c, &status), 0);
    CHECK_EQ(weir_read_full(err[0], text, 8), 8);
    CHECK_STR(text, "out\nerr\n");
}

TEST(without_a_standard_input_here_there_can_be_one_there) {
    CHECK_EQ(close(0), 0);
    CHECK_EQ(close(2), 0);
    weir_command c = { .argv = SHELL("cat; readlink /proc/self/fd/0 /proc/self/fd/2"), .in = WEIR_DEV_NULL, .err = WEIR_DEV_NULL };
    CHECK_STR(output_with(&c), "/dev/null\n/dev/null\n");
}

static void on_signal(int signo) { (void)signo; }
static unsigned long long signals_of(int pid, const char *which) {
    char name[64], line[256];
    unsigned long long set = 0;
    snprintf(name, sizeof name, "/proc/%d/status", pid);
    FILE *f = fopen(name, "r");
    CHECK(f);
    while (fgets(line, sizeof line, f))
        if (!strncmp(line, which, strlen(which))) set = strtoull(line + strlen(which) + 1, NULL, 16);
    fclose(f);
    return set;
}

TEST(a_child_begins_with_no_signal_blocked_or_handled) {
    int in[2], out[2];
    weir_process p;
    weir_command c = { 0 };
    sigset_t blocked;
    sigfillset(&blocked);
    weir_lock_thread();
    CHECK_EQ(pthread_sigmask(SIG_BLOCK, &blocked, NULL), 0);
    CHECK(signal(SIGPIPE, SIG_IGN) != SIG_ERR);
    CHECK(signal(SIGHUP, SIG_IGN) != SIG_ERR);
    CHECK(signal(SIGUSR1, on_signal) != SIG_ERR);
    start_cat(&c, &p, in, out);
    CHECK_EQ(signals_of(p.pid, "SigBlk"), 0);
    CHECK_EQ(signals_of(p.pid, "SigCgt"), 0);
    unsigned long long ignored = signals_of(p.pid, "SigIgn");
    CHECK_EQ(ignored >> (SIGPIPE - 1) & 1, 0);
    CHECK_EQ(ignored >> (SIGHUP - 1) & 1, 1); /* nohup */
    end_cat(&p, in, out);
    struct sigaction now; /* and here nothing has changed */
    CHECK_EQ(sigaction(SIGUSR1, NULL, &now), 0);
    CHECK(now.sa_handler == on_signal);
    weir_unlock_thread();
}

/* ---- Ending them ------------------------------------------------------------------------------------------ */

TEST(kill_ends_a_child) {
    int status = 0;
    weir_process p;
    weir_command c = { .argv = ARGV("sleep", "1000") };
    CHECK_EQ(weir_process_start(&c, &p), 0);
    CHECK_EQ(weir_process_kill(&p, 12345), -EINVAL);
    weir_timeout(5 * WEIR_MILLISECOND) CHECK_EQ(weir_process_wait(&p, &status), -ETIMEDOUT);
    CHECK_EQ(weir_process_kill(&p, SIGTERM), 0);
    CHECK_EQ(weir_process_wait(&p, &status), 0);
    CHECK_EQ(status, -SIGTERM);
    no_child_is_left();
}

static void run_until_cancelled(const weir_command *c, int *status) { CHECK_EQ(weir_process_run(c, status), -ECANCELED); }

static int status_of_cancelled(const weir_command *c, int ready) {
    int status = 12345;
    char byte;
    weir_scoped(s) {
        CHECK_EQ(weir_scope_go(&s, run_until_cancelled, c, &status), 0);
        CHECK_EQ(weir_read(ready, &byte, 1), 1);
        test_until_n_parked(1, "IO wait");
        weir_scope_cancel(&s);
    }
    no_child_is_left();
    return status;
}

TEST(the_end_of_the_context_kills_the_child) {
    int before = open_fds_with_poller(), out[2];
    CHECK_EQ(weir_pipe(out), 0);
    weir_command c = { .argv = SHELL("echo; exec sleep 1000"), .out = out[1] };
    CHECK_EQ(status_of_cancelled(&c, out[0]), -SIGKILL);
    CHECK_EQ(weir_close_fd(out[0]), 0);
    CHECK_EQ(weir_close_fd(out[1]), 0);
    weir_timeout(10 * WEIR_MILLISECOND) {
        c.out = WEIR_INHERIT, c.argv = ARGV("sleep", "1000");
        CHECK_EQ(weir_process_run(&c, NULL), -ETIMEDOUT);
        CHECK_EQ(weir_process_run(&c, NULL), -ETIMEDOUT); /* not even started */
    }
    CHECK_EQ(open_fds(), before);
    no_child_is_left();
}

TEST(a_child_with_grace_may_end_by_itself) {
    int out[2];
    CHECK_EQ(weir_pipe(out), 0);
    weir_command c = { .argv = SHELL("trap 'exit 7' TERM; echo; while :; do sleep 0.01; done"), .out = out[1],
                       .grace = WEIR_MINUTE };
    CHECK_EQ(status_of_cancelled(&c, out[0]), 7);
    c.argv = SHELL("trap '' TERM; echo; while :; do sleep 0.01; done"), c.grace = 30 * WEIR_MILLISECOND;
    CHECK_EQ(status_of_cancelled(&c, out[0]), -SIGKILL);
}

TEST(a_group_ends_with_its_child) {
    int out[2];
    CHECK_EQ(weir_pipe(out), 0);
    weir_command c = { .argv = SHELL("sleep 1000 & echo; wait"), .out = out[1], .flags = WEIR_PROCESS_GROUP };
    CHECK_EQ(status_of_cancelled(&c, out[0]), -SIGKILL);
    c.grace = WEIR_MINUTE; /* the child itself ends on SIGTERM, what it has started does not */
    c.argv = SHELL("sh -c 'trap \"\" TERM; echo; while :; do sleep 0.01; done' & wait");
    CHECK_EQ(status_of_cancelled(&c, out[0]), -SIGTERM);
    CHECK_EQ(weir_close_fd(out[1]), 0);
    CHECK_EQ(weir_read(out[0], &(char){ 0 }, 1), 0); /* nobody has its other end any more */
    CHECK_EQ(weir_close_fd(out[0]), 0);
}

TEST(a_cancelled_start_starts_nothing) {
    weir_process p;
    weir_command c = { .argv = ARGV("sleep", "1000") };
    weir_ctx *ended = weir_ctx_with_cancel(NULL);
    weir_ctx_cancel(ended);
    weir_with(ended) {
        CHECK_EQ(weir_process_start(&c, &p), -ECANCELED);
        CHECK_EQ(weir_process_run(&c, NULL), -ECANCELED);
    }
    weir_ctx_release(ended);
    no_child_is_left();
}

/* ---- Many, and elsewhere ------------------------------------------------------------------------------------ */

static void run_one(int i) {
    char script[32];
    snprintf(script, sizeof script, "exit %d", i % 200);
    CHECK_EQ(run(script), i % 200);
}

TEST(many_children_at_once_leave_nothing_behind) {
    int before = open_fds_with_poller();
    weir_scoped(s) for (int i = 0; i < TEST_SCALE(200); i++) CHECK_EQ(weir_scope_go(&s, run_one, i), 0);
    CHECK_EQ(open_fds(), before);
    no_child_is_left();
}

TEST(kernels_without_pidfds_will_do) {
    int out[2], before = open_fds_with_poller();
    wr_process_without_pidfd = true;
    CHECK_EQ(run("exit 7"), 7);
    CHECK_EQ(run("kill -TERM $$"), -SIGTERM);
    CHECK_EQ(weir_pipe(out), 0);
    weir_command c = { .argv = SHELL("trap 'exit 7' TERM; echo; while :; do sleep 0.01; done"), .out = out[1],
                       .grace = WEIR_MINUTE, .flags = WEIR_PROCESS_GROUP };
    int status = 0;
    weir_process p;
    CHECK_EQ(weir_process_start(&c, &p), 0);
    CHECK_EQ(weir_read(out[0], &(char){ 0 }, 1), 1);
    weir_timeout(20 * WEIR_MILLISECOND) CHECK_EQ(weir_process_wait(&p, &status), -ETIMEDOUT);
    CHECK_EQ(weir_process_kill(&p, SIGTERM), 0);
    CHECK_EQ(weir_process_wait(&p, &status), 0);
    CHECK_EQ(status, 7);
    weir_timeout(20 * WEIR_MILLISECOND) CHECK_EQ(weir_process_run(&c, &status), -ETIMEDOUT);
    CHECK_EQ(weir_close_fd(out[0]), 0);
    CHECK_EQ(weir_close_fd(out[1]), 0);
    CHECK_EQ(open_fds(), before);
    no_child_is_left();
}

PLAIN_TEST(without_a_runtime_a_child_can_be_started_not_waited_for) {
    weir_process p;
    weir_command c = { .argv = SHELL("exec sleep 1000") };
    CHECK_EQ(weir_process_run(&c, NULL), -EPERM);
    CHECK_EQ(weir_process_start(&c, &p), 0);
    CHECK_EQ(weir_process_wait(&p, NULL), -EPERM);
    CHECK_EQ(weir_process_kill(&p, SIGKILL), 0);
    int status;
    CHECK_EQ(waitpid(p.pid, &status, 0), p.pid);
    CHECK_EQ(weir_process_wait(&p, NULL), -ECHILD);
}
