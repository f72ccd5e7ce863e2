/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * core.c: what a client's datagram is, and which file deals with it.
 *
 * A request passes, in this order: source, credentials (RFC 8489 9.2.4), unknown attributes (420),
 * allocation (441, 437), tunnel sources (403), its method.
 */
#include "config.h"

#include "turn_int.h"

#define UNPROVEN_RATE 500 /* questions a second to turnpike-auth for all those without a good nonce */

void
turn_out_reset(struct turn_out *out)
{
	memset(out, 0, offsetof(struct turn_out, ended));
	out->fd = -1;
	for (unsigned i = 0; i < TP_COUNT(out->close); i++)
		out->close[i] = -1;
}

enum turn_act
turn_drop(struct turn *t, struct turn_out *out, enum drop why)
{
	out->drop = why;
	stat_drop(t->stat, why);
	return TURN_DROP;
}

/* xoroshiro128+: not for secrets. */
uint64_t
turn_random(struct turn *t)
{
	uint64_t a, b, sum;

	if (t->rnd[0] == 0 && t->rnd[1] == 0)
		t->rnd[1] = 0x9e3779b97f4a7c15u;
	a = t->rnd[0];
	b = t->rnd[1];
	sum = a + b;
	b ^= a;
	t->rnd[0] = (a << 24 | a >> 40) ^ b ^ b << 16;
	t->rnd[1] = b << 37 | b >> 27;
	return sum;
}

const struct relay_ref *
session_relay(const struct session *x, uint8_t family)
{
	for (unsigned i = 0; i < 2; i++)
		if (x->relay[i].family == family && x->relay[i].fd >= 0)
			return &x->relay[i];
	return NULL;
}

/* ---- requests ---------------------------------------------------------------------------------- */

static void
count_request(const struct turn_call *c)
{
	enum stat_counter row = STAT_REQ_OTHER;

	if (c->in->grant != NULL || c->in->offer != NULL) /* it comes the second time */
		return;
	switch (c->msg.method) {
	case STUN_BINDING:
		row = STAT_REQ_BINDING;
		break;
	case STUN_ALLOCATE:
		row = STAT_REQ_ALLOCATE;
		break;
	case STUN_REFRESH:
		row = STAT_REQ_REFRESH;
		break;
	case STUN_CREATE_PERMISSION:
		row = STAT_REQ_PERMISSION;
		break;
	case STUN_CHANNEL_BIND:
		row = STAT_REQ_CHANNEL;
		break;
	default:
		break;
	}
	stat_add(c->t->stat, row, 1);
}

/* Everything but what happens to every client in the course of things. */
static bool
is_worth_a_line(enum reason why)
{
	return why != REASON_CHALLENGE && why != REASON_NONCE_STALE;
}

/* May turnpike-auth be asked for a sender whose nonce is not ours?  Never if that could be a question
 * to a database. */
static bool
unproven_allowed(struct turn_call *c)
{
	if (c->t->policy->outside_users && c->session == NULL)
		return false;
	return c->in->transport != TRANSPORT_UDP || c->session != NULL ||
	    rate_take(c->t->cross, RATE_UNPROVEN, 0, UNPROVEN_RATE, UNPROVEN_RATE, c->t->now);
}

/* TURN_DONE: c->who is authenticated.  Otherwise the act that ends this datagram. */
static enum turn_act
authenticate(struct turn_call *c)
{
	struct turn *t = c->t;
	struct auth_in ai = {
		.policy = &t->policy->auth,
		.nonces = &t->nonces,
		.cache = t->cache,
		.cross = t->cross,
		.client = &c->in->client,
		.transport = c->in->transport,
		.session = c->session,
		.session_key = c->session != NULL ? session_key(c->in->shard, c->session) : NULL,
		.grant = c->in->grant,
		.now = t->now,
		.unix_now = t->unix_now,
	};
	bool foreign;
	int code = auth_check(&ai, &c->msg, &c->who, &foreign);

	if (code == 0) {
		if (c->in->grant == NULL)
			stat_add(t->stat, STAT_KEY_HITS, 1);
		reply_names_user(c);
		return TURN_DONE;
	}
	/* Also before turnpike-auth is asked: no prefix may flood it. */
	if (!(code == STUN_E_STALE_NONCE && !foreign) && !challenge_allowed(c))
		return drop_refused(c, DROP_RATE_CHALLENGE, REASON_LIMIT_CHALLENGES);
	/* 438 comes last in RFC 8489 9.2.4, but forged sources must not keep turnpike-auth busy. */
	if (code == AUTH_NEED_KEY && foreign && !unproven_allowed(c)) {
		c->who.reason = REASON_NONCE_FOREIGN;
		code = STUN_E_STALE_NONCE;
	}
	if (code == AUTH_NEED_KEY) {
		stat_add(t->stat, STAT_KEY_MISSES, 1);
		return TURN_NEED_KEY;
	}
	c->out->reason = c->who.reason;
	c->out->credential_expiry = c->who.credential_expiry;
	if (is_worth_a_line(c->who.reason)) {
		c->out->event = EV_UNAUTHENTICATED;
		reply_names_claimed(c);
	}
	return reply_challenge(c, (unsigned)code);
}

