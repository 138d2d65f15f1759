/*
 * Where the kernel refuses things: in a container, under a seccomp filter, on an older one. A proof needs none of the
 * calls by which one process looks into another; and where it cannot see some memory it says so, and accuses nobody.
 */
#include "held.h"

#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#if defined(__x86_64__)
#define ARCHITECTURE AUDIT_ARCH_X86_64
#else
#define ARCHITECTURE AUDIT_ARCH_AARCH64
#endif

/* ---- Filters --------------------------------------------------------------------------------- */

struct refusal {
    unsigned call;
    int error;
};
enum { MOST_REFUSALS = 32 };

/* For all threads there are, and those to come. If `request` is not 0 that ioctl is refused as well, as one that
 * is not known. */
static NOINLINE void refuse(const struct refusal *refused, size_t n, unsigned request) {
    struct sock_filter code[2 * MOST_REFUSALS + 12];
    unsigned short at = 0;
    CHECK(n <= MOST_REFUSALS);
    code[at++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch));
    code[at++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCHITECTURE, 1, 0);
    code[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    code[at++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (size_t i = 0; i < n; i++) {
        code[at++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, refused[i].call, 0, 1);
        code[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)refused[i].error);
    }
    if (request) {
        code[at++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ioctl, 0, 3);
        code[at++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1]));
        code[at++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, request, 0, 1);
        code[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOTTY);
    }
    code[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    CHECK_EQ(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &(struct sock_fprog){ at, code }) != 0)
        SKIP("no seccomp filters here");
}

/* What Docker's profile refuses, or has refused, and a proof might be tempted to use. */
static const struct refusal of_container[] = {
    { SYS_ptrace, EPERM },           { SYS_process_vm_readv, EPERM }, { SYS_process_vm_writev, EPERM },
    { SYS_kcmp, EPERM },             { SYS_perf_event_open, EPERM },  { SYS_bpf, EPERM },
    { SYS_userfaultfd, EPERM },      { SYS_pidfd_getfd, EPERM },      { SYS_process_madvise, EPERM },
    { SYS_pidfd_open, EPERM },       { SYS_unshare, EPERM },          { SYS_setns, EPERM },
    { SYS_open_by_handle_at, EPERM },{ SYS_io_uring_setup, EPERM },   { SYS_clone3, ENOSYS },
};
static bool can_read_itself(void) {
    char from = 1, to = 0;
    struct iovec out = { &from, 1 }, in = { &to, 1 };
    return process_vm_readv(getpid(), &in, 1, &out, 1, 0) == 1;
}
static NOINLINE void enter_container(void) {
    PROOF_WANTS_SIGNALS();
    if (!can_read_itself()) SKIP("process_vm_readv is refused as it is");
    refuse(of_container, sizeof of_container / sizeof of_container[0], 0);
    if (can_read_itself()) SKIP("filters change nothing here");
}

/* ---- Calls that look into processes ---------------------------------------------------------- */

static void *volatile global;
static void fill_global(void *h) { global = h; }
static void wipe_global(void) { global = NULL; }

TEST(a_proof_needs_no_call_that_looks_into_processes) {
    enter_container();
    held(fill_global, wipe_global);
}

/* The filter comes before the runtime. */
static int body(void *arg) {
    held(fill_global, wipe_global);
    return arg == NULL;
}
PLAIN_TEST(a_program_that_is_born_in_a_container_can_prove) {
    enter_container();
    CHECK_EQ(weir_run(body, NULL), 1);
}

/* ---- Memory that can then not be copied ------------------------------------------------------ */

