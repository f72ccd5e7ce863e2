/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * cross.c: the transactions that make a session live and end it.
 *
 *   lock (ascending) -> check -> stage the redo record -> apply -> state word -> clear the record -> unlock
 *
 * Dying before the record is staged changes nothing; after that recover.c brings the counts to what the
 * slot's state word says.  A slot holds its counts while it is SESSION_LIVE or SESSION_ENDING.
 */
#include "config.h"

#include <errno.h>
#include <sodium.h>

#include "state_int.h"

size_t
cross_region_size(void)
{
	return CROSS_SIZE;
}

int
cross_attach(struct cross *c, void *region, uint32_t owner, const uint8_t seed[16])
{
	struct cross_head *h = region;

	*c = (struct cross){ .region = region, .owner = owner };
	if (h->magic == 0 && seed != NULL) {
		memcpy(h->seed, seed, sizeof h->seed);
		h->layout = STATE_LAYOUT_CROSS;
		store32(&h->magic, CROSS_MAGIC);
	}
	if (owner != UINT32_MAX && owner >= SHARDS_MAX)
		return -EINVAL;
	return h->magic == CROSS_MAGIC && h->layout == STATE_LAYOUT_CROSS ? 0 : -EPROTO;
}

/* Never 0: that is "no user", which is not counted. */
uint64_t
cross_hash(const struct cross *c, const void *bytes, size_t len)
{
	uint8_t out[crypto_shorthash_BYTES];
	uint64_t hash;

	crypto_shorthash(out, bytes, len, cross_head(c)->seed);
	hash = get_u64(out);
	return hash != 0 ? hash : 1;
}

uint64_t
cross_prefix(const struct cross *c, const struct addr *client)
{
	uint8_t key[9] = { client->family };
	size_t n = client->family == ADDR_V4 ? 4 : 8;

	memcpy(key + 1, client->ip, n);
	return cross_hash(c, key, n + 1);
}

uint32_t
cross_user_count(struct cross *c, uint64_t user)
{
	return user != 0 ? account_count(c, ACCOUNT_USER, user) : 0;
}

uint64_t
cross_total(const struct cross *c)
{
	return atomic_load_explicit(&cross_head(c)->total, memory_order_relaxed);
}

/* One transaction: what it needs locked, and what it is about to change. */
struct tx {
	struct cross *c;
	struct redo was;
	struct session *old;   /* that gives way */
	unsigned stripe[5], n; /* ascending, distinct */
};

static void
tx_stripe(struct tx *t, unsigned stripe)
{
	unsigned i = t->n;

	for (unsigned j = 0; j < t->n; j++)
		if (t->stripe[j] == stripe)
			return;
	for (; i > 0 && t->stripe[i - 1] > stripe; i--)
		t->stripe[i] = t->stripe[i - 1];
	t->stripe[i] = stripe;
	t->n++;
}

static void
tx_unlock(struct tx *t, unsigned n)
{
	while (n-- > 0)
		lock_give(&cross_stripe(t->c, t->stripe[n])->lock, t->c->owner);
}

/*
 * The holder of a stripe may have lost its processor for a few ms: on a loaded machine 2 ms are not
 * enough, and an Allocate that is dropped costs its client half a second.  A lock that does not come free
 * at all must not cost that much each time, because the sessions of this shard wait meanwhile: after one
 * long wait without success the waits are short until one succeeds.
 */
static int
tx_lock(struct tx *t)
{
	struct cross *c = t->c;

	for (unsigned i = 0; i < t->n; i++)
		if (lock_take(&cross_stripe(c, t->stripe[i])->lock, c->owner,
			c->hurried ? LOCK_WAIT_MS : LOCK_PATIENCE_MS) != 0) {
			tx_unlock(t, i);
			c->hurried = true;
			return -ETIMEDOUT;
		}
	c->hurried = false;
	return 0;
}

