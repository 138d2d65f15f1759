"""The commands. See their help texts."""
import gdb

from . import corefile, stacks
from .runtime import Runtime, printable
from .threads import Threads


class Process:
    """What a command looks at: the goroutines of the selected process, and who is on which thread."""

    def __init__(self):
        self.runtime = Runtime()
        self.goroutines = self.runtime.goroutines()
        self.threads = Threads(self.runtime)
        self.reader = stacks.Reader(self.runtime)

    def thread_of(self, goroutine):
        return self.threads.of(goroutine, self.goroutines)

    def current(self):
        """The address of the goroutine that is shown, or that the selected thread runs; None: none."""
        shown = stacks.shown()
        if shown:
            return shown.address
        return next((g.address for g in self.goroutines if self.thread_of(g) == self.threads.selected), None)

    def find(self, number):
        for g in self.goroutines:
            if g.id == number:
                return g
        raise gdb.GdbError(f'There is no goroutine {number}, or it has ended. `info goroutines` lists those there are.' + self.missing())

    def missing(self):
        n = self.runtime.missing
        return (f'\n{n} goroutines are missing: their stacks cannot be read, or are not in the core file. gcore leaves them out where it '
                'comes upon guard pages of Linux 6.13 and later: in the process `goroutine core FILE` writes them too.') if n else ''

    def go_to(self, goroutine):
        """Have gdb show its frames. The thread that it is on, which is selected then; None: it is on none."""
        thread = self.thread_of(goroutine)
        if thread is not None:
            stacks.pretend(None)
            thread.switch()
            return thread
        if goroutine.foreign:
            raise gdb.GdbError(f'Goroutine {goroutine.id} is a thread of the program, and it cannot be told which: see `info threads`.')
        if goroutine.state == 'running' and goroutine.on_cpu:
            raise gdb.GdbError(f'Goroutine {goroutine.id} is running, on a thread that gdb does not see, or that is not stopped.')
        stacks.show(goroutine)
        return None

    def users_frame(self, goroutine):
        return self.reader.users_frame(goroutine.waiting) or stacks.first_frame() or gdb.newest_frame()

    def place(self, goroutine):
        """Where it is, in a line."""
        try:
            self.go_to(goroutine)
            frame = self.reader.users_frame(goroutine.waiting)
            if frame is None and stacks.shown() and goroutine.state == 'runnable':
                return f'{self.reader.start(goroutine.fn)}, not begun yet'
            return self.reader.place(frame or stacks.first_frame() or gdb.newest_frame())
        except (gdb.error, gdb.GdbError):
            return '(its stack cannot be read)'


class Command(gdb.Command):
    """An error of gdb's is the command's."""

    def invoke(self, argument, from_tty):
        self.dont_repeat()
        try:
            self.obey(argument.strip())
        except gdb.error as error:
            raise gdb.GdbError(str(error).replace('Error occurred in Python: ', ''))


class InfoGoroutines(Command):
    """List the goroutines of the program, with weir's own threads left out.

Each line has the number, what the goroutine does and for how long it has waited, the name that weir_name gave it, the
innermost function of the program's own, and the thread (gdb's number) that it is on.  A * marks the one on the selected
thread, or the one that `goroutine N` has selected.
In a core file the time is not known: "or more" is counted to the last time that the runtime took down."""

    def __init__(self):
        super().__init__('info goroutines', gdb.COMMAND_STACK)

    def obey(self, argument):
        if argument:
            raise gdb.GdbError('`info goroutines` takes no argument.')
        process = Process()
        current = process.current()
        width = max((len(str(g.id)) for g in process.goroutines), default=1)
        with stacks.put_back():
            for g in process.goroutines:
                thread = process.thread_of(g)
                words = f'[{g.doing()}] ' + (f'"{g.name()}" ' if g.name() else '') + printable(process.place(g))
                on = f', thread {thread.num}' if thread else ''
                gdb.write(f'{"*" if g.address == current else " "} {g.id:<{width}} {words}{on}\n')
        if process.missing():
            gdb.write(process.missing().lstrip() + '\n')


class GoroutineCommand(Command):
    """Look at a goroutine, whether or not it is on a thread.

goroutine                   which one is selected
goroutine N                 select the goroutine with that number: its frames, in place of the selected thread's, until the
                            process goes on; the frame is the innermost one of the program's own code
goroutine N frame K         the same with frame K of its backtrace, which begins above 0 (without K: as above)
goroutine N COMMAND         run a command of gdb's there: bt, bt full, info locals, print x ...
goroutine all COMMAND       run it for each goroutine
goroutine back              show the selected thread again
goroutine core FILE         write a core file that has all stacks, where that of generate-core-file would not

A goroutine that is on a thread is shown by selecting that thread.
Nothing is written to the process; variables of a frame can be read, and those in memory be set.  Registers, thread-local
variables and calls of functions (`print f()`) are those of the thread that was selected.  Before `step`, `next` or `finish`
say `goroutine back`: a parked goroutine does not run."""

    def __init__(self):
        super().__init__('goroutine', gdb.COMMAND_STACK)

    def obey(self, argument):
        which, _, command = argument.partition(' ')
        command = command.strip()
        if which == '':
            self.say_current()
        elif which == 'back' and not command:
            stacks.pretend(None)
        elif which == 'core' and command:
            self.write_core(command)
        elif which == 'all' and command:
            self.for_each(command)
        elif which.isascii() and which.isdigit():
            self.for_one(int(which), command)
        else:
            raise gdb.GdbError('Say `goroutine`, `goroutine N`, `goroutine N COMMAND`, `goroutine all COMMAND`, '
                               '`goroutine core FILE` or `goroutine back`; see `help goroutine`.')

    def say_current(self):
        process = Process()
        current = process.current()
        for g in process.goroutines:
            if g.address == current:
                gdb.write(g.header() + '\n')
                return
        gdb.write('The selected thread is on no goroutine.\n')

    def for_one(self, number, command):
        process = Process()
        goroutine = process.find(number)
        words = command.split()
        if not words or (words[0] == 'frame' and len(words) <= 2 and all(w.isdigit() for w in words[1:])):
            self.select(process, goroutine, words[1:])
        else:
            self.run(process, goroutine, command)

    def for_each(self, command):
        process = Process()
        for g in process.goroutines:
            try:
                self.run(process, g, command)
            except (gdb.error, gdb.GdbError) as error:
                gdb.write(f'{error}\n')
            gdb.write('\n')
        if process.missing():
            gdb.write(process.missing().lstrip() + '\n')

    def write_core(self, path):
        process = Process()
        if not process.runtime.exact:
            raise gdb.GdbError('A core file is written of a process on this machine.')
        with stacks.put_back():
            written, left_out = corefile.write(process, path)
        gdb.write(f'Saved corefile {path}, with the stacks of {written} goroutines' + (f'; {left_out} cannot be read' if left_out else '') + '\n')

    def run(self, process, goroutine, command):
        with stacks.put_back():
            gdb.write(goroutine.header())
            thread = process.go_to(goroutine)
            gdb.write(f', on thread {thread.num}:\n' if thread else ':\n')
            process.users_frame(goroutine).select()
            gdb.execute(command)

    def select(self, process, goroutine, level):
        thread = process.go_to(goroutine)
        gdb.write(goroutine.header() + (f', on thread {thread.num}\n' if thread else '\n'))
        (stacks.frame_at(int(level[0])) if level else process.users_frame(goroutine)).select()
        gdb.execute('frame')


def register():
    stacks.register()
    InfoGoroutines()
    GoroutineCommand()
