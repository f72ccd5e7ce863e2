/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * index.c: from a client's 5-tuple to its slot.
 *
 * Open addressing, linear probing, at most half full.  An entry is {32-bit tag, slot + 1}; its home is
 * the tag's low bits, so growing needs no slot.  Deletion shifts back: an entry is copied before its old
 * place is overwritten, so that at no instant an entry is missing.
 */
#include "config.h"

#include <sodium.h>

#include "state_int.h"

struct table {
	_Atomic uint64_t *at;
	uint32_t mask;
};

static struct table
table_of(const struct shard *s, uint32_t k)
{
	return (struct table){ .at = s->area[k & 1], .mask = (uint32_t)(((uint64_t)1 << k) - 1) };
}

/* The current table; a reader finds in the region what it finds. */
static bool
table_now(const struct shard *s, struct table *t)
{
	uint32_t k = atomic_load_explicit(&s->head->index_log2, memory_order_acquire);

	if (k < INDEX_LOG2_MIN || k > s->index_max)
		return false;
	*t = table_of(s, k);
	return true;
}

static inline uint64_t
get(const struct table *t, uint32_t i)
{
	return atomic_load_explicit(&t->at[i], memory_order_acquire);
}
static inline void
put(const struct table *t, uint32_t i, uint64_t v)
{
	atomic_store_explicit(&t->at[i], v, memory_order_release);
}
static inline uint64_t
entry(uint32_t tag, uint32_t slot)
{
	return ((uint64_t)tag << 32) | (slot + 1);
}
static inline uint32_t
home(const struct table *t, uint64_t e)
{
	return (uint32_t)(e >> 32) & t->mask;
}

uint32_t
index_tag(const struct shard *s, const struct addr *client, uint8_t transport, uint16_t listener)
{
	struct {
		struct addr client;
		uint16_t listener;
		uint8_t transport, zero;
	} key = {
		.client = *client,
		.listener = listener,
		.transport = transport,
	};
	uint8_t hash[crypto_shorthash_BYTES];

	_Static_assert(sizeof key == 24, "no padding in what is hashed");
	crypto_shorthash(hash, (const uint8_t *)&key, sizeof key, s->head->seed);
	return get_u32(hash);
}

struct session *
session_find_tag(
    struct shard *s, const struct addr *client, uint8_t transport, uint16_t listener, uint32_t tag)
{
	struct table t;

	if (!table_now(s, &t))
		return NULL;
	for (uint32_t i = tag & t.mask, n = 0; n <= t.mask; i = (i + 1) & t.mask, n++) {
		uint64_t e = get(&t, i);
		uint32_t slot = (uint32_t)e - 1;
		struct session *x;

		if (e == 0)
			return NULL;
		if ((uint32_t)(e >> 32) != tag || slot >= s->slot_max)
			continue;
		x = &s->slots[slot];
		if (atomic_load_explicit(&x->state, memory_order_relaxed) == SESSION_LIVE &&
		    x->listener == listener && x->transport == transport && addr_eq(&x->client, client))
			return x;
	}
	return NULL;
}

struct session *
session_find(struct shard *s, const struct addr *client, uint8_t transport, uint16_t listener)
{
	return session_find_tag(s, client, transport, listener, index_tag(s, client, transport, listener));
}

uint32_t
session_prefetch(const struct shard *s, const struct addr *client, uint8_t transport, uint16_t listener)
{
	uint32_t tag = index_tag(s, client, transport, listener);
	struct table t;

	if (table_now(s, &t))
		__builtin_prefetch((const void *)&t.at[tag & t.mask]);
	return tag;
}

void
session_prefetch_slot(const struct shard *s, uint32_t tag)
{
	struct table t;

	if (!table_now(s, &t))
		return;
	/* Its home holds it or a neighbour in the same line; the wrong slot only costs the fetch. */
	uint64_t e = get(&t, tag & t.mask);
	if (e != 0)
		session_prefetch_at(s, (uint32_t)e - 1);
}

void
session_prefetch_at(const struct shard *s, uint32_t slot)
{
	if (slot >= s->slot_max)
		return;
	const uint8_t *p = (const uint8_t *)&s->slots[slot];
	/* The three lines that the data path uses. */
	__builtin_prefetch(p, 1);
	__builtin_prefetch(p + 64);
	__builtin_prefetch(p + 128, 1);
}

