#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# A file name occurs once below src: a stack trace that says `control.c:118` must lead to one file.  Names that the
# project has given up stand in NEWS only.
set -eu
cd "$top_srcdir"
bad=0
twice=$(find src -name '*.[ch]' | sed 's|.*/||' | sort | uniq -d)
for name in $twice; do
	echo "$name:" $(find src -name "$name")
	bad=1
done
if grep -rnwiE 'ushers?|keeper|steward' --include='*' src include man etc contrib tests doc README HACKING 2>/dev/null |
	grep -v '^tests/lint/names.sh'; then
	echo "these names were given up: turnpike-tls, turnpike-auth, turnpike-admin"
	bad=1
fi
exit $bad
