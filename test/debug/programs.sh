#!/bin/sh
# The debug server of programs that know nothing of it (WEIR_DEBUG_ADDR), by the tools that people have: curl, go tool pprof, goleak's
# parser.
set -u
. "$WEIR_SRC/test/support/script.sh"
no_proxy='*'
LD_LIBRARY_PATH=$WEIR_BUILD
# No telemetry, no profile of a test kept at home.
PPROF_TMPDIR=$tmp/pprof
HOME=$tmp/home
GOFLAGS=-mod=mod
GOTOOLCHAIN=local
modules=$(go env GOMODCACHE 2>/dev/null)
cache=$(go env GOCACHE 2>/dev/null)
[ -z "$modules" ] || export GOMODCACHE="$modules" GOCACHE="$cache"
export no_proxy LD_LIBRARY_PATH PPROF_TMPDIR HOME GOFLAGS GOTOOLCHAIN
mkdir -p "$tmp/home" "$tmp/pprof" "$tmp/away"

pid=
end_program() {
    [ -z "$pid" ] || { exec 9>&-; kill -KILL $pid 2>/dev/null; wait $pid 2>/dev/null; }
    pid=
}
trap 'end_program; rm -rf "$tmp"' EXIT

lacks_line() { ! grep -q -e "$1" "$2"; }
libdw=
nm "$WEIR_BUILD/libweir.a" 2>/dev/null | grep -q ' U dwfl_begin$' && libdw=-ldw

builds() {
    $CC -O1 -g -D_GNU_SOURCE -I"$WEIR_SRC/include" "$WEIR_SRC/test/programs/debugged.c" "$WEIR_BUILD/libweir.a" -pthread $libdw \
        -o "$tmp/by_archive" &&
        $CC -O1 -g -D_GNU_SOURCE -I"$WEIR_SRC/include" "$WEIR_SRC/test/programs/debugged.c" -L"$WEIR_BUILD" -lweir -o "$tmp/by_library"
}

# start PROGRAM ARGUMENT…: with the debug server at $url; its standard input stays open until end_program.
start() {
    end_program
    rm -f "$tmp/in" && mkfifo "$tmp/in" && : >"$tmp/out" && : >"$tmp/err"
    WEIR_DEBUG_ADDR=${listen_at-127.0.0.1:0} "$@" <"$tmp/in" >"$tmp/out" 2>"$tmp/err" &
    pid=$!
    exec 9>"$tmp/in"
    until_it grep -q ready "$tmp/out" || { cat "$tmp/err"; return 1; }
    url=http://127.0.0.1:$(sed -n 's/.*listens on port \([0-9]*\)$/\1/p' "$tmp/err")
}

plain='text/plain; charset=utf-8'

# fetch PATH [curl's]: the body is in $tmp/body, the headers in $tmp/headers
fetch() {
    path=$1
    shift
    curl -sS --max-time 60 -D "$tmp/headers" -o "$tmp/body" "$@" "$url$path" || return 1
    tr -d '\r' <"$tmp/headers" >"$tmp/headers.unix" && mv "$tmp/headers.unix" "$tmp/headers"
}
# answers STATUS TYPE PATH [curl's]
answers() {
    status=$1 type=$2
    shift 2
    fetch "$@" || return 1
    head -n 1 "$tmp/headers" | grep -q " $status " && grep -q -i -x "content-type: $type" "$tmp/headers" &&
        grep -q -i -x 'x-content-type-options: nosniff' "$tmp/headers" || { cat "$tmp/headers" "$tmp/body"; return 1; }
}
# says STATUS TEXT PATH [curl's]: an error
says() {
    status=$1 wanted=$2
    shift 2
    answers "$status" "$plain" "$@" && [ "$(cat "$tmp/body")" = "$wanted" ] && return 0
    cat "$tmp/headers" "$tmp/body"
    return 1
}

# ---- By curl

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
        grep -q '<td>\(8\|9\|10\) (proven [0-9]* s ago)</td>' "$tmp/body"
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

# ---- By go tool pprof, with the program's file out of its reach

