"""Frames of goroutines that no thread runs on.

An unwinder pretends that the innermost frame of the selected thread was called from wr_switch, on the parked stack: there the
call frame information of wr_switch finds the registers that were saved, and gdb goes on as anywhere. So the same works in a
process and in a core file, and no register is ever written. The frames of a parked goroutine begin below that frame, so
its first has a number above 0. While nothing is shown the unwinder claims no frame at all.

What is shown stays so until `goroutine back`, another goroutine, or the process goes on; commands for one goroutine put back
what was there.
"""
import os
from contextlib import contextmanager

import gdb
from gdb.unwinder import Unwinder, register_unwinder

from . import threads
from .runtime import word

PAST_MAIN = 'backtrace past-main'  # or there would be nothing behind a thread that stands in main
FRAMES_MAX = 4096


class FrameId:
    def __init__(self, sp, pc):
        self.sp, self.pc = sp, pc


class Pretended:
    """A goroutine in place of the callers of one frame: of the selected thread's innermost, when this was made."""

    def __init__(self, goroutine):
        frame = gdb.newest_frame()
        number = goroutine.runtime.number
        self.goroutine = goroutine
        self.integer = frame.architecture().integer_type(64, False)
        self.names = threads.register_names(frame)
        self.host = threads.registers(frame)
        self.parked = goroutine.sp, number('parked') + word(number('parked.offset'))


class ParkedUnwinder(Unwinder):
    def __init__(self):
        super().__init__('weir')
        self.pretended = None

    def __call__(self, pending):
        p = self.pretended
        if p is None or any(int(pending.read_register(name)) & threads.MASK != value for name, value in zip(p.names, p.host)):
            return None
        sp, pc = (gdb.Value(value).cast(p.integer) for value in p.parked)
        # Further in than its callers are, as gdb expects of a frame.
        info = pending.create_unwind_info(FrameId(gdb.Value(p.parked[0] - 64).cast(p.integer), pc))
        for name, value in zip(p.names, (sp, pc)):
            info.add_saved_register(name, value)
        return info


class HostHidden:
    """A frame filter: a backtrace of a parked goroutine begins with the goroutine's own frames."""

    name, enabled, priority = 'weir', False, 1000

    def filter(self, frames):
        start = first_frame()
        level = start.level() if start else 0
        return (f for f in frames if f.inferior_frame().level() >= level)


unwinder = ParkedUnwinder()
hidden = HostHidden()
past_main_before = None


def register():
    register_unwinder(None, unwinder, replace=True)
    gdb.frame_filters[hidden.name] = hidden
    gdb.events.cont.connect(goes_on)
    gdb.events.exited.connect(goes_on)


def goes_on(_):
    """Not told of where the process only calls a function for the debugger."""
    if unwinder.pretended:
        pretend(None)


def shown():
    return unwinder.pretended.goroutine if unwinder.pretended else None


def pretend(pretended):
    global past_main_before
    unwinder.pretended, hidden.enabled = pretended, pretended is not None
    if pretended and past_main_before is None:
        past_main_before = gdb.parameter(PAST_MAIN)
        gdb.execute(f'set {PAST_MAIN} on')
    elif not pretended and past_main_before is not None:
        if not past_main_before:
            gdb.execute(f'set {PAST_MAIN} off')
        past_main_before = None
    gdb.invalidate_cached_frames()


def show(goroutine):
    """From now on, the frames of this goroutine, which is on no thread."""
    pretend(Pretended(goroutine))
    if first_frame() is None:
        pretend(None)
        raise gdb.GdbError(f'The stack of goroutine {goroutine.id} cannot be walked: its memory cannot be read, or is not what it was.')


def first_frame():
    """Of what is shown; None: nothing is, or it cannot be walked."""
    p, frame = unwinder.pretended, gdb.newest_frame()
    for _ in range(64):  # calls inlined where the thread stands are frames too
        if p is None or frame is None:
            return None
        if frame.level() > 0 and threads.registers(frame) == p.parked:
            return frame
        frame = frame.older()
    return None