/* Locks what `was` names and reads the counts. */
static int
tx_begin(struct tx *t)
{
	struct redo *w = &t->was;
	struct cross *c = t->c;

	assert(c->owner < SHARDS_MAX);
	if (w->user.key != 0)
		tx_stripe(t, account_stripe(w->user.key));
	tx_stripe(t, account_stripe(w->prefix.key));
	if (w->other.key != 0)
		tx_stripe(t, account_stripe(w->other.key));
	if (w->token.token != 0)
		tx_stripe(t, STRIPE_TOKEN);
	tx_stripe(t, STRIPE_TOTAL);
	if (tx_lock(t) != 0)
		return -ETIMEDOUT;
	if (w->user.key != 0)
		w->user.before = account_count(c, ACCOUNT_USER, w->user.key);
	w->prefix.before = account_count(c, ACCOUNT_PREFIX, w->prefix.key);
	if (w->other.key != 0)
		w->other.before = account_count(c, ACCOUNT_PREFIX, w->other.key);
	w->total = cross_total(c);
	return 0;
}

static void
tx_stage(struct tx *t, enum redo_op op)
{
	struct redo *r = cross_redo(t->c, t->c->owner);
	size_t body = offsetof(struct redo, shard);

	CRASH_POINT("tx:locked");
	memcpy((uint8_t *)r + body, (uint8_t *)&t->was + body, sizeof *r - body);
	CRASH_POINT("tx:filled");
	atomic_store_explicit(&r->op, op, memory_order_release);
	CRASH_POINT("tx:staged");
}

static void
tx_end(struct tx *t)
{
	CRASH_POINT("tx:committed");
	atomic_store_explicit(&cross_redo(t->c, t->c->owner)->op, REDO_NONE, memory_order_release);
	CRASH_POINT("tx:cleared");
	tx_unlock(t, t->n);
}

static void
set_total(struct cross *c, uint64_t total)
{
	atomic_store_explicit(&cross_head(c)->total, total, memory_order_relaxed);
	CRASH_POINT("tx:total");
}

static void
apply_one(struct cross *c, enum account_kind kind, const struct redo_count *n)
{
	for (int32_t i = n->change; n->key != 0 && i > 0; i--)
		account_more(c, kind, n->key);
	for (int32_t i = n->change; n->key != 0 && i < 0; i++)
		account_less(c, kind, n->key);
}

static void
apply(struct tx *t)
{
	const struct redo *w = &t->was;
	struct cross *c = t->c;

	apply_one(c, ACCOUNT_USER, &w->user);
	apply_one(c, ACCOUNT_PREFIX, &w->prefix);
	apply_one(c, ACCOUNT_PREFIX, &w->other);
	if (w->total_change != 0 &&
	    (w->total_change > 0 || w->total >= (uint64_t) - (int64_t)w->total_change))
		set_total(c, w->total + (uint64_t)(int64_t)w->total_change);
	if (w->token_at == 0)
		return;
	if (w->put)
		token_store(cross_token(c, w->token_at - 1), &w->token);
	else
		token_clear(cross_token(c, w->token_at - 1));
}

/* ---- a session begins ----------------------------------------------------------------------------- */

/* The changes that this session and what goes with it make. */
static void
plan(struct tx *t, const struct session *x)
{
	struct redo *w = &t->was;
	int32_t mine = t->old != NULL ? 0 : 1, kept = w->put ? 1 : 0;
	uint64_t from = !w->put && w->token.token != 0 ? w->token.prefix : 0;

	w->user.change = (x->user != 0 ? mine : 0) + kept;
	w->prefix.change = mine + kept;
	w->total_change = mine + kept;
	if (from == 0)
		return;
	w->user.change--;
	w->total_change--;
	if (from == w->prefix.key) {
		w->prefix.change--;
	} else {
		w->other.key = from;
		w->other.change = -1;
	}
}

