#!/bin/sh
# The examples that are servers: what they say, what they serve to many at once, and how they end.
set -u
. "$WEIR_SRC/test/support/script.sh"
examples=$WEIR_BUILD/examples
if ! command -v python3 >/dev/null; then
    skip servers 'needs python3'
    finish
fi
started=
# shellcheck disable=SC2086 # a list of processes
trap '[ -z "$started" ] || kill -9 $started 2>/dev/null; rm -rf "$tmp"' EXIT

# serve PROGRAM ARGUMENT…: started on a free port; then $pid, $port, and what it says is in $tmp/out and $tmp/err.
serve() {
    program=$1
    shift
    : >"$tmp/out"
    "$examples/$program" --listen 127.0.0.1:0 "$@" >"$tmp/out" 2>"$tmp/err" &
    pid=$!
    started="$started $pid"
    until_it grep -q '' "$tmp/out" || return 1
    port=$(sed -n "s/^$program: listening on 127.0.0.1://p" "$tmp/out")
    [ -n "$port" ]
}

# served N: it ends, with status 0 and that count. What it said is shown.
ended() { ! kill -0 $pid; }
served() {
    until_it ended || echo 'still running'
    kill -9 $pid 2>/dev/null
    wait $pid
    got=$?
    has_ended $pid
    cat "$tmp/out" "$tmp/err"
    [ $got = 0 ] && [ "$(tail -n 1 "$tmp/out")" = "$program: $1 connections served" ]
}

# end N: after a SIGTERM.
end() {
    kill -TERM $pid
    served "$1"
}

# ask NAME ARGUMENT…: a client of those below. When it ends by an error, so does the test.
ask() {
    timeout 60 python3 "$tmp/client.py" "$@"
}
cat >"$tmp/client.py" <<'END'
import os, re, signal, socket, struct, sys, threading, time

def connect(port):
    s = socket.create_connection(('127.0.0.1', int(port)), timeout=20)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return s

def read(s, n):
    """n bytes, or fewer if the end comes."""
    got = bytearray()
    while len(got) < n:
        piece = s.recv(min(n - len(got), 1 << 16))
        if not piece: break
        got += piece
    return bytes(got)

def rest(s): return read(s, 1 << 40)

def refused(port):
    """Nobody listens there any more. (To try would be a connection that counts.)"""
    with open('/proc/net/tcp') as f: return ':%04X 00000000:0000 0A ' % int(port) not in f.read()

def accepted(port):
    """Nobody waits to be, where it listens."""
    with open('/proc/net/tcp') as f: return re.search(':%04X 00000000:0000 0A 0+:0+ ' % int(port), f.read())

def until(true):
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)

def all_at_once(n, f):
    failed = []
    def run(i):
        try: f(i)
        except BaseException as e: failed.append(repr(e))
    threads = [threading.Thread(target=run, args=(i,)) for i in range(n)]
    for t in threads: t.start()
    for t in threads: t.join()
    assert not failed, failed[:3]

def exchange(s, data):
    """Sent in one thread and read in this one, to the end: what came back."""
    def send():
        s.sendall(data)
        s.shutdown(socket.SHUT_WR)
    t = threading.Thread(target=send)
    t.start()
    got = rest(s)
    t.join()
    return got

# ---- For servers that echo

def echoes(port, size):
    data = os.urandom(int(size))
    assert exchange(connect(port), data) == data

def echoes_many(port, n):
    n = int(n)
    everybody = threading.Barrier(n, timeout=20)
    def one(i):
        s = connect(port)
        everybody.wait() # all are connected
        for turn in range(20):
            s.sendall(b'%d:%d\n' % (i, turn))
            assert read(s, len(b'%d:%d\n' % (i, turn))) == b'%d:%d\n' % (i, turn)
        data = os.urandom(100000)
        assert exchange(s, data) == data
    all_at_once(n, one)

def goes_on_after(port, pid):
    """An exchange goes on after the signal, while nobody else is let in."""
    s = connect(port)
    s.sendall(b'before')
    assert read(s, 6) == b'before'
    os.kill(int(pid), signal.SIGTERM)
    until(lambda: refused(port))
    for i in range(10):
        s.sendall(b'after')
        assert read(s, 5) == b'after'
        time.sleep(0.02)
    s.close()

# ---- For all

