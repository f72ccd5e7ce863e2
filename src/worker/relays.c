/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * relays.c: the worker's side of relay sockets.
 *
 * A socket has the supervisor's number in every process.  It comes with a filter that drops everything
 * and is in no epoll; a session that takes it adds it to the shard's epoll and then takes the filter off,
 * so its first event finds a published session.  When the session ends it rests for others
 * (idle_socket.c), or it is given back.  The states and their system calls: relay_state.c.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "worker_int.h"

#define WISH_MS  2u    /* pools are looked at this often */
#define ASKED_MS 2000u /* a WANT that brought nothing may be repeated after this */
#define QUIET_MS 5000u /* after a RECALL */

static int
open_one(struct worker *w, struct lane *l, int fd, uint64_t tag)
{
	bool again = *lane_use(l, fd) == FD_RESTED;
	int err = relay_change(w, l, fd, FD_OPEN, tag);

	if (err == 0 && again)
		stat_add(w->stat, STAT_SOCKETS_AGAIN, 1);
	return err;
}

bool
relays_open(struct worker *w, struct lane *l, struct session_ref ref)
{
	struct session *x = session_get(&l->shard, ref);

	if (x == NULL)
		return false;
	for (unsigned i = 0; i < 2; i++) {
		int fd = x->relay[i].fd;
		if (x->relay[i].family == ADDR_NONE || fd < 0)
			continue;
		if (!lane_window(l, fd))
			return false;
		int err = open_one(w, l, fd, tag_make(TAG_RELAY, i, ref.slot, ref.gen));
		if (err < 0) {
			log_limited(&w->log[WL_OTHER], 10, LOG_L_ERROR,
			    "shard %u: relay port %u cannot be opened: %s", l->shard.index,
			    x->relay[i].port, strerror(-err));
			return false;
		}
		*lane_habit(l, fd) = 0;
	}
	session_change(x);
	x->flags |= SESSION_RELAY_OPEN;
	session_changed(x);
	return true;
}

void
relays_unreserve(struct worker *w, const struct lane *l, uint32_t reservation)
{
	struct msg_release m = {
		.h = { MSG_RELEASE, 0 }, .shard = l->shard.index, .fd = -1, .reservation = reservation
	};

	if (reservation != 0)
		outbox_put(w, &m);
}

void
relays_close(struct worker *w, struct lane *l, int fd)
{
	enum fd_use state = lane_window(l, fd) ? *lane_use(l, fd) : FD_NONE;

	if (state != FD_FRESH && state != FD_OPEN && state != FD_RESTED)
		return;
	if (state == FD_FRESH || !rest_put(w, l, fd))
		relay_release(w, l, fd, false);
}

/* ---- what the supervisor sends ---------------------------------------------------------------- */

/* Moves a received descriptor to the number that it has everywhere.  False: the message is wrong. */
static bool
place(struct lane *l, const struct msg_socket *m, int fd)
{
	if (!lane_window(l, m->fd) || *lane_use(l, m->fd) != FD_NONE || m->row >= RELAYS_MAX ||
	    (m->family != ADDR_V4 && m->family != ADDR_V6)) {
		close(fd);
		return false;
	}
	if (fd == m->fd)
		return true;
	int at = fcntl(fd, F_DUPFD_CLOEXEC, m->fd);
	close(fd);
	if (at >= 0 && at != m->fd)
		close(at); /* its number is taken by something of ours that the window does not know */
	return at == m->fd;
}

static bool
pool_put(struct lane *l, const struct relay_ref *r)
{
	if (l->pool.row[r->row].count == TURN_POOL_DEPTH)
		return false;
	l->pool.row[r->row].sock[l->pool.row[r->row].count++] = *r;
	return true;
}

struct lane *
relays_place(struct worker *w, const struct msg_socket *m, int fd)
{
	struct lane *l = lane_find(w, m->shard);

	if (l == NULL || !place(l, m, fd)) {
		if (l == NULL)
			close(fd);
		stat_add(w->stat, STAT_MSG_BAD, 1);
		log_limited(&w->log[WL_BAD_MESSAGE], 1, LOG_L_WARN, "socket: shard %u number %d: refused",
		    m->shard, m->fd);
		return NULL;
	}
	(void)relay_change(w, l, m->fd, FD_FRESH, 0);
	*lane_sock(l, m->fd) = (struct lane_sock){ .port = m->port, .row = m->row, .family = m->family };
	return l;
}

