/* An intrusive doubly linked list with a head. An unlinked node has next == NULL. */
#ifndef WR_LIST_H
#define WR_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct wr_list {
    struct wr_list *next, *prev;
};

static inline void wr_list_init(struct wr_list *head) { head->next = head->prev = head; }
static inline bool wr_list_empty(const struct wr_list *head) { return head->next == head; }
static inline bool wr_list_linked(const struct wr_list *node) { return node->next != NULL; }
static inline void wr_list_append(struct wr_list *head, struct wr_list *node) {
    node->prev = head->prev, node->next = head;
    head->prev->next = node, head->prev = node;
}
static inline void wr_list_prepend(struct wr_list *head, struct wr_list *node) { wr_list_append(head->next, node); }
static inline void wr_list_remove(struct wr_list *node) {
    node->prev->next = node->next, node->next->prev = node->prev;
    node->next = node->prev = NULL;
}
static inline struct wr_list *wr_list_pop(struct wr_list *head) {
    struct wr_list *first = head->next;
    if (first == head) return NULL;
    wr_list_remove(first);
    return first;
}

#endif
