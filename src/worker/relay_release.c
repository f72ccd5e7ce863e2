/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * relay_release: a relay socket goes back to the supervisor.  DEL comes first: the supervisor's copy
 * would keep the registration alive.
 */
#include "config.h"

#include <unistd.h>

#include "worker_int.h"

void
relay_release(struct worker *w, struct lane *l, int fd, bool unused)
{
	struct msg_release m = {
		.h = { MSG_RELEASE, 0 }, .shard = l->shard.index, .fd = fd, .unused = unused
	};

	if (!lane_window(l, fd) || *lane_use(l, fd) != FD_RELAY)
		return;
	lane_unwatch(l, fd);
	close(fd);
	*lane_use(l, fd) = FD_NONE;
	lane_sock(l, fd)->state = 0;
	outbox_put(w, &m);
}
