/* A small program as a user writes it; run by programs.sh. Squares 1 … 1000 by three workers, prints the sum. */
#include <weir.h>

typedef WEIR_CHAN(long) long_chan;

static void numbers(long_chan out) {
    for (long i = 1; i <= 1000; i++)
        if (weir_send(out, i)) break;
    weir_close(out);
    weir_release(out);
}

static int square(long_chan in, long_chan out) {
    for (long v; weir_recv(in, &v) == 0;)
        if (weir_send(out, v * v)) return 1;
    return 0;
}

static void squares(long_chan in, long_chan out) {
    weir_scoped(s) {
        for (int i = 0; i < 3; i++) weir_scope_go(&s, square, in, out);
    }
    weir_close(out);
}

int weir_main(int argc, char **argv) {
    long_chan in = weir_make(long_chan, 0), out = weir_make(long_chan, 4);
    long sum = 0, v;
    (void)argv;
    if (weir_go(numbers, weir_retain(in)) || weir_go(squares, in, out)) return 1;
    for (;;) {
        int arm = weir_select(weir_on_recv(out, &v), weir_on_after(10 * WEIR_SECOND));
        if (arm != 0 || weir_select_error()) break;
        sum += v;
    }
    printf("%ld\n", sum);
    weir_release(in), weir_release(out);
    return argc - 1;
}
