/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * recover.c: the supervisor settles what a dead worker left in CROSS.
 *
 * The record is believed only as far as it fits what can be checked: lock words that the dead one holds,
 * the slot it names, and counts that are either those before or those after.  A worker can lie only
 * about what it could have written anyway.
 */
#include "config.h"

#include <errno.h>

#include "state_int.h"

static bool
holds(const struct cross *c, uint32_t owner, unsigned stripe)
{
	return lock_held_by(&cross_stripe(c, stripe)->lock, owner);
}

static const struct shard *
shard_named(const struct shard *shards, unsigned n, uint32_t index)
{
	for (unsigned i = 0; i < n; i++)
		if (shards[i].index == index)
			return &shards[i];
	return NULL;
}

static bool
holds_all(const struct cross *c, uint32_t owner, const struct redo *r)
{
	if (r->user != 0 && !holds(c, owner, account_stripe(r->user)))
		return false;
	return holds(c, owner, account_stripe(r->prefix)) && holds(c, owner, STRIPE_TOTAL) &&
	    (r->token_at == 0 || holds(c, owner, STRIPE_TOKEN));
}

/* Did it happen?  1 yes, 0 no, -EPROTO: the record and the slot do not belong together. */
static int
verdict(const struct cross *c, const struct redo *r, const struct shard *s)
{
	struct session x;
	uint32_t state;

	if (s == NULL || r->slot >= s->slot_max)
		return -EPROTO;
	slot_copy(&x, &s->slots[r->slot]);
	state = atomic_load_explicit(&x.state, memory_order_relaxed);
	if (x.gen != r->gen || x.user != r->user || cross_prefix(c, &x.client) != r->prefix)
		return -EPROTO;
	if (r->op == REDO_OPEN && (state == SESSION_FILLING || state == SESSION_LIVE))
		return state == SESSION_LIVE;
	if (r->op == REDO_CLOSE && (state == SESSION_ENDING || state == SESSION_FREE))
		return state == SESSION_FREE;
	return -EPROTO;
}

/* In the middle of things a count is the one before or the one after; an account whose count reached 0 may
 * be gone from its chain, so the accounts themselves are searched. */
static bool
may_be(const struct cross *c, enum account_kind kind, uint64_t key, uint32_t before, uint32_t after)
{
	const struct account *all = accounts(c, account_stripe(key));
	uint32_t bump = account_bump(c, account_stripe(key)), count = 0;

	for (uint32_t i = 0; i < bump; i++)
		if (atomic_load_explicit((_Atomic uint64_t *)&all[i].key, memory_order_relaxed) == key &&
		    atomic_load_explicit((_Atomic uint32_t *)&all[i].kind, memory_order_relaxed) == kind)
			count =
			    atomic_load_explicit((_Atomic uint32_t *)&all[i].count, memory_order_relaxed);
	return count == before || count == after;
}

static uint32_t
after(uint32_t op, uint32_t before)
{
	return op == REDO_OPEN ? before + 1 : before > 0 ? before - 1 : 0;
}

static bool
is_token_sane(const struct cross *c, const struct redo *r)
{
	const struct token *t;
	uint64_t now_there;

	if (r->token_at == 0)
		return true;
	if (r->op != REDO_OPEN || r->token_at > TOKENS || r->token.token == 0)
		return false;
	t = cross_token(c, r->token_at - 1);
	now_there = atomic_load_explicit((_Atomic uint64_t *)&t->token, memory_order_relaxed);
	return now_there == 0 || now_there == r->token.token;
}

static bool
is_sane(const struct cross *c, const struct redo *r)
{
	uint64_t total = cross_total(c);
	uint64_t total_after = r->op == REDO_OPEN ? r->total + 1 : r->total > 0 ? r->total - 1 : 0;

	if (r->user != 0 && !may_be(c, ACCOUNT_USER, r->user, r->user_count, after(r->op, r->user_count)))
		return false;
	return may_be(c, ACCOUNT_PREFIX, r->prefix, r->prefix_count, after(r->op, r->prefix_count)) &&
	    (total == r->total || total == total_after) && is_token_sane(c, r);
}

