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

/* Never 0: that is "nobody", who is not counted. */
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
	unsigned stripe[4], n;		/* ascending, distinct */
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
 * Whoever holds a stripe may have lost its processor for a few ms: on a loaded machine 2 ms are not enough, and an Allocate
 * that is dropped costs its client half a second.  A lock that does not come free at all must not cost that much each time,
 * because the sessions of this shard wait meanwhile: after one long wait in vain the waits are short until one succeeds.
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

static int
tx_begin(struct tx *t, struct cross *c, const struct shard *s, const struct session *x, bool token)
{
	*t = (struct tx){.c = c,
	    .was = {.shard = s->index,
		.slot = session_slot(s, x),
		.gen = x->gen,
		.user = x->user,
		.prefix = cross_prefix(c, &x->client)}};
	assert(c->owner < SHARDS_MAX);
	if (t->was.user != 0)
		tx_stripe(t, account_stripe(t->was.user));
	tx_stripe(t, account_stripe(t->was.prefix));
	if (token)
		tx_stripe(t, STRIPE_TOKEN);
	tx_stripe(t, STRIPE_TOTAL);
	if (tx_lock(t) != 0)
		return -ETIMEDOUT;
	if (t->was.user != 0)
		t->was.user_count = account_count(c, ACCOUNT_USER, t->was.user);
	t->was.prefix_count = account_count(c, ACCOUNT_PREFIX, t->was.prefix);
	t->was.total = cross_total(c);
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

static int
find_token(struct tx *t, const struct session *x, uint64_t token)
{
	struct token *at;

	t->was.token_at = token_place(t->c, token);
	if (t->was.token_at == 0)
		return -ENOENT;
	at = cross_token(t->c, t->was.token_at - 1);
	if (at->user != reservation_owner(x->user, x->name))
		return -ENOENT;
	t->was.token =
	    (struct reservation){.token = token, .user = at->user, .id = at->id, .expiry = at->expiry};
	return 0;
}

static int
may_open(struct tx *t, const struct session *x, const struct cross_limits *l, uint64_t token)
{
	const struct redo *w = &t->was;

	if (l->per_user != 0 && w->user != 0 && w->user_count >= l->per_user)
		return -EDQUOT;
	if (l->per_prefix != 0 && w->prefix_count >= l->per_prefix)
		return -EUSERS;
	if (l->total != 0 && w->total >= l->total)
		return -ENOSPC;
	/* Both may be new in one stripe. */
	if ((w->user != 0 && !account_room(t->c, account_stripe(w->user), 2)) ||
	    !account_room(t->c, account_stripe(w->prefix), 2))
		return -ENOSPC;
	return token != 0 ? find_token(t, x, token) : 0;
}

static void
set_total(struct cross *c, uint64_t total)
{
	atomic_store_explicit(&cross_head(c)->total, total, memory_order_relaxed);
	CRASH_POINT("tx:total");
}

int
cross_open(
    struct cross *c, struct shard *s, struct session *x, const struct cross_limits *limits, uint64_t token)
{
	struct tx t;
	int r;

	assert(atomic_load_explicit(&x->state, memory_order_relaxed) == SESSION_FILLING);
	slot_key(s, session_slot(s, x))->gen = x->gen;
	index_reserve(s);		/* may take long: not under the locks */
	if ((r = tx_begin(&t, c, s, x, token != 0)) != 0)
		return r;
	if ((r = may_open(&t, x, limits, token)) != 0) {
		tx_unlock(&t, t.n);
		return r;
	}
	index_insert(s, session_tag(s, x), session_slot(s, x));
	tx_stage(&t, REDO_OPEN);
	if (t.was.user != 0)
		account_more(c, ACCOUNT_USER, t.was.user);
	account_more(c, ACCOUNT_PREFIX, t.was.prefix);
	set_total(c, t.was.total + 1);
	if (t.was.token_at != 0)
		token_clear(cross_token(c, t.was.token_at - 1));
	CRASH_POINT("open:applied");
	atomic_store_explicit(&x->state, SESSION_LIVE, memory_order_release);
	tx_end(&t);
	atomic_store_explicit(&s->head->live, shard_live(s) + 1, memory_order_relaxed);
	return 0;
}

int
cross_close(struct cross *c, struct shard *s, struct session *x)
{
	uint32_t state = atomic_load_explicit(&x->state, memory_order_relaxed);
	struct tx t;
	int r;

	assert(state == SESSION_LIVE || state == SESSION_ENDING);
	if (state == SESSION_LIVE) {
		atomic_store_explicit(&x->state, SESSION_ENDING, memory_order_release);
		CRASH_POINT("close:ending");
		index_remove(s, session_tag(s, x), session_slot(s, x));
		atomic_store_explicit(&s->head->live, shard_live(s) - 1, memory_order_relaxed);
	}
	if ((r = tx_begin(&t, c, s, x, false)) != 0)
		return r;
	tx_stage(&t, REDO_CLOSE);
	if (t.was.user != 0)
		account_less(c, ACCOUNT_USER, t.was.user);
	account_less(c, ACCOUNT_PREFIX, t.was.prefix);
	if (t.was.total > 0)
		set_total(c, t.was.total - 1);
	CRASH_POINT("close:applied");
	atomic_store_explicit(&x->state, SESSION_FREE, memory_order_release);
	tx_end(&t);
	slot_scrub(s, x);
	slot_free_push(s, x);
	return 0;
}
