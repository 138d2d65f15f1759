/*
 * weir_leaks, and what can be asked of a report.
 *
 * The gate that keeps the runtime from being stopped under a dump (trace.h) is entered for a proof too: whoever stops
 * it waits until the proof is through.
 */
#include "leak/report.h"

#include <stdlib.h>
#include <string.h>

#include "profile/profile.h"
#include "trace/trace.h"

weir_duration wr_long_blocked = WEIR_MINUTE;

static void prove(weir_leak_report *r, struct wr_proof *proof) {
    wr_prove(proof, wr_long_blocked);
    if (!proof->error && wr_collect_proven(r, proof)) proof->error = -ENOMEM;
    r->proof = *proof;
    r->proof.verdicts = NULL;
    r->error = proof->error;
    wr_proof_free(proof);
}

/* The proof goes no further than here: its verdicts name what they are about, and the next proof would find that. */
int wr_leaks(weir_leak_report **out) {
    struct wr_proof proof;
    memset(&proof, 0, sizeof proof);
    *out = NULL;
    weir_leak_report *r = calloc(1, sizeof *r);
    if (!r) return -ENOMEM;
    if (wr_dump_enter()) { /* else no runtime, no goroutines */
        prove(r, &proof);
        wr_dump_leave();
        if (!r->error && r->proof.registered != atomic_load(&wr_leak_registry.changes)) {
            wr_leak_judge_anew();
            r->n = 0;
            r->error = r->proof.error = -EBUSY;
            snprintf(r->proof.why, sizeof r->proof.why, "weir_leak_ignore or weir_leak_root was called meanwhile");
        }
        if (r->error) wr_metrics_not_proved();
        else wr_metrics_proved(r->n, r->proof.total, r->proof.pause);
    }
    if (r->error == -ENOMEM) {
        weir_leak_report_free(r);
        return -ENOMEM;
    }
    *out = r;
    return r->error ? r->error : r->n > INT32_MAX ? INT32_MAX : (int)r->n;
}

/* Our own frames below the caller's have holes, and calls that are over have left words there: the proof would find those. */
static __attribute__((noinline)) void clear_below(void) {
    char frame[2 << 10];
    explicit_bzero(frame, sizeof frame);
}

int weir_leaks(weir_leak_report **out) {
    weir_leak_report *r;
    clear_below();
    int saved_errno = errno;
    int n = wr_leaks(&r);
    if (out) *out = r;
    else weir_leak_report_free(r);
    errno = saved_errno;
    return n;
}

void weir_leak_report_free(weir_leak_report *r) {
    if (!r) return;
    wr_report_free_all(r);
    if (r->list) explicit_bzero(r->list, sizeof *r->list + r->n * sizeof *r->leaks); /* see collect_into */
    free(r->list);
    free(r->buckets);
    free(r);
}

size_t weir_leak_report_count(const weir_leak_report *r) { return r ? r->n : 0; }
const weir_leak *weir_leak_report_at(const weir_leak_report *r, size_t i) {
    return r && i < r->n ? &r->leaks[i] : NULL;
}
