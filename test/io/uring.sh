#!/bin/sh
# The programs and scripts of this area once more, with WEIR_POLLER=uring.
set -u
. "$WEIR_SRC/test/support/script.sh"

"$WEIR_BUILD/test/io-receive" what_came_ahead_is_read_in_order >"$tmp/said" 2>&1
if ! grep -q '^ok' "$tmp/said"; then
    skip uring "$(sed -n 's/^[a-z]* [a-z_]*: //p' "$tmp/said" | head -n 1)"
    finish
fi
WEIR_POLLER=uring
export WEIR_POLLER
ran=0
for source in "$WEIR_SRC"/test/io/*.c; do
    name=$(basename "$source" .c)
    program=$WEIR_BUILD/test/io-$name
    [ -x "$program" ] || continue
    check "io/$name" "$program"
    ran=$((ran + 1))
done
check programs sh "$WEIR_SRC/test/io/programs.sh"
programs_were_found() { [ $ran -gt 5 ]; }
check programs_were_found programs_were_found
finish
