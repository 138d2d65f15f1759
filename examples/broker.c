/*
 * broker: publishers send messages to topics, and every subscriber of a topic gets each of them, in order. Subscribers
 * come and go. None can hold up the publishers or another subscriber: what it has not taken yet waits in a queue
 * of its own, and when that is full, the oldest message in it makes room for the new one. A subscriber can see by the
 * numbers of the messages, which follow one another in a topic, what it has missed.
 *
 * The program plays that through with three kinds of subscribers, and checks that nothing is lost without a trace:
 * - prompt ones take messages as they come, until the topic is closed;
 * - stalled ones take nothing until all has been published, so what they get is exactly the last messages;
 * - visitors come while there is traffic, take a few messages, and leave.
 */
#include <weir.h>

#include <getopt.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

struct message {
    uint64_t number;      /* 1, 2, 3 … in each topic */
    int publisher;
    char text[52];
};
typedef WEIR_CHAN(struct message) message_chan;

/* ---- The broker --------------------------------------------------------------------------------- */

struct subscriber {
    message_chan queue;
    uint64_t from;        /* the number of the last message before it came */
    struct subscriber *next;
};

struct topic {
    weir_mutex lock;      /* guards what follows, and makes the order of messages the same for all */
    uint64_t published;
    bool closed;
    struct subscriber *subscribers;
};

/* Never waits for a subscriber. */
static void offer(message_chan queue, struct message *m) {
    /* Nobody else sends to this queue, so after one message has been taken from it there is room. */
    while (weir_try_send(queue, *m) == -EAGAIN) {
        if (weir_try_recv(queue, NULL) == -EAGAIN) continue; /* the subscriber has just made room itself */
    }
}

static void publish(struct topic *t, struct message *m) {
    weir_locked(&t->lock) {
        m->number = ++t->published;
        for (struct subscriber *s = t->subscribers; s; s = s->next) offer(s->queue, m);
    }
}

/* From now on s->queue gets the topic's messages, and is closed after the last one. */
static void subscribe(struct topic *t, struct subscriber *s, size_t room) {
    s->queue = weir_make(message_chan, room);
    weir_locked(&t->lock) {
        s->from = t->published;
        s->next = t->subscribers;
        t->subscribers = s;
        if (t->closed) weir_close(s->queue);
    }
}

static void unsubscribe(struct topic *t, struct subscriber *s) {
    weir_locked(&t->lock) {
        struct subscriber **at = &t->subscribers;
        while (*at != s) at = &(*at)->next;
        *at = s->next;
    }
    weir_release(s->queue);
}

static void close_topic(struct topic *t) {
    weir_locked(&t->lock) {
        t->closed = true;
        for (struct subscriber *s = t->subscribers; s; s = s->next) weir_close(s->queue);
    }
}

/* ---- Who uses it -------------------------------------------------------------------------------- */

enum kind { PROMPT, STALLED, VISITOR, KINDS };
static const char *const kind_name[KINDS] = { "prompt", "stalled", "visitors" };

struct play {
    struct topic *topics;
    long n_topics, publishers, subscribers, messages, queue;
    weir_unit_chan subscribed; /* one element for each of those that are to see every message */
    weir_unit_chan published;  /* closed once all is published */
    _Atomic uint64_t came[KINDS], received[KINDS], missed[KINDS];
    _Atomic uint64_t wrong;    /* messages out of order or changed under way */
};

static void publisher(struct play *p, int me) {
    for (long i = 0; i < p->messages; i++) {
        struct message m = { .publisher = me };
        snprintf(m.text, sizeof m.text, "publisher %d says %ld", me, i);
        for (long t = 0; t < p->n_topics; t++) publish(&p->topics[t], &m);
        weir_yield(); /* make it traffic rather than one burst */
    }
}

/* Take up to `limit` messages, and see that each is later than the one before; the rest of the numbers are missed. */
static int listen(struct play *p, struct subscriber *s, enum kind kind, uint64_t limit) {
    uint64_t last = s->from, received = 0;
    struct message m;
    int error = 0;
    while (received < limit && (error = weir_recv(s->queue, &m)) == 0) {
        char prefix[sizeof m.text];
        snprintf(prefix, sizeof prefix, "publisher %d says ", m.publisher);
        if (m.number <= last || strncmp(m.text, prefix, strlen(prefix)) != 0) p->wrong++;
        p->missed[kind] += m.number - last - 1;
        last = m.number;
        received++;
    }
    p->came[kind]++;
    p->received[kind] += received;
    return error == -EPIPE ? 0 : error;
}

static int subscriber(struct play *p, struct topic *t, enum kind kind) {
    struct subscriber s;
    subscribe(t, &s, (size_t)p->queue);
    int error = weir_send(p->subscribed, weir_unit_value);
    if (!error && kind == STALLED) error = weir_wait_closed(p->published);
    if (!error) error = listen(p, &s, kind, UINT64_MAX);
    unsubscribe(t, &s);
    return error;
}

