"""Cost against number: a row again and again, for 1, 10, 100, … goroutines, arms, timers or waiters. weir and one peer."""
import statistics

from . import measure, rows, table

LINE = '{:<21}{:>9} {:>2} {:<6}{:>9}{:>9}{:>7}'
QUICK = 100000  # the largest number of a quick run


def point(programs, row, n, procs, rounds, failures):
    """{printed name: {who: values}}, and the units. A round that does not count comes first."""
    values, units = {}, {}

    def once(turn, who, command):
        return measure.run(command, row, n, procs)

    for turn, who, printed, _ in measure.in_turn(programs, f'{row.name} with {n} on {procs}', rounds, once, failures):
        for name, (value, unit) in printed.items():
            units[name] = unit
            if turn > 0:
                values.setdefault(name, {}).setdefault(who, []).append(value)
    return values, units


def run_all(programs, chosen, failures, say, progress):
    programs = dict(list(programs.items())[:2])
    peer = next((who for who in programs if who != 'weir'), '')
    results = []
    for procs in chosen.procs:
        for series, what, points in rows.GROWTH:
            say(f'\n{series}, on {procs}: cost for one, against the number of {what}')
            say(LINE.format('', 'number', 'P', 'unit', 'weir', table.SHORT.get(peer, peer), 'ratio').rstrip())
            for number, row in points:
                if chosen.quick and number > QUICK:
                    continue
                n = row.quick if chosen.quick else row.n
                progress(f'{series}, {number} on {procs} ')
                values, units = point(programs, row, n, procs, chosen.rounds, failures)
                progress('')
                for name, by in values.items():
                    median = {who: statistics.median(all_of) for who, all_of in by.items()}
                    ratio = measure.ratio(by.get('weir', []), by.get(peer, []))
                    results.append({'series': series, 'row': name, 'number': number, 'n': n, 'procs': procs, 'unit': units[name],
                                    'values': by, 'median': median, 'ratio': {peer: ratio} if ratio else {}})
                    figures = [table.number(median[who]) if who in median else table.NONE if who else '' for who in ('weir', peer)]
                    say(LINE.format(name, number, procs, units[name], *figures, table.ratio_text(ratio)).rstrip())
    return results
