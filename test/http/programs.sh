#!/bin/sh
# The examples that use http, against nginx: what they print, and what its log says of them.
set -u
. "$WEIR_SRC/test/support/script.sh"
examples=$WEIR_BUILD/examples
PATH=$PATH:/usr/sbin
no_proxy='*'
export no_proxy
if [ ! -x "$examples/fetch-all" ] || ! command -v nginx >/dev/null || ! command -v openssl >/dev/null; then
    skip http_programs 'needs the examples, nginx and openssl'
    finish
fi

nginx_pid=
trap '[ -z "$nginx_pid" ] || kill $nginx_pid 2>/dev/null; rm -rf "$tmp"' EXIT

# start_nginx HTTP-PORT TLS-PORT DOC-PORT: as whoever runs this, with all that it writes in $tmp.
start_nginx() {
    http=http://127.0.0.1:$1 https=https://localhost:$2 docs=http://127.0.0.1:$3
    cat >"$tmp/nginx.conf" <<END
user $(id -un) $(id -gn);
daemon off;
worker_processes 1;
pid $tmp/nginx.pid;
error_log $tmp/error.log;
events { worker_connections 1024; }
http {
    types { text/html html; text/plain txt; }
    log_format short '\$server_port \$status \$request_uri \$connection \$server_protocol';
    access_log $tmp/access.log short;
    client_body_temp_path $tmp/temp; proxy_temp_path $tmp/temp; fastcgi_temp_path $tmp/temp;
    uwsgi_temp_path $tmp/temp; scgi_temp_path $tmp/temp;
    limit_req_zone \$server_port zone=held:1m rate=1r/m;
    limit_req_zone \$server_port zone=late:1m rate=20r/m;
    gzip on;
    gzip_types text/plain;
    keepalive_requests 100000;
    server {
        listen 127.0.0.1:$1;
        listen 127.0.0.1:$2 ssl http2;
        ssl_certificate $tmp/cert.pem;
        ssl_certificate_key $tmp/key.pem;
        root $tmp/site;
        location /held/ { limit_req zone=held burst=1000; } # for minutes, but for the first
        location /late/ { limit_req zone=late burst=1000; } # for seconds
    }
    server {
        listen 127.0.0.1:$3;
        root /usr/share/doc;
        autoindex on;
    }
}
END
    nginx -c "$tmp/nginx.conf" -e "$tmp/error.log" -p "$tmp" >"$tmp/nginx.out" 2>&1 &
    nginx_pid=$!
    until_it answers_or_has_ended && kill -0 $nginx_pid 2>/dev/null && return 0
    kill $nginx_pid 2>/dev/null
    nginx_pid=
    cat "$tmp/nginx.out" "$tmp/error.log"
    return 1
}

answers_or_has_ended() { "$examples/fetch-all" $http/ >/dev/null 2>&1 || ! kill -0 $nginx_pid 2>/dev/null; }

