/* Tests that run with a ring: WEIR_POLLER=uring, or they are skipped. */
#ifndef RING_TEST_H
#define RING_TEST_H

#include "net_test.h"

#include "io/entry.h"

static inline int with_ring(void *body) {
    if (!wr_ring()) SKIP("no io_uring here");
    (*(void (**)(void))body)();
    return 0;
}
static inline void run_with_ring(void (*body)(void)) {
    CHECK_EQ(setenv("WEIR_POLLER", "uring", 1), 0);
    CHECK_EQ(weir_run(with_ring, (void *)&body), 0);
}
#define RING_TEST(name)                                     \
    static void ring_##name(void);                          \
    PLAIN_TEST(name) { run_with_ring(ring_##name); }        \
    static void ring_##name(void)

/* How many pieces, or connections, are ahead of who wants them, and whether more may come. */
struct ahead {
    unsigned count;
    bool asked;
};
static inline struct ahead look(int fd) {
    wr_poll_settle();
    struct entry *e = wr_entry_of(fd);
    struct wr_ahead *a = wr_ahead(e);
    if (!a) return (struct ahead){ 0 };
    wr_lock(&e->lock, WR_RANK_SYNC);
    struct ahead found = { a->count, a->asked };
    wr_unlock(&e->lock, WR_RANK_SYNC);
    return found;
}
/* Has the calling worker asked for it? */
static inline bool asked_by_me(int fd) {
    struct entry *e = wr_entry_of(fd);
    struct wr_ahead *a = wr_ahead(e);
    if (!a) return false;
    wr_lock(&e->lock, WR_RANK_SYNC);
    bool mine = a->asked && a->asker == wr_ring_asker();
    wr_unlock(&e->lock, WR_RANK_SYNC);
    return mine;
}

#endif
