/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * reply.c: every answer to a request is made here.
 *
 * The network carries at most three times as many bytes to a stranger as came from it, headers of IP and
 * UDP included, and a message of at most ANSWER_MAX bytes: a forged source gains nothing.  So what an
 * answer may do without is left out where it does not fit: first SOFTWARE, then the reason phrase, then
 * PASSWORD-ALGORITHMS; FINGERPRINT is only for those that sent one.  A realm over REALM_FREE characters
 * may exceed the bound by the excess.  A client with an allocation or a connection has proved its address
 * and is no stranger.
 */
#include "config.h"

#include "turn_int.h"

#define ANSWER_MAX        400
#define AMPLIFY_MAX       3
#define REALM_FREE        24
#define ALGORITHMS_SHA256 8 /* bytes of PASSWORD-ALGORITHMS with one entry */

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

static bool
is_stranger(const struct turn_call *c)
{
	return c->session == NULL && c->in->transport == TRANSPORT_UDP;
}

/* What FINGERPRINT will add. */
static size_t
tail_len(const struct turn_call *c)
{
	return c->msg.has_fingerprint ? 8 : 0;
}

/* Is the answer larger than the bound, with `more` bytes to come? */
static bool
is_amplified(const struct turn_call *c, const struct stun_out *o, size_t more, size_t excused)
{
	size_t headers = (c->in->client.family == ADDR_V4 ? 20 : 40) + 8;
	size_t len = wr_len(&o->w) + more + tail_len(c);

	if (!is_stranger(c))
		return false;
	return len > ANSWER_MAX || len + headers > AMPLIFY_MAX * (c->in->len + headers) + excused;
}

static void
put_software(struct turn_call *c, struct stun_out *o)
{
	const char *text = c->t->policy->software;
	size_t len = strlen(text);

	if (len > 0 && !is_amplified(c, o, 4 + len + 3, 0))
		stun_put_bytes(o, STUN_A_SOFTWARE, text, len);
}