def stays(port, pid, signals):
    """Connected when the signals come, one after the other; then the server is to close, soon."""
    s = connect(port)
    s.sendall(b'G') # the beginning of a name, or of a request
    until(lambda: accepted(port))
    start = time.monotonic()
    for i in range(int(signals)):
        os.kill(int(pid), signal.SIGTERM)
        until(lambda: refused(port))
    try: rest(s)
    except ConnectionResetError: pass
    took = time.monotonic() - start
    print('%.2f s' % took)
    assert took < 5

# ---- chat

class Client:
    def __init__(self, port, name, room=[]):
        self.s = connect(port)
        self.lines = self.s.makefile('r', newline='\n')
        assert self.hear() == 'What is your name?'
        self.say(name)
        for one in [self, *room]: # who has heard of itself hears of those who come later
            assert one.hear() == name.rstrip('\r') + ' is here'
    def say(self, line): self.s.sendall((line + '\n').encode())
    def hear(self): return self.lines.readline().rstrip('\n')
    def hears_nothing(self):
        self.s.settimeout(0.2)
        try: return not self.s.recv(1)
        except TimeoutError: return True
        finally: self.s.settimeout(20)

def chat_three(port):
    a = Client(port, 'Ada')
    b = Client(port, 'Bob', [a])
    c = Client(port, 'Cyd\r', [a, b]) # as telnet sends it
    a.say('hello'), b.say('hi'), c.say('')
    heard = lambda who, n: sorted(who.hear() for _ in range(n))
    assert heard(a, 2) == ['Bob: hi', 'Cyd: ']
    assert heard(b, 2) == ['Ada: hello', 'Cyd: ']
    assert heard(c, 2) == ['Ada: hello', 'Bob: hi']
    b.s.sendall(b'in two'); time.sleep(0.05); b.s.sendall(b' pieces\nand two\n')
    assert [a.hear(), a.hear()] == [c.hear(), c.hear()] == ['Bob: in two pieces', 'Bob: and two']
    a.s.close(), a.lines.close()
    assert b.hear() == c.hear() == 'Ada has left'
    b.s.shutdown(socket.SHUT_WR)
    assert c.hear() == 'Bob has left' and b.hear() == '' # the end
    assert c.hears_nothing()

def chat_long_line(port):
    a = Client(port, 'Ada')
    b = Client(port, 'Bob', [a])
    b.say('x' * 900)
    assert a.hear() == 'Bob: ' + 'x' * 900
    b.say('x' * 2000)
    assert a.hear() == 'Bob has left'

def chat_nameless(port):
    a = Client(port, 'Ada')
    s = connect(port)
    s.sendall(b'\n')
    assert rest(s) == b'What is your name?\n'
    assert a.hears_nothing()

def chat_stuck(port):
    """One that does not read. The others hear all in its stead, in time, and then that it has left."""
    a = Client(port, 'Ada')
    b = Client(port, 'Bob', [a])
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    s.connect(('127.0.0.1', int(port)))
    s.sendall(b'Stuck\n')
    assert a.hear() == b.hear() == 'Stuck is here'
    slowest = said = 0
    while True:
        for i in range(20): a.say('%d %s' % (said + i, 'x' * 900))
        start = time.monotonic()
        i = 0
        while i < 20:
            line = b.hear()
            if line == 'Stuck has left': break
            assert line == 'Ada: %d %s' % (said, 'x' * 900), line[:30]
            said, i = said + 1, i + 1
        slowest = max(slowest, time.monotonic() - start)
        if i < 20: break
        assert said < 20000
    print('put out after %d lines; the others waited %.3f s at most' % (said, slowest))
    assert slowest < 2 and a.hear() == 'Stuck has left'

def chat_goes_on_after(port, pid):
    a = Client(port, 'Ada')
    b = Client(port, 'Bob', [a])
    os.kill(int(pid), signal.SIGTERM)
    until(lambda: refused(port))
    a.say('are you there?')
    assert b.hear() == 'Ada: are you there?'
    b.say('yes')
    assert a.hear() == 'Bob: yes'
    b.s.shutdown(socket.SHUT_WR)
    assert a.hear() == 'Bob has left'

def chat_crowd(port, n):
    """Each hears every other."""
    n, crowd = int(n), []
    for i in range(n): crowd.append(Client(port, 'c%d' % i, crowd))
    for c in crowd: c.say('hello')
    all_at_once(n, lambda i: [crowd[i].hear() for _ in range(n - 1)])
    assert all(c.hears_nothing() for c in crowd[:3])

