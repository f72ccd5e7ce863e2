/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * token.c: reservation tokens (RFC 8656 7.2).
 *
 * A token lies in one of TOKEN_WINDOW places behind its home.  The token word itself is stored last and
 * taken away first; expired ones are overwritten when the place is needed.
 */
#include "config.h"

#include <errno.h>

#include "state_int.h"

static uint32_t
window(const struct cross *c, uint64_t token)
{
	uint8_t bytes[8];

	put_u64(bytes, token);
	return (uint32_t)cross_hash(c, bytes, sizeof bytes) % TOKENS;
}

uint32_t
token_place(const struct cross *c, uint64_t token)
{
	uint32_t home = window(c, token);

	for (uint32_t i = 0; token != 0 && i < TOKEN_WINDOW; i++) {
		uint32_t at = (home + i) % TOKENS;

		if (atomic_load_explicit(&cross_token(c, at)->token, memory_order_acquire) == token)
			return at + 1;
	}
	return 0;
}

void
token_clear(struct token *t)
{
	atomic_store_explicit(&t->token, 0, memory_order_release);
	CRASH_POINT("token:cleared");
}

void
token_store(struct token *t, const struct reservation *r)
{
	token_clear(t);
	atomic_thread_fence(memory_order_release);
	t->user = r->user;
	t->id = r->id;
	t->expiry = r->expiry;
	CRASH_POINT("token:filled");
	atomic_store_explicit(&t->token, r->token, memory_order_release);
	CRASH_POINT("token:stored");
}

static int
put_locked(struct cross *c, const struct reservation *r, tp_ms now)
{
	uint32_t home = window(c, r->token);

	if (token_place(c, r->token) != 0)
		return -EEXIST;
	for (uint32_t i = 0; i < TOKEN_WINDOW; i++) {
		struct token *t = cross_token(c, (home + i) % TOKENS);

		if (atomic_load_explicit(&t->token, memory_order_relaxed) != 0 && in_force(t->expiry, now))
			continue;
		token_store(t, r);
		return 0;
	}
	return -ENOSPC;
}

int
token_put(struct cross *c, const struct reservation *r, tp_ms now)
{
	lock_word *lock = &cross_stripe(c, STRIPE_TOKEN)->lock;
	int ret;

	if (r->token == 0)
		return -EINVAL;
	if ((ret = lock_take(lock, c->owner, LOCK_WAIT_MS)) != 0)
		return ret;
	ret = put_locked(c, r, now);
	lock_give(lock, c->owner);
	return ret;
}

int
token_look(struct cross *c, uint64_t token, uint64_t user, tp_ms now, struct reservation *r)
{
	uint32_t at = token_place(c, token);
	struct reservation copy;
	struct token *t;

	if (at == 0)
		return -ENOENT;
	t = cross_token(c, at - 1);
	copy = (struct reservation){ .token = token, .user = t->user, .id = t->id, .expiry = t->expiry };
	atomic_thread_fence(memory_order_acquire);
	if (atomic_load_explicit(&t->token, memory_order_relaxed) != token || copy.user != user ||
	    !in_force(copy.expiry, now))
		return -ENOENT;
	*r = copy;
	return 0;
}
