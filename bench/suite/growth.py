"""Cost against number: a row again and again, for 1, 10, 100, … goroutines, arms, timers or waiters."""
import statistics

from . import measure, rows, table

LINE = '{:<21}{:>9} {:>2} {:<6}{:>9}{:>9}{:>7}'


class Point:
    """A row as measure.run wants it."""

    def __init__(self, name):
        self.name = name
        self.parts = [name + part for part in ('-create', '-bytes', '-wake')] if name == 'parked' else [name]


def point(programs, row, n, procs, rounds, failures):
    """{printed name: {who: values}}, and the units. A round that does not count comes first."""
    values, units = {}, {}
    for turn in range(rounds + 1):
        for who, command in list(programs.items()):
            try:
                measured = measure.run(command, row, n, procs)
            except measure.Failed as error:
                failures.append(f'{who}: {row.name} with {n} on {procs}: {error}')
                return {}, {}
            if measured is None:
                continue
            for name, (value, unit) in measured[0].items():
                units[name] = unit
                if turn > 0:
                    values.setdefault(name, {}).setdefault(who, []).append(value)
    return values, units


def run_all(programs, chosen, failures, say, progress):
    others = [who for who in programs if who != 'weir']
    results = []
    for procs in chosen.procs:
        for series, what, points in rows.GROWTH:
            say(f'\n{series}, on {procs}: cost for one, against the number of {what}')
            say(LINE.format('', 'number', 'P', 'unit', 'weir', *(table.SHORT.get(who, who) for who in others[:1]), 'ratio'))
            for number, name, n in points:
                n = max(n // 10, 3 * number if series == 'yield' else 1) if chosen.quick and n != number else n
                if chosen.quick and number > 100000:
                    continue
                progress(f'{series}, {number} on {procs} ')
                values, units = point(programs, Point(name), n, procs, chosen.rounds, failures)
                progress('')
                for printed, by in values.items():
                    median = {who: statistics.median(all_of) for who, all_of in by.items()}
                    ratios = {who: measure.ratio(by['weir'], by[who]) for who in others if who in by}
                    results.append({'series': series, 'row': printed, 'number': number, 'n': n, 'procs': procs, 'unit': units[printed],
                                    'values': by, 'median': median, 'ratio': ratios})
                    first = others[0] if others else ''
                    say(LINE.format(printed, number, procs, units[printed], table.number(median['weir']),
                                    table.number(median[first]) if first in median else table.NONE,
                                    table.ratio_text(ratios.get(first))).rstrip())
    return results
