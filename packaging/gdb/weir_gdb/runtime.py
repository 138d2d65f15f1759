"""What the runtime's memory says: the goroutines there are, and in which state each is.

Where things lie is told by tables of numbers with names that libweir carries (src/sched/gdb.c), so debug information of weir's
is not needed. Nothing is kept from one command to the next: the process may have gone on, or be another one.
"""
import re
import struct
import time

import gdb

VERSION = 1
NAME_BYTES = 24  # of a number's name, with the 8 of its value behind it
TEXT_MAX = 4096  # a path may be as long


# ---- Memory -----------------------------------------------------------------------------------------

def read(address, size):
    """Bytes of the process; gdb.MemoryError if they cannot be had, or are not in the core file."""
    if not 0 <= address < 1 << 64:
        raise gdb.MemoryError(f'no such address: {address:#x}')
    return gdb.selected_inferior().read_memory(address, size).tobytes()


def word(address):
    return struct.unpack('<Q', read(address, 8))[0]


def text(address):
    """The C string there, as far as it can be read; '' for NULL."""
    data = b''
    while address and len(data) < TEXT_MAX:
        size = min(TEXT_MAX - len(data), 4096 - (address + len(data)) % 4096)  # what follows a page may be missing
        try:
            piece = read(address + len(data), size)
        except gdb.MemoryError:
            break
        data += piece.split(b'\0')[0]
        if b'\0' in piece:
            break
    return data.decode('utf-8', 'backslashreplace')


def printable(string):
    """Whatever a program has put there, no terminal shall obey it, and gdb's own character set must have it."""
    shown = ''.join(c if c.isprintable() else c.encode('unicode_escape', 'backslashreplace').decode() for c in string)
    charset = gdb.host_charset()
    try:
        return shown.encode(charset, 'backslashreplace').decode(charset)
    except (LookupError, UnicodeError):
        return shown.encode('ascii', 'backslashreplace').decode()


# ---- The tables -------------------------------------------------------------------------------------

def table_address():
    try:
        # In C, whatever language the frame is in.
        said = gdb.execute('with language c -- output/x (unsigned long) &weir_gdb_', to_string=True)
        return int(re.search(r'^0x[0-9a-f]+', said, re.M)[0], 0)
    except (gdb.error, TypeError):
        raise gdb.GdbError('There is no weir in this program; or its symbols are missing, and with them weir_gdb_, by which '
                           'goroutines are found: load them with `file` or `symbol-file`.')


def read_numbers():
    if gdb.selected_thread() is None:
        raise gdb.GdbError('There is no process: run the program, attach to one, or open a core file.')
    numbers, tables = {}, table_address()
    try:
        while word(tables):
            entry = word(tables)
            while read(entry, 1) != b'\0':
                name, value = struct.unpack(f'<{NAME_BYTES}sQ', read(entry, NAME_BYTES + 8))
                numbers[name.split(b'\0')[0].decode('ascii', 'replace')] = value
                entry += NAME_BYTES + 8
            tables += 8
    except gdb.MemoryError:
        raise gdb.GdbError("weir's tables (weir_gdb_) cannot be read: is this the program, and the library, that the core file is of?")
    if numbers.get('version') != VERSION:
        raise gdb.GdbError(f"This script reads version {VERSION} of weir's tables (weir_gdb_), the program has "
                           f"{numbers.get('version', 'none')}: source the weir-gdb.py that came with its library.")
    return numbers


# ---- Goroutines -------------------------------------------------------------------------------------

class Goroutine:
    """One control block, as it was when it was read. slot: where its stack begins; None for a thread that is no worker."""

    def __init__(self, runtime, address, slot):
        self.runtime, self.address, self.slot = runtime, address, slot
        self.block = read(address, runtime.number('g'))
        self.state = runtime.states.get(self.field('state', 'I'), 'running')
        self.sp, self.id, self.fn, self.site = (self.field(f, 'Q') for f in ('sp', 'id', 'fn', 'site'))
        self.creator = self.field('creator', 'Q')
        self.on_cpu, self.foreign = self.field('on_cpu', 'I'), self.field('foreign', '?')
        self.pthread = self.field('thread', 'Q')
        self.stack = (slot, address) if slot else (self.field('stack_lo', 'Q'), self.field('stack_hi', 'Q'))
        self.dead = self.state == 'dead'
        self.waiting = self.state == 'waiting'

    def field(self, name, form):
        return struct.unpack_from('<' + form, self.block, self.runtime.number('g.' + name))[0]

    def name(self):
        return printable(text(self.field('name', 'Q')))

    def header(self):
        """What it is and does: `goroutine 7 [chan send, 3.2s] "name"`."""
        name = self.name()
        return f'goroutine {self.id} [{self.doing()}]' + (f' "{name}"' if name else '')

    def doing(self):
        """The state, in the words of dumps, and for how long if it waits."""
        words, waited = self.state, ''
        record = self.field('wait', 'Q') if self.waiting else 0
        try:
            if record:
                wait = read(record, self.runtime.number('wait'))
                words = self.runtime.reason(wait[self.runtime.number('wait.reason')])
                waited = ', ' + self.runtime.since(struct.unpack_from('<q', wait, self.runtime.number('wait.since'))[0])
        except gdb.MemoryError:
            pass
        leaked = ' (leaked)' if self.waiting and self.field('leaked', '?') else ''
        locked = ', locked to thread' if self.foreign or self.field('locked_m', 'Q') else ''
        return words + leaked + waited + locked

    def created(self):
        """`process at search.c:60`, or '' for main and for threads."""
        if not self.site:
            return ''
        try:
            creator, file = (text(word(self.site + self.runtime.number('site.' + f))) for f in ('creator', 'file'))
            line = struct.unpack('<i', read(self.site + self.runtime.number('site.line'), 4))[0]
        except gdb.MemoryError:
            return ''
        return printable(f'{creator} at {file}:{line}')


