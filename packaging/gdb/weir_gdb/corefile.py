"""A core file that has the stacks of all goroutines.

gdb's own (generate-core-file, gcore) copies a mapping in pieces of a MiB, and gives up the whole mapping where it cannot read one.
The guard pages of Linux 6.13 and later lie inside of mappings and cannot be read, so of the stacks nothing is left but zeroes. Here they
are written into the file afterwards, each from its stack pointer up.
"""
import os
import struct

import gdb

from .runtime import read
from .threads import registers

PT_LOAD, MANY = 1, 0xffff
RED_ZONE = 128


def segments(file):
    """(address, bytes, place in the file) of each piece of memory."""
    file.seek(0)
    header = file.read(64)
    table, sections = struct.unpack_from('<QQ', header, 32)
    size, n = struct.unpack_from('<HH', header, 54)
    if n == MANY:  # then the first section header has the number
        file.seek(sections + 44)
        n = struct.unpack('<I', file.read(4))[0]
    file.seek(table)
    rows = file.read(size * n)
    for i in range(n):
        kind, _, offset, address, _, in_file = struct.unpack_from('<IIQQQQ', rows, i * size)
        if kind == PT_LOAD:
            yield address, in_file, offset


def stack_pointer(process, goroutine):
    thread = process.thread_of(goroutine)
    if thread is None:
        return goroutine.sp
    thread.switch()
    sp = registers(gdb.newest_frame())[0]
    lo, hi = goroutine.stack
    return sp if lo <= sp < hi else goroutine.field('stack_lo', 'Q')  # in a handler of a signal: all of it


def write(process, path):
    """How many stacks were written, and how many could not be."""
    path = os.path.abspath(os.path.expanduser(path))
    gdb.execute('generate-core-file ' + path, to_string=True)
    ends = {slot: slot + size for base, size, used in process.runtime.slabs() for slot in range(base, base + used * size, size)}
    written = left_out = 0
    with open(path, 'r+b') as file:
        loaded = list(segments(file))
        for goroutine in process.goroutines:
            if not goroutine.slot:
                continue
            lo, hi = max(goroutine.slot, stack_pointer(process, goroutine) - RED_ZONE), ends[goroutine.slot]
            place = next((offset + lo - address for address, size, offset in loaded if address <= lo and hi <= address + size), None)
            try:
                stack = read(lo, hi - lo)
            except gdb.MemoryError:
                place = None
            if place is None:
                left_out += 1
                continue
            file.seek(place)
            file.write(stack)
            written += 1
    return written, left_out
