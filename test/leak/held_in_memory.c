/*
 * The only handle is somewhere in the memory of the program, or with a thread that weir did not start; see held.h.
 */
#include "held.h"

#include <malloc.h>
#include <signal.h>

#include "sched/sched.h"
#undef errno
#define errno (*weir_errno_())

/* ---- Data of the program ------------------------------------------------------------------------------------- */

void *volatile leak_test_global;
static void fill_global(void *h) { leak_test_global = h; }
static void wipe_global(void) { leak_test_global = NULL; }
TEST(held_in_a_global) { held(fill_global, wipe_global); }

static struct {
    char name[5];
    struct {
        int n;
        void *volatile handle;
    } inner[3];
} in_struct;
static void fill_struct(void *h) { in_struct.inner[2].handle = h; }
static void wipe_struct(void) { in_struct.inner[2].handle = NULL; }
TEST(held_in_a_static_struct) { held(fill_struct, wipe_struct); }

static void *volatile in_data[4] = { &in_struct, &in_struct, &in_struct, &in_struct };
static void fill_data(void *h) { in_data[1] = h; }
static void wipe_data(void) { in_data[1] = &in_struct; }
TEST(held_in_initialised_data) { held(fill_data, wipe_data); }

static void *volatile in_bss[1 << 17];
static void fill_bss(void *h) { in_bss[100001] = h; }
static void wipe_bss(void) { in_bss[100001] = NULL; }
TEST(held_in_a_large_static_array) { held(fill_bss, wipe_bss); }

struct __attribute__((packed)) packed {
    char tag[3];
    void *handle;
};
static struct packed odd;
static void fill_odd(void *h) { odd.handle = h; }
static void wipe_odd(void) { memset(&odd, 0, sizeof odd); }
TEST(held_at_an_odd_address) { held(fill_odd, wipe_odd); }

static uintptr_t volatile tagged;
static void fill_tagged(void *h) { tagged = (uintptr_t)h | 5; }
static void wipe_tagged(void) { tagged = 0; }
TEST(held_with_tags_in_its_low_bits) { held(fill_tagged, wipe_tagged); }

/* ---- Blocks of malloc's ---------------------------------------------------------------------------------------- */

static char *volatile block; /* what the tests below keep of it */
static size_t at;            /* where the handle is, from there */

static NOINLINE void put(char *base, size_t offset, void *h) {
    memcpy(base + offset, &h, sizeof h);
    __asm__ volatile("" : : "r"(base) : "memory");
}
static void wipe_block(void) { memset(block + at, 0, sizeof(void *)); }
static void fill_in(char *base, size_t offset, void *h) {
    CHECK(base);
    block = base, at = offset;
    put(base, offset, h);
}

static void fill_malloc(void *h) { fill_in(malloc(40), 16, h); }
TEST(held_in_a_block) { held(fill_malloc, wipe_block); }

static void fill_smallest(void *h) { fill_in(malloc(1 + sizeof h), 0, h); }
TEST(held_in_a_small_block) { held(fill_smallest, wipe_block); }

static void fill_last_word(void *h) { fill_in(malloc(24), 16, h); } /* glibc: the word shared with the next header */
TEST(held_in_the_last_word_of_a_block) { held(fill_last_word, wipe_block); }

static void fill_calloc(void *h) { fill_in(calloc(100, 100), 5000, h); }
TEST(held_in_a_calloced_block) { held(fill_calloc, wipe_block); }

static void fill_odd_block(void *h) { fill_in(malloc(100), 33, h); }
TEST(held_at_an_odd_address_in_a_block) { held(fill_odd_block, wipe_block); }

static void fill_huge(void *h) { fill_in(malloc(3 << 20), (3 << 20) - 8, h); }
TEST(held_at_the_end_of_a_huge_block) { held(fill_huge, wipe_block); }

static void fill_aligned(void *h) { fill_in(aligned_alloc(4096, 8192), 4096, h); }
TEST(held_in_an_aligned_block) { held(fill_aligned, wipe_block); }

static void fill_moved(void *h) {
    char *p = malloc(48);
    CHECK(p);
    put(p, 40, h);
    for (size_t size = 96; size < 1 << 20; size *= 2) {
        void *in_the_way = malloc(16);
        CHECK((p = realloc(p, size)));
        free(in_the_way);
    }
    block = p, at = 40;
}
TEST(held_in_a_block_that_has_moved) { held(fill_moved, wipe_block); }

static void fill_interior(void *h) {
    fill_in(malloc(500), 8, h);
    block += 300; /* towards which the only pointer is */
    at = (size_t)-292;
}
TEST(held_in_a_block_of_which_only_an_interior_pointer_is_kept) { held(fill_interior, wipe_block); }

static void fill_past_end(void *h) {
    fill_in(malloc(40), 0, h);
    block += 40; /* 40: the block is full, and this is where the next one's header is */
    at = (size_t)-40;
}
TEST(held_in_a_block_of_which_only_the_end_is_kept) { held(fill_past_end, wipe_block); }

