"""Who is compared, and how each one's program is built.

A peer that cannot be built is missing: Missing says why, and how to come by what it needs. Programs go into the build directory.
"""
import functools
import glob
import json
import os
import platform
import re
import shlex
import shutil
import subprocess

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BENCH = os.path.join(ROOT, 'bench')


class Missing(Exception):
    pass


def output(command, **more):
    """What a command prints, errors included; '' if it cannot be run."""
    try:
        return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **more).stdout
    except OSError:
        return ''


def build(command, what, log, **more):
    """Run a build; its output is kept in the file `log`, and the end of it shown if it fails."""
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **more)
    except OSError as error:
        raise Missing(f'{what} does not build: {error}') from error
    with open(log, 'w') as f:
        f.write(done.stdout)
    if done.returncode != 0:
        raise Missing(f'{what} does not build: see {log}; it ends:\n' + '\n'.join(done.stdout.splitlines()[-8:]))


def sources(folder, ending):
    found = sorted(glob.glob(os.path.join(BENCH, folder, '*.' + ending)))
    if not found:
        raise Missing(f'there is no bench/{folder}/*.{ending}')
    return found


def tool(name, install, *elsewhere):
    """The path of a tool."""
    for path in (shutil.which(name), *elsewhere):
        if path and os.access(path, os.X_OK):
            return path
    raise Missing(f'no {name} on the PATH: {install}')


def newer_than(name, found, least, install):
    """Raise Missing if the version that `found` (what a tool says of itself) has in it is older than `least`: (1, 23)."""
    numbers = re.search(r'(\d+)\.(\d+)', found)
    if not numbers or tuple(map(int, numbers.groups())) < least:
        raise Missing(f'{name} is too old ({found.strip() or "its version is unknown"}): {install}')


def needs_header(compiler, header, install):
    if output([compiler, '-E', '-x', 'c++' if '++' in compiler else 'c', '-include', header, '/dev/null', '-o', '/dev/null']):
        raise Missing(f'no header {header}: {install}')


# ---- One function a peer: it builds into the folder `out`, and returns the command, less row and n, and a word about versions.

def about_weir(out):
    """What the library's .pc says."""
    with open(os.path.join(os.path.dirname(out), 'meson-private', 'weir.pc')) as f:
        return dict(line.strip().split(': ', 1) for line in f if ': ' in line)


def libraries(out):
    """What a program that has weir's code in it is linked with."""
    needs = about_weir(out).get('Requires.private', '').replace(',', ' ').split()
    return output(['pkg-config', '--libs', *needs]).split() if needs else []


def weir(out):
    archive = os.path.join(os.path.dirname(out), 'libweir.a')
    if not os.path.exists(archive):
        raise Missing(f'{archive} is not there: run make first')
    program, cc = os.path.join(out, 'bench-weir'), os.environ.get('CC', 'cc').split()
    build([*cc, '-std=gnu11', '-O2', '-g', '-Wall', '-I' + os.path.join(ROOT, 'include'), *sources('', 'c'), archive, '-pthread',
           *libraries(out), '-o', program], 'bench/*.c', program + '.log')
    commit = output(['git', '-C', ROOT, 'describe', '--always', '--dirty']).strip()
    commit = f' ({commit})' if re.fullmatch(r'[\w.-]+', commit) else ''
    return [program], f"weir {about_weir(out)['Version']}{commit}, " + output([*cc, '--version']).split('\n')[0]


def go(out):
    install = 'https://go.dev/dl, or apt-get install golang-go where that is 1.23 or newer'
    compiler = tool('go', install)
    env = {**os.environ, 'GOTOOLCHAIN': 'local', 'GOFLAGS': '', 'GOWORK': 'off', 'GOEXPERIMENT': ''}
    version = output([compiler, 'version'], env=env).strip()
    newer_than('go', version, (1, 23), install)
    # In a copy, as one file is generated.
    copy, program = os.path.join(out, 'go'), os.path.join(out, 'bench-go')
    shutil.rmtree(copy, ignore_errors=True)
    os.makedirs(copy)
    for path in [*sources('go', 'go'), os.path.join(BENCH, 'go', 'go.mod')]:
        shutil.copy(path, copy)
    build([compiler, 'generate'], 'bench/go', program + '.log', cwd=copy, env=env)
    command = [compiler, 'build', '-o', program, '.']
    try:  # not every Go has it; without, the rows prove-… are left out
        build(command, 'bench/go', program + '.log', cwd=copy, env={**env, 'GOEXPERIMENT': 'goroutineleakprofile'})
    except Missing:
        build(command, 'bench/go', program + '.log', cwd=copy, env=env)
    return [program], version


@functools.cache
def rust_program(out):
    """The program for all libraries, the versions of these, and the compiler's."""
    install = 'https://rustup.rs, or apt-get install cargo where that is 1.85 or newer'
    cargo = tool('cargo', install, os.path.expanduser('~/.cargo/bin/cargo'))
    newer_than('cargo', output([cargo, '--version']), (1, 85), install)
    env = {**os.environ, 'PATH': os.path.dirname(cargo) + ':' + os.environ.get('PATH', ''), 'CARGO_TARGET_DIR': os.path.join(out, 'rust')}
    manifest = os.path.join(BENCH, 'rust', 'Cargo.toml')
    build([cargo, 'build', '--release', '--locked', '--quiet', '--manifest-path', manifest], 'bench/rust', os.path.join(out, 'rust.log'),
          env=env)
    with open(os.path.join(BENCH, 'rust', 'Cargo.lock')) as f:
        locked = dict(re.findall(r'name = "([^"]+)"\nversion = "([^"]+)"', f.read()))
    compiler = output(['rustc', '--version'], env=env).strip()
    return os.path.join(out, 'rust', 'release', 'bench-rust'), locked, compiler


