/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ring.c: the pool of stream memory.  Taken from the front of the free list, so that few rings stay warm;
 * the list is derived from the connections' records when a shard is adopted.
 */
#include "config.h"

#include <sys/mman.h>

#include "state_int.h"

#define WARM      16u /* free rings that keep their pages: the next ones to be taken */
#define REST_STEP 64u
_Static_assert(RINGS_MAX == 16384, "a bit for each in struct shard");

uint32_t
ring_high(const struct shard *s)
{
	uint32_t n = atomic_load_explicit(&s->head->ring_bump, memory_order_acquire);

	return n < s->ring_max ? n : s->ring_max;
}

bool
ring_take(struct shard *s, struct ring_ref *r, uint64_t base)
{
	struct shard_head *h = s->head;
	uint32_t ring = h->ring_free, high = ring_high(s);

	if (ring != 0 && ring <= high) {
		h->ring_free = s->ring_links[ring - 1];
	} else {
		if (high >= s->ring_max)
			return false;
		ring = high + 1;
		atomic_store_explicit(&h->ring_bump, ring, memory_order_release);
	}
	s->ring_cold[(ring - 1) / 8] &= (uint8_t) ~(1u << (ring - 1) % 8);
	s->ring_used++;
	CRASH_POINT("ring:taken");
	*r = (struct ring_ref){ .base = base, .ring = ring };
	return true;
}

void
ring_give(struct shard *s, uint32_t ring)
{
	if (ring == 0 || ring > ring_high(s))
		return;
	s->ring_used--;
	s->ring_links[ring - 1] = s->head->ring_free;
	CRASH_POINT("ring:linked");
	s->head->ring_free = ring;
}

unsigned
ring_rest(struct shard *s)
{
	uint32_t ring = s->head->ring_free, high = ring_high(s);
	unsigned done = 0;

	for (uint32_t n = 0; ring != 0 && ring <= high && n < high && done < REST_STEP;
	     n++, ring = s->ring_links[ring - 1]) {
		uint8_t *cold = &s->ring_cold[(ring - 1) / 8], bit = (uint8_t)(1u << (ring - 1) % 8);

		if (n < WARM || (*cold & bit) != 0)
			continue;
		/* Of shared memory: MADV_DONTNEED would only unmap them here. */
		(void)madvise(s->ring_bytes + (size_t)(ring - 1) * RING_BYTES, RING_BYTES, MADV_REMOVE);
		*cold |= bit;
		done++;
	}
	return done;
}

bool
ring_reserve(struct shard *s, struct ring_ref *r, uint64_t tail, uint64_t head, size_t want, uint32_t *old)
{
	struct ring_ref fresh;

	*old = 0;
	if (r->ring == 0)
		return want <= RING_BYTES && head == tail && ring_take(s, r, head);
	if (ring_room(r, head) >= want)
		return true;
	if ((size_t)(head - tail) + want > RING_BYTES || !ring_take(s, &fresh, tail))
		return false;
	memcpy(ring_at(s, &fresh, tail), ring_at(s, r, tail), (size_t)(head - tail));
	*old = r->ring;
	*r = fresh;
	return true;
}
