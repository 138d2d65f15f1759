/* What the tests of dumps and reports share: taking the text, taking it apart, and a child whose end is looked at. */
#ifndef TRACE_TEST_H
#define TRACE_TEST_H

#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <regex.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "trace/trace.h"

typedef WEIR_CHAN(int) int_chan;

/* Keeps a call from becoming a jump, and a function from having no place of its own. */
#define STAY() __asm__ volatile("" ::: "memory")
#ifdef __clang__
#define NOT_INLINED __attribute__((noinline))
#else
#define NOT_INLINED __attribute__((noinline, noclone))
#endif

__attribute__((unused)) static char *read_back(int fd) {
    off_t n = lseek(fd, 0, SEEK_END);
    char *text = malloc((size_t)n + 1);
    CHECK(text && n >= 0);
    CHECK_EQ(pread(fd, text, (size_t)n, 0), n);
    text[n] = 0;
    close(fd);
    return text;
}

/* A dump as a string; the caller frees it. Never inlined, so that it is a frame. */
__attribute__((unused)) NOT_INLINED static char *dump_text(int level) {
    int fd = memfd_create("dump", MFD_CLOEXEC);
    CHECK_GE(fd, 0);
    CHECK_EQ(weir_dump(fd, level), 0);
    return read_back(fd);
}

__attribute__((unused)) static bool matches(const char *text, const char *pattern) {
    regex_t regex;
    CHECK_EQ(regcomp(&regex, pattern, REG_EXTENDED | REG_NOSUB | REG_NEWLINE), 0);
    bool yes = regexec(&regex, text, 0, NULL, 0) == 0;
    regfree(&regex);
    return yes;
}

#define CHECK_MATCHES(text, pattern)                                                                \
    do {                                                                                            \
        const char *text_ = (text), *pattern_ = (pattern);                                          \
        if (!matches(text_, pattern_)) {                                                            \
            fprintf(stderr, "%s\n", text_);                                                         \
            FAIL("the text does not match %s", pattern_);                                           \
        }                                                                                           \
    } while (0)

__attribute__((unused)) static size_t count_of(const char *text, const char *needle) {
    size_t n = 0;
    for (const char *c = text; (c = strstr(c, needle)); c += strlen(needle)) n++;
    return n;
}

/* The text of one goroutine in a level 2 dump, from its header to the blank line; the caller frees it. */
__attribute__((unused)) static char *goroutine_text(const char *dump, uint64_t id) {
    char start[64];
    snprintf(start, sizeof start, "goroutine %llu [", (unsigned long long)id);
    const char *at = strncmp(dump, start, strlen(start)) ? NULL : dump;
    if (!at) {
        char after_blank[80];
        snprintf(after_blank, sizeof after_blank, "\n\n%s", start);
        at = strstr(dump, after_blank);
        if (at) at += 2;
    }
    if (!at) {
        fprintf(stderr, "%s\n", dump);
        FAIL("goroutine %llu is not in the dump", (unsigned long long)id);
    }
    const char *end = strstr(at, "\n\n");
    return strndup(at, end ? (size_t)(end + 1 - at) : strlen(at));
}

/* One line after the other. */
static inline const char *next_line(const char **at, char *line, size_t size) {
    const char *end = strchr(*at, '\n');
    if (!end) return NULL;
    CHECK((size_t)(end - *at) < size);
    memcpy(line, *at, (size_t)(end - *at));
    line[end - *at] = 0;
    *at = end + 1;
    return line;
}

#define HEADER "^goroutine [0-9]+ \\[[^],]+(, [1-9][0-9]* minutes)?(, locked to thread)?\\]:$"
#define FUNCTION "^[^()]+\\(\\.\\.\\.\\)$"
#define POSITION "^\t[^\t]+:[0-9]+ \\+0x[0-9a-f]+$"
#define CREATOR "^created by [^ ()]+ in goroutine [0-9]+$"

