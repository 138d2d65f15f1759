/*
 * What is common to goroutines of one stack, in words: where they were started, what they wait on, what reaches them.
 * Everything here looks up names, so nobody is held meanwhile.
 */
#include "leak/item.h"

#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

/* Room for the longest text that is made here but stacks. */
struct line {
    size_t n;
    char text[1024];
};
__attribute__((format(printf, 2, 3))) static void say(struct line *l, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(l->text + l->n, sizeof l->text - l->n, fmt, args);
    va_end(args);
    if (n > 0) l->n += (size_t)n < sizeof l->text - l->n ? (size_t)n : sizeof l->text - 1 - l->n;
}

/* The innermost function at pc that is not weir's; false: all are. */
static bool user_frame(uintptr_t pc, struct wr_frame *frame) {
    struct wr_frame frames[WR_INLINED];
    size_t n = wr_symbol(pc, frames, WR_INLINED);
    for (size_t i = 0; i < n; i++)
        if (!(wr_symbol_frame_class(&frames[i]) & WR_SYMBOL_OWN)) {
            *frame = frames[i];
            return true;
        }
    return false;
}

static const char *frame_name(weir_leak_report *r, const struct wr_frame *frame) {
    struct line l = { 0 };
    if (frame->named) return frame->function;
    say(&l, "%s+0x%" PRIxPTR, frame->function, frame->offset + 1);
    return wr_report_text(r, l.text);
}

static void say_channel(struct line *l, const struct wr_leak_object *o) {
    struct wr_frame frame;
    say(l, "channel %p", o->address);
    if (!o->made_at) return;
    if (o->cap) say(l, " (capacity %zu", o->cap);
    else say(l, " (unbuffered");
    if (!user_frame(o->made_at, &frame)) say(l, ", of a timer or context)");
    else if (frame.line) say(l, ", made by %s at %s:%d)", frame.function, frame.file, frame.line);
    else if (frame.named) say(l, ", made by %s)", frame.function);
    else say(l, ")");
}

static const char *objects_text(weir_leak_report *r, const struct wr_leak_item *item) {
    static const char *const names[WR_REASONS] = {
        [WR_WAIT_MUTEX] = "mutex", [WR_WAIT_RLOCK] = "rwmutex", [WR_WAIT_LOCK] = "rwmutex",
        [WR_WAIT_COND] = "condition", [WR_WAIT_WG] = "wait group", [WR_WAIT_ONCE] = "once",
        [WR_WAIT_SEMACQUIRE] = "semaphore", [WR_WAIT_SCOPE] = "scope", [WR_WAIT_SCOPE_GO] = "scope",
    };
    struct line l = { 0 };
    if (item->reason == WR_WAIT_CHAN_SEND_NIL || item->reason == WR_WAIT_CHAN_RECV_NIL) return "the nil channel";
    if (item->reason == WR_WAIT_SELECT && !item->n_objects) return "nil channels only";
    for (uint32_t i = 0; i < item->n_objects; i++) {
        const struct wr_leak_object *o = &item->objects[i];
        if (i) say(&l, ",\n                ");
        if (item->reason == WR_WAIT_SELECT) say(&l, "%s ", o->verb == WR_WAIT_CHAN_RECV ? "receive from" : "send to");
        if (o->verb == WR_WAIT_CHAN_RECV || o->verb == WR_WAIT_CHAN_SEND) say_channel(&l, o);
        else say(&l, "%s %p", names[o->verb] ? names[o->verb] : "object", o->address);
    }
    return wr_report_text(r, l.text);
}

static void say_root(struct line *l, uintptr_t root) {
    struct wr_frame frame;
    if (!wr_symbol(root + 1, &frame, 1)) return;
    if (frame.named) {
        say(l, "the variable %s", frame.function);
        if (frame.offset) say(l, ", %" PRIuPTR " bytes in", frame.offset);
    } else if (strcmp(frame.function, "unknown")) {
        say(l, "the data of %s, at offset 0x%" PRIxPTR, frame.function, frame.offset);
    } else {
        say(l, "memory at %#" PRIxPTR ", whose structure is not known", root);
    }
}

static const char *why_text(weir_leak_report *r, const struct wr_verdict *v) {
    struct line l = { 0 };
    switch (v->by) {
    case WR_REACH_NONE: return "";
    case WR_REACH_MODULE: say_root(&l, v->root); break;
    case WR_REACH_THREAD: say(&l, "thread %" PRIu64 ", by its stack, registers or thread-locals", v->owner); break;
    case WR_REACH_GOROUTINE: say(&l, "goroutine %" PRIu64 ", which can still run", v->owner); break;
    case WR_REACH_TIMER: say(&l, "a pending timer or deadline"); break;
    case WR_REACH_REGISTERED: say(&l, "what weir_leak_ignore or weir_leak_root was told"); break;
    }
    if (v->holder) say(&l, ", by way of a block of %zu bytes at %#" PRIxPTR, v->holder_size, v->holder);
    return wr_report_text(r, l.text);
}

/* A stack that does not fit is shown from its inner end. */
static const char *stack_text(weir_leak_report *r, const struct wr_snapshot *s, size_t from, size_t to) {
    struct wr_text t = { .fd = -1 };
    bool whole = true;
    for (;;) {
        wr_frames_put(&t, s, from, to, true);
        if (s->elided || !whole) wr_elided_put(&t);
        if (!t.error && t.n < sizeof t.buffer) break;
        if (to - from < 2) return "";
        to = from + (to - from) / 2;
        whole = false;
        t.error = 0, t.n = 0;
    }
    t.buffer[t.n] = 0;
    return wr_report_text(r, t.buffer);
}

/* The text of fn in the source may be a variable's name; its symbol is better, but for C++, where that is mangled. */
static const char *start_function(const struct wr_leak_item *item) {
    struct wr_frame frames[WR_INLINED];
    const char *text = item->s.site ? item->s.site->function : "";
    if (!item->start) return text;
    size_t n = wr_symbol(item->start + 1, frames, WR_INLINED);
    const struct wr_frame *frame = &frames[n - 1];
    if (!item->s.site && (wr_symbol_frame_class(frame) & WR_SYMBOL_OWN)) return "weir_main";
    bool usable = frame->named && (frame->line > 0 || !*text) && strncmp(frame->function, "_Z", 2) != 0;
    return usable ? frame->function : text;
}

void wr_describe_group(weir_leak_report *r, struct wr_leak_group *g, const struct wr_leak_item *item,
                       size_t from, size_t to) {
    const struct wr_snapshot *s = &item->s;
    struct wr_frame frame;
    g->stack = stack_text(r, s, from, to);
    g->at_function = "", g->at_file = "?\?";
    for (size_t i = from; i < to; i++)
        if (user_frame(s->pcs[i], &frame)) {
            g->at_function = frame_name(r, &frame), g->at_file = frame.file, g->at_line = frame.line;
            break;
        }
    if (!g->reason) return;
    g->function = wr_report_text(r, start_function(item));
    g->file = s->site ? wr_report_text(r, s->site->file) : "?\?";
    g->created_by = s->site ? wr_report_text(r, s->site->creator) : "";
    g->line = s->site ? s->site->line : 0;
    g->objects = objects_text(r, item);
    g->why = item->verdict && !item->leaked ? why_text(r, item->verdict) : "";
    g->name = wr_report_text(r, s->name);
    g->creator = s->creator;
    g->creator_stack = "";
}
