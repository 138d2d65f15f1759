/*
 * Samples as profile.proto, with the functions and lines that we know, so that nobody needs the program's file to read it. protobuf-c
 * writes a tree of structs; this builds one. All of the tree lies in an arena. Under wr_inside->on_large_stack.
 */
#include "debug/debug.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "profile.pb-c.h"

typedef Wr__Pprof__Profile Profile;
typedef Wr__Pprof__ValueType ValueType;
typedef Wr__Pprof__Sample Sample;
typedef Wr__Pprof__Label Label;
typedef Wr__Pprof__Mapping Mapping;
typedef Wr__Pprof__Location Location;
typedef Wr__Pprof__Line Line;
typedef Wr__Pprof__Function Function;

struct chunk {
    struct chunk *next;
    size_t used, size;
    _Alignas(16) char data[];
};

/* Pointers, one after the other. */
struct list {
    void **items;
    size_t n, room;
};

/* From keys to numbers ≥ 1; open addressing, a power of two. */
struct index {
    struct place {
        uint64_t key;
        size_t number; /* 0: free */
    } *places;
    size_t n, n_places;
};

struct build {
    struct chunk *chunks;
    bool no_memory;
    struct list strings, samples, locations, functions, mappings;
    struct index string_index, location_index, function_index;
    struct wr_mapping *maps;
    size_t n_maps;
};

/* ---- Memory ------------------------------------------------------------------------------------------------- */

/* Zeroed. NULL: there is none. */
static void *take(struct build *b, size_t size) {
    enum { CHUNK = 64 << 10 };
    size = (size + 15) & ~(size_t)15;
    if (!b->chunks || b->chunks->size - b->chunks->used < size) {
        size_t room = size > CHUNK ? size : CHUNK;
        struct chunk *c = calloc(1, sizeof *c + room);
        if (!c) {
            b->no_memory = true;
            return NULL;
        }
        c->size = room, c->next = b->chunks;
        b->chunks = c;
    }
    b->chunks->used += size;
    return b->chunks->data + b->chunks->used - size;
}

/* The number of the new item, counted from 1; 0: no memory. */
static size_t append(struct build *b, struct list *l, void *item) {
    if (item && l->n == l->room) {
        size_t room = l->room ? 2 * l->room : 64;
        void **items = realloc(l->items, room * sizeof *items);
        if (items) l->items = items, l->room = room;
        else item = NULL;
    }
    if (!item) {
        b->no_memory = true;
        return 0;
    }
    l->items[l->n++] = item;
    return l->n;
}

/* Where the key is, or would go. `same` (or NULL: the key is all there is) tells whether an entry of that key is the one. */
static struct place *find(struct build *b, struct index *x, uint64_t key, bool (*same)(struct build *, size_t, const void *),
                          const void *what) {
    if (2 * x->n >= x->n_places) {
        struct index larger = { .n = x->n, .n_places = x->n_places ? 2 * x->n_places : 256 };
        larger.places = calloc(larger.n_places, sizeof *larger.places);
        if (!larger.places) {
            b->no_memory = true;
            return NULL;
        }
        for (size_t i = 0; i < x->n_places; i++) {
            if (!x->places[i].number) continue;
            size_t at = (x->places[i].key * 0x9e3779b97f4a7c15ULL >> 20) & (larger.n_places - 1);
            while (larger.places[at].number) at = (at + 1) & (larger.n_places - 1);
            larger.places[at] = x->places[i];
        }
        free(x->places);
        *x = larger;
    }
    size_t at = (key * 0x9e3779b97f4a7c15ULL >> 20) & (x->n_places - 1);
    for (; x->places[at].number; at = (at + 1) & (x->n_places - 1))
        if (x->places[at].key == key && (!same || same(b, x->places[at].number, what))) break;
    return &x->places[at];
}

static size_t put(struct index *x, struct place *place, uint64_t key, size_t number) {
    if (number) *place = (struct place){ key, number }, x->n++;
    return number;
}

/* ---- Strings ------------------------------------------------------------------------------------------------ */

static bool same_string(struct build *b, size_t number, const void *text) { return !strcmp(b->strings.items[number], text); }

