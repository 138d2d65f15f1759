/*
 * Runs the forms of a pattern and counts. What is stuck, and where, is read from weir_dump's text: it shows every
 * goroutine with its state and its stack. These are counts. That a goroutine is still there says nothing yet about
 * whether it could ever end; for these programs you can tell by reading them.
 */
#include "leaks.h"

#include <inttypes.h>
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
    bool moving; /* some run, or sleep, or wait in a way that a clock may end */
    size_t places, stuck;
    struct place place[PLACES];
};

static void add(struct picture *pic, const char *function, const char *file, const char *state) {
    char text[sizeof pic->place->text];
    const char *slash = strrchr(file, '/');
    bool known = strncmp(file, "??", 2) != 0; /* it is not without libdw */
    snprintf(text, sizeof text, "%s %s%s[%s]", function, known ? slash ? slash + 1 : file : "", known ? " " : "", state);
    size_t i = 0;
    while (i < pic->places && strcmp(pic->place[i].text, text) != 0) i++;
    if (i == PLACES) return;
    if (i == pic->places) {
        memcpy(pic->place[i].text, text, sizeof text);
        pic->places++;
    }
    pic->place[i].goroutines++;
}

/* Read a dump of level 2. A goroutine is where its innermost function is that is not weir's. */
static void read_dump(FILE *dump, struct picture *pic) {
    char *line = NULL, state[64] = "", function[128] = "";
    size_t size = 0;
    bool wanted = false; /* in a goroutine's stack, and its place is not known yet */
    while (getline(&line, &size, dump) > 0) {
        uint64_t id;
        line[strcspn(line, "\n")] = '\0';
        if (sscanf(line, "goroutine %" SCNu64 " [%63[^],]", &id, state) == 2) {
            if (id == weir_id()) continue;
            bool stuck = strncmp(state, "chan ", 5) == 0;
            wanted = stuck;
            pic->stuck += stuck;
            pic->moving |= !stuck;
        } else if (*line == '\0') {
            wanted = false;
        } else if (wanted && *line != '\t') {
            snprintf(function, sizeof function, "%.*s", (int)strcspn(line, "("), line);
        } else if (wanted && strncmp(function, "weir_", 5) != 0) {
            char *offset = strstr(line, " +0x");
            if (offset) *offset = '\0';
            add(pic, function, line + 1, state);
            wanted = false;
        }
    }
    free(line);
}

static struct picture look(void) {
    struct picture pic = { .moving = false };
    FILE *dump = tmpfile();
    if (!dump || weir_dump(fileno(dump), 2) != 0) {
        perror("no dump");
        exit(1);
    }
    rewind(dump);
    read_dump(dump, &pic);
    fclose(dump);
    return pic;
}

/*
 * Wait until whoever can end has ended: until no more goroutines are left than there were, or all that are left are
 * parked on a send or a receive. That is enough for these programs. Who is left then would have to be woken by
 * another goroutine, and the others are parked just so; nobody but a clock wakes anyone here (and a goroutine in a
 * select, which may have a timer, counts as moving). After 10 s the picture is what it is.
 */
static struct picture settle(size_t before) {
    weir_time until = weir_now() + 10 * WEIR_SECOND;
    struct picture pic = { .moving = false };
    while (weir_count() > before) {
        pic = look();
        if (!pic.moving || weir_now() > until) return pic;
        weir_sleep(10 * WEIR_MILLISECOND);
    }
    return (struct picture){ .moving = false };
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

static int run_form(void *arg) {
    static const char *const kinds[] = { "leaky", "fixed", "scoped" };
    const struct job *job = arg;
    const struct form *f = job->form;
    size_t (*count)(void) = job->pattern->count ? job->pattern->count : weir_count;

    size_t goroutines = weir_count(), before = count();
    f->run();
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
        printf("%s %zu in %s", i ? "," : "; stuck:", pic.place[i].goroutines, pic.place[i].text);
    printf("\n");
    return 0;
}

static void usage(FILE *to, const char *program, const struct pattern *p) {
    fprintf(to, "usage: %s [--row] [FORM…]\n%s\nforms:", program, p->title);
    for (const struct form *f = p->forms; f->name; f++) fprintf(to, " %s", f->name);
    fputs(" (all, if none is named)\n"
          "  --row  print fields with tabs between them: pattern, form, kind, before, after, unit,\n"
          "         how many are stuck, where\n",
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
