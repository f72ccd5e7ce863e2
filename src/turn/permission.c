/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * permission.c: CreatePermission, RFC 8656 10.2; peers judged when they are named and again after a reload.
 */
#include "config.h"

#include "turn_int.h"

/* `out` has the verdict and the rule already. */
static void
tell_denied(struct turn_out *out, struct shard *s, const struct session *x, const struct addr *peer)
{
	out->event = EV_PEER_DENIED;
	out->peer = *peer;
	out->ref = (struct session_ref){ session_slot(s, x), x->gen };
}

unsigned
peer_may(struct turn_call *c, const struct addr *peer)
{
	struct turn_out *out = c->out;

	if (session_relay(c->session, peer->family) == NULL)
		return refuse(c, REASON_PEER_FAMILY, STUN_E_PEER_FAMILY);
	out->verdict = peer_judge(c->t->policy, peer, &out->rule);
	if (out->verdict == PEER_OK)
		return 0;
	tell_denied(out, c->in->shard, c->session, peer);
	return refuse(c, REASON_PEER_DENIED, STUN_E_FORBIDDEN);
}

/* Of a permission whose address is this host's or a database's.  Rules of addresses were judged with the
 * permission. */
static bool
port_may(
    struct turn *t, struct shard *s, const struct session *x, const struct addr *peer, struct turn_out *out)
{
	if (peer_is_relay(t->policy, peer))
		return true;
	out->verdict = peer_judge(t->policy, peer, &out->rule);
	if (out->verdict == PEER_OK)
		return true;
	tell_denied(out, s, x, peer);
	return false;
}

bool
peer_data_judge(struct turn *t, struct shard *s, struct session *x, const struct addr *peer,
    enum perm_kind kind, struct turn_out *out)
{
	if (kind == PERM_NONE)
		(void)turn_drop(t, out, DROP_NO_PERMISSION);
	else if (port_may(t, s, x, peer, out))
		return true;
	else
		(void)turn_drop(t, out, DROP_PEER_DENIED);
	return false;
}

int
permission_set(struct turn_call *c, const struct addr *peer)
{
	return perm_set(c->in->shard, c->session, peer, peer_port_matters(c->t->policy, peer), c->t->now,
	    permissions_max(c));
}

uint32_t
permissions_max(const struct turn_call *c)
{
	return c->who.limits.permissions != 0 ? (uint32_t)c->who.limits.permissions
					      : c->t->policy->permissions_max;
}

/* All peers of the request, ports cleared: a permission is for an address.  0 or an error code. */
static unsigned
read_peers(struct turn_call *c, struct addr peers[STUN_ATTRS_MAX], unsigned *n)
{
	const struct stun_attr *a = stun_find(&c->msg, STUN_A_XOR_PEER_ADDRESS);

	for (*n = 0; a != NULL; a = stun_find_next(&c->msg, a)) {
		if (!stun_get_xaddr(&c->msg, a, &peers[*n]))
			return refuse(c, REASON_MALFORMED, STUN_E_BAD_REQUEST);
		peers[(*n)++].port = 0;
	}
	return *n > 0 ? 0 : refuse(c, REASON_MALFORMED, STUN_E_BAD_REQUEST);
}

static unsigned
judge_peers(struct turn_call *c, const struct addr *peers, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (session_relay(c->session, peers[i].family) == NULL)
			return refuse(c, REASON_PEER_FAMILY, STUN_E_PEER_FAMILY);
	for (unsigned i = 0; i < n; i++) {
		unsigned code = peer_may(c, &peers[i]);

		if (code != 0)
			return code;
	}
	return 0;
}

enum turn_act
turn_create_permission(struct turn_call *c)
{
	const struct turn *t = c->t;
	struct addr peers[STUN_ATTRS_MAX];
	struct stun_out o;
	unsigned n, code = read_peers(c, peers, &n);

	if (code == 0)
		code = judge_peers(c, peers, n);
	if (code != 0)
		return reply_error(c, code);
	peers_judge_again(c->t, c->in->shard, c->session);
	if (!perm_fits(c->in->shard, c->session, peers, n, t->now, permissions_max(c)))
		return reply_refusal(c, REASON_LIMIT_PERMISSIONS, STUN_E_INSUFFICIENT_CAPACITY);
	for (unsigned i = 0; i < n; i++)
		if (permission_set(c, &peers[i]) != 0)
			return reply_refusal(c, REASON_LIMIT_PERMISSIONS, STUN_E_INSUFFICIENT_CAPACITY);
	reply_begin(c, &o, STUN_SUCCESS);
	return reply_success(c, &o, STAT_OK_PERMISSION);
}

/* ---- peers that must go -------------------------------------------------------------------------- */

#define GONE_MAX 32
struct gone {
	const struct turn_policy *policy;
	uint8_t family; /* of peers to drop; ADDR_NONE: those that the policy denies */
	unsigned n, marks;
	struct addr peer[GONE_MAX],
	    mark[GONE_MAX]; /* mark: permissions whose port matters now, or no more */
};

static void
collect_gone(void *arg, const struct addr *peer, uint16_t channel, uint32_t expiry)
{
	struct gone *g = arg;
	bool goes = g->family != ADDR_NONE ? peer->family == g->family
					   : peer_judge(g->policy, peer, NULL) != PEER_OK;

	if (goes && g->n < GONE_MAX)
		g->peer[g->n++] = *peer;
	if (!goes && g->policy != NULL && channel == 0 && g->marks < GONE_MAX &&
	    peer_port_matters(g->policy, peer) != perm_has_port(expiry))
		g->mark[g->marks++] = *peer;
}

static void
drop_gone(struct gone *g, struct shard *s, struct session *x, tp_ms now)
{
	struct addr ip;

	do {
		g->n = g->marks = 0;
		session_each_peer(s, x, now, collect_gone, g);
		for (unsigned i = 0; i < g->marks; i++)
			perm_mark(s, x, &g->mark[i], peer_port_matters(g->policy, &g->mark[i]));
		for (unsigned i = 0; i < g->n; i++) {
			ip = g->peer[i];
			ip.port = 0;
			perm_drop(s, x, &ip);
		}
	} while (g->n == GONE_MAX || g->marks == GONE_MAX);
}

void
peers_drop_family(struct shard *s, struct session *x, uint8_t family, tp_ms now)
{
	struct gone g = { .family = family };

	drop_gone(&g, s, x, now);
}

void
peers_judge_all(struct turn *t, struct shard *s, struct session *x)
{
	struct gone g = { .policy = t->policy };

	drop_gone(&g, s, x, t->now);
	x->policy = policy_stamp(t->policy);
}
