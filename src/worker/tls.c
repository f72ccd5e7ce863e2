/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tls: TLS records of a connection, in the order that room seal asks for.
 *
 *	in:   record in the ring `in` -> opened into the ring `plain` -> commit {in_parsed, plain_head, position}
 *	out:  sealed into the ring `out` -> commit {out_head, position} -> send()
 *
 * The ciphertext is intact until its content is committed; nothing leaves before the number that it was sealed with is.
 */
#include "config.h"

#include "worker_int.h"

_Static_assert(sizeof(struct seal_secrets) == CONN_SECRETS_LEN, "tables of KEYS");
_Static_assert(sizeof(struct seal_pos) == sizeof ((struct conn_rec *)0)->seal_pos, "a position fits");

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

static size_t
sealed_len(const struct seal *k, size_t len)
{
	size_t most = seal_plain_max(k), records = len == 0 ? 1 : (len + most - 1) / most;

	return len + records * (seal_before(k) + seal_after(k));
}

bool
sealed_append(struct worker *w, struct lane *l, struct conn *c, struct conn_rec *next, const uint8_t *p, size_t len,
    uint32_t *old)
{
	const struct seal *k = conn_seal(l, c);
	struct seal_pos pos = pos_of(next);
	size_t most = seal_plain_max(k), total = sealed_len(k, len), piece;
	uint8_t *at;

	if (!ring_reserve(&l->shard, &next->out, c->out_sent, next->out_head, total, old))
		return false;
	at = ring_at(&l->shard, &next->out, next->out_head);
	for (size_t done = 0; done < len; done += piece) {
		piece = len - done < most ? len - done : most;
		int n = seal_seal(k, &pos, &w->seal, SEAL_T_DATA, p + done, piece, at, total, &pos);
		if (n < 0)
			return false;
		at += n;
		total -= (size_t)n;
		next->out_head += (uint64_t)n;
	}
	CRASH_POINT("sealed:sealed");
	pos_set(next, &pos);
	return true;
}

/* ---- alerts and keys --------------------------------------------------------------------------------- */

static void
alert(struct worker *w, struct lane *l, struct conn *c, enum seal_alert what)
{
	const struct seal *k = conn_seal(l, c);
	struct conn_rec *next = conn_next(c);
	struct seal_pos pos = pos_of(next);
	size_t room = sealed_len(k, 2);
	uint32_t old;
	int n;

	if (!ring_reserve(&l->shard, &next->out, c->out_sent, next->out_head, room, &old))
		return;
	n = seal_alert(k, &pos, &w->seal, what, ring_at(&l->shard, &next->out, next->out_head), room, &pos);
	if (n > 0) {
		next->out_head += (uint64_t)n;
		pos_set(next, &pos);
	}
	conn_commit(c);
	ring_give(&l->shard, old);
}

static bool
give_up(struct worker *w, struct lane *l, struct conn *c, int what)
{
	if (what >= 0)
		alert(w, l, c, (enum seal_alert)what);
	stream_write(w, l, c);
	stream_close(w, l, c);
	return false;
}

/* Our own KeyUpdate, into `next`. */
static bool
update(struct worker *w, struct lane *l, struct conn *c, struct conn_rec *next, const struct seal_pos *committed,
    bool request, uint32_t *old)
{
	struct seal *k = conn_seal(l, c);
	struct seal_pos pos = pos_of(next);
	size_t room = sealed_len(k, 5);
	int n;

	if (!ring_reserve(&l->shard, &next->out, c->out_sent, next->out_head, room, old))
		return false;
	n = seal_update(k, &pos, &w->seal, request, ring_at(&l->shard, &next->out, next->out_head), room, &pos);
	if (n < 0 || seal_rekey(k, conn_traffic(l, c), committed, &pos, SEAL_TX) < 0)
		return false;
	CRASH_POINT("sealed:updated");
	next->out_head += (uint64_t)n;
	pos_set(next, &pos);
	return true;
}

bool
sealed_due(struct worker *w, struct lane *l, struct conn *c)
{
	struct seal *k = conn_seal(l, c);
	struct seal_pos committed = pos_of(conn_now(c)), now;
	enum seal_due due = seal_due(k, &committed);
	struct conn_rec *next;
	uint32_t old = 0;

	if (due == SEAL_DUE_NOT)
		return true;
	if (due == SEAL_DUE_END) {
		stat_drop(w->stat, DROP_KEY_LIMIT);
		return give_up(w, l, c, SEAL_A_CLOSE_NOTIFY);
	}
	next = conn_next(c);
	if (!update(w, l, c, next, &committed, due == SEAL_DUE_REQUEST, &old))
		return true;			/* no room now; there are millions of records to try again */
	conn_commit(c);
	ring_give(&l->shard, old);
	now = pos_of(conn_now(c));
	(void)seal_sync(k, conn_traffic(l, c), &now);
	stream_touch(w, l, c);
	return true;
}

