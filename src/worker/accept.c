/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * accept.c: the beginning and the end of connections.
 *
 *	accept4() -> STREAM to the supervisor -> STREAM_AT: its number -> dup3() there -> slot, epoll -> read
 *
 * Nothing is read before the supervisor holds it, so no death of ours loses a byte.  At most ACCEPTS_MAX
 * stand in between; more wait in the listener's queue.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "worker_int.h"

#define ACCEPT_BURST 16

int
accept_listen(struct worker *w, struct lane *l, bool on)
{
	for (unsigned row = 0; row < LISTENERS_MAX; row++) {
		const struct conf_listener *c = &w->rows[row];
		bool serve = on && !c->retired && (c->transports & TRANSPORT_STREAMS) != 0;
		if (l->stream[row] < 0)
			continue;
		int rc = lane_watch(
		    l, l->stream[row], serve ? EPOLLIN : 0u, tag_make(TAG_ACCEPT, row, 0, 0));
		if (rc < 0)
			return rc;
	}
	return 0;
}

static void
pause_accepts(struct worker *w, bool on)
{
	if (w->accepts.paused == on)
		return;
	w->accepts.paused = on;
	for (unsigned i = 0; i < w->lane_count; i++)
		(void)accept_listen(w, &w->lane[i], !on);
}

static struct accepting *
accepting_free(struct worker *w)
{
	for (unsigned i = 0; i < ACCEPTS_MAX; i++)
		if (!w->accepts.at[i].used)
			return &w->accepts.at[i];
	return NULL;
}

static bool
may_come(struct worker *w, unsigned row, const struct addr *peer)
{
	/* A proxy's connections count for those whom it names. */
	uint64_t prefix = conn_from_proxy(w, row, peer) ? 0 : cross_prefix(&w->cross, peer);

	if (poisoned_has(&w->poisoned, peer, w->turn.now)) {
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
			pause_accepts(w, true); /* until the next tick */
		return false;
	}
	if (addr_from_sockaddr(&peer, (struct sockaddr *)&ss) < 0 || in_a_window(w, fd) ||
	    !may_come(w, row, &peer)) {
		close(fd);
		return true;
	}
	if (++w->accepts.last_id == 0)
		w->accepts.last_id = 1;
	*a = (struct accepting){ .fd = fd,
		.lane = (uint32_t)(l - w->lane),
		.row = row,
		.id = w->accepts.last_id,
		.used = true,
		.peer = peer };
	w->accepts.untold++;
	CRASH_POINT("accept:taken");
	return true;
}

void
accept_ready(struct worker *w, struct lane *l, unsigned row)
{
	if (row >= LISTENERS_MAX || l->stream[row] < 0) {
		stat_drop(w->stat, DROP_STALE_EVENT);
		return;
	}
	for (unsigned i = 0; i < ACCEPT_BURST && accept_one(w, l, row); i++)
		;
}

/* How many are to be told of, their messages in m and descriptors in fd. */
static unsigned
untold(struct worker *w, struct accepting *which[ACCEPTS_MAX], struct msg_stream *m, int *fd)
{
	unsigned n = 0;

	for (unsigned i = 0; i < ACCEPTS_MAX; i++) {
		struct accepting *a = &w->accepts.at[i];
		if (!a->used || a->told)
			continue;
		m[n] = (struct msg_stream){ .h = { MSG_STREAM, w->start.h.generation },
			.shard = w->lane[a->lane].shard.index,
			.row = a->row,
			.request = a->id };
		fd[n] = a->fd;
		which[n++] = a;
	}
	return n;
}

void
accept_flush(struct worker *w)
{
	struct accepting *which[ACCEPTS_MAX];
	struct msg_stream m[ACCEPTS_MAX];
	const void *msg[ACCEPTS_MAX];
	int fd[ACCEPTS_MAX];
	unsigned n;

	if (w->accepts.untold == 0)
		return;
	n = untold(w, which, m, fd);
	for (unsigned i = 0; i < n; i++)
		msg[i] = &m[i];
	int rc = ipc_send_many(w->control, msg, fd, n);
	if (rc < 0 && rc != -EAGAIN)
		w->outbox.gone = true;
	for (int i = 0; i < rc; i++)
		which[i]->told = true;
	w->accepts.untold = rc > 0 ? n - (unsigned)rc : n;
	if (rc > 0)
		CRASH_POINT("accept:told");
}

void
accept_tick(struct worker *w)
{
	if (accepting_free(w) != NULL)
		pause_accepts(w, false);
}

void
accept_at(struct worker *w, const struct msg_stream_at *m)
{
	struct lane *l = lane_find(w, m->shard);
	struct accepting *a = NULL;

	for (unsigned i = 0; i < ACCEPTS_MAX; i++)
		if (w->accepts.at[i].used && w->accepts.at[i].id == m->request)
			a = &w->accepts.at[i];
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
		struct conn *c = conn_open(w, l, m->fd, was.row, &was.peer);
		if (c != NULL)
			stream_first(w, l, c);
	}
	pause_accepts(w, false);
}