/* Is it, from the first byte to the last, a dump of level 2? Returns how many goroutines. */
__attribute__((unused)) static size_t check_level2(const char *text) {
    enum { BETWEEN, IN_HEADER, IN_FUNCTION, IN_POSITION, IN_CREATOR, AT_END } state = BETWEEN;
    size_t n = 0;
    char line[4096];
    const char *at = text;
    while (next_line(&at, line, sizeof line)) {
        if (state == BETWEEN && n > 0 && !wr_symbol_has_lines() && *line == '#') {
            state = AT_END;
        } else if (state == BETWEEN) {
            CHECK_MATCHES(line, HEADER);
            state = IN_HEADER;
            n++;
        } else if (state == IN_FUNCTION || state == IN_CREATOR) {
            CHECK_MATCHES(line, POSITION);
            state = state == IN_CREATOR ? AT_END : IN_POSITION;
        } else if (*line == 0) {
            CHECK(state == IN_POSITION || state == AT_END);
            state = BETWEEN;
        } else if (state != AT_END && strncmp(line, "created by ", 11) == 0) {
            CHECK(state == IN_POSITION);
            CHECK_MATCHES(line, CREATOR);
            state = IN_CREATOR;
        } else {
            CHECK(state == IN_HEADER || state == IN_POSITION);
            CHECK_MATCHES(line, FUNCTION);
            state = IN_FUNCTION;
        }
    }
    CHECK(*at == 0);
    CHECK(state == IN_POSITION || state == AT_END);
    return n;
}

/* The same for level 1. */
__attribute__((unused)) static size_t check_level1(const char *text) {
    size_t total = 0, sum = 0, last = INT32_MAX, frames = 1;
    char line[8192];
    const char *at = text;
    CHECK(next_line(&at, line, sizeof line));
    CHECK_MATCHES(line, "^goroutine profile: total [0-9]+$");
    total = strtoul(line + strlen("goroutine profile: total "), NULL, 10);
    while (next_line(&at, line, sizeof line)) {
        if (!wr_symbol_has_lines() && strncmp(line, "# weir", 6) == 0) continue;
        CHECK_MATCHES(line, "^[0-9]+ @( 0x[0-9a-f]+)+$");
        size_t count = strtoul(line, NULL, 10), pcs = count_of(line, " 0x");
        CHECK_LE(count, last);
        last = count;
        sum += count;
        for (frames = 0; next_line(&at, line, sizeof line) && *line;) {
            if (frames == 0 && strncmp(line, "# labels: ", 10) == 0) {
                CHECK_MATCHES(line, "^# labels: \\{\".*\"\\}$");
                continue;
            }
            CHECK_MATCHES(line, "^#\t0x[0-9a-f]+\t[^\t]+\\+0x[0-9a-f]+\t[^\t]+:[0-9]+$");
            frames++;
        }
        CHECK(*line == 0);
        CHECK_GE(frames, pcs);
    }
    CHECK(*at == 0);
    CHECK_EQ(sum, total);
    return total;
}

/* Has this program debug information, and weir the means to read it? */
static inline void find_lines(void *found) {
    struct wr_frame frame;
    wr_symbol_refresh();
    wr_symbol((uintptr_t)find_lines + 1, &frame, 1);
    *(bool *)found = frame.line > 0;
}
static inline bool has_lines(void) {
    bool found = false;
    return wr_symbol_has_lines() && wr_on_large_stack(find_lines, &found) == 0 && found;
}
#define NEEDS_LINES()                                                                               \
    do {                                                                                            \
        if (!has_lines()) SKIP("no lines: built without libdw, or without debug information");      \
    } while (0)

/* Run body as the main goroutine of a child process, its standard error into the returned text. Call it where
 * no runtime runs. */
struct child_call {
    void (*body)(void);
};
static inline int call_body(void *arg) {
    ((struct child_call *)arg)->body();
    return 0;
}
__attribute__((unused)) static char *run_child(void (*body)(void), int *status) {
    int fd = memfd_create("stderr", MFD_CLOEXEC);
    CHECK_GE(fd, 0);
    fcntl(fd, F_SETFL, O_APPEND);
    pid_t pid = fork();
    CHECK_GE(pid, 0);
    if (pid == 0) {
        struct child_call call = { body };
        static const int signals[] = { SIGQUIT, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP };
#if !defined(TEST_ASAN) && !defined(TEST_TSAN)
        for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++) signal(signals[i], SIG_DFL);
#else
        signal(signals[0], SIG_DFL);
#endif
        dup2(fd, STDERR_FILENO);
        int result = weir_run(call_body, &call);
        fflush(NULL);
        _exit(result < 0 ? 100 : result);
    }
    CHECK_EQ(waitpid(pid, status, 0), pid);
    char *text = read_back(fd), *emulator = strstr(text, "qemu: uncaught target signal");
    if (emulator) *emulator = 0; /* its own last words */
    return text;
}

#endif
