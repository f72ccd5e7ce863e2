/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * rate.c: how often a source prefix is answered without credentials, and which strangers proved their
 * address.
 *
 * A word is {32-bit tag, 32-bit instant at which the bucket is full again}, in us.  Four places
 * per prefix; when all are busy with others the one that is full soonest is forgotten.  A lost race lets
 * one answer too many out; nothing here waits.
 */
#include "config.h"

#include "state_int.h"

#define UNITS_PER_SECOND 1000000u
#define CAS_TRIES        4
#define SKEW             1000000u
#define MARK_MAX_MS      200000u /* a handshake's deadline and more */

static inline uint64_t
word(uint32_t tag, uint32_t tat)
{
	return ((uint64_t)tag << 32) | tat;
}

/*
 * How far `tat` is ahead of now; 0 when it is past, or so far ahead that the clock must have wrapped.
 * Each worker reads the time once per batch: another one's full bucket may be a little further ahead than
 * `most`, and is full all the same.
 */
static uint32_t
ahead(uint32_t tat, uint32_t now, uint32_t most)
{
	uint32_t d = tat - now;

	return d <= most + SKEW ? d : 0;
}

/* What a mark says is worth more than a bucket that is full again in a second, so places are compared
 * by one measure. */
static _Atomic uint64_t *
choose(struct cross *c, uint64_t hash, uint32_t tag, uint32_t now, uint32_t most)
{
	most = most > MARK_MAX_MS * 1000 ? most : MARK_MAX_MS * 1000;
	uint32_t home = (uint32_t)hash & (RATES - 1) & ~(RATE_WAYS - 1), best_ahead = UINT32_MAX;
	_Atomic uint64_t *best = NULL;

	for (uint32_t i = 0; i < RATE_WAYS; i++) {
		_Atomic uint64_t *at = cross_rate(c, home + i);
		uint64_t v = atomic_load_explicit(at, memory_order_relaxed);
		uint32_t d;

		if ((uint32_t)(v >> 32) == tag)
			return at;
		d = ahead((uint32_t)v, now, most);
		if (d < best_ahead) {
			best = at;
			best_ahead = d;
		}
	}
	return best;
}

bool
rate_take(
    struct cross *c, enum rate_kind kind, uint64_t prefix, uint32_t per_second, uint32_t burst, tp_ms now)
{
	uint64_t step, span;
	uint32_t tag, t = (uint32_t)(now * (UNITS_PER_SECOND / 1000));
	uint8_t key[9] = { (uint8_t)kind };
	_Atomic uint64_t *at;
	uint64_t hash;

	if (per_second == 0)
		return true;
	step = per_second < UNITS_PER_SECOND ? UNITS_PER_SECOND / per_second : 1;
	span = (uint64_t)(burst != 0 ? burst : 1) * UNITS_PER_SECOND / per_second;
	span = span < step ? step : span > UINT32_MAX / 4 ? UINT32_MAX / 4 : span;
	put_u64(key + 1, prefix);
	hash = cross_hash(c, key, sizeof key);
	tag = (uint32_t)(hash >> 32) | 1; /* 0 is an empty word */
	at = choose(c, hash, tag, t, (uint32_t)span);
	for (unsigned i = 0; i < CAS_TRIES; i++) {
		uint64_t v = atomic_load_explicit(at, memory_order_relaxed);
		uint32_t d = (uint32_t)(v >> 32) == tag ? ahead((uint32_t)v, t, (uint32_t)span) : 0;

		if ((uint64_t)d + step > span)
			return false;
		if (atomic_compare_exchange_weak_explicit(at, &v, word(tag, t + d + (uint32_t)step),
			memory_order_relaxed, memory_order_relaxed))
			return true;
	}
	return true;
}

/* ---- marks: the same words, of a name that is a 64-bit hash ---------------------------------- */

static uint32_t
instant(tp_ms now)
{
	return (uint32_t)(now * (UNITS_PER_SECOND / 1000));
}

static uint32_t
mark_tag(uint64_t name)
{
	return (uint32_t)(name >> 32) | 1;
}

static _Atomic uint64_t *
mark_find(const struct cross *c, uint64_t name)
{
	uint32_t home = (uint32_t)name & (RATES - 1) & ~(RATE_WAYS - 1);

	for (uint32_t i = 0; i < RATE_WAYS; i++) {
		_Atomic uint64_t *at = cross_rate(c, home + i);
		if ((uint32_t)(atomic_load_explicit(at, memory_order_relaxed) >> 32) == mark_tag(name))
			return at;
	}
	return NULL;
}

void
rate_mark(struct cross *c, uint64_t name, uint32_t ms, tp_ms now)
{
	uint32_t t = instant(now);
	_Atomic uint64_t *at;

	ms = ms < MARK_MAX_MS ? ms : MARK_MAX_MS;
	at = choose(c, name, mark_tag(name), t, MARK_MAX_MS * 1000);
	atomic_store_explicit(at, word(mark_tag(name), t + ms * 1000), memory_order_relaxed);
}

bool
rate_is_marked(const struct cross *c, uint64_t name, tp_ms now)
{
	const _Atomic uint64_t *at = mark_find(c, name);

	return at != NULL &&
	    ahead((uint32_t)atomic_load_explicit(at, memory_order_relaxed), instant(now),
		MARK_MAX_MS * 1000) > 0;
}

void
rate_unmark(struct cross *c, uint64_t name)
{
	_Atomic uint64_t *at = mark_find(c, name);

	if (at != NULL)
		atomic_store_explicit(at, 0, memory_order_relaxed);
}
