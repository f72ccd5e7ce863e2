/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * adopt.c: a successor takes over what its predecessor left, at whatever store that one ended.
 *
 * Everything derived is derived again: free lists, counts, ownership of blocks; the index when it does not
 * match the live slots.  May itself be killed and run again.
 */
#include "config.h"

#include "state_int.h"

struct adoption {
	struct shard *s;
	tp_ms now;
	shard_dropped_h *dropped;
	void *arg;
	struct shard_adopted out;
	struct index_sum live;
	uint32_t free, free_blocks;
};

static bool
is_addr_sane(const struct addr *a)
{
	static const uint8_t zero[12];

	if (a->port == 0 || a->zero != 0)
		return false;
	return a->family == ADDR_V6 || (a->family == ADDR_V4 && memcmp(a->ip + 4, zero, sizeof zero) == 0);
}

static bool
is_relay_sane(const struct relay_ref *r)
{
	return (r->family == ADDR_V4 || r->family == ADDR_V6) && r->fd >= 0 && r->port != 0;
}

/* Why a live session cannot be kept; NULL when it can. */
static const char *
check(const struct shard *s, const struct session *x)
{
	const struct session_key *key = slot_key(s, session_slot(s, x));

	if (x->gen == 0)
		return "generation";
	if (!is_addr_sane(&x->client))
		return "client address";
	if (!transport_is_valid(x->transport))
		return "transport";
	if (!is_relay_sane(&x->relay[0]) || (x->relay[1].family != 0 && !is_relay_sane(&x->relay[1])))
		return "relay";
	if (x->flags >= SESSION_MTU * 2)
		return "flags";
	if (key->gen != x->gen || key->len > sizeof key->key)
		return "key";
	if (x->conn != 0 && !conn_is_of((struct shard *)(uintptr_t)s, x))
		return "connection";
	return NULL;
}

/* The blocks that this session reaches are its own; a chain ends where it leads anywhere else. */
static void
adopt_blocks(struct adoption *a, struct session *x)
{
	uint32_t *from = &x->more;
	struct block *b;

	for (unsigned i = 0; *from != 0; i++) {
		b = i < CHAIN_MAX ? block_of(a->s, x, *from) : NULL;
		if (b == NULL || b->mark || b->kind == BLOCK_FREE || b->kind >= BLOCK_BUCKET) {
			store32(from, 0);
			break;
		}
		b->mark = 1;
		from = &b->next;
	}
	b = block_of(a->s, x, x->bucket);
	if (b != NULL && !b->mark && b->kind == BLOCK_BUCKET)
		b->mark = 1;
	else
		x->bucket = 0;
}

static void
adopt_kept(struct adoption *a, struct session *x)
{
	uint32_t seq = atomic_load_explicit(&x->seq, memory_order_relaxed);

	atomic_store_explicit(&x->seq, (seq + 1) & ~1u, memory_order_release);
	adopt_blocks(a, x);
}

static bool
is_clean(const struct adoption *a, const struct session *x)
{
	static const uint8_t zero[sizeof(struct session)];
	size_t head = offsetof(struct session, seq), more = offsetof(struct session, more);
	const uint8_t *p = (const uint8_t *)x;

	return slot_key(a->s, session_slot(a->s, x))->gen == 0 &&
	    memcmp(p + head, zero, more - head) == 0 &&
	    memcmp(p + more + 4, zero, sizeof *x - more - 4) == 0;
}

static void
adopt_free(struct adoption *a, struct session *x)
{
	if (!is_clean(a, x)) {
		x->more = 0; /* a block is in use if a session reaches it */
		x->bucket = 0;
		slot_scrub(a->s, x);
	}
	atomic_store_explicit(&x->state, SESSION_FREE, memory_order_release);
	x->more = a->free;
	a->free = session_slot(a->s, x) + 1;
	CRASH_POINT("adopt:free");
}

static void
adopt_lost(struct adoption *a, struct session *x, const char *why)
{
	a->out.dropped++;
	atomic_store_explicit(&x->state, SESSION_ENDING, memory_order_release);
	CRASH_POINT("adopt:lost");
	adopt_kept(a, x);
	if (a->dropped != NULL)
		a->dropped(a->arg, x, session_slot(a->s, x), why);
}

