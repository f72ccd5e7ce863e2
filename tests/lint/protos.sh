#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# A prototype stands under the name of the file that has its function.  In a header, a comment that begins with "----" and
# names files ("/* ---- conn.c, ring.c: what they are for ---- */") begins a section; every function that is declared in it
# is defined in one of them.
set -eu
: "${top_srcdir:=..}"
cd "$top_srcdir"
find src include/tp -name '*.[ch]' | sort | xargs awk '
function name_of(line) {
	sub(/\(.*/, "", line)
	sub(/.*[ *]/, "", line)
	return line
}
# A definition: its name begins a line, and its body follows.
FILENAME ~ /\.c$/ && /^[a-z][a-z0-9_]*\(/ {
	name = $0; sub(/\(.*/, "", name)
	file = FILENAME; sub(/.*\//, "", file)
	home[name] = home[name] " " file " "
	next
}
FILENAME ~ /\.c$/ { next }
FNR == 1 { section = "" }
/^\/\* ----/ {
	section = " "
	n = split($0, word, /[ ,:]+/)
	for (i = 1; i <= n; i++)
		if (word[i] ~ /^[a-z0-9_]+\.c$/)
			section = section word[i] " "
	next
}
# A prototype: a line that begins with a type and has a name before its first bracket, and is no inline function.
/^[a-z][a-z0-9_ *]*[ *][a-z][a-z0-9_]*\(/ && !/^(static|typedef|extern|struct [a-z_]+ \{|#)/ && section ~ /[a-z]/ {
	name = name_of($0)
	where[name] = FILENAME ":" FNR
	of[name] = section
}
END {
	for (name in of) {
		if (!(name in home))
			continue
		n = split(home[name], files, " ")
		good = 0
		for (i = 1; i <= n; i++)
			if (index(of[name], " " files[i] " ") > 0)
				good = 1
		if (!good) {
			print where[name] ": " name "() is in" home[name] "and not in" of[name]
			bad++
		}
	}
	exit bad > 0
}'