static bool
place_of(const struct table *t, uint64_t e, uint32_t *at)
{
	for (uint32_t i = home(t, e), n = 0; n <= t->mask; i = (i + 1) & t->mask, n++) {
		uint64_t seen = get(t, i);

		if (seen == 0)
			return false;
		if (seen == e) {
			*at = i;
			return true;
		}
	}
	return false;
}

bool
index_has(const struct shard *s, uint32_t tag, uint32_t slot)
{
	struct table t;
	uint32_t at;

	return table_now(s, &t) && place_of(&t, entry(tag, slot), &at);
}

/* Only ever called with room: the table is at most half full. */
static void
insert(const struct table *t, uint64_t e)
{
	uint32_t i = home(t, e);

	for (uint32_t n = 0; n <= t->mask && get(t, i) != 0; n++)
		i = (i + 1) & t->mask;
	put(t, i, e);
}

static void
grow(struct shard *s, uint32_t k)
{
	struct table old = table_of(s, k), new = table_of(s, k + 1);

	/* The area may hold the table of k - 1. */
	memset((void *)new.at, 0, sizeof(uint64_t) << (k + 1));
	CRASH_POINT("index:cleared");
	for (uint32_t i = 0; i <= old.mask; i++) {
		uint64_t e = get(&old, i);

		if (e != 0)
			insert(&new, e);
		if (i == old.mask / 2)
			CRASH_POINT("index:half copied");
	}
	CRASH_POINT("index:copied");
	atomic_store_explicit(&s->head->index_log2, k + 1, memory_order_release);
	CRASH_POINT("index:flipped");
}

void
index_reserve(struct shard *s)
{
	uint32_t k = atomic_load_explicit(&s->head->index_log2, memory_order_relaxed);

	if ((uint64_t)s->head->index_count * 2 + 2 > (uint64_t)1 << k && k < s->index_max)
		grow(s, k);
}

void
index_insert(struct shard *s, uint32_t tag, uint32_t slot)
{
	struct table t;

	if (!table_now(s, &t))
		return;
	insert(&t, entry(tag, slot));
	CRASH_POINT("index:inserted");
	s->head->index_count++;
}

void
index_remove(struct shard *s, uint32_t tag, uint32_t slot)
{
	struct table t;
	uint32_t i;

	if (!table_now(s, &t) || !place_of(&t, entry(tag, slot), &i))
		return;
	for (uint32_t j = (i + 1) & t.mask, n = 0; n <= t.mask; j = (j + 1) & t.mask, n++) {
		uint64_t e = get(&t, j);

		if (e == 0)
			break;
		if (((j - home(&t, e)) & t.mask) < ((j - i) & t.mask))
			continue; /* its home lies behind the hole */
		put(&t, i, e);
		CRASH_POINT("index:shifted");
		i = j;
	}
	put(&t, i, 0);
	CRASH_POINT("index:removed");
	s->head->index_count--;
}

struct index_sum
index_sum(const struct shard *s)
{
	struct index_sum sum = { 0 };
	struct table t;

	if (!table_now(s, &t))
		return sum;
	for (uint32_t i = 0; i <= t.mask; i++) {
		uint64_t e = get(&t, i);

		if (e != 0)
			index_sum_add(&sum, (uint32_t)e - 1);
	}
	return sum;
}

void
index_rebuild(struct shard *s, uint32_t live)
{
	uint32_t k = atomic_load_explicit(&s->head->index_log2, memory_order_relaxed), high = shard_high(s),
		 n = 0;
	struct table t;

	while ((uint64_t)live * 2 > (uint64_t)1 << k && k < s->index_max)
		k++;
	atomic_store_explicit(&s->head->index_log2, k, memory_order_release);
	t = table_of(s, k);
	memset((void *)t.at, 0, sizeof(uint64_t) << k);
	CRASH_POINT("index:rebuild cleared");
	for (uint32_t slot = 0; slot < high; slot++) {
		struct session *x = &s->slots[slot];

		if (atomic_load_explicit(&x->state, memory_order_relaxed) != SESSION_LIVE)
			continue;
		insert(&t, entry(session_tag(s, x), slot));
		n++;
		CRASH_POINT("index:rebuild inserted");
	}
	s->head->index_count = n;
}