# ---- proxy

def listener():
    s = socket.create_server(('127.0.0.1', 0), backlog=128)
    s.settimeout(20)
    return s

# The proxy is started by the test, before the target: so its port comes from a file.
def target(path):
    s = listener()
    with open(path + '.new', 'w') as f: f.write(str(s.getsockname()[1]))
    os.rename(path + '.new', path)
    return s

def proxy_port(path):
    until(lambda: os.path.exists(path))
    return open(path).read()

def proxy_half_close(at, proxy):
    t = target(at)
    c = connect(proxy_port(proxy))
    s = t.accept()[0]
    c.sendall(b'question'), c.shutdown(socket.SHUT_WR)
    assert rest(s) == b'question' # and the end
    time.sleep(0.1)
    s.sendall(b'answer')
    assert read(c, 6) == b'answer'
    s.close()
    assert rest(c) == b''
    c = connect(proxy_port(proxy)) # the other way
    s = t.accept()[0]
    s.sendall(b'greeting'), s.shutdown(socket.SHUT_WR)
    assert rest(c) == b'greeting'
    c.sendall(b'thanks')
    assert read(s, 6) == b'thanks'
    c.close()
    assert rest(s) == b''

def proxy_break(at, proxy):
    """What has sent something and then breaks takes the other with it, though that neither sends nor ends."""
    t = target(at)
    others = []
    for who in 0, 1:
        c = connect(proxy_port(proxy))
        s = t.accept()[0]
        breaks, other = (c, s) if who == 0 else (s, c)
        breaks.sendall(b'something')
        assert read(other, 9) == b'something'
        breaks.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
        breaks.close() # by a reset
        assert rest(other) == b''
        others.append(other)
    os.unlink(at) # the proxy is to end while they are open
    until(lambda: os.path.exists(at))

def proxy_closed(port):
    try: assert rest(connect(port)) == b''
    except ConnectionResetError: pass

# ---- hello

def http(s, n=1):
    """n answers: (status, body)."""
    f = s.makefile('rb')
    out = []
    for _ in range(n):
        status = int(f.readline().split()[1])
        length = 0
        while (line := f.readline().strip()):
            if line.lower().startswith(b'content-length:'): length = int(line.split(b':')[1])
        out.append((status, f.read(length)))
    return out

GET = b'GET / HTTP/1.1\r\nHost: x\r\n\r\n'

def hello_slow(port):
    """One that sends a byte now and then; another is answered meanwhile."""
    slow, quick = connect(port), connect(port)
    for i in range(len(GET)):
        slow.sendall(GET[i:i + 1])
        quick.sendall(GET)
        assert http(quick) == [(200, b'Hello, world!\n')]
        time.sleep(0.05)
    assert http(slow) == [(200, b'Hello, world!\n')]

def hello_crowd(port, n):
    def one(i):
        s = connect(port)
        for _ in range(10):
            s.sendall(GET)
            assert http(s) == [(200, b'Hello, world!\n')]
        s.sendall(GET * 50) # ahead
        assert http(s, 50) == [(200, b'Hello, world!\n')] * 50
    all_at_once(int(n), one)

def hello_silent(port):
    """Put out, whether it has said nothing, or something before."""
    silent, spoke = connect(port), connect(port)
    spoke.sendall(GET)
    assert http(spoke) == [(200, b'Hello, world!\n')]
    assert rest(silent) == b'' and rest(spoke) == b''

def hello_much_nonsense(port):
    """More than the server reads: it is answered all the same, and the connection closed."""
    s = connect(port)
    try: s.sendall(b'nonsense ' * 100000)
    except (ConnectionResetError, BrokenPipeError): pass
    assert rest(s).startswith(b'HTTP/1.1 400 ')

def hello_goes_on_after(port, pid):
    s = connect(port)
    s.sendall(GET[:10])
    until(lambda: accepted(port))
    os.kill(int(pid), signal.SIGTERM)
    until(lambda: refused(port))
    s.sendall(GET[10:])
    assert http(s) == [(200, b'Hello, world!\n')]

globals()[sys.argv[1]](*sys.argv[2:])
END

# ---- What holds for all of them ------------------------------------------------------------------------

