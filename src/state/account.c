/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * account.c: sessions per user and per source prefix.
 *
 * A key's stripe, chain and place follow from the key.  Chains and free lists are derived from the
 * accounts themselves: one with a count is in its chain, one without is free.
 */
#include "config.h"

#include "state_int.h"

static inline uint32_t
load(const _Atomic uint32_t *p)
{
	return atomic_load_explicit((_Atomic uint32_t *)p, memory_order_acquire);
}
static inline void
put(_Atomic uint32_t *p, uint32_t v)
{
	atomic_store_explicit(p, v, memory_order_release);
}

/* Without the lock (bandwidth, turnpike-admin) a chain may change underfoot: a miss is then possible,
 * anything worse is not. */
uint32_t
account_find(const struct cross *c, enum account_kind kind, uint64_t key)
{
	unsigned stripe = account_stripe(key);
	const struct account *all = accounts(c, stripe);
	uint32_t link = load(&account_heads(c, stripe)[account_bucket(key)]);

	for (unsigned i = 0; i < ACCOUNT_WALK && link != 0 && link <= ACCOUNTS; i++) {
		const struct account *a = &all[link - 1];

		if (atomic_load_explicit((_Atomic uint64_t *)&a->key, memory_order_relaxed) == key &&
		    load(&a->kind) == kind)
			return link;
		link = load(&a->next);
	}
	return 0;
}

uint32_t
account_count(const struct cross *c, enum account_kind kind, uint64_t key)
{
	uint32_t at = account_find(c, kind, key);

	return at != 0 ? load(&accounts(c, account_stripe(key))[at - 1].count) : 0;
}

bool
account_room(const struct cross *c, unsigned stripe, uint32_t n)
{
	const struct stripe *st = cross_stripe(c, stripe);
	uint32_t link = load(&st->free);

	if (ACCOUNTS - account_bump(c, stripe) >= n)
		return true;
	for (; n > 0 && link != 0 && link <= ACCOUNTS; n--)
		link = load(&accounts(c, stripe)[link - 1].next);
	return n == 0;
}

static uint32_t
take(struct cross *c, unsigned stripe)
{
	struct stripe *st = cross_stripe(c, stripe);
	uint32_t link = load(&st->free), bump = account_bump(c, stripe);

	if (link != 0 && link <= ACCOUNTS) {
		put(&st->free, load(&accounts(c, stripe)[link - 1].next));
		CRASH_POINT("account:popped");
		return link;
	}
	if (bump >= ACCOUNTS)
		return 0;
	put(&st->bump, bump + 1);
	CRASH_POINT("account:bumped");
	return bump + 1;
}

static void
fill(struct account *a, enum account_kind kind, uint64_t key, uint32_t count)
{
	atomic_store_explicit(&a->key, key, memory_order_relaxed);
	atomic_store_explicit(&a->tat[0], 0, memory_order_relaxed);
	atomic_store_explicit(&a->tat[1], 0, memory_order_relaxed);
	put(&a->kind, kind);
	CRASH_POINT("account:filled");
	put(&a->count, count);
}

void
account_more(struct cross *c, enum account_kind kind, uint64_t key)
{
	unsigned stripe = account_stripe(key);
	uint32_t at = account_find(c, kind, key);
	_Atomic uint32_t *head = &account_heads(c, stripe)[account_bucket(key)];
	struct account *a;

	if (at != 0) {
		a = &accounts(c, stripe)[at - 1];
		put(&a->count, load(&a->count) + 1);
		CRASH_POINT("account:counted");
		return;
	}
	if ((at = take(c, stripe)) == 0)
		return;
	a = &accounts(c, stripe)[at - 1];
	fill(a, kind, key, 1);
	CRASH_POINT("account:new");
	put(&a->next, load(head));
	CRASH_POINT("account:linked");
	put(head, at);
	CRASH_POINT("account:published");
}

static void
drop(struct cross *c, unsigned stripe, uint64_t key, uint32_t at)
{
	struct account *all = accounts(c, stripe), *a = &all[at - 1];
	_Atomic uint32_t *from = &account_heads(c, stripe)[account_bucket(key)];

	for (unsigned i = 0; i < ACCOUNT_WALK; i++) {
		uint32_t link = load(from);

		if (link == 0 || link > ACCOUNTS)
			return;
		if (link == at)
			break;
		from = &all[link - 1].next;
	}
	if (load(from) != at)
		return;
	put(from, load(&a->next));
	CRASH_POINT("account:unlinked");
	put(&a->kind, ACCOUNT_FREE);
	put(&a->next, load(&cross_stripe(c, stripe)->free));
	CRASH_POINT("account:freed");
	put(&cross_stripe(c, stripe)->free, at);
}

void
account_less(struct cross *c, enum account_kind kind, uint64_t key)
{
	unsigned stripe = account_stripe(key);
	uint32_t at = account_find(c, kind, key), count;
	struct account *a;

	if (at == 0)
		return;
	a = &accounts(c, stripe)[at - 1];
	count = load(&a->count);
	if (count > 0)
		put(&a->count, --count);
	CRASH_POINT("account:discounted");
	if (count == 0)
		drop(c, stripe, key, at);
}

void
account_force(struct cross *c, enum account_kind kind, uint64_t key, uint32_t count)
{
	unsigned stripe = account_stripe(key);
	struct stripe *st = cross_stripe(c, stripe);
	struct account *all = accounts(c, stripe);
	uint32_t free = ACCOUNTS, bump = account_bump(c, stripe);

	for (uint32_t i = 0; i < bump; i++) {
		struct account *a = &all[i];

		if (load(&a->kind) == kind && atomic_load_explicit(&a->key, memory_order_relaxed) == key) {
			put(&a->count, count);
			return;
		}
		if (free == ACCOUNTS && load(&a->count) == 0)
			free = i;
	}
	if (count == 0)
		return;
	if (free == ACCOUNTS) {
		if (bump == ACCOUNTS)
			return;
		free = bump;
		put(&st->bump, bump + 1);
	}
	fill(&all[free], kind, key, count);
}

void
account_relist(struct cross *c, unsigned stripe)
{
	struct stripe *st = cross_stripe(c, stripe);
	struct account *all = accounts(c, stripe);
	_Atomic uint32_t *heads = account_heads(c, stripe);
	uint32_t bump = account_bump(c, stripe), free = 0;

	put(&st->bump, bump);
	memset((void *)heads, 0, ACCOUNT_HEADS * sizeof *heads);
	for (uint32_t i = bump; i-- > 0;) {
		struct account *a = &all[i];
		uint64_t key = atomic_load_explicit(&a->key, memory_order_relaxed);
		uint32_t kind = load(&a->kind);

		if (load(&a->count) != 0 && (kind == ACCOUNT_USER || kind == ACCOUNT_PREFIX) &&
		    account_stripe(key) == stripe) {
			put(&a->next, load(&heads[account_bucket(key)]));
			put(&heads[account_bucket(key)], i + 1);
			continue;
		}
		put(&a->count, 0);
		put(&a->kind, ACCOUNT_FREE);
		put(&a->next, free);
		free = i + 1;
	}
	put(&st->free, free);
}
