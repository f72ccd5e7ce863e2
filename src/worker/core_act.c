/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * core_act.c: what the core says is carried out: sockets are opened and closed, requests wait for a key or
 * a socket.
 */
#include "config.h"

#include "worker_int.h"

void
core_busy(struct worker *w, enum busy_phase phase, const struct lane *l, uint32_t slot, uint32_t gen,
    const struct addr *from, const uint8_t *p, size_t len)
{
	struct stat_busy *b = &w->stat->busy;

	b->shard = l->shard.index;
	b->slot = slot;
	b->gen = gen;
	b->source = *from;
	b->len = (uint16_t)len;
	if (len >= sizeof b->head)
		memcpy(b->head, p, sizeof b->head);
	else
		memcpy(b->head, p, len);
	atomic_store_explicit((_Atomic uint32_t *)&b->phase, phase, memory_order_relaxed);
}

void
core_idle(struct worker *w)
{
	atomic_store_explicit((_Atomic uint32_t *)&w->stat->busy.phase, BUSY_IDLE, memory_order_relaxed);
}

/* ---- effects ---------------------------------------------------------------------------------------- */

static void
effects(struct worker *w, struct lane *l)
{
	struct turn_out *o = &w->out;

	if (o->close_count > 0) {
		/* What still waits to go out through them goes first. */
		udp_flush_up(w);
		for (unsigned i = 0; i < o->close_count && i < TP_COUNT(o->close); i++)
			relays_close(w, l, o->close[i]);
		o->close_count = 0;
	}
	if (o->drop != DROP_NONE && o->reason != REASON_NONE)
		worklog_limit(w, o->reason, &o->whom);
	relays_unreserve(w, l, o->unreserve);
	o->unreserve = 0;
	if (o->event != EV_NONE)
		worklog_event(w, l, o);
}

bool
core_close(struct worker *w, struct lane *l, struct session_ref ref, enum reason why)
{
	if (turn_close(&w->turn, &l->shard, ref, why, &w->out) != TURN_DONE)
		return false;
	effects(w, l);
	return true;
}

enum turn_act
core_effects(struct worker *w, struct lane *l, enum turn_act act)
{
	struct turn_out *o = &w->out;

	effects(w, l);
	if (act == TURN_DROP && o->drop == DROP_BANDWIDTH)
		worklog_over(w, l, o);
	if (!o->open_do || relays_open(w, l, o->open))
		return act;
	/* The session ends, and its client, unanswered, tries again. */
	struct session_ref ref = o->open;
	(void)core_close(w, l, ref, REASON_END_SOCKET);
	return TURN_DONE;
}

/* since: when the message came. */
static enum turn_act
input(struct worker *w, struct lane *l, const struct turn_in *in, tp_ms since)
{
	enum turn_act act;

	core_busy(w, BUSY_CLIENT, l, SLOT_NONE, 0, &in->client, in->buf, in->len);
	act = turn_client_input(&w->turn, in, &w->out);
	if (w->out.event == EV_ALLOCATED || w->out.event == EV_REPLACED)
		stat_observe(w->stat, SPREAD_SETUP, w->turn.now - since);
	act = core_effects(w, l, act);
	core_idle(w);
	return act;
}

enum turn_act
core_input(struct worker *w, struct lane *l, const struct turn_in *in)
{
	return input(w, l, in, w->turn.now);
}

/* ---- requests that wait ----------------------------------------------------------------------------- */

struct pending_entry *
core_wait(struct worker *w, struct lane *l, const struct turn_in *in, enum turn_act act)
{
	struct pending_entry *e = pending_put(w, l, in);

	if (e == NULL)
		return NULL;
	if (in->conn != 0) {
		e->conn = in->conn;
		e->conn_gen = conn_at(&l->shard, in->conn - 1)->gen;
	}
	if (act == TURN_NEED_KEY)
		pending_ask_key(w, e);
	else
		pending_ask_relay(w, e, &w->out.want);
	return e;
}

/* Plain UDP has no state beside the entry. */
static struct turn_in
input_of(struct lane *l, struct pending_entry *e)
{
	return (struct turn_in){ .shard = &l->shard,
		.pool = &l->pool,
		.client = e->client,
		.listener = e->listener,
		.transport = e->transport,
		.buf = e->bytes,
		.len = e->len };
}

static void
answer(struct worker *w, struct lane *l, const struct turn_in *in, enum turn_act act)
{
	const struct turn_out *o = &w->out;

	if (in->transport != TRANSPORT_UDP)
		w->client[in->transport]->answer(w, l, in, act);
	else if (act == TURN_TO_CLIENT)
		udp_to_client(w, l, o->listener, &o->to, o->p, o->len, true);
}

void
core_resume(struct worker *w, struct pending_entry *e)
{
	struct lane *l = &w->lane[e->shard_lane];
	struct turn_in in = input_of(l, e);
	enum turn_act act;

	if (e->transport != TRANSPORT_UDP && !w->client[e->transport]->waited(w, l, e, &in)) {
		pending_free(w, e);
		return;
	}
	in.grant = e->has_grant ? &e->grant : NULL;
	in.offer = e->has_offer ? &e->offer : NULL;
	act = input(w, l, &in, e->since);
	if (e->has_offer)
		e->offer = (struct turn_offer){ 0 }; /* the core has put it all somewhere */
	if (act == TURN_NEED_RELAY && !e->has_offer) {
		pending_ask_relay(w, e, &w->out.want);
		return;
	}
	/* A NEED that was answered once is not asked again: that would go on without end. */
	answer(w, l, &in, act);
	pending_free(w, e);
}

void
core_expire(struct worker *w)
{
	struct pending_entry *e;

	while ((e = pending_overdue(w)) != NULL) {
		struct pending_entry was = { .conn = e->conn,
			.conn_gen = e->conn_gen,
			.shard_lane = e->shard_lane,
			.transport = e->transport };
		stat_drop(w->stat, DROP_PENDING_EXPIRED);
		pending_free(w, e);
		if (was.transport != TRANSPORT_UDP)
			w->client[was.transport]->expired(w, &w->lane[was.shard_lane], &was);
	}
}
