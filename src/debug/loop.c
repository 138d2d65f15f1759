/*
 * The thread that speaks HTTP, and what becomes of a request:
 *
 *   NEW      its first line is there; then its headers and body come in
 *   AT_WORK  the connection is suspended, a worker makes the answer
 *   ANSWERED the worker is done: the loop resumes the connection and sends the reply
 *   STREAMED the worker still writes: the loop sends what comes out of a pipe, and while that is empty the connection is suspended
 *
 * libmicrohttpd runs in no thread of its own but in ours, which the scheduler knows (start/inside.h): it is called by nobody else, so a
 * worker hands a request back in a list and an eventfd says so. `server.lock` guards that list and the state of requests, and is held for
 * moments. A request is held by its connection and by its worker, and freed by who lets go last.
 */
#include "debug/debug.h"

#include <fcntl.h>
#include <microhttpd.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    CONNECTIONS = 64,
    IDLE_SECONDS = 60,          /* then a connection is closed */
    CONNECTION_MEMORY = 32 << 10, /* for the first line and the headers; what is longer is refused */
    BODY_MOST = 1 << 20,
    STACK = 256 << 10
};

struct request {
    struct wr_work work;
    struct wr_request asked;
    struct wr_reply reply;
    struct request *next;            /* in server.back */
    enum { NEW, AT_WORK, ANSWERED, STREAMED } state;
    bool begun;                      /* the headers are there */
    int holders;
    struct MHD_Connection *connection;
    struct client *client;           /* its */
    wr_handler *handler;
    char *uri, *path, *body;         /* as they came; asked points there */
    size_t body_room;
    int pipe;                        /* what a stream comes from; -1: none */
};

/* A connection. Of the loop alone, but for the socket. */
struct client {
    _Atomic int socket;              /* + 1; 0: there is none */
    bool asks;                       /* a request of its is at work, or being answered */
    bool has_gone;
};

static struct {
    pthread_mutex_t lock;
    struct MHD_Daemon *daemon;
    int listener, epoll, daemon_epoll, event;
    struct request *back;            /* from the workers */
    struct client clients[CONNECTIONS];
    bool run_again;                  /* of the loop alone: a connection has ended, so there may be room for another */
    _Atomic int pipes[2 * CONNECTIONS]; /* both ends, + 1; 0: free */
} server = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* ---- Pipes ---------------------------------------------------------------------------------------------------
 * They are listed for a forked child to close, as clients are; else these would wait for the child's end, too. One that is made amid a
 * fork is missed. */

static void note_pipe(int fd) {
    for (size_t i = 0; i < 2 * CONNECTIONS; i++) {
        int none = 0;
        if (atomic_compare_exchange_strong(&server.pipes[i], &none, fd + 1)) return;
    }
}
static void close_pipe(int fd) {
    for (size_t i = 0; i < 2 * CONNECTIONS; i++) {
        int it = fd + 1;
        if (atomic_compare_exchange_strong(&server.pipes[i], &it, 0)) break;
    }
    close(fd);
}

/* ---- Requests ----------------------------------------------------------------------------------------------- */

static void let_go(struct request *r) {
    pthread_mutex_lock(&server.lock);
    bool last = --r->holders == 0;
    pthread_mutex_unlock(&server.lock);
    if (!last) return;
    free(r->reply.data);
    free(r->uri), free(r->path), free(r->body);
    free(r);
}

/* Back to the loop, which resumes the connection. */
static void hand_back(struct request *r, int state) {
    pthread_mutex_lock(&server.lock);
    r->state = state;
    r->next = server.back;
    server.back = r;
    pthread_mutex_unlock(&server.lock);
    (void)!write(server.event, &(uint64_t){ 1 }, sizeof(uint64_t));
}

static void handle(void *arg) {
    struct request *r = arg;
    r->handler(&r->asked, &r->reply);
}

static void make_answer(struct wr_work *w) {
    struct request *r = wr_container(w, struct request, work);
    int e = wr_inside->on_large_stack(handle, r);
    if (r->state == AT_WORK) { /* else the loop has the reply already */
        if (e || r->reply.no_memory) wr_reply_error(&r->reply, 500, "out of memory");
        hand_back(r, ANSWERED);
    }
    let_go(r);
}

