/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * handshake: handshakes, which turnpike-tls processes make.  A connection that begins with TLS is handed over unread; what comes back are its
 * keys and the last flight.  They are published before a byte of that is sent, and only then acknowledged: until then the
 * turnpike-tls says it again, to a successor as well.
 */
#include "config.h"

#include <errno.h>

#include "worker_int.h"

#define HANDSHAKE_BURST 32
#define BURST_SECONDS 10		/* limits.handshakes_per_prefix at once */

unsigned
handshake_tlsd(const struct worker *w, const struct addr *client)
{
	unsigned sum = 0;

	for (unsigned i = 0; i < sizeof client->ip; i++)
		sum = sum * 31 + client->ip[i];
	return sum % w->start.tlsd_count;
}

static struct hs_who
who_of(const struct lane *l, const struct conn *c)
{
	return (struct hs_who){ .request = (uint64_t)conn_slot(&l->shard, c) << 32 | c->gen,
		.shard = l->shard.index, .row = c->listener, .client = c->client };
}

bool
handshake_may_begin(struct worker *w, const struct lane *l, const struct addr *client, uint8_t transport)
{
	uint32_t rate = w->streams.handshakes;

	if (rate == 0 || rate_take(&w->cross, RATE_SHAKE, cross_prefix(&w->cross, client), rate, rate * BURST_SECONDS, w->turn.now))
		return true;
	stat_drop(w->stat, DROP_HANDSHAKE_RATE);
	worklog_handshake(w, l, client, transport, REASON_HS_RATE);
	return false;
}

static void
ask(struct worker *w, struct lane *l, struct conn *c)
{
	struct msg_hs_stream *m = tlsd_box(w, l, handshake_tlsd(w, &c->client), MSG_HS_STREAM, c->fd);

	if (m != NULL)
		m->who = who_of(l, c);
	else
		handshake_wait(l, c);
}

bool
handshake_begin(struct worker *w, struct lane *l, struct conn *c)
{
	uint32_t ring = conn_now(c)->in.ring;

	c->deadline = TP_SEC_UP(w->turn.now) + w->handshake_seconds;
	c->transport = TRANSPORT_TLS;
	if (ring != 0) {
		conn_next(c)->in.ring = 0;
		conn_commit(c);
		ring_give(&l->shard, ring);
	}
	conn_publish(c, CONN_SHAKING);
	stream_arm(w, l, c);
	if (!handshake_may_begin(w, l, &c->client, TRANSPORT_TLS)) {
		stream_close(w, l, c);
		return false;
	}
	if (w->start.tlsd_count == 0) {
		stat_drop(w->stat, DROP_STREAM_ROOM);
		stream_close(w, l, c);
		return false;
	}
	ask(w, l, c);
	return true;
}

void
handshake_wait(struct lane *l, struct conn *c)
{
	if (c == NULL || c->unasked != 0)
		return;
	c->unasked = 1;
	l->unasked++;
}

void
handshake_forget(struct lane *l, struct conn *c)
{
	if (c->unasked == 0)
		return;
	c->unasked = 0;
	l->unasked--;
}

void
handshake_again(struct worker *w, struct lane *l)
{
	uint32_t high = conn_high(&l->shard);

	for (uint32_t n = 0; n < high && l->unasked > 0; n++) {
		struct conn *c = conn_at(&l->shard, l->unasked_cursor < high ? l->unasked_cursor : 0);
		l->unasked_cursor = l->unasked_cursor + 1 < high ? l->unasked_cursor + 1 : 0;
		if (c == NULL || c->unasked == 0)
			continue;
		handshake_forget(l, c);
		ask(w, l, c);
		if (c->unasked != 0)
			return;			/* still no room */
	}
}

void
handshake_cancel(struct worker *w, struct lane *l, const struct conn *c)
{
	struct msg_hs_cancel *m = NULL;

	if (w->start.tlsd_count > 0)
		m = tlsd_box(w, l, handshake_tlsd(w, &c->client), MSG_HS_CANCEL, -1);
	if (m != NULL)
		m->who = who_of(l, c);
}

struct conn *
handshake_conn(struct lane *l, const struct hs_who *who)
{
	struct conn *c = who->shard == l->shard.index && !who->dtls ? conn_at(&l->shard, (uint32_t)(who->request >> 32)) : NULL;

	return c != NULL && c->gen == (uint32_t)who->request ? c : NULL;
}

