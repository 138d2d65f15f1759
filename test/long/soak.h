/* How long a soak is to take, as tools/check-long says. */
#ifndef TEST_SOAK_H
#define TEST_SOAK_H

#include "test.h"

#include <stdlib.h>

static inline long long_seconds(void) {
    const char *text = getenv("WEIR_LONG_SECONDS");
    long seconds = text ? strtol(text, NULL, 10) : 0;
    return seconds > 0 ? seconds : 600;
}
/* The harness gives a test a minute; called by a constructor: that much, and some more. */
static inline void take_longer(long more_minutes) {
    char text[32];
    snprintf(text, sizeof text, "%ld", long_seconds() / 60 + more_minutes);
    setenv("WEIR_TEST_TIMEOUT_SCALE", text, 1);
}

#endif
