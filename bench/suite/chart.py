"""The chart: the ratio weir ÷ peer of each row, on a logarithmic scale, one panel for each number of workers. Plain SVG.

There is no background, and the colours are of middling lightness, so that it can be read on white and on black alike.
"""
import math
from xml.sax.saxutils import escape

LABEL, PANEL, GAP, LINE, TOP, BOTTOM = 170, 330, 40, 15, 78, 34
LEAST, MOST = 0.001, 100  # what lies outside is drawn at the edge
GREY, FAINT = '#7d8590', '#7d8590" stroke-opacity="0.3'
# Shape and colour: the shape alone tells them apart.
MARKS = {
    'go': ('circle', '#2f81f7'), 'rust-tokio': ('square', '#e5672f'), 'rust-crossbeam': ('diamond', '#d04e8a'),
    'rust-flume': ('up', '#b3862b'), 'rust-kanal': ('down', '#8e6bd8'), 'boost': ('cross', '#2da44e'), 'st': ('plus', '#6f8f2f'),
    'java': ('ring', '#cf3f3f'), 'bare': ('cross', GREY), 'unlocked': ('plus', GREY),
}


def text(x, y, words, anchor='start', size=11, colour=GREY):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{colour}">{escape(words)}</text>'


def line(x1, y1, x2, y2, colour=FAINT, width=1):
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" stroke-width="{width}"/>'


def mark(who, x, y, title=''):
    shape, colour = MARKS[who]
    lines = {'cross': 'M-3.5-3.5 3.5 3.5M-3.5 3.5 3.5-3.5', 'plus': 'M-4.5 0H4.5M0-4.5V4.5',
             'ring': 'M-3.6 0A3.6 3.6 0 1 0 3.6 0A3.6 3.6 0 1 0-3.6 0Z'}
    filled = {'circle': 'M-3.8 0A3.8 3.8 0 1 0 3.8 0A3.8 3.8 0 1 0-3.8 0Z', 'square': 'M-3.4-3.4H3.4V3.4H-3.4Z',
              'diamond': 'M0-4.6 4.6 0 0 4.6-4.6 0Z', 'up': 'M0-4.4 4.4 3.6H-4.4Z', 'down': 'M0 4.4 4.4-3.6H-4.4Z'}
    paint = f'd="{lines[shape]}" fill="none" stroke="{colour}" stroke-width="1.8"' if shape in lines else \
        f'd="{filled[shape]}" fill="{colour}"'
    return f'<path transform="translate({x:.1f} {y:.1f})" {paint}>{f"<title>{escape(title)}</title>" if title else ""}</path>'


class Scale:
    """Whole decades, as many as it takes; 1 is among them."""

    def __init__(self, ratios):
        inside = [min(max(ratio, LEAST), MOST) for ratio in ratios]
        self.low = math.floor(min(map(math.log10, inside), default=-1))
        self.high = math.ceil(max(map(math.log10, inside), default=1))
        self.low, self.high = min(self.low, -1), max(self.high, 1)

    def ticks(self):
        return [10 ** power for power in range(self.low, self.high + 1)]

    def place(self, ratio):
        return PANEL * (min(max(math.log10(ratio), self.low), self.high) - self.low) / (self.high - self.low)


def panel(left, results, names, procs, bottom, scale):
    parts = [text(left + PANEL / 2, TOP - 26, f'{procs} worker{"s" * (procs > 1)}', 'middle', 12)]
    for tick in scale.ticks():
        x = left + scale.place(tick)
        parts.append(line(x, TOP - 4, x, bottom, GREY if tick == 1 else FAINT, 1.5 if tick == 1 else 1))
        parts += [text(x, y, f'{tick:g}', 'middle', 10) for y in (TOP - 10, bottom + 14)]
    for result in results:
        if result['procs'] != procs:
            continue
        y = TOP + (names.index(result['row']) + 0.5) * LINE
        for who, ratio in reversed(result['ratio'].items()):  # where they overlap, the first peer is on top
            if ratio:
                parts.append(mark(who, left + scale.place(ratio), y, f"{result['row']}: weir ÷ {who} = {ratio:.2f}"))
    return parts


def legend_width(who):
    return 30 + 7 * len(who)


def draw(results, peers, about, quick):
    drawn = [result for result in results if any(result['ratio'].values())]
    names = list(dict.fromkeys(result['row'] for result in drawn))
    all_procs = sorted({result['procs'] for result in drawn})
    scale = Scale([ratio for result in drawn for ratio in result['ratio'].values() if ratio])
    bottom = TOP + LINE * len(names)
    right = LABEL + len(all_procs) * (PANEL + GAP)
    legend = [who for who in peers if any(who in result['ratio'] for result in drawn)]
    width, height = max(right, 30 + sum(map(legend_width, legend))), bottom + BOTTOM
    head = 'weir ÷ peer: left of the line at 1, weir is faster (or smaller)' + (', a quick look only' if quick else '')
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
             'font-family="system-ui, sans-serif">', text(8, 18, head, size=13)]
    x = 8
    for who in legend:
        parts += [mark(who, x + 6, 34), text(x + 15, 38, who)]
        x += legend_width(who)
    for i, name in enumerate(names):
        y = TOP + (i + 0.5) * LINE
        parts += [text(LABEL - 8, y + 4, name, 'end'), line(LABEL, y, right - GAP, y)]
    for i, procs in enumerate(all_procs):
        parts += panel(LABEL + i * (PANEL + GAP), drawn, names, procs, bottom, scale)
    parts += [text(8, height - 6, f"{about['cpu']}, {about['cpus']} CPUs, Linux {about['kernel']}", size=10), '</svg>']
    return '\n'.join(parts) + '\n'
