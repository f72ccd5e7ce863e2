#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Which room may include which: LAYERS has a line "room: rooms" for every room.  A file of src/ROOM/, and
# include/tp/ROOM.h or include/tp/ROOM_*.h, may include "tp/X.h" only for X = ROOM or X on ROOM's line,
# "tp/tbl/*.def", "config.h", and files of its own directory.  No cycles.  A line "tp/NAME.h = room" gives
# a header to a room of another name.
set -eu
cd "$top_srcdir"
layers=LAYERS
fail=0

# A room depends on itself too: tsort ignores such pairs, and rooms without a dependency are known to it.
awk -F: '!/^#/ && NF > 1 { n = split($2, d, " "); print $1, $1; for (i = 1; i <= n; i++) print $1, d[i] }' $layers |
    tsort >/dev/null || { echo "$layers: cycle (see above)"; fail=1; }

find src include/tp -name '*.[ch]' | sort | xargs awk '
BEGIN {
	while ((getline line < "LAYERS") > 0) {
		if (line ~ /^tp\/[a-z_0-9]+\.h = /) {
			split(line, part, "[/ ]")
			owner[part[2]] = part[4]
		}
		if (line ~ /^#/ || split(line, part, ":") < 2)
			continue
		room[part[1]] = 1
		may[part[1], part[1]] = 1
		n = split(part[2], dep, " ")
		for (i = 1; i <= n; i++)
			may[part[1], dep[i]] = 1
	}
	for (pair in may) {
		split(pair, p, SUBSEP)
		if (!(p[2] in room)) { print "LAYERS: " p[1] " names " p[2] ", which has no line"; bad = 1 }
	}
}
function complain(why) { print FILENAME ":" FNR ": " why; bad = 1 }
function room_of_header(name) {		# "state", "state_slot" -> state
	if (name in owner) return owner[name]
	sub(/\.h$/, "", name)
	if (!(name in room)) sub(/_.*$/, "", name)
	return name
}
function is_there(path,   line) {
	if ((getline line < path) < 0) return 0
	close(path)
	return 1
}
FNR == 1 {
	split(FILENAME, p, "/")
	me = p[1] == "src" ? p[2] : room_of_header(p[3])
	dir = FILENAME; sub(/[^\/]*$/, "", dir)
	if (!(me in room)) complain("room " me " has no line in LAYERS")
}
/^[ \t]*#[ \t]*include[ \t]*"/ {
	split($0, q, "\""); inc = q[2]
	if (inc ~ /\.\.\//) complain("include goes up: " inc)
	else if (inc == "config.h" || inc ~ /^tp\/tbl\/[a-z_0-9]+\.def$/) next
	else if (inc ~ /^tp\/[a-z_0-9]+\.h$/) {
		other = room_of_header(substr(inc, 4))
		if (!((me, other) in may)) complain(me " may not include " inc)
	} else if (inc ~ /\// || !is_there(dir inc)) complain("neither tp/ROOM.h nor a file beside it: " inc)
}
/^[ \t]*#[ \t]*include[ \t]*<tp\// { complain("<tp/...>: write it with quotes") }
END { exit bad }' || fail=1
exit $fail
