/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * block.c: 64-byte overflow blocks of a shard.
 *
 * A block says whose it is (slot and generation).  Which blocks are free is derived: shard_adopt() frees
 * every block that no session reaches, so a death anywhere in here leaks nothing.
 */
#include "config.h"

#include "state_int.h"

uint32_t
block_chain_room(const struct shard *s)
{
	uint32_t max = shard_block_chain_max(s->slot_max);

	return s->head->block_chained < max ? max - s->head->block_chained : 0;
}

static struct block *
pop(struct shard *s)
{
	struct shard_head *h = s->head;
	uint32_t bump = atomic_load_explicit(&h->block_bump, memory_order_relaxed);
	struct block *b;

	if (h->block_free != 0 && h->block_free <= bump) {
		b = &s->blocks[h->block_free - 1];
		h->block_free = b->next;
		CRASH_POINT("block:popped");
		return b;
	}
	if (bump >= s->block_max)
		return NULL;
	b = &s->blocks[bump];
	atomic_store_explicit(&h->block_bump, bump + 1, memory_order_release);
	CRASH_POINT("block:bumped");
	return b;
}

struct block *
block_take(struct shard *s, const struct session *x, enum block_kind kind)
{
	struct block *b;

	if (kind != BLOCK_BUCKET && block_chain_room(s) == 0)
		return NULL;
	if ((b = pop(s)) == NULL)
		return NULL;
	memset(b, 0, sizeof *b);
	b->gen = x->gen;
	b->kind = (uint8_t)kind;
	CRASH_POINT("block:filled");
	store32(&b->owner, session_slot(s, x) + 1);
	if (kind != BLOCK_BUCKET)
		s->head->block_chained++;
	return b;
}

void
block_give(struct shard *s, struct block *b)
{
	if (b->kind != BLOCK_BUCKET && s->head->block_chained > 0)
		s->head->block_chained--;
	store32(&b->owner, 0);
	CRASH_POINT("block:disowned");
	b->kind = BLOCK_FREE;
	b->next = s->head->block_free;
	CRASH_POINT("block:freed");
	s->head->block_free = block_ref(s, b);
}

void
block_link(struct shard *s, struct session *x, struct block *b)
{
	b->next = x->more;
	CRASH_POINT("block:linked");
	store32(&x->more, block_ref(s, b));
}

void
block_give_all(struct shard *s, struct session *x)
{
	struct block *b;

	for (unsigned i = 0; i < CHAIN_MAX && (b = block_of(s, x, x->more)) != NULL; i++) {
		store32(&x->more, b->next);
		CRASH_POINT("block:unlinked");
		block_give(s, b);
	}
	if ((b = block_of(s, x, x->bucket)) != NULL) {
		x->bucket = 0;
		CRASH_POINT("block:bucket unlinked");
		block_give(s, b);
	}
}

bool
block_read(const struct shard *s, uint32_t link, uint32_t gen, struct block *copy)
{
	if (link == 0 || link > shard_block_bump(s))
		return false;
	peek_words(copy, &s->blocks[link - 1], sizeof *copy);
	return copy->gen == gen && copy->owner != 0 && copy->kind != BLOCK_FREE && copy->kind < BLOCK_KINDS;
}
