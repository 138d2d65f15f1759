/*
 * An intrusive doubly linked list with a head. An unlinked node has next == NULL. Whether a list is empty may be asked by who does
 * not hold what guards it, and may be wrong by then.
 */
#ifndef WR_LIST_H
#define WR_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct wr_list {
    struct wr_list *next, *prev;
};

static inline void wr_list_init(struct wr_list *head) { head->next = head->prev = head; }
static inline bool wr_list_empty(const struct wr_list *head) { return __atomic_load_n(&head->next, __ATOMIC_ACQUIRE) == head; }
static inline void wr_list_set_next_(struct wr_list *l, struct wr_list *next) { __atomic_store_n(&l->next, next, __ATOMIC_RELAXED); }
static inline bool wr_list_linked(const struct wr_list *node) { return node->next != NULL; }
static inline void wr_list_append(struct wr_list *head, struct wr_list *node) {
    node->prev = head->prev, node->next = head;
    wr_list_set_next_(head->prev, node), head->prev = node;
}
static inline void wr_list_prepend(struct wr_list *head, struct wr_list *node) { wr_list_append(head->next, node); }
static inline void wr_list_remove(struct wr_list *node) {
    wr_list_set_next_(node->prev, node->next), node->next->prev = node->prev;
    node->next = node->prev = NULL;
}
static inline struct wr_list *wr_list_pop(struct wr_list *head) {
    struct wr_list *first = head->next;
    if (first == head) return NULL;
    wr_list_remove(first);
    return first;
}

#endif