profile() {
    end_program; start "$tmp/by_archive" leak 10 && fetch '/debug/pprof/goroutine' && cp "$tmp/body" "$tmp/goroutine.pb.gz" &&
        fetch '/debug/pprof/goroutineleak' && cp "$tmp/body" "$tmp/goroutineleak.pb.gz" &&
        fetch '/debug/pprof/threadcreate' && cp "$tmp/body" "$tmp/threadcreate.pb.gz" &&
        end_program && mv "$tmp/by_archive" "$tmp/away/"
}
# pprof WHAT PROFILE: into $tmp/pprof.out; whatever it complains of is a failure
pprof() {
    go tool pprof "$@" >"$tmp/pprof.out" 2>"$tmp/pprof.err" || { cat "$tmp/pprof.err"; return 1; }
    cat "$tmp/pprof.out" "$tmp/pprof.err"
    [ ! -s "$tmp/pprof.err" ]
}
top_names_functions() {
    pprof -top "$tmp/$1.pb.gz" && grep -q "^Type: $1$" "$tmp/pprof.out" && grep -q '^Build ID: [0-9a-f]' "$tmp/pprof.out" &&
        grep -q ' slow_value$' "$tmp/pprof.out" && grep -q ' weir_chan_send$' "$tmp/pprof.out"
}
list_shows_source() {
    pprof -list slow_value "$tmp/$1.pb.gz" && grep -q 'ROUTINE.* slow_value in .*debugged.c' "$tmp/pprof.out" &&
        grep -q '\(8\|9\|10\) .*int e = weir_chan_send(ch, &value);' "$tmp/pprof.out"
}
peek_shows_callers() {
    pprof -peek slow_value "$tmp/$1.pb.gz" && grep -q 'forgotten_sender' "$tmp/pprof.out"
}
proto_survives_a_round() {
    pprof -proto -output "$tmp/again.pb.gz" "$tmp/$1.pb.gz"
    [ -s "$tmp/again.pb.gz" ] && pprof -raw "$tmp/again.pb.gz" && grep -q 'slow_value' "$tmp/pprof.out"
}
labels_are_there() {
    pprof -tags "$tmp/goroutine.pb.gz" && grep -q 'request: ' "$tmp/pprof.out" && grep -q 'even "quoted"' "$tmp/pprof.out" &&
        grep -q 'name: ' "$tmp/pprof.out"
}
threads_by_pprof() { pprof -top "$tmp/threadcreate.pb.gz" && grep -q 'wr_m_main' "$tmp/pprof.out"; }

# pprof fetches by itself, too, and finds where from.
pprof_fetches() {
    cp "$tmp/away/by_archive" "$tmp/by_archive" && start "$tmp/by_archive" leak 10 && rm "$tmp/by_archive" &&
        go tool pprof -top "$url/debug/pprof/goroutineleak" >"$tmp/pprof.out" 2>"$tmp/pprof.err" && cat "$tmp/pprof.out" &&
        grep -q ' slow_value$' "$tmp/pprof.out" && go tool pprof -top -seconds 1 "$url/debug/pprof/goroutine" >"$tmp/pprof.out" 2>&1 &&
        cat "$tmp/pprof.out" && grep -q '^Duration: 1' "$tmp/pprof.out"
}

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
contention_by_pprof() {
    pprof -top "$tmp/block.pb.gz" && grep -q '^Type: delay$' "$tmp/pprof.out" && grep -q ' weir_mutex_lock$' "$tmp/pprof.out" &&
        pprof -top -sample_index=contentions "$tmp/mutex.pb.gz" && grep -q ' weir_mutex_unlock$' "$tmp/pprof.out"
}
cpu_by_pprof() {
    fetch '/debug/pprof/profile?seconds=3' && cp "$tmp/body" "$tmp/cpu.pb.gz" || return 1
    pprof -top "$tmp/cpu.pb.gz" && grep -q '^Type: cpu$' "$tmp/pprof.out" && grep -q '^Duration: [3-9]' "$tmp/pprof.out" &&
        grep -q ' busy_function$' "$tmp/pprof.out" && pprof -tags "$tmp/cpu.pb.gz" && grep -q 'kind: ' "$tmp/pprof.out" &&
        pprof -list busy_function "$tmp/cpu.pb.gz" && grep -q 'i < 100000' "$tmp/pprof.out"
}
# While one is being taken there is no other.
one_cpu_profile() {
    curl -sS -o "$tmp/first" "$url/debug/pprof/profile?seconds=1000" &
    first=$!
    until_it refused
    status=$?
    kill $first
    wait $first
    [ $status = 0 ] && until_it gone
}
refused() { fetch '/debug/pprof/profile?seconds=1' && grep -q -x 'Could not enable CPU profiling: cpu profiling already in use' "$tmp/body"; }
gone() { fetch '/debug/pprof/profile?seconds=1' && gzip -t <"$tmp/body"; }

