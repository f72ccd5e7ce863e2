#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Runs every fuzzer over its seeds: fuzz_NAME over fuzz_NAME.in.  -runs=0 makes libFuzzer do just that;
# replay.c ignores it.
set -u
fail=0 ran=0
for seeds in "$top_srcdir"/tests/fuzz/fuzz_*.in; do
	name=$(basename "$seeds" .in)
	"$top_builddir/tests/fuzz/$name" -runs=0 "$seeds" || { echo "FAILED: $name"; fail=1; }
	ran=$((ran + 1))
done
test "$ran" -gt 0 && exit "$fail"
echo "no seeds in $top_srcdir/tests/fuzz"
exit 1
