/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * dtls.c: datagrams of DTLS listeners, record by record.
 *
 *	a hello        dtls_hello.c
 *	a handshake    to turnpike-tls, if its 5-tuple returned a cookie
 *	a session      not seen before -> opened in place -> marked -> core
 *
 * Outward a number is taken, and stored, before anything is sealed with it.  What is in the hands of a
 * worker that dies is lost, as datagrams are; nothing is ever sent twice under one number or accepted
 * twice.
 */
#include "config.h"

#include "worker_int.h"

#define SPARE_MAX 2048

/* ---- out ------------------------------------------------------------------------------------- */

static void
put(struct worker *w, struct lane *l, struct conn *c, uint8_t type, const uint8_t *data, size_t len)
{
	const struct seal *k = conn_seal(l, c);
	struct seal_dtls *d = &assoc_place(l, c)->dtls;
	size_t room = seal_before(k) + len + seal_after(k);
	TP_UNSET uint8_t spare[SPARE_MAX];
	uint64_t seq;

	if (len > seal_plain_max(k)) {
		stat_drop(w->stat, DROP_TOO_LARGE);
		return;
	}
	if (seal_dtls_spent(d)) {
		conn_mark_end(w, l, c, END_KEYS);
		return;
	}
	uint8_t *at = udp_arena_take(w->arena, room);
	if (at == NULL && room <= sizeof spare)
		at = spare;
	if (at == NULL || seal_dtls_take(d, &seq) < 0) {
		stat_drop(w->stat, DROP_STREAM_ROOM);
		return;
	}
	CRASH_POINT("dtls:taken");
	int n = seal_dtls_seal(k, &w->seal, seq, type, data, len, at, room);
	if (n < 0) {
		stat_drop(w->stat, DROP_SEND_ERROR);
		return;
	}
	CRASH_POINT("dtls:sealed");
	udp_to_client(w, l, c->listener, &c->client, at, (size_t)n, at == spare);
}

static void
relayed(struct worker *w, struct lane *l, const struct turn_out *o)
{
	struct conn *c = conn_at(&l->shard, o->conn - 1);

	if (c == NULL || conn_ends(c) || c->transport != TRANSPORT_DTLS || !addr_eq(&c->client, &o->to)) {
		stat_drop(w->stat, DROP_STALE_EVENT);
		return;
	}
	put(w, l, c, SEAL_T_DATA, o->p, o->len);
}

void
dtls_final(struct worker *w, struct lane *l, struct conn *c)
{
	struct assoc_place *p = assoc_place(l, c);
	uint8_t flight[SEAL_FINAL_MAX];
	int n = seal_final_flight(conn_seal(l, c), &w->seal, &p->dtls, &p->final, flight, sizeof flight);

	if (n > 0)
		udp_to_client(w, l, c->listener, &c->client, flight, (size_t)n, true);
}

static void
goodbye(struct worker *w, struct lane *l, struct conn *c, int alert)
{
	uint8_t record[SEAL_OVERHEAD_MAX + 2];
	uint64_t seq;
	int n;

	if (alert < 0 || seal_dtls_take(&assoc_place(l, c)->dtls, &seq) < 0)
		return;
	n = seal_dtls_alert(conn_seal(l, c), &w->seal, seq, (enum seal_alert)alert, record, sizeof record);
	if (n > 0)
		udp_to_client(w, l, c->listener, &c->client, record, (size_t)n, true);
}

/* ---- in -------------------------------------------------------------------------------------- */

/* Sends what the core made of a message. */
static void
send_word(struct worker *w, struct lane *l, struct conn *c, enum turn_act act)
{
	if (act == TURN_TO_PEER)
		udp_to_peer(w, &w->out);
	else if (act == TURN_TO_CLIENT)
		put(w, l, c, SEAL_T_DATA, w->out.p, w->out.len);
}

static void
input(struct worker *w, struct lane *l, struct conn *c, uint32_t tag, uint8_t *p, size_t len)
{
	struct turn_in in = { .shard = &l->shard,
		.pool = &l->pool,
		.client = c->client,
		.listener = c->listener,
		.transport = TRANSPORT_DTLS,
		.conn = conn_slot(&l->shard, c) + 1,
		.buf = p,
		.len = len,
		.tagged = true,
		.tag = tag };
	enum turn_act act;

	c->seen = (uint32_t)(w->turn.now / 1000);
	act = core_input(w, l, &in);
	if (w->out.drop == DROP_NONE)
		c->heard = 1;
	if (act == TURN_NEED_KEY || act == TURN_NEED_RELAY)
		(void)core_wait(w, l, &in, act);
	else
		send_word(w, l, c, act);
}