static enum turn_act
method(struct turn_call *c)
{
	switch (c->msg.method) {
	case STUN_ALLOCATE:
		return turn_allocate(c);
	case STUN_REFRESH:
		return turn_refresh(c);
	case STUN_CREATE_PERMISSION:
		return turn_create_permission(c);
	case STUN_CHANNEL_BIND:
		return turn_channel_bind(c);
	default:
		return turn_drop(c->t, c->out, DROP_METHOD);
	}
}

static enum turn_act
turn_request(struct turn_call *c)
{
	enum turn_act act = authenticate(c);

	if (act != TURN_DONE)
		return act;
	if (c->msg.unknown_count > 0)
		return reply_unknown(c, true);
	if (c->msg.method != STUN_ALLOCATE) {
		if (c->session == NULL)
			return reply_refusal(c, REASON_NO_ALLOCATION, STUN_E_ALLOCATION_MISMATCH);
		if (c->session->name != c->who.name)
			return reply_refusal(c, REASON_OTHER_USER, STUN_E_WRONG_CREDENTIALS);
		client_is_alive(c->t, c->session);
	}
	if (source_is_tunnel(&c->in->client))
		return reply_refusal(c, REASON_TUNNEL, STUN_E_FORBIDDEN);
	return method(c);
}

static enum turn_act
request(struct turn_call *c)
{
	count_request(c);
	if (c->session == NULL && source_is_bad(c->t->policy, &c->in->client))
		return turn_drop(c->t, c->out, DROP_SOURCE);
	switch (c->msg.method) {
	case STUN_BINDING:
		return turn_binding(c);
	case STUN_ALLOCATE:
	case STUN_REFRESH:
	case STUN_CREATE_PERMISSION:
	case STUN_CHANNEL_BIND:
		return turn_request(c);
	default:
		return turn_drop(c->t, c->out, DROP_METHOD);
	}
}

/* ---- indications --------------------------------------------------------------------------------- */

static enum turn_act
indication(struct turn_call *c)
{
	switch (c->msg.method) {
	case STUN_SEND:
		return turn_send(c);
	case STUN_BINDING: /* a keepalive, RFC 8445 11 */
		if (c->session != NULL)
			client_is_alive(c->t, c->session);
		return TURN_DONE;
	default:
		return turn_drop(c->t, c->out, DROP_CLASS);
	}
}

/* ---- the door -------------------------------------------------------------------------------------- */

static enum drop
fault_drop(int fault)
{
	switch ((enum stun_fault)fault) {
	case STUN_F_SHORT:
		return DROP_SHORT;
	case STUN_F_LENGTH:
		return DROP_LENGTH;
	case STUN_F_COOKIE:
		return DROP_COOKIE;
	case STUN_F_ATTRS:
		return DROP_ATTRIBUTES;
	case STUN_F_FINGERPRINT:
		return DROP_FINGERPRINT;
	case STUN_F_TYPE:
	case STUN_OK:
		break;
	}
	return DROP_JUNK;
}

/* Is it a request of RFC 3489?  Then c->msg has what an answer needs. */
static bool
old_request(struct turn_call *c)
{
	unsigned type = get_u16(c->in->buf);

	if ((type & 0x0110) != 0)
		return false;
	c->msg.method = (uint16_t)((type & 0x3e00) >> 2 | (type & 0x00e0) >> 1 | (type & 0x000f));
	memcpy(c->msg.txid, c->in->buf + 8, STUN_TXID);
	c->msg.has_fingerprint = false;
	return true;
}

static enum turn_act
stun_input(struct turn_call *c)
{
	int fault = stun_parse(&c->msg, c->in->buf, c->in->len);

	if (fault == STUN_F_COOKIE && c->in->transport == TRANSPORT_DTLS && old_request(c))
		return reply_old_stun(c);
	if (fault != STUN_OK)
		return turn_drop(c->t, c->out, fault_drop(fault));
	switch ((enum stun_class)c->msg.cls) {
	case STUN_REQUEST:
		return request(c);
	case STUN_INDICATION:
		return indication(c);
	case STUN_SUCCESS:
	case STUN_ERROR:
		break;
	}
	return turn_drop(c->t, c->out, DROP_CLASS);
}

enum turn_act
turn_client_input(struct turn *t, const struct turn_in *in, struct turn_out *out)
{
	TP_UNSET struct turn_call c; /* the attribute table is 1 KiB and stun_parse() sets what it uses */
	enum turn_act act;

	turn_out_reset(out);
	c.t = t;
	c.in = in;
	c.out = out;
	c.offer_used[0] = c.offer_used[1] = c.reserved = false;
	c.session = in->tagged
	    ? session_find_tag(in->shard, &in->client, in->transport, in->listener, in->tag)
	    : session_find(in->shard, &in->client, in->transport, in->listener);
	if (c.session != NULL && session_is_over(c.session, t->now))
		c.session = NULL;
	if (c.session == NULL && t->policy->retired[in->listener])
		act = turn_drop(t, out, DROP_RETIRED);
	else if (in->len == 0)
		act = turn_drop(t, out, DROP_SHORT);
	else if (frame_kind(in->buf[0]) == FRAME_CHANNEL)
		act = turn_channel_data(&c);
	else if (frame_kind(in->buf[0]) == FRAME_STUN)
		act = stun_input(&c);
	else
		act = turn_drop(t, out, DROP_JUNK);
	if (in->offer != NULL) {
		sockets_settle_offer(&c);
		out->unreserve = c.reserved ? 0 : in->offer->reservation;
	}
	return act;
}
