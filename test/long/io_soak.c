/*
 * Mixed load on servers and clients in one process, with clients that break off at random: at the end there is not a descriptor, goroutine
 * or byte more than after the first part. Both times the clients are stopped, so that what is counted is what is left when nobody
 * is there. WEIR_LONG_SECONDS: how long in all.
 */
#include "soak.h"

#include <dirent.h>
#include <fcntl.h>
#include <malloc.h>
#include <sys/socket.h>
#include <unistd.h>

__attribute__((constructor)) static void before_all(void) { take_longer(5); }

static struct {
    int tcp, local;              /* listeners */
    char address[64], path[64];
    _Atomic bool stop;
    _Atomic long rounds, exchanged, broken;
} soak;

/* ---- The servers ------------------------------------------------------------------------------------- */

static void serve(int fd) {
    char buffer[1024];
    for (;;) {
        int64_t n = -1;
        weir_timeout(2 * WEIR_SECOND) n = weir_read(fd, buffer, sizeof buffer);
        if (n <= 0 || weir_write_all(fd, buffer, (size_t)n) != n) break;
    }
    CHECK_EQ(weir_close_fd(fd), 0);
}

static void accept_all(int listener) {
    weir_scoped(connections)
        for (int fd; (fd = weir_accept(listener)) >= 0;)
            if (weir_scope_go(&connections, serve, fd)) CHECK_EQ(weir_close_fd(fd), 0);
}

/* ---- The clients ------------------------------------------------------------------------------------- */

static uint32_t choose(uint64_t *state, uint32_t n) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((*state >> 33) % n);
}

static void exchange(int fd, const char *data, size_t n) {
    char back[2048];
    CHECK_EQ(weir_write_all(fd, data, n), (int64_t)n);
    CHECK_EQ(weir_read_full(fd, back, n), (int64_t)n);
    CHECK(memcmp(back, data, n) == 0);
    soak.exchanged++;
}

static void half_of_the_time_reset(int fd, uint64_t *random) {
    if (choose(random, 2)) return;
    struct linger none = { .l_onoff = 1 };
    (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof none);
}

static void talk(int fd, uint64_t *random) {
    char data[2048];
    memset(data, (int)choose(random, 256), sizeof data);
    for (uint32_t i = choose(random, 20); i > 0; i--)
        exchange(fd, data, 1 + choose(random, sizeof data));
    switch (choose(random, 5)) {
    case 0: /* leave in the middle of an answer */
        soak.broken++;
        (void)!weir_write_all(fd, data, sizeof data);
        half_of_the_time_reset(fd, random);
        return;
    case 1: /* be cut off while waiting */
        soak.broken++;
        weir_timeout(choose(random, 1000) * WEIR_MICROSECOND) (void)!weir_read(fd, data, sizeof data);
        return;
    case 2: /* say that no more will come, and see the end */
        shutdown(fd, SHUT_WR);
        while (weir_read(fd, data, sizeof data) > 0) {}
        return;
    default: half_of_the_time_reset(fd, random);
    }
}

static void be_closed(int fd) { CHECK_EQ(weir_close_fd(fd), 0); }

static void client(uint64_t seed) {
    uint64_t random = seed;
    while (!soak.stop) {
        soak.rounds++;
        int fd;
        switch (choose(&random, 8)) {
        case 0: { /* a name; a lookup that nobody waits for */
            weir_address found[4];
            weir_timeout((weir_duration)choose(&random, 3) * 500 * WEIR_MICROSECOND + 1) (void)!weir_lookup("localhost", found, 4);
            continue;
        }
        case 1: { /* somebody else closes what one waits on */
            int fds[2];
            CHECK_EQ(weir_pipe(fds), 0);
            weir_scoped(s) {
                CHECK_EQ(weir_scope_go(&s, be_closed, fds[0]), 0);
                CHECK_EQ(weir_read(fds[0], &(char){ 0 }, 1), -EBADF);
            }
            CHECK_EQ(weir_close_fd(fds[1]), 0);
            continue;
        }
        case 2: { /* a file */
            fd = weir_open("/proc/self/stat", O_RDONLY);
            char text[256];
            CHECK_GE(fd, 0);
            CHECK_GE(weir_read(fd, text, sizeof text), 1);
            CHECK_EQ(weir_close_fd(fd), 0);
            continue;
        }
        case 3: fd = weir_dial("unix", soak.path); break;
        case 4: /* a dial that may be cut off */
            fd = -ETIMEDOUT;
            weir_timeout((weir_duration)choose(&random, 300) * WEIR_MICROSECOND + 1) fd = weir_dial("tcp", soak.address);
            break;
        default: fd = weir_dial("tcp", soak.address);
        }
        if (fd < 0) {
            CHECK(fd == -ETIMEDOUT || fd == -EADDRNOTAVAIL || fd == -EAGAIN);
            continue;
        }
        talk(fd, &random);
        CHECK_EQ(weir_close_fd(fd), 0);
    }
}