# ---- By goleak's parser, which is inside of that module: a copy of its folder with a test of ours

goleak_module() {
    go mod download -json go.uber.org/goleak@v1.3.0 2>/dev/null | sed -n 's/.*"Dir": "\(.*\)".*/\1/p'
}
goleak_reads_the_dump() {
    mkdir -p "$tmp/goleak" && cp "$goleak"/internal/stack/scan.go "$goleak"/internal/stack/stacks.go "$tmp/goleak/" && chmod -R u+w "$tmp/goleak" &&
        cat >"$tmp/goleak/go.mod" <<'END' && cat >"$tmp/goleak/dump_test.go" <<'END2' &&
module stack

go 1.19
END
package stack

import (
	"os"
	"strings"
	"testing"
)

func TestDump(t *testing.T) {
	f, err := os.Open(os.Getenv("DUMP"))
	if err != nil {
		t.Fatal(err)
	}
	stacks, err := newStackParser(f).Parse()
	if err != nil {
		t.Fatal(err)
	}
	senders := 0
	for _, s := range stacks {
		if strings.HasPrefix(s.State(), "chan send") && s.HasFunction("slow_value") && s.FirstFunction() == "weir_chan_send" {
			senders++
		}
	}
	if len(stacks) != 12 || senders != 10 {
		t.Fatalf("%d goroutines, %d senders", len(stacks), senders)
	}
}
END2
        fetch '/debug/pprof/goroutine?debug=2' && cp "$tmp/body" "$tmp/dump" &&
        (cd "$tmp/goleak" && DUMP=$tmp/dump go test ./... 2>&1) && fetch '/debug/pprof/goroutineleak?debug=2' && cp "$tmp/body" "$tmp/dump" &&
        (cd "$tmp/goleak" && DUMP=$tmp/dump go test ./... 2>&1)
}

# ---- Programs in trouble, programs of each kind

all_stuck() {
    start env WEIR_PROCS=2 "$tmp/by_library" "$1" 8 && each=$(curl -sS --max-time 60 "$url/debug/pprof/goroutine?debug=2") && echo "$each" &&
        [ "$(echo "$each" | grep -c "$2")" -ge 8 ] && fetch '/debug/pprof/goroutine' && fetch '/debug/pprof/' && end_program
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
if command -v go >/dev/null && go tool pprof -h >"$tmp/pprof.help" 2>&1 || grep -q -i usage "$tmp/pprof.help"; then
    check profile_for_pprof profile
    check pprof_top_of_goroutine top_names_functions goroutine
    check pprof_list_of_goroutine list_shows_source goroutine
    check pprof_peek_of_goroutine peek_shows_callers goroutine
    check pprof_proto_of_goroutine proto_survives_a_round goroutine
    check pprof_top_of_goroutineleak top_names_functions goroutineleak
    check pprof_list_of_goroutineleak list_shows_source goroutineleak
    check pprof_peek_of_goroutineleak peek_shows_callers goroutineleak
    check pprof_proto_of_goroutineleak proto_survives_a_round goroutineleak
    check pprof_labels labels_are_there
    check pprof_top_of_threads threads_by_pprof
    check pprof_fetches_by_itself pprof_fetches
    goleak=$(goleak_module)
    if [ -n "$goleak" ]; then
        check goleak_parses_the_dump goleak_reads_the_dump
    else
        skip goleak_parses_the_dump 'the module go.uber.org/goleak is not to be had'
    fi
else
    skip go_tool_pprof 'no go here'
    skip goleak_parses_the_dump 'no go here'
fi
check block_and_mutex_profiles contention
if command -v go >/dev/null; then
    check pprof_top_of_block_and_mutex contention_by_pprof
    check pprof_top_list_and_labels_of_cpu cpu_by_pprof
fi
check one_cpu_profile_at_a_time one_cpu_profile
end_program
finish
