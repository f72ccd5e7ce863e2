/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * accept: the beginning and the end of connections.
 *
 *	accept4() -> STREAM to the supervisor -> STREAM_AT: its number -> dup3() there -> slot, epoll -> read
 *
 * Nothing is read before the supervisor holds it, so no death of ours loses a byte.  At most ACCEPTS_MAX stand in
 * between; more wait in the listener's queue.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "worker_int.h"

#define ACCEPT_BURST 16
#define IDLE_SECONDS 600		/* without an allocation and without a word */

int
accept_listen(struct worker *w, struct lane *l, bool on)
{
	for (unsigned row = 0; row < CONF_LISTENERS_MAX; row++) {
		const struct conf_listener *c = &w->rows[row];
		bool serve = on && !c->retired && (c->transports & TRANSPORT_STREAMS) != 0;
		struct epoll_event ev = { .events = serve ? EPOLLIN : 0u, .data.u64 = tag_make(TAG_ACCEPT, row, 0, 0) };
		if (l->stream[row] < 0)
			continue;
		int rc = epoll_ctl(l->told.epoll_fd, EPOLL_CTL_ADD, l->stream[row], &ev);
		if (rc < 0 && errno == EEXIST)
			rc = epoll_ctl(l->told.epoll_fd, EPOLL_CTL_MOD, l->stream[row], &ev);
		if (rc < 0)
			return -errno;
	}
	return 0;
}

static void
pause_accepts(struct worker *w, bool on)
{
	if (w->accepts_paused == on)
		return;
	w->accepts_paused = on;
	for (unsigned i = 0; i < w->lane_count; i++)
		(void)accept_listen(w, &w->lane[i], !on);
}

static struct accepting *
accepting_free(struct worker *w)
{
	for (unsigned i = 0; i < ACCEPTS_MAX; i++)
		if (!w->accepting[i].used)
			return &w->accepting[i];
	return NULL;
}

static void
tell(struct worker *w, struct accepting *a)
{
	struct msg_stream m = { .h = { MSG_STREAM, 0 }, .shard = w->lane[a->lane].shard.index, .row = a->row,
		.request = a->id };

	a->told = control_send_fd(w, &m, a->fd);
}

static bool
is_proxy(const struct worker *w, unsigned row, const struct addr *peer)
{
	for (unsigned i = 0; i < w->rows[row].proxy_count; i++)
		if (cidr_has(&w->rows[row].proxy[i], peer))
			return true;
	return false;
}

static bool
may_come(struct worker *w, unsigned row, const struct addr *peer)
{
	/* A proxy's connections count for those whom it names. */
	uint64_t prefix = is_proxy(w, row, peer) ? 0 : cross_prefix(&w->cross, peer);

	if (path_is_poisoned(w, peer)) {
		stat_drop(w->stat, DROP_POISONED);
		return false;
	}
	if (!cross_conn_fits(&w->cross, w->start.shard_count, prefix, &w->streams.limits)) {
		worklog_conn_limit(w, peer);
		return false;
	}
	return true;
}

/* Every number in a window is the supervisor's to give. */
static bool
in_a_window(const struct worker *w, int fd)
{
	for (unsigned i = 0; i < w->lane_count; i++)
		if (lane_window(&w->lane[i], fd))
			return true;
	return false;
}

/* False: no more for now. */
static bool
accept_one(struct worker *w, struct lane *l, unsigned row)
{
	struct accepting *a = accepting_free(w);
	struct sockaddr_storage ss;
	socklen_t len = sizeof ss;
	struct addr peer;

	if (a == NULL) {
		pause_accepts(w, true);
		return false;
	}
	int fd = accept4(l->stream[row], (struct sockaddr *)&ss, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0) {
		if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
			pause_accepts(w, true);		/* until the next tick */
		return false;
	}
	if (addr_from_sockaddr(&peer, (struct sockaddr *)&ss) < 0 || in_a_window(w, fd) || !may_come(w, row, &peer)) {
		close(fd);
		return true;
	}
	if (++w->accept_id == 0)
		w->accept_id = 1;
	*a = (struct accepting){ .fd = fd, .lane = (uint32_t)(l - w->lane), .row = row, .id = w->accept_id, .used = true,
		.peer = peer };
	CRASH_POINT("accept:taken");
	tell(w, a);
	CRASH_POINT("accept:told");
	return true;
}

