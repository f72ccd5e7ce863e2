/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bandwidth.c: bytes per second of an allocation, a user and the server.
 *
 * A bucket is one word: the instant (ns) at which it is full again.  Taking n bytes moves it n / rate
 * ahead, and it may be at most one burst ahead of now: a second of the rate, but 64 KiB at least, so
 * that every datagram passes some day.  The session leases 20 ms of the smaller shared rate, at most
 * 16 KiB, at a time; what is left of a lease stays with the session.
 */
#include "config.h"

#include "state_int.h"

#define BURST_NS          1000000000u
#define BURST_BYTES       65536u
#define LEASE_MAX         16384u
#define LEASES_PER_SECOND 50u
#define CAS_TRIES         8

static uint64_t
cost_ns(uint64_t rate, uint64_t bytes)
{
	return bytes * 1000000000u / rate;
}

/* Lost races end in a grace: no packet waits for another process. */
static bool
take(_Atomic uint64_t *tat, uint64_t rate, uint32_t bytes, uint64_t now)
{
	uint64_t cost = cost_ns(rate, bytes), least = cost_ns(rate, BURST_BYTES);
	uint64_t burst = least > BURST_NS ? least : BURST_NS;

	for (unsigned i = 0; i < CAS_TRIES; i++) {
		uint64_t v = atomic_load_explicit(tat, memory_order_relaxed), from = v > now ? v : now;

		if (v >
		    now + burst) /* the rate was lower once, or the word is damaged: begin to fill now */
			atomic_compare_exchange_strong_explicit(
			    tat, &v, now + burst, memory_order_relaxed, memory_order_relaxed);
		if (from > now + burst || from + cost > now + burst)
			return false;
		if (atomic_compare_exchange_weak_explicit(
			tat, &v, from + cost, memory_order_relaxed, memory_order_relaxed))
			return true;
	}
	return true;
}

static void
give(_Atomic uint64_t *tat, uint64_t rate, uint32_t bytes)
{
	atomic_fetch_sub_explicit(tat, cost_ns(rate, bytes), memory_order_relaxed);
}

static struct bucket *
bucket_of(struct shard *s, struct session *x)
{
	struct block *b = block_of(s, x, x->bucket);

	if (b == NULL) {
		b = block_take(s, x, BLOCK_BUCKET);
		if (b == NULL)
			return NULL;
		store32(&x->bucket, block_ref(s, b));
		CRASH_POINT("bucket:linked");
	}
	return &b->bucket;
}

/* The user's account stays in its place while this session is counted in it. */
static struct account *
account_of(struct cross *c, const struct session *x, struct bucket *k)
{
	struct account *all = accounts(c, account_stripe(x->user));

	if (k->account == 0 || k->account > ACCOUNTS ||
	    atomic_load_explicit(&all[k->account - 1].key, memory_order_relaxed) != x->user)
		k->account = account_find(c, ACCOUNT_USER, x->user);
	return k->account != 0 ? &all[k->account - 1] : NULL;
}

static uint32_t
lease_size(const struct bandwidth *b, uint32_t bytes)
{
	uint64_t rate = b->per_user == 0 || (b->total != 0 && b->total < b->per_user) ? b->total
										      : b->per_user;
	uint64_t lease = rate / LEASES_PER_SECOND;

	lease = lease < LEASE_MAX ? lease : LEASE_MAX;
	return lease > bytes ? (uint32_t)lease : bytes;
}

static bool
lease(struct cross *c, const struct session *x, struct bucket *k, const struct bandwidth *b, unsigned dir,
    uint32_t bytes, uint64_t now)
{
	struct account *user = b->per_user != 0 && x->user != 0 ? account_of(c, x, k) : NULL;
	uint32_t n = lease_size(b, bytes);

	if (user != NULL && !take(&user->tat[dir], b->per_user, n, now))
		return false;
	if (b->total != 0 && !take(&cross_head(c)->tat[dir], b->total, n, now)) {
		if (user != NULL)
			give(&user->tat[dir], b->per_user, n);
		return false;
	}
	k->lease[dir] += n;
	return true;
}

bool
bandwidth_of_user(struct shard *s, struct session *x, uint64_t rate)
{
	struct bucket *k = bucket_of(s, x);

	if (k == NULL)
		return false;
	k->user_rate = rate < UINT32_MAX ? (uint32_t)rate : UINT32_MAX;
	return true;
}

bool
bandwidth_take(struct cross *c, struct shard *s, struct session *x, const struct bandwidth *configured,
    bool up, uint32_t bytes, tp_ms now)
{
	unsigned dir = up ? 0 : 1;
	uint64_t now_ns = now * 1000000u;
	struct bandwidth own = *configured;
	const struct bandwidth *b = &own;
	struct bucket *k = x->bucket != 0 ? bucket_of(s, x) : NULL;

	if (k != NULL && k->user_rate != 0)
		own.per_user = k->user_rate;

	if (b->per_allocation == 0 && b->per_user == 0 && b->total == 0)
		return true;
	if ((k = bucket_of(s, x)) == NULL)
		return false;
	if (b->per_allocation != 0 && !take(&k->tat[dir], b->per_allocation, bytes, now_ns))
		return false;
	if (b->per_user == 0 && b->total == 0)
		return true;
	if (k->lease[dir] < bytes && !lease(c, x, k, b, dir, bytes, now_ns)) {
		if (b->per_allocation != 0)
			give(&k->tat[dir], b->per_allocation, bytes);
		return false;
	}
	k->lease[dir] -= bytes;
	return true;
}
