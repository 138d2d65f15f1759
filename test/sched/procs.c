/* How many processors there are: by default, by WEIR_PROCS, and changed while running. */
#include "sched_test.h"

#include <errno.h>
#undef errno
#define errno (*weir_errno_())
#include <sched.h>
#include <sys/stat.h>
#include <sys/wait.h>

/* ---- While running --------------------------------------------------------------------------------------------- */

TEST(asking_changes_nothing_and_setting_returns_what_was) {
    int n = weir_procs(0);
    CHECK_GE(n, 1);
    CHECK_EQ(weir_procs(0), n);
    CHECK_EQ(weir_procs(3), n);
    CHECK_EQ(weir_procs(0), 3);
    CHECK_EQ(weir_procs(7), 3);
    CHECK_EQ(weir_procs(1), 7);
    CHECK_EQ(weir_procs(1), 1);
    CHECK_EQ(weir_procs(0), 1);
}
TEST(a_negative_number_is_refused) {
    int n = weir_procs(0);
    CHECK_EQ(weir_procs(-1), -EINVAL);
    CHECK_EQ(weir_procs(INT32_MIN), -EINVAL);
    CHECK_EQ(weir_procs(0), n);
}
TEST(more_than_there_can_be_is_as_many_as_there_can_be) {
    weir_procs(1000000);
    CHECK_EQ(weir_procs(1), 1024);
}

static _Atomic int running, inside, most, sections, at_once;
static void enters(int n) {
    for (int i = 0; i < n; i++) {
        int now = ++inside;
        if (now > most) most = now;
        at_once += now > 1;
        sections++;
        compute(2 * WEIR_MICROSECOND);
        inside--;
        weir_yield();
    }
    running--;
}
static void all_enter(int n) {
    running = 8;
    most = at_once = sections = 0;
    for (int i = 0; i < 8; i++) TEST_GO(enters, n);
    TEST_UNTIL(running == 0);
}
/* One that the kernel has set aside for 8 ms is taken for stuck, and others run beside it until it is back: all of them, if it has been set
 * aside inside. So the best of a few counts, each as short as can be without that. */
TEST(on_one_processor_one_runs_at_a_time) {
    double best = 1;
    weir_procs(4);
    all_enter(100);
    weir_procs(1);
    for (int i = 0; i < 200 && best > 0.05; i++) {
        all_enter((int)TEST_SCALE(200));
        CHECK_EQ(inside, 0);
        double share = (double)at_once / sections;
        if (share < best) best = share;
    }
    CHECK(best <= 0.05);
}

static _Atomic int there;
static void meets(int n) {
    there++;
    while (there < n) {
    }
    running--;
}
TEST(a_higher_number_counts_at_once) {
    weir_procs(1);
    weir_duration best = WEIR_HOUR;
    for (int i = 0; i < 50; i++) {
        weir_procs(1);
        weir_procs(3);
        running = 2;
        there = 0;
        weir_time start = weir_now();
        for (int j = 0; j < 2; j++) TEST_GO(meets, 2);
        TEST_UNTIL(running == 0);
        if (weir_now() - start < best) best = weir_now() - start;
    }
    cpu_set_t cpus;
    CHECK_EQ(sched_getaffinity(0, sizeof cpus, &cpus), 0);
    if (CPU_COUNT(&cpus) < 2) SKIP("one CPU");
    CHECK_LE(best, 4 * WEIR_MILLISECOND * test_slowness()); /* before anybody would be taken for stuck */
}

