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
convert=$top_srcdir/contrib/coturn2turnpike
moving=$top_srcdir/doc/moving-from-coturn.md
convert_man=$top_srcdir/man/turnpike-convert.1
mkdir "$tmp/md" "$tmp/1"
"${PYTHON3:-python3}" "$convert" --table >"$tmp/md/coturn"
"${PYTHON3:-python3}" "$convert" --man >"$tmp/1/coturn"
# fill FILE DIR: text between `begin NAME` and `end NAME`, each a comment line, is generated: it is the file DIR/NAME.
fill() {
	awk -v dir="$2" '
	/^(\.\\"|<!--) begin / { print; file = dir "/" $3; while ((getline line < file) > 0) print line; skip = 1 }
	/^(\.\\"|<!--) end / { skip = 0 }
	!skip { print }' "$1"
}
fill "$man" "$tmp" >"$tmp/man"
fill "$moving" "$tmp/md" >"$tmp/moving"
fill "$convert_man" "$tmp/1" >"$tmp/convert_man"

if [ "${1:-}" = --update ]; then
	cp "$tmp/sample" "$top_srcdir/etc/turnpike.yaml"
	cat "$tmp/man" >"$man"
	cat "$tmp/moving" >"$moving"
	cat "$tmp/convert_man" >"$convert_man"
	exit 0
fi
diff -u "$top_srcdir/etc/turnpike.yaml" "$tmp/sample"
diff -u "$man" "$tmp/man"
diff -u "$moving" "$tmp/moving"
diff -u "$convert_man" "$tmp/convert_man"
