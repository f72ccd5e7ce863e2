/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tls.c: TLS records of a connection, in the order that room seal asks for.
 *
 *	in:   record in the ring `in` -> opened into the ring `plain` -> commit {in_parsed, plain_head, position}
 *	out:  sealed into the ring `out` -> commit {out_head, position} -> send()
 *
 * The ciphertext is intact until its content is committed; nothing leaves before the number that it was
 * sealed with is.
 */
#include "config.h"

#include <errno.h>

#include "worker_int.h"

_Static_assert(sizeof(struct seal_secrets) == CONN_SECRETS_LEN, "tables of KEYS");
_Static_assert(sizeof(struct seal_pos) == sizeof((struct conn_rec *)0)->seal_pos, "a position fits");

static struct seal_pos
pos_of(const struct conn_rec *r)
{
	struct seal_pos p;

	memcpy(&p, r->seal_pos, sizeof p);
	return p;
}

static void
pos_set(struct conn_rec *r, const struct seal_pos *p)
{
	memcpy(r->seal_pos, p, sizeof *p);
}

size_t
sealed_len(const struct seal *k, size_t len)
{
	size_t most = seal_plain_max(k), records = len == 0 ? 1 : (len + most - 1) / most;

	return len + records * (seal_before(k) + seal_after(k));
}

bool
sealed_append(struct conn_tx *t, const uint8_t *p, size_t len)
{
	const struct seal *k = conn_seal(t->l, t->c);
	struct seal_pos pos = pos_of(t->next);
	size_t most = seal_plain_max(k), total = sealed_len(k, len), piece;
	uint8_t *at = tx_room(t, TX_OUT, total);

	if (at == NULL)
		return false;
	for (size_t done = 0; done < len; done += piece) {
		piece = len - done < most ? len - done : most;
		int n = seal_seal(k, &pos, &t->w->seal, SEAL_T_DATA, p + done, piece, at, total, &pos);
		if (n < 0)
			return false;
		at += n;
		total -= (size_t)n;
		t->next->out_head += (uint64_t)n;
	}
	CRASH_POINT("sealed:sealed");
	pos_set(t->next, &pos);
	return true;
}

/* ---- alerts and keys --------------------------------------------------------------------------------- */

void
sealed_alert(struct worker *w, struct lane *l, struct conn *c, enum seal_alert what)
{
	const struct seal *k = conn_seal(l, c);
	size_t room = sealed_len(k, 2);
	struct conn_tx t;
	struct seal_pos pos;
	uint8_t *at;
	int n;

	tx_begin(&t, w, l, c);
	pos = pos_of(t.next);
	at = tx_room(&t, TX_OUT, room);
	n = at != NULL ? seal_alert(k, &pos, &w->seal, what, at, room, &pos) : 0;
	if (n <= 0) {
		tx_abort(&t);
		return;
	}
	t.next->out_head += (uint64_t)n;
	pos_set(t.next, &pos);
	tx_commit(&t);
}

/* Our own KeyUpdate. */
static bool
update(struct conn_tx *t, const struct seal_pos *committed, bool request)
{
	struct seal *k = conn_seal(t->l, t->c);
	struct seal_pos pos = pos_of(t->next);
	size_t room = sealed_len(k, 5);
	uint8_t *at = tx_room(t, TX_OUT, room);
	int n;

	if (at == NULL)
		return false;
	n = seal_update(k, &pos, &t->w->seal, request, at, room, &pos);
	if (n < 0 || seal_rekey(k, conn_traffic(t->l, t->c), committed, &pos, SEAL_TX) < 0)
		return false;
	CRASH_POINT("sealed:updated");
	t->next->out_head += (uint64_t)n;
	pos_set(t->next, &pos);
	return true;
}

void
sealed_due(struct worker *w, struct lane *l, struct conn *c)
{
	struct seal *k = conn_seal(l, c);
	struct seal_pos committed = pos_of(conn_now(c)), now;
	enum seal_due due = seal_due(k, &committed);
	struct conn_tx t;

	if (due == SEAL_DUE_NOT)
		return;
	if (due == SEAL_DUE_END) {
		conn_mark_end(w, l, c, END_KEYS);
		return;
	}
	tx_begin(&t, w, l, c);
	if (!update(&t, &committed, due == SEAL_DUE_REQUEST)) {
		tx_abort(&t);
		return; /* no room now; there are millions of records to try again */
	}
	tx_commit(&t);
	now = pos_of(conn_now(c));
	(void)seal_sync(k, conn_traffic(l, c), &now);
	conn_touch(w, l, c);
}

/* ---- in -------------------------------------------------------------------------------------- */

/* Each costs us a derivation and, when it asks for one, a record; a client needs one in 2^24 records
 * (RFC 8446 5.5). */
#define UPDATES_MOST      32
#define UPDATES_WINDOW_MS 60000

