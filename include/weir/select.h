/* Select: wait on several channels, contexts and timers at once. Go: select. */
#ifndef WEIR_SELECT_H
#define WEIR_SELECT_H

WEIR_BEGIN_

enum weir_arm_kind_ {
    WEIR_ARM_NONE_, /* never fires */
    WEIR_ARM_RECV_,
    WEIR_ARM_SEND_,     /* value_ is in the arm */
    WEIR_ARM_SEND_PTR_, /* elem_ points to the value */
    WEIR_ARM_AFTER_,
    WEIR_ARM_TIMER_,
    WEIR_ARM_DEFAULT_
};

/* One arm of a select. Made by the weir_on_… macros; a run-time array of them goes to weir_selectv. */
typedef struct weir_arm {
    uint8_t kind_;
    bool done_;           /* weir_on_done: its channel's end is no error */
    uint16_t order_;      /* what select writes down of all arms lives here, so that */
    uint16_t visit_;      /* a select of any size allocates nothing */
    union {
        weir_chan *chan_;
        weir_timer *timer_;
        weir_duration after_;
    };
    union {
        void *elem_;      /* where a received element goes, or what is to be sent */
        const void *value_ptr_;
    };
    bool *ok_;            /* recv_ok */
    union {
        char value_[16];  /* send: a copy of the value */
        uint64_t align_[2];
    };
    void *wait_[5];       /* the arm's place in the channel's queue while the select sleeps */
} weir_arm;

/*
 * weir_select(arm, …) returns the index of the arm that fired, or a negative error. Arms:
 *
 * weir_on_recv(ch, &v)          an element came, or ch is closed (v zeroed, weir_select_error() is -EPIPE)
 * weir_on_recv_ok(ch, &v, &ok)  the same; ok = false when closed
 * weir_on_send(ch, value)       the value was sent, or ch is closed (weir_select_error() is -EPIPE); up to 16 bytes
 * weir_on_send_ptr(ch, &value)  the same for a value of any size, read when the arm fires
 * weir_on_done(ctx)             ctx has ended; NULL: the current context
 * weir_on_after(d)              d has passed since the select began; allocates nothing. d ≤ 0: ready at once
 * weir_on_timer(t)              the timer ticked; the tick is taken
 * weir_on_default()             none of the others is ready
 *
 * Of several ready arms one is chosen uniformly at random; a ready arm is preferred to reporting the end of the
 * current context. An arm on a nil channel never fires. No arms at all: blocks for ever. Blocks unless there is a
 * default arm; cancellable: -ECANCELED, -ETIMEDOUT, and no arm has fired. -ENOMEM: no memory to arm the timer of
 * weir_on_after. -EDEADLK: healed. Go: select { … }.
 */
#define weir_select(...)                                                                            \
    weir_result_(__extension__({                                                                    \
        __VA_OPT__(weir_arm weir_arms[] = { __VA_ARGS__ };)                                         \
        weir_selectv((weir_arm *)(__VA_OPT__(weir_arms) + 0),                                       \
                     __VA_OPT__(sizeof weir_arms / sizeof weir_arms[0]) + 0);                       \
    }))
/* Dropping what a statement expression yields is no offence to the compiler; dropping this is. */
WEIR_MUST_USE_ static inline int weir_result_(int result) { return result; }

/* The same over an array of n arms, which must live until it returns and may be used again. -EINVAL: more than
 * 65,535 arms. */
WEIR_API_ WEIR_MUST_USE_ int weir_selectv(weir_arm *arms, size_t n);

/* How this goroutine's last select ended: -EPIPE if the arm fired because its channel is closed, else 0. */
WEIR_API_ int weir_select_error(void);