static void
adopt_slot(struct adoption *a, struct session *x)
{
	const char *why;

	switch (atomic_load_explicit(&x->state, memory_order_acquire)) {
	case SESSION_LIVE:
		why = check(a->s, x);
		if (why != NULL) {
			adopt_lost(a, x, why);
			break;
		}
		adopt_kept(a, x);
		peers_sweep(a->s, x, a->now);
		index_sum_add(&a->live, session_slot(a->s, x));
		a->out.live++;
		break;
	case SESSION_ENDING:
		adopt_lost(a, x, "was ending");
		break;
	case SESSION_FREE:
		adopt_free(a, x);
		break;
	default:
		a->out.half++;
		adopt_free(a, x);
	}
}

/*
 * Sessions that were about to take another's place, see take_place() of cross.c: the new one is certain,
 * so the old one goes, whose counts are the new one's.
 */
static void
finish_taking(struct shard *s)
{
	uint32_t high = shard_high(s);

	for (uint32_t i = 0; i < high; i++) {
		struct session *x = &s->slots[i], *old;

		if (atomic_load_explicit(&x->state, memory_order_acquire) != SESSION_TAKING)
			continue;
		old = x->created != 0 && x->created <= high ? &s->slots[x->created - 1] : NULL;
		if (old != NULL && old != x && addr_eq(&old->client, &x->client) &&
		    old->listener == x->listener && old->transport == x->transport &&
		    atomic_load_explicit(&old->state, memory_order_relaxed) == SESSION_LIVE)
			atomic_store_explicit(&old->state, SESSION_FREE, memory_order_release);
		CRASH_POINT("adopt:replaced");
		x->created = x->client_seen; /* both are the second in which it was made */
		atomic_store_explicit(&x->state, SESSION_LIVE, memory_order_release);
		CRASH_POINT("adopt:took");
	}
}

static void
free_unreached(struct adoption *a)
{
	struct shard *s = a->s;
	uint32_t chained = 0;

	for (uint32_t i = shard_block_bump(s); i-- > 0;) {
		struct block *b = &s->blocks[i];

		/* Swept away while its session was adopted: marked, but without an owner. */
		if (b->mark && b->owner != 0 && b->kind != BLOCK_FREE) {
			b->mark = 0;
			chained += b->kind != BLOCK_BUCKET;
			continue;
		}
		memset(b, 0, sizeof *b);
		b->next = a->free_blocks;
		a->free_blocks = i + 1;
		CRASH_POINT("adopt:block");
	}
	s->head->block_free = a->free_blocks;
	s->head->block_chained = chained;
}

static void
adopt_index(struct adoption *a)
{
	struct index_sum have = index_sum(a->s);

	if (memcmp(&have, &a->live, sizeof have) != 0 ||
	    a->live.count * 2 > (uint64_t)1 << a->s->head->index_log2)
		index_rebuild(a->s, a->out.live);
	a->s->head->index_count = a->out.live;
}

struct shard_adopted
shard_adopt(struct shard *s, tp_ms now, shard_dropped_h *dropped, void *arg)
{
	struct adoption a = { .s = s, .now = now, .dropped = dropped, .arg = arg };
	uint32_t blocks = shard_block_bump(s);

	s->head->free = 0;
	s->head->block_free = 0;
	for (uint32_t i = 0; i < blocks; i++)
		s->blocks[i].mark = 0;
	CRASH_POINT("adopt:begin");
	conn_adopt_all(s);
	finish_taking(s);
	/* From above, so that the free list begins with the lowest slots. */
	for (uint32_t i = shard_high(s); i-- > 0;)
		adopt_slot(&a, &s->slots[i]);
	s->head->free = a.free;
	CRASH_POINT("adopt:slots");
	free_unreached(&a);
	CRASH_POINT("adopt:blocks");
	adopt_index(&a);
	atomic_store_explicit(&s->head->live, a.out.live, memory_order_relaxed);
	CRASH_POINT("adopt:end");
	return a.out;
}