/* Its place in the table. The first, "", is put there by hand, so numbers are places. */
static int64_t string(struct build *b, const char *text) {
    uint64_t hash = 0xcbf29ce484222325ULL;
    if (!text || !*text) return 0;
    for (const char *c = text; *c; c++) hash = (hash ^ (unsigned char)*c) * 0x100000001b3ULL;
    struct place *place = find(b, &b->string_index, hash, same_string, text);
    if (!place) return 0;
    if (place->number) return (int64_t)place->number;
    size_t size = strlen(text) + 1, number = b->strings.n;
    char *copy = take(b, size);
    if (!copy || !append(b, &b->strings, memcpy(copy, text, size))) return 0;
    return (int64_t)put(&b->string_index, place, hash, number);
}

/* ---- Functions, mappings, locations ------------------------------------------------------------------------- */

static uint64_t function(struct build *b, const struct wr_inside_name *name) {
    int64_t text = string(b, name->function), file = string(b, strcmp(name->file, "?\?") ? name->file : "");
    uint64_t key = (uint64_t)text << 32 | (uint64_t)file;
    struct place *place = find(b, &b->function_index, key, NULL, NULL);
    if (!place) return 0;
    if (place->number) return place->number;
    Function *f = take(b, sizeof *f);
    if (!f) return 0;
    wr__pprof__function__init(f);
    f->name = f->system_name = text;
    f->filename = file;
    size_t number = append(b, &b->functions, f);
    f->id = number;
    return put(&b->function_index, place, key, number);
}

static Mapping *mapping_at(struct build *b, uintptr_t address) {
    for (size_t i = 0; i < b->n_maps && i < b->mappings.n; i++)
        if (address >= b->maps[i].lo && address < b->maps[i].hi) return b->mappings.items[i];
    return NULL;
}

static void claim_names(Mapping *m, bool named) {
    m->has_functions = m->has_filenames = m->has_line_numbers = m->has_inline_frames = named;
}

static void make_mappings(struct build *b) {
    b->maps = wr_mappings(&b->n_maps);
    for (size_t i = 0; i < b->n_maps; i++) {
        Mapping *m = take(b, sizeof *m);
        if (!m) return;
        wr__pprof__mapping__init(m);
        m->memory_start = b->maps[i].lo, m->memory_limit = b->maps[i].hi, m->file_offset = b->maps[i].offset;
        m->filename = string(b, b->maps[i].file);
        m->build_id = string(b, b->maps[i].build_id);
        claim_names(m, true);
        m->id = append(b, &b->mappings, m);
    }
}

static void describe(struct build *b, Location *l, uintptr_t pc, bool innermost) {
    struct wr_inside_name names[WR_INLINED];
    size_t n = wr_inside->names(pc, innermost, names, WR_INLINED);
    Mapping *m = mapping_at(b, pc - 1);
    if (m) l->mapping_id = m->id;
    if (n == 0 || !names[0].named) return; /* it stays an address */
    l->line = take(b, n * sizeof *l->line);
    Line *lines = take(b, n * sizeof *lines);
    if (!l->line || !lines) return;
    for (size_t i = 0; i < n; i++) {
        wr__pprof__line__init(&lines[i]);
        lines[i].function_id = function(b, &names[i]);
        lines[i].line = names[i].line;
        l->line[i] = &lines[i];
    }
    l->n_line = n;
}

static uint64_t location(struct build *b, uintptr_t pc, bool innermost) {
    struct place *place = find(b, &b->location_index, pc, NULL, NULL);
    if (!place) return 0;
    if (place->number) return place->number;
    Location *l = take(b, sizeof *l);
    if (!l) return 0;
    wr__pprof__location__init(l);
    l->address = pc - 1;
    describe(b, l, pc, innermost);
    l->id = append(b, &b->locations, l);
    return put(&b->location_index, place, pc, l->id);
}

/* Where no address of a mapping has a name, it does not claim to have any: then pprof looks for the file. One without among others that have is
 * a stub by which a library is called, or the like: the file does not name it either. */
static void judge_mappings(struct build *b) {
    for (int named = 0; named <= 1; named++)
        for (size_t i = 0; i < b->locations.n; i++) {
            const Location *l = b->locations.items[i];
            if (l->mapping_id && (l->n_line > 0) == named) claim_names(b->mappings.items[l->mapping_id - 1], named);
        }
}

/* ---- Samples ------------------------------------------------------------------------------------------------ */

