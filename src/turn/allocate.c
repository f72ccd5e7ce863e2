/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * allocate.c: Allocate, RFC 8656 7.2: what is asked for, whether it may be, the answer.
 */
#include "config.h"

#include <sodium.h>

#include "turn_int.h"

/* What an Allocate asks for, checked. */
struct wish {
	bool v4, v6;        /* families to allocate */
	bool additional;    /* ADDITIONAL-ADDRESS-FAMILY: one of the two will do */
	bool even, reserve; /* EVEN-PORT */
	bool dont_fragment;
	uint64_t token;       /* RESERVATION-TOKEN, 0: none */
	uint32_t reservation; /* its socket, as the supervisor names it */
	uint32_t lifetime;
};

/* ---- what is asked for ------------------------------------------------------------------------- */

static unsigned
read_transport(struct turn_call *c)
{
	uint32_t v;

	if (!stun_get_u32(stun_find(&c->msg, STUN_A_REQUESTED_TRANSPORT), &v))
		return refuse(c, REASON_MALFORMED, STUN_E_BAD_REQUEST);
	return v >> 24 == 17 ? 0 : refuse(c, REASON_TRANSPORT, STUN_E_UNSUPPORTED_TRANSPORT); /* UDP */
}

static const struct stun_attr *
additional_family(const struct stun_msg *m)
{
	const struct stun_attr *a = stun_find(m, STUN_A_ADDITIONAL_ADDRESS_FAMILY);

	return a != NULL ? a : stun_find(m, STUN_A_ADDITIONAL_ADDRESS_FAMILY_DRAFT);
}

static unsigned
read_token(struct turn_call *c, struct wish *w)
{
	const struct stun_attr *a = stun_find(&c->msg, STUN_A_RESERVATION_TOKEN);
	struct reservation r;

	if (a == NULL)
		return 0;
	if (stun_find(&c->msg, STUN_A_EVEN_PORT) != NULL ||
	    stun_find(&c->msg, STUN_A_REQUESTED_ADDRESS_FAMILY) != NULL ||
	    additional_family(&c->msg) != NULL || a->len != 8)
		return refuse(c, REASON_MALFORMED, STUN_E_BAD_REQUEST);
	w->token = (uint64_t)get_u32(a->value) << 32 | get_u32(a->value + 4);
	if (w->token == 0 ||
	    token_look(c->t->cross, w->token, reservation_owner(c->who.user, c->who.name), c->t->now, &r) !=
		0)
		return refuse(c, REASON_TOKEN, STUN_E_INSUFFICIENT_CAPACITY);
	w->reservation = r.id;
	return 0;
}

/* Nothing asked for: the configured family, or whichever there is. */
static unsigned
default_family(struct turn_call *c, uint8_t *family)
{
	const struct turn_policy *p = c->t->policy;

	*family = p->default_family != ADDR_NONE ? p->default_family : c->in->client.family;
	if (relay_family_served(p, *family))
		return 0;
	*family = *family == ADDR_V4 ? ADDR_V6 : ADDR_V4;
	return !p->strict_family && relay_family_served(p, *family)
	    ? 0
	    : refuse(c, REASON_FAMILY, STUN_E_ADDRESS_FAMILY);
}

static unsigned
read_family(struct turn_call *c, struct wish *w)
{
	const struct stun_attr *one = stun_find(&c->msg, STUN_A_REQUESTED_ADDRESS_FAMILY);
	const struct stun_attr *two = additional_family(&c->msg);
	const struct turn_policy *p = c->t->policy;
	uint8_t family;
	unsigned code;

	if (one != NULL && two != NULL)
		return refuse(c, REASON_MALFORMED, STUN_E_BAD_REQUEST);
	if (two != NULL) {
		if (!stun_get_family(two, &family) || family != ADDR_V6)
			return refuse(c, REASON_MALFORMED, STUN_E_BAD_REQUEST);
		w->additional = true;
		w->v4 = relay_family_served(p, ADDR_V4);
		w->v6 = relay_family_served(p, ADDR_V6);
		return w->v4 || w->v6 ? 0 : refuse(c, REASON_FAMILY, STUN_E_ADDRESS_FAMILY);
	}
	if (one != NULL) {
		if (!stun_get_family(one, &family))
			return refuse(c, REASON_MALFORMED, STUN_E_BAD_REQUEST);
		if (family == ADDR_NONE || !relay_family_served(p, family))
			return refuse(c, REASON_FAMILY, STUN_E_ADDRESS_FAMILY);
	} else {
		code = default_family(c, &family);
		if (code != 0)
			return code;
	}
	w->v4 = family == ADDR_V4;
	w->v6 = family == ADDR_V6;
	return 0;
}

