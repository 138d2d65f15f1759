/* The head of every timer object: what weir_timer_stop and its kin dispatch on. */
#ifndef WR_CHAN_TIMER_H
#define WR_CHAN_TIMER_H

#include "base/base.h"

/* A timer object. `tick` is the channel of one that ticks, NULL for after-funcs. */
struct wr_timer_ops {
    bool (*stop)(weir_timer *);
    bool (*reset)(weir_timer *, weir_duration);
    void (*free)(weir_timer *);
};
struct weir_timer {
    const struct wr_timer_ops *ops;
    weir_chan *tick;
};

#endif