/* Come and go until all is published: at least once, and once to each topic in turn. */
static int visitor(struct play *p, long topic) {
    int error = 0, arm;
    do {
        struct subscriber s;
        struct topic *t = &p->topics[topic++ % p->n_topics];
        subscribe(t, &s, (size_t)p->queue);
        error = listen(p, &s, VISITOR, 3);
        unsubscribe(t, &s);
        arm = weir_select(weir_on_recv(p->published, NULL), weir_on_default());
    } while (!error && arm == 1);
    return error;
}

static int play(struct play *p) {
    int error = 0, failed = 0;
    weir_scoped(subscribers, &failed) {
        for (long t = 0; t < p->n_topics && !error; t++)
            for (long i = 0; i < 2 * p->subscribers && !error; i++)
                error = weir_scope_go(&subscribers, subscriber, p, &p->topics[t], i % 2 ? STALLED : PROMPT);
        for (long i = 0; i < 2 * p->subscribers * p->n_topics && !error; i++)
            error = weir_recv(p->subscribed, NULL);
        for (long i = 0; i < p->n_topics && !error; i++) error = weir_scope_go(&subscribers, visitor, p, i);
        weir_scoped(publishers) {
            for (int i = 0; i < p->publishers && !error; i++) error = weir_scope_go(&publishers, publisher, p, i);
        }
        weir_close(p->published);
        for (long t = 0; t < p->n_topics; t++) close_topic(&p->topics[t]);
        if (error) break;
    }
    return error ? error : failed;
}

/* ---- The program -------------------------------------------------------------------------------- */

static int usage(FILE *to, int status) {
    fputs("usage: broker [OPTION N]...\n"
          "Play publishers and subscribers, and print what each kind of subscriber has got and missed.\n\n"
          "  -t, --topics N        topics (default 3)\n"
          "  -p, --publishers N    publishers, each to all topics (default 4)\n"
          "  -s, --subscribers N   prompt ones, and as many stalled ones, for each topic (default 5)\n"
          "  -m, --messages N      from each publisher to each topic (default 1000)\n"
          "  -q, --queue N         messages that wait for a subscriber; then the oldest makes room (default 16)\n"
          "  -h, --help            this text\n",
          to);
    return status;
}

/* Do the figures add up? */
static bool check(struct play *p) {
    uint64_t each = (uint64_t)(p->publishers * p->messages), queue = (uint64_t)p->queue, stayed = p->came[PROMPT];
    uint64_t kept = each < queue ? each : queue;
    return p->wrong == 0 && p->received[PROMPT] + p->missed[PROMPT] == stayed * each && p->came[STALLED] == stayed &&
           p->received[STALLED] == stayed * kept && p->missed[STALLED] == stayed * (each - kept);
}

int weir_main(int argc, char **argv) {
    static const struct option options[] = {
        { "topics", required_argument, NULL, 't' },      { "publishers", required_argument, NULL, 'p' },
        { "subscribers", required_argument, NULL, 's' }, { "messages", required_argument, NULL, 'm' },
        { "queue", required_argument, NULL, 'q' },       { "help", no_argument, NULL, 'h' },
        { 0 }
    };
    struct play p = { .n_topics = 3, .publishers = 4, .subscribers = 5, .messages = 1000, .queue = 16 };
    for (int c; (c = getopt_long(argc, argv, "t:p:s:m:q:h", options, NULL)) != -1;) {
        char *end;
        if (c == 'h') return usage(stdout, 0);
        if (c == '?') return usage(stderr, 2);
        long n = strtol(optarg, &end, 10);
        if (end == optarg || *end || n < 1 || n > 1000000)
            return fprintf(stderr, "broker: -%c takes a number from 1 to 1000000, not '%s'\n", c, optarg), 2;
        if (c == 't') p.n_topics = n;
        if (c == 'p') p.publishers = n;
        if (c == 's') p.subscribers = n;
        if (c == 'm') p.messages = n;
        if (c == 'q') p.queue = n;
    }
    if (optind < argc) return usage(stderr, 2);

    p.topics = calloc((size_t)p.n_topics, sizeof *p.topics);
    if (!p.topics) return fputs("broker: out of memory\n", stderr), 1;
    p.subscribed = weir_make(weir_unit_chan, 0);
    p.published = weir_make(weir_unit_chan, 0);
    int error = play(&p);
    weir_release(p.subscribed);
    weir_release(p.published);
    free(p.topics);
    if (error) return fprintf(stderr, "broker: %s\n", strerror(-error)), 1;

    printf("%ld topics, %ld messages to each\n", p.n_topics, p.publishers * p.messages);
    for (enum kind k = 0; k < KINDS; k++)
        printf("%s: %" PRIu64 " came, %" PRIu64 " messages received, %" PRIu64 " missed\n", kind_name[k], p.came[k],
               p.received[k], p.missed[k]);
    if (!check(&p)) return fputs("broker: these figures do not add up\n", stderr), 1;
    return 0;
}
