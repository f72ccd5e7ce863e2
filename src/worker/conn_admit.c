/* SPDX-License-Identifier: BSD-3-Clause */
/* conn_admit.c: how a connection begins: its slot, its client, its limits; and when its time is over. */
#include "config.h"

#include <unistd.h>

#include "worker_int.h"

#define IDLE_SECONDS    600 /* without an allocation and without a message */
/* When rings run short, this is how long a connection without an allocation may hold one. */
#define PRESSED_SECONDS 2
#define BURST_SECONDS   10 /* limits.handshakes_per_prefix at once */

bool
conn_from_proxy(const struct worker *w, unsigned row, const struct addr *peer)
{
	for (unsigned i = 0; i < w->rows[row].proxy_count; i++)
		if (cidr_has(&w->rows[row].proxy[i], peer))
			return true;
	return false;
}

bool
conn_supersede(struct worker *w, struct lane *l, const struct conn *c)
{
	const struct session *x = session_find(&l->shard, &c->client, c->transport, c->listener);
	struct conn *old = x != NULL && x->conn != 0 ? conn_at(&l->shard, x->conn - 1) : NULL;

	/* Its end is only not seen yet. */
	if (old == NULL || old == c)
		return false;
	conn_mark_end(w, l, old, END_REPLACED);
	return true;
}

bool
conn_admit(struct worker *w, struct lane *l, struct conn *c, const struct addr *client)
{
	uint64_t prefix = cross_prefix(&w->cross, client);

	if (!cross_conn_fits(&w->cross, w->start.shard_count, prefix, &w->streams.limits)) {
		worklog_conn_limit(w, client);
		conn_mark_end(w, l, c, END_LIMIT);
		return false;
	}
	c->client = *client;
	if (c->prefix == 0) { /* a header that is read again after a death counts once */
		c->prefix = prefix;
		cross_conn_add(&w->cross, l->shard.index, prefix, 1);
	}
	(void)conn_supersede(w, l, c);
	return true;
}

struct conn *
conn_open(struct worker *w, struct lane *l, int fd, unsigned row, const struct addr *peer)
{
	struct conn *c = conn_new(&l->shard, TRANSPORT_TCP);
	bool proxy = conn_from_proxy(w, row, peer), tls = (w->rows[row].transports & TRANSPORT_TLS) != 0;

	if (c == NULL) {
		stat_drop(w->stat, DROP_STREAM_ROOM);
		conn_forget_fd(w, l, fd);
		return NULL;
	}
	c->fd = fd;
	c->listener = (uint16_t)row;
	c->peer = c->client = *peer;
	c->seen = (uint32_t)(w->turn.now / 1000);
	c->deadline = TP_SEC_UP(w->turn.now) + w->streams.deadline;
	conn_recs(c)->flags = (proxy ? CONN_PROXY : 0u) | (tls ? CONN_CHOOSE : 0u);
	conn_publish(c, CONN_OPEN);
	stat_add(w->stat, STAT_STREAMS_OPENED, 1);
	if (!proxy)
		(void)conn_admit(w, l, c, peer);
	return c;
}

bool
conn_may_shake(struct worker *w, const struct lane *l, const struct addr *client, uint8_t transport)
{
	uint32_t rate = w->streams.handshakes;
	uint64_t prefix = cross_prefix(&w->cross, client);

	if (rate == 0 || rate_take(&w->cross, RATE_SHAKE, prefix, rate, rate * BURST_SECONDS, w->turn.now))
		return true;
	stat_drop(w->stat, DROP_HANDSHAKE_RATE);
	worklog_handshake(w, l, client, transport, REASON_HS_RATE);
	return false;
}

void
conn_forget_fd(struct worker *w, struct lane *l, int fd)
{
	struct msg_release m = { .h = { MSG_RELEASE, 0 }, .shard = l->shard.index, .fd = fd };

	if (!lane_window(l, fd))
		return;
	lane_unwatch(l, fd);
	/* The supervisor's copy is the last one: the connection ends when it has read RELEASE.  No
	 * shutdown() here: a worker that may call it may end listeners, too. */
	close(fd);
	*lane_use(l, fd) = FD_NONE;
	outbox_put(w, &m);
}

/* ---- time -------------------------------------------------------------------------------------------- */

/* Half a message, or an answer that the client does not read, may hold a ring for so long only. */
static bool
holds_too_long(const struct worker *w, const struct lane *l, const struct conn *c, uint32_t now)
{
	uint32_t since = c->seen > c->ring_since ? c->seen : c->ring_since;
	uint32_t allowed = tx_rings_left(l, false) > 0 ? w->streams.deadline : PRESSED_SECONDS;

	return c->ring_since != 0 && now > since + allowed;
}

static void
sweep_one(struct worker *w, struct lane *l, struct conn *c)
{
	uint32_t now = (uint32_t)(w->turn.now / 1000);
	bool valid = w->client[c->transport]->is_valid(c), late;

	if (!valid && now > c->deadline) {
		conn_mark_end(w, l, c, END_DEADLINE);
		return;
	}
	late = holds_too_long(w, l, c, now);
	if ((!late && (!valid || now - c->seen <= IDLE_SECONDS)) || c->wait != 0 ||
	    session_find(&l->shard, &c->client, c->transport, c->listener) != NULL)
		return;
	conn_mark_end(w, l, c, late ? END_DEADLINE : END_IDLE);
}

/* A tenth of the slots each time. */
void
conn_sweep(struct worker *w, struct lane *l)
{
	uint32_t high = conn_high(&l->shard);

	for (uint32_t n = high == 0 ? 0 : high / TICKS_PER_SEC + 1; n > 0; n--) {
		struct conn *c = conn_at(&l->shard, l->conn_cursor < high ? l->conn_cursor : 0);
		l->conn_cursor = l->conn_cursor + 1 < high ? l->conn_cursor + 1 : 0;
		if (c != NULL && !conn_ends(c))
			sweep_one(w, l, c);
	}
}
