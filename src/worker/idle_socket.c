/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * idle_socket.c: relay sockets between two sessions.
 *
 * A socket whose session has ended need not be closed and another made, which costs ten system calls in
 * two processes.  A shared program drops whatever comes for it, and it lies here, bound and silent, until
 * a good many others have come after it or two minutes have passed.  Then it goes to the pool, in random
 * order, or back to the supervisor.  What still waited in its queue is thrown away before its next
 * session gets it.
 *
 * It stays in the shard's epoll under a tag that names its number: what was queued before the program
 * came, and late ICMP errors, must be read, since the epoll is level triggered.
 */
#include "config.h"

#include <stdlib.h>
#include <sys/epoll.h>

#include "worker_int.h"

#define REST_MAX    1024u /* sockets of one row and shard */
#define REST_MS     120000u
#define EXPIRE_STEP 64u /* at each tick */

uint32_t
rest_depth(const struct turn_relay_row *r, uint32_t shards, int32_t span)
{
	uint32_t range = r->port_max < r->port_min ? 0 : (uint32_t)(r->port_max - r->port_min) + 1;
	uint32_t depth = range / (8 * shards),
		 room = (uint32_t)span / 8; /* the rest of them is for others */

	if (depth > room)
		depth = room;
	return depth < 8 ? 0 : depth > REST_MAX ? REST_MAX : depth;
}

static struct rested *
at(const struct rest *r, uint32_t i)
{
	return &r->ring[(r->head + i) % REST_MAX];
}

static bool
has_room(const struct worker *w, struct lane *l, unsigned row)
{
	struct rest *r = &l->rest[row];

	/* Another shard needs ports: then none rests. */
	if (r->count >= w->pools.rest_max[row] || w->turn.now < l->quiet_until[row])
		return false;
	if (r->ring == NULL)
		r->ring = calloc(REST_MAX, sizeof *r->ring);
	return r->ring != NULL;
}

static bool
lay_down(struct worker *w, struct lane *l, int fd)
{
	const struct lane_sock *s = lane_sock(l, fd);

	if (relay_change(w, l, fd, FD_RESTING, tag_make(TAG_REST, 0, (uint32_t)fd, 0)) < 0)
		return false;
	*at(&l->rest[s->row], l->rest[s->row].count++) = (struct rested){
		.sock = { .fd = fd, .port = s->port, .row = s->row, .family = s->family },
		.since = w->turn.now
	};
	return true;
}

bool
rest_put(struct worker *w, struct lane *l, int fd)
{
	return has_room(w, l, lane_sock(l, fd)->row) && lay_down(w, l, fd);
}

bool
rest_adopt(struct worker *w, struct lane *l, int fd)
{
	unsigned row = lane_sock(l, fd)->row;

	/* How long it has rested died with the predecessor: a quarter of all comes after it before it
	 * is drawn. */
	return l->rest[row].count < w->pools.rest_max[row] / 2 && has_room(w, l, row) && lay_down(w, l, fd);
}

static struct relay_ref
take(struct worker *w, struct lane *l, struct rest *r)
{
	struct relay_ref s = at(r, 0)->sock;

	r->head = (r->head + 1) % REST_MAX;
	r->count--;
	(void)relay_change(w, l, s.fd, FD_RESTED, 0);
	return s;
}

/* xorshift: a client that sees ports cannot predict the next; of no other use. */
static uint32_t
dice(struct worker *w, uint32_t n)
{
	uint64_t x = w->pools.dice;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	w->pools.dice = x;
	return (uint32_t)((x >> 32) * n >> 32);
}

void
rest_draw(struct worker *w, struct lane *l, unsigned row)
{
	struct rest *r = &l->rest[row];
	uint32_t max = w->pools.rest_max[row];

	/* The newest half stays in any case; of the older ones there are so many that no client knows the
	 * next. */
	while (r->count > max - max / 4 && l->pool.row[row].count < TURN_POOL_DEPTH) {
		struct rested *first = at(r, 0), *one = at(r, dice(w, r->count - max / 2)), kept = *first;
		*first = *one;
		*one = kept;
		l->pool.row[row].sock[l->pool.row[row].count++] = take(w, l, r);
	}
}

void
rest_expire(struct worker *w, struct lane *l)
{
	for (unsigned row = 0; row < RELAYS_MAX; row++) {
		struct rest *r = &l->rest[row];
		for (unsigned n = 0;
		     n < EXPIRE_STEP && r->count > 0 && at(r, 0)->since + REST_MS <= w->turn.now; n++) {
			struct relay_ref s = take(w, l, r);
			if (l->pool.row[row].count < w->pools.depth[row])
				l->pool.row[row].sock[l->pool.row[row].count++] = s;
			else
				relay_release(w, l, s.fd, false);
		}
	}
}

void
rest_clear(struct worker *w, struct lane *l, unsigned row)
{
	while (l->rest[row].count > 0)
		relay_release(w, l, take(w, l, &l->rest[row]).fd, false);
}

void
rest_event(struct worker *w, struct lane *l, uint64_t tag, uint32_t events)
{
	int fd = (int)tag_slot(tag);
	enum fd_use state = lane_window(l, fd) ? *lane_use(l, fd) : FD_NONE;

	/* What a session has opened since this event was fetched is its own. */
	if (state != FD_INHERITED && state != FD_RESTING && state != FD_RESTED) {
		stat_drop(w->stat, DROP_STALE_EVENT);
		return;
	}
	if ((events & EPOLLERR) != 0)
		stat_add(w->stat, STAT_ICMP_ERRORS, udp_errors_drop(fd, ERRORS_MAX));
	(void)sock_empty(fd);
}