static unsigned
read_even_port(struct turn_call *c, struct wish *w)
{
	const struct stun_attr *a = stun_find(&c->msg, STUN_A_EVEN_PORT);

	if (a == NULL)
		return 0;
	w->even = true;
	if (!stun_get_even_port(a, &w->reserve) || (w->reserve && additional_family(&c->msg) != NULL))
		return refuse(c, REASON_MALFORMED, STUN_E_BAD_REQUEST);
	return 0;
}

/* In the order of RFC 8656 7.2. */
static unsigned
read_wish(struct turn_call *c, struct wish *w)
{
	const struct stun_attr *la = stun_find(&c->msg, STUN_A_LIFETIME);
	const struct stun_attr *df = stun_find(&c->msg, STUN_A_DONT_FRAGMENT);
	uint32_t wanted = 0;
	unsigned code = read_transport(c);

	memset(w, 0, sizeof *w);
	if (code == 0 && ((la != NULL && !stun_get_u32(la, &wanted)) || (df != NULL && df->len != 0)))
		code = refuse(c, REASON_MALFORMED, STUN_E_BAD_REQUEST);
	w->lifetime = lifetime_granted(c->t->policy, la, wanted);
	w->dont_fragment = df != NULL;
	if (code == 0)
		code = read_token(c, w);
	if (code == 0 && w->token == 0)
		code = read_family(c, w);
	if (code == 0)
		code = read_even_port(c, w);
	return code;
}

/* ---- the answer ---------------------------------------------------------------------------------- */

/* Computed, never stored: a retransmission gets the same one. */
static uint64_t
reservation_token(const struct turn_call *c, const struct session *x)
{
	uint8_t in[12], sum[16];
	uint64_t token;

	put_u32(in, c->in->shard->index);
	put_u32(in + 4, session_slot(c->in->shard, x));
	put_u32(in + 8, x->gen);
	crypto_generichash(sum, sizeof sum, in, sizeof in, c->t->token_key, sizeof c->t->token_key);
	token = get_u64(sum);
	return token != 0 ? token : 1;
}

static void
put_relayed(struct stun_out *o, const struct turn_policy *p, const struct relay_ref *r)
{
	const struct turn_relay_row *row;
	struct addr a;

	if (r == NULL || r->row >= p->relay_count)
		return;
	row = &p->relay[r->row];
	a = row->external.family != ADDR_NONE ? row->external : row->addr;
	a.port = r->port;
	stun_put_xaddr(o, STUN_A_XOR_RELAYED_ADDRESS, &a);
}

static void
put_missing(struct stun_out *o, const struct turn_policy *p, uint8_t family, const struct session *x)
{
	if (session_relay(x, family) == NULL)
		stun_put_address_error(o, family,
		    relay_family_served(p, family) ? STUN_E_INSUFFICIENT_CAPACITY : STUN_E_ADDRESS_FAMILY);
}