/* False: it cannot go on. */
static bool
publish(struct worker *w, struct lane *l, struct conn *c, const struct msg_hs_done *m)
{
	struct conn_rec *next = conn_next(c);
	struct seal_session s;
	uint64_t received, written;
	uint32_t old;
	size_t len = m->pieces == 1 ? m->piece[0] : 0;
	bool ok;

	if (m->pieces > 1 || len > sizeof m->flight || sock_stream_counts(c->fd, &received, &written) < 0)
		return false;
	memcpy(&s, m->session, sizeof s);
	ok = seal_valid(&s.keys) && s.keys.proto != SEAL_DTLS12;
	if (ok) {
		*conn_seal(l, c) = s.keys;
		if (s.keys.proto == SEAL_TLS13)
			*conn_traffic(l, c) = s.secrets;
		conn_key(&l->shard, c)->gen = c->gen;
		CRASH_POINT("shake:keys");
		c->in_recv = received;
		c->out_sent = written;
		*next = (struct conn_rec){ .flags = (next->flags & ~(uint32_t)CONN_CHOOSE) | CONN_SEALED, .in_parsed = received,
			.out_head = written };
		memcpy(next->seal_pos, &s.pos, sizeof s.pos);
		if (len > 0 && ring_reserve(&l->shard, &next->out, written, written, len, &old)) {
			memcpy(ring_at(&l->shard, &next->out, written), m->flight, len);
			next->out_head += len;
		} else {
			ok = len == 0;
		}
	}
	explicit_bzero(&s, sizeof s);
	if (!ok)
		return false;
	c->deadline = TP_SEC_UP(w->turn.now) + w->streams.deadline;
	conn_commit(c);
	conn_publish(c, CONN_OPEN);
	return true;
}

static void
done(struct worker *w, struct lane *l, unsigned tlsd, const struct msg_hs_done *m)
{
	struct conn *c = handshake_conn(l, &m->who);
	struct msg_hs_ack *ack;

	CRASH_POINT("shake:done");
	if (m->who.dtls != 0)
		assoc_done(w, l, m);
	if (c != NULL && atomic_load_explicit(&c->state, memory_order_relaxed) == CONN_SHAKING) {
		if (publish(w, l, c, m)) {
			stream_supersede(w, l, c);
			stream_touch(w, l, c);
		} else {
			stream_close(w, l, c);
		}
	}
	CRASH_POINT("shake:published");
	/* Lost in a full queue it is asked for again. */
	if ((ack = tlsd_box(w, l, tlsd, MSG_HS_ACK, -1)) != NULL)
		ack->who = m->who;
}

/* What an operator is told of; the rest is the client's own affair, or said elsewhere. */
static enum reason
reason_of(uint8_t why)
{
	static const uint8_t of[HS_REASONS] = {
		[HS_R_TIMEOUT] = REASON_HS_TIMEOUT, [HS_R_ALERT] = REASON_HS_ALERT, [HS_R_PROTOCOL] = REASON_HS_PROTOCOL,
		[HS_R_NO_MATCH] = REASON_HS_PARAMETERS, [HS_R_VERSION] = REASON_HS_VERSION, [HS_R_ALPN] = REASON_HS_ALPN,
		[HS_R_UNTRUSTED] = REASON_HS_UNTRUSTED,
	};

	return why < HS_REASONS ? of[why] : REASON_NONE;
}

static void
failed(struct worker *w, struct lane *l, const struct msg_hs_fail *m)
{
	struct conn *c = handshake_conn(l, &m->who);

	worklog_handshake(w, l, &m->who.client, m->who.dtls != 0 ? TRANSPORT_DTLS : TRANSPORT_TLS, reason_of(m->reason));
	if (c != NULL && atomic_load_explicit(&c->state, memory_order_relaxed) == CONN_SHAKING)
		stream_close(w, l, c);
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
			break;			/* the supervisor holds the other end: a turnpike-tls's death does not close it */
		if (m.h.type == MSG_HS_DONE)
			done(w, l, tlsd, &m.msg_hs_done);
		else if (m.h.type == MSG_HS_FAIL)
			failed(w, l, &m.msg_hs_fail);
		else if (m.h.type == MSG_HS_REPLY)
			assoc_reply(w, l, &m.msg_hs_reply);
	}
	explicit_bzero(&m, sizeof m);
}