/* ---- in ------------------------------------------------------------------------------------------------ */

/* Each costs us a derivation and, when it asks for one, a record; a client needs one in 2^24 records (RFC 8446 5.5). */
#define UPDATES_MOST 32
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

/* What an opened record means; -1: nothing more is wrong with it, else the alert to end with. */
static int
act_on(struct worker *w, struct lane *l, struct conn *c, struct conn_rec *next, const struct seal_in *in, uint32_t *old)
{
	struct seal *k = conn_seal(l, c);
	struct seal_pos committed = pos_of(conn_now(c)), pos = pos_of(next);

	switch (in->kind) {
	case SEAL_DATA:
		next->plain_head += in->len;
		return -1;
	case SEAL_KEY_UPDATE:
		if (!update_allowed(w, next)) {
			stat_drop(w->stat, DROP_STREAM_DESYNC);
			return SEAL_A_UNEXPECTED;
		}
		if (seal_rekey(k, conn_traffic(l, c), &committed, &pos, SEAL_RX) < 0)
			return SEAL_A_INTERNAL;
		CRASH_POINT("sealed:rekeyed");
		pos_set(next, &pos);
		return !in->answer || update(w, l, c, next, &committed, false, old) ? -1 : SEAL_A_INTERNAL;
	default:
		return -1;
	}
}

bool
sealed_open(struct worker *w, struct lane *l, struct conn *c)
{
	struct seal *k = conn_seal(l, c);
	const struct conn_rec *r = conn_now(c);
	size_t n = (size_t)(c->in_recv - r->in_parsed);
	struct seal_pos pos = pos_of(r), after;
	uint32_t old, old_out = 0;
	struct conn_rec *next;
	struct seal_in in;
	int len, rc;

	if (n == 0)
		return false;
	const uint8_t *p = ring_at(&l->shard, &r->in, r->in_parsed);
	len = seal_stream_len(k, p, n);
	if (len < 0)
		return give_up(w, l, c, (int)seal_fault_alert(len));
	if (len == 0 || (size_t)len > n)
		return false;
	next = conn_next(c);
	if (!ring_reserve(&l->shard, &next->plain, next->plain_parsed, next->plain_head, (size_t)len, &old)) {
		stat_drop(w->stat, DROP_STREAM_ROOM);
		return give_up(w, l, c, SEAL_A_INTERNAL);
	}
	rc = seal_open(k, &pos, &w->seal, p, (size_t)len, ring_at(&l->shard, &next->plain, next->plain_head),
	    (size_t)len, &in, &after);
	if (rc < 0) {
		if (next->plain.ring != r->plain.ring)
			ring_give(&l->shard, next->plain.ring);
		stat_drop(w->stat, DROP_STREAM_DESYNC);
		return give_up(w, l, c, (int)seal_fault_alert(rc));
	}
	CRASH_POINT("sealed:opened");
	next->in_parsed += (uint64_t)len;
	pos_set(next, &after);
	rc = act_on(w, l, c, next, &in, &old_out);
	conn_commit(c);
	if (old != 0)
		path_flush_up(w);
	ring_give(&l->shard, old);
	ring_give(&l->shard, old_out);
	after = pos_of(conn_now(c));
	if (in.kind == SEAL_KEY_UPDATE)
		CRASH_POINT("sealed:turned");
	if (seal_sync(k, conn_traffic(l, c), &after) < 0)
		rc = SEAL_A_INTERNAL;
	stream_touch(w, l, c);
	if (rc >= 0 || in.kind == SEAL_CLOSE || in.kind == SEAL_FATAL)
		return give_up(w, l, c, rc >= 0 ? rc : in.kind == SEAL_CLOSE ? SEAL_A_CLOSE_NOTIFY : -1);
	if (in.kind == SEAL_RENEGOTIATE)
		alert(w, l, c, SEAL_A_NO_RENEGOTIATION);
	return true;
}

bool
sealed_adopt(struct lane *l, struct conn *c)
{
	struct seal *k = conn_seal(l, c);
	struct seal_pos pos = pos_of(conn_now(c));

	return conn_key(&l->shard, c)->gen == c->gen && seal_valid(k) && seal_sync(k, conn_traffic(l, c), &pos) == 0;
}
