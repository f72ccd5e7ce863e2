#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# The process that waits (src/super/waiting.c) reads and parses nothing: its object refers to these functions only.
set -u
object=$top_builddir/src/super/libtp_super_a-waiting.o
test -f "$object" || { echo "no $object"; exit 1; }
may='clock_gettime|clone|syscall|getpid|getppid|kill|waitid|waitpid|sigaction|sigemptyset|sigaddset|sigprocmask|sigtimedwait'
may="$may|prctl|exit|_exit|environ|write|fcntl|ftruncate|lseek|memfd_create|mmap|munmap"
may="$may|mem(cpy|set|cmp|move)|str(len|ncmp)|__errno_location|__stack_chk_fail|__(asan|ubsan|sanitizer|gcov|llvm)_.*|_GLOBAL_OFFSET_TABLE_"
hits=$("${NM:-nm}" -u "$object" | sed -n 's/^ *[Uw] //p' | sed 's/@.*//' | grep -Ev "^(__)?($may)(64)?(_chk)?\$")
test -z "$hits" || { echo "$object refers to:" $hits; exit 1; }
# It does not read: neither by name, nor by number.
! grep -nE 'SYS_(p?read|recv|open|socket)' "$top_srcdir/src/super/waiting.c"