def frame_at(level):
    """The frame with that number, of what there is to see."""
    frame = first_frame() or gdb.newest_frame()
    first = frame.level()
    while frame and frame.level() < level:
        frame = frame.older()
    if frame is None or frame.level() != level:
        raise gdb.GdbError(f'There is no frame {level}; they begin with {first}.')
    return frame


@contextmanager
def put_back():
    """Whatever is shown and selected inside, what was so before is afterwards; unless the process has gone on."""
    pretended, thread, frame = unwinder.pretended, gdb.selected_thread(), gdb.selected_frame()
    went_on = []
    gdb.events.cont.connect(went_on.append)
    try:
        yield
    finally:
        gdb.events.cont.disconnect(went_on.append)
        try:
            if not went_on and thread.is_valid():
                thread.switch()
                pretend(pretended)
                frame.select()
            else:
                pretend(None)
        except gdb.error:  # that frame is no more
            pass


# ---- Whose frame is it? -----------------------------------------------------------------------------

class Reader:
    """Tells weir's own frames from the program's."""

    def __init__(self, runtime):
        self.api = runtime.number('api'), runtime.number('api.end')
        self.entry = runtime.number('entry'), runtime.number('entry.end')
        self.library = gdb.solib_name(self.api[0])  # None: weir is a part of the program
        table = gdb.find_pc_line(self.api[0]).symtab
        path = table.fullname().rsplit('/', 2) if table else []
        self.root = path[0] + '/' if len(path) == 3 else None  # of weir's sources

    def is_call(self, frame):
        """A function of the public interface: these lie together."""
        return self.api[0] <= frame.pc() <= self.api[1]

    def is_own(self, frame):
        pc, name = frame.pc(), frame.name() or ''
        if self.is_call(frame) or self.entry[0] <= pc <= self.entry[1]:
            return True
        if self.library and gdb.solib_name(pc) == self.library:
            return True
        table = frame.find_sal().symtab
        if table and self.root and table.fullname().startswith(self.root):
            return True
        return name.startswith(('wr_', 'weir_')) and name != 'weir_main'

    def users_frame(self, waiting):
        """Where the program's own code is, of the frames that there are now: the innermost function of which the source is known
        (and that is not the C library's), or else the innermost; if it waits in a call of weir's, beyond that. None if there is none."""
        frame, bare = first_frame() or gdb.newest_frame(), None
        beyond = not waiting
        for _ in range(FRAMES_MAX):
            if frame is None:
                break
            if self.is_call(frame):
                if bare:
                    break
                beyond = True
            elif beyond and not self.is_own(frame):
                if frame.find_sal().symtab and not in_c_library(frame):
                    return frame
                bare = bare or frame
            frame = frame.older()
        return bare

    def place(self, frame):
        """`search at search.c:44`; without a name the address and the object."""
        sal = frame.find_sal()
        name = frame.name() or place_of_address(frame.pc())
        return f'{name} at {sal.symtab.filename}:{sal.line}' if sal.symtab else name

    def start(self, pc):
        """The same for a function that has not begun."""
        sal = gdb.find_pc_line(pc)
        name = place_of_address(pc)
        return f'{name} at {sal.symtab.filename}:{sal.line}' if sal.symtab else name


def in_c_library(frame):
    """Its source may be known, too."""
    return os.path.basename(gdb.solib_name(frame.pc()) or '').startswith(('libc.', 'libc-', 'libpthread', 'ld-', 'ld.'))


def place_of_address(pc):
    """`function` or `function + 12`, else the address, with the object that it lies in."""
    symbol = gdb.execute(f'info symbol {pc:#x}', to_string=True)
    if symbol.startswith('No symbol'):
        return f'{pc:#x} in {gdb.solib_name(pc) or "the program"}'
    return symbol.split(' in section ')[0].strip()
