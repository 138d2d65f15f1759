"""Goroutines for gdb: the commands `info goroutines` and `goroutine`, on a live process and on a core file.

runtime.py   what the runtime's memory says: which goroutines there are, in which state
threads.py   which of them is on which thread
stacks.py    frames of those that are on none
corefile.py  core files that have their stacks
commands.py  the commands

The process is only read: no register and no byte of it is written. Needs gdb 12 or later, with Python.
"""
from . import commands

commands.register()
