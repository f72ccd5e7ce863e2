#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# C files have the format of .clang-format.  The versions differ in details: 14 decides, and others are not asked.
set -eu
cd "$top_srcdir"
clang_format=$(command -v clang-format-14 || command -v clang-format) || { echo "no clang-format"; exit 77; }
case $("$clang_format" --version) in
*"version 14."*) ;;
*) echo "clang-format 14 is needed"; exit 77 ;;
esac
bad=$(find src include tests contrib -name '*.[ch]' -print0 | sort -z |
    xargs -0 "$clang_format" --dry-run --Werror 2>&1 |
    sed -n 's/:[0-9:]* error: code should be clang-formatted.*/: run clang-format -i on this file/p' | sort -u)
test -z "$bad" || { echo "$bad"; exit 1; }
