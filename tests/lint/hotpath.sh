#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Nothing on the way of a packet is a read-modify-write on memory that others write as well: the rooms that carry packets
# have such instructions only where a request, a lease of bandwidth (20 ms of it) or a tick is handled.
set -eu
: "${top_srcdir:=..}" "${top_builddir:=.}"
case $(uname -m) in x86_64) ;; *) echo "skipped: knows the instructions of x86-64 only"; exit 77 ;; esac
command -v objdump >/dev/null || { echo "skipped: no objdump"; exit 77; }
bad=0 seen=0
for o in $(find "$top_builddir"/src/base "$top_builddir"/src/stun "$top_builddir"/src/state "$top_builddir"/src/auth \
    "$top_builddir"/src/turn "$top_builddir"/src/io "$top_builddir"/src/worker -name '*.o'); do
	name=$(basename "$o" .o)
	seen=$((seen + 1))
	case ${name##*-} in
	rate | bandwidth) continue ;;		# requests of a prefix; leases
	events) continue ;;			# the tick, ten times a second
	esac
	if objdump -d "$o" | grep -E '[[:space:]]lock |xchg .*\(' >&2; then
		echo "$o: an atomic read-modify-write" >&2
		bad=1
	fi
done
[ "$seen" -gt 40 ] || { echo "only $seen objects found" >&2; exit 1; }
exit "$bad"