static void
record(
    struct worker *w, struct lane *l, struct conn *c, uint32_t tag, const struct seal_dhead *h, uint8_t *p)
{
	const struct seal *k = conn_seal(l, c);
	struct seal_dtls *d = &assoc_place(l, c)->dtls;
	size_t before = seal_before(k);
	uint8_t *out = p + before;
	struct seal_in in;
	int rc;

	if (!seal_window_fresh(d, h->seq)) {
		d->replayed++;
		stat_drop(w->stat, DROP_DTLS_REPLAY);
		return;
	}
	rc = h->len < before ? SEAL_F_DECODE
			     : seal_dtls_open(k, &w->seal, p, h->len, out, h->len - before, &in);
	if (rc < 0) {
		stat_drop(w->stat, rc == SEAL_F_MAC ? DROP_DTLS_MAC : DROP_DTLS_RECORD);
		if (rc == SEAL_F_MAC && seal_bad(d))
			conn_mark_end(w, l, c, END_MAC);
		return;
	}
	CRASH_POINT("dtls:opened");
	seal_window_mark(d, h->seq);
	CRASH_POINT("dtls:marked");
	switch (in.kind) {
	case SEAL_DATA:
		input(w, l, c, tag, out, in.len);
		return;
	case SEAL_FINISHED:
		dtls_final(w, l, c);
		return;
	case SEAL_CLOSE:
		conn_mark_end(w, l, c, END_GOODBYE);
		return;
	case SEAL_FATAL:
		conn_mark_end(w, l, c, END_ALERT);
		return;
	default:
		return; /* a renegotiation is not answered */
	}
}

/* Beside a live session only what may be of the handshake that is to replace it. */
static bool
is_handshake(const struct seal_dhead *h)
{
	return h->dclass == SEAL_D_HANDSHAKE ||
	    (h->dclass == SEAL_D_SESSION && h->type == SEAL_T_HANDSHAKE);
}

void
dtls_datagram(struct worker *w, struct lane *l, unsigned row, const struct addr *from, uint32_t tag,
    uint8_t *p, size_t len)
{
	struct conn *c = assoc_find(l, from, row, tag);
	struct seal_dhead h;
	bool first = true;

	if (source_is_bad(w->policy[0], from)) {
		stat_drop(w->stat, DROP_SOURCE);
		return;
	}
	for (int n; len > 0; p += n, len -= (size_t)n, first = false) {
		n = seal_dtls_head(&h, p, len);
		if (n < 0) {
			stat_drop(w->stat, DROP_DTLS_RECORD);
			return;
		}
		if (h.dclass == SEAL_D_HELLO) {
			hello_datagram(w, l, row, from, c, p, len);
			return;
		}
		if (h.dclass == SEAL_D_IGNORE) {
			stat_drop(w->stat, DROP_DTLS_RECORD);
			continue;
		}
		if ((c == NULL || (first && is_handshake(&h))) && hello_is_proved(w, l, row, from))
			hello_pass_on(w, l, row, from, p, len, false, 0);
		else if (c == NULL)
			stat_drop(w->stat, DROP_DTLS_STRAY);
		if (c != NULL && h.dclass == SEAL_D_SESSION)
			record(w, l, c, tag, &h, p);
		if (c == NULL || conn_ends(c))
			return;
	}
}

/* ---- the table of transports ----------------------------------------------------------------- */

static bool
waited(struct worker *w, struct lane *l, struct pending_entry *e, struct turn_in *in)
{
	uint32_t tag = session_prefetch(&l->shard, &e->client, TRANSPORT_DTLS, e->listener);
	const struct conn *c = assoc_find(l, &e->client, e->listener, tag);

	(void)w;
	/* Another one may have taken its place. */
	if (c == NULL || c->gen != e->conn_gen)
		return false;
	in->conn = conn_slot(&l->shard, c) + 1;
	return true;
}

static void
answer(struct worker *w, struct lane *l, const struct turn_in *in, enum turn_act act)
{
	send_word(w, l, conn_at(&l->shard, in->conn - 1), act);
}

static void
expired(struct worker *w, struct lane *l, const struct pending_entry *e)
{
	(void)w, (void)l, (void)e; /* its client sends it again */
}

static bool
is_valid(const struct conn *c)
{
	return c->heard != 0;
}

static void
flush(struct worker *w, struct lane *l, struct conn *c)
{
	(void)w, (void)l, (void)c; /* records leave with the datagrams */
}

const struct client_ops client_dtls = {
	.relayed = relayed,
	.waited = waited,
	.answer = answer,
	.expired = expired,
	.is_valid = is_valid,
	.flush = flush,
	.goodbye = goodbye,
};