static void worker(int_chan in, int_chan out) {
    for (int v; weir_recv(in, &v) == 0;) {
        if (v % 7 == 0) CHECK_EQ(weir_sleep(WEIR_MICROSECOND), 0);
        CHECK_EQ(weir_send(out, v), 0);
    }
    running--;
}
static void feeder(int_chan in, int n) {
    for (int i = 0; i < n; i++) CHECK_EQ(weir_send(in, i), 0);
    weir_close(in);
    running--;
}
static void changes(int seed, int n) {
    for (int i = 0; i < n; i++) {
        seed = (int)((unsigned)seed * 1103515245u + 12345u);
        CHECK_GE(weir_procs(1 + (seed >> 16 & 7)), 1);
        weir_yield();
    }
    running--;
}
/* Work that lies in the queue of a processor that goes is not lost with it. */
TEST(the_number_may_change_all_the_time) {
    int n = (int)TEST_SCALE(4000);
    int_chan in = weir_make(int_chan, 4), out = weir_make(int_chan, 0);
    running = 8 + 1 + 2;
    for (int i = 0; i < 8; i++) TEST_GO(worker, in, out);
    TEST_GO(feeder, in, n);
    TEST_GO(changes, 1, n);
    TEST_GO(changes, 2, n);
    long sum = 0;
    for (int i = 0, v; i < n; i++) {
        CHECK_EQ(weir_recv(out, &v), 0);
        sum += v;
    }
    CHECK_EQ(sum, (long)n * (n - 1) / 2);
    TEST_UNTIL(running == 0);
    weir_release(in), weir_release(out);
}

static void does_nothing(void) { running--; }
TEST(what_lies_in_the_queues_of_processors_that_go_is_run) {
    for (int round = 0; round < 50; round++) {
        weir_procs(8);
        running = 400;
        for (int i = 0; i < 400; i++) TEST_GO(does_nothing);
        weir_procs(1);
        TEST_UNTIL(running == 0);
    }
}

static void *changes_on_a_thread(void *arg) {
    CHECK_EQ(weir_procs(5), 2);
    return arg;
}
TEST(a_foreign_thread_may_change_it) {
    weir_procs(2);
    thread_end(thread_start(changes_on_a_thread, NULL));
    CHECK_EQ(weir_procs(0), 5);
}

/* ---- At the start ------------------------------------------------------------------------------------------------ */

static int asks(void *arg) { return weir_procs(0); }
static int with(const char *value, const char **said) {
    static struct heard heard;
    CHECK_EQ(setenv("WEIR_PROCS", value, 1), 0);
    listen_to_stderr(&heard);
    int n = weir_run(asks, NULL);
    *said = stop_listening(&heard);
    return n;
}
PLAIN_TEST(the_environment_says_how_many) {
    const char *said;
    CHECK_EQ(with("1", &said), 1), CHECK_STR(said, "");
    CHECK_EQ(with("3", &said), 3), CHECK_STR(said, "");
    CHECK_EQ(with("1024", &said), 1024), CHECK_STR(said, "");
    CHECK_EQ(with("2", &said), 2), CHECK_STR(said, "");
    setenv("WEIR_PROCS", "5", 1);
    CHECK_EQ(weir_procs(0), 5);
    CHECK_EQ(weir_procs(2), -EPERM); /* there is nothing to set yet */
}
PLAIN_TEST(an_environment_that_says_nothing_is_no_offence) {
    const char *said;
    unsetenv("WEIR_PROCS");
    int n = weir_run(asks, NULL);
    CHECK_GE(n, 1);
    CHECK_EQ(with("", &said), n), CHECK_STR(said, "");
}
PLAIN_TEST(an_environment_that_says_nonsense_is_told_so) {
    static const char *const bad[] = { "0", "-1", "abc", "4x", "1025", "1.5", "99999999999999999999" };
    unsetenv("WEIR_PROCS");
    int n = weir_run(asks, NULL);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        const char *said;
        char expected[128];
        CHECK_EQ(with(bad[i], &said), n);
        snprintf(expected, sizeof expected, "weir: WEIR_PROCS=%s: not a number from 1 to 1024; ignored\n", bad[i]);
        CHECK_STR(said, expected);
    }
}