struct labelling {
    struct build *b;
    struct list labels;
};

static void add_label(const char *key, const char *value, void *arg) {
    struct labelling *to = arg;
    Label *label = take(to->b, sizeof *label);
    if (!label) return;
    wr__pprof__label__init(label);
    label->key = string(to->b, key);
    label->str = string(to->b, value);
    append(to->b, &to->labels, label);
}

static void add_sample(struct build *b, const struct wr_sample *from, bool timed) {
    struct labelling labelling = { .b = b };
    Sample *s = take(b, sizeof *s);
    uint64_t *ids = take(b, from->n * sizeof *ids);
    int64_t *values = take(b, 2 * sizeof *values);
    if (!s || !ids || !values) return;
    wr__pprof__sample__init(s);
    for (size_t i = 0; i < from->n; i++) ids[i] = location(b, from->pcs[i], i == 0);
    s->location_id = ids, s->n_location_id = from->n;
    values[0] = from->count, values[1] = from->nanoseconds;
    s->value = values, s->n_value = timed ? 2 : 1;
    wr_label_text_each(from->labels, add_label, &labelling);
    if (labelling.labels.n) {
        s->label = take(b, labelling.labels.n * sizeof *s->label);
        s->n_label = s->label ? labelling.labels.n : 0;
        if (s->label) memcpy(s->label, labelling.labels.items, s->n_label * sizeof *s->label);
    }
    free(labelling.labels.items);
    append(b, &b->samples, s);
}

static ValueType *value_type(struct build *b, const char *type, const char *unit) {
    ValueType *v = take(b, sizeof *v);
    if (!v) return NULL;
    wr__pprof__value_type__init(v);
    v->type = string(b, type);
    v->unit = string(b, unit);
    return v;
}

/* ---- The whole ---------------------------------------------------------------------------------------------- */

static void write_profile(struct wr_reply *r, struct build *b, const struct wr_profile_kind *kind, int64_t duration) {
    Profile p;
    struct timespec now;
    ValueType *types[2] = { value_type(b, kind->count, kind->count_unit),
                            kind->time ? value_type(b, kind->time, kind->time_unit) : NULL };
    wr__pprof__profile__init(&p);
    clock_gettime(CLOCK_REALTIME, &now);
    p.sample_type = types, p.n_sample_type = kind->time ? 2 : 1;
    p.period_type = value_type(b, kind->period, kind->period_unit);
    p.period = kind->period_n;
    p.time_nanos = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
    p.duration_nanos = duration;
    p.sample = (Sample **)(void *)b->samples.items, p.n_sample = b->samples.n;
    p.mapping = (Mapping **)(void *)b->mappings.items, p.n_mapping = b->mappings.n;
    p.location = (Location **)(void *)b->locations.items, p.n_location = b->locations.n;
    p.function = (Function **)(void *)b->functions.items, p.n_function = b->functions.n;
    p.string_table = (char **)(void *)b->strings.items, p.n_string_table = b->strings.n;
    size_t size = b->no_memory ? 0 : wr__pprof__profile__get_packed_size(&p);
    char *packed = size ? malloc(size) : NULL;
    if (!packed) {
        r->no_memory = true;
        return;
    }
    wr__pprof__profile__pack(&p, (uint8_t *)packed);
    wr_reply_add(r, packed, size);
    free(packed);
    wr_reply_gzip(r);
}

void wr_profile_put(struct wr_reply *r, struct wr_samples *samples, const struct wr_profile_kind *kind, int64_t duration) {
    struct build b = { .no_memory = false };
    size_t n;
    struct wr_sample **sorted = wr_samples_sorted(samples, &n);
    b.no_memory = !sorted;
    append(&b, &b.strings, take(&b, 1));
    make_mappings(&b);
    for (size_t i = 0; i < n && !b.no_memory; i++) add_sample(&b, sorted[i], kind->time);
    judge_mappings(&b);
    write_profile(r, &b, kind, duration);
    wr_mappings_free(b.maps, b.n_maps);
    free(sorted);
    free(b.strings.items), free(b.samples.items), free(b.locations.items), free(b.functions.items), free(b.mappings.items);
    free(b.string_index.places), free(b.location_index.places), free(b.function_index.places);
    for (struct chunk *c = b.chunks, *next; c; c = next) {
        next = c->next;
        free(c);
    }
}
