/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * relay.c: the data path.  Nothing is copied: payloads leave from where they came in.
 *
 *	client --ChannelData, Send--> relay_up() --------> peer
 *	client <--ChannelData, Data-- turn_peer_input() <- peer
 */
#include "config.h"

#include "turn_int.h"

static bool
bandwidth_left(struct turn *t, struct shard *s, struct session *x, bool up, size_t len)
{
	const struct bandwidth *b = &t->policy->bandwidth;

	return ((b->per_allocation | b->per_user | b->total) == 0 && x->bucket == 0) ||
	    bandwidth_take(t->cross, s, x, b, up, (uint32_t)len, t->now);
}

/* ---- client to peer -------------------------------------------------------------------------------- */

enum turn_act
relay_up(struct turn_call *c, const struct addr *peer, uint8_t *data, size_t len, enum stat_counter form)
{
	struct turn *t = c->t;
	struct session *x = c->session;
	struct turn_out *out = c->out;
	const struct relay_ref *relay = session_relay(x, peer->family);
	bool port;

	if (relay == NULL)
		return turn_drop(t, out, DROP_PEER_FAMILY);
	if (!peer_data_may(t, c->in->shard, x, peer, &port, out))
		return TURN_DROP;
	if (!bandwidth_left(t, c->in->shard, x, true, len)) {
		out->ref = (struct session_ref){ session_slot(c->in->shard, x), x->gen };
		return turn_drop(t, out, DROP_BANDWIDTH);
	}
	round_trip_look(t, true, data, len);
	x->up_bytes += len;
	x->up_packets++;
	stat_add(t->stat, form, 1);
	out->p = data;
	out->len = len;
	out->fd = relay->fd;
	out->to = *peer;
	if (port)
		peer_to_inside(t->policy, &out->to);
	return TURN_TO_PEER;
}

enum turn_act
turn_channel_data(struct turn_call *c)
{
	struct turn *t = c->t;
	struct channel_data cd;
	struct addr peer;
	int fault;

	if (c->session == NULL)
		return turn_drop(t, c->out, DROP_NO_ALLOCATION);
	fault = channel_parse(&cd, c->in->buf, c->in->len);
	if (fault != STUN_OK)
		return turn_drop(t, c->out,
		    fault == STUN_F_SHORT      ? DROP_SHORT
			: fault == STUN_F_TYPE ? DROP_NO_CHANNEL
					       : DROP_LENGTH);
	client_is_alive(t, c->session);
	peers_judge_again(t, c->in->shard, c->session);
	if (!chan_peer(c->in->shard, c->session, cd.number, t->now, &peer))
		return turn_drop(t, c->out, DROP_NO_CHANNEL);
	return relay_up(c, &peer, c->in->buf + (cd.data - c->in->buf), cd.len, STAT_RELAY_CHANNEL_UP);
}

/* ---- peer to client -------------------------------------------------------------------------------- */

/* TCP and TLS: frames are padded to 4 (RFC 8656 12.5). */
static bool
is_stream(const struct session *x)
{
	return transport_is_stream(x->transport);
}

static void
to_client(const struct session *x, struct turn_out *out)
{
	out->to = x->client;
	out->listener = x->listener;
	out->transport = x->transport;
	out->conn = x->conn;
}

static void
fresh_txid(struct turn *t, uint8_t txid[STUN_TXID])
{
	put_u64(txid, turn_random(t));
	put_u32(txid + 8, (uint32_t)(turn_random(t) >> 32));
}

static enum turn_act
put_channel(struct turn *t, const struct session *x, uint16_t number, uint8_t *payload, size_t len,
    struct turn_out *out)
{
	size_t pad = is_stream(x) ? (0 - len) & 3 : 0;

	if (len > UINT16_MAX)
		return turn_drop(t, out, DROP_TOO_LARGE);
	memset(payload + len, 0, pad);
	out->p = payload - CHANNEL_HEADER;
	out->len = CHANNEL_HEADER + len + pad;
	channel_header(out->p, number, (uint16_t)len);
	stat_add(t->stat, STAT_RELAY_CHANNEL_DOWN, 1);
	return TURN_TO_CLIENT;
}

