/* The channel that the rows use. See bench.h; nothing is locked, since a thread gives way only where it waits. */
#include "bench.h"

static st_cond_t condition(void) {
    st_cond_t made = st_cond_new();
    if (!made) fail("st_cond_new: %s", strerror(errno));
    return made;
}

void channel_init(struct channel *ch, size_t size, long capacity, long most_receivers) {
    long slots = capacity + most_receivers;
    *ch = (struct channel){ .ring = array(slots, size), .size = size, .slots = slots, .capacity = capacity };
    ch->not_empty = condition();
    ch->not_full = condition();
}

void channel_end(struct channel *ch) {
    MUST(st_cond_destroy(ch->not_empty));
    MUST(st_cond_destroy(ch->not_full));
    free(ch->ring);
}

void channel_send(struct channel *ch, const void *element) {
    while (ch->count >= ch->capacity + ch->receivers) {
        ch->senders++;
        MUST(st_cond_wait(ch->not_full));
        ch->senders--;
    }
    long last = ch->first + ch->count++;
    if (last >= ch->slots) last -= ch->slots;
    memcpy(ch->ring + (size_t)last * ch->size, element, ch->size);
    if (ch->receivers > 0) MUST(st_cond_signal(ch->not_empty));
}

/* There is place for one more: an element has gone, or a receiver has come. */
static void more_room(struct channel *ch) {
    if (ch->senders > 0) MUST(st_cond_signal(ch->not_full));
}

bool channel_receive(struct channel *ch, void *element) {
    bool waited = ch->count == 0 && !ch->closed;
    if (waited) {
        ch->receivers++;
        more_room(ch);
        while (ch->count == 0 && !ch->closed) MUST(st_cond_wait(ch->not_empty));
        ch->receivers--; /* and with it goes the place that its element had */
    }
    if (ch->count == 0) return false;
    memcpy(element, ch->ring + (size_t)ch->first * ch->size, ch->size);
    if (++ch->first == ch->slots) ch->first = 0;
    ch->count--;
    if (!waited) more_room(ch);
    return true;
}

/* By the only sender, or when all are done. */
void channel_close(struct channel *ch) {
    ch->closed = true;
    MUST(st_cond_broadcast(ch->not_empty));
}
