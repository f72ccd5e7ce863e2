#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# mandoc finds no fault in the manuals, and every manual is written in mdoc.
set -eu
cd "$top_srcdir"
command -v mandoc >/dev/null || { echo "skipped: no mandoc"; exit 77; }
bad=0
for page in man/*.[1-9]; do
	grep -q '^\.Dd ' "$page" || { echo "$page: not mdoc"; bad=1; }
done
# A reference to a manual of this tree is not found while it is not installed.
if mandoc -Tlint man/*.[1-9] | grep -v 'referenced manual not found'; then
	bad=1
fi
exit $bad
