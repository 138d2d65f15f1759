# For scripts that look into a program by the debug server, after script.sh: starts one that prints "ready" and goes on until its
# standard input ends, and fetches from it. Builds test/programs/debugged.c, which is such a one, as $tmp/by_archive and $tmp/by_library.

no_proxy='*'
LD_LIBRARY_PATH=$WEIR_BUILD
export no_proxy LD_LIBRARY_PATH

pid=
end_program() {
    [ -z "$pid" ] || { exec 9>&-; kill -KILL $pid 2>/dev/null; wait $pid 2>/dev/null; }
    pid=
}
trap 'end_program; rm -rf "$tmp"' EXIT

lacks_line() { ! grep -q -e "$1" "$2"; }

# All is linked at the start: whoever looks up a name at its first call has all that is in vector registers on its stack meanwhile, old
# handles too, and a proof may come just then.
builds() {
    $CC -O1 -g -D_GNU_SOURCE -Wl,-z,now -I"$WEIR_SRC/include" "$WEIR_SRC/test/programs/debugged.c" "$WEIR_BUILD/libweir.a" $libs \
        -o "$tmp/by_archive" &&
        $CC -O1 -g -D_GNU_SOURCE -Wl,-z,now -I"$WEIR_SRC/include" "$WEIR_SRC/test/programs/debugged.c" -L"$WEIR_BUILD" -lweir -o "$tmp/by_library"
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