bool wr_request_sleep(struct wr_request *asked, int64_t seconds) {
    const struct request *r = wr_container(asked, struct request, asked);
    const int64_t ms = 1000000, second = 1000 * ms;
    int64_t end = wr_monotonic() + (seconds < 1000000000 ? seconds : 1000000000) * second, left;
    while ((left = (end - wr_monotonic() + ms - 1) / ms) > 0) {
        struct pollfd p = { .fd = r->client->socket - 1, .events = POLLRDHUP };
        if (poll(&p, 1, left < 1000000 ? (int)left : 1000000) > 0) return false;
    }
    return true;
}

int wr_request_stream(struct wr_request *asked) {
    struct request *r = wr_container(asked, struct request, asked);
    int ends[2];
    if (pipe2(ends, O_CLOEXEC)) return -errno;
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    note_pipe(ends[0]), note_pipe(ends[1]);
    r->pipe = ends[0];
    hand_back(r, STREAMED);
    return ends[1];
}

void wr_stream_end(int fd) { close_pipe(fd); }

/* ---- Answers ------------------------------------------------------------------------------------------------ */

/* As a stream goes on when its pipe can be read again; the connection is suspended until then. */
static void wait_for_pipe(struct request *r) {
    struct epoll_event e = { .events = EPOLLIN | EPOLLONESHOT, .data.ptr = r };
    MHD_suspend_connection(r->connection);
    if (epoll_ctl(server.epoll, EPOLL_CTL_MOD, r->pipe, &e) && epoll_ctl(server.epoll, EPOLL_CTL_ADD, r->pipe, &e))
        MHD_resume_connection(r->connection);
}

static ssize_t read_stream(void *arg, uint64_t at, char *buffer, size_t size) {
    struct request *r = arg;
    ssize_t n;
    (void)at;
    do n = read(r->pipe, buffer, size);
    while (n < 0 && errno == EINTR);
    if (n > 0) return n;
    if (n == 0) return MHD_CONTENT_READER_END_OF_STREAM;
    if (errno != EAGAIN) return MHD_CONTENT_READER_END_WITH_ERROR;
    wait_for_pipe(r);
    return 0;
}

static ssize_t read_nothing(void *arg, uint64_t at, char *buffer, size_t size) { return MHD_CONTENT_READER_END_OF_STREAM; }

/* The body of a HEAD would be sized like that of a GET, which was not made. */
static struct MHD_Response *response_of(struct request *r) {
    enum { PIECE = 16 << 10 };
    struct wr_reply *reply = &r->reply;
    if (r->state == STREAMED) return MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, PIECE, read_stream, r, NULL);
    if (r->asked.method == WR_HEAD && !reply->n && !reply->status)
        return MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, PIECE, read_nothing, NULL, NULL);
    struct MHD_Response *response =
        MHD_create_response_from_buffer(reply->n, reply->n ? reply->data : (void *)(uintptr_t)"",
                                        reply->n ? MHD_RESPMEM_MUST_FREE : MHD_RESPMEM_PERSISTENT);
    if (response && reply->n) reply->data = NULL;
    return response;
}

static void add_headers(struct MHD_Response *response, const struct wr_reply *reply) {
    char text[128];
    MHD_add_response_header(response, "Content-Type", reply->type ? reply->type : "text/plain; charset=utf-8");
    MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
    if (reply->status >= 400) MHD_add_response_header(response, "X-Go-Pprof", "1");
    if (reply->allow) MHD_add_response_header(response, "Allow", reply->allow);
    if (reply->status == 301) MHD_add_response_header(response, "Location", "/debug/pprof/");
    if (!*reply->file) return;
    snprintf(text, sizeof text, "attachment; filename=\"%s\"", reply->file);
    MHD_add_response_header(response, "Content-Disposition", text);
}

static enum MHD_Result answer(struct request *r) {
    struct MHD_Response *response = response_of(r);
    if (!response) return MHD_NO;
    add_headers(response, &r->reply);
    enum MHD_Result result =
        MHD_queue_response(r->connection, r->reply.status ? r->reply.status : MHD_HTTP_OK, response);
    MHD_destroy_response(response);
    return result;
}

static enum MHD_Result answer_error(struct request *r, unsigned status, const char *text) {
    wr_reply_error(&r->reply, status, "%s", text);
    return answer(r);
}

/* ---- What libmicrohttpd calls ------------------------------------------------------------------------------- */

static void *on_uri(void *arg, const char *uri, struct MHD_Connection *connection) {
    struct request *r = calloc(1, sizeof *r);
    (void)arg;
    if (!r) return NULL;
    r->uri = strdup(uri);
    r->holders = 1;
    r->connection = connection;
    r->pipe = -1;
    return r;
}

