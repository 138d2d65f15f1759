"""The table in the terminal: weir's median, then each peer's with the ratio weir ÷ peer."""

SHORT = {'rust-tokio': 'tokio', 'rust-crossbeam': 'crossbeam', 'rust-flume': 'flume', 'rust-kanal': 'kanal'}
NONE = '·'


def number(x):
    """At most six characters."""
    if abs(x) >= 1e8:
        return f'{x / 1e6:.0f}M'
    if abs(x) >= 1e5:
        return f'{x / 1e3:.0f}k'
    return f'{x:.0f}' if abs(x) >= 100 else f'{x:.1f}' if abs(x) >= 1 else f'{x:.2f}'


def ratio_text(x):
    return '' if x is None else f'{x:.3f}' if x < 0.1 else f'{x:.2f}' if x < 10 else f'{x:.0f}'


class Table:
    def __init__(self, who, wide):
        self.peers = [name for name in who if name != 'weir']
        self.wide = wide
        self.range_width = 14 if wide else 0

    def cell(self, result, who):
        values = result['values'].get(who)
        if not values:
            return f'{NONE:>7}' + ' ' * self.range_width
        span = f' {number(min(values))}–{number(max(values))}' if self.wide else ''
        return f"{number(result['median'][who]):>7}{span:<{self.range_width}}"

    def head(self):
        names = ''.join(f'{SHORT.get(name, name):>{13 + self.range_width + (6 if self.wide else 0)}}  ' for name in self.peers)
        return f"{'row':<24}{'P':>2} {'unit':<6}{'weir':>{7 + self.range_width}}  {names}".rstrip()

    def line(self, result):
        text = f"{result['row']:<24}{result['procs']:>2} {result['unit']:<6}{self.cell(result, 'weir')}  "
        for name in self.peers:
            text += self.cell(result, name) + f"{ratio_text(result['ratio'].get(name)):>6}"
            if self.wide:
                text += f"{ratio_text(result['cpu_ratio'].get(name)):>6}"
            text += '  '
        return text.rstrip()

    def legend(self):
        text = 'Each figure is a median; after a peer\'s, the ratio weir ÷ peer, of each round, and of those the median: below 1, ' \
               f'weir is better. {NONE}: has no such row.'
        if self.wide:
            text += ' Then least–most, and the same ratio of the CPU time of whole processes.'
        return text
