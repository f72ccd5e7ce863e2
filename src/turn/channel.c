/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * channel.c: ChannelBind, RFC 8656 12.2.  A channel comes with a permission, also without one of its own.
 */
#include "config.h"

#include "turn_int.h"

static unsigned
bind_channel(struct turn_call *c, uint16_t number, const struct addr *peer)
{
	const struct turn *t = c->t;
	struct shard *s = c->in->shard;
	struct addr ip = *peer;
	unsigned code = peer_may(c, peer);
	int err;

	if (code != 0)
		return code;
	if (peer->port == 0) /* "any port" is for permissions */
		return refuse(c, REASON_PEER_DENIED, STUN_E_FORBIDDEN);
	ip.port = 0;
	peers_judge_again(c->t, s, c->session);
	if (!perm_fits(s, c->session, &ip, 1, t->now, permissions_max(c)))
		return refuse(c, REASON_LIMIT_PERMISSIONS, STUN_E_INSUFFICIENT_CAPACITY);
	err = chan_bind(s, c->session, number, peer, t->now, t->policy->channels_max);
	if (err != 0)
		return err == -EEXIST ? refuse(c, REASON_MALFORMED, STUN_E_BAD_REQUEST)
				      : refuse(c, REASON_LIMIT_CHANNELS, STUN_E_INSUFFICIENT_CAPACITY);
	if (permission_set(c, &ip) != 0)
		return refuse(c, REASON_LIMIT_PERMISSIONS, STUN_E_INSUFFICIENT_CAPACITY);
	return 0;
}

enum turn_act
turn_channel_bind(struct turn_call *c)
{
	const struct stun_attr *na = stun_find(&c->msg, STUN_A_CHANNEL_NUMBER);
	const struct stun_attr *pa = stun_find(&c->msg, STUN_A_XOR_PEER_ADDRESS);
	struct addr peer;
	struct stun_out o;
	uint16_t number;
	unsigned code;

	if (!stun_get_channel(na, &number) || !stun_get_xaddr(&c->msg, pa, &peer))
		return reply_refusal(c, REASON_MALFORMED, STUN_E_BAD_REQUEST);
	if (number < CHANNEL_MIN || number > c->t->policy->channel_max)
		return reply_refusal(c, REASON_CHANNEL_NUMBER, STUN_E_BAD_REQUEST);
	code = bind_channel(c, number, &peer);
	if (code != 0)
		return reply_error(c, code);
	reply_begin(c, &o, STUN_SUCCESS);
	return reply_success(c, &o, STAT_OK_CHANNEL);
}
