#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# The generated sections of turnpike-tables(7) are what the tables say.  After a change of a table:
# tests/lint/man_tables.sh --update  in the build directory.
set -eu
: "${top_srcdir:=..}" "${PYTHON3:=python3}"
export top_srcdir
man=$top_srcdir/man/turnpike-tables.7
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
. "$top_srcdir/tests/lint/man_sections"

for part in metrics drops errors reasons; do
	"$PYTHON3" "$top_srcdir/tests/lint/tables.py" $part >"$tmp/$part"
	[ -s "$tmp/$part" ] || { echo "no rows for $part"; exit 1; }
done
man_sections "$man" "$tmp" "${1:-}"
