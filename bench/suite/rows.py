"""The rows of the benchmark: what they are called, how much work each does, and what it prints.

doc/performance.md says what each does. The work is so much that weir and Go are done in about a second,
but for sieve and some of prove-…, which take ten.
"""


class Row:
    """A row: `n` is its work, `quick` that of a look at it.

    Where `fixed`, the figure belongs to just this n: sums over a tree, so many that wait. Elsewhere it is the same for any, but
    for the noise, and a program that is slow may do less. `parts` are the names that a run prints.
    """

    def __init__(self, name, n, quick=None, fixed=False, parts=None):
        self.name, self.n, self.fixed = name, n, fixed
        self.quick = quick or max(n // 10, 1)
        self.parts = [name + part for part in parts] if parts else [name]

    def warm_up(self, n):
        """How much is done in the round that does not count."""
        return min(n, self.quick) if self.fixed else max(n // 10, self.quick // 10)


def proof(name, n):
    return Row(name, n, fixed=True, parts=['-pause', '-total'])


def some(names, n, quick=None, fixed=False, parts=None):
    return [Row(name, n, quick, fixed, parts) for name in names.split()]


PARKED = ['-create', '-bytes', '-wake']

ROWS = [
    *some('yield-1 yield-2 yield-100', 2000000),
    *some('yield-10k', 1000000),
    Row('yield-100k', 1000000, quick=200000, fixed=True),
    *some('spawn-batch spawn-one', 300000),
    Row('parked', 1000000, fixed=True, parts=PARKED),
    *some('pingpong', 300000),
    *some('pingpong-tied', 50000),
    *some('spsc-0 spsc-1', 1000000),
    *some('spsc-128 spsc-1024', 2000000),
    *some('spsc-0-64b spsc-128-64b', 1000000),
    *some('mpmc-2x2-0 mpmc-4x4-0 mpmc-16x16-0', 1000000),
    *some('mpmc-2x2-128 mpmc-4x4-128 mpmc-16x16-128', 2000000),
    *some('select-2-one select-2-all select-2-none', 1000000),
    *some('select-8-one select-8-all select-8-none', 500000),
    *some('select-64-one select-64-all select-64-none', 100000),
    *some('select-timeout-ready', 300000),
    *some('select-timeout-wait', 200000),
    Row('sieve', 10000, quick=1000, fixed=True),
    Row('skynet', 1000000, fixed=True),
    *some('cancel-waiters cancel-receivers cancel-children', 100000, fixed=True),
    *some('context-timeout', 1000000),
    *some('timers-set timers-reset timers-stop timers-due', 1000000, fixed=True),
    *some('timers-one', 1000000),
    Row('sleep-50us', 1000, fixed=True, parts=['-p50', '-p99']),
    Row('sleep-1ms', 500, fixed=True, parts=['-p50', '-p99']),
    *some('mutex-alone', 5000000),
    *some('mutex-2 mutex-16 mutex-1000', 3000000),
    Row('mutex-16-longest', 1000000, fixed=True),
    *some('rwmutex-alone rwmutex-16', 3000000),
    *some('once', 10000000),
    Row('fib', 27, quick=22, fixed=True),
    proof('prove-parked', 100000),
    proof('prove-heap', 1024),
    proof('prove-heap-anyhow', 1024),
    proof('prove-parked-1m', 1000000),
    proof('prove-heap-4g', 4096),
]

# For the curves of cost against number, `tools/bench --growth`: a name, what the number is, and for each point the number and the row.
DECADES = [10 ** i for i in range(7)]


def as_many(name, parts=None):
    """A row whose work is the number."""
    return [(n, Row(name, n, quick=n, parts=parts)) for n in DECADES]


GROWTH = [
    ('yield', 'goroutines that share the yields',
     [(k, Row(f'yield-{name}', max(1000000, 3 * k), quick=max(100000, 3 * k)))
      for k, name in zip(DECADES, '1 10 100 1k 10k 100k 1m'.split())]),
    ('parked', 'goroutines', as_many('parked', PARKED)),
    ('select', 'arms, of which one is ready', [(k, Row(f'select-{k}-one', 1000000 // k)) for k in (2, 8, 64, 256, 1024)]),
    ('timers-set', 'timers pending in the end', as_many('timers-set')),
    ('timers-reset', 'timers pending', as_many('timers-reset')),
    ('timers-stop', 'timers pending at first', as_many('timers-stop')),
    ('chan-waiters', 'goroutines that wait on one channel', as_many('chan-waiters')),
    ('cancel-waiters', 'goroutines that wait on one context', as_many('cancel-waiters')),
    ('cancel-children', 'child contexts', as_many('cancel-children')),
]


def chosen(words):
    """The rows of that name, or that print it, or else those with it in their name. Raises ValueError for a word that fits none."""
    found = set()
    for word in words:
        fits = {row for row in ROWS if word in (row.name, *row.parts)} or {row for row in ROWS if word in row.name}
        if not fits:
            raise ValueError(f'no row is named {word}; see --list')
        found |= fits
    return [row for row in ROWS if row in found]