# The arguments that a server needs besides options.
operand_of() {
    [ "$1" = proxy ] && echo 127.0.0.1:1
}

explains_itself() {
    "$examples/$1" --help >"$tmp/out" 2>"$tmp/err" && grep -q "^usage: $1 \[OPTION\]" "$tmp/out" && [ ! -s "$tmp/err" ]
}

rejects() {
    "$examples/$@" >"$tmp/out" 2>"$tmp/err"
    got=$?
    cat "$tmp/err"
    [ $got = 2 ] && [ ! -s "$tmp/out" ] && [ -s "$tmp/err" ]
}

rejects_wrong_arguments() {
    [ "$1" != proxy ] || rejects proxy || return 1
    rejects "$1" --wrong && rejects "$1" --grace soon && rejects "$1" --grace -1 && rejects "$1" --listen && rejects "$1" a b
}

# cannot_listen PROGRAM ADDRESS WHY
cannot_listen() {
    # shellcheck disable=SC2046 # nothing, or one word
    "$examples/$1" -l "$2" $(operand_of "$1") >"$tmp/out2" 2>"$tmp/err2"
    got=$?
    cat "$tmp/err2"
    [ $got = 1 ] && [ ! -s "$tmp/out2" ] && [ "$(cat "$tmp/err2")" = "$1: cannot listen on $2: $3" ]
}

address_in_use() {
    # shellcheck disable=SC2046
    serve "$1" $(operand_of "$1") && cannot_listen "$1" "127.0.0.1:$port" 'Address already in use' &&
        cannot_listen "$1" nowhere 'Invalid argument' && end 0
}

# Nobody is there: it need not wait.
ends_when_idle() {
    # shellcheck disable=SC2046
    serve "$1" $(operand_of "$1") && end 0
}

# A target for the proxy, that echoes: on $echo, by $echo_pid.
serve_target() {
    serve echo && echo_pid=$pid echo=127.0.0.1:$port
}
end_target() {
    kill -TERM "$echo_pid" && wait "$echo_pid" && has_ended "$echo_pid" # or what it says last comes amid what the next one says
}

# lasting PROGRAM OPTION…: served so that a connection to it does not end by itself.
lasting() {
    case $1 in
    proxy) serve_target && serve "$@" "$echo" ;;
    *) serve "$@" ;;
    esac
}

# At the end of the grace period; or at a second signal, though that period is long.
grace_ends() { lasting "$1" --grace 0.3 && ask stays "$port" $pid 1 && served 1; }
second_signal() { lasting "$1" --grace 1000 && ask stays "$port" $pid 2 && served 1; }

servers='echo chat proxy'
if [ -x "$examples/hello" ]; then servers="$servers hello"
else skip hello 'built without http-parser'; fi
for server in $servers; do
    check ${server}_explains_itself explains_itself $server
    check ${server}_rejects_wrong_arguments rejects_wrong_arguments $server
    check ${server}_says_that_its_address_is_in_use address_in_use $server
    check ${server}_ends_when_idle ends_when_idle $server
done

check echo_cuts_off_after_the_grace_period grace_ends echo
check chat_cuts_off_after_the_grace_period grace_ends chat
check proxy_cuts_off_after_the_grace_period grace_ends proxy
check echo_ends_at_once_on_a_second_signal second_signal echo
check chat_ends_at_once_on_a_second_signal second_signal chat
check proxy_ends_at_once_on_a_second_signal second_signal proxy

# ---- echo ----------------------------------------------------------------------------------------------

socat_echo() {
    awk 'BEGIN { for (i = 0; i < 200000; i++) print i, i * i % 9973 }' >"$tmp/much"
    serve echo && timeout 60 socat -t 20 - "TCP4:127.0.0.1:$port" <"$tmp/much" >"$tmp/back" && cmp "$tmp/much" "$tmp/back" && end 1
}
echo_much() { serve echo && ask echoes "$port" 20000000 && end 1; }
echo_hundred() { serve echo && ask echoes_many "$port" 100 && end 100; }
echo_goes_on() { serve echo --grace 60 && ask goes_on_after "$port" $pid && served 1; }

if command -v socat >/dev/null; then check echo_with_socat socat_echo
else skip echo_with_socat 'socat is not installed'; fi
check echo_gives_back_twenty_megabytes echo_much
check echo_serves_a_hundred_at_once echo_hundred
check echo_finishes_what_it_has_begun echo_goes_on

