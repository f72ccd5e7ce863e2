/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * cache.c: keys that a worker has seen, set-associative, least recently used goes.
 *
 * Ids are keyed hashes: a client cannot aim at a set.
 */
#include "config.h"

#include <sodium.h>

#include "tp/auth.h"

static struct key_entry *
key_set(struct key_cache *kc, uint64_t id)
{
	return kc->e[id % KEY_CACHE_SETS];
}

const struct key_entry *
key_cache_find(struct key_cache *kc, uint64_t id, tp_ms now, uint64_t conf_generation)
{
	struct key_entry *set = key_set(kc, id);

	for (unsigned i = 0; i < KEY_CACHE_WAYS; i++) {
		struct key_entry *e = &set[i];

		if (e->id != id || id == 0)
			continue;
		if (now >= e->until || e->conf_generation != conf_generation)
			return NULL;
		e->used = ++kc->clock;
		return e;
	}
	return NULL;
}

/* The entry of this id, else a free or outlived one, else the one not used for longest. */
static struct key_entry *
victim(struct key_entry *set, uint64_t id, uint32_t clock, tp_ms now)
{
	struct key_entry *v = &set[0];

	for (unsigned i = 0; i < KEY_CACHE_WAYS; i++)
		if (set[i].id == id)
			return &set[i];
	for (unsigned i = 0; i < KEY_CACHE_WAYS; i++) {
		if (set[i].id == 0 || now >= set[i].until)
			return &set[i];
		if (clock - set[i].used > clock - v->used) /* right across a wrap of the clock */
			v = &set[i];
	}
	return v;
}

const struct key_entry *
key_cache_put(
    struct key_cache *kc, uint64_t id, const struct auth_grant *g, uint64_t user, uint64_t name, tp_ms now)
{
	struct key_entry *e = victim(key_set(kc, id), id, kc->clock, now);
	/* People read the stable part; a bare timestamp has none, then its whole name says more than
	 * nothing. */
	const char *text = g->stable_len > 0 ? g->stable : g->name;
	size_t text_len = g->stable_len > 0 ? g->stable_len : g->name_len;

	sodium_memzero(e, sizeof *e);
	e->id = id;
	e->user = user;
	e->name = name;
	e->credential_expiry = g->credential_expiry;
	e->until = now + KEY_CACHE_MS;
	e->conf_generation = g->conf_generation;
	e->limits = g->limits;
	e->used = ++kc->clock;
	e->alg = g->alg;
	e->key_len = g->key_len;
	memcpy(e->key, g->key, sizeof e->key);
	e->user_text_len = (uint8_t)(text_len < SESSION_NAME ? text_len : SESSION_NAME);
	memcpy(e->user_text, text, e->user_text_len);
	return e;
}

void
key_cache_forget(struct key_cache *kc, uint64_t name)
{
	for (unsigned s = 0; s < KEY_CACHE_SETS; s++)
		for (unsigned i = 0; i < KEY_CACHE_WAYS; i++)
			if (kc->e[s][i].id != 0 && kc->e[s][i].name == name)
				sodium_memzero(&kc->e[s][i], sizeof kc->e[s][i]);
}

void
key_cache_clear(struct key_cache *kc)
{
	sodium_memzero(kc, sizeof *kc);
}