/* The same where the end of what was asked for is 16 bytes from the next block's user memory. */
static void fill_past_end_of_array(void *h) {
    fill_in(calloc(7, 8), 0, h);
    block += 56;
    at = (size_t)-56;
}
TEST(held_in_an_array_of_which_only_the_end_is_kept) { held(fill_past_end_of_array, wipe_block); }

struct node {
    struct node *next;
    void *handle;
    char pad[100];
};
static struct node *list;
static void fill_list(void *h) {
    for (int i = 0; i < 10000; i++) {
        struct node *n = calloc(1, sizeof *n);
        CHECK(n);
        n->next = list, n->handle = i == 0 ? h : NULL;
        list = n;
    }
}
static void wipe_list(void) {
    struct node *n = list;
    while (n->next) n = n->next;
    n->handle = NULL;
}
TEST(held_at_the_end_of_a_long_list) { held(fill_list, wipe_list); }

/* A pool of one's own: malloc knows one block, the program many. */
static void fill_pool(void *h) {
    char *pool = malloc(64 << 10);
    CHECK(pool);
    memset(pool, 0x55, 64 << 10);
    fill_in(pool, 777 * 64 + 8, h);
}
TEST(held_in_a_pool_of_the_program) { held(fill_pool, wipe_block); }

static void *fill_elsewhere(void *h) {
    fill_in(malloc(200), 96, h);
    return NULL;
}
static void fill_arena(void *h) {
    pthread_t thread = thread_start(fill_elsewhere, h);
    thread_end(thread);
}
TEST(held_in_a_block_from_another_arena) { held(fill_arena, NULL); }

/* ---- Mappings ------------------------------------------------------------------------------------------------------ */

enum { PAGES = 16 * 4096 };
static char *map(int flags, int fd) {
    char *p = mmap(NULL, PAGES, PROT_READ | PROT_WRITE, MAP_PRIVATE | flags, fd, 0);
    CHECK(p != MAP_FAILED);
    return p;
}
static void fill_mapping(void *h) { fill_in(map(MAP_ANONYMOUS, -1), 5 * 4096 + 16, h); }
TEST(held_in_a_mapping) { held(fill_mapping, wipe_block); }

static void fill_read_only(void *h) {
    fill_mapping(h);
    CHECK_EQ(mprotect(block, PAGES, PROT_READ), 0);
}
static void wipe_read_only(void) {
    CHECK_EQ(mprotect(block, PAGES, PROT_READ | PROT_WRITE), 0);
    wipe_block();
}
TEST(held_in_a_mapping_that_is_read_only_now) { held(fill_read_only, wipe_read_only); }

static void fill_file(void *h) {
    int fd = memfd_create("file", MFD_CLOEXEC);
    CHECK(fd >= 0);
    CHECK_EQ(ftruncate(fd, PAGES), 0);
    fill_in(map(0, fd), 9 * 4096, h);
    close(fd);
}
TEST(held_in_a_private_mapping_of_a_file) { held(fill_file, wipe_block); }

static void fill_brk(void *h) {
    char *p = sbrk(4096);
    if (p == (void *)-1) SKIP("no memory from sbrk");
    fill_in(p, 128, h);
}
TEST(held_in_memory_from_sbrk) { held(fill_brk, wipe_block); }

/* ---- Threads of the program's own ----------------------------------------------------------------------------------- */

static pthread_t holder;
static int bell[2];             /* a pipe: the holder reads from it, and leaves when something comes */
static _Atomic bool settled, let_go;

static NOINLINE void wait_for_the_bell(void) {
    char c;
    settled = true;
    while (read(bell[0], &c, 1) != 1) {
    }
}
static void begin_holding(void *(*fn)(void *), void *h) {
    CHECK_EQ(pipe(bell), 0);
    holder = thread_start(fn, h);
    TEST_UNTIL(settled);
}
static void end_holding(void) {
    let_go = true;
    CHECK_EQ(write(bell[1], "x", 1), 1);
    thread_end(holder);
}

static void *on_thread_stack(void *h) {
    void *volatile frame[10] = { 0 };
    frame[7] = h;
    h = NULL;
    wait_for_the_bell();
    frame[7] = NULL;
    return frame[7];
}
static void fill_thread_stack(void *h) { begin_holding(on_thread_stack, h); }
TEST(held_on_the_stack_of_a_thread) {
    held(fill_thread_stack, NULL);
    end_holding();
}

/* The kernel shows neighbouring mappings as one: the holder's stack, a block that glibc's malloc has mapped, and the one with the handle.
 * Between the two lies one that nobody needs, as a thread may know where its stack ends, and above them a moat, as another knows where
 * its own begins; and an old word whose lower half has become 0 points to a multiple of 4 GiB. */
