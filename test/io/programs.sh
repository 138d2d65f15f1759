#!/bin/sh
# Programs of weir talk to socat and ncat, over TCP, UDP and unix sockets, and look names up at a server of names (dnsmasq) that
# is there for the test alone, in namespaces of its own.
set -u
. "$WEIR_SRC/test/support/script.sh"

# serve NETWORK ADDRESS: says where it listens, then echoes what comes; of datagrams, to whom it comes from.
# dial NETWORK ADDRESS: standard input there, what comes from there to standard output.
# lookup HOST…: the addresses of each, or the error.
cat >"$tmp/net.c" <<'END_OF_C'
#include <weir.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int fails(const char *what, int error) {
    fprintf(stderr, "%s: %s\n", what, strerror(-error));
    return 1;
}

static void echo(int fd) {
    if (weir_copy_fd(fd, fd, -1) < 0) fprintf(stderr, "echo failed\n");
    weir_close_fd(fd);
}
static int serve(const char *network, const char *address) {
    char text[160];
    weir_address a;
    int fd = weir_listen(network, address);
    if (fd < 0) return fails("listen", fd);
    if (weir_local_address(fd, &a) || weir_address_text(&a, text, sizeof text) < 0) return 1;
    printf("%s\n", text);
    fflush(stdout);
    if (!strncmp(network, "udp", 3) || !strcmp(network, "unixgram"))
        for (char data[2048];;) {
            unsigned length = sizeof a.bytes;
            int64_t n = weir_recvfrom(fd, data, sizeof data, 0, (struct sockaddr *)a.bytes, &length);
            if (n < 0 || weir_sendto(fd, data, (size_t)n, 0, (struct sockaddr *)a.bytes, length) != n) return 1;
        }
    for (int in; (in = weir_accept(fd)) >= 0;)
        if (weir_go(echo, in)) return 1;
    return 1;
}

static void send_input(int fd) {
    if (weir_copy_fd(fd, 0, -1) < 0) fprintf(stderr, "sending failed\n");
    shutdown(fd, SHUT_WR);
}
static int dial(const char *network, const char *address) {
    int fd = weir_dial(network, address);
    if (fd < 0) return fails("dial", fd);
    if (!strncmp(network, "udp", 3) || !strcmp(network, "unixgram")) { /* one message each way */
        char data[2048];
        int64_t n = weir_read(0, data, sizeof data);
        if (n < 0 || weir_write(fd, data, (size_t)n) != n || (n = weir_read(fd, data, sizeof data)) < 0) return 1;
        return weir_write_all(1, data, (size_t)n) != n;
    }
    weir_scoped(s) {
        if (weir_scope_go(&s, send_input, fd)) return 1;
        if (weir_copy_fd(1, fd, -1) < 0) return 1;
    }
    return weir_close_fd(fd) != 0;
}

static int lookup(const char *host) {
    weir_address a[20];
    int n = weir_lookup(host, a, 20);
    printf("%s:", host);
    if (n < 0) printf(" %s", strerror(-n));
    for (int i = 0; i < n; i++) {
        char text[100];
        weir_address_text(&a[i], text, sizeof text);
        printf(" %s", text);
    }
    printf("\n");
    return 0;
}

int weir_main(int argc, char **argv) {
    if (argc == 4 && !strcmp(argv[1], "serve")) return serve(argv[2], argv[3]);
    if (argc == 4 && !strcmp(argv[1], "dial")) return dial(argv[2], argv[3]);
    for (int i = 2; i < argc; i++) lookup(argv[i]);
    return 0;
}
END_OF_C
if ! $CC -g -O1 -I"$WEIR_SRC/include" "$tmp/net.c" "$WEIR_BUILD/libweir.a" -o "$tmp/net" $libs; then
    echo "FAIL build"
    echo "0 passed, 1 failed"
    exit 1
fi

started=
trap 'kill $started 2>/dev/null; rm -rf "$tmp"' EXIT
awk 'BEGIN { for (i = 0; i < 20000; i++) print i, i * i % 9973 }' >"$tmp/much"

