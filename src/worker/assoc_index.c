/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * assoc_index.c: DTLS associations by client.  The index is this process's own: a successor makes it from
 * the slots.
 */
#include "config.h"

#include <stdlib.h>

#include "worker_int.h"

#define TABLE_MIN 256u

static inline uint64_t
entry(uint32_t tag, uint32_t slot)
{
	return (uint64_t)tag << 32 | (slot + 1);
}

static uint32_t
tag_of(const struct lane *l, const struct conn *c)
{
	return session_prefetch(&l->shard, &c->client, TRANSPORT_DTLS, c->listener);
}

static void
insert(const struct assoc_table *t, uint64_t e)
{
	uint32_t i = (uint32_t)(e >> 32) & t->mask;

	while (t->at[i] != 0)
		i = (i + 1) & t->mask;
	t->at[i] = e;
}

/* At most half full. */
bool
assoc_reserve(struct lane *l)
{
	struct assoc_table *t = &l->assoc, grown;

	if (t->at != NULL && (t->count + 1) * 2 <= t->mask)
		return true;
	grown.mask = t->at == NULL ? TABLE_MIN - 1 : t->mask * 2 + 1;
	grown.count = t->count;
	grown.at = calloc((size_t)grown.mask + 1, sizeof *grown.at);
	if (grown.at == NULL)
		return false;
	for (uint32_t i = 0; t->at != NULL && i <= t->mask; i++)
		if (t->at[i] != 0)
			insert(&grown, t->at[i]);
	free(t->at);
	*t = grown;
	return true;
}

void
assoc_add(struct lane *l, const struct conn *c)
{
	insert(&l->assoc, entry(tag_of(l, c), conn_slot(&l->shard, c)));
	l->assoc.count++;
}

void
assoc_forget(struct lane *l, const struct conn *c)
{
	struct assoc_table *t = &l->assoc;
	uint64_t e = entry(tag_of(l, c), conn_slot(&l->shard, c));
	uint32_t i = (uint32_t)(e >> 32) & t->mask;

	if (t->at == NULL)
		return;
	while (t->at[i] != e) {
		if (t->at[i] == 0)
			return;
		i = (i + 1) & t->mask;
	}
	for (uint32_t j = (i + 1) & t->mask; t->at[j] != 0; j = (j + 1) & t->mask) {
		if (((j - (uint32_t)(t->at[j] >> 32)) & t->mask) < ((j - i) & t->mask))
			continue; /* its home lies behind the hole */
		t->at[i] = t->at[j];
		i = j;
	}
	t->at[i] = 0;
	t->count--;
}

struct conn *
assoc_find(struct lane *l, const struct addr *client, unsigned row, uint32_t tag)
{
	const struct assoc_table *t = &l->assoc;

	for (uint32_t i = tag & t->mask; t->at != NULL && t->at[i] != 0; i = (i + 1) & t->mask) {
		if ((uint32_t)(t->at[i] >> 32) != tag)
			continue;
		struct conn *c = conn_at(&l->shard, (uint32_t)t->at[i] - 1);
		if (c != NULL && !conn_ends(c) && c->transport == TRANSPORT_DTLS && c->listener == row &&
		    addr_eq(&c->client, client))
			return c;
	}
	return NULL;
}
