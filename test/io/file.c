/* Files: opening, reading and writing at offsets, and that none of it holds anybody up. */
#include "test.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/io.h"
#undef errno
#define errno (*weir_errno_())

static char directory[] = "/tmp/weir-file-XXXXXX";
static char path[64], fifo[64];

/* Names of its own for each test; the names go when it has ended. */
static void begin(void) {
    CHECK(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/file", directory);
    snprintf(fifo, sizeof fifo, "%s/fifo", directory);
}
static void end(void) {
    unlink(path);
    unlink(fifo);
    CHECK_EQ(rmdir(directory), 0);
}

static int open_new(void) {
    begin();
    int fd = weir_open(path, O_RDWR | O_CREAT | O_EXCL, 0640);
    CHECK_GE(fd, 0);
    return fd;
}
static void close_new(int fd) {
    CHECK_EQ(weir_close_fd(fd), 0);
    end();
}

/* ---- What it does ------------------------------------------------------------------------------------- */

TEST(open_makes_a_file_with_its_mode_that_is_closed_on_exec) {
    mode_t mask = umask(0);
    int fd = open_new();
    umask(mask);
    struct stat s;
    CHECK_EQ(fstat(fd, &s), 0);
    CHECK_EQ(s.st_mode & 07777, 0640);
    CHECK_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
    close_new(fd);
}

TEST(reads_and_writes_are_at_their_offsets_and_leave_the_position) {
    int fd = open_new();
    char buffer[32] = "";
    CHECK_EQ(weir_pwrite(fd, "0123456789", 10, 0), 10);
    CHECK_EQ(weir_pwrite(fd, "ab", 2, 4), 2);
    CHECK_EQ(weir_pread(fd, buffer, 4, 3), 4);
    CHECK_STR(buffer, "3ab6");
    CHECK_EQ(lseek(fd, 0, SEEK_CUR), 0);
    CHECK_EQ(weir_pread(fd, buffer, sizeof buffer, 8), 2); /* up to the end */
    CHECK_EQ(weir_pread(fd, buffer, sizeof buffer, 10), 0);
    CHECK_EQ(weir_pread(fd, buffer, sizeof buffer, 1000), 0);
    CHECK_EQ(weir_pwrite(fd, "z", 1, 20), 1); /* over a hole */
    CHECK_EQ(weir_pread(fd, buffer, sizeof buffer, 10), 11);
    CHECK_EQ(buffer[0], 0);
    CHECK_EQ(buffer[10], 'z');
    CHECK_EQ(weir_fsync(fd), 0);
    close_new(fd);
}

/* Half of it is in memory: what comes is all of it, nevertheless. */
TEST(a_read_of_what_is_only_partly_in_memory_is_whole) {
    enum { SIZE = 4 << 20 };
    int fd = open_new();
    char *data = malloc(SIZE), *back = malloc(SIZE);
    CHECK(data && back);
    for (int i = 0; i < SIZE; i++) data[i] = (char)(i * 2654435761u >> 24);
    CHECK_EQ(weir_pwrite(fd, data, SIZE, 0), SIZE);
    CHECK_EQ(weir_fsync(fd), 0);
    for (int i = 0; i < 5; i++) {
        CHECK_EQ(posix_fadvise(fd, SIZE / 2, 0, POSIX_FADV_DONTNEED), 0);
        memset(back, 0, SIZE);
        CHECK_EQ(weir_pread(fd, back, SIZE, 0), SIZE);
        CHECK_EQ(memcmp(data, back, SIZE), 0);
    }
    free(data);
    free(back);
    close_new(fd);
}

TEST(errors_come_as_negative_numbers) {
    char byte = 0;
    begin();
    CHECK_EQ(weir_open(path, O_RDONLY), -ENOENT);
    CHECK_EQ(weir_open(directory, O_WRONLY), -EISDIR);
    CHECK_EQ(weir_open("/dev/null/x", O_RDONLY), -ENOTDIR);
    CHECK_EQ(weir_pread(-1, &byte, 1, 0), -EBADF);
    CHECK_EQ(weir_pwrite(999, &byte, 1, 0), -EBADF);
    CHECK_EQ(weir_fsync(999), -EBADF);
    int fd = weir_open(path, O_RDONLY | O_CREAT, 0600);
    CHECK_GE(fd, 0);
    CHECK_EQ(weir_open(path, O_RDONLY | O_CREAT | O_EXCL, 0600), -EEXIST);
    CHECK_EQ(weir_pwrite(fd, &byte, 1, 0), -EBADF); /* not for writing */
    CHECK_EQ(weir_pread(fd, &byte, 1, -1), -EINVAL);
    CHECK_EQ(weir_pwrite(fd, &byte, 1, -1), -EINVAL);
    CHECK_EQ(weir_close_fd(fd), 0);
    CHECK_EQ(weir_pread(fd, &byte, 1, 0), -EBADF);
    fd = weir_open("/dev/full", O_RDWR);
    if (fd >= 0) {
        CHECK_EQ(weir_pwrite(fd, &byte, 1, 0), -ENOSPC);
        CHECK_EQ(weir_close_fd(fd), 0);
    }
    int fds[2];
    CHECK_EQ(weir_pipe(fds), 0);
    CHECK_EQ(weir_pread(fds[0], &byte, 1, 0), -ESPIPE);
    CHECK_EQ(weir_pwrite(fds[1], &byte, 1, 0), -ESPIPE);
    CHECK_EQ(weir_fsync(fds[1]), -EINVAL);
    CHECK_EQ(weir_close_fd(fds[0]), 0);
    CHECK_EQ(weir_close_fd(fds[1]), 0);
    end();
}

TEST(a_device_that_was_opened_here_is_read_as_any_other) {
    char bytes[4] = "xxx";
    int fd = weir_open("/dev/zero", O_RDWR);
    CHECK_GE(fd, 0);
    CHECK_EQ(weir_read(fd, bytes, sizeof bytes), 4);
    CHECK_EQ(memcmp(bytes, "\0\0\0\0", 4), 0);
    CHECK_EQ(weir_write(fd, bytes, sizeof bytes), 4);
    CHECK_EQ(weir_close_fd(fd), 0);
}

PLAIN_TEST(without_a_runtime_files_work_too) {
    char byte;
    int fd = open_new();
    CHECK_EQ(weir_pwrite(fd, "x", 1, 0), 1);
    CHECK_EQ(weir_pread(fd, &byte, 1, 0), 1);
    CHECK_EQ(weir_fsync(fd), 0);
    close_new(fd);
}

/* ---- Cancelling --------------------------------------------------------------------------------------- */

TEST(who_is_cancelled_has_done_nothing) {
    int fd = open_new();
    char byte = 'x';
    CHECK_EQ(weir_pwrite(fd, "abc", 3, 0), 3);
    char other[80];
    snprintf(other, sizeof other, "%s-other", path);
    weir_ctx *ended = weir_ctx_with_cancel(NULL);
    weir_ctx_cancel(ended);
    weir_with(ended) {
        CHECK_EQ(weir_open(other, O_WRONLY | O_CREAT, 0600), -ECANCELED);
        CHECK_EQ(weir_open(path, O_WRONLY | O_TRUNC), -ECANCELED);
        CHECK_EQ(weir_pwrite(fd, "zzzzz", 5, 0), -ECANCELED);
        CHECK_EQ(weir_pread(fd, &byte, 1, 0), -ECANCELED);
        CHECK_EQ(weir_fsync(fd), -ECANCELED);
    }
    weir_ctx_release(ended);
    CHECK_EQ(byte, 'x');
    CHECK_EQ(access(other, F_OK), -1);
    CHECK_EQ(lseek(fd, 0, SEEK_END), 3);
    CHECK_EQ(weir_pread(fd, &byte, 1, 0), 1);
    CHECK_EQ(byte, 'a');
    close_new(fd);
}

/* ---- Holding nobody up -------------------------------------------------------------------------------- */

static _Atomic int opened, steps;
static void open_fifo(int flags) {
    int fd = weir_open(fifo, flags);
    CHECK_GE(fd, 0);
    opened++;
    CHECK_EQ(weir_close_fd(fd), 0);
}
static void step(void) { steps++; }

static void count_blocking(struct g *g, bool held, void *n) {
    (void)held;
    *(int *)n += atomic_load(&g->state) == WR_G_BLOCKING;
}
static int blocking(void) {
    int n = 0;
    wr_each_goroutine(count_blocking, &n);
    return n;
}

/* The one processor there is goes to others while the thread sits in open(2). */
TEST(an_open_that_blocks_holds_up_nobody) {
    weir_procs(1);
    begin();
    CHECK_EQ(mkfifo(fifo, 0600), 0);
    TEST_GO(open_fifo, O_RDONLY);
    TEST_UNTIL(blocking() == 1);
    TEST_GO(step);
    TEST_UNTIL(steps > 0);
    CHECK_EQ(opened, 0);
    int fd = weir_open(fifo, O_WRONLY);
    CHECK_GE(fd, 0);
    TEST_UNTIL(opened == 1);
    CHECK_EQ(weir_close_fd(fd), 0);
    end();
}

/* More than may block at once, and none of them would ever return if they kept the others out. */
TEST(opens_that_wait_for_others_do_not_keep_those_out) {
    enum { MANY = 80 };
    begin();
    CHECK_EQ(mkfifo(fifo, 0600), 0);
    for (int i = 0; i < MANY; i++) TEST_GO(open_fifo, O_RDONLY);
    weir_yield();
    int fd = weir_open(fifo, O_WRONLY);
    CHECK_GE(fd, 0);
    TEST_UNTIL(opened == MANY);
    CHECK_EQ(weir_close_fd(fd), 0);
    end();
}

TEST(a_fifo_carries_data) {
    char buffer[8] = "";
    begin();
    CHECK_EQ(mkfifo(fifo, 0600), 0);
    int fd = weir_open(fifo, O_RDWR); /* at once */
    CHECK_GE(fd, 0);
    CHECK_EQ(weir_write(fd, "hello", 5), 5);
    CHECK_EQ(weir_read(fd, buffer, sizeof buffer), 5);
    CHECK_STR(buffer, "hello");
    weir_timeout(5 * WEIR_MILLISECOND) CHECK_EQ(weir_read(fd, buffer, 1), -ETIMEDOUT);
    CHECK_EQ(weir_close_fd(fd), 0);
    end();
}

static size_t threads_now(void) {
    size_t n = 0;
    DIR *d = opendir("/proc/self/task");
    CHECK(d);
    for (struct dirent *e; (e = readdir(d));) n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

static void sync_and_read(int fd, int i) {
    char byte = 0, mine = (char)i;
    for (int round = 0; round < 5; round++) {
        CHECK_EQ(weir_pwrite(fd, &mine, 1, i), 1);
        CHECK_EQ(weir_fsync(fd), 0);
        CHECK_EQ(weir_pread(fd, &byte, 1, i), 1);
        CHECK_EQ(byte, mine);
    }
}

TEST(many_calls_at_once_take_a_bounded_number_of_threads) {
    int fd = open_new();
    size_t most = 0;
    weir_scoped(s) {
        for (int i = 0; i < 200; i++) {
            CHECK_EQ(weir_scope_go(&s, sync_and_read, fd, i), 0);
            size_t n = threads_now();
            if (n > most) most = n;
        }
    }
    size_t n = threads_now(); /* they stay */
    if (n > most) most = n;
    /* 64 are in a call; and whose call has just returned has made room for the next before it gives its thread back, which takes
     * long where there are more threads than processors. Each of the 200 has a thread if nobody waits for room. */
    CHECK_LE(most, 2 * 64 + 2 * weir_procs(0) + 6);
    close_new(fd);
}

/* ---- Waiting for a turn ------------------------------------------------------------------------------- */

static int gate[2];
static _Atomic int through;
static int64_t wait_at_the_gate(void *arg) {
    (void)arg;
    through++;
    return read(gate[0], &(char){ 0 }, 1);
}
static void take_a_turn(void) { CHECK_EQ(wr_io_blocking(wait_at_the_gate, NULL), 0); }

/* Every turn is taken until the gate's other end is closed. */
static void take_all_turns(void) {
    CHECK_EQ(pipe2(gate, O_CLOEXEC), 0);
    for (int i = 0; i < 64; i++) TEST_GO(take_a_turn);
    TEST_UNTIL(through == 64);
}
static void give_turns_back(void) {
    CHECK_EQ(close(gate[1]), 0);
    TEST_UNTIL(weir_count() == 1);
    CHECK_EQ(close(gate[0]), 0);
}

static void write_one(int fd, int64_t result) { CHECK_EQ(weir_pwrite(fd, "x", 1, 0), result); }

TEST(the_number_is_given_back_when_the_last_call_has_returned) {
    int fd = open_new();
    take_all_turns();
    TEST_GO(write_one, fd, (int64_t)1);
    test_until_n_parked(1, "semacquire");
    CHECK_EQ(weir_close_fd(fd), 0);
    CHECK_EQ(weir_pwrite(fd, "y", 1, 0), -EBADF); /* no call begins */
    CHECK_GE(fcntl(fd, F_GETFD), 0);              /* but the number is not free: the thread is about to use it */
    give_turns_back();
    CHECK_EQ(fcntl(fd, F_GETFD), -1);
    struct stat s;
    CHECK_EQ(stat(path, &s), 0);
    CHECK_EQ(s.st_size, 1);
    end();
}

TEST(who_is_cancelled_while_it_waits_for_its_turn_has_done_nothing) {
    int fd = open_new();
    take_all_turns();
    weir_scoped(s) {
        CHECK_EQ(weir_scope_go(&s, write_one, fd, (int64_t)-ECANCELED), 0);
        test_until_n_parked(1, "semacquire");
        weir_scope_cancel(&s);
    }
    give_turns_back();
    CHECK_EQ(lseek(fd, 0, SEEK_END), 0);
    close_new(fd);
}
