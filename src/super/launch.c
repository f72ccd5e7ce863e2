/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * launch.c: starts one child of the table with exactly the descriptors of its role.
 */
#include "config.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "super_int.h"

#define CONTROL_BUFFER (1 << 20)

static const char *
binary_of(const struct super *s, unsigned role)
{
	for (unsigned i = 0; i < s->program_count; i++)
		if (s->programs[i].role == role)
			return s->programs[i].binary;
	return "?";
}

int
super_launch(struct super *s, const struct ledger_child *c, int *control, int32_t *born)
{
	const char *binary = binary_of(s, c->role);
	int pair[2], keep[HELD_KEEP_MAX], size = CONTROL_BUFFER, err;
	char path[PATH_MAX], name[32], index[16];
	char *argv[] = { name, index, NULL };
	pid_t pid;

	if ((err = ipc_pair(pair)) < 0)
		return err;
	(void)setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
	snprintf(path, sizeof path, "%s/%s", s->o->libexec_dir, binary);
	snprintf(name, sizeof name, "%s", binary);
	snprintf(index, sizeof index, "%u", c->index);
	struct spawn sp = {
		.path = path,
		.binary = s->binary[c->role],
		.argv = argv,
		.control = pair[1],
		.log = s->log_write,
		.keep = keep,
		.authd_count = held_keep(s, c, keep, NULL),
		.ledger = s->ledger,
		.win = &s->win,
		.first_shard = c->first_shard,
		.shard_count = c->shard_count,
		/* In the background no process holds the caller's terminal or pipe; turnpike-admin only
		 * until it is ready, to say there what it cannot log. */
		.sibling = true,
		.pid = born,
		.keep_stderr = s->foreground || (s->daemon_fd >= 0 && c->role == ROLE_ADMIN),
	};
	*control = pair[0];
	CRASH_POINT("super:spawn");
	pid = spawn_child(&sp);
	CRASH_POINT("super:spawned");
	close(pair[1]);
	if (pid < 0) {
		*control = -1;
		close(pair[0]);
		log_warnx("%s %u: cannot start: %s", proc_role_name(c->role), c->index, strerror(-pid));
		return pid;
	}
	stat_add(s->regions.super_map, STAT_CHILD_STARTS, 1);
	return pid;
}

int
super_spawn(void *arg, unsigned i)
{
	struct super *s = arg;
	struct child *priv = &s->children.c[i];
	int pid = stand_by_take(s, i);

	if (pid > 0) {
		super_tell_rest(s, i);
		return pid;
	}
	assert(priv->control < 0);
	pid = super_launch(s, &s->ledger->child[i], &priv->control, &priv->born);
	if (pid < 0)
		return pid;
	(void)loop_add(s->loop, priv->control, EPOLLIN, super_control_event, s);
	super_tell_start(s, i);
	return pid;
}

int
super_kill(void *arg, unsigned i)
{
	static struct log_class class;
	struct super *s = arg;
	const struct ledger_child *c = &s->ledger->child[i];

	if (c->pid <= 1 || kill(c->pid, SIGKILL) == 0 || errno == ESRCH)
		return 0;
	int e = errno;
	log_limited(&class, 2, LOG_L_ERROR, "%s %u: cannot be killed: %s%s", proc_role_name(c->role),
	    c->index, strerror(e),
	    e == EPERM ? ": turnpiked needs CAP_KILL to end processes of process.user" : "");
	return -e;
}
