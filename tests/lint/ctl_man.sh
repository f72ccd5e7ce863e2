#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# The commands section of turnpikectl(8) is what commands.def says.  After a change of the table:
# tests/lint/ctl_man.sh --update  in the build directory.
set -eu
: "${top_srcdir:=..}" "${top_builddir:=.}"
man=$top_srcdir/man/turnpikectl.8
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

"$top_builddir/src/prog/turnpikectl" --dump-man >"$tmp/commands"
awk -v dir="$tmp" '
/^\.\\" begin / { print; file = dir "/" $3; while ((getline line < file) > 0) print line; skip = 1 }
/^\.\\" end / { skip = 0 }
!skip { print }' "$man" >"$tmp/man"
if [ "${1:-}" = --update ]; then
	cp "$tmp/man" "$man"
	exit 0
fi
diff -u "$man" "$tmp/man"