def duration(nanoseconds):
    seconds = max(0, nanoseconds) / 1e9
    if seconds < 60:
        return f'{seconds:.1f}s'
    minutes, hours = int(seconds) // 60, int(seconds) // 3600
    return f'{minutes}m{int(seconds) % 60:02}s' if hours == 0 else f'{hours}h{minutes % 60:02}m'


class Runtime:
    """The runtime of the selected process."""

    def __init__(self):
        self.numbers = read_numbers()
        self.states = {value: name[len('state.'):] for name, value in self.numbers.items() if name.startswith('state.')}
        self.sched = self.number('sched')
        self.missing = 0  # goroutines whose control blocks could not be had
        self.reasons = {}
        self.now, self.exact = self.clock()

    def number(self, name):
        try:
            return self.numbers[name]
        except KeyError:
            raise gdb.GdbError(f"weir's tables (weir_gdb_) do not tell {name}: source the weir-gdb.py that came with the library.")

    def clock(self):
        """The monotonic time, and whether it is exact. In a core file the time is the last that the runtime took down, which may
        be long before: with nothing to do it takes no time down."""
        coarse = struct.unpack('<q', read(self.sched + self.number('sched.coarse'), 8))[0]
        connection = gdb.selected_inferior().connection
        if connection is not None and connection.type == 'native':
            return max(coarse, time.monotonic_ns()), True
        return coarse, False

    def since(self, when):
        return duration(self.now - when) + ('' if self.exact else ' or more')

    def reason(self, index):
        if index not in self.reasons:
            known = index < self.number('reasons.n')
            self.reasons[index] = text(word(self.number('reasons') + 8 * index)) if known else ''
        return self.reasons[index] or 'waiting'

    def running(self):
        return struct.unpack('<I', read(self.sched + self.number('sched.running'), 4))[0] != 0

    def threads_of_goroutines(self):
        """By the address of the goroutine that a worker says it runs: the worker's number for the kernel."""
        found, m = {}, word(self.sched + self.number('sched.all_ms'))
        while m:
            found[word(m + self.number('m.g'))] = struct.unpack('<i', read(m + self.number('m.tid'), 4))[0]
            m = word(m + self.number('m.next_m'))
        return found

    def slabs(self):
        """(base, bytes of a slot, slots in use)"""
        for i in range(self.number('classes.n')):
            slab = word(self.number('classes') + i * self.number('class') + self.number('class.slabs'))
            while slab:
                used = struct.unpack('<I', read(slab + self.number('slab.used'), 4))[0]
                yield word(slab + self.number('slab.base')), word(slab + self.number('slab.slot')), used
                slab = word(slab + self.number('slab.next'))

    def control_block(self, slot, size):
        colour = slot // size % self.number('colours')
        return slot + size - self.number('g.room') - colour * self.number('colour')

    def goroutines(self):
        """Each that is not dead, in the order of their ids."""
        found, self.missing = [], 0
        for base, size, used in self.slabs():
            for slot in range(base, base + used * size, size):
                self.take(found, self.control_block(slot, size), slot)
        head = self.sched + self.number('sched.foreigns')
        link = word(head)
        while link and link != head:
            self.take(found, link - self.number('g.in_foreign'), None)
            link = word(link)
        if not self.exact:  # stacks that are not in a core file may be all zeroes, and who is dead looks like that, too
            live = self.started_and_not_ended()
            self.missing = max(self.missing, live - len(found))
        if not found and not self.missing and not self.running():
            raise gdb.GdbError("weir's runtime does not run: it has not been started yet, or has been stopped.")
        return sorted(found, key=lambda g: g.id)

    def started_and_not_ended(self):
        """By the tallies, of the threads and of what is none: how many goroutines and foreign threads there are."""
        n, m = struct.unpack('<I', read(self.sched + self.number('sched.foreign'), 4))[0], word(self.sched + self.number('sched.all_ms'))
        n += word(self.sched + self.number('sched.started')) - word(self.sched + self.number('sched.ended'))
        while m:
            n += word(m + self.number('m.started')) - word(m + self.number('m.ended'))
            m = word(m + self.number('m.next_m'))
        return n

    def take(self, found, address, slot):
        try:
            goroutine = Goroutine(self, address, slot)
        except gdb.MemoryError:
            self.missing += 1
            return
        if not goroutine.dead:
            found.append(goroutine)
