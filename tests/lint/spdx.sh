#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Every source file says its licence in its first two lines.
set -eu
cd "$top_srcdir"
bad=$(find src include tests contrib \( -name '*.[ch]' -o -name '*.sh' -o -name '*.py' \) | sort |
    xargs awk 'FNR <= 2 && /SPDX-License-Identifier: BSD-3-Clause/ { ok[FILENAME] = 1 }
	END { for (i = 1; i < ARGC; i++) if (!(ARGV[i] in ok)) print ARGV[i] }')
test -z "$bad" || { echo "no SPDX-License-Identifier: BSD-3-Clause in:"; echo "$bad"; exit 1; }
