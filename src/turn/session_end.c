/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * session_end.c: how allocations end.
 */
#include "config.h"

#include "turn_int.h"

static enum stat_counter
end_counter(enum turn_event why)
{
	switch (why) {
	case EV_ENDED:
		return STAT_ALLOC_REFRESHED_AWAY;
	case EV_EXPIRED:
		return STAT_ALLOC_EXPIRED;
	default:
		return STAT_ALLOC_CLOSED;
	}
}

static enum reason
end_reason(enum turn_event why)
{
	switch (why) {
	case EV_ENDED:
		return REASON_END_CLIENT;
	case EV_EXPIRED:
		return REASON_END_EXPIRED;
	case EV_REPLACED:
		return REASON_END_REPLACED;
	default:
		return REASON_END_CREDENTIAL;
	}
}

static void
tell_end(struct turn *t, const struct session *x, enum turn_event why, struct turn_out *out)
{
	memcpy(&out->ended, x, sizeof out->ended);
	out->event = why;
	out->reason = end_reason(why);
	out->user_len = (uint8_t)strnlen(x->user_text, SESSION_NAME);
	memcpy(out->user, x->user_text, SESSION_NAME);
	for (unsigned i = 0; i < 2; i++)
		if (x->relay[i].family != ADDR_NONE && x->relay[i].fd >= 0)
			out->close[out->close_count++] = x->relay[i].fd;
	stat_add(t->stat, end_counter(why), 1);
}

void
session_end(struct turn *t, struct shard *s, struct session *x, enum turn_event why, struct turn_out *out)
{
	tell_end(t, x, why, out);
	out->ref = (struct session_ref){ session_slot(s, x), x->gen };
	/* On a timeout it is in SESSION_ENDING: no packet finds it and the sweep tries again. */
	(void)cross_close(t->cross, s, x);
}

void
session_replaced(struct turn *t, const struct session *old, struct turn_out *out)
{
	tell_end(t, old, EV_REPLACED, out);
}

enum turn_act
turn_close(struct turn *t, struct shard *s, struct session_ref ref, enum reason why, struct turn_out *out)
{
	struct session *x = session_get(s, ref);

	turn_out_reset(out);
	if (x == NULL)
		return turn_drop(t, out, DROP_STALE_EVENT);
	session_end(t, s, x, EV_CLOSED, out);
	out->reason = why;
	stat_reason(t->stat, why);
	return TURN_DONE;
}

/* ---- the sweep ----------------------------------------------------------------------------------- */

#define TOKEN_STEP 1024 /* reservations that one sweep looks at: an eighth of all */

struct sweep {
	struct turn *t;
	struct shard *s;
	struct turn_out *out;
	turn_swept_h *cb;
	void *arg;
};

static void
sweep_end(struct sweep *w, struct session *x, enum turn_event why)
{
	turn_out_reset(w->out);
	session_end(w->t, w->s, x, why, w->out);
	stat_reason(w->t->stat, w->out->reason);
	w->cb(w->arg, w->out);
}

static bool
is_ending(const struct session *x)
{
	return atomic_load_explicit(&x->state, memory_order_relaxed) == SESSION_ENDING;
}

static void
session_over(void *arg, struct session *x)
{
	struct sweep *w = arg;

	if (is_ending(x)) /* reported when it ended; its counts are still held */
		(void)cross_close(w->t->cross, w->s, x);
	else
		sweep_end(w, x, EV_EXPIRED);
}

static bool
credential_is_over(const struct turn *t, struct shard *s, const struct session *x)
{
	const struct session_key *k = session_key(s, x);

	return t->policy->auth.strict_expiry && k->gen == x->gen &&
	    atomic_load_explicit(&x->state, memory_order_relaxed) == SESSION_LIVE &&
	    k->credential_expiry != 0 && t->unix_now >= k->credential_expiry;
}

uint32_t
turn_sweep(struct turn *t, struct shard *s, uint32_t cursor, uint32_t n, struct turn_out *scratch,
    turn_swept_h *cb, void *arg)
{
	struct sweep w = { .t = t, .s = s, .out = scratch, .cb = cb, .arg = arg };
	uint32_t high = shard_high(s);

	for (uint32_t i = 0; i < n && i < high; i++) {
		struct session *x = &s->slots[(cursor + i) % high];

		if (credential_is_over(t, s, x))
			sweep_end(&w, x, EV_CLOSED);
	}
	t->token_cursor = token_sweep(t->cross, t->token_cursor, TOKEN_STEP, t->now);
	return session_sweep(s, cursor, n, t->now, session_over, &w);
}
