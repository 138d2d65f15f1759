/*
 * A program that knows nothing of the debug server, for test/debug: `debugged WHAT [N]` prints "ready" when all its goroutines are where
 * they are to be, and goes on until its standard input ends.
 *
 *     leak N     N goroutines that send what nobody receives, with a name and labels; and one that sleeps
 *     stuck N    N goroutines, and main, in endless loops
 *     many N     N goroutines that wait for a channel
 *     syscalls N N goroutines in a system call
 *     contend N  N goroutines that want one mutex all the time, one that uses a processor all the time; all of it recorded
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <weir.h>

#define STAY() __asm__ volatile("" ::: "memory")

__attribute__((noinline)) static int slow_value(weir_chan *ch, int value) {
    int e = weir_chan_send(ch, &value);
    STAY();
    return e;
}
static void forgotten_sender(weir_chan *ch, int i) {
    weir_label("request", i % 2 ? "odd" : "even \"quoted\"");
    weir_name("sender");
    (void)slow_value(ch, i);
}
__attribute__((noinline)) static void forget(int i) {
    weir_chan *ch = weir_chan_make(sizeof(int), 0);
    if (weir_go(forgotten_sender, ch, i)) exit(1);
    STAY();
}
static void sleeper(void) { weir_sleep(WEIR_HOUR); }

static void endless_loop(void) {
    for (;;) STAY();
}
static int waiter(weir_chan *ch) { return weir_chan_recv(ch, NULL); }
static int block_in_poll(void *arg) {
    while (poll(NULL, 0, -1) < 0) {
    } /* a signal, by which a dump asks, ends it */
    return 0;
}
static void system_call(void) { (void)weir_blocking(block_in_poll, NULL); }
static weir_mutex contended;
static void contender(void) {
    for (;;) {
        weir_mutex_lock(&contended);
        weir_sleep(WEIR_MILLISECOND);
        weir_mutex_unlock(&contended);
    }
}
__attribute__((noinline)) static void busy_function(void) {
    for (int i = 0; i < 10000; i++) STAY();
}
/* Code that has no name, as the stubs have none by which libraries are called; and where it is. */
extern void (*nameless)(void);
__asm__(".pushsection .text.nameless, \"ax\"\n"
        ".Lnameless:\n"
        ".cfi_startproc\n"
        ".rept 10000\n nop\n .endr\n"
        "ret\n"
        ".cfi_endproc\n"
        ".popsection\n"
        ".pushsection .data\n"
        ".balign 8\n"
        "nameless: .quad .Lnameless\n"
        ".popsection");
static void busy(void) {
    weir_label("kind", "busy");
    for (;;) busy_function(), nameless();
}
static void ready(void) {
    puts("ready");
    fflush(stdout);
}
static int wait_for_end(void *arg) {
    char byte;
    ready();
    while (read(0, &byte, 1) > 0) {
    }
    return 0;
}

/* Until a dump shows that many goroutines under that header. */
static size_t dumped(const char *header) {
    int fd = memfd_create("dump", 0);
    if (fd < 0 || weir_dump(fd, 2)) exit(1);
    size_t size = (size_t)lseek(fd, 0, SEEK_END), n = 0;
    char *text = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0), *end = text + size;
    if (text == MAP_FAILED) exit(1);
    for (char *at = text; (at = memmem(at, (size_t)(end - at), header, strlen(header))); at++) n++;
    munmap(text, size);
    close(fd);
    return n;
}
static void until_dumped(size_t n, const char *header) {
    while (dumped(header) < n) weir_sleep(WEIR_MILLISECOND);
}

/* What main has forgotten is nowhere on its stack, however deep it is in the C library while somebody looks. The registers are
 * wiped by weir_blocking. */
static int wipe(void *arg) {
    char below[32 << 10];
    explicit_bzero(below, sizeof below);
    return 0;
}

int weir_main(int argc, char **argv) {
    static weir_chan *global;
    const char *what = argc > 1 ? argv[1] : "leak";
    int n = argc > 2 ? atoi(argv[2]) : 1;
    global = weir_chan_make(0, 0);
    if (!strcmp(what, "contend")) {
        weir_block_profile_rate(1);
        weir_mutex_profile_fraction(1);
        if (weir_go(busy)) return 1;
    }
    for (int i = 0; i < n; i++) {
        int e = 0;
        if (!strcmp(what, "leak")) forget(i);
        else if (!strcmp(what, "stuck")) e = weir_go(endless_loop);
        else if (!strcmp(what, "many")) e = weir_go(waiter, global);
        else if (!strcmp(what, "contend")) e = weir_go(contender);
        else if (!strcmp(what, "syscalls")) e = weir_go(system_call);
        else return 2;
        if (e) return 1;
    }
    if (weir_go(sleeper)) return 1;
    if (strcmp(what, "stuck")) until_dumped(1, " [sleep]:\n");
    if (!strcmp(what, "leak")) until_dumped((size_t)n, " [chan send]:\n");
    if (!strcmp(what, "many")) until_dumped((size_t)n, " [chan receive]:\n");
    if (!strcmp(what, "syscalls")) until_dumped((size_t)n, " [syscall]:\n");
    if (strcmp(what, "stuck")) (void)weir_blocking(wipe, NULL);
    if (!strcmp(what, "stuck")) {
        ready();
        endless_loop();
    }
    return weir_blocking(wait_for_end, NULL);
}
