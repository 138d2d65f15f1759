/*
 * chat: everybody who connects is in one room. The first line a client sends is its name; when all are told that it is here, itself as
 * well, it hears what is said. Each line after that goes to all others. A client that does not read what it is sent holds up nobody:
 * lines wait for it in a queue, and when that is full, it is put out.
 */
#include "support/server.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define LINE 1000
#define QUEUE 256

typedef WEIR_CHAN(char *) line_chan; /* each line is the receiver's to free */

struct client {
    char name[32];
    int fd;
    line_chan lines;
    struct client *next;
};

struct room {
    weir_mutex lock; /* guards the list */
    struct client *clients;
};

static void free_line(void *line) { free(*(char **)line); }

/* To everybody but `except`. Waits for nobody. */
static void say(struct room *room, const struct client *except, const char *who, const char *text) {
    weir_locked(&room->lock) {
        for (struct client *c = room->clients; c; c = c->next) {
            size_t size = strlen(who) + strlen(text) + 3;
            char *line = c == except ? NULL : malloc(size);
            if (!line) continue;
            snprintf(line, size, "%s %s\n", who, text);
            if (weir_try_send(c->lines, line) == 0) continue;
            free(line);
            shutdown(c->fd, SHUT_RDWR); /* it will notice */
        }
    }
}

static void write_lines(struct client *c) {
    for (char *line; weir_recv(c->lines, &line) == 0; free(line))
        if (weir_write_all(c->fd, line, strlen(line)) != (int64_t)strlen(line)) shutdown(c->fd, SHUT_RDWR);
}

struct reader {
    int fd;
    size_t n;          /* bytes that have come and were not yet taken */
    char buffer[LINE];
};

/* The next line, without its end. Its length, or < 0: there is none, or it is too long. */
static int next_line(struct reader *r, char *line) {
    for (;;) {
        char *end = memchr(r->buffer, '\n', r->n);
        if (end) {
            size_t length = (size_t)(end - r->buffer), with_end = length + 1;
            memcpy(line, r->buffer, length);
            memmove(r->buffer, r->buffer + with_end, r->n -= with_end);
            if (length && line[length - 1] == '\r') length--;
            line[length] = 0;
            return (int)length;
        }
        if (r->n == sizeof r->buffer) return -1;
        int64_t got = weir_read(r->fd, r->buffer + r->n, sizeof r->buffer - r->n);
        if (got <= 0) return -1;
        r->n += (size_t)got;
    }
}

static void enter(struct room *room, struct client *c) {
    weir_locked(&room->lock) {
        c->next = room->clients;
        room->clients = c;
    }
    say(room, NULL, c->name, "is here");
}

static void leave(struct room *room, struct client *c) {
    weir_locked(&room->lock) {
        struct client **at = &room->clients;
        while (*at != c) at = &(*at)->next;
        *at = c->next;
    }
    say(room, c, c->name, "has left");
    weir_close(c->lines);
}

static void chat(int fd, void *arg) {
    struct room *room = arg;
    struct client c = { .fd = fd };
    struct reader r = { .fd = fd };
    char line[LINE], said[sizeof c.name + 1];
    static const char question[] = "What is your name?\n";
    if (weir_write_all(fd, question, strlen(question)) < 0 || next_line(&r, line) <= 0) return;
    snprintf(c.name, sizeof c.name, "%.30s", line);
    snprintf(said, sizeof said, "%s:", c.name);
    c.lines = weir_make(line_chan, QUEUE);
    weir_chan_on_drop(c.lines, free_line);
    weir_scoped(s) {
        if (weir_scope_go(&s, write_lines, &c) == 0) {
            enter(room, &c);
            while (next_line(&r, line) >= 0) say(room, &c, said, line);
            leave(room, &c);
        }
    }
    weir_release(c.lines);
}

int weir_main(int argc, char **argv) {
    struct room room = { 0 };
    struct server s = { .name = "chat", .what = "A room where everybody hears everybody, line by line.",
                        .address = "127.0.0.1:7009", .serve = chat, .arg = &room };
    return run_server(argc, argv, &s, NULL);
}
