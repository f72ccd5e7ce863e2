#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# The sample file and the manual's option section are what the table prints; the example in the manual is the one
# that the unit tests load.  After a change of options.def:  tests/lint/docs.sh --update  in the build directory.
set -eu
: "${top_srcdir:=..}" "${top_builddir:=.}"
conf=$top_builddir/src/prog/turnpike-conf
man=$top_srcdir/man/turnpike.yaml.5
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

"$conf" --sample >"$tmp/sample"
"$conf" --man >"$tmp/options"
sed 's/\\/\\e/g; s/^\([.'\'']\)/\\\&\1/' "$top_srcdir/tests/unit/conf/example.yaml" >"$tmp/example"
# Text between `.\" begin NAME` and `.\" end NAME` is generated.
awk -v dir="$tmp" '
/^\.\\" begin / { print; file = dir "/" $3; while ((getline line < file) > 0) print line; skip = 1 }
/^\.\\" end / { skip = 0 }
!skip { print }' "$man" >"$tmp/man"

if [ "${1:-}" = --update ]; then
	cp "$tmp/sample" "$top_srcdir/etc/turnpike.yaml"
	cat "$tmp/man" >"$man"
	exit 0
fi
diff -u "$top_srcdir/etc/turnpike.yaml" "$tmp/sample"
diff -u "$man" "$tmp/man"
