#!/bin/sh
# What README.md and doc/*.md show as C compiles without a warning, and what is a program runs: tools/check-snippets.
exec python3 "$WEIR_SRC/tools/check-snippets"
