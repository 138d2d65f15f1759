/*
 * What the programs in examples/leaks have in common: each shows one pattern by which goroutines leak, in several
 * forms, and run_pattern counts the goroutines before and after each form. Only the public interface is used.
 */
#ifndef SUPPORT_LEAKS_H
#define SUPPORT_LEAKS_H

#include <weir.h>

/* The programs follow articles about goroutines that leak in Go ("The Forgotten Sender" of Ardan Labs is one). Where
 * those wait for half a second, or for two, the programs wait for a SCALEth of that. */
#define SCALE 10

/* leaky: as one writes it at first; fixed: with the care that it takes; scoped: as a scope makes of it. */
enum form_kind { LEAKY, FIXED, SCOPED };

struct form {
    const char *name;      /* as an argument it asks for this form alone */
    enum form_kind kind;
    void (*run)(void);     /* on the main goroutine of a runtime of its own */
};

struct pattern {
    const char *name;
    const char *title;
    struct form forms[6];     /* up to the first without a name */
    size_t (*count)(void);    /* called before a form and after it; NULL: weir_count */
    const char *unit;         /* what that counts; NULL: goroutines */
    const char *note;         /* in place of where they are stuck, if none is; or NULL */
    void (*tell)(void);       /* called after a form, when all that can end has ended: may say more; or NULL */
};

/*
 * The main() of such a program: runs the forms that argv asks for, all if it names none, and prints a line for each. It
 * starts the runtime anew for each form, so that none sees what another has left behind. `--row` prints fields with
 * tabs between them, for scripts: pattern, form, kind, before, after, unit, how many are proven leaked, where (or the note).
 */
int run_pattern(int argc, char **argv, const struct pattern *p);

/* printf, but silent with --row. */
void say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Run fn() in n goroutines, and return when all of them have. */
void at_once(int n, void (*fn)(void));

#endif
