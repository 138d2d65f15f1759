#!/bin/sh
# digest prints what sha256sum would, in order, whatever the files are called, and stops as it should.
set -u
. "$WEIR_SRC/test/support/script.sh"
digest=$WEIR_BUILD/examples/digest
if [ ! -x "$digest" ]; then
    skip digest 'built without libcrypto'
    finish
fi
LC_ALL=C
export LC_ALL

# run STATUS ARGUMENT…: exit status as wanted; what it printed is in $tmp/out and $tmp/err.
run() {
    want=$1
    shift
    "$digest" "$@" >"$tmp/out" 2>"$tmp/err"
    got=$?
    cat "$tmp/err"
    [ $got = "$want" ] || { echo "digest $*: exit status $got, not $want"; return 1; }
}

silent() {
    [ ! -s "$tmp/err" ]
}

# What find, sort and sha256sum make of some folders.
reference() {
    find "$@" -type f -print0 | sort -z | xargs -0 -r sha256sum
}

# same_as_reference DIR…
same_as_reference() {
    reference "$@" >"$tmp/want" && run 0 "$@" && silent && cmp "$tmp/want" "$tmp/out"
}

# In trees too deep for sha256sum every file has the same content: its sum is known.
one=fe8a59c71568075791eb6e0246d1435049128fb2400a8ea86b8ccf8f71c8487f # of 'weir' and a newline
lines_for_paths() {
    find "$1" -type f -print0 | sort -z | tr '\0' '\n' | sed "s/^/$one  /"
}

# A copy, since somebody may be installing something.
usr_include() {
    cp -a /usr/include "$tmp/include" && same_as_reference "$tmp/include"
}

names() {
    mkdir -p "$tmp/names/a" "$tmp/names/a-b" "$tmp/names/a.d" "$tmp/names/ab" "$tmp/names/empty/empty"
    for file in a/1 a-b/1 a.d/1 ab/1 a.txt 'with space' ' leading' '-dash' '*' "$(printf 'new\nline')" 'back\slash' \
        '\n' "$(printf 'tab\there')" "$(printf 'bytes\377\376')" "$(printf '\001')" 'trailing ' zzz; do
        echo "$file" >"$tmp/names/$file" || return 1
    done
    file=$(printf '%0255d' 7)
    echo long >"$tmp/names/$file" && : >"$tmp/names/nothing" || return 1
    same_as_reference "$tmp/names" && sha256sum --quiet -c "$tmp/out"
}

