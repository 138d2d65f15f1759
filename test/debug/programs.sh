#!/bin/sh
# The debug server of programs that know nothing of it (WEIR_DEBUG_ADDR), by curl.
set -u
. "$WEIR_SRC/test/support/script.sh"
. "$WEIR_SRC/test/support/debugged.sh"

each_goroutine_is_dumped() {
    answers 200 "$plain" '/debug/pprof/goroutine?debug=2' && cat "$tmp/body" &&
        [ "$(grep -c '^goroutine [0-9]* \[chan send\]:$' "$tmp/body")" = 10 ] && grep -q '^goroutine [0-9]* \[sleep\]:$' "$tmp/body" &&
        grep -q '^goroutine 1 \[syscall\]:$' "$tmp/body" && [ "$(grep -c '^created by forget in goroutine 1$' "$tmp/body")" = 10 ]
}

goroutines_are_counted_by_stack() {
    answers 200 "$plain" '/debug/pprof/goroutine?debug=1' && cat "$tmp/body" && head -n 1 "$tmp/body" | grep -q '^goroutine profile: total 12$' &&
        [ "$(grep -c '^5 @ 0x' "$tmp/body")" = 2 ] && grep -q -F '# labels: {"name":"sender", "request":"even \"quoted\""}' "$tmp/body" &&
        grep -q "^#	0x[0-9a-f]*	slow_value+0x[0-9a-f]*	.*debugged.c:[1-9][0-9]*$" "$tmp/body"
}

# Where weir is built without optimisation, a frame of main's that lives has two of them in words that it does not use any more.
leaked_goroutines_are_shown() {
    answers 200 "$plain" '/debug/pprof/goroutineleak?debug=1' && cat "$tmp/body" &&
        head -n 1 "$tmp/body" | grep -q '^goroutineleak profile: total \([89]\|10\)$' && grep -q 'slow_value' "$tmp/body" &&
        lacks_line sleeper "$tmp/body" && answers 200 "$plain" '/debug/pprof/goroutineleak?debug=2' &&
        [ "$(grep -c '^goroutine [0-9]* \[chan send (leaked)\]:$' "$tmp/body")" -ge 8 ] && grep -q '^goroutine [0-9]* \[sleep\]:$' "$tmp/body"
}

index_has_counts() {
    end_program; start "$tmp/by_archive" leak 10 || return 1
    answers 200 'text/html; charset=utf-8' /debug/pprof/ && grep -q "<td>12</td><td><a href='goroutine?debug=1'>" "$tmp/body" &&
        grep -q '<td>never asked</td>' "$tmp/body" && fetch /debug/pprof/goroutineleak && fetch /debug/pprof/ && cat "$tmp/body" &&
        grep -q '<td>\([89]\|10\) (proven [0-9]* s ago)</td>' "$tmp/body"
}

threads_are_counted() {
    answers 200 "$plain" '/debug/pprof/threadcreate?debug=1' && cat "$tmp/body" && grep -q '^threadcreate profile: total [1-9]' "$tmp/body" &&
        grep -q 'wr_m_main' "$tmp/body" && lacks_line '^[0-9]* @$' "$tmp/body"
}

command_line_is_shown() {
    answers 200 "$plain" /debug/pprof/cmdline && printf '%s\0leak\00010' "$tmp/by_archive" | cmp - "$tmp/body"
}

addresses_have_names() {
    fetch '/debug/pprof/goroutine?debug=1' && pc=$(sed -n 's/^#	\(0x[0-9a-f]*\)	slow_value.*/\1/p' "$tmp/body" | head -n 1) &&
        answers 200 "$plain" "/debug/pprof/symbol?$pc+0x1+$pc" && cat "$tmp/body" &&
        printf 'num_symbols: 1\n%s slow_value\n%s slow_value\n' "$pc" "$pc" | cmp - "$tmp/body" &&
        answers 200 "$plain" /debug/pprof/symbol -d "$pc" && printf 'num_symbols: 1\n%s slow_value\n' "$pc" | cmp - "$tmp/body" &&
        answers 200 "$plain" /debug/pprof/symbol && [ "$(cat "$tmp/body")" = 'num_symbols: 1' ]
}

