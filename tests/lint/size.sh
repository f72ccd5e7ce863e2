#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# A function over 70 lines or a file over 700 is named in size.allow with a reason, or it is too long.
# Relies on the form: function name, opening and closing brace in column 1.
set -eu
cd "$top_srcdir"
find src include tests -name '*.[ch]' | sort | xargs awk '
BEGIN {
	allow_file = "tests/lint/size.allow"
	while ((getline line < allow_file) > 0) {
		if (line ~ /^#/ || line ~ /^[ \t]*$/) continue
		n = split(line, w, " ")
		if (n < 2) { print allow_file ": no reason: " line; bad = 1 }
		allowed[w[1]] = 1
	}
}
function too_long(what, n, max) {
	if (n > max && !(what in allowed)) { print what ": " n " lines (most: " max ")"; bad = 1 }
}
FNR == 1 { if (file != "") too_long(file, last, 700); file = FILENAME; start = 0; name = "" }
{ last = FNR }
/^[A-Za-z_][A-Za-z_0-9 *]*\(/ { name = $0; sub(/\(.*/, "", name); sub(/.*[ *]/, "", name) }
/^START_TEST\(/ { name = $0; sub(/^START_TEST\(/, "", name); sub(/\).*/, "", name) }
/^\{/ { start = FNR }
/^\}/ { if (start && name != "") too_long(FILENAME ":" name, FNR - start + 1, 70); start = 0 }
END { too_long(file, last, 700); exit bad }'