# serve NETWORK ADDRESS: our server; $at is where it listens.
serve() {
    : >"$tmp/at"
    "$tmp/net" serve "$1" "$2" >"$tmp/at" &
    server=$!
    started="$started $server"
    until_it grep -q . "$tmp/at" || return 1
    at=$(cat "$tmp/at")
    port=${at##*:}
}
end_server() {
    kill $server
    wait $server 2>/dev/null || :
    has_ended $server
}

# echoes COMMAND…: what goes in comes out.
patience=120 # of seconds: a limit for what hangs
echoes() {
    timeout $patience "$@" <"$tmp/much" >"$tmp/back" && cmp "$tmp/much" "$tmp/back"
}
# Datagrams have no end, so the command is kept from ending before the answer is there by what it reads.
echoes_a_message() {
    : >"$tmp/back"
    { echo 'a message'; until_it grep -q . "$tmp/back"; } | timeout $patience "$@" >"$tmp/back"
    [ "$(cat "$tmp/back")" = 'a message' ]
}

# ---- Our server, their clients ----------------------------------------------------------------------

have() { command -v "$1" >/dev/null; }
ipv6=no
"$tmp/net" serve tcp6 '[::1]:0' >"$tmp/at" 2>"$tmp/why_not" & probe=$!
until_it grep -q . "$tmp/at" "$tmp/why_not"
grep -q . "$tmp/at" && ipv6=yes
kill $probe 2>/dev/null; wait $probe 2>/dev/null

socat_talks_to_us_over_tcp() {
    serve tcp 127.0.0.1:0 && echoes socat -t $patience - "TCP4:127.0.0.1:$port"
    result=$?
    end_server
    return $result
}
socat_talks_to_us_over_tcp6() {
    serve tcp6 '[::1]:0' && echoes socat -t $patience - "TCP6:[::1]:$port"
    result=$?
    end_server
    return $result
}
socat_talks_to_us_over_unix() {
    serve unix "$tmp/socket" && echoes socat -t $patience - "UNIX-CONNECT:$tmp/socket"
    result=$?
    end_server
    [ $result = 0 ] && serve unix "@weir-$$" && echoes socat -t $patience - "ABSTRACT-CONNECT:weir-$$"
    result=$?
    end_server
    return $result
}
socat_sends_us_datagrams() {
    serve udp 127.0.0.1:0 && echoes_a_message socat -t 0.1 - "UDP4:127.0.0.1:$port"
    result=$?
    end_server
    [ $result = 0 ] && serve unixgram "$tmp/datagrams" &&
        echoes_a_message socat -t 0.1 - "UNIX-SENDTO:$tmp/datagrams,bind=$tmp/own"
    result=$?
    end_server
    return $result
}
ncat_talks_to_us_over_tcp() {
    serve tcp localhost:0 && echoes ncat -4 127.0.0.1 "$port"
    result=$?
    end_server
    return $result
}
ncat_talks_to_us_over_unix() {
    serve unix "$tmp/for-ncat" && echoes ncat -U "$tmp/for-ncat"
    result=$?
    end_server
    return $result
}

# ---- Our client, their servers ----------------------------------------------------------------------

# their COMMAND…: started, and ended by end_server. It chooses its port itself.
their() {
    "$@" >"$tmp/server.log" 2>&1 &
    server=$!
    started="$started $server"
}
# listens TABLE: it does, at $port.
listens() {
    for inode in $(ls -l "/proc/$server/fd" | sed -n 's/.*socket:\[\([0-9]*\)\]$/\1/p'); do
        port=$(awk -v inode="$inode" '$10 == inode && ($4 == "0A" || $4 == "07") { sub(".*:", "", $2); print $2 }' "/proc/net/$1")
        [ "${port:-0000}" != 0000 ] && port=$((0x$port)) && return
    done
    return 1
}
we_talk_to_socat_over_tcp() {
    their socat "TCP4-LISTEN:0,bind=127.0.0.1,fork" PIPE && until_it listens tcp && echoes "$tmp/net" dial tcp "localhost:$port"
    result=$?
    end_server
    return $result
}
we_talk_to_socat_over_unix() {
    their socat "UNIX-LISTEN:$tmp/of-socat,fork" PIPE && until_it test -S "$tmp/of-socat" &&
        until_it echoes "$tmp/net" dial unix "$tmp/of-socat"
    result=$?
    end_server
    return $result
}
we_send_socat_datagrams() {
    their socat -T 60 "UDP4-LISTEN:0,bind=127.0.0.1,fork" PIPE && until_it listens udp && echoes_a_message "$tmp/net" dial udp "127.0.0.1:$port"
    result=$?
    end_server
    return $result
}
we_send_to_ncat_over_tcp() { # it does not echo well: at the end of what it is sent it goes, whatever is on its way back
    ncat -4 -l --recv-only 127.0.0.1 0 >"$tmp/back" 2>"$tmp/server.log" &
    server=$!
    started="$started $server"
    until_it listens tcp &&
        timeout $patience "$tmp/net" dial tcp4 "127.0.0.1:$port" <"$tmp/much" && wait $server && cmp "$tmp/much" "$tmp/back"
}

if have socat; then
    check socat_talks_to_us_over_tcp socat_talks_to_us_over_tcp
    if [ $ipv6 = yes ]; then check socat_talks_to_us_over_tcp6 socat_talks_to_us_over_tcp6
    else skip socat_talks_to_us_over_tcp6 'no IPv6 here'; fi
    check socat_talks_to_us_over_unix socat_talks_to_us_over_unix
    check socat_sends_us_datagrams socat_sends_us_datagrams
    check we_talk_to_socat_over_tcp we_talk_to_socat_over_tcp
    check we_talk_to_socat_over_unix we_talk_to_socat_over_unix
    check we_send_socat_datagrams we_send_socat_datagrams
else
    skip socat 'is not installed'
fi
if have ncat; then
    check ncat_talks_to_us_over_tcp ncat_talks_to_us_over_tcp
    check ncat_talks_to_us_over_unix ncat_talks_to_us_over_unix
    check we_send_to_ncat_over_tcp we_send_to_ncat_over_tcp
else
    skip ncat 'is not installed'
fi

# ---- Names -------------------------------------------------------------------------------------------

# in_namespaces SCRIPT: run it where 127.0.0.53 is the one server of names, and the network is this machine alone.
cat >"$tmp/loopback_up.c" <<'END_OF_C'
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
int main(void) {
    struct ifreq lo = { .ifr_name = "lo", .ifr_flags = IFF_UP };
    return ioctl(socket(AF_INET, SOCK_DGRAM, 0), SIOCSIFFLAGS, &lo) != 0;
}
END_OF_C
echo 'nameserver 127.0.0.53
options timeout:30 attempts:1' >"$tmp/resolv.conf"
echo 'hosts: files dns' >"$tmp/nsswitch.conf"
cat >"$tmp/enter" <<END_OF_SH
set -e
trap 'kill \$server \$ours 2>/dev/null || :' EXIT
"$tmp/loopback_up"
mount --bind "$tmp/resolv.conf" /etc/resolv.conf
[ ! -e /etc/nsswitch.conf ] || mount --bind "$tmp/nsswitch.conf" /etc/nsswitch.conf
END_OF_SH
in_namespaces() {
    unshare --user --map-root-user --mount --net sh -c ". '$tmp/enter'; $1"
}

cat >"$tmp/dnsmasq.conf" <<END_OF_CONF
no-daemon
no-resolv
no-hosts
listen-address=127.0.0.53
bind-interfaces
user=root
host-record=one.weir.test,10.1.2.3
host-record=both.weir.test,127.0.0.1,::1
address=/six.weir.test/2001:db8::6
host-record=many.weir.test,10.0.0.1
host-record=many.weir.test,10.0.0.2
host-record=many.weir.test,10.0.0.3
address=/weir.test/
END_OF_CONF

with_dnsmasq="dnsmasq --conf-file='$tmp/dnsmasq.conf' --pid-file= >'$tmp/dnsmasq.log' 2>&1 & server=\$!
    until grep -qi ':0035 ' /proc/net/udp || ! kill -0 \$server; do sleep 0.05; done"

names_are_looked_up() {
    in_namespaces "$with_dnsmasq; timeout $patience '$tmp/net' lookup one.weir.test six.weir.test many.weir.test none.weir.test >'$tmp/found'; kill \$server"
    cat "$tmp/found" "$tmp/dnsmasq.log"
    sed -n 's/^many.weir.test: //p' "$tmp/found" | tr ' ' '\n' | sort | tr '\n' ' ' | grep -Fx '10.0.0.1:0 10.0.0.2:0 10.0.0.3:0 ' &&
        grep -Fx 'one.weir.test: 10.1.2.3:0' "$tmp/found" &&
        grep -Fx 'six.weir.test: [2001:db8::6]:0' "$tmp/found" &&
        grep -Fx 'none.weir.test: No such file or directory' "$tmp/found"
}
a_name_is_dialled() { # its IPv6 address comes first, and nobody listens there
    : >"$tmp/at"
    in_namespaces "$with_dnsmasq; '$tmp/net' serve tcp4 127.0.0.1:4000 >'$tmp/at' & ours=\$!
        until grep -q . '$tmp/at'; do sleep 0.05; done
        timeout $patience '$tmp/net' dial tcp both.weir.test:4000 <'$tmp/much' >'$tmp/back'; kill \$server \$ours"
    cmp "$tmp/much" "$tmp/back"
}
no_server_of_names_is_an_error() {
    in_namespaces "timeout $patience '$tmp/net' lookup one.weir.test >'$tmp/found'"
    cat "$tmp/found"
    grep -Fx 'one.weir.test: Resource temporarily unavailable' "$tmp/found"
}

if ! have dnsmasq; then
    skip names 'dnsmasq is not installed'
elif ! $CC "$tmp/loopback_up.c" -o "$tmp/loopback_up" || ! in_namespaces true >/dev/null 2>&1; then
    skip names 'no namespaces here to bind another /etc/resolv.conf in'
else
    check names_are_looked_up names_are_looked_up
    check a_name_is_dialled a_name_is_dialled
    check no_server_of_names_is_an_error no_server_of_names_is_an_error
fi
finish
