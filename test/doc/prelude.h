/* What the snippets in the documents may take for granted, if they are no programs of their own. */
#include <weir.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct point {
    int x, y;
};
struct large {
    long v[5];
};
struct job {
    int number;
};
struct page {
    char text[100];
};

typedef WEIR_CHAN(int) int_chan;
typedef WEIR_CHAN(const char *) text_chan;
typedef WEIR_CHAN(struct job) job_chan;
typedef WEIR_CHAN(struct large) large_chan;

extern int_chan ch, results;
extern text_chan lines;
extern large_chan larges;
extern weir_unit_chan done, quit;
extern weir_ctx *ctx, *parent;
extern weir_timer *timer, *ticker;
extern weir_mutex mu;
extern weir_rwmutex rw;
extern weir_cond cond;
extern weir_once once;
extern weir_wg wg;
extern weir_sem sem;
extern struct large large;
extern const char *url, *urls[10];
extern int e, v, n, fd, key;
extern int64_t got;
extern bool ok, ready;
extern char buffer[100];

void work(void);
void worker(int number);
void handle(int v);
void callback(void *arg);
void producer(int_chan out);
void consumer(int_chan in);
int fetch(const char *url);
int fetch_into(const char *url, struct page *out);
int slow(void *arg);
int query(const char *text);
void log_line(const char *text);