static int
tx_open(struct tx *t, struct cross *c, const struct shard *s, const struct session *x,
    const struct cross_with *with)
{
	struct redo *w = &t->was;
	uint32_t at;

	*t = (struct tx){ .c = c, .old = with->replace };
	w->shard = s->index;
	w->slot = session_slot(s, x);
	w->gen = x->gen;
	w->prefix.key = cross_prefix(c, &x->client);
	if (with->reserve != NULL) {
		w->token = *with->reserve;
		w->token.prefix = w->prefix.key;
		w->put = 1;
	} else if (with->redeem != 0) {
		/* Its prefix says what to lock; under the lock it is looked up again. */
		at = token_place(c, with->redeem);
		if (at == 0)
			return -ENOENT;
		w->token = token_copy(cross_token(c, at - 1), with->redeem);
	}
	w->user.key = w->token.token != 0 ? reservation_owner(x->user, x->name) : x->user;
	plan(t, x);
	return tx_begin(t);
}

/* Under the locks: is there room for the token, or is it still what it was? */
static int
find_token(struct tx *t)
{
	struct redo *w = &t->was;
	uint32_t at = token_place(t->c, w->token.token);
	struct reservation now;

	if (w->put) {
		if (at != 0)
			return -EEXIST;
		w->token_at = token_room(t->c, w->token.token);
		return w->token_at != 0 ? 0 : -ENOMEM;
	}
	if (at == 0)
		return -ENOENT;
	now = token_copy(cross_token(t->c, at - 1), w->token.token);
	if (now.user != w->user.key || now.prefix != w->token.prefix)
		return -ENOENT;
	w->token = now;
	w->token_at = at;
	return 0;
}

static bool
is_over(uint64_t limit, uint64_t before, int32_t change)
{
	return limit != 0 && change > 0 && before + (uint64_t)change > limit;
}

static int
may_open(struct tx *t, const struct session *x, const struct cross_limits *l)
{
	const struct redo *w = &t->was;

	if (x->user != 0 && is_over(l->per_user, w->user.before, w->user.change))
		return -EDQUOT;
	if (is_over(l->per_prefix, w->prefix.before, w->prefix.change))
		return -EUSERS;
	if (is_over(l->total, w->total, w->total_change))
		return -ENOSPC;
	/* Both may be new in one stripe. */
	if ((w->user.key != 0 && !account_room(t->c, account_stripe(w->user.key), 2)) ||
	    !account_room(t->c, account_stripe(w->prefix.key), 2))
		return -ENOMEM;
	return w->token.token != 0 ? find_token(t) : 0;
}

int
cross_fits(
    const struct cross *c, uint64_t user, uint64_t prefix, const struct cross_limits *l, unsigned more)
{
	int32_t n = (int32_t)more;

	if (l->per_user != 0 && user != 0 && is_over(l->per_user, account_count(c, ACCOUNT_USER, user), n))
		return -EDQUOT;
	if (l->per_prefix != 0 && is_over(l->per_prefix, account_count(c, ACCOUNT_PREFIX, prefix), n))
		return -EUSERS;
	return is_over(l->total, cross_total(c), n) ? -ENOSPC : 0;
}

/* Certain from the first store on; a death before the last one is finished by adopt.c. */
static void
take_place(struct shard *s, struct session *x, struct session *old)
{
	uint32_t created = x->created;

	x->created = session_slot(s, old) + 1;
	atomic_store_explicit(&x->state, SESSION_TAKING, memory_order_release);
	CRASH_POINT("open:taking");
	index_remove(s, session_tag(s, old), session_slot(s, old));
	atomic_store_explicit(&old->state, SESSION_FREE, memory_order_release);
	CRASH_POINT("open:replaced");
	x->created = created;
	CRASH_POINT("open:created");
}