/* ---- What is left ------------------------------------------------------------------------------------ */

struct left {
    size_t descriptors, threads, goroutines, heap, resident;
};

static size_t entries(const char *folder) {
    size_t n = 0;
    DIR *d = opendir(folder);
    CHECK(d);
    while (readdir(d)) n++;
    closedir(d);
    return n;
}

static size_t heap(void) {
#ifdef __GLIBC__
    return mallinfo2().uordblks;
#else
    return 0; /* what is resident must do */
#endif
}

static size_t resident(void) {
    unsigned long total, pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    CHECK(f && fscanf(f, "%lu %lu", &total, &pages) == 2);
    fclose(f);
    return pages * (size_t)sysconf(_SC_PAGESIZE);
}

/* Run clients for so long, wait until the servers have no connection either, and count. */
static struct left run_for(weir_duration d, uint64_t seed) {
    soak.stop = false;
    size_t before = weir_count();
    weir_scoped(clients) {
        for (uint64_t i = 0; i < 100; i++) CHECK_EQ(weir_scope_go(&clients, client, seed * 1000 + i), 0);
        CHECK_EQ(weir_sleep(d), 0);
        soak.stop = true;
    }
    TEST_UNTIL(weir_count() == before);
    return (struct left){ entries("/proc/self/fd"), entries("/proc/self/task"), weir_count(), heap(), resident() };
}

TEST(nothing_is_left_of_mixed_load) {
    soak.tcp = weir_listen("tcp", "127.0.0.1:0");
    CHECK_GE(soak.tcp, 0);
    weir_address a;
    CHECK_EQ(weir_local_address(soak.tcp, &a), 0);
    CHECK_GE(weir_address_text(&a, soak.address, sizeof soak.address), 1);
    soak.local = weir_listen("unix", "@");
    CHECK_EQ(weir_local_address(soak.local, &a), 0);
    CHECK_GE(weir_address_text(&a, soak.path, sizeof soak.path), 1);
    TEST_GO(accept_all, soak.tcp);
    TEST_GO(accept_all, soak.local);

    weir_duration all = long_seconds() * WEIR_SECOND, part = all / 10 < WEIR_MINUTE ? all / 10 : WEIR_MINUTE;
    struct left first = run_for(part, 1), last;
    uint64_t seed = 2;
    weir_time until = weir_now() + all - part;
    do last = run_for(part, seed++);
    while (weir_now() < until);
    printf("%ld rounds, %ld exchanges, %ld broken off; left after the first part: %zu descriptors, %zu threads, %zu goroutines, "
           "%zu KiB of heap, %zu KiB resident; at the end: %zu, %zu, %zu, %zu, %zu\n",
           (long)soak.rounds, (long)soak.exchanged, (long)soak.broken, first.descriptors, first.threads, first.goroutines,
           first.heap >> 10, first.resident >> 10, last.descriptors, last.threads, last.goroutines, last.heap >> 10,
           last.resident >> 10);
    CHECK_EQ(last.descriptors, first.descriptors);
    CHECK_EQ(last.goroutines, first.goroutines);
    /* A thread of ours has 64 KiB for its signals, and malloc keeps some KiB for each. */
    size_t threads = last.threads > first.threads ? last.threads - first.threads : 0;
    CHECK_LE(last.heap, first.heap + (64 << 10) + threads * (80 << 10));
    CHECK_LE(last.resident, first.resident + (4 << 20) + threads * (256 << 10));
    CHECK_EQ(weir_close_fd(soak.tcp), 0);
    CHECK_EQ(weir_close_fd(soak.local), 0);
    TEST_UNTIL(weir_count() == 1);
}