enum { SOME = 16 * 4096 };
static void **volatile uncopied;
static int advice;
static void fill_uncopied(void *h) {
    uncopied = mmap(NULL, SOME, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(uncopied != MAP_FAILED);
    if (madvise(uncopied, SOME, advice)) SKIP("no such advice on this kernel");
    uncopied[1000] = h;
}
static void wipe_uncopied(void) {
    CHECK_EQ(munmap(uncopied, SOME), 0);
    uncopied = NULL;
}
/* Either somebody has found another way to see it; or there is no proof, and the report says what stood in the way. */
static NOINLINE void seen_or_inconclusive(void) {
    weir_leak_report *r = NULL;
    char *text = NULL;
    size_t size = 0;
    int n = weir_leaks(&r);
    FILE *f = open_memstream(&text, &size);
    CHECK(f);
    weir_leak_report_print(r, f);
    fclose(f);
    CHECK_EQ(weir_leak_report_count(r), 0);
    if (n == -EBUSY) {
        CHECK_CONTAINS(text, "inconclusive");
        CHECK_CONTAINS(text, "MADV_WIPEONFORK");
    } else if (n) {
        fputs(text, stderr);
        FAIL("%d goroutines are reported that have not leaked", n);
    }
    weir_leak_report_free(r);
    free(text);
}
/* Copied by hand, where that can be done; and not accused where it cannot. */
static NOINLINE void never_accused(int how) {
    advice = how;
    if (!can_read_itself()) SKIP("process_vm_readv is refused as it is");
    tidily(start_waiter);
    fill_ = fill_uncopied;
    tidily(call_fill_);
    nobody_leaks_whoever_asks();
    tidily(enter_container);
    for (int i = 0; i < 3; i++) seen_or_inconclusive();
    tidily(wipe_uncopied);
    if (HEAP_IS_KNOWN) CHECK_LEAKED(1);
    tidily(end_waiter);
}
TEST(memory_that_fork_wipes_accuses_nobody) { never_accused(MADV_WIPEONFORK); }
TEST(memory_that_fork_leaves_out_accuses_nobody) { never_accused(MADV_DONTFORK); }

/* ---- Kernels before 6.7, and before 5.9 ------------------------------------------------------ */

#define PAGEMAP_SCAN_REQUEST ((unsigned)_IOWR('f', 16, uint64_t[12]))
static const struct refusal of_old_kernel[] = { { SYS_clone3, ENOSYS }, { SYS_close_range, ENOSYS } };

static NOINLINE void enter_old_kernel(void) {
    uint64_t nothing[12] = { 0 };
    PROOF_WANTS_SIGNALS();
#ifdef TEST_ASAN
    SKIP("the sanitizer maps more than can be gone through page by page");
#endif
    refuse(of_old_kernel, 2, PAGEMAP_SCAN_REQUEST);
    int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    if (pagemap < 0) SKIP("no /proc/self/pagemap");
    CHECK_EQ(ioctl(pagemap, PAGEMAP_SCAN_REQUEST, nothing), -1);
    if (errno != ENOTTY) SKIP("filters change nothing here");
    close(pagemap);
}

static char *block;
static size_t at;
static NOINLINE char *map(size_t size, int flags, int fd) {
    char *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | flags, fd, 0);
    CHECK(p != MAP_FAILED);
    return p;
}
static NOINLINE void put(char *into, size_t offset, void *h) {
    block = into, at = offset;
    memcpy(into + offset, &h, sizeof h);
}
static void wipe_block(void) { memset(block + at, 0, sizeof(void *)); }

static void fill_mapping(void *h) { put(map(SOME, MAP_ANONYMOUS, -1), 5 * 4096 + 16, h); }
TEST(on_an_old_kernel_a_mapping_counts) {
    enter_old_kernel();
    held(fill_mapping, wipe_block);
}

/* A page here and there of very many: more than is asked for at once. */
static void fill_sparse(void *h) {
    enum { LARGE = 1 << 30 };
    char *p = map(LARGE, MAP_ANONYMOUS | MAP_NORESERVE, -1);
    p[0] = p[LARGE / 2] = p[LARGE - 1] = 1;
    put(p, LARGE / 4 * 3 + 4096 - sizeof h, h);
}
TEST(on_an_old_kernel_a_page_far_out_in_a_sparse_mapping_counts) {
    enter_old_kernel();
    held(fill_sparse, wipe_block);
}

static void fill_file(void *h) {
    int fd = memfd_create("file", MFD_CLOEXEC);
    CHECK(fd >= 0);
    CHECK_EQ(ftruncate(fd, SOME), 0);
    put(map(SOME, 0, fd), 9 * 4096, h);
    close(fd);
}
TEST(on_an_old_kernel_what_was_written_into_a_private_mapping_of_a_file_counts) {
    enter_old_kernel();
    held(fill_file, wipe_block);
}

static void fill_read_only(void *h) {
    fill_mapping(h);
    CHECK_EQ(mprotect(block, SOME, PROT_NONE), 0);
}
static void wipe_read_only(void) {
    CHECK_EQ(mprotect(block, SOME, PROT_READ | PROT_WRITE), 0);
    wipe_block();
}
TEST(on_an_old_kernel_a_mapping_that_cannot_be_read_just_now_counts) {
    enter_old_kernel();
    held(fill_read_only, wipe_read_only);
}

static void fill_block(void *h) { put(malloc(3 << 20), (3 << 20) - 8, h); }
TEST(on_an_old_kernel_the_end_of_a_huge_block_counts) {
    enter_old_kernel();
    held(fill_block, wipe_block);
}