# ---- chat ----------------------------------------------------------------------------------------------

chat_case() { serve chat && ask "chat_$1" "$port" && end "$2"; }
chat_goes_on() { serve chat --grace 60 && ask chat_goes_on_after "$port" $pid && served 2; }
chat_crowd() { serve chat && ask chat_crowd "$port" 50 && end 50; }

check chat_passes_lines_to_all_others chat_case three 3
check chat_puts_out_who_sends_too_long_a_line chat_case long_line 2
check chat_lets_nobody_in_without_a_name chat_case nameless 2
check chat_puts_out_who_does_not_read chat_case stuck 3
check chat_with_fifty chat_crowd
check chat_finishes_what_it_has_begun chat_goes_on

# ---- proxy ---------------------------------------------------------------------------------------------

# before_echo NAME ARGUMENT…: a client that wants an echo gets it through the proxy.
before_echo() {
    wanted=$1
    shift
    serve_target && serve proxy "$echo" && ask "$wanted" "$port" "$@" && end "$connections" && end_target
}
proxy_echoes() { connections=1 before_echo echoes 20000000; }
proxy_fifty() { connections=50 before_echo echoes_many 50; }
proxy_goes_on() { serve_target && serve proxy --grace 60 "$echo" && ask goes_on_after "$port" $pid && served 1 && end_target; }

# before_client NAME N: what listens is the client itself.
before_client() {
    rm -f "$tmp/target" "$tmp/proxy"
    ask "$1" "$tmp/target" "$tmp/proxy" &
    client=$!
    until_it test -e "$tmp/target" && serve proxy "127.0.0.1:$(cat "$tmp/target")" && echo "$port" >"$tmp/proxy.new" &&
        mv "$tmp/proxy.new" "$tmp/proxy" && wait $client && end "$2"
}
broken() {
    rm -f "$tmp/target" "$tmp/proxy"
    ask proxy_break "$tmp/target" "$tmp/proxy" &
    client=$!
    until_it test -e "$tmp/target" && serve proxy -g 1000 "127.0.0.1:$(cat "$tmp/target")" && echo "$port" >"$tmp/proxy.new" &&
        mv "$tmp/proxy.new" "$tmp/proxy" && until_it test ! -e "$tmp/target" && end 2 && touch "$tmp/target" && wait $client
}

dead_target() {
    serve proxy 127.0.0.1:1 && ask proxy_closed "$port" && end 1 && [ "$(cat "$tmp/err")" = 'proxy: 127.0.0.1:1: Connection refused' ]
}

before_nginx() {
    mkdir -p "$tmp/site" "$tmp/temp" && head -c 5000000 /dev/urandom >"$tmp/site/big"
    nginx_answers_or_has_ended() { curl -sf -o "$tmp/null" --noproxy '*' "http://127.0.0.1:$nginx_port/big" || ! kill -0 $nginx; }
    for _ in 1 2 3; do # between our look and nginx's somebody may take the port
        nginx_port=$(python3 -c 'import socket; print(socket.create_server(("127.0.0.1", 0)).getsockname()[1])')
        cat >"$tmp/nginx.conf" <<END
user $(id -un) $(id -gn);
daemon off;
worker_processes 1;
pid $tmp/nginx.pid;
error_log $tmp/error.log;
events { worker_connections 256; }
http {
    access_log off;
    client_body_temp_path $tmp/temp; proxy_temp_path $tmp/temp; fastcgi_temp_path $tmp/temp;
    uwsgi_temp_path $tmp/temp; scgi_temp_path $tmp/temp;
    server { listen 127.0.0.1:$nginx_port; root $tmp/site; }
}
END
        PATH=$PATH:/usr/sbin nginx -c "$tmp/nginx.conf" -e "$tmp/error.log" -p "$tmp" >"$tmp/nginx.out" 2>&1 &
        nginx=$!
        started="$started $nginx"
        until_it nginx_answers_or_has_ended && kill -0 $nginx && break
    done
    serve proxy "127.0.0.1:$nginx_port" &&
        curl -sS --noproxy '*' -o "$tmp/one" -o "$tmp/two" "http://127.0.0.1:$port/big" "http://127.0.0.1:$port/big" &&
        cmp "$tmp/site/big" "$tmp/one" && cmp "$tmp/site/big" "$tmp/two" && end 1
    result=$?
    kill $nginx && wait $nginx
    return $result
}