static enum turn_act
put_indication(struct turn *t, const struct addr *peer, uint8_t *payload, size_t len, struct turn_out *out)
{
	uint8_t txid[STUN_TXID];

	fresh_txid(t, txid);
	out->p = stun_data_indication(payload, len, peer, txid, &out->len);
	if (out->p == NULL)
		return turn_drop(t, out, DROP_TOO_LARGE);
	stat_add(t->stat, STAT_RELAY_IND_DOWN, 1);
	return TURN_TO_CLIENT;
}

/*
 * The session that a socket's event is for, NULL when it has ended.  `which` is not trusted alone: a dual
 * allocation that lost one family keeps the other as relay[0], whose events may still say 1.
 */
static struct session *
session_of_event(struct turn *t, struct shard *s, struct session_ref ref, unsigned which, uint8_t family)
{
	struct session *x = session_get(s, ref);

	if (x == NULL || session_is_over(x, t->now) || which > 1)
		return NULL;
	return session_relay(x, family) != NULL ? x : NULL;
}

enum turn_act
turn_peer_input(struct turn *t, struct shard *s, struct session_ref ref, unsigned which,
    const struct addr *from, uint8_t *payload, size_t len, struct turn_out *out)
{
	struct session *x = session_of_event(t, s, ref, which, from->family);
	struct addr peer = *from;
	enum turn_act act;
	bool port;
	uint16_t number;

	turn_out_reset(out);
	if (x == NULL)
		return turn_drop(t, out, DROP_STALE_EVENT);
	peer_to_outside(t->policy, &peer);
	peers_judge_again(t, s, x);
	if (!peer_data_may(t, s, x, &peer, &port, out))
		return TURN_DROP;
	number = chan_number(s, x, &peer, t->now);
	if (!bandwidth_left(t, s, x, false, len)) {
		out->ref = ref;
		return turn_drop(t, out, DROP_BANDWIDTH);
	}
	round_trip_look(t, false, payload, len);
	to_client(x, out);
	act = number != 0 ? put_channel(t, x, number, payload, len, out)
			  : put_indication(t, &peer, payload, len, out);
	if (act == TURN_TO_CLIENT) {
		x->down_bytes += len;
		x->down_packets++;
	}
	return act;
}

/* ---- ICMP errors ------------------------------------------------------------------------------------- */

/* RFC 8656 11.5: which errors go on, and which carry an MTU. */
static bool
icmp_is_relayed(uint8_t family, uint8_t type)
{
	return family == ADDR_V4 ? type == 3 || type == 11 : type >= 1 && type <= 3;
}

static bool
icmp_has_mtu(uint8_t family, uint8_t type, uint8_t code)
{
	return family == ADDR_V4 ? type == 3 && code == 4 : type == 2;
}

enum turn_act
turn_peer_icmp(struct turn *t, struct shard *s, struct session_ref ref, const struct addr *peer,
    uint8_t type, uint8_t code, uint32_t data, struct turn_out *out)
{
	struct session *x = session_of_event(t, s, ref, 0, peer->family);
	struct addr outside = *peer;
	uint8_t txid[STUN_TXID];
	struct stun_out o;

	turn_out_reset(out);
	if (x == NULL)
		return turn_drop(t, out, DROP_STALE_EVENT);
	if (!icmp_is_relayed(peer->family, type))
		return TURN_DONE;
	peer_to_outside(t->policy, &outside);
	peers_judge_again(t, s, x);
	if (!perm_has(s, x, &outside, t->now))
		return turn_drop(t, out, DROP_NO_PERMISSION);
	fresh_txid(t, txid);
	stun_begin(&o, out->reply, sizeof out->reply, STUN_INDICATION, STUN_DATA, txid);
	stun_put_xaddr(&o, STUN_A_XOR_PEER_ADDRESS, &outside);
	stun_put_icmp(&o, type, code, icmp_has_mtu(peer->family, type, code) ? data : 0);
	to_client(x, out);
	out->p = out->reply;
	out->len = stun_end(&o);
	return TURN_TO_CLIENT;
}
