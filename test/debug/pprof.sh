#!/bin/sh
# Profiles of the debug server by the tools that people have: go tool pprof, and goleak's parser.
set -u
. "$WEIR_SRC/test/support/script.sh"
. "$WEIR_SRC/test/support/debugged.sh"
if ! command -v go >/dev/null; then
    skip go_tool_pprof 'no go here'
    skip goleak_parses_the_dump 'no go here'
    finish
fi
# No telemetry, and no profile of a test kept at home.
GOMODCACHE=$(go env GOMODCACHE) GOCACHE=$(go env GOCACHE)
PPROF_TMPDIR=$tmp/pprof HOME=$tmp/home GOFLAGS=-mod=mod GOTOOLCHAIN=local
export GOMODCACHE GOCACHE PPROF_TMPDIR HOME GOFLAGS GOTOOLCHAIN
mkdir -p "$tmp/home" "$tmp/pprof" "$tmp/away"

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
# proto_survives_a_round PROFILE FUNCTION
proto_survives_a_round() {
    go tool pprof -proto -output "$tmp/$1.again" "$tmp/$1.pb.gz" 2>&1 && pprof -raw "$tmp/$1.again" && grep -q "$2" "$tmp/pprof.out"
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

recorded() { fetch '/debug/pprof/mutex?debug=1' && grep -q weir_mutex_unlock "$tmp/body"; }
profiles_of_time() {
    start "$tmp/by_library" contend 4 && until_it recorded && fetch /debug/pprof/mutex && cp "$tmp/body" "$tmp/mutex.pb.gz" &&
        fetch '/debug/pprof/block?seconds=1' && cp "$tmp/body" "$tmp/block.pb.gz" &&
        fetch '/debug/pprof/profile?seconds=3' && cp "$tmp/body" "$tmp/cpu.pb.gz" && end_program && mv "$tmp/by_library" "$tmp/away/"
}
# by_pprof PROFILE TYPE FUNCTION CALLER LINE: the caller's source has the line
by_pprof() {
    pprof -top "$tmp/$1.pb.gz" && grep -q "^Type: $2$" "$tmp/pprof.out" && grep -q '^Build ID: [0-9a-f]' "$tmp/pprof.out" &&
        grep -q " $3$" "$tmp/pprof.out" && pprof -list "$4" "$tmp/$1.pb.gz" && grep -q "ROUTINE.* $4 in .*debugged.c" "$tmp/pprof.out" &&
        grep -q "^ .*[0-9]m\{0,1\}s .*$5" "$tmp/pprof.out" && pprof -peek "$3" "$tmp/$1.pb.gz" && grep -q " $4$" "$tmp/pprof.out" &&
        proto_survives_a_round "$1" "$4"
}
counts_and_labels() {
    pprof -top -sample_index=contentions "$tmp/mutex.pb.gz" && grep -q ' weir_mutex_unlock$' "$tmp/pprof.out" &&
        pprof -top "$tmp/cpu.pb.gz" && grep -q '^Duration: [3-9]' "$tmp/pprof.out" && grep -q ' \[by_library\]$' "$tmp/pprof.out" &&
        pprof -tags "$tmp/cpu.pb.gz" && grep -q 'kind: ' "$tmp/pprof.out"
}
# ---- By goleak's parser, which is inside of that module: a copy of its folder with a test of ours

# It wants Go 1.20; Debian 12 has 1.19.
goleak_module() {
    case $(go env GOVERSION) in go1.[0-9] | go1.1[0-9] | go1.[0-9].* | go1.1[0-9].*) return ;; esac
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

check debugged_program_builds builds
check profile_for_pprof profile
check pprof_top_of_goroutine top_names_functions goroutine
check pprof_list_of_goroutine list_shows_source goroutine
check pprof_peek_of_goroutine peek_shows_callers goroutine
check pprof_proto_of_goroutine proto_survives_a_round goroutine slow_value
check pprof_top_of_goroutineleak top_names_functions goroutineleak
check pprof_list_of_goroutineleak list_shows_source goroutineleak
check pprof_peek_of_goroutineleak peek_shows_callers goroutineleak
check pprof_proto_of_goroutineleak proto_survives_a_round goroutineleak slow_value
check pprof_labels labels_are_there
check pprof_top_of_threads threads_by_pprof
check pprof_fetches_by_itself pprof_fetches
goleak=$(goleak_module)
if [ -n "$goleak" ]; then
    check goleak_parses_the_dump goleak_reads_the_dump
else
    skip goleak_parses_the_dump 'it needs Go 1.20 and the module go.uber.org/goleak, from the cache or a proxy'
fi
check profiles_of_time_for_pprof profiles_of_time
check pprof_of_block by_pprof block delay weir_mutex_lock contender 'weir_mutex_lock(&contended);'
check pprof_of_mutex by_pprof mutex delay weir_mutex_unlock contender 'weir_mutex_unlock(&contended);'
check pprof_of_cpu by_pprof cpu cpu busy_function busy 'busy_function(), nameless();'
check pprof_counts_and_labels counts_and_labels
end_program
finish
