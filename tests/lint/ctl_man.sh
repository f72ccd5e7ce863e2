#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# The commands section of turnpikectl(8) is what commands.def says.  After a change of the table:
# tests/lint/ctl_man.sh --update  in the build directory.
set -eu
: "${top_srcdir:=..}" "${top_builddir:=.}"
man=$top_srcdir/man/turnpikectl.8
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
. "$top_srcdir/tests/lint/man_sections"

"$top_builddir/src/prog/turnpikectl" --dump-man >"$tmp/commands"
man_sections "$man" "$tmp" "${1:-}"
