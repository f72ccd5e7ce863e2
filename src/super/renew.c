/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * renew.c: kernel objects that a worker shares with its successors, after it died of what it did.
 *
 * A process that was taken over can leave filters and options at the listeners, and registrations in the
 * shard's epoll under numbers that no successor has.  So a death by anything but another's SIGKILL gives
 * the shard other listeners and another epoll.  Relay sockets stay: a client's address is bound to each.
 * The next session that takes one gets it without a filter.
 */
#include "config.h"

#include "super_int.h"

static int
renew_listeners(const struct super *s, unsigned shard)
{
	int base = window_base(&s->win, shard), end = base + (int)s->win.span, err = 0;

	if (end > (int)s->ledger->fd_max)
		end = (int)s->ledger->fd_max;
	for (int fd = base; fd < end; fd++) {
		const struct ledger_fd *x = &s->ledger->fd[fd];
		int r = 0;

		/* A retired row's socket goes with its last session. */
		if (x->kind == LEDGER_LISTENER && x->row < s->conf.listener_count &&
		    !s->conf.listeners[x->row].retired)
			r = listener_renew(s->ledger, &s->conf, fd);
		if (r < 0)
			err = r;
	}
	return err;
}

void
super_renew_shards(struct super *s, unsigned i)
{
	const struct ledger_child *c = &s->ledger->child[i];

	stand_by_end(s);
	for (uint32_t shard = c->first_shard; shard < c->first_shard + c->shard_count; shard++) {
		int err;

		/* first: a supervisor that dies here leaves a worker that fills it */
		s->renewed[shard] = true;
		CRASH_POINT("super:renew");
		err = regions_epoll(&s->regions, shard);
		if (err == 0)
			err = renew_listeners(s, shard);
		if (err < 0)
			log_errx("shard %u: sockets or events of the worker that died stay in use: %s",
			    shard, strerror(-err));
	}
	log_info("worker %u: its shards have other listeners and another epoll", c->index);
}
