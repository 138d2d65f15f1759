/* Channels. Go: chan T. */
#ifndef WEIR_CHAN_H
#define WEIR_CHAN_H

WEIR_BEGIN_

/* ---- Untyped channels, for bindings and for elements whose size is known only at run time --------
 * The typed macros below are these functions plus the compiler's check of the element type; what each does is said
 * there. In each, a NULL channel is Go's nil channel. Elements are copied by value, byte by byte. */
typedef struct weir_chan weir_chan;

WEIR_API_ void weir_chan_release(weir_chan *ch);
/* A new channel; the caller owns one count. NULL when out of memory, or when elem_size is over 64 KiB or
 * cap × elem_size overflows. (No WEIR_CONSTRUCTOR_: where it knows a deallocator, gcc's -Wall calls every use of a
 * handle after one of several releases a use after free, the idiom of weir_go among them.) */
WEIR_API_ WEIR_MUST_USE_ weir_chan *weir_chan_make(size_t elem_size, size_t cap);
WEIR_API_ WEIR_MUST_USE_ int weir_chan_send(weir_chan *ch, const void *elem);
WEIR_API_ WEIR_MUST_USE_ int weir_chan_recv(weir_chan *ch, void *elem /* or NULL */);
WEIR_API_ WEIR_MUST_USE_ int weir_chan_try_send(weir_chan *ch, const void *elem);
WEIR_API_ WEIR_MUST_USE_ int weir_chan_try_recv(weir_chan *ch, void *elem /* or NULL */);
WEIR_API_ int weir_chan_close(weir_chan *ch);
WEIR_API_ size_t weir_chan_len(weir_chan *ch);
WEIR_API_ size_t weir_chan_cap(weir_chan *ch);
WEIR_API_ weir_chan *weir_chan_retain(weir_chan *ch);
WEIR_API_ WEIR_MUST_USE_ int weir_chan_wait_closed(weir_chan *ch);
WEIR_API_ void weir_chan_set_on_drop_(weir_chan *ch, void (*fn)(void *elem));

/* What weir_make calls: where there is no memory, it says so and ends the process, as Go does. */
WEIR_API_ WEIR_MUST_USE_ weir_chan *weir_chan_make_or_die_(size_t elem_size, size_t cap);

WEIR_END_

/* ---- Typed handles -------------------------------------------------------------------------------
 * typedef WEIR_CHAN(int) int_chan;                 a handle as large as a pointer; {0} is the nil channel
 * WEIR_CHAN_DECLARE(point_chan, struct point);     the same with a tag, for headers that meet
 */
#ifndef __cplusplus
#define WEIR_CHAN_BODY_(...)                                                                        \
    {                                                                                               \
        weir_chan *chan_;                                                                           \
        __typeof__(__VA_ARGS__) *elem_;                                                             \
    }
#define WEIR_CHAN(...) union WEIR_CHAN_BODY_(__VA_ARGS__)
#define WEIR_CHAN_DECLARE(name, ...) typedef union name WEIR_CHAN_BODY_(__VA_ARGS__) name
#else
template <class T> struct weir_typed_ {
    weir_chan *chan_;
    typedef T elem;
};
#define WEIR_CHAN(...) weir_typed_<__VA_ARGS__>
#define WEIR_CHAN_DECLARE(name, ...) typedef weir_typed_<__VA_ARGS__> name
#endif

/* The empty element, of size 0, for channels that carry only the fact: weir_send(done, weir_unit_value). */
typedef struct weir_unit {
    char empty_[0];
} weir_unit;
#ifdef __cplusplus
template struct weir_typed_<weir_unit>;
#endif
WEIR_CHAN_DECLARE(weir_unit_chan, weir_unit);
/* What weir_ctx_done() returns: closed when the context ends. */
WEIR_CHAN_DECLARE(weir_done_chan, weir_unit);