int
cross_open(struct cross *c, struct shard *s, struct session *x, const struct cross_limits *limits,
    const struct cross_with *with)
{
	static const struct cross_with nothing;
	struct tx t;
	int r;

	assert(atomic_load_explicit(&x->state, memory_order_relaxed) == SESSION_FILLING);
	slot_key(s, session_slot(s, x))->gen = x->gen;
	index_reserve(s); /* may take long: not under the locks */
	if ((r = tx_open(&t, c, s, x, with != NULL ? with : &nothing)) != 0)
		return r;
	if ((r = may_open(&t, x, limits)) != 0) {
		tx_unlock(&t, t.n);
		return r;
	}
	index_insert(s, session_tag(s, x), session_slot(s, x));
	if (t.was.put)
		atomic_store_explicit(&cross_head(c)->reserved, 1, memory_order_relaxed);
	tx_stage(&t, REDO_OPEN);
	apply(&t);
	CRASH_POINT("open:applied");
	if (t.old != NULL)
		take_place(s, x, t.old);
	atomic_store_explicit(&x->state, SESSION_LIVE, memory_order_release);
	tx_end(&t);
	if (t.old != NULL) {
		slot_scrub(s, t.old);
		slot_free_push(s, t.old);
	} else {
		atomic_store_explicit(&s->head->live, shard_live(s) + 1, memory_order_relaxed);
	}
	return 0;
}

/* ---- a session or a reservation ends ---------------------------------------------------------------- */

int
cross_close(struct cross *c, struct shard *s, struct session *x)
{
	uint32_t state = atomic_load_explicit(&x->state, memory_order_relaxed);
	struct tx t = { .c = c,
		.was = { .shard = s->index,
		    .slot = session_slot(s, x),
		    .gen = x->gen,
		    .total_change = -1,
		    .user = { .key = x->user, .change = -1 },
		    .prefix = { .key = cross_prefix(c, &x->client), .change = -1 } } };
	int r;

	assert(state == SESSION_LIVE || state == SESSION_ENDING);
	if (state == SESSION_LIVE) {
		atomic_store_explicit(&x->state, SESSION_ENDING, memory_order_release);
		CRASH_POINT("close:ending");
		index_remove(s, session_tag(s, x), session_slot(s, x));
		atomic_store_explicit(&s->head->live, shard_live(s) - 1, memory_order_relaxed);
	}
	if ((r = tx_begin(&t)) != 0)
		return r;
	tx_stage(&t, REDO_CLOSE);
	apply(&t);
	CRASH_POINT("close:applied");
	atomic_store_explicit(&x->state, SESSION_FREE, memory_order_release);
	tx_end(&t);
	slot_scrub(s, x);
	slot_free_push(s, x);
	return 0;
}

/* -ENOENT: it was redeemed or forgotten meanwhile. */
static int
forget(struct cross *c, const struct reservation *r)
{
	struct tx t = { .c = c, .was = { .token = *r } };
	int e;

	if (r->prefix != 0) {
		t.was.total_change = -1;
		t.was.user = (struct redo_count){ .key = r->user, .change = -1 };
		t.was.prefix = (struct redo_count){ .key = r->prefix, .change = -1 };
	}
	if ((e = tx_begin(&t)) != 0)
		return e;
	if ((t.was.token_at = token_place(c, r->token)) == 0) {
		tx_unlock(&t, t.n);
		return -ENOENT;
	}
	tx_stage(&t, REDO_FORGET);
	apply(&t);
	CRASH_POINT("forget:applied");
	tx_end(&t);
	return 0;
}

uint32_t
token_sweep(struct cross *c, uint32_t cursor, uint32_t n, tp_ms now)
{
	if (atomic_load_explicit(&cross_head(c)->reserved, memory_order_relaxed) == 0)
		return cursor;
	for (uint32_t i = 0; i < n; i++) {
		struct token *at = cross_token(c, (cursor + i) % TOKENS);
		uint64_t token = atomic_load_explicit(&at->token, memory_order_acquire);
		struct reservation r = token_copy(at, token);

		atomic_thread_fence(memory_order_acquire);
		/* A copy of two tokens names what the second one does not count for. */
		if (token == 0 || in_force(r.expiry, now) ||
		    atomic_load_explicit(&at->token, memory_order_relaxed) != token)
			continue;
		(void)forget(c, &r);
	}
	return (cursor + n) % TOKENS;
}