void
relays_pool(struct worker *w, struct lane *l, const struct msg_socket *m)
{
	struct relay_ref r = { .fd = m->fd, .port = m->port, .row = m->row, .family = m->family };

	if (m->request == 0 && l->asked[m->row] > 0)
		l->asked[m->row]--;
	/* Both of a reserved pair are given back, since no token was made.  So is what was wanted before
	 * a RECALL and granted after it. */
	relays_unreserve(w, l, m->reservation);
	if (m->reservation != 0 || w->turn.now < l->quiet_until[m->row] || !pool_put(l, &r))
		relay_release(w, l, m->fd, true);
}

void
relays_recall(struct worker *w, unsigned row, unsigned keep)
{
	for (unsigned i = 0; i < w->lane_count; i++) {
		struct lane *l = &w->lane[i];
		while (l->pool.row[row].count > keep)
			relay_release(w, l, l->pool.row[row].sock[--l->pool.row[row].count].fd, true);
		rest_clear(w, l, row);
		/* Other shards get them before this one asks again. */
		l->quiet_until[row] = w->turn.now + QUIET_MS;
	}
}

static void
wish(struct worker *w, struct lane *l, unsigned row)
{
	uint32_t depth = w->pools.depth[row], have = l->pool.row[row].count;

	if (w->turn.now < l->quiet_until[row])
		return;
	if (have + l->asked[row] >= (depth + 1) / 2)
		return;
	struct msg_want m = { .h = { MSG_WANT, 0 },
		.shard = l->shard.index,
		.row = row,
		.count = depth - have - l->asked[row] };
	l->asked[row] += m.count;
	outbox_put(w, &m);
}

void
relays_wish(struct worker *w, bool settled)
{
	uint64_t held = 0, resting = 0;

	for (unsigned i = 0; i < w->lane_count; i++)
		for (unsigned row = 0; row < w->policy[0]->relay_count; row++)
			rest_draw(w, &w->lane[i], row);
	if (!settled || w->turn.now < w->pools.last_wish + WISH_MS)
		return;
	bool forget = w->turn.now / ASKED_MS != w->pools.last_wish / ASKED_MS;
	w->pools.last_wish = w->turn.now;
	for (unsigned i = 0; i < w->lane_count; i++) {
		for (unsigned row = 0; row < w->policy[0]->relay_count; row++) {
			if (forget)
				w->lane[i].asked[row] = 0;
			wish(w, &w->lane[i], row);
			held += w->lane[i].pool.row[row].count;
			resting += w->lane[i].rest[row].count;
		}
	}
	w->stat->counter[STAT_POOL_SOCKETS] = held;
	w->stat->counter[STAT_RESTING_SOCKETS] = resting;
}

/* ---- what a predecessor left -------------------------------------------------------------------- */

static void
settle_one(struct worker *w, struct lane *l, const struct msg_pool_sock *s)
{
	if (*lane_use(l, s->fd) != FD_INHERITED)
		return; /* a session's, or closed since */
	struct relay_ref r = { .fd = s->fd, .port = s->port, .row = s->row, .family = s->family };
	int filter = sock_filter_has(s->fd);
	if (filter == SOCK_FILTER_SHARED && rest_adopt(w, l, s->fd))
		return;
	/* Without its first filter it has had a session: strangers may know it, so it is not for the next
	 * one.  And a RECALL that came first meant this one, too. */
	if (w->turn.now < l->quiet_until[s->row] || filter != SOCK_FILTER_OWN ||
	    l->pool.row[s->row].count >= w->pools.depth[s->row] ||
	    relay_change(w, l, s->fd, FD_FRESH, 0) < 0 || !pool_put(l, &r))
		relay_release(w, l, s->fd, false);
}

bool
relays_settle(struct worker *w, unsigned n)
{
	for (unsigned i = 0; i < w->lane_count; i++) {
		struct lane *l = &w->lane[i];
		while (n > 0 && l->settled < l->inherited_count) {
			settle_one(w, l, &l->inherited[l->settled++]);
			n--;
		}
		if (l->settled < l->inherited_count)
			return true;
		free(l->inherited);
		l->inherited = NULL;
		l->inherited_count = l->inherited_max = l->settled = 0;
	}
	return false;
}