static struct client *client_of(struct MHD_Connection *connection);

static const char *header(struct request *r, const char *name) {
    const char *value = MHD_lookup_connection_value(r->connection, MHD_HEADER_KIND, name);
    return value ? value : "";
}

/* The headers are there. */
static enum MHD_Result begin(struct request *r, const char *path, const char *method) {
    const char *query = r->uri ? strchr(r->uri, '?') : NULL;
    r->begun = true;
    r->path = strdup(path);
    r->asked = (struct wr_request){
        .method = !strcmp(method, "GET") ? WR_GET : !strcmp(method, "HEAD") ? WR_HEAD : !strcmp(method, "POST") ? WR_POST : WR_OTHER,
        .path = r->path, .query = query ? query + 1 : "", .accept = header(r, "Accept"), .origin = header(r, "Origin"), .body = "",
    };
    r->client = client_of(r->connection);
    if (!r->path || !r->uri || !r->client) return MHD_NO;
    if (strtoull(header(r, "Content-Length"), NULL, 10) > BODY_MOST)
        return answer_error(r, 413, "the body is too large");
    return MHD_YES;
}

static enum MHD_Result take_body(struct request *r, const char *data, size_t *n) {
    size_t room = r->asked.body_n + *n + 1;
    if (room > BODY_MOST) return MHD_NO;
    if (room > r->body_room) {
        char *body = realloc(r->body, 2 * room);
        if (!body) return MHD_NO;
        r->body = body, r->body_room = 2 * room;
    }
    memcpy(r->body + r->asked.body_n, data, *n);
    r->asked.body_n += *n;
    r->body[r->asked.body_n] = 0;
    r->asked.body = r->body;
    *n = 0;
    return MHD_YES;
}

/* All of it is there. */
static enum MHD_Result dispatch(struct request *r) {
    r->handler = wr_route(&r->asked, &r->reply);
    if (!r->handler) return answer(r);
    r->work.fn = make_answer;
    r->state = AT_WORK;
    r->holders = 2;
    r->client->asks = true;
    MHD_suspend_connection(r->connection);
    if (wr_work_post(&r->work) == 0) return MHD_YES;
    r->holders = 1;
    r->state = NEW;
    wr_reply_error(&r->reply, 503, "too many requests at once; try again");
    hand_back(r, ANSWERED);
    return MHD_YES;
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *connection, const char *path, const char *method,
                                  const char *version, const char *data, size_t *n, void **arg) {
    struct request *r = *arg;
    (void)cls, (void)connection, (void)version;
    if (!r) return MHD_NO;
    if (!r->begun) return begin(r, path, method);
    if (*n) return take_body(r, data, n);
    pthread_mutex_lock(&server.lock);
    int state = r->state;
    pthread_mutex_unlock(&server.lock);
    if (state == NEW) return dispatch(r);
    if (state != AT_WORK) return answer(r);
    MHD_suspend_connection(r->connection);
    return MHD_YES;
}

static void on_completed(void *cls, struct MHD_Connection *connection, void **arg, enum MHD_RequestTerminationCode how) {
    struct request *r = *arg;
    (void)cls, (void)connection, (void)how;
    if (!r) return;
    *arg = NULL;
    if (r->pipe >= 0) {
        epoll_ctl(server.epoll, EPOLL_CTL_DEL, r->pipe, NULL); /* a forked child may have it open, too */
        close_pipe(r->pipe);
    }
    if (r->client) r->client->asks = false;
    let_go(r);
}

static struct client *client_of(struct MHD_Connection *connection) {
    return MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
}

static void on_connection(void *cls, struct MHD_Connection *connection, void **arg, enum MHD_ConnectionNotificationCode what) {
    int socket = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
    (void)cls;
    if (what == MHD_CONNECTION_NOTIFY_CLOSED) {
        struct client *c = *arg;
        epoll_ctl(server.epoll, EPOLL_CTL_DEL, socket, NULL);
        server.run_again = true;
        if (c) c->socket = 0;
        return;
    }
    for (size_t i = 0; i < CONNECTIONS; i++) {
        struct client *c = &server.clients[i];
        if (c->socket) continue;
        struct epoll_event gone = { .events = EPOLLRDHUP | EPOLLONESHOT, .data.ptr = c };
        c->socket = socket + 1;
        c->asks = c->has_gone = false;
        epoll_ctl(server.epoll, EPOLL_CTL_ADD, socket, &gone);
        *arg = c;
        return;
    }
}

