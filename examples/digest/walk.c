/*
 * digest's walker: finds the files in the byte order of their paths, and hands each on.
 *
 * A folder's names are sorted, those of subfolders with the '/' that follows them in every path below; going down into
 * each as it comes then gives paths in order. Memory grows with depth, not with the number of files: it holds the names
 * in one folder for each level, up to NAMES_MAX bytes. Of a larger folder the first so many are kept, and it is read
 * again for those that follow. Descriptors do not even grow with depth: only LEVELS_OPEN levels keep theirs. All is
 * opened relative to a folder, so no path is too long. What reads a disk runs inside weir_blocking.
 */
#define _GNU_SOURCE
#include "digest.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- Folders ------------------------------------------------------------------------------------ */

static int folder_open(int at, const char *name, struct folder **out) {
    int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) return -errno;
    struct folder *f = malloc(sizeof *f);
    if (!f) return close(fd), -ENOMEM;
    *f = (struct folder){ 1, fd };
    *out = f;
    return 0;
}

static struct folder *folder_keep(struct folder *f) {
    atomic_fetch_add(&f->users, 1);
    return f;
}

void folder_drop(struct folder **f) {
    if (*f && atomic_fetch_sub(&(*f)->users, 1) == 1) {
        close((*f)->fd);
        free(*f);
    }
    *f = NULL;
}

/* ---- The names in a folder ---------------------------------------------------------------------- */

/* Some names of one folder, sorted; those of subfolders end in '/'. */
struct names {
    char *text;             /* a 0 after each */
    size_t used, room;
    uint32_t *at;           /* where in text each begins */
    size_t n, n_room;
    bool more;              /* the folder has names after `last`, which did not fit */
    uint32_t last;
};

static int by_bytes(const void *a, const void *b, void *text) {
    return strcmp((char *)text + *(const uint32_t *)a, (char *)text + *(const uint32_t *)b);
}

static void names_sort(struct names *s) {
    if (s->n) qsort_r(s->at, s->n, sizeof *s->at, by_bytes, s->text);
}

static void names_free(struct names *s) {
    free(s->text);
    free(s->at);
    *s = (struct names){ 0 };
}

static int names_add(struct names *s, const char *name, const char *suffix) {
    size_t length = strlen(name), all = length + strlen(suffix) + 1;
    if (reserve(&s->text, &s->room, s->used + all, 1) || reserve(&s->at, &s->n_room, s->n + 1, sizeof *s->at))
        return -ENOMEM;
    memcpy(s->text + s->used, name, length);
    memcpy(s->text + s->used + length, suffix, all - length);
    s->at[s->n++] = (uint32_t)s->used;
    s->used += all;
    return 0;
}

/* There are too many: forget the later half, and what may still come after the other half. */
static int names_halve(struct names *s) {
    struct names half = { .more = true };
    int error = 0;
    names_sort(s);
    for (size_t i = 0; i < s->n / 2 && !error; i++) error = names_add(&half, s->text + s->at[i], "");
    half.last = half.n ? half.at[half.n - 1] : 0;
    names_free(s);
    *s = half;
    return error;
}

static int type_of(int fd, const struct dirent *entry) {
    struct stat st;
    if (entry->d_type != DT_UNKNOWN || fstatat(fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW)) return entry->d_type;
    return S_ISDIR(st.st_mode) ? DT_DIR : S_ISREG(st.st_mode) ? DT_REG : DT_UNKNOWN;
}

