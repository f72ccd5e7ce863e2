/* SPDX-License-Identifier: BSD-3-Clause */
/* lane.c: finding a lane and what is in it; the shard's epoll. */
#include "config.h"

#include <errno.h>
#include <sys/epoll.h>

#include "worker_int.h"

struct lane *
lane_find(struct worker *w, uint32_t shard)
{
	for (unsigned i = 0; i < w->lane_count; i++)
		if (w->lane[i].told.shard == shard)
			return &w->lane[i];
	return NULL;
}

struct conn *
lane_conn(struct lane *l, const struct hs_who *who)
{
	struct conn *c = NULL;

	if (who->shard == l->shard.index && !who->dtls)
		c = conn_at(&l->shard, (uint32_t)(who->request >> 32));
	return c != NULL && c->gen == (uint32_t)who->request ? c : NULL;
}

int
lane_watch(const struct lane *l, int fd, uint32_t events, uint64_t tag)
{
	struct epoll_event ev = { .events = events, .data.u64 = tag };
	int err = epoll_ctl(l->told.epoll_fd, EPOLL_CTL_ADD, fd, &ev);

	if (err < 0 && errno == EEXIST)
		err = epoll_ctl(l->told.epoll_fd, EPOLL_CTL_MOD, fd, &ev);
	return err < 0 ? -errno : 0;
}

int
lane_rewatch(const struct lane *l, int fd, uint32_t events, uint64_t tag)
{
	struct epoll_event ev = { .events = events, .data.u64 = tag };

	return epoll_ctl(l->told.epoll_fd, EPOLL_CTL_MOD, fd, &ev) < 0 ? -errno : 0;
}

void
lane_unwatch(const struct lane *l, int fd)
{
	(void)epoll_ctl(l->told.epoll_fd, EPOLL_CTL_DEL, fd, NULL);
}
