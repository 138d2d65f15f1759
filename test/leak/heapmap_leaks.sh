#!/bin/sh
# With other allocators behind libweir-heapmap: leaks are found as with glibc's, handles are seen wherever they are, and programs
# without a leak have none. mimalloc's free blocks are roots where no other block is near, so not all leaks are found there.
set -u
. "$WEIR_SRC/test/support/script.sh"

heapmap=$WEIR_BUILD/libweir-heapmap.so

# behind NAME LIBRARY TEST…
behind() {
    name=$1 library=$2
    shift 2
    if [ -n "$library" ] && LD_PRELOAD=$library true 2>&1 | grep -q 'cannot be preloaded'; then
        skip "$name" "$library is not installed"
        return
    fi
    for test; do
        check "$name: $test" env LD_PRELOAD="$heapmap $library" "$WEIR_BUILD/test/leak-$test"
    done
}

behind jemalloc libjemalloc.so.2 limits recall recall_graphs recall_patterns held_by_goroutine held_in_memory held_waits correct \
    own_memory
behind mimalloc libmimalloc.so.2 limits recall recall_patterns correct
behind libc '' own_memory

# Where jemalloc gives memory back to the system as soon as it can, others get it.
export MALLOC_CONF=retain:false,dirty_decay_ms:0,muzzy_decay_ms:0
behind jemalloc_that_keeps_nothing libjemalloc.so.2 own_memory

finish
