/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * reply.c: every answer to a request is made here.
 *
 * To somebody unknown an answer is at most three times the request and ANSWER_MAX bytes: a forged source gains
 * nothing.  Hence no SOFTWARE, an empty reason phrase, a nonce of 24 characters, and FINGERPRINT only for
 * those who sent one.  A realm over REALM_FREE characters may exceed the bound by what it is longer.
 */
#include "config.h"

#include "turn_int.h"

#define ANSWER_MAX 400
#define AMPLIFY_MAX 3
#define REALM_FREE 24
#define ALGORITHMS_SHA256 8	/* bytes of PASSWORD-ALGORITHMS with one entry */

void
reply_names_user(struct turn_call *c)
{
	c->out->user_len = c->who.user_text_len;
	memcpy(c->out->user, c->who.user_text, sizeof c->out->user);
}

void
reply_names_claimed(struct turn_call *c)
{
	const struct stun_attr *a = stun_find(&c->msg, STUN_A_USERNAME);

	if (a == NULL)
		return;
	c->out->user_len = (uint8_t)(a->len < SESSION_NAME ? a->len : SESSION_NAME);
	memcpy(c->out->user, a->value, c->out->user_len);
}

void
reply_begin(struct turn_call *c, struct stun_out *o, enum stun_class cls)
{
	stun_begin(o, c->out->reply, sizeof c->out->reply, cls, c->msg.method, c->msg.txid);
}

enum turn_act
reply_end(struct turn_call *c, struct stun_out *o, bool sign)
{
	struct turn_out *out = c->out;

	if (sign)
		auth_sign(o, &c->who);
	if (c->msg.has_fingerprint)
		stun_put_fingerprint(o);
	out->len = stun_end(o);
	assert(out->len > 0);		/* reply[] has room for the largest answer */
	out->p = out->reply;
	out->to = c->in->client;
	out->listener = c->in->listener;
	out->transport = c->in->transport;
	out->conn = c->in->conn;
	return TURN_TO_CLIENT;
}

enum turn_act
reply_success(struct turn_call *c, struct stun_out *o, enum stat_counter ok)
{
	stat_add(c->t->stat, ok, 1);
	return reply_end(c, o, true);
}

static void
begin_error(struct turn_call *c, struct stun_out *o, unsigned code)
{
	reply_begin(c, o, STUN_ERROR);
	stun_put_error(o, code);
	c->out->code = code;
}

/* Of a code that has one reason in most cases; the others are named where they are found. */
static enum reason
common_reason(unsigned code)
{
	switch (code) {
	case STUN_E_TRY_ALTERNATE: return REASON_DRAINING;
	case STUN_E_BAD_REQUEST: return REASON_MALFORMED;
	case STUN_E_FORBIDDEN: return REASON_PEER_DENIED;
	case STUN_E_UNKNOWN_ATTRIBUTE: return REASON_UNKNOWN_ATTRIBUTE;
	case STUN_E_ALLOCATION_MISMATCH: return REASON_NO_ALLOCATION;
	case STUN_E_ADDRESS_FAMILY: return REASON_FAMILY;
	case STUN_E_WRONG_CREDENTIALS: return REASON_OTHER_USER;
	case STUN_E_UNSUPPORTED_TRANSPORT: return REASON_TRANSPORT;
	case STUN_E_PEER_FAMILY: return REASON_PEER_FAMILY;
	case STUN_E_INSUFFICIENT_CAPACITY: return REASON_MEMORY;
	default: return REASON_NONE;
	}
}

static enum stat_method
counted_method(uint16_t method)
{
	switch (method) {
	case STUN_ALLOCATE: return STAT_M_ALLOCATE;
	case STUN_REFRESH: return STAT_M_REFRESH;
	case STUN_CREATE_PERMISSION: return STAT_M_PERMISSION;
	case STUN_CHANNEL_BIND: return STAT_M_CHANNEL;
	default: return STAT_M_BINDING;
	}
}

static enum turn_act
end_error(struct turn_call *c, struct stun_out *o, bool sign)
{
	if (c->out->reason == REASON_NONE)
		c->out->reason = common_reason(c->out->code);
	stat_error(c->t->stat, counted_method(c->msg.method), c->out->code);
	stat_reason(c->t->stat, c->out->reason);
	if (sign && c->out->event == EV_NONE)
		c->out->event = EV_REFUSED;
	return reply_end(c, o, sign);
}

enum turn_act
reply_error(struct turn_call *c, unsigned code)
{
	struct stun_out o;

	begin_error(c, &o, code);
	return end_error(c, &o, true);
}

/* ---- to somebody unknown ------------------------------------------------------------------------- */

bool
challenge_allowed(struct turn_call *c)
{
	uint32_t rate = c->t->policy->challenges;

	/* With a grant it was taken when turnpike-auth was asked. */
	return rate == 0 || c->in->grant != NULL || rate_take(c->t->cross, RATE_CHALLENGE,
	    cross_prefix(c->t->cross, &c->in->client), rate, 10 * rate, c->t->now);
}

/* What FINGERPRINT will add. */
static size_t
tail_len(const struct turn_call *c)
{
	return c->msg.has_fingerprint ? 8 : 0;
}

static void
put_challenge(struct turn_call *c, struct stun_out *o, unsigned code, bool algorithms)
{
	const struct turn *t = c->t;

	begin_error(c, o, code);
	if (code != STUN_E_BAD_REQUEST)
		auth_challenge(o, &t->policy->auth, &t->nonces, &c->in->client, t->now, algorithms);
}

static bool
is_amplified(const struct turn_call *c, const struct stun_out *o, size_t excused)
{
	size_t len = wr_len(&o->w) + tail_len(c);

	return len > ANSWER_MAX || len > AMPLIFY_MAX * c->in->len + excused;
}

enum turn_act
reply_challenge(struct turn_call *c, unsigned code)
{
	const struct auth_policy *p = &c->t->policy->auth;
	size_t realm = (p->realm_len + 3) & ~(size_t)3, excused = realm > REALM_FREE ? realm - REALM_FREE : 0;
	struct stun_out o;

	put_challenge(c, &o, code, true);
	if (p->sha256_only)
		excused += ALGORITHMS_SHA256;
	else if (code != STUN_E_BAD_REQUEST && is_amplified(c, &o, 0))
		put_challenge(c, &o, code, false);
	if (is_amplified(c, &o, excused)) {
		c->out->code = 0;
		return turn_drop(c->t, c->out, DROP_AMPLIFY);
	}
	return end_error(c, &o, false);
}

enum turn_act
reply_unknown(struct turn_call *c, bool sign)
{
	struct stun_out o;

	/* At most STUN_UNKNOWN_MAX of them: 48 bytes, and each came with 4 bytes or more of request. */
	begin_error(c, &o, STUN_E_UNKNOWN_ATTRIBUTE);
	stun_put_unknown(&o, c->msg.unknown, c->msg.unknown_count);
	return end_error(c, &o, sign);
}

/* 300 while draining, when there is somewhere to go in the client's family (RFC 8489 10). */
enum turn_act
reply_alternate(struct turn_call *c)
{
	const struct addr *to = &c->t->policy->alternate;
	struct stun_out o;

	c->out->reason = REASON_DRAINING;
	if (to->family != c->in->client.family)
		return reply_error(c, STUN_E_INSUFFICIENT_CAPACITY);
	begin_error(c, &o, STUN_E_TRY_ALTERNATE);
	stun_put_addr(&o, STUN_A_ALTERNATE_SERVER, to);
	return end_error(c, &o, true);
}
