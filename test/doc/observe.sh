#!/bin/sh
# What doc/observe.md shows is what its commands print, but for numbers: they are run here, in their order, on the program that it names.
set -u
. "$WEIR_SRC/test/support/script.sh"
if ! command -v python3 >/dev/null || ! command -v curl >/dev/null || [ ! -x "$WEIR_BUILD/examples/search" ] || [ ! -e "$WEIR_BUILD/libweir-debug.so" ]; then
    skip observe 'needs python3, curl, the examples and the debug server'
    finish
fi
cat >"$tmp/observe.py" <<'END'
import atexit
import os
import re
import shutil
import signal
import subprocess
import sys
import time

SRC, BUILD = os.environ['WEIR_SRC'], os.environ['WEIR_BUILD']
LIMIT_S = 60
passed = failed = 0

def blocks():
    """(the comment before it, its language, its text)"""
    hint = ''
    for part in re.finditer(r'^<!-- (.*?) -->$|^```(\w*)\n(.*?)^```$', open(f'{SRC}/doc/observe.md').read(), re.M | re.S):
        if part[1]:
            hint = part[1]
        else:
            yield hint, part[2], part[3]
            hint = ''

def shape(line):
    """Without what differs from run to run: numbers, and what lies before src/ and examples/ in paths. Blanks count once."""
    line = re.sub(r'[^\s"(]*/(?=src/|examples/)', '', line)
    line = re.sub(r'0x[0-9a-f]+|\d+(\.\d+)?', 'N', line)
    return re.sub(r'\s+', ' ', line).strip()

def lacks(shown, said):
    """The first line shown that was not said, or None; `...` stands for any lines."""
    lines = [shape(line) for line in said.splitlines()]
    for line in shown.splitlines():
        if line == '...' or not line.strip():
            continue
        if shape(line) not in lines:
            return line
    return None

def told(name, complaint):
    global passed, failed
    if complaint:
        failed += 1
        print(f'FAIL {name}:\n    ' + complaint.replace('\n', '\n    '))
    else:
        passed += 1
        print(f'ok {name}')

def run(command, **more):
    return subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=150, **more).stdout

def until(ready):
    end = time.monotonic() + LIMIT_S
    while not ready():
        if time.monotonic() > end:
            sys.exit('FAIL the program does not come so far\n0 passed, 1 failed')
        time.sleep(0.05)

def start(command):
    """The command of the page, at a port of its own."""
    words = re.match(r'((?:\w+=\S+ )*)(\S+) (.*) & pid=\$!$', command.strip())
    env = dict(os.environ, LD_LIBRARY_PATH=BUILD, **dict(word.split('=', 1) for word in words[1].split()))
    env['WEIR_DEBUG_ADDR'] = '127.0.0.1:0'
    errors = open('errors', 'w')
    program = subprocess.Popen([words[2].replace('build/', BUILD + '/'), *words[3].split()], env=env, stdin=subprocess.DEVNULL,
                               stdout=errors, stderr=errors)
    atexit.register(program.kill)
    until(lambda: 'listens on port' in open('errors').read())
    return program, re.search(r'listens on port (\d+)', open('errors').read())[1]

def gdb(shown, pid):
    commands = re.findall(r'^\(gdb\) (.*)$', shown, re.M)
    arguments = [a for c in commands for a in ('-ex', f'echo (gdb) {c}\\n', '-ex', c)]
    said = run(['gdb', '-nx', '-batch', '-iex', 'set auto-load off', '-ex', 'set width 0', '-ex', f'source {SRC}/packaging/gdb/weir-gdb.py',
                '-p', str(pid), *arguments], env=dict(os.environ, HOME=os.getcwd(), DEBUGINFOD_URLS=''))
    return said

program = last = None
for hint, language, text in blocks():
    if hint == 'start':
        program, port = start(text)
        served = lambda: run(['curl', '-s', f'http://127.0.0.1:{port}/metrics'])
        until(lambda: int((re.search(r'reason="chan send"} (\d+)', served()) or [0, 0])[1]) > 1000)
    elif hint.startswith('run'):
        name = 'shows_' + re.sub(r'\W+', '_', text.strip().splitlines()[-1])[:60].strip('_')
        tool = hint[len('run'):].strip()
        if tool and not shutil.which(tool):
            print(f'skip {name}: no {tool} here')
            last = None
            continue
        env = dict(os.environ, no_proxy='*', PPROF_TMPDIR=os.getcwd(), HOME=os.getcwd())
        command = text.replace('localhost:6060', f'127.0.0.1:{port}').replace('$pid', str(program.pid))
        last = name, lambda: run(['sh', '-c', command], env=env, cwd=SRC)
    elif hint == 'gdb':
        if not shutil.which('gdb'):
            print('skip gdb: no gdb here')
            continue
        with_leaks = start('WEIR_PROCS=2 build/examples/search -r 20 & pid=$!')
        until(lambda: run(['curl', '-s', f'http://127.0.0.1:{with_leaks[1]}/debug/pprof/goroutine?debug=1']).count('search.c:29'))
        said = gdb(text, with_leaks[0].pid)
        with_leaks[0].send_signal(signal.SIGTERM)
        with_leaks[0].wait()
        missing = lacks(text, said)
        told('shows_what_gdb_says', missing and f'{missing}\nis not in\n{said[:4000]}')
    elif language == 'text' and last:
        for _ in range(10): # main runs for some microseconds now and then, and does not wait
            said = last[1]()
            missing = lacks(text, said)
            if not missing: break
        told(last[0], missing and f'{missing}\nis not in\n{said[:4000]}')
        last = None
program.send_signal(signal.SIGTERM)
told('the_program_ends_well', f'status {program.returncode}' if program.wait() else None)
print(f'{passed} passed, {failed} failed')
sys.exit(1 if failed or not passed else 0)
END
# Go builds its tools when they are first used, and keeps them.
GOCACHE=$(go env GOCACHE 2>/dev/null)
[ -z "$GOCACHE" ] || export GOCACHE
cd "$tmp" && python3 "$tmp/observe.py"