/*
 * weir_make(type, cap)      a new channel of that handle type; cap 0 = unbuffered. The caller owns one count. Out of
 *                           memory ends the process with a message. Go: make(chan T, cap).
 * weir_make_try(&ch, cap)   the same, but 0 or -ENOMEM (ch is then nil).
 *
 * weir_send(ch, value)      blocks until a receiver or a free slot takes the value; cancellable.
 *                           0; -EPIPE: closed; -ECANCELED, -ETIMEDOUT: the current context ended, nothing was
 *                           sent. -EDEADLK: proven leaked and healed. A nil channel blocks for
 *                           ever. Go: ch <- v.
 * weir_recv(ch, &v)         blocks until an element comes; &v may be NULL. As weir_send; -EPIPE: closed and
 *                           drained, v zeroed. Go: v, ok := <-ch.
 * weir_try_send, weir_try_recv   the same, but -EAGAIN instead of blocking, nil included; never refused by a
 *                           context. Go: select with that case and a default.
 * weir_close(ch)            0; -EPIPE: closed already; -EINVAL: nil. Wakes every sender and receiver. Does not
 *                           block. Go: close(ch).
 * weir_len(ch), weir_cap(ch)     elements buffered, and how many may be; 0 for nil. Go: len, cap.
 * weir_retain(ch)           one count more; returns ch. weir_release(ch): one less; the last one frees the channel.
 *                           A call blocked on a channel keeps it alive. nil is fine. Do not block.
 * weir_wait_closed(ch)      0 once ch is closed and drained; elements that come are discarded. Blocks, cancellable;
 *                           errors as weir_recv but never -EPIPE. Go: for range ch {}.
 * weir_chan_on_drop(ch, fn) when the channel is freed, fn(void *elem) is called for each element still buffered,
 *                           oldest first, by whoever frees it. No effect on nil.
 * weir_chan_of(ch)          the untyped channel, borrowed; NULL for nil.
 *
 * A wrong type is a compile error: arithmetic types convert as in an assignment; anything else must
 * have the element's type, up to added qualifiers, void * and NULL. Elements have up to 64 KiB.
 */
#ifndef __cplusplus

#define WEIR_ELEM_(ch) __typeof__(*(ch).elem_)

/* Type classes. A dummy stands in where an operand would not compile for the type at hand. */
#define WEIR_CLASS_(x) __builtin_classify_type(x)
#define WEIR_IS_ARITHMETIC_(x)                                                                      \
    ((WEIR_CLASS_(x) >= 1 && WEIR_CLASS_(x) <= 4) || WEIR_CLASS_(x) == 8 || WEIR_CLASS_(x) == 9)
#define WEIR_IS_POINTER_(x) (WEIR_CLASS_(x) == 5)
#define WEIR_VALUE_OF_(T) (*(T *)8)
#define WEIR_POINTER_OR_(x, other) __builtin_choose_expr(WEIR_IS_POINTER_(x), (x), (other))
/* May a pointer x be assigned to a T, adding qualifiers at most? The conditional's type is the
 * one with the qualifiers of both, which is T unless x has more or points to something else. */
#define WEIR_POINTER_FITS_(T, x)                                                                    \
    (WEIR_IS_(__typeof__(WEIR_POINTER_OR_(x, (void *)8)), void *) ||                                  \
     WEIR_IS_(__typeof__(WEIR_POINTER_OR_(WEIR_VALUE_OF_(T), (void *)8)),                             \
              __typeof__(0 ? WEIR_POINTER_OR_(WEIR_VALUE_OF_(T), (void *)8)                           \
                           : WEIR_POINTER_OR_(x, (void *)8))))
#define WEIR_FITS_(T, x)                                                                            \
    (WEIR_IS_ARITHMETIC_(WEIR_VALUE_OF_(T)) ? WEIR_IS_ARITHMETIC_(x)                                  \
     : WEIR_IS_POINTER_(WEIR_VALUE_OF_(T))  ? WEIR_IS_POINTER_(x) && WEIR_POINTER_FITS_(T, x)         \
                                            : WEIR_IS_(T, __typeof__(x)))
/* May an element of type T be stored through the pointer p? NULL discards it. */
#define WEIR_STORES_(T, p)                                                                          \
    (WEIR_IS_(__typeof__(p), void *) ||                                                              \
     (WEIR_IS_POINTER_(p) && (WEIR_IS_(__typeof__(p), T *) || WEIR_IS_(__typeof__(p), volatile T *))))
/* A value-less expression that compiles only if `condition` holds. Not by a struct with the assertion inside: there
 * clang takes a compound literal for a constant, and would refuse (struct point){ x, y }. */
#define WEIR_ASSERT_(condition, message)                                                            \
    ((void)__extension__({                                                                          \
        _Static_assert(condition, message);                                                         \
        0;                                                                                          \
    }))
#define WEIR_CHECK_SEND_(ch, x, what)                                                               \
    WEIR_ASSERT_(WEIR_FITS_(WEIR_ELEM_(ch), x), what ": the value is not of the element type of the channel")
#define WEIR_CHECK_RECV_(ch, p, what)                                                               \
    WEIR_ASSERT_(WEIR_STORES_(WEIR_ELEM_(ch), p),                                                     \
                 what ": the pointer is not to the element type of the channel")
/* The address of a copy of the value, converted to the element's type. */
#define WEIR_COPY_(ch, ...) ((WEIR_ELEM_(ch)[1]){ __VA_ARGS__ })

