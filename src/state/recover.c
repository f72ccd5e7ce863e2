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
	if (r->user.key != 0 && !holds(c, owner, account_stripe(r->user.key)))
		return false;
	if (r->other.key != 0 && !holds(c, owner, account_stripe(r->other.key)))
		return false;
	return holds(c, owner, account_stripe(r->prefix.key)) && holds(c, owner, STRIPE_TOTAL) &&
	    (r->token_at == 0 || holds(c, owner, STRIPE_TOKEN));
}

static uint64_t
token_there(const struct cross *c, const struct redo *r)
{
	return atomic_load_explicit(&cross_token(c, r->token_at - 1)->token, memory_order_relaxed);
}

/* Did it happen?  1 yes, 0 no, -EPROTO: the record and the slot do not belong together. */
static int
verdict(const struct cross *c, const struct redo *r, const struct shard *s)
{
	struct session x;
	uint32_t state;

	if (r->op == REDO_FORGET)
		return token_there(c, r) == 0;
	if (s == NULL || r->slot >= s->slot_max)
		return -EPROTO;
	slot_copy(&x, &s->slots[r->slot]);
	state = atomic_load_explicit(&x.state, memory_order_relaxed);
	if (x.gen != r->gen || (x.user != 0 && x.user != r->user.key) ||
	    cross_prefix(c, &x.client) != r->prefix.key)
		return -EPROTO;
	if (r->op == REDO_OPEN &&
	    (state == SESSION_FILLING || state == SESSION_TAKING || state == SESSION_LIVE))
		return state != SESSION_FILLING;
	if (r->op == REDO_CLOSE && (state == SESSION_ENDING || state == SESSION_FREE))
		return state == SESSION_FREE;
	return -EPROTO;
}

static uint32_t
after(const struct redo_count *n)
{
	int64_t v = (int64_t)n->before + n->change;

	return v > 0 ? (uint32_t)v : 0;
}

/* In the middle of things a count is between the one before and the one after; an account whose count
 * reached 0 may be gone from its chain, so the accounts themselves are searched. */
static bool
may_be(const struct cross *c, enum account_kind kind, const struct redo_count *n)
{
	const struct account *all = accounts(c, account_stripe(n->key));
	uint32_t bump = account_bump(c, account_stripe(n->key)), count = 0;
	uint32_t low = n->change < 0 ? after(n) : n->before, high = n->change < 0 ? n->before : after(n);

	if (n->key == 0)
		return n->change == 0;
	for (uint32_t i = 0; i < bump; i++)
		if (atomic_load_explicit((_Atomic uint64_t *)&all[i].key, memory_order_relaxed) == n->key &&
		    atomic_load_explicit((_Atomic uint32_t *)&all[i].kind, memory_order_relaxed) == kind)
			count = atomic_load_explicit(
			    (_Atomic uint32_t *)&all[i].count, memory_order_relaxed);
	return count >= low && count <= high;
}

static bool
is_token_sane(const struct cross *c, const struct redo *r)
{
	uint64_t now_there;

	if (r->token_at == 0)
		return r->op != REDO_FORGET;
	if (r->op == REDO_CLOSE || (r->op == REDO_FORGET && r->put) || r->token_at > TOKENS ||
	    r->token.token == 0)
		return false;
	now_there = token_there(c, r);
	return now_there == 0 || now_there == r->token.token;
}

/* No operation changes a count by more than two. */
static bool
is_small(const struct redo *r)
{
	const int32_t changes[] = { r->user.change, r->prefix.change, r->other.change, r->total_change };

	for (unsigned i = 0; i < TP_COUNT(changes); i++)
		if (changes[i] < -1 || changes[i] > 2 || (changes[i] > 0) > (r->op == REDO_OPEN))
			return false;
	return true;
}

static uint64_t
total_after(const struct redo *r)
{
	int64_t v = (int64_t)r->total + r->total_change;

	return v > 0 ? (uint64_t)v : 0;
}

static bool
is_sane(const struct cross *c, const struct redo *r)
{
	uint64_t total = cross_total(c);

	return is_small(r) && (total == r->total || total == total_after(r)) &&
	    may_be(c, ACCOUNT_USER, &r->user) && may_be(c, ACCOUNT_PREFIX, &r->prefix) &&
	    may_be(c, ACCOUNT_PREFIX, &r->other);
}

static void
settle_one(struct cross *c, enum account_kind kind, const struct redo_count *n, bool done)
{
	if (n->key != 0)
		account_force(c, kind, n->key, done ? after(n) : n->before);
}

static void
settle(struct cross *c, const struct redo *r, bool done)
{
	settle_one(c, ACCOUNT_USER, &r->user, done);
	settle_one(c, ACCOUNT_PREFIX, &r->prefix, done);
	settle_one(c, ACCOUNT_PREFIX, &r->other, done);
	atomic_store_explicit(
	    &cross_head(c)->total, done ? total_after(r) : r->total, memory_order_relaxed);
	if (r->token_at == 0)
		return;
	if (done == (r->put != 0))
		token_store(cross_token(c, r->token_at - 1), &r->token);
	else
		token_clear(cross_token(c, r->token_at - 1));
}

static bool
replay(struct cross *c, uint32_t owner, const struct shard *shards, unsigned n)
{
	struct redo r;
	int done;

	peek_words(&r, cross_redo(c, owner), sizeof r);
	if (r.op == REDO_NONE)
		return true;
	if ((r.op != REDO_OPEN && r.op != REDO_CLOSE && r.op != REDO_FORGET) || !holds_all(c, owner, &r) ||
	    !is_token_sane(c, &r))
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
	for (uint32_t i = 0; i < TOKENS && cross_head(c)->reserved != 0; i++) {
		struct reservation r = token_copy(cross_token(c, i), cross_token(c, i)->token);

		if (r.token == 0 || r.prefix == 0)
			continue;
		account_more(c, ACCOUNT_USER, r.user);
		account_more(c, ACCOUNT_PREFIX, r.prefix);
		total++;
	}
	atomic_store_explicit(&cross_head(c)->total, total, memory_order_relaxed);
}