void
accept_ready(struct worker *w, struct lane *l, unsigned row)
{
	if (row >= CONF_LISTENERS_MAX || l->stream[row] < 0) {
		stat_drop(w->stat, DROP_STALE_EVENT);
		return;
	}
	for (unsigned i = 0; i < ACCEPT_BURST && accept_one(w, l, row); i++)
		;
}

void
accept_again(struct worker *w)
{
	for (unsigned i = 0; i < ACCEPTS_MAX; i++)
		if (w->accepting[i].used && !w->accepting[i].told)
			tell(w, &w->accepting[i]);
	if (accepting_free(w) != NULL)
		pause_accepts(w, false);
}

void
accept_at(struct worker *w, const struct msg_stream_at *m)
{
	struct lane *l = worker_lane(w, m->shard);
	struct accepting *a = NULL;

	for (unsigned i = 0; i < ACCEPTS_MAX; i++)
		if (w->accepting[i].used && w->accepting[i].id == m->request)
			a = &w->accepting[i];
	if (l == NULL || a == NULL || &w->lane[a->lane] != l) {
		stat_add(w->stat, STAT_MSG_BAD, 1);
		return;
	}
	struct accepting was = *a;
	a->used = false;
	bool fits = lane_window(l, m->fd) && *lane_use(l, m->fd) == FD_NONE && fcntl(m->fd, F_GETFD) < 0;
	if (!fits || dup3(was.fd, m->fd, O_CLOEXEC) != m->fd) {
		stat_drop(w->stat, DROP_STREAM_ROOM);
		close(was.fd);
	} else {
		close(was.fd);
		*lane_use(l, m->fd) = FD_STREAM;
		CRASH_POINT("accept:at");
		struct conn *c = stream_open(w, l, m->fd, was.row, &was.peer);
		if (c != NULL)
			stream_first(w, l, c);
	}
	pause_accepts(w, false);
}

/* ---- a connection ------------------------------------------------------------------------------------ */

bool
stream_client(struct worker *w, struct lane *l, struct conn *c, const struct addr *client)
{
	uint64_t prefix = cross_prefix(&w->cross, client);

	if (!cross_conn_fits(&w->cross, w->start.shard_count, prefix, &w->streams.limits)) {
		worklog_conn_limit(w, client);
		return false;
	}
	c->client = *client;
	if (c->prefix == 0) {		/* a header that is read again after a death counts once */
		c->prefix = prefix;
		cross_conn_add(&w->cross, l->shard.index, prefix, 1);
	}
	stream_supersede(w, l, c);
	return true;
}

void
stream_supersede(struct worker *w, struct lane *l, const struct conn *c)
{
	const struct session *x = session_find(&l->shard, &c->client, c->transport, c->listener);
	struct conn *old = x != NULL && x->conn != 0 ? conn_at(&l->shard, x->conn - 1) : NULL;

	/* Its end is only not seen yet. */
	if (old != NULL && old != c)
		stream_close(w, l, old);
}

struct conn *
stream_open(struct worker *w, struct lane *l, int fd, unsigned row, const struct addr *peer)
{
	struct conn *c = conn_new(&l->shard, TRANSPORT_TCP);
	bool proxy = is_proxy(w, row, peer);

	if (c == NULL) {
		stat_drop(w->stat, DROP_STREAM_ROOM);
		stream_forget_fd(w, l, fd);
		return NULL;
	}
	c->fd = fd;
	c->listener = (uint16_t)row;
	c->peer = c->client = *peer;
	c->seen = (uint32_t)(w->turn.now / 1000);
	c->deadline = TP_SEC_UP(w->turn.now) + w->streams.deadline;
	conn_recs(c)->flags = (proxy ? CONN_PROXY : 0u) | ((w->rows[row].transports & TRANSPORT_TLS) != 0 ? CONN_CHOOSE : 0u);
	conn_publish(c, CONN_OPEN);
	stat_add(w->stat, STAT_STREAMS_OPENED, 1);
	if (!proxy && !stream_client(w, l, c, peer)) {
		stream_close(w, l, c);
		return NULL;
	}
	return c;
}

