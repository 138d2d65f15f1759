/* What the tests of the scheduler share: threads that weir did not start, time without the scheduler's help, what was said
 * on standard error, and what /proc says about the process. */
#ifndef SCHED_TEST_H
#define SCHED_TEST_H

#include "test.h"
#include "threads.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

typedef WEIR_CHAN(int) int_chan;

/* ---- Threads ---------------------------------------------------------------------------------------- */

static inline long thread_id(void) { return syscall(SYS_gettid); }

static inline int threads_there_are(void) {
    int n = 0;
    DIR *tasks = opendir("/proc/self/task");
    CHECK(tasks);
    for (struct dirent *e; (e = readdir(tasks));) n += e->d_name[0] != '.';
    closedir(tasks);
    return n;
}

/* ---- Time ------------------------------------------------------------------------------------------- */

/* Keep the processor for about that long; neither weir nor the kernel is told. */
static inline void compute(weir_duration d) {
    weir_time until = weir_now() + d;
    while (weir_now() < until) {
    }
}

/* Let the thread sleep: not a goroutine's sleep. */
static inline void thread_sleep(weir_duration d) {
    struct timespec t = { d / WEIR_SECOND, d % WEIR_SECOND };
    while (nanosleep(&t, &t) != 0) {
    }
}

/* ---- Standard error --------------------------------------------------------------------------------- */

struct heard {
    int real, file;
    char text[8192];
};
static inline void listen_to_stderr(struct heard *h) {
    h->real = dup(STDERR_FILENO);
    h->file = memfd_create("heard", MFD_CLOEXEC);
    CHECK(h->real >= 0 && h->file >= 0);
    fcntl(h->file, F_SETFL, O_APPEND);
    CHECK_EQ(dup2(h->file, STDERR_FILENO), STDERR_FILENO);
}
/* What has been said since; standard error is as before. */
static inline const char *stop_listening(struct heard *h) {
    CHECK_EQ(dup2(h->real, STDERR_FILENO), STDERR_FILENO);
    ssize_t n = pread(h->file, h->text, sizeof h->text - 1, 0);
    h->text[n > 0 ? n : 0] = '\0';
    close(h->real), close(h->file);
    return h->text;
}
static inline int times_in(const char *hay, const char *needle) {
    int n = 0;
    for (; (hay = strstr(hay, needle)); hay += strlen(needle)) n++;
    return n;
}

/* ---- Memory ----------------------------------------------------------------------------------------- */

/* A line of /proc/self/status in KiB, "VmRSS:". */
static inline long status_kib(const char *what) {
    char line[256];
    long kib = -1;
    FILE *f = fopen("/proc/self/status", "re");
    CHECK(f);
    while (kib < 0 && fgets(line, sizeof line, f))
        if (!strncmp(line, what, strlen(what))) kib = strtol(line + strlen(what), NULL, 10);
    fclose(f);
    CHECK_GE(kib, 0);
    return kib;
}

/* ---- Emulators and sanitizers ------------------------------------------------------------------------ */

#if defined(TEST_ASAN) || defined(TEST_TSAN)
enum { SANITIZED = 1 };
#else
enum { SANITIZED = 0 };
#endif

#endif
