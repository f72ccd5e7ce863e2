/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * refresh.c: Refresh, RFC 8656 8.2.
 *
 * An allocation has one expiry.  A dual one that is refreshed for one family therefore keeps both; with
 * lifetime 0 for one family it loses that one, with the permissions and channels of that family.
 */
#include "config.h"

#include "turn_int.h"

uint32_t
lifetime_granted(const struct turn_policy *p, const struct stun_attr *lifetime, uint32_t wanted)
{
	uint32_t most = p->max_lifetime > p->default_lifetime ? p->max_lifetime : p->default_lifetime;

	if (lifetime == NULL || wanted <= p->default_lifetime)
		return p->default_lifetime;
	return wanted < most ? wanted : most;
}

static enum turn_act
answer(struct turn_call *c, uint32_t lifetime)
{
	struct stun_out o;

	reply_begin(c, &o, STUN_SUCCESS);
	stun_put_u32(&o, STUN_A_LIFETIME, lifetime);
	return reply_success(c, &o, STAT_OK_REFRESH);
}

static void
end_family(struct turn_call *c, uint8_t family)
{
	struct session *x = c->session;
	unsigned gone = x->relay[0].family == family ? 0 : 1;

	peers_drop_family(c->in->shard, x, family, c->t->now);
	c->out->close[c->out->close_count++] = x->relay[gone].fd;
	session_change(x);
	if (gone == 0) /* relay[0] is always present */
		x->relay[0] = x->relay[1];
	x->relay[1] = (struct relay_ref){ .fd = -1 };
	session_changed(x);
}

static void
extend(struct turn_call *c, uint32_t lifetime)
{
	struct session *x = c->session;

	session_change(x);
	x->expiry = TP_SEC_UP(c->t->now + (tp_ms)lifetime * 1000);
	session_changed(x);
	c->out->event = EV_REFRESHED;
	c->out->ref = (struct session_ref){ session_slot(c->in->shard, x), x->gen };
}

enum turn_act
turn_refresh(struct turn_call *c)
{
	const struct stun_attr *fa = stun_find(&c->msg, STUN_A_REQUESTED_ADDRESS_FAMILY);
	const struct stun_attr *la = stun_find(&c->msg, STUN_A_LIFETIME);
	uint32_t wanted = 0, lifetime;
	uint8_t family = ADDR_NONE;

	if (la != NULL && !stun_get_u32(la, &wanted))
		return reply_refusal(c, REASON_MALFORMED, STUN_E_BAD_REQUEST);
	if (fa != NULL && !stun_get_family(fa, &family))
		return reply_refusal(c, REASON_MALFORMED, STUN_E_BAD_REQUEST);
	if (fa != NULL && session_relay(c->session, family) == NULL)
		return reply_refusal(c, REASON_PEER_FAMILY, STUN_E_PEER_FAMILY);
	if (la == NULL || wanted != 0) {
		lifetime = lifetime_granted(c->t->policy, la, wanted);
		extend(c, lifetime);
		return answer(c, lifetime);
	}
	if (fa != NULL && c->session->relay[1].fd >= 0 && c->session->relay[1].family != ADDR_NONE) {
		end_family(c, family);
		return answer(c, 0);
	}
	session_end(c->t, c->in->shard, c->session, EV_ENDED, c->out);
	stat_reason(c->t->stat, REASON_END_CLIENT);
	c->session = NULL;
	return answer(c, 0);
}
