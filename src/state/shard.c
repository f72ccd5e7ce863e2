/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * shard.c: layout of a SHARD and its KEYS region, binding a mapping to them.
 */
#include "config.h"

#include <errno.h>
#include <sodium.h>

#include "state_int.h"

struct shard_layout {
	size_t slots, area[2], blocks, conns, links, rings, size;
};

static unsigned
shard_index_max(uint32_t slot_max)
{
	unsigned k = INDEX_LOG2_MIN;

	while (((uint64_t)1 << k) < 2 * (uint64_t)slot_max)
		k++;
	return k;
}

static struct shard_layout
layout_of(uint32_t slot_max)
{
	struct shard_layout l;
	unsigned k = shard_index_max(slot_max);
	size_t largest = sizeof(uint64_t) << k, other = largest / 2;

	l.slots = PAGE_UP(sizeof(struct shard_head));
	l.area[0] = l.slots + PAGE_UP((size_t)slot_max * sizeof(struct session));
	l.area[1] = l.area[0] + PAGE_UP(k % 2 == 0 ? largest : other);
	l.blocks = l.area[1] + PAGE_UP(k % 2 == 0 ? other : largest);
	l.conns = l.blocks + PAGE_UP((size_t)shard_block_max(slot_max) * sizeof(struct block));
	l.links = l.conns + ((size_t)slot_max + CONN_GROUP - 1) / CONN_GROUP * CONN_GROUP_BYTES;
	l.rings = l.links + PAGE_UP((size_t)shard_ring_max(slot_max) * sizeof(uint32_t));
	l.size = l.rings + (size_t)shard_ring_max(slot_max) * RING_BYTES;
	return l;
}

size_t
shard_region_size(uint32_t slot_max)
{
	return layout_of(slot_max).size;
}

/* ---- KEYS ------------------------------------------------------------------------------------ */

enum keys_table { KEYS_SESSIONS, KEYS_CONNS, KEYS_PLACES, KEYS_SECRETS };
static const uint16_t keys_row[SHARD_KEYS_TABLES] = { sizeof(struct session_key), sizeof(struct conn_key),
	CONN_PLACE_LEN, CONN_SECRETS_LEN };

static size_t
keys_at(uint32_t slot_max, unsigned table)
{
	size_t at = PAGE_UP(sizeof(struct keys_head));

	for (unsigned i = 0; i < table; i++)
		at += PAGE_UP((size_t)slot_max * keys_row[i]);
	return at;
}

static void *
keys_of(const struct shard *s, enum keys_table table, uint32_t slot)
{
	return (uint8_t *)s->keys + keys_at(s->slot_max, table) + (size_t)slot * keys_row[table];
}

size_t
shard_keys_size(uint32_t slot_max)
{
	return keys_at(slot_max, SHARD_KEYS_TABLES);
}

void
shard_keys_ends(uint32_t slot_max, size_t end[SHARD_KEYS_TABLES])
{
	for (unsigned i = 0; i < SHARD_KEYS_TABLES; i++)
		end[i] = keys_at(slot_max, i + 1);
}

struct conn_key *
conn_key(struct shard *s, const struct conn *c)
{
	return keys_of(s, KEYS_CONNS, conn_slot(s, c));
}

uint8_t *
conn_place(struct shard *s, const struct conn *c)
{
	return keys_of(s, KEYS_PLACES, conn_slot(s, c));
}

uint8_t *
conn_secrets(struct shard *s, const struct conn *c)
{
	return keys_of(s, KEYS_SECRETS, conn_slot(s, c));
}

struct session_key *
slot_key(const struct shard *s, uint32_t slot)
{
	return keys_of(s, KEYS_SESSIONS, slot);
}

/* ---- SHARD ----------------------------------------------------------------------------------- */

/* The magic word last: a writer that dies here starts over. */
static void
init(struct shard *s, const uint8_t seed[16])
{
	struct shard_head *h = s->head;

	h->layout = STATE_LAYOUT_SHARD;
	h->index = s->index;
	h->slot_max = s->slot_max;
	memcpy(h->seed, seed, sizeof h->seed);
	atomic_store_explicit(&h->index_log2, INDEX_LOG2_MIN, memory_order_relaxed);
	CRASH_POINT("shard:init");
	store32(&h->magic, SHARD_MAGIC);
}

