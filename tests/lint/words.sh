#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Words that a reader stumbles over: people for processes, archaisms, relative clauses without a head.  HACKING says why.
# The lint finds words; it does not replace reading.
set -eu
cd "$top_srcdir"
words='somebody|someone else|whoever|whosoever|whomever|anew|in vain|for ever|at hand|he who|lest|naught|aught|thereof|wherefore|herself|himself'
people='nobody (is|was|has|can|may|waits|needs|asks|else|who|reads|writes|knows|gets)|everybody|those who (die|died|attach|read|write)'
found=$(find src include tests man doc etc contrib README HACKING NEWS CONTRIBUTING SECURITY.md -type f \
    ! -name '*.json' ! -name '*.svg' ! -name "*.png" ! -path "tests/corpus/*" ! -path "tests/lint/words.sh" -print0 | sort -z |
    xargs -0 grep -nEiw "$words|$people" || true)
test -z "$found" || { echo "$found"; echo "say it in plain words: name the process, the user or the client; 'it' for processes"; exit 1; }
