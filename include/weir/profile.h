/* Profiles of contention: where goroutines block, and which unlocks let others wait. Go: runtime.SetBlockProfileRate. */
#ifndef WEIR_PROFILE_H
#define WEIR_PROFILE_H

WEIR_BEGIN_

/*
 * Both profiles are off until asked for, and cost nothing then. What has been recorded adds up for as long as the process
 * lives, through all runs of the runtime and whatever the rate becomes; there is no way to clear it, so who wants a span of
 * time takes the difference of two looks. It is kept by stack, for some thousands of stacks each; what does not fit is counted
 * in one entry that says so. The debug server shows them.
 */

/*
 * Record where goroutines (and foreign threads) wait for others: sending, receiving, in a select, for a mutex, rwmutex, condition,
 * wait group, once, semaphore or scope. Sleeping and waiting for a descriptor are no such waits. A wait is recorded when it ends, with its
 * duration, at the stack that waited. Of waits shorter than `ns` one is taken for each `ns` nanoseconds waited, on average, and
 * weighted for those that were not; so the sums come out right at any rate. 1: every wait is recorded. 0 or less: none, the
 * default. Recording one costs some microseconds. Any thread, also while no runtime runs; does not block; out of memory, what is
 * recorded goes to that one entry. Go: runtime.SetBlockProfileRate, of which this has the units and the meaning.
 */
WEIR_API_ void weir_block_profile_rate(weir_duration ns);

/*
 * Record which calls of weir_mutex_unlock, weir_rwmutex_unlock and weir_rwmutex_runlock let others wait: when one wakes a
 * goroutine, its stack is recorded with the time for which that had waited in the queue; so is the call that ends a weir_locked
 * block, or that weir_cond_wait makes. On average one in n of these events is recorded, and counts for n. 1: each. 0: none, the
 * default. Less than 0: changes nothing. Who began to wait while it was off is not counted. Returns what n was before. Any thread, also while no
 * runtime runs; does not block. Go: runtime.SetMutexProfileFraction.
 */
WEIR_API_ int weir_mutex_profile_fraction(int n);

WEIR_END_

#endif