check proxy_before_echo proxy_echoes
check proxy_passes_fifty_at_once proxy_fifty
check proxy_passes_half_close_both_ways before_client proxy_half_close 2
check proxy_breaks_one_side_when_the_other_breaks broken
check proxy_says_that_its_target_is_dead dead_target
check proxy_finishes_what_it_has_begun proxy_goes_on
if command -v curl >/dev/null && PATH=$PATH:/usr/sbin command -v nginx >/dev/null; then check proxy_before_nginx before_nginx
else skip proxy_before_nginx 'needs nginx and curl'; fi

# ---- hello ---------------------------------------------------------------------------------------------

hello_case() { serve hello && ask "$1" "$port" && end "$2"; }
hello_crowd() { serve hello && ask hello_crowd "$port" 50 && end 50; }
hello_silent() { serve hello --idle 1 && ask hello_silent "$port" && end 2; }
hello_patient() { serve hello --idle 0 && ask hello_slow "$port" && end 2; }
hello_goes_on() { serve hello --grace 60 && ask hello_goes_on_after "$port" $pid && served 1; }

# By curl: the answers, and that one connection serves for all.
curl_hello() {
    serve hello || return 1
    at=http://127.0.0.1:$port
    format='%{http_code} %{num_connects}\n'
    curl -sS --noproxy '*' -w "$format" $at/ $at/ $at/nothing >"$tmp/got" &&
        curl -sS --noproxy '*' -w "$format" -d data $at/ >>"$tmp/got" &&
        curl -sS --noproxy '*' -w "$format" -I $at/ >"$tmp/head" && cat "$tmp/got" "$tmp/head" &&
        printf '%s\n' 'Hello, world!' '200 1' 'Hello, world!' '200 0' 'There is only / here.' '404 0' 'Only GET and HEAD here.' '405 1' |
        cmp - "$tmp/got" && grep -q '^Content-Length: 14' "$tmp/head" && [ "$(tail -n 1 "$tmp/head")" = '200 1' ] && end 3
}

# Requests sent ahead by those who say no more after them.
ncat_hello() {
    serve hello && for i in $(seq 100); do printf 'GET / HTTP/1.1\r\nHost: x\r\n\r\n'; done |
        timeout 20 ncat 127.0.0.1 "$port" >"$tmp/got" && [ "$(grep -c '^Hello, world!$' "$tmp/got")" = 100 ] &&
        printf 'GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\nGET / HTTP/1.1\r\n' | timeout 20 ncat 127.0.0.1 "$port" >"$tmp/got" &&
        [ "$(grep -c '^Hello, world!$' "$tmp/got")" = 1 ] && end 2
}

# Nonsense is told so, after the answers to what was not.
malformed() {
    serve hello && printf 'GET / HTTP/1.1\r\nHost: x\r\n\r\nnonsense\r\n\r\n' | timeout 20 ncat 127.0.0.1 "$port" >"$tmp/got" &&
        cat "$tmp/got" && grep '^HTTP' "$tmp/got" | tr -d '\r' >"$tmp/statuses" &&
        printf 'HTTP/1.1 200 OK\nHTTP/1.1 400 Bad Request\n' | cmp - "$tmp/statuses" && end 1
}

if [ -x "$examples/hello" ]; then
    check hello_cuts_off_after_the_grace_period grace_ends hello
    check hello_ends_at_once_on_a_second_signal second_signal hello
    check hello_puts_out_who_says_nothing hello_silent
    check hello_waits_for_ever_if_told_to hello_patient
    if command -v curl >/dev/null; then check hello_with_curl curl_hello
    else skip hello_with_curl 'curl is not installed'; fi
    if command -v ncat >/dev/null; then
        check hello_answers_what_is_sent_ahead ncat_hello
        check hello_refuses_nonsense malformed
    else
        skip hello_with_ncat 'ncat is not installed'
    fi
    check hello_refuses_much_nonsense hello_case hello_much_nonsense 1
    check hello_is_patient_with_the_slow hello_case hello_slow 2
    check hello_serves_fifty_at_once hello_crowd
    check hello_finishes_what_it_has_begun hello_goes_on
fi
finish