enum turn_act
reply_end(struct turn_call *c, struct stun_out *o, bool sign)
{
	struct turn_out *out = c->out;

	put_software(c, o);
	if (sign)
		auth_sign(o, &c->who);
	if (c->msg.has_fingerprint)
		stun_put_fingerprint(o);
	out->len = stun_end(o);
	assert(out->len > 0); /* reply[] has room for the largest answer */
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
begin_error(struct turn_call *c, struct stun_out *o, unsigned code, bool phrase)
{
	reply_begin(c, o, STUN_ERROR);
	stun_put_error(o, code, phrase);
	c->out->code = code;
}

/* Of a code that has one reason in most cases; the others are named where they are found. */
static enum reason
common_reason(unsigned code)
{
	switch (code) {
	case STUN_E_TRY_ALTERNATE:
		return REASON_DRAINING;
	case STUN_E_BAD_REQUEST:
		return REASON_MALFORMED;
	case STUN_E_FORBIDDEN:
		return REASON_PEER_DENIED;
	case STUN_E_UNKNOWN_ATTRIBUTE:
		return REASON_UNKNOWN_ATTRIBUTE;
	case STUN_E_ALLOCATION_MISMATCH:
		return REASON_NO_ALLOCATION;
	case STUN_E_ADDRESS_FAMILY:
		return REASON_FAMILY;
	case STUN_E_WRONG_CREDENTIALS:
		return REASON_OTHER_USER;
	case STUN_E_UNSUPPORTED_TRANSPORT:
		return REASON_TRANSPORT;
	case STUN_E_PEER_FAMILY:
		return REASON_PEER_FAMILY;
	case STUN_E_INSUFFICIENT_CAPACITY:
		return REASON_MEMORY;
	default:
		return REASON_NONE;
	}
}

static enum stat_method
counted_method(uint16_t method)
{
	switch (method) {
	case STUN_ALLOCATE:
		return STAT_M_ALLOCATE;
	case STUN_REFRESH:
		return STAT_M_REFRESH;
	case STUN_CREATE_PERMISSION:
		return STAT_M_PERMISSION;
	case STUN_CHANNEL_BIND:
		return STAT_M_CHANNEL;
	default:
		return STAT_M_BINDING;
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

	begin_error(c, &o, code, true);
	return end_error(c, &o, true);
}

enum turn_act
drop_refused(struct turn_call *c, enum drop drop, enum reason why)
{
	(void)refuse(c, why, 0);
	c->out->whom = c->in->client;
	stat_reason(c->t->stat, why);
	return turn_drop(c->t, c->out, drop);
}

/* ---- without a signature -------------------------------------------------------------------------- */

bool
challenge_allowed(struct turn_call *c)
{
	uint32_t rate = c->t->policy->challenges;

	/* With a grant it was taken when turnpike-auth was asked. */
	return rate == 0 || c->in->grant != NULL ||
	    rate_take(c->t->cross, RATE_CHALLENGE, cross_prefix(c->t->cross, &c->in->client), rate,
		10 * rate, c->t->now);
}

static void
put_challenge(struct turn_call *c, struct stun_out *o, unsigned code, bool phrase, bool algorithms)
{
	const struct turn *t = c->t;

	begin_error(c, o, code, phrase);
	if (code != STUN_E_BAD_REQUEST)
		auth_challenge(
		    o, &t->policy->auth, &t->nonces, &c->in->client, c->in->transport, t->now, algorithms);
}

enum turn_act
reply_challenge(struct turn_call *c, unsigned code)
{
	const struct auth_policy *p = &c->t->policy->auth;
	size_t realm = (p->realm_len + 3) & ~(size_t)3,
	       excused = realm > REALM_FREE ? realm - REALM_FREE : 0;
	struct stun_out o;

	put_challenge(c, &o, code, true, true);
	if (is_amplified(c, &o, 0, 0))
		put_challenge(c, &o, code, false, true);
	if (p->sha256_only)
		excused += ALGORITHMS_SHA256;
	else if (is_amplified(c, &o, 0, 0))
		put_challenge(c, &o, code, false, false);
	if (is_amplified(c, &o, 0, excused)) {
		c->out->code = 0;
		return turn_drop(c->t, c->out, DROP_AMPLIFY);
	}
	return end_error(c, &o, false);
}

enum turn_act
reply_old_stun(struct turn_call *c)
{
	enum turn_act act;
	struct stun_out o;

	c->out->reason = REASON_OLD_STUN;
	begin_error(c, &o, STUN_E_SERVER_ERROR, true);
	act = end_error(c, &o, false);
	memcpy(c->out->reply + 4, c->in->buf + 4,
	    16); /* RFC 3489 has no cookie: its transaction id is longer */
	return act;
}

/* Each attribute that the answer lists came with 4 bytes or more of request. */
enum turn_act
reply_unknown(struct turn_call *c, bool sign)
{
	struct stun_out o;

	c->out->reason = REASON_UNKNOWN_ATTRIBUTE;
	begin_error(c, &o, STUN_E_UNKNOWN_ATTRIBUTE, true);
	stun_put_unknown(&o, c->msg.unknown, c->msg.unknown_count);
	if (!sign && is_amplified(c, &o, 0, 0)) {
		begin_error(c, &o, STUN_E_UNKNOWN_ATTRIBUTE, false);
		stun_put_unknown(&o, c->msg.unknown, c->msg.unknown_count);
	}
	return end_error(c, &o, sign);
}

enum turn_act
reply_alternate(struct turn_call *c)
{
	struct alternate to;
	struct stun_out o;

	if (!alternate_find(c, &to))
		return reply_error(c, STUN_E_INSUFFICIENT_CAPACITY);
	begin_error(c, &o, STUN_E_TRY_ALTERNATE, true);
	stun_put_addr(&o, STUN_A_ALTERNATE_SERVER, to.addr);
	if (to.domain != NULL)
		stun_put_bytes(&o, STUN_A_ALTERNATE_DOMAIN, to.domain, strlen(to.domain));
	return end_error(c, &o, true);
}