PLAIN_TEST(the_default_is_the_cpus_that_may_be_used) {
    cpu_set_t allowed, some;
    unsetenv("WEIR_PROCS");
    CHECK_EQ(sched_getaffinity(0, sizeof allowed, &allowed), 0);
    int all = weir_run(asks, NULL);
    CHECK_LE(all, CPU_COUNT(&allowed)); /* a quota may leave fewer */
    CPU_ZERO(&some);
    for (int cpu = 0, n = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &allowed)) continue;
        CPU_SET(cpu, &some);
        if (++n > all) break;
        if (sched_setaffinity(0, sizeof some, &some)) SKIP("sched_setaffinity: %s", strerror(errno));
        CHECK_EQ(weir_run(asks, NULL), n);
    }
}

/* ---- A cgroup's quota ------------------------------------------------------------------------------------------- */

static bool write_file(const char *path, const char *text) {
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) return false;
    ssize_t n = write(fd, text, strlen(text));
    close(fd);
    return n == (ssize_t)strlen(text);
}
/* In a child, since who is in a cgroup keeps it from being removed. */
static int procs_in(const char *cgroup) {
    char path[256];
    fflush(NULL);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        snprintf(path, sizeof path, "%s/cgroup.procs", cgroup);
        _exit(write_file(path, "0") ? weir_run(asks, NULL) : 99);
    }
    int status;
    siginfo_t info;
    CHECK_EQ(waitid(P_PID, (id_t)child, &info, WEXITED), 0);
    status = info.si_code == CLD_EXITED ? info.si_status : -1;
    return status;
}
/* A quota in µs of each 100 ms; 0: none. Version 2 and version 1 of cgroups. */
static bool set_quota(const char *cgroup, bool v2, int quota) {
    char path[256], text[64];
    snprintf(path, sizeof path, "%s/%s", cgroup, v2 ? "cpu.max" : "cpu.cfs_quota_us");
    if (v2) snprintf(text, sizeof text, quota ? "%d 100000" : "max 100000", quota);
    else snprintf(text, sizeof text, "%d", quota ? quota : -1);
    return write_file(path, text);
}
static bool make_cgroup(const char *above, const char *cgroup, bool v2) {
    char path[256];
    snprintf(path, sizeof path, "%s/cgroup.subtree_control", above);
    return (!v2 || write_file(path, "+cpu")) && mkdir(cgroup, 0755) == 0;
}
PLAIN_TEST(a_quota_narrows_the_default) {
    char outer[128], inner[160];
    cpu_set_t cpus;
    unsetenv("WEIR_PROCS");
    CHECK_EQ(sched_getaffinity(0, sizeof cpus, &cpus), 0);
    if (CPU_COUNT(&cpus) < 2) SKIP("one CPU");
    if (weir_run(asks, NULL) < 2) SKIP("there is a quota already");
    bool v2 = access("/sys/fs/cgroup/cgroup.controllers", R_OK) == 0;
    const char *root = v2 ? "/sys/fs/cgroup" : "/sys/fs/cgroup/cpu";
    snprintf(outer, sizeof outer, "%s/weir-test-%d", root, (int)getpid());
    snprintf(inner, sizeof inner, "%s/inner", outer);
    int none = 0, one = 0, half = 0, more = 0, above = 0;
    bool set = make_cgroup(root, outer, v2) && make_cgroup(outer, inner, v2);
    set = set && set_quota(inner, v2, 0), none = set ? procs_in(inner) : 0;
    set = set && set_quota(inner, v2, 100000), one = set ? procs_in(inner) : 0;
    set = set && set_quota(inner, v2, 50000), half = set ? procs_in(inner) : 0;
    set = set && set_quota(inner, v2, 150000), more = set ? procs_in(inner) : 0;
    set = set && set_quota(inner, v2, 0) && set_quota(outer, v2, 80000), above = set ? procs_in(inner) : 0;
    rmdir(inner), rmdir(outer);
    if (!set || none == 99) SKIP("no cgroup with a quota can be made here");
    CHECK_GE(none, 2);
    CHECK_EQ(one, 1), CHECK_EQ(half, 1), CHECK_EQ(above, 1);
    CHECK_EQ(more, 2); /* a processor and a half is two */
}
