/*
 * Calls from signal handlers, which are not allowed: where weir notices one, it ends the process with a message. It
 * notices one that blocks on the alternate stack, and any on the thread that waits in weir_run.
 */
#include "test.h"

#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

static void handle(int signo, void (*handler)(int), int flags) {
    struct sigaction action = { .sa_handler = handler, .sa_flags = flags };
    CHECK_EQ(sigaction(signo, &action, NULL), 0);
}

static void sleeps(int signo) {
    (void)signo;
    weir_sleep(WEIR_MILLISECOND);
}

EXIT_TEST(a_handler_on_the_alternate_stack_that_blocks_ends_the_process, 2,
          "fatal error: a call that blocks was made in a signal handler") {
    handle(SIGUSR1, sleeps, SA_ONSTACK);
    raise(SIGUSR1);
}

static weir_unit_chan nobody_sends;

static void receives(int signo) {
    (void)signo;
    (void)!weir_recv(nobody_sends, NULL);
}

EXIT_TEST(a_handler_that_receives_ends_the_process, 2, "fatal error: a call that blocks was made in a signal handler") {
    nobody_sends = weir_make(weir_unit_chan, 0);
    handle(SIGUSR1, receives, SA_ONSTACK);
    raise(SIGUSR1);
}

static void asks(int signo) {
    (void)signo;
    (void)weir_id();
}

/* The first thread has called weir_run, and sleeps there until main returns. */
static char state_of_first_thread(void) {
    char path[64], text[256] = "", *end;
    snprintf(path, sizeof path, "/proc/self/task/%d/stat", (int)getpid());
    FILE *f = fopen(path, "re");
    CHECK(f && fgets(text, sizeof text, f) && (end = strrchr(text, ')')));
    fclose(f);
    return end[2];
}

EXIT_TEST(a_handler_on_the_thread_that_waits_in_weir_run_ends_the_process, 2,
          "fatal error: a weir call was made in a signal handler") {
    handle(SIGUSR1, asks, 0);
    TEST_UNTIL(state_of_first_thread() == 'S');
    CHECK_EQ(syscall(SYS_tgkill, getpid(), getpid(), SIGUSR1), 0);
    for (;;) pause();
}

static int written[2];

static void writes(int signo) {
    int saved_errno = errno;
    char c = (char)signo;
    (void)!write(written[1], &c, 1);
    errno = saved_errno;
}

static int reads(void *arg) { return read(written[0], arg, 1) == 1 ? 0 : -EIO; }

/* The way that is allowed. */
TEST(a_handler_may_write_to_a_pipe_that_a_goroutine_reads) {
    char c = 0;
    CHECK_EQ(pipe(written), 0);
    handle(SIGUSR1, writes, SA_RESTART);
    kill(getpid(), SIGUSR1);
    CHECK_EQ(weir_blocking(reads, &c), 0);
    CHECK_EQ(c, SIGUSR1);
}