/* From the slot and the request alone, so that a retransmission is answered with the same bytes. */
static enum turn_act
answer(struct turn_call *c, const struct session *x)
{
	const struct turn_policy *p = c->t->policy;
	uint8_t token[8];
	struct stun_out o;

	reply_begin(c, &o, STUN_SUCCESS);
	put_relayed(&o, p, session_relay(x, ADDR_V4));
	put_relayed(&o, p, session_relay(x, ADDR_V6));
	stun_put_u32(&o, STUN_A_LIFETIME, x->lifetime);
	if ((x->flags & SESSION_RESERVED) != 0) {
		put_u64(token, reservation_token(c, x));
		stun_put_bytes(&o, STUN_A_RESERVATION_TOKEN, token, sizeof token);
	}
	stun_put_xaddr(&o, STUN_A_XOR_MAPPED_ADDRESS, &c->in->client);
	if (additional_family(&c->msg) != NULL) {
		put_missing(&o, p, ADDR_V4, x);
		put_missing(&o, p, ADDR_V6, x);
	}
	return reply_success(c, &o, STAT_OK_ALLOCATE);
}

/* ---- sockets --------------------------------------------------------------------------------------- */

/* Even ports and reservations are the supervisor's to find.  True: go and ask it. */
static bool
must_ask(struct turn_call *c, const struct wish *w)
{
	struct turn_want *want = &c->out->want;

	if (c->in->offer != NULL)
		return false;
	*want = (struct turn_want){ .even = w->even, .reserve = w->reserve, .reservation = w->reservation };
	if (w->token != 0)
		return true;
	want->v4 = w->v4 && (w->even || !sockets_pool_has(c, ADDR_V4));
	want->v6 = w->v6 && (w->even || !sockets_pool_has(c, ADDR_V6));
	if (!want->v4 && !want->v6)
		return false;
	if (!w->even)
		stat_add(c->t->stat, STAT_POOL_EMPTY, 1);
	return true;
}

static bool
take_one(struct turn_call *c, const struct wish *w, uint8_t family, struct relay_ref *r)
{
	if (!sockets_take(c, family, w->even || w->token != 0, r))
		return false;
	if (!w->even || r->port % 2 == 0)
		return true;
	sockets_give(c, r);
	*r = (struct relay_ref){ .fd = -1 };
	return false;
}

/* Fills relay[] from the front.  508 when not enough could be had; nothing is taken then. */
static unsigned
take_sockets(struct turn_call *c, const struct wish *w, struct relay_ref relay[2])
{
	unsigned n = 0;

	relay[0] = relay[1] = (struct relay_ref){ .fd = -1 };
	if (w->token != 0)
		return take_one(c, w, ADDR_NONE, &relay[0])
		    ? 0
		    : refuse(c, REASON_TOKEN, STUN_E_INSUFFICIENT_CAPACITY);
	if (w->v4)
		n += take_one(c, w, ADDR_V4, &relay[n]);
	if (w->v6)
		n += take_one(c, w, ADDR_V6, &relay[n]);
	/* Without ADDITIONAL-ADDRESS-FAMILY there is one family only. */
	return n > 0 ? 0 : refuse(c, REASON_PORTS, STUN_E_INSUFFICIENT_CAPACITY);
}

/* ---- the slot ---------------------------------------------------------------------------------------- */

static void
fill_slot(struct turn_call *c, const struct wish *w, const struct relay_ref relay[2], struct session *x)
{
	const struct turn *t = c->t;
	uint32_t now_s = (uint32_t)(t->now / 1000);

	x->expiry = TP_SEC_UP(t->now + (tp_ms)w->lifetime * 1000);
	x->client = c->in->client;
	x->listener = c->in->listener;
	x->transport = c->in->transport;
	x->conn = c->in->conn;
	x->flags = (uint8_t)((w->token != 0 ? SESSION_REDEEMED : 0) | (w->dont_fragment ? SESSION_MTU : 0));
	x->relay[0] = relay[0];
	x->relay[1] = relay[1];
	x->policy = policy_stamp(t->policy);
	x->client_seen = now_s;
	x->created = now_s;
	memcpy(x->txid, c->msg.txid, sizeof x->txid);
	x->lifetime = w->lifetime;
	x->user = c->who.user;
	x->name = c->who.name;
	memcpy(x->user_text, c->who.user_text, sizeof x->user_text);
}

