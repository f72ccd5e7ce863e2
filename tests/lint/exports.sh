#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# A function that only its own file uses is static.  Looks at every object of the build, those of the tests included.
set -eu
: "${top_builddir:=.}"
find "$top_builddir/src" "$top_builddir/tests" -name '*.o' | sort | while read -r o; do
	echo "FILE $o"
	"${NM:-nm}" "$o"
done | awk '
$1 == "FILE" { file = $2; next }
$2 == "U" || $1 == "U" { used[$NF] = 1; next }
$2 == "T" && file ~ /\/src\// && file !~ /\/tests\// { where[$3] = file }
END {
	for (f in where)
		if (!(f in used) && f != "main" && f !~ /^LLVMFuzzer/) {
			n = split(where[f], p, "/")
			print p[n - 1] "/" p[n] ": " f "() is used in its own file only: make it static"
			bad = 1
		}
	exit bad
}'