# Between our look and nginx's somebody may take a port: then once more.
starts() {
    openssl req -x509 -newkey rsa:2048 -nodes -keyout "$tmp/key.pem" -out "$tmp/cert.pem" -days 2 -subj /CN=localhost \
        -addext subjectAltName=DNS:localhost 2>/dev/null || return 1
    for _ in 1 2 3; do
        # shellcheck disable=SC2046
        start_nginx $(python3 -c 'import socket
free = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
print(*[s.getsockname()[1] for s in free])') && return 0
    done
    return 1
}

# The lines of the log since the last `forget`, once there are N of them. Of requests that were cut off it tells late, but
# before it tells of one that came later.
forgets=0
forget() {
    forgets=$((forgets + 1))
    "$examples/fetch-all" "$http/forget?$forgets" >/dev/null 2>&1
    until_it grep -q -F "/forget?$forgets " "$tmp/access.log"
    wc -l <"$tmp/access.log" >"$tmp/seen"
}
log_has_now() {
    tail -n "+$(($(cat "$tmp/seen") + 1))" "$tmp/access.log" >"$tmp/log"
    [ "$(wc -l <"$tmp/log")" -ge "$1" ]
}
log_has() {
    until_it log_has_now "$1" && return 0
    echo "the log has only:"
    head -n 20 "$tmp/log"
    return 1
}

PAGES=10000

# A tree ten wide, a chain of 200 at its end, and links back, across, to themselves and to elsewhere. Nothing leads to /private/ but what
# robots.txt forbids.
make_site() {
    mkdir -p "$tmp/site/held" "$tmp/site/late" "$tmp/site/private" "$tmp/temp" &&
        python3 - "$tmp/site" $PAGES <<'END'
import os, sys
site, n = sys.argv[1], int(sys.argv[2])
chain = n - 200
name = lambda i: 'index.html' if i == 0 else f'{i % 100}/{i}.html'
path = lambda i: '/' if i == 0 else '/' + name(i)
for i in range(100):
    os.makedirs(f'{site}/{i}', exist_ok=True)
for i in range(n):
    links = [i + 1] if chain <= i < n - 1 else [k for k in range(10 * i + 1, 10 * i + 11) if k <= chain]
    links += [i // 10, i * 7919 % (chain + 1), i]
    text = [f'<A HREF="{path(k)}#part">{k}</A>' for k in links]
    if i: text.append(f'<a href="../{name(i)}">self</a>')
    text += ['<a href="mailto:a@b">', '<a href="http://127.0.0.1:9/elsewhere">', '<a href="/private/x.html">', '<a name=n>',
             '<!-- <a href="/commented"> -->', '<script>"<a href=/script>"</script>', "<a href='/missing page'>" if i == 77 else '']
    with open(f'{site}/{name(i)}', 'w') as f:
        f.write('<html><body>\n' + '\n'.join(text))
with open(f'{site}/robots.txt', 'w') as f:
    f.write('# for all\nUser-Agent: other\nDisallow: /\n\nUser-agent: *\nAllow: /private/not\nDisallow: /private/ # here\nDisallow:\n')
with open(f'{site}/plain.txt', 'w') as f:
    f.write('weir\n' * 100000)
with open(f'{site}/big', 'wb') as f:
    f.write(os.urandom(50 << 20))
open(f'{site}/held/page.txt', 'w').write('held\n')
open(f'{site}/late/page.txt', 'w').write('late\n')
open(f'{site}/one.txt', 'w').write('one\n')
END
}

# ---- fetch-all

in_order() {
    forget
    run 0 fetch-all $http/one.txt $http/plain.txt $http/missing $http/big && cat "$tmp/out" &&
        printf '%s\n' "200 4 $http/one.txt" "200 500000 $http/plain.txt" "404 [0-9]* $http/missing" "200 52428800 $http/big" >"$tmp/want" &&
        i=0 && while read -r line; do
            i=$((i + 1))
            sed -n ${i}p "$tmp/out" | grep -q -x -e "$line" || return 1
        done <"$tmp/want"
}

# A thousand, ten at a time: ten connections, or fewer.
thousand() {
    forget
    for i in $(seq 1000); do echo "$http/$((i * 9 % 100))/$((i * 9)).html"; done >"$tmp/urls"
    "$examples/fetch-all" <"$tmp/urls" >"$tmp/out" 2>"$tmp/err" || [ $? = 0 ] || { cat "$tmp/err"; return 1; }
    cut -d ' ' -f 3 "$tmp/out" | cmp - "$tmp/urls" && log_has 1000 &&
        connections=$(cut -d ' ' -f 4 "$tmp/log" | sort -u | wc -l) && echo "$connections connections" && [ "$connections" -le 10 ]
}

# The first that fails ends those that would take long.
one_fails() {
    forget
    run 0 fetch-all $http/held/page.txt >/dev/null; start=$(date +%s)
    run 1 fetch-all $http/held/page.txt $http/held/page.txt http://127.0.0.1:1/ && [ ! -s "$tmp/out" ] &&
        grep -q -x 'fetch-all: connect to 127.0.0.1:1: Connection refused' "$tmp/err" && [ $(($(date +%s) - start)) -lt 10 ]
}

# ---- TLS

certificate_refused() {
    run 1 fetch-all $https/one.txt && grep -q '^fetch-all: TLS with localhost:.*certificate' "$tmp/err"
}

certificate_trusted() {
    run 0 fetch-all --ca "$tmp/cert.pem" $https/one.txt $https/big && cat "$tmp/out" && grep -q '^200 52428800 ' "$tmp/out" || return 1
    run 1 fetch-all --ca "$tmp/cert.pem" "$(echo $https | sed s/localhost/127.0.0.1/)/one.txt" && grep -q 'TLS with 127.0.0.1' "$tmp/err" || return 1
    run 1 fetch-all --ca "$tmp/nothing.pem" $https/one.txt
}

# HTTP/2, many requests on one connection.
thousand_by_tls() {
    forget
    sed "s|^$http|$https|" "$tmp/urls" | "$examples/fetch-all" --ca "$tmp/cert.pem" >"$tmp/out" 2>"$tmp/err" || { cat "$tmp/err"; return 1; }
    [ "$(grep -c '^200 ' "$tmp/out")" = 1000 ] && log_has 1000 && [ "$(grep -c 'HTTP/2.0$' "$tmp/log")" = 1000 ]
}

tests_by_tls() {
    WEIR_TEST_URL=$https WEIR_TEST_CA=$tmp/cert.pem "$WEIR_BUILD/test/http-by_tls"
}

# ---- first

losers_cut_off() {
    run 0 first $http/one.txt && run 0 first $http/late/page.txt || return 1
    "$examples/first" -t 2 $http/held/page.txt >/dev/null 2>&1 # or fetch_all_ends_with_the_first_failure has had the first already
    forget
    run 0 first $http/held/page.txt?1 $http/late/page.txt $http/held/page.txt?2 && [ "$(cat "$tmp/out")" = late ] && log_has 3 &&
        [ "$(grep -c ' 499 /held/' "$tmp/log")" = 2 ]
}

no_winner() {
    run 1 first http://127.0.0.1:1/ $http/missing && grep -q 'Connection refused' "$tmp/err" && grep -q 'status 404' "$tmp/err" &&
        run 1 first -t 0.2 $http/held/page.txt
}

# ---- crawl

every_page_once() {
    forget
    run 1 crawl --workers 20 $http/ && cat "$tmp/out" && log_has $((PAGES + 2)) || return 1
    [ "$(cat "$tmp/err")" = "crawl: $http/missing%20page: status 404" ] || return 1
    grep -q "^$((PAGES + 1)) pages, [0-9]* bytes, 1 errors, 1 not allowed" "$tmp/out" || return 1
    cut -d ' ' -f 3 "$tmp/log" | sort >"$tmp/visited"
    { (cd "$tmp/site" && find . -name '*.html' ! -path './private/*' | sed 's/^\.//; s/^\/index.html$/\//'); echo /robots.txt; echo /missing%20page; } |
        sort | diff - "$tmp/visited" | head
    [ "$(uniq -d "$tmp/visited" | wc -l)" = 0 ] && [ "$(wc -l <"$tmp/visited")" = $((PAGES + 2)) ]
}

# The start, its ten children and theirs.
only_so_deep() {
    forget
    run 0 crawl -d 0 $http/ && grep -q '^1 pages' "$tmp/out" && run 0 crawl -d 1 -v $http/ && tail -n 1 "$tmp/out" | grep -q '^11 pages' &&
        [ "$(grep -c '^200 ' "$tmp/out")" = 11 ]
}

# Real pages, folders that redirect, links that lead nowhere.
documentation() {
    [ -n "$(ls /usr/share/doc)" ] || return 0
    forget
    "$examples/crawl" -w 20 -d 4 $docs/ >"$tmp/out" 2>"$tmp/err"
    tail -n 3 "$tmp/err"
    cat "$tmp/out"
    pages=$(sed -n 's/ pages,.*//p' "$tmp/out") && [ "$pages" -gt 10 ] && log_has $((pages + 1)) &&
        cut -d ' ' -f 3 "$tmp/log" | sort | uniq -d >"$tmp/twice" && cat "$tmp/twice" && [ ! -s "$tmp/twice" ] &&
        [ "$(grep -c -v ' /robots.txt ' "$tmp/log")" = "$pages" ]
}

arguments() {
    for program in fetch-all first crawl; do
        run 0 $program --help && grep -q "^usage: $program" "$tmp/out" && run 2 $program --wrong || return 1
    done
    run 2 first && run 2 crawl && run 2 crawl -w 0 x && run 2 fetch-all -j 0 x && run 1 crawl ftp://127.0.0.1/ && run 1 crawl http://127.0.0.1:1/
}

check http_site_is_made make_site
starts >"$tmp/.output" 2>&1 || { check nginx_starts cat "$tmp/.output"; check nginx_starts false; finish; }
check fetch_all_prints_in_order in_order
check fetch_all_reads_a_thousand_urls_ten_at_a_time thousand
check fetch_all_ends_with_the_first_failure one_fails
check fetch_all_refuses_an_unknown_certificate certificate_refused
check fetch_all_takes_a_known_certificate certificate_trusted
check fetch_all_reads_a_thousand_urls_by_tls thousand_by_tls
check http_by_tls tests_by_tls
check first_cuts_the_losers_off losers_cut_off
check first_without_a_winner no_winner
if [ -x "$examples/crawl" ]; then
    check crawl_visits_every_page_once every_page_once
    check crawl_goes_only_so_deep only_so_deep
    check crawl_of_documentation documentation
else
    skip crawl 'built without libxml2'
fi
check http_programs_arguments arguments
finish