static bool
update_allowed(const struct worker *w, struct conn_rec *next)
{
	uint32_t window = (uint32_t)(w->turn.now / UPDATES_WINDOW_MS);

	if (next->update_window != window) {
		next->update_window = window;
		next->updates = 0;
	}
	return ++next->updates <= UPDATES_MOST;
}

/* What an opened record means.  -1: nothing is wrong with it, else the alert to end with. */
static int
act_on(struct conn_tx *t, const struct seal_in *in)
{
	struct seal *k = conn_seal(t->l, t->c);
	struct seal_pos committed = pos_of(conn_now(t->c)), pos = pos_of(t->next);

	switch (in->kind) {
	case SEAL_DATA:
		t->next->plain_head += in->len;
		return -1;
	case SEAL_KEY_UPDATE:
		if (!update_allowed(t->w, t->next))
			return SEAL_A_UNEXPECTED;
		if (seal_rekey(k, conn_traffic(t->l, t->c), &committed, &pos, SEAL_RX) < 0)
			return SEAL_A_INTERNAL;
		CRASH_POINT("sealed:rekeyed");
		pos_set(t->next, &pos);
		return !in->answer || update(t, &committed, false) ? -1 : SEAL_A_INTERNAL;
	default:
		return -1;
	}
}

/* The length of the record at in_parsed; 0: not whole yet, or the connection was marked. */
static size_t
whole_record(struct worker *w, struct lane *l, struct conn *c)
{
	const struct conn_rec *r = conn_now(c);
	size_t n = (size_t)(c->in_recv - r->in_parsed);
	int len;

	if (n == 0)
		return 0;
	len = seal_stream_len(conn_seal(l, c), ring_at(&l->shard, &r->in, r->in_parsed), n);
	if (len < 0) {
		conn_mark_bad(w, l, c, (int)seal_fault_alert(len));
		return 0;
	}
	return (size_t)len <= n ? (size_t)len : 0;
}

/* Opens it into t's ring `plain`.  0, or a fault; -ENOBUFS: no room. */
static int
open_record(struct conn_tx *t, size_t len, struct seal_in *in)
{
	const struct conn_rec *r = conn_now(t->c);
	const uint8_t *p = ring_at(&t->l->shard, &r->in, r->in_parsed);
	struct seal_pos pos = pos_of(r), after;
	uint8_t *at = tx_room(t, TX_PLAIN, len);
	int err;

	/* A KeyUpdate is answered: room for that must be there before it is acted on. */
	if (at == NULL || !tx_fits(t->l, t->c, TX_OUT, sealed_len(conn_seal(t->l, t->c), 5)))
		return -ENOBUFS;
	err = seal_open(conn_seal(t->l, t->c), &pos, &t->w->seal, p, len, at, len, in, &after);
	if (err < 0)
		return err;
	CRASH_POINT("sealed:opened");
	t->next->in_parsed += len;
	pos_set(t->next, &after);
	return 0;
}

/* What its content asks for, after it is committed. */
static void
carry_on(struct worker *w, struct lane *l, struct conn *c, const struct seal_in *in, int alert)
{
	if (alert >= 0)
		conn_mark_bad(w, l, c, alert);
	else if (in->kind == SEAL_CLOSE)
		conn_mark_end(w, l, c, END_GOODBYE);
	else if (in->kind == SEAL_FATAL)
		conn_mark_end(w, l, c, END_ALERT);
	else if (in->kind == SEAL_RENEGOTIATE)
		sealed_alert(w, l, c, SEAL_A_NO_RENEGOTIATION);
}

bool
sealed_open(struct worker *w, struct lane *l, struct conn *c)
{
	size_t len = whole_record(w, l, c);
	struct seal_pos after;
	struct seal_in in;
	struct conn_tx t;
	int rc;

	if (len == 0)
		return false;
	tx_begin(&t, w, l, c);
	rc = open_record(&t, len, &in);
	if (rc < 0) {
		tx_abort(&t);
		if (rc == -ENOBUFS)
			conn_stall(w, l, c, STALL_RING);
		else
			conn_mark_bad(w, l, c, (int)seal_fault_alert(rc));
		return false;
	}
	rc = act_on(&t, &in);
	tx_commit(&t);
	if (in.kind == SEAL_KEY_UPDATE)
		CRASH_POINT("sealed:turned");
	after = pos_of(conn_now(c));
	if (seal_sync(conn_seal(l, c), conn_traffic(l, c), &after) < 0)
		rc = SEAL_A_INTERNAL;
	conn_touch(w, l, c);
	carry_on(w, l, c, &in, rc);
	return !conn_ends(c);
}

bool
sealed_adopt(struct lane *l, struct conn *c)
{
	struct seal *k = conn_seal(l, c);
	struct seal_pos pos = pos_of(conn_now(c));

	return conn_key(&l->shard, c)->gen == c->gen && seal_valid(k) &&
	    seal_sync(k, conn_traffic(l, c), &pos) == 0;
}
