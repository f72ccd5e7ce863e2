#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# The rooms stun, seal, auth and turn get bytes, time and randomness as arguments: their archives must not
# refer to the kernel, the clock, the heap, stdio or the log.
set -u
io='socket|socketpair|bind|connect|listen|accept4?|shutdown|getsockname|getpeername|[gs]etsockopt'
io="$io|send|sendto|sendmsg|sendmmsg|recv|recvfrom|recvmsg|recvmmsg|p?read(v|v2)?|p?write(v|v2)?"
io="$io|open|openat|creat|close|fcntl|ioctl|dup[23]?|pipe2?|poll|ppoll|p?select|epoll_.*|eventfd|timerfd_.*"
io="$io|mmap|munmap|mprotect|memfd_create|shm_open|syscall|futex|fork|vfork|exec.*|kill|raise|exit|_exit"
clock='time|clock|clock_.*|gettimeofday|nanosleep|sleep|usleep|(gm|local)time(_r)?'
heap='malloc|calloc|realloc|reallocarray|free|strn?dup|aligned_alloc|posix_memalign|v?asprintf|sodium_malloc|sodium_free'
heap="$heap|OPENSSL_.*alloc|CRYPTO_.*alloc|CRYPTO_free"
stdio='v?printf|v?fprintf|v?dprintf|puts|fputs|fputc|putchar|putc|fwrite|fread|fopen|fclose|fflush|perror|std(in|out|err)|syslog'
random='getrandom|getentropy|randombytes.*|RAND_.*|rand|random|arc4random.*|getenv'
log='log_.*|fatal'
bad="^(__)?($io|$clock|$heap|$stdio|$random|$log)(64)?(_chk)?\$"
fail=0 seen=0
for room in stun seal auth turn; do
	archive=$top_builddir/src/$room/libtp_$room.a
	test -f "$archive" || continue
	seen=$((seen + 1))
	hits=$("${NM:-nm}" -u "$archive" | sed -n 's/^ *U //p' | sed 's/@.*//' | sort -u | grep -E "$bad")
	if test -n "$hits"; then
		echo "$archive refers to:" $hits
		fail=1
	fi
done
test "$seen" -gt 0 || { echo "no archive to look at in $top_builddir/src"; exit 1; }
exit $fail
