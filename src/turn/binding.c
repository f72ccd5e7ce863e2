/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * binding.c: Binding requests, RFC 8489 12.  Not authenticated; whatever credentials come are ignored.
 */
#include "config.h"

#include "turn_int.h"

/* Keepalives of clients with an allocation are not counted. */
static bool
binding_allowed(struct turn_call *c)
{
	uint32_t rate = c->t->policy->bindings;

	return rate == 0 || c->session != NULL ||
	    rate_take(c->t->cross, RATE_BINDING, cross_prefix(c->t->cross, &c->in->client), rate, rate,
		c->t->now);
}

enum turn_act
turn_binding(struct turn_call *c)
{
	struct stun_out o;

	if (!binding_allowed(c))
		return drop_refused(c, DROP_RATE_BINDING, REASON_LIMIT_BINDINGS);
	if (c->session != NULL)
		client_is_alive(c->t, c->session);
	if (c->msg.unknown_count > 0)
		return reply_unknown(c, false);
	reply_begin(c, &o, STUN_SUCCESS);
	stun_put_xaddr(&o, STUN_A_XOR_MAPPED_ADDRESS, &c->in->client);
	stat_add(c->t->stat, STAT_OK_BINDING, 1);
	return reply_end(c, &o, false);
}
