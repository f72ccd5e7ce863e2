/* SPDX-License-Identifier: BSD-3-Clause */
/* session_adopt.c: relay sockets of the sessions that a predecessor left. */
#include "config.h"

#include <fcntl.h>
#include <sys/epoll.h>

#include "worker_int.h"

/* False: the session's descriptor is none, is another's, or is not open in this process. */
static bool
are_there(struct lane *l, const struct session *x)
{
	for (unsigned i = 0; i < 2; i++) {
		int fd = x->relay[i].fd;
		if (x->relay[i].family == ADDR_NONE || fd < 0)
			continue;
		/* What the supervisor told is there: exec kept it.  It is asked of what it did not tell. */
		if (!lane_window(l, fd) ||
		    (*lane_use(l, fd) != FD_NONE && *lane_use(l, fd) != FD_INHERITED) ||
		    (*lane_use(l, fd) == FD_NONE && fcntl(fd, F_GETFD) < 0))
			return false;
	}
	return true;
}

/* As the predecessor had it when it died.  A socket that it was about to open may still be silenced. */
static bool
adopt_fd(struct worker *w, struct lane *l, int fd, uint64_t tag, bool open)
{
	enum fd_use to = FD_OPEN;

	if (!open)
		to = sock_filter_has(fd) == SOCK_FILTER_SHARED ? FD_RESTED : FD_FRESH;
	if (*lane_use(l, fd) == FD_NONE)
		(void)relay_change(w, l, fd, FD_INHERITED, 0);
	return relay_change(w, l, fd, to, tag) == 0;
}

static bool
adopt_one(struct worker *w, struct lane *l, const struct session *x, struct session_ref ref)
{
	bool open = (x->flags & SESSION_RELAY_OPEN) != 0;

	if (!are_there(l, x))
		return false;
	for (unsigned i = 0; i < 2; i++)
		if (x->relay[i].family != ADDR_NONE && x->relay[i].fd >= 0 &&
		    !adopt_fd(w, l, x->relay[i].fd, tag_make(TAG_RELAY, i, ref.slot, ref.gen), open))
			return false;
	return open || relays_open(w, l, ref);
}

void
session_adopt_sockets(struct worker *w, struct lane *l)
{
	uint32_t high = shard_high(&l->shard);

	for (uint32_t slot = 0; slot < high; slot++) {
		struct session *x = &l->shard.slots[slot];
		if (atomic_load_explicit(&x->state, memory_order_acquire) != SESSION_LIVE)
			continue;
		struct session_ref ref = { slot, x->gen };
		if (adopt_one(w, l, x, ref))
			continue;
		worklog_dropped(w, l->shard.index, x, slot, "its relay socket is gone");
		(void)core_close(w, l, ref, REASON_END_SOCKET);
	}
}