/* Field by field: cleared as a whole, an arm is built elsewhere and copied, which takes longer than all the rest of a select. */
static inline weir_arm weir_arm_(enum weir_arm_kind_ kind, weir_chan *ch, void *elem, bool *ok) {
    weir_arm a;
    a.kind_ = (uint8_t)kind, a.done_ = false, a.order_ = a.visit_ = 0;
    a.chan_ = ch, a.elem_ = elem, a.ok_ = ok;
    a.align_[0] = a.align_[1] = 0;
    a.wait_[0] = a.wait_[1] = a.wait_[2] = a.wait_[3] = a.wait_[4] = NULL;
    return a;
}
static inline weir_arm weir_arm_send_(weir_chan *ch, const void *value, size_t size) {
    weir_arm a = weir_arm_(WEIR_ARM_SEND_, ch, NULL, NULL);
    __builtin_memcpy(a.value_, value, size);
    return a;
}
static inline weir_arm weir_on_done(weir_ctx *ctx) {
    weir_arm a = weir_arm_(WEIR_ARM_RECV_, weir_ctx_done(ctx ? ctx : weir_ctx_current()).chan_, NULL, NULL);
    a.done_ = true;
    return a;
}
static inline weir_arm weir_on_after(weir_duration d) {
    weir_arm a = weir_arm_(WEIR_ARM_AFTER_, NULL, NULL, NULL);
    a.after_ = d;
    return a;
}
static inline weir_arm weir_on_timer(weir_timer *t) {
    weir_arm a = weir_arm_(WEIR_ARM_TIMER_, NULL, NULL, NULL);
    a.timer_ = t;
    return a;
}
static inline weir_arm weir_on_default(void) {
    return weir_arm_(WEIR_ARM_DEFAULT_, NULL, NULL, NULL);
}

WEIR_END_

#ifndef __cplusplus
#define weir_on_recv(ch, ...)                                                                       \
    (WEIR_CHECK_RECV_(ch, (__VA_ARGS__), "weir_on_recv"),                                             \
     weir_arm_(WEIR_ARM_RECV_, (ch).chan_, (void *)(__VA_ARGS__), NULL))
#define weir_on_recv_ok(ch, p, ok)                                                                  \
    (WEIR_CHECK_RECV_(ch, (p), "weir_on_recv_ok"),                                                    \
     weir_arm_(WEIR_ARM_RECV_, (ch).chan_, (void *)(p), (ok)))
#define weir_on_send(ch, ...)                                                                       \
    (WEIR_CHECK_SEND_(ch, (__VA_ARGS__), "weir_on_send"),                                             \
     WEIR_ASSERT_(sizeof(WEIR_ELEM_(ch)) <= 16,                                                       \
                  "weir_on_send: copies values of up to 16 bytes; use weir_on_send_ptr(ch, &value)"), \
     weir_arm_send_((ch).chan_, WEIR_COPY_(ch, __VA_ARGS__), sizeof(WEIR_ELEM_(ch))))
#define weir_on_send_ptr(ch, ...)                                                                   \
    (WEIR_ASSERT_(WEIR_IS_(__typeof__(*(__VA_ARGS__)), WEIR_ELEM_(ch)),                               \
                  "weir_on_send_ptr: the pointer is not to the element type of the channel"),             \
     weir_arm_(WEIR_ARM_SEND_PTR_, (ch).chan_, (void *)(__VA_ARGS__), NULL))
#else
template <class T> weir_arm weir_on_recv(weir_typed_<T> ch, typename weir_same_<T>::type *p) {
    return weir_arm_(WEIR_ARM_RECV_, ch.chan_, p, nullptr);
}
template <class T> weir_arm weir_on_recv_ok(weir_typed_<T> ch, typename weir_same_<T>::type *p, bool *ok) {
    return weir_arm_(WEIR_ARM_RECV_, ch.chan_, p, ok);
}
template <class T> weir_arm weir_on_send(weir_typed_<T> ch, const typename weir_same_<T>::type &value) {
    static_assert(sizeof(T) <= 16, "weir_on_send: copies values of up to 16 bytes; use weir_on_send_ptr(ch, &value)");
    return weir_arm_send_(ch.chan_, &value, sizeof(T));
}
template <class T> weir_arm weir_on_send_ptr(weir_typed_<T> ch, const typename weir_same_<T>::type *value) {
    return weir_arm_(WEIR_ARM_SEND_PTR_, ch.chan_, const_cast<T *>(value), nullptr);
}
#endif

#endif
