/*
 * Load for the servers that tools/bench-net compares: keeps a number of connections, sends requests of 64 bytes (or GETs), and
 * reads answers of equal length. Either as fast as they come back (closed loop), or at a fixed rate, where a request
 * counts from when it was due and not from when there was a connection to send it on. One thread, epoll.
 *
 *     load ADDRESS-PORT echo|http|short CONNECTIONS SECONDS RATE PID
 *
 * short: as echo, but each connection asks once, is reset, and has another in its place. RATE 0: closed loop, which never sleeps: else the
 * slower server would also pay for waking it, at several us each. PID: the server's, whose CPU time is asked of /proc. The first fifth of
 * the time does not count. Prints lines `name value unit`.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

struct connection {
    int fd;
    size_t got;    /* of the answer that is under way */
    double since;  /* when its request was due */
};

static char request[64] = "0123456789 0123456789 0123456789 0123456789 0123456789 012345\n";
static const char get[] = "GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: load\r\n\r\n";
static const char *ask = request;
static size_t ask_length = sizeof request, answer_length = sizeof request;

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Seconds of CPU that the threads of the process have had. */
static double cpu_of(int pid) {
    char path[64];
    double sum = 0;
    snprintf(path, sizeof path, "/proc/%d/task", pid);
    DIR *tasks = opendir(path);
    if (!tasks) fail(path);
    for (struct dirent *e; (e = readdir(tasks));) {
        char stat[400];
        unsigned long long ns;
        snprintf(stat, sizeof stat, "/proc/%d/task/%s/schedstat", pid, e->d_name);
        FILE *f = e->d_name[0] == '.' ? NULL : fopen(stat, "r");
        if (f && fscanf(f, "%llu", &ns) == 1) sum += (double)ns * 1e-9;
        if (f) fclose(f);
    }
    closedir(tasks);
    return sum;
}

static int dial(int port) {
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    struct linger reset = { .l_onoff = 1 }; /* so that no number of a port is kept from use */
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    if (fd < 0) fail("socket");
    if (connect(fd, (struct sockaddr *)&to, sizeof to)) fail("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    return fd;
}

static void listen_for(int ep, const struct connection *c, int i) {
    struct epoll_event e = { .events = EPOLLIN, .data.u32 = (uint32_t)i };
    if (epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &e)) fail("epoll_ctl");
}

static void send_request(struct connection *c, double due) {
    c->since = due;
    c->got = 0;
    if (write(c->fd, ask, ask_length) != (ssize_t)ask_length) fail("write");
}

/* What the server answers to a GET, head and body: the answers that follow are as long. */
static void learn_answer(int fd) {
    char answer[4096];
    size_t got = 0, want = 0;
    ask = get, ask_length = sizeof get - 1;
    if (write(fd, ask, ask_length) != (ssize_t)ask_length) fail("write");
    while (!want || got < want) {
        ssize_t n = read(fd, answer + got, sizeof answer - 1 - got);
        if (n <= 0) fail("the server does not answer a GET");
        got += (size_t)n;
        answer[got] = 0;
        char *body = strstr(answer, "\r\n\r\n"), *length = strcasestr(answer, "content-length:");
        if (body && length) want = (size_t)(body + 4 - answer) + strtoul(length + 15, NULL, 10);
    }
    if (strncmp(answer, "HTTP/1.1 200 ", 13) != 0) fail("the server's answer is not 200");
    answer_length = want;
}

static int compare(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv) {
    if (argc != 7) return fputs("usage: load PORT echo|http|short CONNECTIONS SECONDS RATE PID\n", stderr), 2;
    int port = atoi(argv[1]), n = atoi(argv[3]), pid = atoi(argv[6]);
    double seconds = atof(argv[4]), rate = atof(argv[5]);
    bool http = strcmp(argv[2], "http") == 0, once = strcmp(argv[2], "short") == 0;
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);

    int ep = epoll_create1(0), *idle = malloc((size_t)n * sizeof *idle), n_idle = 0, first_idle = 0; /* a ring: all take turns */
    struct connection *all = calloc((size_t)n, sizeof *all);
    size_t room = 1 << 20, samples = 0;
    float *late = malloc(room * sizeof *late);
    if (!idle || !all || !late || ep < 0) fail("load");
    for (int i = 0; i < n; i++) {
        all[i].fd = dial(port);
        if (http && i == 0) learn_answer(all[i].fd);
        listen_for(ep, &all[i], i);
        idle[n_idle++] = i;
    }

    double t = now(), start = t, warm = t + seconds / 5, end = t + seconds, due = t, cpu = 0;
    long done = 0;
    for (bool counting = false; t < end; t = now()) {
        if (!counting && t >= warm) {
            counting = true;
            start = t, cpu = cpu_of(pid), done = 0, samples = 0;
        }
        if (rate == 0)
            for (; n_idle; n_idle--, first_idle = (first_idle + 1) % n) send_request(&all[idle[first_idle]], now());
        for (; rate > 0 && n_idle && due <= t; due += 1 / rate, n_idle--, first_idle = (first_idle + 1) % n)
            send_request(&all[idle[first_idle]], due);
        struct epoll_event events[256];
        double wait = rate == 0 ? 0 : !n_idle ? 0.1 : due > t ? due - t : 0;
        struct timespec until = { .tv_nsec = (long)(wait * 1e9) };
        int ready = epoll_pwait2(ep, events, 256, &until, NULL);
        if (ready < 0 && errno != EINTR) fail("epoll_pwait2");
        t = now();
        for (int j = 0; j < ready; j++) {
            struct connection *c = &all[events[j].data.u32];
            char sink[4096];
            ssize_t k = read(c->fd, sink, sizeof sink);
            if (k <= 0) fail("the server has closed a connection");
            c->got += (size_t)k;
            if (c->got < answer_length) continue;
            if (once) {
                close(c->fd);
                c->fd = dial(port);
                listen_for(ep, c, (int)events[j].data.u32);
            }
            idle[(first_idle + n_idle++) % n] = (int)events[j].data.u32;
            done++;
            if (samples == room && (late = realloc(late, (room *= 2) * sizeof *late)) == NULL) fail("realloc");
            late[samples++] = (float)(t - c->since);
        }
    }
    double took = now() - start;
    cpu = cpu_of(pid) - cpu;
    if (!done) return fputs("load: no answers\n", stderr), 1;
    qsort(late, samples, sizeof *late, compare);
    printf("rate %.0f req/s\n", (double)done / took);
    printf("cpu %.3f us/req\n", cpu / (double)done * 1e6);
    printf("p50 %.1f us\n", late[samples / 2] * 1e6);
    printf("p99 %.1f us\n", late[samples * 99 / 100] * 1e6);
    return 0;
}
