"""Which goroutine is on which thread.

What counts is where stack pointers are. A control block says on_cpu a little too early and a little too late: between the two
the goroutine is on no thread yet, or any more, and its stack can be walked like that of any other that is parked.
"""
import gdb

# What the debugger calls the stack pointer and the program counter.
REGISTERS = {'i386:x86-64': ('rsp', 'rip'), 'aarch64': ('sp', 'pc')}
MASK = (1 << 64) - 1


def register_names(frame):
    try:
        return REGISTERS[frame.architecture().name()]
    except KeyError:
        raise gdb.GdbError(f'weir has no stacks for {frame.architecture().name()}.')


def registers(frame):
    """Stack pointer and program counter in a frame."""
    return tuple(int(frame.read_register(name)) & MASK for name in register_names(frame))


class Threads:
    """All threads of the process, looked at once. The selected one stays selected."""

    def __init__(self, runtime):
        self.selected = gdb.selected_thread()
        frame = gdb.selected_frame()
        self.by_sp, self.by_tid, self.by_pthread = [], {}, {}
        try:
            for thread in gdb.selected_inferior().threads():
                self.look(thread)
        finally:
            self.selected.switch()
            if frame.is_valid():
                frame.select()
        self.claimed = runtime.threads_of_goroutines()

    def look(self, thread):
        if not thread.is_valid() or thread.is_running():
            return
        thread.switch()
        innermost = gdb.newest_frame()
        self.by_sp.append((registers(innermost)[0], thread))
        self.by_tid[thread.ptid[1] or thread.ptid[2]] = thread
        try:
            self.by_pthread[int.from_bytes(thread.handle(), 'little')] = thread
        except RuntimeError:  # without libthread_db; on x86-64 it is the thread's own register
            try:
                self.by_pthread[int(innermost.read_register('fs_base')) & MASK] = thread
            except (ValueError, gdb.error):
                pass

    def on_stack(self, goroutine):
        """The thread whose stack pointer lies in the goroutine's stack."""
        lo, hi = goroutine.stack
        return next((thread for sp, thread in self.by_sp if lo <= sp < hi), None)

    def of(self, goroutine, all_goroutines):
        """The thread that the goroutine is on; None: none."""
        thread = self.on_stack(goroutine)
        if thread is not None:
            return thread
        if goroutine.foreign:
            return self.by_pthread.get(goroutine.pthread)
        if not goroutine.on_cpu or goroutine.address not in self.claimed:
            return None
        # It may be in a signal handler, which has a stack of its own. Or it is about to be switched to, by another one.
        thread = self.by_tid.get(self.claimed[goroutine.address])
        if thread is None or any(g is not goroutine and self.on_stack(g) == thread for g in all_goroutines if g.slot):
            return None
        return thread