# Newer versions of sha256sum escape these.
carriage_returns() {
    mkdir -p "$tmp/returns" && echo x >"$tmp/returns/$(printf 'a\rb')" && run 0 "$tmp/returns" && silent &&
        [ "$(tail -c 5 "$tmp/out")" = 'a\rb' ] && [ "$(head -c 1 "$tmp/out")" = '\' ]
}

only_regular_files() {
    mkdir -p "$tmp/kinds/below" && echo x >"$tmp/kinds/below/file" && ln -s below "$tmp/kinds/to_folder" &&
        ln -s below/file "$tmp/kinds/to_file" && ln -s nowhere "$tmp/kinds/to_nothing" && mkfifo "$tmp/kinds/pipe" &&
        same_as_reference "$tmp/kinds" && [ "$(wc -l <"$tmp/out")" = 1 ]
}

# A DIR that is a link is followed only with a '/' after it, as by find.
links_to_roots() {
    run 1 "$tmp/kinds/to_folder" && [ ! -s "$tmp/out" ] &&
        same_as_reference "$tmp/kinds/to_folder/" && [ "$(wc -l <"$tmp/out")" = 1 ]
}

# Several folders, in any order, some inside others: each file once, and all in order.
several_folders() {
    same_as_reference "$tmp/names/a.d" "$tmp/kinds" "$tmp/names/a-b" && (
        cd "$tmp/names" && same_as_reference . && same_as_reference a a.d/ ab a-b &&
            reference . >"$tmp/want" && run 0 ./a . ./a/ . && cmp "$tmp/want" "$tmp/out"
    )
}

any_number_of_workers() {
    for j in 1 2 7 256; do
        run 0 -j $j "$tmp/names" && cp "$tmp/out" "$tmp/out.$j" && cmp "$tmp/out.1" "$tmp/out" || return 1
    done
}

nothing_below() {
    mkdir -p "$tmp/nothing" && run 0 "$tmp/nothing" && [ ! -s "$tmp/out" ] && silent
}

# 150 levels, paths of 9 KB, and files to be found on the way up again.
deep_trees() {
    mkdir "$tmp/deep" && (cd "$tmp/deep" && exec python3 -) <<'PYTHON' || return 1
import os
name = '0' * 60
for level in range(150):
    os.mkdir(name)
    os.mkdir(name + '-sibling')
    for file in ('0', 'after', name + '-sibling/file'):
        open(file, 'w').write('weir\n')
    os.chdir(name)
open('last', 'w').write('weir\n')
PYTHON
    lines_for_paths "$tmp/deep" >"$tmp/want"
    run 0 "$tmp/deep" && silent && cmp "$tmp/want" "$tmp/out" && [ "$(wc -l <"$tmp/out")" = 451 ] &&
        [ "$(wc -L <"$tmp/out")" -gt 9000 ]
}

# More names than are kept in memory at a time; links, as they are quickly made and removed.
folder_with_many_names() {
    mkdir -p "$tmp/many/below" && touch "$tmp/many/below/1" "$tmp/many/z" && python3 - "$tmp/many" <<'PYTHON' || return 1
import os, sys
os.chdir(sys.argv[1])
for i in range(40000):
    os.link('z', f'{i * 7919 % 40000:0250}')
PYTHON
    find "$tmp/many" -type f | sort >"$tmp/want"
    run 0 -j 8 "$tmp/many" && silent && cut -c 67- "$tmp/out" | cmp "$tmp/want" - && [ "$(wc -l <"$tmp/out")" = 40002 ]
}

# As somebody who may not read everything; root may.
unreadable() {
    mkdir -p "$tmp/secret/closed" && echo x >"$tmp/secret/closed/file" && echo x >"$tmp/secret/hidden" &&
        echo x >"$tmp/secret/z" && reference "$tmp/secret" | grep '/z$' >"$tmp/want" && cp "$digest" "$tmp/digest" &&
        chmod 000 "$tmp/secret/hidden" "$tmp/secret/closed" && chmod 755 "$tmp" "$tmp/digest" || return 1
    as=
    [ "$(id -u)" != 0 ] || as='setpriv --reuid 65534 --clear-groups'
    $as "$tmp/digest" "$tmp/secret" >"$tmp/out" 2>"$tmp/err"
    status=$?
    chmod 700 "$tmp/secret/closed"
    cat "$tmp/out" "$tmp/err"
    printf "digest: $tmp/secret/%s: Permission denied\n" closed hidden >"$tmp/errors"
    [ $status = 1 ] && cmp "$tmp/want" "$tmp/out" && cmp "$tmp/errors" "$tmp/err"
}

missing_folders() {
    reference "$tmp/kinds" >"$tmp/want"
    run 1 "$tmp/absent" "$tmp/kinds" "$tmp/kinds/below/file" && cmp "$tmp/want" "$tmp/out" &&
        grep -q -x "digest: $tmp/absent: No such file or directory" "$tmp/err" && [ "$(wc -l <"$tmp/err")" = 1 ] &&
        run 1 "$tmp/kinds/below/file" && grep -q 'below/file: Not a directory$' "$tmp/err"
}

device_full() {
    "$digest" "$tmp/names" >/dev/full 2>"$tmp/err"
    status=$?
    cat "$tmp/err"
    [ $status = 1 ] && [ "$(cat "$tmp/err")" = 'digest: write error: No space left on device' ]
}

# A few thousand files, more lines than a pipe holds; then one that takes minutes to read.
endless_tree() {
    [ -d "$tmp/endless" ] || {
        mkdir "$tmp/endless" && mkfifo "$tmp/pipe" &&
            (cd "$tmp/endless" && seq 3000 | xargs touch && truncate -s 400G z)
    }
}

closed_pipe() {
    endless_tree || return 1
    { timeout -s KILL 60 "$digest" "$tmp/endless" 2>"$tmp/err"; echo $? >"$tmp/status"; } | head -n 1 >"$tmp/out"
    cat "$tmp/err"
    [ "$(cat "$tmp/status")" = 1 ] && [ "$(cat "$tmp/err")" = 'digest: write error: Broken pipe' ]
}

whole_lines() {
    [ "$(tail -c 1 "$1" | od -An -tx1)" = ' 0a' ] && ! grep -v -x '[0-9a-f]\{64\}  .*/endless/[0-9]*' "$1"
}

# interrupted SIGNAL: once the first line is there; somebody reads all the time.
interrupted() {
    endless_tree || return 1
    "$digest" "$tmp/endless" >"$tmp/pipe" 2>"$tmp/err" &
    pid=$!
    { read -r line && kill -"$1" $pid && echo "$line" && cat; } <"$tmp/pipe" >"$tmp/out"
    wait $pid
    status=$?
    cat "$tmp/err"
    [ $status = 130 ] && silent && whole_lines "$tmp/out"
}

# The same in the midst of a large file. What was digested before it is printed.
interrupted_in_a_large_file() {
    mkdir -p "$tmp/large" && truncate -s 400G "$tmp/large/z" && echo x >"$tmp/large/a" || return 1
    sha256sum "$tmp/large/a" >"$tmp/want"
    "$digest" "$tmp/large" >"$tmp/out" 2>"$tmp/err" &
    pid=$!
    until read_much $pid || ! kill -0 $pid; do :; done
    kill -INT $pid
    wait $pid
    status=$?
    cat "$tmp/err"
    [ $status = 130 ] && silent && cmp "$tmp/want" "$tmp/out"
}

read_much() {
    [ "$(awk '/^rchar/ { print $2 }' "/proc/$1/io")" -gt 100000000 ]
}

# Is there no room in the pipe that is open as descriptor 9?
full() {
    python3 -c 'import fcntl, struct, sys, termios
sys.exit(struct.unpack("i", fcntl.ioctl(9, termios.FIONREAD, bytes(4)))[0] < 60000)'
}

# And while digest waits for room in a pipe that nobody reads.
interrupted_while_blocked() {
    endless_tree || return 1
    exec 9<>"$tmp/pipe"
    "$digest" "$tmp/endless" >"$tmp/pipe" 2>"$tmp/err" &
    pid=$!
    read -r line <&9
    until full || ! kill -0 $pid; do :; done
    kill -INT $pid
    wait $pid
    status=$?
    exec 8<"$tmp/pipe" 9>&-
    { echo "$line"; cat <&8; } >"$tmp/out"
    exec 8<&-
    cat "$tmp/err"
    [ $status = 130 ] && silent && whole_lines "$tmp/out"
}

# On a terminal (that `script` makes) there is a progress line, unless it is unwanted.
progress() {
    mkdir -p "$tmp/progress" && truncate -s 1G "$tmp/progress/big" || return 1
    script -qec "'$digest' '$tmp/progress' >'$tmp/out'" /dev/null </dev/null >"$tmp/screen" &&
        grep -q '[01] files, [0-9.]* MiB, [0-9.]* MiB/s' "$tmp/screen" && whole_run &&
        script -qec "'$digest' --quiet '$tmp/progress' >'$tmp/out'" /dev/null </dev/null >"$tmp/screen" &&
        [ ! -s "$tmp/screen" ] && whole_run
}

whole_run() {
    [ "$(wc -l <"$tmp/out")" = 1 ] && ! grep -q files, "$tmp/out"
}

arguments() {
    run 0 --help && grep -q '^usage: digest' "$tmp/out" && silent || return 1
    for wrong in '' '-j' '-j 0 x' '-j 257 x' '-j 3x x' '--wrong x'; do
        run 2 $wrong && [ ! -s "$tmp/out" ] && [ -s "$tmp/err" ] || return 1
    done
}

check digest_of_usr_include usr_include
check digest_of_odd_names names
check digest_escapes_carriage_returns carriage_returns
check digest_takes_only_regular_files only_regular_files
check digest_of_links_to_folders links_to_roots
check digest_of_several_folders several_folders
check digest_with_any_number_of_workers any_number_of_workers
check digest_of_nothing nothing_below
check digest_of_deep_trees deep_trees
check digest_of_a_folder_with_many_names folder_with_many_names
check digest_goes_on_after_what_it_may_not_read unreadable
check digest_goes_on_after_a_missing_folder missing_folders
check digest_stops_when_the_device_is_full device_full
check digest_stops_when_nobody_listens closed_pipe
check digest_is_interrupted interrupted INT
check digest_is_terminated interrupted TERM
check digest_is_interrupted_in_a_large_file interrupted_in_a_large_file
check digest_is_interrupted_while_it_waits_to_write interrupted_while_blocked
check digest_shows_progress progress
check digest_arguments arguments
finish
