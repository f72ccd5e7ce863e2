/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * lock.c: a lock word in shared memory that names its holder.
 *
 * Every wait ends: whatever a hostile or dead process leaves in the word costs the taker wait_ms.
 */
#include "config.h"

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "tp/shm.h"

#define LOCK_SPINS 100

static inline void
relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ __volatile__("yield");
#endif
}

static bool
swap(lock_word *w, uint32_t from, uint32_t to)
{
	return atomic_compare_exchange_strong_explicit(
	    w, &from, to, memory_order_acquire, memory_order_relaxed);
}

static bool
is_before(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec < b->tv_sec || (a->tv_sec == b->tv_sec && a->tv_nsec < b->tv_nsec);
}

static struct timespec
deadline_in(unsigned ms)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	t.tv_sec += (time_t)(ms / 1000);
	t.tv_nsec += (long)(ms % 1000) * 1000000L;
	if (t.tv_nsec >= 1000000000L) {
		t.tv_sec++;
		t.tv_nsec -= 1000000000L;
	}
	return t;
}

static int
wait_for(lock_word *w, uint32_t me, unsigned wait_ms)
{
	struct timespec end = deadline_in(wait_ms), now;

	for (;;) {
		uint32_t seen = atomic_load_explicit(w, memory_order_relaxed);

		/* Others may wait too and we cannot know: keep the bit, it costs one idle wake-up. */
		if ((seen & ~LOCK_WAITERS) == 0 && swap(w, seen, me | LOCK_WAITERS))
			return 0;
		clock_gettime(CLOCK_MONOTONIC, &now);
		if (!is_before(&now, &end))
			return -ETIMEDOUT;
		if ((seen & ~LOCK_WAITERS) == 0)
			continue;
		if (!(seen & LOCK_WAITERS) && !swap(w, seen, seen | LOCK_WAITERS))
			continue;
		syscall(SYS_futex, w, FUTEX_WAIT_BITSET, seen | LOCK_WAITERS, &end, NULL,
		    FUTEX_BITSET_MATCH_ANY);
	}
}

int
lock_take(lock_word *w, uint32_t owner, unsigned wait_ms)
{
	uint32_t me = owner + 1;
	int err;

	if (swap(w, 0, me)) {
		CRASH_POINT("lock:taken");
		return 0;
	}
	if (wait_ms == 0)
		return -ETIMEDOUT;
	for (unsigned i = 0; i < LOCK_SPINS; i++) {
		if (atomic_load_explicit(w, memory_order_relaxed) == 0 && swap(w, 0, me)) {
			CRASH_POINT("lock:taken");
			return 0;
		}
		relax();
	}
	err = wait_for(w, me, wait_ms);
	if (err == 0)
		CRASH_POINT("lock:taken");
	return err;
}

static void
wake(lock_word *w, int n)
{
	syscall(SYS_futex, w, FUTEX_WAKE, n, NULL, NULL, 0);
}

void
lock_give(lock_word *w, uint32_t owner)
{
	uint32_t seen = atomic_load_explicit(w, memory_order_relaxed);

	/* A word that was overwritten is not ours to free. */
	do {
		if ((seen & ~LOCK_WAITERS) != owner + 1)
			return;
	} while (!atomic_compare_exchange_weak_explicit(
	    w, &seen, 0, memory_order_release, memory_order_relaxed));
	CRASH_POINT("lock:given");
	if (seen & LOCK_WAITERS)
		wake(w, 1);
}

void
lock_recover(lock_word *words, unsigned n, size_t stride, uint32_t owner)
{
	for (unsigned i = 0; i < n; i++) {
		lock_word *w = (lock_word *)((uint8_t *)words + i * stride);
		uint32_t seen = atomic_load_explicit(w, memory_order_relaxed);

		while ((seen & ~LOCK_WAITERS) == owner + 1)
			if (atomic_compare_exchange_weak_explicit(
				w, &seen, 0, memory_order_acq_rel, memory_order_relaxed))
				break;
		wake(w, INT32_MAX);
	}
}