bad_parameters_are_answered_as_by_go() {
    says 404 'Unknown profile' /debug/pprof/nonsense &&
        says 404 'Unknown profile' /debug/pprof/heap &&
        says 404 '404 page not found' / &&
        says 404 '404 page not found' /debug &&
        says 400 'invalid value for "seconds" - must be a positive integer' '/debug/pprof/goroutine?seconds=x' &&
        says 400 'invalid value for "seconds" - must be a positive integer' '/debug/pprof/goroutine?seconds=0' &&
        says 400 'invalid value for "seconds" - must be a positive integer' '/debug/pprof/goroutine?seconds=-1' &&
        says 400 'invalid value for "seconds" - must be a positive integer' '/debug/pprof/goroutine?seconds=99999999999999999999' &&
        says 400 'seconds and debug params are incompatible' '/debug/pprof/goroutine?seconds=1&debug=1' &&
        says 405 'Method Not Allowed' /debug/pprof/goroutine -X POST && grep -q -i -x 'allow: GET, HEAD' "$tmp/headers" &&
        says 405 'Method Not Allowed' /debug/pprof/goroutine -X DELETE &&
        grep -q -i -x 'x-go-pprof: 1' "$tmp/headers" &&
        answers 200 application/octet-stream '/debug/pprof/goroutine?debug=nonsense' &&
        answers 200 "$plain" '/debug/pprof/goroutine?debug=99999999999999999999' && grep -q '^goroutine 1 ' "$tmp/body" &&
        answers 301 'text/html; charset=utf-8' /debug/pprof && grep -q -i -x 'location: /debug/pprof/' "$tmp/headers"
}

profiles_are_files_that_are_gzipped() {
    answers 200 application/octet-stream /debug/pprof/goroutine --compressed &&
        grep -q -i -x 'content-disposition: attachment; filename="goroutine"' "$tmp/headers" && lacks_line -i 'content-encoding' "$tmp/headers" &&
        gzip -t <"$tmp/body" &&
        answers 200 application/octet-stream '/debug/pprof/goroutine?seconds=1' &&
        grep -q -i -x 'content-disposition: attachment; filename="goroutine-delta"' "$tmp/headers" && gzip -t <"$tmp/body"
}

# A HEAD makes no proof, waits for nothing, and has no body.
head_has_no_body() {
    for path in /debug/pprof/ /debug/pprof/goroutine '/debug/pprof/goroutine?debug=2' '/debug/pprof/goroutineleak?debug=1' /debug/pprof/cmdline \
        '/debug/pprof/profile?seconds=1000' '/debug/pprof/goroutine?seconds=1000'; do
        fetch "$path" -I || return 1
        head -n 1 "$tmp/headers" | grep -q ' 200 ' || { echo "$path"; cat "$tmp/headers"; return 1; }
    done
    fetch '/debug/pprof/nonsense' -I && head -n 1 "$tmp/headers" | grep -q ' 404 '
}

# Two requests, one connection.
connections_are_kept() {
    curl -sS -v --max-time 60 "$url/debug/pprof/cmdline" "$url/debug/pprof/goroutine?debug=2" "$url/debug/pprof/goroutine" -o /dev/null -o /dev/null \
        -o /dev/null 2>"$tmp/verbose" || return 1
    [ "$(grep -c -i 're-using existing connection' "$tmp/verbose")" = 2 ] || { cat "$tmp/verbose"; return 1; }
}

# ---- What is recorded only if it is asked for

contention() {
    start "$tmp/by_library" contend 4 && until_it contended && cat "$tmp/body" &&
        head -n 2 "$tmp/body" | tail -n 1 | grep -q -x 'cycles/second=1000000000' &&
        grep -q '^[1-9][0-9]* [1-9][0-9]* @ 0x' "$tmp/body" && fetch /debug/pprof/mutex && cp "$tmp/body" "$tmp/mutex.pb.gz" &&
        fetch '/debug/pprof/block?seconds=1' && cp "$tmp/body" "$tmp/block.pb.gz" && fetch '/debug/pprof/mutex?debug=1' &&
        head -n 3 "$tmp/body" | tail -n 1 | grep -q -x 'sampling period=1' && fetch /debug/pprof/ && cat "$tmp/body" &&
        grep -q "<td>[1-9][0-9]*</td><td><a href='block?debug=1'>" "$tmp/body"
}
contended() {
    fetch '/debug/pprof/mutex?debug=1' && head -n 1 "$tmp/body" | grep -q -x -e '--- mutex:' && grep -q weir_mutex_unlock "$tmp/body" &&
        fetch '/debug/pprof/block?debug=1' && head -n 1 "$tmp/body" | grep -q -x -e '--- contention:' && grep -q weir_mutex_lock "$tmp/body"
}
# While one is being taken there is no other.
one_cpu_profile() {
    first=
    until_it refused
    status=$?
    kill $first
    wait $first
    [ $status = 0 ] && until_it gone
}
# The long one may come second, and is the one that is refused; then it is begun anew.
refused() {
    [ -n "$first" ] && kill -0 $first 2>/dev/null || { curl -sS -o "$tmp/first" "$url/debug/pprof/profile?seconds=1000" & first=$!; }
    fetch '/debug/pprof/profile?seconds=1' && grep -q -x 'Could not enable CPU profiling: cpu profiling already in use' "$tmp/body"
}
gone() { fetch '/debug/pprof/profile?seconds=1' && gzip -t <"$tmp/body"; }

