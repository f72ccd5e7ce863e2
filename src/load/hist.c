/* SPDX-License-Identifier: BSD-3-Clause */
/* hist.c: a histogram of 32 linear buckets in each octave; no value is kept, none is out of range. */
#include "config.h"

#include "load_int.h"

static unsigned
bucket_of(uint64_t ns)
{
	unsigned octave;

	if (ns < 32)
		return (unsigned)ns;
	octave = 63u - (unsigned)__builtin_clzll(ns) - 4; /* 1 for 32..63 */
	if (octave >= HIST_BUCKETS / 32)
		return HIST_BUCKETS - 1;
	return octave * 32 + (unsigned)((ns >> (octave - 1)) & 31);
}

static uint64_t
upper_edge(unsigned i)
{
	return i < 32 ? i : ((32ull + i % 32 + 1) << (i / 32 - 1)) - 1;
}

void
hist_add(struct hist *h, uint64_t ns)
{
	h->count++;
	if (ns > h->max)
		h->max = ns;
	h->bucket[bucket_of(ns)]++;
}

void
hist_merge(struct hist *into, const struct hist *from)
{
	into->count += from->count;
	if (from->max > into->max)
		into->max = from->max;
	for (unsigned i = 0; i < HIST_BUCKETS; i++)
		into->bucket[i] += from->bucket[i];
}

uint64_t
hist_at(const struct hist *h, double share)
{
	uint64_t want = (uint64_t)((double)h->count * share), sum = 0;

	if (h->count == 0)
		return 0;
	if (want >= h->count)
		want = h->count - 1;
	for (unsigned i = 0; i < HIST_BUCKETS; i++) {
		sum += h->bucket[i];
		if (sum > want)
			return upper_edge(i) < h->max ? upper_edge(i) : h->max;
	}
	return h->max;
}
