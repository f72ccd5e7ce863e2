/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * token.c: reservation tokens (RFC 8656 7.2).
 *
 * A token lies in one of TOKEN_WINDOW places behind its home.  The token word itself is stored last and
 * taken away first.  Tokens are put and taken by the transactions of cross.c.
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
	t->prefix = r->prefix;
	CRASH_POINT("token:filled");
	atomic_store_explicit(&t->token, r->token, memory_order_release);
	CRASH_POINT("token:stored");
}

/* Expired ones stay until they are swept: they still count. */
uint32_t
token_room(const struct cross *c, uint64_t token)
{
	uint32_t home = window(c, token);

	for (uint32_t i = 0; i < TOKEN_WINDOW; i++) {
		uint32_t at = (home + i) % TOKENS;

		if (atomic_load_explicit(&cross_token(c, at)->token, memory_order_relaxed) == 0)
			return at + 1;
	}
	return 0;
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
	copy = token_copy(t, token);
	atomic_thread_fence(memory_order_acquire);
	if (atomic_load_explicit(&t->token, memory_order_relaxed) != token || copy.user != user ||
	    !in_force(copy.expiry, now))
		return -ENOENT;
	*r = copy;
	return 0;
}
