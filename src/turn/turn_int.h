/* SPDX-License-Identifier: BSD-3-Clause */
/* turn_int.h: what the files of turn share among themselves. */
#ifndef TP_TURN_INT_H
#define TP_TURN_INT_H

#include <errno.h>

#include "tp/turn.h"

/* One datagram or frame of a client on its way through the core. */
struct turn_call {
	struct turn *t;
	const struct turn_in *in;
	struct turn_out *out;
	struct session *session; /* live one of the 5-tuple, or NULL */
	struct stun_msg msg;
	struct auth_who who; /* of a request that passed auth_check() */
	bool offer_used[2];  /* sockets of in->offer that found their place */
	bool reserved;       /* the reservation of in->offer has its token */
};

/* An allocation ends with the second that its expiry names. */
static inline bool
session_is_over(const struct session *x, tp_ms now)
{
	return now >= (tp_ms)x->expiry * 1000;
}

/* core.c */
enum turn_act turn_drop(struct turn *t, struct turn_out *out, enum drop why);
uint64_t turn_random(struct turn *t);
/* A relay socket of the session for peers of this family, or NULL. */
const struct relay_ref *session_relay(const struct session *x, uint8_t family);
static inline void
client_is_alive(struct turn *t, struct session *x)
{
	x->client_seen = (uint32_t)(t->now / 1000);
}

/* round_trip.c: looks at relayed data; up: from the client to the peer */
void round_trip_look(struct turn *t, bool up, const uint8_t *p, size_t len);

/* reply.c: every answer is made here */
void reply_begin(struct turn_call *c, struct stun_out *o, enum stun_class cls);
enum turn_act reply_end(struct turn_call *c, struct stun_out *o, bool sign);
enum turn_act reply_success(struct turn_call *c, struct stun_out *o, enum stat_counter ok);
/* Notes why a request is refused; returns the code. */
static inline unsigned
refuse(struct turn_call *c, enum reason why, unsigned code)
{
	c->out->reason = why;
	return code;
}
/* Signed error answer to an authenticated request; the reason was noted. */
enum turn_act reply_error(struct turn_call *c, unsigned code);
static inline enum turn_act
reply_refusal(struct turn_call *c, enum reason why, unsigned code)
{
	return reply_error(c, refuse(c, why, code));
}
/* 400, 401, 438 without a signature; bounded for a stranger.  The reason was noted. */
enum turn_act reply_challenge(struct turn_call *c, unsigned code);
/* 500 to a message of RFC 3489 over DTLS, RFC 8489 11. */
enum turn_act reply_old_stun(struct turn_call *c);
/* Is there an answer left for this client's prefix?  Takes it. */
bool challenge_allowed(struct turn_call *c);
/* A datagram over a limit: counted as a drop and as a refusal of this client. */
enum turn_act drop_refused(struct turn_call *c, enum drop drop, enum reason why);
enum turn_act reply_unknown(struct turn_call *c, bool sign);
/* 300 to another server if there is one that fits and the client was not sent on before; else 508.  The
 * reason was noted. */
enum turn_act reply_alternate(struct turn_call *c);

/* alternate.c */
struct alternate {
	const struct addr *addr;
	const char *domain; /* NULL: none */
};
/* Does this server take no allocation from anyone, for now? */
static inline bool
alternate_is_due(const struct turn_policy *p)
{
	return p->draining || p->memory_short;
}
/* The server that this client is sent to, and notes that it is; false: none, or it was sent on before. */
bool alternate_find(const struct turn_call *c, struct alternate *to);
/* Is the noted reason of a refusal one that another server may not have? */
bool alternate_helps(const struct turn_call *c);
/* The user that the log names. */
void reply_names_user(struct turn_call *c);
void reply_names_claimed(struct turn_call *c); /* the names that the client claims, unproven */

/* One file per method */
enum turn_act turn_binding(struct turn_call *c);
enum turn_act turn_allocate(struct turn_call *c);
enum turn_act turn_refresh(struct turn_call *c);
enum turn_act turn_create_permission(struct turn_call *c);
enum turn_act turn_channel_bind(struct turn_call *c);
enum turn_act turn_send(struct turn_call *c);
enum turn_act turn_channel_data(struct turn_call *c);

/* relay.c: the last steps of everything that goes up; `data` is inside in->buf */
enum turn_act relay_up(
    struct turn_call *c, const struct addr *peer, uint8_t *data, size_t len, enum stat_counter form);

/* refresh.c */
uint32_t lifetime_granted(const struct turn_policy *p, const struct stun_attr *lifetime, uint32_t wanted);

/* sockets.c: relay sockets from the pool or from the supervisor's offer */
bool sockets_take(struct turn_call *c, uint8_t family, bool from_offer, struct relay_ref *r);
bool sockets_pool_has(const struct turn_call *c, uint8_t family);
void sockets_give(struct turn_call *c, const struct relay_ref *r);
void sockets_settle_offer(struct turn_call *c);
bool relay_family_served(const struct turn_policy *p, uint8_t family);

/* permission.c */
/* Permissions that this session may have: its user's number, else the configured one. */
uint32_t permissions_max(const struct turn_call *c);
/* Installs or refreshes the permission of a peer that was judged; 0 or -ENOSPC. */
int permission_set(struct turn_call *c, const struct addr *peer);
/* 0, 443 or 403 (then the event says which peer and why). */
unsigned peer_may(struct turn_call *c, const struct addr *peer);
/* Data to or from a peer of which a permission says more than "by address", or of which there is none.
 * False: it is dropped, counted and the event says why. */
bool peer_data_judge(struct turn *t, struct shard *s, struct session *x, const struct addr *peer,
    enum perm_kind kind, struct turn_out *out);
/* The same for any peer.  *port: its port was judged, too; only such a peer has another address behind a
 * NAT. */
static inline bool
peer_data_may(struct turn *t, struct shard *s, struct session *x, const struct addr *peer, bool *port,
    struct turn_out *out)
{
	enum perm_kind kind = perm_has(s, x, peer, t->now);

	*port = kind == PERM_PORT;
	return kind == PERM_ADDRESS || peer_data_judge(t, s, x, peer, kind, out);
}
/* After a reload every peer of a session is judged again before it is used. */
void peers_judge_all(struct turn *t, struct shard *s, struct session *x);
/* What a session keeps of the policy that its peers were judged by.  It differs from what builds stored
 * whose permissions do not say whether their port matters, so sessions of such a build are judged again. */
static inline uint32_t
policy_stamp(const struct turn_policy *p)
{
	return (uint32_t)p->generation * 2 + 1;
}
static inline void
peers_judge_again(struct turn *t, struct shard *s, struct session *x)
{
	if (x->policy != policy_stamp(t->policy))
		peers_judge_all(t, s, x);
}
void peers_drop_family(struct shard *s, struct session *x, uint8_t family, tp_ms now);

/* session_end.c: ends a live session; out->ended, close, event, ref */
void session_end(
    struct turn *t, struct shard *s, struct session *x, enum turn_event why, struct turn_out *out);
/* Another session has taken the place of this one, of which `old` is a copy: ended, close. */
void session_replaced(struct turn *t, const struct session *old, struct turn_out *out);

#endif
