/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bind.c: everything that is bound at first start, while the powers for it are still there.
 */
#include "config.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "super_int.h"

#define ORPHANS_MS 5000

int
super_http(const struct conf *c, int *fd, char *why, size_t len)
{
	struct addr a;
	int err;

	*fd = -1;
	if (c->metrics_address[0] == '\0')
		return 0;
	if (addr_parse(&a, c->metrics_address) < 0) {
		snprintf(why, len, "metrics.address %s is not an address", c->metrics_address);
		return -EINVAL;
	}
	a.port = (uint16_t)c->metrics_port;
	if ((err = port_probe(&a, true, "metrics", why, len)) < 0)
		return err;
	err = sock_listener_tcp(&a, 64);
	if (err < 0)
		snprintf(why, len, "metrics: %s", strerror(-err));
	else
		*fd = err;
	return err < 0 ? err : 0;
}

/* root:turnpike 0660.  By the effective group while it is made: changing an owner would need CAP_CHOWN. */
static int
bind_control(struct super *s)
{
	char path[PATH_MAX];
	gid_t was = getegid();

	if (snprintf(path, sizeof path, "%s/control", s->o->runtime_dir) >= (int)sizeof path)
		return -ENAMETOOLONG;
	if (s->drop && setegid(s->gid) < 0) {
		log_err("control socket %s: cannot be given to group %u", path, (unsigned)s->gid);
		return -errno;
	}
	s->control_fd = sock_listener_unix(path, 0660);
	if (s->drop && setegid(was) < 0)
		return -errno;
	if (s->control_fd < 0)
		log_errx("control socket %s: %s", path, strerror(-s->control_fd));
	return s->control_fd < 0 ? s->control_fd : 0;
}

static void
fill_pools(struct super *s)
{
	for (unsigned shard = 0; shard < s->win.shards; shard++)
		for (unsigned row = 0; row < s->conf.relay_count; row++)
			(void)pool_fill(&s->pool, shard, row, POOL_START, clock_ms());
}

static void
await_orphan(const struct addr *a, bool tcp, tp_ms end)
{
	struct timespec nap = { .tv_nsec = 20000000 };
	char why[WHY_MAX], holder[128];

	while (port_probe(a, tcp, "", why, sizeof why) == -EADDRINUSE && clock_ms() < end &&
	    (!port_holder(a, tcp, holder, sizeof holder) || strncmp(holder, "turnpike-", 9) == 0))
		(void)nanosleep(&nap, NULL);
}

/* The children of a supervisor that was killed end as soon as they notice; a service manager that starts
 * it again may be faster.  A port that is known to be held by another program is not waited for. */
static void
await_orphans(const struct super *s)
{
	tp_ms end = clock_ms() + ORPHANS_MS;

	for (uint32_t row = 0; row < s->conf.listener_count; row++) {
		const struct conf_listener *l = &s->conf.listeners[row];
		if ((l->transports & ~TRANSPORT_STREAMS) != 0)
			await_orphan(&l->addr, false, end);
		if ((l->transports & TRANSPORT_STREAMS) != 0)
			await_orphan(&l->addr, true, end);
	}
}

int
super_bind(struct super *s)
{
	struct opened done = { .granted = SIZE_MAX };
	char why[WHY_MAX];
	struct addr a;

	await_orphans(s);
	for (uint32_t row = 0; row < s->conf.listener_count; row++)
		if (listener_open(s->ledger, &s->win, &s->conf, row, &done, why, sizeof why) < 0) {
			log_errx("%s", why);
			return EXIT_BIND;
		}
	s->granted = done.granted;
	if (s->conf.metrics_address[0] != '\0' && addr_parse(&a, s->conf.metrics_address) == 0) {
		a.port = (uint16_t)s->conf.metrics_port;
		await_orphan(&a, true, clock_ms() + ORPHANS_MS);
	}
	if (super_http(&s->conf, &s->http_fd, why, sizeof why) < 0) {
		log_errx("%s", why);
		return EXIT_BIND;
	}
	if (bind_control(s) < 0)
		return EXIT_BIND;
	pool_rows(&s->pool, &s->conf);
	fill_pools(s);
	return 0;
}
