#!/bin/sh
# The tests and files that README.md and doc/*.md name are there: see tools/check-conformance.
exec python3 "$WEIR_SRC/tools/check-conformance"
