/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * handshake.c: turnpike-tls processes make handshakes.  A connection that begins with TLS is handed over
 * unread; its keys and the last flight come back.  They are published before a byte of the flight is
 * sent, and only then acknowledged: until then turnpike-tls repeats them, to a successor as well.
 */
#include "config.h"

#include <errno.h>

#include "worker_int.h"

#define HANDSHAKE_BURST 32

static struct hs_who
who_of(const struct lane *l, const struct conn *c)
{
	return (struct hs_who){ .request = (uint64_t)conn_slot(&l->shard, c) << 32 | c->gen,
		.shard = l->shard.index,
		.row = c->listener,
		.client = c->client };
}

void
handshake_begin(struct worker *w, struct lane *l, struct conn *c)
{
	struct conn_tx t;

	c->deadline = TP_SEC_UP(w->turn.now) + w->handshake_seconds;
	c->transport = TRANSPORT_TLS;
	if (conn_now(c)->in.ring != 0) {
		tx_begin(&t, w, l, c);
		tx_empty(&t, TX_IN);
		tx_commit(&t);
	}
	conn_publish(c, CONN_SHAKING);
	stream_arm(w, l, c);
	handshake_hand_over(w, l, c);
}

void
handshake_hand_over(struct worker *w, struct lane *l, struct conn *c)
{
	struct msg_hs_stream *m = tlsd_box(w, l, tlsd_of(w, &c->client), MSG_HS_STREAM, c->fd);

	if (m != NULL)
		m->who = who_of(l, c);
	else
		conn_stall(w, l, c, STALL_TLSD);
}

void
handshake_cancel(struct worker *w, struct lane *l, const struct conn *c)
{
	struct msg_hs_cancel *m = tlsd_box(w, l, tlsd_of(w, &c->client), MSG_HS_CANCEL, -1);

	if (m != NULL)
		m->who = who_of(l, c);
}

/* The keys, then the record: CONN_OPEN is stored last.  0; -ENOBUFS: no ring now, turnpike-tls offers
 * it again; -EPROTO. */
static int
publish(struct worker *w, struct lane *l, struct conn *c, const struct msg_hs_done *m,
    const struct seal_session *s)
{
	uint64_t received, written;
	size_t len = m->pieces == 1 ? m->piece[0] : 0;
	struct conn_tx t;
	uint8_t *at = NULL;

	if (m->pieces > 1 || len > sizeof m->flight || sock_stream_counts(c->fd, &received, &written) < 0 ||
	    !seal_valid(&s->keys) || s->keys.proto == SEAL_DTLS12)
		return -EPROTO;
	c->in_recv = received;
	c->out_sent = written;
	tx_begin(&t, w, l, c);
	*t.next = (struct conn_rec){ .flags = (t.next->flags & ~(uint32_t)CONN_CHOOSE) | CONN_SEALED,
		.in_parsed = received,
		.out_head = written };
	memcpy(t.next->seal_pos, &s->pos, sizeof s->pos);
	if (len > 0 && (at = tx_room(&t, TX_OUT, len)) == NULL) {
		tx_abort(&t);
		return -ENOBUFS;
	}
	if (len > 0)
		memcpy(at, m->flight, len);
	t.next->out_head += len;
	*conn_seal(l, c) = s->keys;
	if (s->keys.proto == SEAL_TLS13)
		*conn_traffic(l, c) = s->secrets;
	conn_key(&l->shard, c)->gen = c->gen;
	CRASH_POINT("shake:keys");
	c->deadline = TP_SEC_UP(w->turn.now) + w->streams.deadline;
	tx_commit(&t);
	conn_publish(c, CONN_OPEN);
	return 0;
}

/* False: not to be acknowledged yet. */
static bool
stream_done(struct worker *w, struct lane *l, const struct msg_hs_done *m)
{
	struct conn *c = lane_conn(l, &m->who);
	struct seal_session s;
	int rc;

	if (c == NULL || conn_ends(c) ||
	    atomic_load_explicit(&c->state, memory_order_relaxed) != CONN_SHAKING)
		return true;
	memcpy(&s, m->session, sizeof s);
	rc = publish(w, l, c, m, &s);
	explicit_bzero(&s, sizeof s);
	if (rc == -ENOBUFS)
		return false;
	if (rc < 0) {
		conn_mark_end(w, l, c, END_HANDSHAKE);
		return true;
	}
	(void)conn_supersede(w, l, c);
	conn_touch(w, l, c);
	return true;
}

static void
done(struct worker *w, struct lane *l, unsigned tlsd, const struct msg_hs_done *m)
{
	struct msg_hs_ack *ack;
	bool taken = true;

	CRASH_POINT("shake:done");
	if (m->who.dtls != 0)
		assoc_done(w, l, m);
	else
		taken = stream_done(w, l, m);
	CRASH_POINT("shake:published");
	/* Lost in a full queue it is asked for again. */
	if (taken && (ack = tlsd_box(w, l, tlsd, MSG_HS_ACK, -1)) != NULL)
		ack->who = m->who;
}

/* What an operator is told of; the rest is the client's own affair, or said elsewhere. */
static enum reason
reason_of(uint8_t why)
{
	static const uint8_t of[HS_REASONS] = {
		[HS_R_TIMEOUT] = REASON_HS_TIMEOUT,
		[HS_R_ALERT] = REASON_HS_ALERT,
		[HS_R_PROTOCOL] = REASON_HS_PROTOCOL,
		[HS_R_NO_MATCH] = REASON_HS_PARAMETERS,
		[HS_R_VERSION] = REASON_HS_VERSION,
		[HS_R_ALPN] = REASON_HS_ALPN,
		[HS_R_UNTRUSTED] = REASON_HS_UNTRUSTED,
		[HS_R_CROWDED] = REASON_LIMIT_HALF_TOTAL,
		[HS_R_CROWDED_PREFIX] = REASON_LIMIT_HALF_PREFIX,
	};

	return why < HS_REASONS ? of[why] : REASON_NONE;
}

static void
failed(struct worker *w, struct lane *l, const struct msg_hs_fail *m)
{
	struct conn *c = lane_conn(l, &m->who);

	worklog_handshake(
	    w, l, &m->who.client, m->who.dtls != 0 ? TRANSPORT_DTLS : TRANSPORT_TLS, reason_of(m->reason));
	if (c != NULL && atomic_load_explicit(&c->state, memory_order_relaxed) == CONN_SHAKING)
		conn_mark_end(w, l, c, END_HANDSHAKE);
}

void
handshake_readable(struct worker *w, struct lane *l, unsigned tlsd)
{
	union msg m;
	int fd;

	for (unsigned i = 0; i < HANDSHAKE_BURST && tlsd < w->start.tlsd_count; i++) {
		int rc = ipc_recv(l->told.tlsd_fd[tlsd], ROLE_TLSD, ROLE_WORKER, &m, &fd);
		if (rc == -EPROTO) {
			stat_add(w->stat, STAT_MSG_BAD, 1);
			continue;
		}
		if (rc != 1)
			/* the supervisor holds the other end: a turnpike-tls's death does not close it */
			break;
		if (m.h.type == MSG_HS_DONE)
			done(w, l, tlsd, &m.msg_hs_done);
		else if (m.h.type == MSG_HS_FAIL)
			failed(w, l, &m.msg_hs_fail);
		else if (m.h.type == MSG_HS_REPLY)
			assoc_reply(w, l, &m.msg_hs_reply);
	}
	explicit_bzero(&m, sizeof m);
}