static void
fill_key(struct turn_call *c, const struct session *x)
{
	struct session_key *k = session_key(c->in->shard, x);

	k->gen = x->gen;
	k->alg = c->who.alg;
	k->len = c->who.key_len;
	k->credential_expiry = c->who.credential_expiry;
	k->permissions = (uint16_t)(c->who.limits.permissions < UINT16_MAX ? c->who.limits.permissions
									   : UINT16_MAX);
	memcpy(k->key, c->who.key, sizeof k->key);
}

/* 1 for a lock that was not to be had, else an error code. */
#define LOCKED_OUT 1
static unsigned
refuse_open(struct turn_call *c, int error)
{
	switch (error) {
	case 0:
		return 0;
	case -EDQUOT:
		return refuse(c, REASON_LIMIT_USER, STUN_E_ALLOCATION_QUOTA);
	case -EUSERS:
		return refuse(c, REASON_LIMIT_PREFIX, STUN_E_ALLOCATION_QUOTA);
	case -ENOSPC:
		return refuse(c, REASON_LIMIT_TOTAL, STUN_E_INSUFFICIENT_CAPACITY);
	case -ENOENT:
		return refuse(c, REASON_TOKEN, STUN_E_INSUFFICIENT_CAPACITY);
	case -EEXIST:
		return refuse(c, REASON_MEMORY, STUN_E_INSUFFICIENT_CAPACITY);
	case -ETIMEDOUT:
		return LOCKED_OUT;
	default:
		return refuse(c, REASON_MEMORY, STUN_E_INSUFFICIENT_CAPACITY);
	}
}

/* The configured limits, but for what the user has of its own. */
static struct cross_limits
quota_of(const struct turn_call *c)
{
	struct cross_limits quota = c->t->policy->quota;

	if (c->who.limits.allocations != 0)
		quota.per_user = c->who.limits.allocations;
	return quota;
}

/* By counts that may be a moment old, before anything is taken; the transaction judges again. */
static unsigned
judge_quota(struct turn_call *c, const struct wish *w)
{
	unsigned more = (w->token == 0 && c->session == NULL ? 1u : 0) + (w->reserve ? 1 : 0);
	struct cross_limits quota = quota_of(c);

	return refuse_open(c,
	    cross_fits(c->t->cross, c->who.user, cross_prefix(c->t->cross, &c->in->client), &quota, more));
}

/* The slot goes live, with its reservation and in place of the session that it replaces; or an error
 * code. */
static unsigned
publish(struct turn_call *c, const struct wish *w, struct session *x)
{
	struct reservation r = { .user = reservation_owner(c->who.user, c->who.name),
		.expiry = TP_SEC_UP(c->t->now + TOKEN_LIFETIME * 1000) };
	struct cross_with with = { .redeem = w->token, .replace = c->session };
	struct cross_limits quota = quota_of(c);
	uint64_t bandwidth = c->who.limits.bandwidth;

	fill_key(c, x);
	if (bandwidth != 0 && !bandwidth_of_user(c->in->shard, x, bandwidth))
		return refuse(c, REASON_MEMORY, STUN_E_INSUFFICIENT_CAPACITY);
	if (w->reserve) {
		if (c->in->offer == NULL || c->in->offer->reservation == 0)
			return refuse(c, REASON_MEMORY, STUN_E_INSUFFICIENT_CAPACITY);
		r.token = reservation_token(c, x);
		r.id = c->in->offer->reservation;
		with.reserve = &r;
		x->flags |= SESSION_RESERVED;
	}
	return refuse_open(c, cross_open(c->t->cross, c->in->shard, x, &quota, &with));
}

/* An allocation of this 5-tuple that is over, but has not been swept. */
static void
clear_tuple(struct turn_call *c)
{
	const struct turn_in *in = c->in;
	struct session *old = session_find(in->shard, &in->client, in->transport, in->listener);

	if (old != NULL && session_is_over(old, c->t->now))
		session_end(c->t, in->shard, old, EV_EXPIRED, c->out);
}

