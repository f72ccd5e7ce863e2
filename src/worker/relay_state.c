/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * relay_state.c: the states of a relay socket in a worker, and what the kernel is told at each change.
 *
 *   state      filter      epoll      owner
 *   none       -           -          the supervisor: free, on its way, or the reserved sibling of a pair
 *   inherited  any         any        relays_settle(), or a session that is adopted
 *   fresh      its own     no         the pool, or the request that waits for it
 *   open       none        TAG_RELAY  a session
 *   resting    the shared  TAG_REST   the ring of idle_socket.c
 *   rested     the shared  TAG_REST   the pool, or the request that waits for it
 */
#include "config.h"

#include <errno.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "worker_int.h"

/* The system calls of a change, in the order in which they are made. */
#define SILENCE 1u  /* the shared filter drops what comes from now on */
#define DRAINED 2u  /* nothing of another session may be in its queue */
#define LIST    4u  /* into the epoll */
#define RELIST  8u  /* another tag; into a new epoll */
#define REFRESH 16u /* into a new epoll */
#define UNLIST  32u /* the supervisor's copy would keep the registration alive */
#define LISTEN  64u /* the engine's options, before the first datagram; then off with the filter */
#define GIVE    128u
#define CHANGE  256u /* there is such a change */

static const uint16_t changes[FD_USES][FD_USES] = {
	/* The supervisor has sent it; exec has left it open. */
	[FD_NONE][FD_FRESH] = CHANGE,
	[FD_NONE][FD_INHERITED] = CHANGE,
	/* As its predecessor had it. */
	[FD_INHERITED][FD_OPEN] = CHANGE | REFRESH,
	[FD_INHERITED][FD_FRESH] = CHANGE,
	[FD_INHERITED][FD_RESTED] = CHANGE,
	[FD_INHERITED][FD_RESTING] = CHANGE | RELIST,
	/* A session takes it.  Its first event finds the session published. */
	[FD_FRESH][FD_OPEN] = CHANGE | LIST | LISTEN,
	[FD_RESTED][FD_OPEN] = CHANGE | DRAINED | RELIST | LISTEN,
	/* A session has ended, or a request got more than it needs. */
	[FD_OPEN][FD_RESTING] = CHANGE | SILENCE | RELIST,
	[FD_RESTED][FD_RESTING] = CHANGE,
	[FD_RESTING][FD_RESTED] = CHANGE,
	/* Back to the supervisor. */
	[FD_INHERITED][FD_NONE] = CHANGE | UNLIST | GIVE,
	[FD_FRESH][FD_NONE] = CHANGE | UNLIST | GIVE,
	[FD_OPEN][FD_NONE] = CHANGE | UNLIST | GIVE,
	[FD_RESTING][FD_NONE] = CHANGE | UNLIST | GIVE,
	[FD_RESTED][FD_NONE] = CHANGE | UNLIST | GIVE,
};

const char *
relay_state_name(enum fd_use state)
{
	static const char *const names[FD_USES] = { [FD_NONE] = "none",
		[FD_INHERITED] = "inherited",
		[FD_FRESH] = "fresh",
		[FD_OPEN] = "open",
		[FD_RESTING] = "resting",
		[FD_RESTED] = "rested" };

	return state < FD_USES ? names[state] : NULL;
}

bool
relay_may_change(enum fd_use from, enum fd_use to)
{
	return changes[from][to] != 0;
}

static int
list(const struct worker *w, const struct lane *l, int fd, unsigned calls, uint64_t tag)
{
	if ((calls & RELIST) != 0 && w->serving && l->told.epoll_is_new == 0)
		return lane_rewatch(l, fd, EPOLLIN, tag);
	if ((calls & (LIST | RELIST)) != 0 || ((calls & REFRESH) != 0 && l->told.epoll_is_new != 0))
		return lane_watch(l, fd, EPOLLIN, tag);
	return 0;
}

static int
make_calls(struct worker *w, struct lane *l, int fd, unsigned calls, uint64_t tag)
{
	struct lane_sock *s = lane_sock(l, fd);
	int err = 0;

	if ((calls & SILENCE) != 0)
		err = sock_filter_share(fd, w->start.filter_fd);
	if (err == 0 && (calls & DRAINED) != 0 && !sock_empty(fd))
		err = -EBUSY;
	if (err == 0)
		err = list(w, l, fd, calls, tag);
	if (err < 0 || (calls & LISTEN) == 0)
		return err;
	if (!s->prepared)
		(void)w->engine->relay(fd); /* without it, it only costs more */
	s->prepared = true;
	return sock_filter_detach(fd);
}

static void
give_up(struct lane *l, int fd)
{
	lane_unwatch(l, fd);
	close(fd);
	lane_sock(l, fd)->prepared = false;
}

int
relay_change(struct worker *w, struct lane *l, int fd, enum fd_use to, uint64_t tag)
{
	uint8_t *state = lane_use(l, fd);
	unsigned calls = changes[*state][to];
	int err;

	if (calls == 0) {
		log_limited(&w->log[WL_OTHER], 10, LOG_L_ERROR, "shard %u: relay socket %d: from %s to %s",
		    l->shard.index, fd, relay_state_name(*state) != NULL ? relay_state_name(*state) : "?",
		    relay_state_name(to));
		return -EINVAL;
	}
	if ((calls & GIVE) != 0)
		give_up(l, fd);
	else if ((err = make_calls(w, l, fd, calls, tag)) < 0)
		return err;
	*state = (uint8_t)to;
	return 0;
}

void
relay_release(struct worker *w, struct lane *l, int fd, bool unused)
{
	struct msg_release m = {
		.h = { MSG_RELEASE, 0 }, .shard = l->shard.index, .fd = fd, .unused = unused
	};

	if (relay_change(w, l, fd, FD_NONE, 0) == 0)
		outbox_put(w, &m);
}
