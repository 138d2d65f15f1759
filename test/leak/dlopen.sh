#!/bin/sh
# The only handle is in the memory of a library that was loaded late: in its data, in what it allocated, in its thread-locals.
# While it is there the goroutine has not leaked; once it has been taken out, or the library is gone, it has.
set -u
. "$WEIR_SRC/test/support/script.sh"

cat >"$tmp/plugin.c" <<'END'
#include <stdlib.h>
static void *volatile in_bss[100];
static void *volatile in_data[2] = { "", "" };
static _Thread_local void *volatile in_tls;
static void *volatile *in_block;
void keep_bss(void *h) { in_bss[77] = h; }
void keep_data(void *h) { in_data[1] = h; }
void keep_tls(void *h) { in_tls = h; }
void keep_block(void *h)
{
    if (!in_block) in_block = malloc(100);
    in_block[3] = h;
}
END
cat >"$tmp/program.c" <<'END'
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <weir.h>

typedef WEIR_CHAN(int) int_chan;
static uintptr_t veiled; /* the complement of the handle, which no scan takes for it */
static void *library;
static void (*keep)(void *h);

static void waits(int_chan ch)
{
    int v;
    if (weir_recv(ch, &v) != 0) puts("not woken");
}
/* What this leaves on the stack is overwritten. */
static __attribute__((noinline)) void start(void)
{
    int_chan ch = weir_make(int_chan, 0);
    veiled = ~(uintptr_t)weir_chan_of(ch);
    if (weir_go(waits, ch) != 0) puts("no goroutine");
    keep((void *)~veiled);
}
static __attribute__((noinline)) void deep(int depth)
{
    volatile char frame[200] = { 0 };
    if (depth == 0) start();
    else deep(depth - 1);
    frame[1] = 0;
}
static __attribute__((noinline)) void scrub(void)
{
    volatile char frame[16384];
    for (size_t i = 0; i < sizeof frame; i++) frame[i] = 0;
}
static int leaked(void)
{
    weir_leak_report *r;
    int n = weir_leaks(&r);
    if (n != 0) weir_leak_report_print(r, stdout);
    weir_leak_report_free(r);
    return n;
}
static void until_parked(void)
{
    for (int parked = 0; !parked; weir_sleep(WEIR_MILLISECOND)) {
        FILE *dump = tmpfile();
        char line[256];
        if (!dump || weir_dump(fileno(dump), 2)) abort();
        rewind(dump);
        while (fgets(line, sizeof line, dump)) parked |= strstr(line, " [chan ") != NULL;
        fclose(dump);
    }
}
int weir_main(int argc, char **argv)
{
    if (argc != 3 || !(library = dlopen(argv[1], RTLD_NOW))) return 10;
    if (!(keep = (void (*)(void *))dlsym(library, argv[2]))) return 11;
    weir_lock_thread(); /* for the thread-local */
    deep(8);
    scrub();
    until_parked();
    for (int i = 0; i < 3; i++)
        if (leaked() != 0) return 1;
    keep(NULL);
    scrub();
    if (leaked() != 1) return 2;
    return 0;
}
END

builds() {
    $CC -g -O1 -shared -fPIC -o "$tmp/plugin.so" "$tmp/plugin.c" &&
        $CC -std=gnu11 -g -O1 -I"$WEIR_SRC/include" -I"$WEIR_BUILD/include" -o "$tmp/program" "$tmp/program.c" \
            "$WEIR_BUILD/libweir.a" $libs -ldl
}
holds() {
    "$tmp/program" "$tmp/plugin.so" "$1"
}

check builds builds
check held_in_the_bss_of_a_library holds keep_bss
check held_in_the_data_of_a_library holds keep_data
check held_in_a_thread_local_of_a_library holds keep_tls
check held_in_a_block_that_a_library_allocated holds keep_block
finish