#define weir_make(type, cap) ((type){ weir_chan_make_or_die_(sizeof(*((type *)8)->elem_), (cap)) })
#define weir_make_try(chp, cap)                                                                     \
    (((chp)->chan_ = weir_chan_make(sizeof(*(chp)->elem_), (cap))) ? 0 : -ENOMEM)
#define weir_send(ch, ...)                                                                          \
    (WEIR_CHECK_SEND_(ch, (__VA_ARGS__), "weir_send"),                                                \
     weir_chan_send((ch).chan_, WEIR_COPY_(ch, __VA_ARGS__)))
#define weir_try_send(ch, ...)                                                                      \
    (WEIR_CHECK_SEND_(ch, (__VA_ARGS__), "weir_try_send"),                                            \
     weir_chan_try_send((ch).chan_, WEIR_COPY_(ch, __VA_ARGS__)))
#define weir_recv(ch, ...)                                                                          \
    (WEIR_CHECK_RECV_(ch, (__VA_ARGS__), "weir_recv"), weir_chan_recv((ch).chan_, (__VA_ARGS__)))
#define weir_try_recv(ch, ...)                                                                      \
    (WEIR_CHECK_RECV_(ch, (__VA_ARGS__), "weir_try_recv"), weir_chan_try_recv((ch).chan_, (__VA_ARGS__)))
#define weir_close(ch) weir_chan_close((ch).chan_)
#define weir_len(ch) weir_chan_len((ch).chan_)
#define weir_cap(ch) weir_chan_cap((ch).chan_)
#define weir_retain(ch)                                                                             \
    __extension__({                                                                                 \
        __typeof__(ch) weir_retained = (ch);                                                        \
        weir_chan_retain(weir_retained.chan_);                                                      \
        weir_retained;                                                                              \
    })
#define weir_release(ch) weir_chan_release((ch).chan_)
#define weir_wait_closed(ch) weir_chan_wait_closed((ch).chan_)
#define weir_chan_of(ch) ((ch).chan_)
#define weir_chan_on_drop(ch, fn) weir_chan_set_on_drop_((ch).chan_, (fn))
#define weir_unit_value ((weir_unit){})

#else /* C++ */

template <class T> struct weir_same_ {
    typedef T type;
};
template <class C> C weir_typed_make_(size_t cap) {
    static_assert(std::is_trivially_copyable<typename C::elem>::value,
                  "weir_make: elements are copied byte by byte, so their type must be trivially copyable");
    return C{ weir_chan_make_or_die_(sizeof(typename C::elem), cap) };
}
#define weir_make(type, cap) (weir_typed_make_<type>(cap))
template <class T> int weir_make_try(weir_typed_<T> *ch, size_t cap) {
    ch->chan_ = weir_chan_make(sizeof(T), cap);
    return ch->chan_ ? 0 : -ENOMEM;
}
template <class T>
WEIR_MUST_USE_ int weir_send(weir_typed_<T> ch, const typename weir_same_<T>::type &value) {
    return weir_chan_send(ch.chan_, &value);
}
template <class T>
WEIR_MUST_USE_ int weir_try_send(weir_typed_<T> ch, const typename weir_same_<T>::type &value) {
    return weir_chan_try_send(ch.chan_, &value);
}
template <class T> WEIR_MUST_USE_ int weir_recv(weir_typed_<T> ch, typename weir_same_<T>::type *value) {
    return weir_chan_recv(ch.chan_, value);
}
template <class T> WEIR_MUST_USE_ int weir_try_recv(weir_typed_<T> ch, typename weir_same_<T>::type *value) {
    return weir_chan_try_recv(ch.chan_, value);
}
template <class T> int weir_close(weir_typed_<T> ch) { return weir_chan_close(ch.chan_); }
template <class T> size_t weir_len(weir_typed_<T> ch) { return weir_chan_len(ch.chan_); }
template <class T> size_t weir_cap(weir_typed_<T> ch) { return weir_chan_cap(ch.chan_); }
template <class T> weir_typed_<T> weir_retain(weir_typed_<T> ch) { return { weir_chan_retain(ch.chan_) }; }
template <class T> void weir_release(weir_typed_<T> ch) { weir_chan_release(ch.chan_); }
template <class T> WEIR_MUST_USE_ int weir_wait_closed(weir_typed_<T> ch) {
    return weir_chan_wait_closed(ch.chan_);
}
template <class T> weir_chan *weir_chan_of(weir_typed_<T> ch) { return ch.chan_; }
template <class T> void weir_chan_on_drop(weir_typed_<T> ch, void (*fn)(void *)) {
    weir_chan_set_on_drop_(ch.chan_, fn);
}
#define weir_unit_value (weir_unit{})

#endif /* C++ */

#endif