static void
settle(struct cross *c, const struct redo *r, bool done)
{
	uint64_t total = r->total;

	if (done)
		total = r->op == REDO_OPEN ? total + 1 : total > 0 ? total - 1 : 0;
	if (r->user != 0)
		account_force(c, ACCOUNT_USER, r->user, done ? after(r->op, r->user_count) : r->user_count);
	account_force(c, ACCOUNT_PREFIX, r->prefix, done ? after(r->op, r->prefix_count) : r->prefix_count);
	atomic_store_explicit(&cross_head(c)->total, total, memory_order_relaxed);
	if (r->token_at == 0)
		return;
	if (done)
		token_clear(cross_token(c, r->token_at - 1));
	else
		token_store(cross_token(c, r->token_at - 1), &r->token);
}

static bool
replay(struct cross *c, uint32_t owner, const struct shard *shards, unsigned n)
{
	struct redo r;
	int done;

	peek_words(&r, cross_redo(c, owner), sizeof r);
	if (r.op == REDO_NONE)
		return true;
	if ((r.op != REDO_OPEN && r.op != REDO_CLOSE) || !holds_all(c, owner, &r))
		return false;
	done = verdict(c, &r, shard_named(shards, n, r.shard));
	if (done < 0 || !is_sane(c, &r))
		return false;
	settle(c, &r, done == 1);
	return true;
}

unsigned
cross_free_words(struct cross *c, const bool *runs)
{
	unsigned freed = 0;

	for (unsigned i = 0; i < CROSS_STRIPES; i++) {
		lock_word *w = &cross_stripe(c, i)->lock;
		uint32_t holder = atomic_load_explicit(w, memory_order_relaxed) & ~LOCK_WAITERS;

		if (holder == 0 || (holder <= SHARDS_MAX && runs[holder - 1]))
			continue;
		lock_recover(w, 1, sizeof(struct stripe), holder - 1);
		freed++;
	}
	return freed;
}

int
cross_recover(struct cross *c, uint32_t owner, const struct shard *shards, unsigned n, unsigned *refused)
{
	if (owner >= SHARDS_MAX)
		return -EINVAL;
	if (!replay(c, owner, shards, n) && refused != NULL)
		(*refused)++;
	for (unsigned i = 0; i < ACCOUNT_STRIPES; i++)
		if (holds(c, owner, i))
			account_relist(c, i);
	atomic_store_explicit(&cross_redo(c, owner)->op, REDO_NONE, memory_order_release);
	lock_recover(&cross_stripe(c, 0)->lock, CROSS_STRIPES, sizeof(struct stripe), owner);
	return 0;
}

void
cross_recount(struct cross *c, struct shard *shards, unsigned n)
{
	uint64_t total = 0;

	for (unsigned i = 0; i < ACCOUNT_STRIPES; i++) {
		atomic_store_explicit(&cross_stripe(c, i)->bump, 0, memory_order_relaxed);
		account_relist(c, i);
	}
	for (unsigned i = 0; i < n; i++) {
		uint32_t high = shard_high(&shards[i]);

		for (uint32_t slot = 0; slot < high; slot++) {
			struct session x;
			uint32_t state;

			slot_copy(&x, &shards[i].slots[slot]);
			state = atomic_load_explicit(&x.state, memory_order_relaxed);
			if (state != SESSION_LIVE && state != SESSION_ENDING)
				continue;
			if (x.user != 0)
				account_more(c, ACCOUNT_USER, x.user);
			account_more(c, ACCOUNT_PREFIX, cross_prefix(c, &x.client));
			total++;
		}
	}
	atomic_store_explicit(&cross_head(c)->total, total, memory_order_relaxed);
}