/* A session in its slot, or an error code and nothing has changed but for what was over. */
static unsigned
make(struct turn_call *c, const struct wish *w, const struct relay_ref relay[2], struct session **made)
{
	struct session *x = session_new(c->in->shard), old;
	unsigned code;

	if (x == NULL)
		return refuse(c, REASON_MEMORY, STUN_E_INSUFFICIENT_CAPACITY);
	if (c->session != NULL)
		memcpy(&old, c->session, sizeof old);
	fill_slot(c, w, relay, x);
	code = publish(c, w, x);
	if (code != 0) {
		session_abandon(c->in->shard, x);
		return code;
	}
	if (c->session != NULL)
		session_replaced(c->t, &old, c->out);
	c->reserved = w->reserve;
	c->session = x;
	*made = x;
	return 0;
}

/* A server that is full sends the client on; not with a token, which is worth something only here. */
static enum turn_act
refuse_allocate(struct turn_call *c, const struct wish *w, unsigned code)
{
	return w->token == 0 && alternate_helps(c) ? reply_alternate(c) : reply_error(c, code);
}

static enum turn_act
allocate(struct turn_call *c, const struct wish *w)
{
	struct turn_out *out = c->out;
	struct relay_ref relay[2];
	struct session *x = NULL;
	unsigned code = take_sockets(c, w, relay);

	if (code == 0) {
		clear_tuple(c);
		code = make(c, w, relay, &x);
	}
	if (code != 0) {
		sockets_give(c, &relay[0]);
		sockets_give(c, &relay[1]);
		return code == LOCKED_OUT ? turn_drop(c->t, out, DROP_LOCK_WAIT)
					  : refuse_allocate(c, w, code);
	}
	stat_add(c->t->stat, STAT_ALLOC_MADE, 1);
	out->open_do = true;
	out->open = (struct session_ref){ session_slot(c->in->shard, x), x->gen };
	out->ref = out->open;
	out->event = out->event == EV_NONE ? EV_ALLOCATED : EV_REPLACED;
	reply_names_user(c);
	return answer(c, x);
}

/* ---- the method ------------------------------------------------------------------------------ */

/* Has this 5-tuple been silent for so long that its user may take it again? */
static bool
may_replace(const struct turn_call *c)
{
	const struct session *x = c->session;
	uint32_t idle = c->t->policy->replace_idle, now_s = (uint32_t)(c->t->now / 1000);
	bool same = c->who.user != 0 ? x->user == c->who.user : x->name == c->who.name;

	return idle > 0 && same && now_s - x->client_seen >= idle;
}

enum turn_act
turn_allocate(struct turn_call *c)
{
	const struct turn_policy *p = c->t->policy;
	struct session *x = c->session;
	struct wish w;
	unsigned code;

	if (x != NULL && x->name == c->who.name && memcmp(x->txid, c->msg.txid, sizeof x->txid) == 0) {
		client_is_alive(c->t, x);
		return answer(c, x);
	}
	if (x != NULL && !may_replace(c))
		return reply_refusal(c, REASON_HAS_ALLOCATION, STUN_E_ALLOCATION_MISMATCH);
	/* Browsers cannot change credentials during a call: their end only forbids new allocations. */
	if (c->who.credential_expiry != 0 && c->t->unix_now >= c->who.credential_expiry) {
		c->out->event = EV_UNAUTHENTICATED;
		c->out->credential_expiry = c->who.credential_expiry;
		return challenge_allowed(c)
		    ? reply_challenge(c, refuse(c, REASON_EXPIRED, STUN_E_UNAUTHENTICATED))
		    : drop_refused(c, DROP_RATE_CHALLENGE, REASON_LIMIT_CHALLENGES);
	}
	code = read_wish(c, &w);
	if (code != 0)
		return reply_error(c, code);
	if (alternate_is_due(p)) {
		c->out->reason = p->draining ? REASON_DRAINING : REASON_MEMORY_LIMIT;
		return reply_alternate(c);
	}
	/* Before a socket is taken or asked for. */
	code = judge_quota(c, &w);
	if (code != 0)
		return refuse_allocate(c, &w, code);
	if (must_ask(c, &w))
		return TURN_NEED_RELAY;
	return allocate(c, &w);
}
