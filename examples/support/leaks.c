/*
 * Runs the forms of a pattern and counts. A count says that goroutines are still there; that they can never end is what
 * weir_leaks proves, and it says where they are stuck.
 */
#include "leaks.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

static bool rows; /* --row; set before the first form runs */

void say(const char *fmt, ...) {
    if (rows) return;
    va_list args;
    va_start(args, fmt);
    vprintf(fmt, args);
    va_end(args);
}

void at_once(int n, void (*fn)(void)) {
    weir_scoped(s) {
        for (int i = 0; i < n; i++) {
            int err = weir_scope_go(&s, fn);
            if (err) say("    only %d of %d calls could be started: %s\n", i, n, strerror(-err));
            if (err) break;
        }
    }
}

/* ---- Where the others are ---------------------------------------------------------------------------- */

#define PLACES 16

struct place {
    char text[256]; /* function file:line [state] */
    size_t goroutines;
};

struct picture {
    size_t places, stuck;
    struct place place[PLACES];
};

static void add(struct picture *pic, const char *function, const char *file, int file_line, const char *state) {
    char text[sizeof pic->place->text], line[16] = "";
    const char *slash = strrchr(file, '/');
    if (file_line > 0) snprintf(line, sizeof line, ":%d ", file_line); /* it is not known without libdw */
    snprintf(text, sizeof text, "%s %s%s[%s]", function, slash ? slash + 1 : file, line, state);
    size_t i = 0;
    while (i < pic->places && strcmp(pic->place[i].text, text) != 0) i++;
    if (i == PLACES) return;
    if (i == pic->places) {
        memcpy(pic->place[i].text, text, sizeof text);
        pic->places++;
    }
    pic->place[i].goroutines++;
}

/* Ask for a proof. A leak is where its innermost function is that is not weir's. */
static struct picture look(void) {
    struct picture pic = { .stuck = 0 };
    weir_leak_report *report = NULL;
    int n = weir_leaks(&report);
    for (int i = 0; i < n; i++) {
        const weir_leak *l = weir_leak_report_at(report, (size_t)i);
        add(&pic, l->at_function ? l->at_function : "", l->at_file ? l->at_file : "", l->at_line, l->state);
    }
    pic.stuck = n > 0 ? (size_t)n : 0;
    weir_leak_report_free(report);
    return pic;
}

/*
 * Wait until whoever can end has ended: until no more goroutines are left than there were, or all that are left are proven to
 * have leaked. Nothing happened for two seconds: the others are none that end.
 */
static struct picture settle(size_t before) {
    weir_time changed = weir_now();
    for (size_t left, last = 0; (left = weir_count()) > before; last = left) {
        struct picture pic = look();
        if (left != last) changed = weir_now();
        if (before + pic.stuck >= left || weir_now() > changed + 2 * WEIR_SECOND) return pic;
        weir_sleep(10 * WEIR_MILLISECOND);
    }
    return (struct picture){ .stuck = 0 };
}

/* ---- The forms --------------------------------------------------------------------------------------- */

struct job {
    const struct pattern *pattern;
    const struct form *form;
};

static const char *unit_of(const struct pattern *p) { return p->unit ? p->unit : "goroutines"; }

static const struct place *most(const struct picture *pic) {
    const struct place *p = pic->place;
    for (size_t i = 1; i < pic->places; i++)
        if (pic->place[i].goroutines > p->goroutines) p = &pic->place[i];
    return p;
}

/* What the form has left on our stack below us would count as held by us, where it has not been written over yet. */
static __attribute__((noinline)) void forget(void) {
    volatile char frames[32768];
    for (size_t i = 0; i < sizeof frames; i++) frames[i] = 0;
}

static int run_form(void *arg) {
    static const char *const kinds[] = { "leaky", "fixed", "scoped" };
    const struct job *job = arg;
    const struct form *f = job->form;
    size_t (*count)(void) = job->pattern->count ? job->pattern->count : weir_count;

    size_t goroutines = weir_count(), before = count();
    f->run();
    forget();
    struct picture pic = settle(goroutines);
    size_t after = count();
    if (job->pattern->tell) job->pattern->tell();

    if (rows) {
        const char *where = most(&pic)->text, *note = job->pattern->note;
        printf("%s\t%s\t%s\t%zu\t%zu\t%s\t%zu\t%s\n", job->pattern->name, f->name, kinds[f->kind], before, after,
               unit_of(job->pattern), pic.stuck, *where || f->kind != LEAKY || !note ? where : note);
        return 0;
    }
    printf("  %-10s before: %zu, after: %zu", f->name, before, after);
    for (size_t i = 0; i < pic.places; i++)
        printf("%s %zu in %s", i ? "," : "; leaked:", pic.place[i].goroutines, pic.place[i].text);
    printf("\n");
    return 0;
}

static void usage(FILE *to, const char *program, const struct pattern *p) {
    fprintf(to, "usage: %s [--row] [FORM…]\n%s\nforms:", program, p->title);
    for (const struct form *f = p->forms; f->name; f++) fprintf(to, " %s", f->name);
    fputs(" (all, if none is named)\n"
          "  --row  print fields with tabs between them: pattern, form, kind, before, after, unit,\n"
          "         how many are proven leaked, where\n",
          to);
}

static const struct form *find(const struct pattern *p, const char *name) {
    const struct form *f = p->forms;
    while (f->name && strcmp(f->name, name) != 0) f++;
    return f->name ? f : NULL;
}

static bool asked_for(const struct form *f, int argc, char **argv) {
    bool named = false;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], f->name) == 0) return true;
        named |= argv[i][0] != '-';
    }
    return !named;
}

int run_pattern(int argc, char **argv, const struct pattern *p) {
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            usage(stdout, argv[0], p);
            return 0;
        }
        if (strcmp(argv[i], "--row") == 0) {
            rows = true;
        } else if (!find(p, argv[i])) {
            usage(stderr, argv[0], p);
            return 2;
        }
    }
    say("%s: %s; counted: %s\n", p->name, p->title, unit_of(p));
    for (const struct form *f = p->forms; f->name; f++) {
        struct job job = { p, f };
        int err = asked_for(f, argc, argv) ? weir_run(run_form, &job) : 0;
        if (err) {
            fprintf(stderr, "%s: %s\n", f->name, strerror(err < 0 ? -err : err));
            return 1;
        }
    }
    return 0;
}