# ---- Programs in trouble, programs of each kind

# Who computes has a tenth of a second to answer.
all_are_dumped() {
    curl -sS --max-time 60 "$url/debug/pprof/goroutine?debug=2" >"$tmp/each" && [ "$(grep -c "$1" "$tmp/each")" -ge 8 ]
}
all_stuck() {
    start env WEIR_PROCS=2 "$tmp/by_library" "$1" 8 && { until_it all_are_dumped "$2" || { cat "$tmp/each"; return 1; }; } &&
        fetch '/debug/pprof/goroutine' && fetch '/debug/pprof/' && end_program
}

shared_library() {
    start "$tmp/by_library" leak 10 && goroutines_are_counted_by_stack && fetch /debug/pprof/goroutineleak &&
        [ "$(grep -c 'libweir\.so' /proc/$pid/maps)" -gt 0 ]
}
one_core() {
    start "$tmp/by_archive" leak 10 && grep -q 'libweir-debug\.so' /proc/$pid/maps && lacks_line 'libweir\.so' /proc/$pid/maps
}

# 100,000: in text by stack, and each of them without growing.
resident() { sed -n 's/^VmRSS:[^0-9]*\([0-9]*\) kB/\1/p' "/proc/$pid/status"; }
many() {
    start "$tmp/by_archive" many 100000 || return 1
    curl -sS --max-time 100 -o "$tmp/body" -w '%{time_total} s\n' "$url/debug/pprof/goroutine?debug=1" || return 1
    grep -q '^100000 @' "$tmp/body" || return 1
    before=$(resident) # names are known by now
    curl -sS --max-time 100 -o "$tmp/body" -w '%{time_total} s, %{size_download} bytes\n' "$url/debug/pprof/goroutine?debug=2" || return 1
    [ "$(grep -c '^goroutine [0-9]* \[chan receive' "$tmp/body")" = 100000 ] || return 1
    after=$(resident)
    echo "$before KiB, then $after KiB; the dump is $(wc -c <"$tmp/body") bytes"
    [ $((after - before)) -lt 8192 ]
}

says_why_not() {
    listen_at=nonsense
    start "$tmp/by_archive" leak 1
    unset listen_at
    cat "$tmp/err"
    grep -q 'WEIR_DEBUG_ADDR=nonsense: not an address and a port' "$tmp/err" && end_program || return 1
    LD_LIBRARY_PATH=/nonexistent
    start "$tmp/by_archive" leak 1
    LD_LIBRARY_PATH=$WEIR_BUILD
    cat "$tmp/err"
    grep -q 'WEIR_DEBUG_ADDR: there is no debug server, since libweir-debug cannot be loaded: ' "$tmp/err" || ldconfig -p | grep -q libweir-debug
}

few_left() { fetch '/debug/pprof/goroutine?debug=1' && head -n 1 "$tmp/body" | grep -q 'total [2-4]$'; }
healing() {
    start env WEIR_DEBUG_HEAL=1 "$tmp/by_archive" leak 10 && fetch '/debug/pprof/goroutineleak?heal=1' -X POST && cat "$tmp/body" &&
        grep -q '^\([89]\|10\) leaked, \([89]\|10\) healed$' "$tmp/body" && until_it few_left
}

check debugged_program_builds builds
check debug_server_by_environment start "$tmp/by_archive" leak 10
check goroutines_one_by_one each_goroutine_is_dumped
check goroutines_by_stack goroutines_are_counted_by_stack
check leaked_goroutines_by_stack_and_one_by_one leaked_goroutines_are_shown
check threads_by_what_they_run threads_are_counted
check command_line_with_zero_bytes command_line_is_shown
check symbols_by_get_and_post addresses_have_names
check bad_parameters_and_unknown_names bad_parameters_are_answered_as_by_go
check profiles_are_gzipped_files profiles_are_files_that_are_gzipped
check head_of_every_page head_has_no_body
check connections_are_used_again connections_are_kept
check index_counts_and_last_proof index_has_counts
check stuck_in_endless_loops all_stuck stuck endless_loop
check stuck_in_system_calls all_stuck syscalls '\[syscall\]'
check unchanged_program_with_the_shared_library shared_library
check unchanged_program_has_one_core one_core
check a_hundred_thousand_goroutines many
check why_there_is_no_server says_why_not
check healing_by_post healing
check block_and_mutex_profiles contention
check one_cpu_profile_at_a_time one_cpu_profile
end_program
finish
