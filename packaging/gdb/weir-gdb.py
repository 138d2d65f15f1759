# Goroutines for gdb: `source` this file, in a session or in ~/.gdbinit. `help goroutine` then says what there is.
# The package lies beside it. Nothing is written there: this may be an installed tree, and gdb run by root.
import os
import sys

weir_saved = sys.path[:], sys.dont_write_bytecode
try:
    # Not __file__, which is another's where a Python script has this one sourced.
    sys.path.insert(0, os.path.dirname(os.path.realpath((lambda: 0).__code__.co_filename)))
    sys.dont_write_bytecode = True
    import weir_gdb
finally:
    sys.path[:], sys.dont_write_bytecode = weir_saved
    del weir_saved
