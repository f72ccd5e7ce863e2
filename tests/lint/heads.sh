#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Every C file begins with its licence, its name, and what it is for:  name.c: one sentence.
set -eu
cd "$top_srcdir"
bad=$(find src include tests -name '*.[ch]' | sort | while read -r f; do
	head -n 4 "$f" | grep -qE "^(/\*| \*) $(basename "$f" | sed 's/\./\\./'): [^ ]" || echo "$f"
done)
test -z "$bad" || { echo "the first comment does not say \"NAME: what it is for\" in:"; echo "$bad"; exit 1; }