def rust(library, crate):
    def of_library(out):
        program, locked, compiler = rust_program(out)
        return [program, library], f'{crate} {locked[crate]}, {compiler}'
    return of_library


def boost(out):
    install, program = 'apt-get install g++ libboost-fiber-dev libboost-context-dev', os.path.join(out, 'bench-boost')
    compiler, files = tool('g++', install), sources('boost', 'cpp')
    needs_header(compiler, 'boost/fiber/all.hpp', install)
    build([compiler, '-std=c++17', '-O2', '-DNDEBUG', *files, '-lboost_fiber', '-lboost_context', '-pthread', '-o', program],
          'bench/boost', program + '.log')
    version = output([compiler, '-E', '-P', '-x', 'c++', '-include', 'boost/version.hpp', '-'], input='BOOST_LIB_VERSION\n')
    return [program], 'Boost.Fiber ' + version.split('\n')[-2].strip('"') + ', ' + output([compiler, '--version']).split('\n')[0]


def state_threads(out):
    install, program = 'apt-get install gcc libst-dev', os.path.join(out, 'bench-st')
    compiler, files = tool('gcc', install), sources('st', 'c')
    needs_header(compiler, 'st.h', install)
    build([compiler, '-std=gnu11', '-O2', *files, '-lst', '-o', program], 'bench/st', program + '.log')
    return [program], output(['dpkg-query', '-W', '-f', '${Package} ${Version}', 'libst-dev']) or 'State Threads'


def newest_java():
    """The folder of the newest JDK that is there, and its version."""
    places = [os.environ.get('JAVA_HOME', ''), *glob.glob('/usr/lib/jvm/*'), *glob.glob('/opt/java/*')]
    if shutil.which('javac'):
        places.append(os.path.dirname(os.path.dirname(os.path.realpath(shutil.which('javac')))))
    found = []
    for home in {os.path.realpath(place) for place in places if place}:
        if not os.access(os.path.join(home, 'bin', 'javac'), os.X_OK):
            continue
        version = re.search(r'(\d+)', output([os.path.join(home, 'bin', 'javac'), '-version']))
        if version:
            found.append((int(version.group(1)), home))
    return max(found, default=(0, ''))


def java(out):
    version, home = newest_java()
    if version < 21:
        raise Missing(f'no JDK of 21 or newer{f", only {version}" if version else ""}: apt-get install openjdk-21-jdk-headless, or '
                      'https://adoptium.net; it is looked for in $JAVA_HOME, /usr/lib/jvm and on the PATH')
    classes = os.path.join(out, 'java')
    build([os.path.join(home, 'bin', 'javac'), '-d', classes, *sources('java', 'java')], 'bench/java', classes + '.log')
    # The heap is of one size from the beginning, or the rows would time how it grows.
    command = [os.path.join(home, 'bin', 'java'), '-Xms4g', '-Xmx4g', '-cp', classes, 'Bench']
    return command, output([os.path.join(home, 'bin', 'java'), '-version']).split('\n')[0]


# ---- No peers, but what is in the way of weir: they have a column where they are named.

def bare(out):
    program, cc = os.path.join(out, 'bench-bare'), os.environ.get('CC', 'cc').split()
    build([*cc, '-std=gnu11', '-O2', '-D_GNU_SOURCE', *sources('bare', 'c'), '-pthread', '-o', program], 'bench/bare', program + '.log')
    return [program], output([*cc, '--version']).split('\n')[0]


def unlocked(out):
    """weir, its instructions without the prefix `lock`: right on one worker, but for what other threads do now and then."""
    if platform.machine() != 'x86_64':
        raise Missing('only x86-64 has a prefix to leave out')
    folder, program, cc = os.path.join(out, 'unlocked'), os.path.join(out, 'bench-unlocked'), os.environ.get('CC', 'cc').split()
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(os.path.dirname(out), 'compile_commands.json')) as f:
        commands = [entry for entry in json.load(f) if entry['output'].startswith('libweir.so')]
    files = []
    for entry in commands:
        source = os.path.normpath(os.path.join(entry['directory'], entry['file']))
        files.append(source)
        if not source.endswith('.c'):
            continue
        files[-1] = os.path.join(folder, os.path.relpath(source, ROOT).replace(os.sep, '_')[:-1] + 's')
        words = shlex.split(entry['command'])
        build([*words[:words.index('-MD')], '-S', '-o', files[-1], source], source, program + '.log', cwd=entry['directory'])
        with open(files[-1]) as f:
            assembly = re.sub(r'^\tlock[ ;]\s*', '\t', f.read(), flags=re.M)
        with open(files[-1], 'w') as f:
            f.write(assembly)
    build([*cc, '-std=gnu11', '-O2', '-I' + os.path.join(ROOT, 'include'), *sources('', 'c'), *files, '-pthread', *libraries(out),
           '-o', program], 'weir without locked instructions', program + '.log')
    return ['sh', '-c', '[ "$WEIR_PROCS" = 1 ] || exit 3; exec "$0" "$@"', program], output([*cc, '--version']).split('\n')[0]


PEERS = {
    'weir': weir, 'go': go, 'rust-tokio': rust('tokio', 'tokio'), 'rust-crossbeam': rust('crossbeam', 'crossbeam-channel'),
    'rust-flume': rust('flume', 'flume'), 'rust-kanal': rust('kanal', 'kanal'), 'boost': boost, 'st': state_threads, 'java': java,
    'bare': bare, 'unlocked': unlocked,
}
BY_NAME_ONLY = ['bare', 'unlocked']