void
stream_forget_fd(struct worker *w, struct lane *l, int fd)
{
	struct msg_release m = { .h = { MSG_RELEASE, 0 }, .shard = l->shard.index, .fd = fd };

	if (!lane_window(l, fd))
		return;
	(void)epoll_ctl(l->told.epoll_fd, EPOLL_CTL_DEL, fd, NULL);
	/* The supervisor's copy is the last one: the connection ends when it has read RELEASE.  No shutdown() here: a
	 * worker that may call it may end listeners, too. */
	close(fd);
	*lane_use(l, fd) = FD_NONE;
	control_send(w, &m);
}

void
stream_close(struct worker *w, struct lane *l, struct conn *c)
{
	struct session *x = session_find(&l->shard, &c->client, c->transport, c->listener);
	struct pending_entry *e = c->wait != 0 ? pending_get(w->pending, c->wait) : NULL;
	uint64_t prefix = c->prefix;
	int fd = c->fd;

	if (atomic_load_explicit(&c->state, memory_order_relaxed) == CONN_SHAKING && c->unasked == 0)
		handshake_cancel(w, l, c);
	handshake_forget(l, c);
	if (e != NULL)
		pending_free(w, e);
	if (c->transport == TRANSPORT_DTLS)
		assoc_forget(l, c);
	path_flush_up(w);
	if (x != NULL && x->conn == conn_slot(&l->shard, c) + 1) {
		struct session_ref ref = { session_slot(&l->shard, x), x->gen };
		if (turn_close(&w->turn, &l->shard, ref, REASON_END_CONNECTION, &w->out) == TURN_DONE)
			path_effects(w, l);
	}
	conn_free(&l->shard, c);
	if (prefix != 0)
		cross_conn_add(&w->cross, l->shard.index, prefix, -1);
	stat_add(w->stat, STAT_STREAMS_CLOSED, 1);
	stream_forget_fd(w, l, fd);
}

static void
end_quiet(struct worker *w, struct lane *l, struct conn *c)
{
	if (c->transport == TRANSPORT_DTLS)
		dtls_goodbye(w, l, c);	/* nothing below says that it is over */
	stream_close(w, l, c);
}

static void
sweep_one(struct worker *w, struct lane *l, struct conn *c)
{
	uint32_t now = (uint32_t)(w->turn.now / 1000);
	bool valid = c->transport == TRANSPORT_DTLS ? c->heard != 0 : (conn_now(c)->flags & CONN_VALID) != 0;

	if (!valid && now > c->deadline) {
		stat_drop(w->stat, DROP_STREAM_DEADLINE);
		end_quiet(w, l, c);
	} else if (valid && now - c->seen > IDLE_SECONDS && c->wait == 0 &&
	    session_find(&l->shard, &c->client, c->transport, c->listener) == NULL) {
		end_quiet(w, l, c);
	}
}

/* A tenth of the slots each time. */
void
stream_sweep(struct worker *w, struct lane *l)
{
	uint32_t high = conn_high(&l->shard);

	for (uint32_t n = high == 0 ? 0 : high / TICKS_PER_SEC + 1; n > 0; n--) {
		struct conn *c = conn_at(&l->shard, l->conn_cursor < high ? l->conn_cursor : 0);
		l->conn_cursor = l->conn_cursor + 1 < high ? l->conn_cursor + 1 : 0;
		if (c != NULL)
			sweep_one(w, l, c);
	}
}
