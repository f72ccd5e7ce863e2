#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Plays every scenario.
exec "$top_builddir/tests/scenario/run" "$top_srcdir"/tests/scenario/tp/*.tp
