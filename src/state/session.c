/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * session.c: slots by reference and by turn: new, abandon, get, read from another process, sweep.
 */
#include "config.h"

#include "state_int.h"

#define READ_TRIES 16

void
session_change(struct session *x)
{
	uint32_t seq = atomic_load_explicit(&x->seq, memory_order_relaxed);

	atomic_store_explicit(&x->seq, seq + 1, memory_order_relaxed);
	atomic_thread_fence(memory_order_release);
	CRASH_POINT("session:change");
}

void
session_changed(struct session *x)
{
	uint32_t seq = atomic_load_explicit(&x->seq, memory_order_relaxed);

	CRASH_POINT("session:changed");
	atomic_store_explicit(&x->seq, seq + 1, memory_order_release);
}

bool
session_read(const struct shard *s, uint32_t slot, struct session *copy)
{
	struct session *x;

	if (slot >= shard_high(s))
		return false;
	x = &s->slots[slot];
	for (unsigned try = 0; try < READ_TRIES; try++) {
		uint32_t seq = atomic_load_explicit(&x->seq, memory_order_acquire), gen;

		if (atomic_load_explicit(&x->state, memory_order_acquire) != SESSION_LIVE)
			return false;
		if (seq & 1)
			continue;
		gen = atomic_load_explicit((_Atomic uint32_t *)&x->gen, memory_order_relaxed);
		slot_copy(copy, x);
		atomic_thread_fence(memory_order_acquire);
		if (atomic_load_explicit(&x->seq, memory_order_relaxed) == seq &&
		    atomic_load_explicit((_Atomic uint32_t *)&x->gen, memory_order_relaxed) == gen &&
		    atomic_load_explicit(&x->state, memory_order_relaxed) == SESSION_LIVE &&
		    copy->gen == gen && gen != 0 &&
		    atomic_load_explicit(&copy->state, memory_order_relaxed) == SESSION_LIVE)
			return true;
	}
	return false;
}

struct session *
session_get(struct shard *s, struct session_ref ref)
{
	struct session *x;

	if (ref.slot >= s->slot_max)
		return NULL;
	x = &s->slots[ref.slot];
	if (atomic_load_explicit(&x->state, memory_order_relaxed) != SESSION_LIVE || x->gen != ref.gen)
		return NULL;
	return x;
}

struct session_key *
session_key(struct shard *s, const struct session *x)
{
	return slot_key(s, session_slot(s, x));
}

/* A free slot: the last one given back, or the first that was never used. */
static struct session *
slot_take(struct shard *s)
{
	struct shard_head *h = s->head;
	uint32_t free = h->free, bump = atomic_load_explicit(&h->bump, memory_order_relaxed);
	struct session *x;

	if (free != 0 && free <= bump && bump <= s->slot_max) {
		x = &s->slots[free - 1];
		h->free = x->more;
		CRASH_POINT("slot:popped");
		return x;
	}
	if (bump >= s->slot_max)
		return NULL;
	x = &s->slots[bump];
	atomic_store_explicit(&h->bump, bump + 1, memory_order_release);
	CRASH_POINT("slot:bumped");
	return x;
}

struct session *
session_new(struct shard *s)
{
	struct session *x = slot_take(s);
	struct session_key *key;
	uint32_t gen;

	if (x == NULL)
		return NULL;
	gen = x->gen + 1 != 0 ? x->gen + 1 : 1;
	atomic_store_explicit(&x->state, SESSION_FILLING, memory_order_release);
	CRASH_POINT("slot:filling");
	atomic_store_explicit((_Atomic uint32_t *)&x->gen, gen, memory_order_release);
	memset((uint8_t *)x + offsetof(struct session, seq), 0, sizeof *x - offsetof(struct session, seq));
	key = session_key(s, x);
	memset(key, 0, sizeof *key);
	key->gen = gen;
	CRASH_POINT("slot:new");
	return x;
}

void
session_abandon(struct shard *s, struct session *x)
{
	slot_scrub(s, x);
	atomic_store_explicit(&x->state, SESSION_FREE, memory_order_release);
	CRASH_POINT("slot:abandoned");
	slot_free_push(s, x);
}

uint32_t
session_sweep(struct shard *s, uint32_t cursor, uint32_t n, tp_ms now, session_over_h *over, void *arg)
{
	uint32_t high = shard_high(s);

	if (n > high)
		n = high;
	while (n-- > 0) {
		struct session *x = &s->slots[cursor < high ? cursor : 0];
		uint32_t state = atomic_load_explicit(&x->state, memory_order_relaxed);

		cursor = session_slot(s, x) + 1;
		if (state == SESSION_ENDING || (state == SESSION_LIVE && !in_force(x->expiry, now)))
			over(arg, x);
		else if (state == SESSION_LIVE &&
		    (x->perm_count != 0 || x->chan_count != 0 || x->more != 0))
			peers_sweep(s, x, now);
	}
	return cursor < high ? cursor : 0;
}
