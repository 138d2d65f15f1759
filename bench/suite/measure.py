"""Running the programs: one run, and all rounds of a row, in turn, so that both sides of a ratio meet the same machine."""
import os
import resource
import statistics
import subprocess

TIMEOUT_S = 120  # for one run of one program
SLOW_S = 2       # who needs longer for a row, by what the warm-up says, does less of it where that changes nothing
NO_SUCH_ROW = 3  # exit status of a program that does not know the row
IN_NS = {'ns': 1, 'us': 1e3, 'ms': 1e6, 's': 1e9}
PROCS = ('WEIR_PROCS', 'GOMAXPROCS', 'BENCH_PROCS')


class Failed(Exception):
    pass


def environment(procs):
    """Nothing that the user has set for any of the runtimes may tilt the comparison."""
    env = {name: value for name, value in os.environ.items()
           if not name.startswith(('WEIR_', 'TOKIO_', 'BENCH_')) and
           name not in ('GOGC', 'GODEBUG', 'GOMEMLIMIT', 'JAVA_TOOL_OPTIONS', 'JDK_JAVA_OPTIONS', '_JAVA_OPTIONS')}
    env.update({name: str(procs) for name in PROCS})
    return env


def run(command, row, n, procs):
    """One run: {name: (value, unit)}, and seconds of CPU; None if the program has no such row. Raises Failed."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    try:
        done = subprocess.run([*command, row.name, str(n)], env=environment(procs), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise Failed(f'not done after {TIMEOUT_S} s') from None
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode == NO_SUCH_ROW:
        return None
    if done.returncode != 0:
        raise Failed(f'ended with {done.returncode}: {done.stderr.strip()[:400]}')
    try:
        values = {name: (float(value), unit) for name, value, unit in map(str.split, done.stdout.splitlines())}
    except ValueError:
        values = {}
    if sorted(values) != sorted(row.parts):
        raise Failed(f'printed {done.stdout!r}')
    return values, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def less(row, n, values):
    """How much a program does that printed this in the warm-up. A row that is not fixed prints the time for one."""
    if row.fixed:
        return n
    (value, unit), = values.values()
    expected = value * IN_NS.get(unit, 0) * n / 1e9
    return n if expected <= SLOW_S else max(int(n * SLOW_S / expected), row.quick // 10, 1)


def in_turn(programs, label, rounds, once, failures):
    """(turn, who, values, seconds of CPU) of each program in each round, where once(turn, who, command) is a run. Turn 0 does not count.
    Who has no such row, or has failed in it, is not asked again."""
    absent = set()
    for turn in range(rounds + 1):
        for who, command in programs.items():
            if who in absent:
                continue
            try:
                measured = once(turn, who, command)
            except Failed as error:
                failures.append(f'{who}: {label}: {error}')
                measured = None
            if measured is None:
                absent.add(who)
            else:
                yield turn, who, *measured


def run_row(programs, row, n, procs, rounds, failures, progress):
    """All rounds of one row: a list of results, one for each line that the programs print."""
    results = {name: {'row': name, 'procs': procs, 'asked': n, 'n': {}, 'unit': '', 'values': {}} for name in row.parts}
    cpu, work = {}, {}

    def once(turn, who, command):
        progress(f'{row.name}, {procs} worker{"s" * (procs > 1)}, round {turn} of {rounds}, {who}')
        return run(command, row, row.warm_up(n) if turn == 0 else work[who], procs)

    for turn, who, values, cpu_seconds in in_turn(programs, f'{row.name} on {procs}', rounds, once, failures):
        if turn == 0:
            work[who] = less(row, n, values)
            continue
        cpu.setdefault(who, []).append(round(cpu_seconds, 4))
        for name, (value, unit) in values.items():
            result = results[name]
            result['unit'] = result['unit'] or unit
            if unit != result['unit']:  # of a time, or they do not fit
                value *= IN_NS.get(unit, float('nan')) / IN_NS.get(result['unit'], float('nan'))
            result['values'].setdefault(who, []).append(value)
            result['n'][who] = work[who]
    for result in results.values():
        result['cpu_s'] = {who: spent for who, spent in cpu.items() if who in result['values']}
        summarise(result)
    return list(results.values())


def ratio(weir, peer):
    """Round by round: a neighbour's load that comes and goes then weighs on both sides of one ratio."""
    pairs = [w / p for w, p in zip(weir, peer) if p > 0]
    return round(statistics.median(pairs), 4) if pairs else None


def summarise(result):
    values, cpu = result['values'], result['cpu_s']
    result['median'] = {who: statistics.median(all_of) for who, all_of in values.items()}
    peers = [who for who in values if who != 'weir'] if 'weir' in values else []
    result['ratio'] = {who: ratio(values['weir'], values[who]) for who in peers}
    result['cpu_ratio'] = {who: ratio(cpu['weir'], cpu[who]) for who in peers}