/* The first names of a folder that come after `after`, as many as fit. */
static int names_read(struct names *s, struct folder *folder, const char *after) {
    int fd = openat(folder->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir) return fd < 0 ? -errno : (close(fd), -ENOMEM);
    int error = 0;
    struct dirent *entry;
    while (!error && (errno = 0, entry = readdir(dir))) {
        int type = type_of(fd, entry);
        if ((type != DT_DIR && type != DT_REG) || !strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        if ((error = names_add(s, entry->d_name, type == DT_DIR ? "/" : ""))) break;
        const char *name = s->text + s->at[s->n - 1];
        if (strcmp(name, after) <= 0 || (s->more && strcmp(name, s->text + s->last) > 0))
            s->used = s->at[--s->n];
        else if (s->used > NAMES_MAX)
            error = names_halve(s);
    }
    if (!error) error = -errno;
    closedir(dir);
    names_sort(s);
    return error;
}

/* ---- The walker --------------------------------------------------------------------------------- */

/* A folder on the way down to where the walk is. */
struct level {
    struct level *up;
    struct folder *folder;  /* NULL: closed, as the walk is LEVELS_OPEN below it */
    dev_t device;           /* to know it again when it is opened anew, as ".." */
    ino_t inode;
    size_t path;            /* the length of its path, with the '/' */
    struct names names;
    size_t next;            /* of them */
};

struct walk {
    struct level *top;      /* the innermost */
    const char *root;
    char *path;             /* of the file or folder at hand; that of a folder ends in '/' */
    size_t room;
};

/* Go down into the folder at w->path. With an error it may be entered all the same, and some of its names known. */
static int enter(void *arg) {
    struct walk *w = arg;
    struct level *l = calloc(1, sizeof *l), *up = w->top;
    struct stat st;
    int error;
    if (!l) return -ENOMEM;
    l->path = strlen(w->path);
    if (up) {
        w->path[l->path - 1] = 0;
        error = folder_open(up->folder->fd, w->path + up->path, &l->folder);
        w->path[l->path - 1] = '/';
    } else {
        error = folder_open(AT_FDCWD, w->root, &l->folder);
    }
    if (!error && fstat(l->folder->fd, &st)) error = -errno;
    if (error) {
        folder_drop(&l->folder);
        free(l);
        return error;
    }
    l->up = up, l->device = st.st_dev, l->inode = st.st_ino;
    w->top = l;
    for (int n = 0; up && n < LEVELS_OPEN; n++) up = up->up;
    if (up) folder_drop(&up->folder);
    return names_read(&l->names, l->folder, "");
}

/* The names that follow, where not all fitted. */
static int read_on(void *arg) {
    struct level *l = ((struct walk *)arg)->top;
    struct names old = l->names;
    l->names = (struct names){ 0 };
    l->next = 0;
    int error = names_read(&l->names, l->folder, old.text + old.at[old.n - 1]);
    names_free(&old);
    return error;
}

/* Go up. Fails if the folder above had to be opened anew and is another one now. */
static int leave(struct walk *w) {
    struct level *l = w->top, *up = l->up;
    struct stat st;
    int error = 0;
    if (up && !up->folder && l->folder) {
        error = folder_open(l->folder->fd, "..", &up->folder);
        if (!error && (fstat(up->folder->fd, &st) || st.st_dev != up->device || st.st_ino != up->inode)) {
            folder_drop(&up->folder);
            error = -ESTALE;
        }
    }
    w->top = up;
    folder_drop(&l->folder);
    names_free(&l->names);
    free(l);
    return error;
}

/* Hand on the file at w->path, or the error met there. */
static int offer(struct digest *d, struct walk *w, int error) {
    struct file *f;
    int stopped = take(d->idle, &f);
    if (stopped) return stopped;
    size_t length = strlen(w->path);
    if (length > 1 && w->path[length - 1] == '/') length--;
    if (reserve(&f->path, &f->room, length + 1, 1)) return -ENOMEM;
    memcpy(f->path, w->path, length);
    f->path[length] = 0;
    f->error = error;
    if (!error) f->name = w->top->path, f->folder = folder_keep(w->top->folder);
    if ((stopped = weir_send(d->order, f))) return stopped;
    return error ? weir_send(f->done, weir_unit_value) : weir_send(d->jobs, f);
}

static int walk_below(struct digest *d, struct walk *w) {
    int stopped = 0, error = weir_blocking(enter, w);
    if (error) stopped = offer(d, w, error);
    while (w->top && !stopped) {
        struct level *l = w->top;
        w->path[l->path] = 0;
        if (l->next == l->names.n && l->names.more && (error = weir_blocking(read_on, w)))
            stopped = offer(d, w, error);
        if (l->next == l->names.n) {
            if ((error = leave(w))) {
                w->path[w->top->path] = 0;
                stopped = offer(d, w, error);
                break;
            }
            continue;
        }
        const char *name = l->names.text + l->names.at[l->next++];
        size_t length = strlen(name);
        if (reserve(&w->path, &w->room, l->path + length + 1, 1)) return -ENOMEM;
        memcpy(w->path + l->path, name, length + 1);
        error = 0;
        if (name[length - 1] != '/' || (error = weir_blocking(enter, w))) stopped = offer(d, w, error);
    }
    return stopped;
}

int walk(struct digest *d) {
    int stopped = 0;
    for (int i = 0; i < d->n_roots && !stopped; i++) {
        struct walk w = { .root = d->roots[i].folder };
        size_t size = strlen(d->roots[i].path) + 1;
        stopped = reserve(&w.path, &w.room, size, 1);
        if (!stopped) {
            memcpy(w.path, d->roots[i].path, size);
            stopped = walk_below(d, &w);
        }
        while (w.top) leave(&w);
        free(w.path);
    }
    weir_close(d->jobs);
    weir_close(d->order);
    return stopped;
}
