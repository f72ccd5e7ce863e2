/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * sockets.c: relay sockets for an allocation, from the shard's pool or from the supervisor's offer.
 *
 * What was taken and is not needed in the end goes back to the pool: it is still closed to packets and in
 * no epoll.
 */
#include "config.h"

#include "turn_int.h"

bool
relay_family_served(const struct turn_policy *p, uint8_t family)
{
	for (uint32_t i = 0; i < p->relay_count; i++)
		if (p->relay[i].addr.family == family && !p->relay[i].retired)
			return true;
	return false;
}

static bool
row_ready(const struct turn_call *c, unsigned row, uint8_t family)
{
	return c->t->policy->relay[row].addr.family == family && c->in->pool->row[row].count > 0;
}

static unsigned
ready_rows(const struct turn_call *c, uint8_t family)
{
	unsigned n = 0;

	for (uint32_t i = 0; i < c->t->policy->relay_count; i++)
		n += row_ready(c, i, family);
	return n;
}

bool
sockets_pool_has(const struct turn_call *c, uint8_t family)
{
	return ready_rows(c, family) > 0;
}

/* Index of an unused socket of the offer, -1; family ADDR_NONE: any. */
static int
offered(const struct turn_call *c, uint8_t family)
{
	const struct turn_offer *f = c->in->offer;

	for (unsigned i = 0; f != NULL && i < f->count && i < TP_COUNT(f->sock); i++)
		if (!c->offer_used[i] && f->sock[i].row < c->t->policy->relay_count &&
		    (family == ADDR_NONE || f->sock[i].family == family))
			return (int)i;
	return -1;
}

/* From one of the rows that have some, each as likely as the others. */
static bool
take_from_pool(struct turn_call *c, uint8_t family, struct relay_ref *r)
{
	unsigned n = ready_rows(c, family), k;

	if (n == 0)
		return false;
	k = (unsigned)((turn_random(c->t) >> 32) % n);
	for (uint32_t i = 0; i < c->t->policy->relay_count; i++) {
		if (!row_ready(c, i, family) || k-- > 0)
			continue;
		*r = c->in->pool->row[i].sock[--c->in->pool->row[i].count];
		return true;
	}
	return false;
}

bool
sockets_take(struct turn_call *c, uint8_t family, bool from_offer, struct relay_ref *r)
{
	int i = offered(c, family);

	if (i < 0)
		return !from_offer && take_from_pool(c, family, r);
	c->offer_used[i] = true;
	*r = c->in->offer->sock[i];
	return true;
}

void
sockets_give(struct turn_call *c, const struct relay_ref *r)
{
	struct turn_out *out = c->out;

	if (r->fd < 0 || r->family == ADDR_NONE)
		return;
	if (r->row < c->t->policy->relay_count && c->in->pool->row[r->row].count < TURN_POOL_DEPTH) {
		c->in->pool->row[r->row].sock[c->in->pool->row[r->row].count++] = *r;
		return;
	}
	assert(out->close_count < TP_COUNT(out->close)); /* two of an offer, two of an ended session */
	out->close[out->close_count++] = r->fd;
}

void
sockets_settle_offer(struct turn_call *c)
{
	const struct turn_offer *f = c->in->offer;

	for (unsigned i = 0; i < f->count && i < TP_COUNT(f->sock); i++) {
		if (!c->offer_used[i])
			sockets_give(c, &f->sock[i]);
		c->offer_used[i] = true;
	}
}
