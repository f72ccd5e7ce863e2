#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# TP_ORACLE random peers (default 100,000) judged by the daemon's policy and by a second one in Python; TP_SEED.
set -u
test -n "${PYTHON3:-}" || exit 77
seed=${TP_SEED:-$(od -An -N3 -tu4 /dev/urandom | tr -d ' ')}
"$top_builddir/tests/unit/policy_print" "$seed" "${TP_ORACLE:-100000}" | "$PYTHON3" "$top_srcdir/tests/unit/policy_oracle.py" "$seed"