/*
 * libmicrohttpd watches by edges, and after a read that has brought less than it might waits for the next one. Where a client's end
 * came with the beginning of a request there is none, and the connection would stay for IDLE_SECONDS: it would take 64 such to keep
 * all others out. A shutdown of our own makes an edge.
 */
static void close_those_that_have_gone(void) {
    for (size_t i = 0; i < CONNECTIONS; i++) {
        struct client *c = &server.clients[i];
        if (!c->has_gone || c->asks || !c->socket) continue;
        c->has_gone = false;
        shutdown(c->socket - 1, SHUT_RDWR);
    }
}

/* ---- The thread --------------------------------------------------------------------------------------------- */

static void resume_those_that_are_back(void) {
    pthread_mutex_lock(&server.lock);
    struct request *r = server.back;
    server.back = NULL;
    pthread_mutex_unlock(&server.lock);
    for (struct request *next; r; r = next) {
        next = r->next;
        MHD_resume_connection(r->connection);
    }
}

static bool is_client(const void *what) {
    return what >= (void *)server.clients && what < (void *)(server.clients + CONNECTIONS);
}

static void loop(void *arg) {
    (void)arg;
    prctl(PR_SET_NAME, "weir debug", 0, 0, 0);
    for (;;) {
        struct epoll_event events[32];
        MHD_UNSIGNED_LONG_LONG ms;
        bool timed = MHD_get_timeout(server.daemon, &ms) == MHD_YES;
        if (server.run_again) timed = true, ms = 0; /* only then does libmicrohttpd watch the listener again */
        server.run_again = false;
        int n = epoll_wait(server.epoll, events, 32, !timed ? -1 : ms < 60000 ? (int)ms : 60000);
        for (int i = 0; i < n; i++) {
            uint64_t count;
            void *what = events[i].data.ptr;
            if (what == &server.event) (void)!read(server.event, &count, sizeof count);
            else if (is_client(what)) ((struct client *)what)->has_gone = true;
            else if (what) MHD_resume_connection(((struct request *)what)->connection);
        }
        resume_those_that_are_back();
        MHD_run(server.daemon);
        close_those_that_have_gone();
    }
}

static bool watch(int fd, void *what) {
    struct epoll_event e = { .events = EPOLLIN, .data.ptr = what };
    return fd >= 0 && epoll_ctl(server.epoll, EPOLL_CTL_ADD, fd, &e) == 0;
}

int wr_loop_start(int listener) {
    server.listener = listener;
    server.epoll = epoll_create1(EPOLL_CLOEXEC);
    server.event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    server.daemon = MHD_start_daemon(
        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL, on_request, NULL, MHD_OPTION_LISTEN_SOCKET, listener,
        MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS, MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)IDLE_SECONDS,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_MEMORY, MHD_OPTION_URI_LOG_CALLBACK, on_uri, NULL,
        MHD_OPTION_NOTIFY_COMPLETED, on_completed, NULL, MHD_OPTION_NOTIFY_CONNECTION, on_connection, NULL, MHD_OPTION_END);
    server.daemon_epoll = server.daemon ? MHD_get_daemon_info(server.daemon, MHD_DAEMON_INFO_EPOLL_FD)->listen_fd : -1;
    int e = server.daemon && watch(server.event, &server.event) && watch(server.daemon_epoll, NULL) ? 0 : -ENOMEM;
    if (!e) e = wr_inside->thread(STACK, loop, NULL);
    if (!e) return 0;
    if (server.daemon) MHD_quiesce_daemon(server.daemon), MHD_stop_daemon(server.daemon);
    if (server.epoll >= 0) close(server.epoll);
    if (server.event >= 0) close(server.event);
    return e;
}

/* The daemon's memory stays: no function of its library may be called in the state that it is in. */
void wr_loop_after_fork(void) {
    pthread_mutex_init(&server.lock, NULL);
    if (!server.daemon) return;
    close(server.listener), close(server.epoll), close(server.daemon_epoll), close(server.event);
    for (size_t i = 0; i < CONNECTIONS; i++) {
        int socket = atomic_exchange(&server.clients[i].socket, 0);
        if (socket) close(socket - 1);
    }
    for (size_t i = 0; i < 2 * CONNECTIONS; i++) {
        int fd = atomic_exchange(&server.pipes[i], 0);
        if (fd) close(fd - 1);
    }
    server.daemon = NULL;
    server.back = NULL;
}