static NOINLINE char *stack_below_block(size_t size) {
    enum { BLOCK = 4 << 20, HEADER = 16 };
    for (int i = 0; i < 20; i++) {
        char *moat = mmap(NULL, BLOCK, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), *upper = malloc(BLOCK), *lower = malloc(BLOCK);
        CHECK(moat != MAP_FAILED && upper && lower);
        if (upper + malloc_usable_size(upper) != moat || lower + malloc_usable_size(lower) != upper - HEADER) continue;
        if ((uintptr_t)upper >> 32 != ((uintptr_t)upper + BLOCK) >> 32) continue;
        char *end = lower - HEADER;
        char *stack = mmap(end - size, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
        if (stack == MAP_FAILED) continue;
        CHECK(stack == end - size);
        block = upper, at = BLOCK / 2;
        return stack;
    }
    SKIP("malloc does not map its large blocks side by side");
}
static void *holds_nothing(void *unused) {
    wait_for_the_bell();
    return unused;
}
static NOINLINE void hold_nothing(void) {
    enum { STACK = 1 << 20 };
    pthread_attr_t attr;
    char *stack = stack_below_block(STACK);
    CHECK_EQ(pipe(bell), 0);
    CHECK_EQ(pthread_attr_init(&attr), 0);
    CHECK_EQ(pthread_attr_setstack(&attr, stack, STACK), 0);
    CHECK_EQ(pthread_create(&holder, &attr, holds_nothing, NULL), 0);
    TEST_UNTIL(settled);
}
static void fill_above_stack(void *h) { put(block, at, h); }
static void lose_block(void) { block = NULL; }
TEST(a_lost_block_above_the_stack_of_a_thread_hides_nothing) {
    RECALL_WANTS_GLIBC();
    tidily(hold_nothing); /* before there is a handle, which it would inherit in its registers */
    held(fill_above_stack, lose_block);
    end_holding();
}

static _Thread_local void *volatile in_tls[3];
static void *in_thread_local(void *h) {
    in_tls[1] = h;
    h = NULL;
    scrub();
    wait_for_the_bell();
    in_tls[1] = NULL;
    return NULL;
}
static void fill_thread_local(void *h) { begin_holding(in_thread_local, h); }
TEST(held_in_a_thread_local_of_a_thread) {
    held(fill_thread_local, NULL);
    end_holding();
}

static pthread_key_t specific;
static void *in_specific(void *h) {
    CHECK_EQ(pthread_setspecific(specific, h), 0);
    h = NULL;
    scrub();
    wait_for_the_bell();
    CHECK_EQ(pthread_setspecific(specific, NULL), 0);
    return NULL;
}
static void fill_specific(void *h) {
    CHECK_EQ(pthread_key_create(&specific, NULL), 0);
    begin_holding(in_specific, h);
}
TEST(held_as_thread_specific_data) {
    held(fill_specific, NULL);
    end_holding();
}

/* A thread that weir knows, asleep in a call of weir's: bound to a goroutine of its own, and always alive. */
static int_chan never;
static void *in_weir_call(void *h) {
    void *volatile frame = h;
    h = NULL;
    settled = true;
    (void)!weir_recv(never, NULL);
    frame = NULL;
    return frame;
}
static void see_thread(struct g *g, bool held_still, void *arg) {
    if (g->foreign && atomic_load(&g->wait) && !held_still) ++*(int *)arg;
}
static void until_thread_waits(void) {
    for (int n = 0; n == 0; test_pause()) wr_each_goroutine(see_thread, &n);
}
static void fill_weir_call(void *h) {
    never = weir_make(int_chan, 0);
    begin_holding(in_weir_call, h);
    until_thread_waits();
}
static void *in_weir_call_for_ever(void *h) {
    void *volatile frame = h;
    h = NULL;
    settled = true;
    (void)!weir_recv(weir_make(int_chan, 0), NULL); /* nobody can wake it; but a thread may get a signal, and longjmp */
    frame = NULL;
    return frame;
}
static void fill_weir_call_for_ever(void *h) {
    begin_holding(in_weir_call_for_ever, h);
    until_thread_waits();
}
TEST(held_by_a_thread_that_waits_in_weir) {
    held(fill_weir_call, NULL);
    CHECK_EQ(weir_close(never), 0);
    thread_end(holder);
}
TEST(held_by_a_thread_that_waits_in_weir_for_ever) { held(fill_weir_call_for_ever, NULL); }

/* In a signal handler, on a signal stack; and in the code that the signal interrupted. */
static void *veiled_for_handler;
static void handler(int signal) {
    void *volatile frame = unveil((uintptr_t)veiled_for_handler);
    wait_for_the_bell();
    frame = NULL;
    (void)frame;
}
static void *take_signal(void *arg) {
    static const size_t size = 64 << 10;
    stack_t stack = { .ss_sp = malloc(size), .ss_size = size };
    struct sigaction sa = { .sa_handler = handler, .sa_flags = SA_ONSTACK };
    CHECK(stack.ss_sp);
    CHECK_EQ(sigaltstack(&stack, NULL), 0);
    CHECK_EQ(sigaction(SIGUSR2, &sa, NULL), 0);
    CHECK_EQ(pthread_kill(pthread_self(), SIGUSR2), 0);
    CHECK_EQ(sigaltstack(&(stack_t){ .ss_flags = SS_DISABLE }, NULL), 0);
    free(stack.ss_sp);
    return arg;
}
static void fill_handler(void *h) {
    veiled_for_handler = (void *)veil(h);
    begin_holding(take_signal, NULL);
}
TEST(held_by_a_signal_handler) {
    held(fill_handler, NULL);
    end_holding();
}
