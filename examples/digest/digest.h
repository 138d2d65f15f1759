/* digest: what its three files share. digest.c tells how they work together. */
#ifndef DIGEST_H
#define DIGEST_H

#include <weir.h>

#include <stdatomic.h>
#include <stdlib.h>

enum {
    WORKERS_MAX = 256,      /* with AHEAD and LEVELS_OPEN this stays below 1024 descriptors */
    AHEAD = 256,            /* files that may wait, digested, for a slow one before them */
    LEVELS_OPEN = 64,       /* the innermost levels of the walk keep their folders open */
    NAMES_MAX = 8 << 20,    /* bytes of one folder's names in memory at a time */
    BLOCK = 128 << 10,      /* bytes a read */
    BATCH = 16 << 20,       /* bytes between two looks at the context */
    SUM = 32                /* bytes of a SHA-256 */
};

/* An open folder. The walk counts as a user, and so does each file found in it that is not digested yet. */
struct folder {
    atomic_int users;
    int fd;
};
void folder_drop(struct folder **f);

struct file {
    char *path;             /* grows as needed, stays with this struct */
    size_t room;
    size_t name;            /* where in path the part below `folder` begins */
    struct folder *folder;
    int error;              /* negative errno: could not be digested */
    unsigned char sum[SUM];
    weir_unit_chan done;    /* of capacity 1: the file is digested, or has failed */
};
typedef WEIR_CHAN(struct file *) file_chan;

/* What was asked for: a folder to walk. */
struct root {
    const char *folder;     /* as given; if it ends in '/', it may be a link */
    char *path;             /* the same, always with a '/' at the end */
};

struct digest {
    struct root *roots;     /* sorted, none inside another */
    int n_roots, workers;
    file_chan idle, jobs, order; /* each has room for every file there is */
    weir_mutex screen;      /* standard error */
    bool progress;          /* is there a progress line on it? */
    bool failed;            /* the collector's: something could not be read */
    weir_time start;
    _Atomic uint64_t files, bytes;
};

/* The goroutines. 0; -ECANCELED: told to stop; else what made it impossible to go on. */
int walk(struct digest *d);
int work(struct digest *d);
int collect(struct digest *d);
void show_progress(struct digest *d);

extern int stop_fd; /* readable once all is to stop */

/* The next file from a channel. The channels are seldom empty, and only calls that would block are refused once the
 * context has ended, so it is looked at here. -EPIPE: that was all; -ECANCELED: stop. */
static inline int take(file_chan from, struct file **f) {
    int stopped = weir_ctx_err(NULL);
    return stopped ? stopped : weir_recv(from, f);
}

/* Make an array, of elements of `size` bytes, large enough for `wanted` of them. */
static inline int reserve(void *array, size_t *room, size_t wanted, size_t size) {
    if (wanted <= *room) return 0;
    size_t more = wanted + wanted / 2 + 32;
    void *grown = realloc(*(void **)array, more * size);
    if (!grown) return -ENOMEM;
    *(void **)array = grown, *room = more;
    return 0;
}

#endif
