#!/bin/sh
# The games of stress.c in a build with random delays at every park, ready, steal and lock, and with the debug checks on. The
# seed of both is printed when something fails: WEIR_STRESS_SEED repeats it, as far as the kernel plays along.
set -u
. "$WEIR_SRC/test/support/script.sh"
build=${WEIR_STRESS_BUILD:-$WEIR_BUILD/stress}

built() {
    { [ -f "$build/build.ninja" ] || meson setup -Dstress=true -Dchecks=true -Dexamples=false "$build" "$WEIR_SRC"; } &&
        meson setup --reconfigure "$build" "$WEIR_SRC" && ninja -C "$build" test/long-stress
}
has_delays() { nm "$build/test/long-stress" | grep -w wr_dawdle; }

check built_with_delays built
check it_has_delays has_delays
for processors in one two eight; do
    check "all_games_on_${processors}_with_delays" "$build/test/long-stress" "all_games_on_$processors"
done
finish
