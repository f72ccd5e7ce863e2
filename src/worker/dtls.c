/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * dtls: datagrams of DTLS listeners, record by record.
 *
 *	a hello        dtls_hello.c
 *	a handshake    to turnpike-tls, if its 5-tuple returned a cookie
 *	a session      not seen before -> opened in place -> marked -> core
 *
 * Outward a number is taken, and stored, before anything is sealed with it.  What is in the hands of a worker that dies is
 * lost, as datagrams are; nothing is ever sent twice under one number or accepted twice.
 */
#include "config.h"

#include "worker_int.h"

#define SPARE_MAX 2048

/* ---- out ------------------------------------------------------------------------------------------------- */

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
		stat_drop(w->stat, DROP_KEY_LIMIT);
		stream_touch(w, l, c);		/* not now: others up the stack still use it */
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
	path_send(w, l, c->listener, &c->client, at, (size_t)n, at == spare);
}

void
dtls_data(struct worker *w, struct lane *l, const struct turn_out *o)
{
	struct conn *c = conn_at(&l->shard, o->conn - 1);

	if (c == NULL || c->transport != TRANSPORT_DTLS || !addr_eq(&c->client, &o->to)) {
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
		path_send(w, l, c->listener, &c->client, flight, (size_t)n, true);
}

void
dtls_goodbye(struct worker *w, struct lane *l, struct conn *c)
{
	uint8_t record[SEAL_OVERHEAD_MAX + 2];
	uint64_t seq;

	if (seal_dtls_take(&assoc_place(l, c)->dtls, &seq) < 0)
		return;
	int n = seal_dtls_alert(conn_seal(l, c), &w->seal, seq, SEAL_A_CLOSE_NOTIFY, record, sizeof record);
	if (n > 0)
		path_send(w, l, c->listener, &c->client, record, (size_t)n, true);
}

void
dtls_due(struct worker *w, struct lane *l, struct conn *c)
{
	if (!seal_dtls_spent(&assoc_place(l, c)->dtls))
		return;
	dtls_goodbye(w, l, c);
	stream_close(w, l, c);
}

/* ---- to turnpike-tls processes ------------------------------------------------------------------------------------------- */

void
dtls_pass_on(struct worker *w, struct lane *l, unsigned row, const struct addr *from, const uint8_t *p, size_t len,
    bool hello, uint64_t name)
{
	struct msg_hs_datagram *m = NULL;

	if (len > sizeof m->datagram) {
		stat_drop(w->stat, DROP_DTLS_RECORD);
		return;
	}
	if (w->start.tlsd_count > 0 &&
	    rate_take(&w->cross, RATE_HANDSHAKE, cross_prefix(&w->cross, from), w->streams.shakes, w->streams.shakes,
	    w->turn.now))
		m = tlsd_box(w, l, handshake_tlsd(w, from), MSG_HS_DATAGRAM, -1);
	if (m == NULL) {
		stat_drop(w->stat, DROP_DTLS_BUSY);
		return;
	}
	m->who = (struct hs_who){ .request = name, .shard = l->shard.index, .row = row, .client = *from, .dtls = 1 };
	m->hello = hello;
	m->len = (uint16_t)len;
	memcpy(m->datagram, p, len);
}

/* ---- in ------------------------------------------------------------------------------------------------------- */

static void
input(struct worker *w, struct lane *l, struct conn *c, uint32_t tag, uint8_t *p, size_t len)
{
	struct turn_in in = { .shard = &l->shard, .pool = &l->pool, .client = c->client, .listener = c->listener,
		.transport = TRANSPORT_DTLS, .conn = conn_slot(&l->shard, c) + 1, .buf = p, .len = len, .tagged = true, .tag = tag };

	c->seen = (uint32_t)(w->turn.now / 1000);
	w->out.drop = DROP_NONE;
	(void)path_input(w, l, &in, NULL);
	if (w->out.drop == DROP_NONE)
		c->heard = 1;
}

/* False: the association is over. */
static bool
record(struct worker *w, struct lane *l, struct conn *c, uint32_t tag, const struct seal_dhead *h, uint8_t *p)
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
		return true;
	}
	rc = h->len < before ? SEAL_F_DECODE :
	    seal_dtls_open(k, &w->seal, p, h->len, out, h->len - before, &in);
	if (rc < 0) {
		stat_drop(w->stat, rc == SEAL_F_MAC ? DROP_DTLS_MAC : DROP_DTLS_RECORD);
		if (rc != SEAL_F_MAC || !seal_bad(d))
			return true;
		stream_close(w, l, c);
		return false;
	}
	CRASH_POINT("dtls:opened");
	seal_window_mark(d, h->seq);
	CRASH_POINT("dtls:marked");
	switch (in.kind) {
	case SEAL_DATA:
		input(w, l, c, tag, out, in.len);
		return true;
	case SEAL_FINISHED:
		dtls_final(w, l, c);
		return true;
	case SEAL_CLOSE:
		dtls_goodbye(w, l, c);
		stream_close(w, l, c);
		return false;
	case SEAL_FATAL:
		stream_close(w, l, c);
		return false;
	default:
		return true;		/* a renegotiation is not answered */
	}
}

/* Beside a live session only what may be of the handshake that is to replace it. */
static bool
is_handshake(const struct seal_dhead *h)
{
	return h->dclass == SEAL_D_HANDSHAKE || (h->dclass == SEAL_D_SESSION && h->type == SEAL_T_HANDSHAKE);
}

void
dtls_datagram(struct worker *w, struct lane *l, unsigned row, const struct addr *from, uint32_t tag, uint8_t *p, size_t len)
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
			dtls_pass_on(w, l, row, from, p, len, false, 0);
		else if (c == NULL)
			stat_drop(w->stat, DROP_DTLS_STRAY);
		if (c == NULL || (h.dclass == SEAL_D_SESSION && !record(w, l, c, tag, &h, p)))
			return;
	}
}

void
dtls_again(struct worker *w, struct lane *l, struct pending_entry *e)
{
	uint32_t tag = session_prefetch(&l->shard, &e->client, TRANSPORT_DTLS, e->listener);
	struct conn *c = assoc_find(l, &e->client, e->listener, tag);

	/* Another one may have taken its place. */
	if (c == NULL || c->gen != e->conn_gen) {
		pending_free(w, e);
		return;
	}
	struct turn_in in = { .shard = &l->shard, .pool = &l->pool, .client = e->client, .listener = e->listener,
		.transport = TRANSPORT_DTLS, .conn = conn_slot(&l->shard, c) + 1, .buf = e->bytes, .len = e->len,
		.grant = e->has_grant ? &e->grant : NULL, .offer = e->has_offer ? &e->offer : NULL };
	if (!path_input(w, l, &in, e))
		pending_free(w, e);
}
