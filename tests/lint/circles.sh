#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Inside a room calls go one way: the objects of a room must not refer to each other in a circle.  tests/lint/circles.allow
# names the dispatches that are meant, and rooms that are not looked at.
set -eu
: "${top_srcdir:=..}" "${top_builddir:=.}"
fail=0 seen=0
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
for dir in "$top_builddir"/src/*/; do
	room=$(basename "$dir")
	test -f "$dir/libtp_$room.a" || continue
	grep -q "^$room \*" "$top_srcdir/tests/lint/circles.allow" && continue
	seen=$((seen + 1))
	# "file T symbol" and "file U symbol" of every member.
	"${NM:-nm}" -A -g "$dir/libtp_$room.a" | sed 's/^[^:]*:\([^:]*\)\.o:[0-9a-f ]*/\1 /; s/^[^ ]*-//' >"$tmp/symbols"
	# Pairs "file file" for tsort, which names what is left over: the circles.
	awk -v room="$room" -v allow="$top_srcdir/tests/lint/circles.allow" '
	BEGIN {
		n = 0
		while ((getline line < allow) > 0)
			if (split(line, p, " ") == 3 && p[1] == room)
				meant[p[2], p[3]] = 1
	}
	NF != 3 { next }
	$2 !~ /^[Uw]$/ { home[$3] = $1; next }
	{ user[n] = $1; what[n++] = $3 }
	END {
		for (i = 0; i < n; i++) {
			other = home[what[i]]
			if (other != "" && other != user[i] && !((user[i], other) in meant) && !((user[i], "*") in meant))
				print user[i], other
		}
	}' "$tmp/symbols" | sort -u >"$tmp/pairs"
	if ! tsort "$tmp/pairs" >/dev/null 2>"$tmp/circle"; then
		echo "src/$room: calls go in a circle:"
		sed 's/^tsort: //; /input contains a loop/d' "$tmp/circle" | sort -u | tr '\n' ' '
		echo
		fail=1
	fi
done
test "$seen" -gt 5 || { echo "no archives to look at in $top_builddir/src"; exit 1; }
exit $fail
