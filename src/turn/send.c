/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * send.c: Send indications, RFC 8656 11.2.  Never answered; each miss is a named drop.
 */
#include "config.h"

#include "turn_int.h"

/* RFC 8656 13: between families and from IPv6 to IPv6 the attribute must be ignored, but not where the
 * client comes over a stream. */
static bool
may_forbid_fragments(const struct turn_call *c, const struct addr *peer)
{
	return transport_is_stream(c->in->transport) ||
	    (c->in->client.family == ADDR_V4 && peer->family == ADDR_V4);
}

enum turn_act
turn_send(struct turn_call *c)
{
	const struct stun_attr *pa, *da;
	struct addr peer;

	if (c->session == NULL)
		return turn_drop(c->t, c->out, DROP_NO_ALLOCATION);
	client_is_alive(c->t, c->session);
	pa = stun_find(&c->msg, STUN_A_XOR_PEER_ADDRESS);
	da = stun_find(&c->msg, STUN_A_DATA);
	if (c->msg.unknown_count > 0 || da == NULL || !stun_get_xaddr(&c->msg, pa, &peer))
		return turn_drop(c->t, c->out, DROP_INDICATION);
	if (session_relay(c->session, peer.family) == NULL)
		return turn_drop(c->t, c->out, DROP_PEER_FAMILY);
	if (peer.port == 0)
		return turn_drop(c->t, c->out, DROP_PEER_PORT);
	peers_judge_again(c->t, c->in->shard, c->session);
	c->out->dont_fragment = stun_find(&c->msg, STUN_A_DONT_FRAGMENT) != NULL &&
	    may_forbid_fragments(c, &peer);
	return relay_up(c, &peer, c->in->buf + (da->value - c->in->buf), da->len, STAT_RELAY_IND_UP);
}