static int
check_head(const struct shard *s)
{
	const struct shard_head *h = s->head;
	uint32_t k = atomic_load_explicit(&h->index_log2, memory_order_relaxed);

	if (h->magic != SHARD_MAGIC || h->layout != STATE_LAYOUT_SHARD)
		return -EPROTO;
	if (h->index != s->index || h->slot_max != s->slot_max || k < INDEX_LOG2_MIN || k > s->index_max ||
	    atomic_load_explicit(&h->bump, memory_order_relaxed) > s->slot_max ||
	    atomic_load_explicit(&h->block_bump, memory_order_relaxed) > s->block_max ||
	    atomic_load_explicit(&h->conn_bump, memory_order_relaxed) > s->conn_max ||
	    atomic_load_explicit(&h->ring_bump, memory_order_relaxed) > s->ring_max)
		return -EINVAL;
	return 0;
}

int
shard_keys_check(const void *keys)
{
	const struct keys_head *h = keys;

	return h->magic == 0 || (h->magic == KEYS_MAGIC && h->layout == STATE_LAYOUT_KEYS) ? 0 : -EPROTO;
}

static int
attach_keys(const struct shard *s)
{
	struct keys_head *h = s->keys;

	if (h->magic == 0) {
		h->layout = STATE_LAYOUT_KEYS;
		h->index = s->index;
		h->slot_max = s->slot_max;
		store32(&h->magic, KEYS_MAGIC);
	}
	if (h->magic != KEYS_MAGIC || h->layout != STATE_LAYOUT_KEYS)
		return -EPROTO;
	return h->index == s->index && h->slot_max == s->slot_max ? 0 : -EINVAL;
}

int
shard_attach(struct shard *s, unsigned index, void *region, void *keys, uint32_t slot_max, bool writer,
    const uint8_t seed[16])
{
	struct shard_layout l;
	uint8_t *base = region;
	int r;

	if (slot_max == 0 || slot_max > SLOT_LIMIT || index >= SHARDS_MAX || (writer && keys == NULL) ||
	    ((uintptr_t)region & (CONN_PAGE - 1)) != 0)
		return -EINVAL;
	l = layout_of(slot_max);
	*s = (struct shard){
		.index = index,
		.region = region,
		.keys = writer ? keys : NULL,
		.writer = writer,
		.slot_max = slot_max,
		.slots = (struct session *)(void *)(base + l.slots),
		.head = region,
		.blocks = (struct block *)(void *)(base + l.blocks),
		.area = { (_Atomic uint64_t *)(void *)(base + l.area[0]),
		    (_Atomic uint64_t *)(void *)(base + l.area[1]) },
		.index_max = shard_index_max(slot_max),
		.block_max = shard_block_max(slot_max),
		.conns = (struct conn *)(void *)(base + l.conns),
		.conn_max = slot_max,
		.ring_links = (uint32_t *)(void *)(base + l.links),
		.ring_bytes = base + l.rings,
		.ring_max = shard_ring_max(slot_max),
	};
	if (s->head->magic == 0) {
		if (!writer)
			return 0;
		init(s, seed);
	}
	if ((r = check_head(s)) != 0)
		return r;
	return writer ? attach_keys(s) : 0;
}

uint32_t
shard_live(const struct shard *s)
{
	return atomic_load_explicit(&s->head->live, memory_order_relaxed);
}

void
shard_packets_add(struct shard *s, uint64_t n)
{
	uint64_t sum = atomic_load_explicit(&s->head->packets, memory_order_relaxed) + n;

	atomic_store_explicit(&s->head->packets, sum, memory_order_relaxed);
}

uint64_t
shard_packets(const struct shard *s)
{
	return atomic_load_explicit(&s->head->packets, memory_order_relaxed);
}

uint32_t
shard_high(const struct shard *s)
{
	uint32_t n = atomic_load_explicit(&s->head->bump, memory_order_acquire);

	return n < s->slot_max ? n : s->slot_max;
}

/* The key first: it is what must not stay. */
void
slot_scrub(struct shard *s, struct session *x)
{
	sodium_memzero(slot_key(s, session_slot(s, x)), sizeof(struct session_key));
	CRASH_POINT("slot:key wiped");
	block_give_all(s, x);
	/* Everything behind state and generation, which outlive the session. */
	memset((uint8_t *)x + offsetof(struct session, seq), 0, sizeof *x - offsetof(struct session, seq));
	CRASH_POINT("slot:wiped");
}

void
slot_free_push(struct shard *s, struct session *x)
{
	x->more = s->head->free;
	CRASH_POINT("slot:linked");
	s->head->free = session_slot(s, x) + 1;
}
