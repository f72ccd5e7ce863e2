/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * super_control.c: what turnpikectl asks for, through turnpike-admin.
 */
#include "config.h"

#include <stdio.h>

#include "super_int.h"

#define CLOSE_WAIT_MS 2000

void
super_reply(struct super *s, struct requester who, unsigned code, bool more, const char *fmt, ...)
{
	struct msg_reply r = { .h.type = MSG_REPLY, .request = who.request, .code = code, .more = more };
	int i = children_find(&s->children, ROLE_ADMIN, 0);
	va_list ap;

	/* A turnpike-admin that was replaced meanwhile knows nothing of the request. */
	if (!who.used || i < 0 || s->ledger->child[i].generation != who.generation)
		return;
	va_start(ap, fmt);
	vsnprintf(r.text, sizeof r.text, fmt, ap);
	va_end(ap);
	(void)super_send(s, (unsigned)i, &r, -1);
}

static struct requester
closing_who(const struct closing *c)
{
	return (struct requester){ .used = true, .request = c->request, .generation = c->generation };
}

static void
closing_end(struct super *s, struct closing *c)
{
	c->used = false;
	super_reply(s, closing_who(c), c->count > 0 ? 0 : 1, false,
	    c->left > 0 ? "%u closed; %u workers did not answer" : "%u closed", c->count, c->left);
}

static void
close_sessions(struct super *s, struct requester who, const struct msg_command *m)
{
	bool by_user = m->command == CMD_CLOSE_USER;
	struct closing *c = NULL;

	for (unsigned k = 0; k < CLOSINGS && c == NULL; k++)
		if (!s->closing[k].used)
			c = &s->closing[k];
	if (c == NULL) {
		super_reply(s, who, 1, false, "too many close commands at once");
		return;
	}
	*c = (struct closing){ .used = true,
		.request = who.request,
		.generation = who.generation,
		.deadline = clock_ms() + CLOSE_WAIT_MS };
	struct msg_close out = { .h.type = MSG_CLOSE,
		.request = (uint32_t)(c - s->closing) + 1,
		.shard = m->shard,
		.slot = m->slot,
		.gen = m->gen,
		.user = m->user,
		.by_user = by_user };
	for (unsigned i = 0; i < s->ledger->child_count; i++) {
		const struct ledger_child *w = &s->ledger->child[i];
		bool owner = m->shard >= w->first_shard && m->shard - w->first_shard < w->shard_count;
		if (w->role == ROLE_WORKER && w->shard_count > 0 && (by_user || owner) &&
		    super_send(s, i, &out, -1) == 0)
			c->left++;
	}
	if (c->left == 0)
		closing_end(s, c);
}

void
super_closed(struct super *s, const struct msg_closed *m)
{
	struct closing *c;

	if (m->request == 0 || m->request > CLOSINGS || !s->closing[m->request - 1].used)
		return;
	c = &s->closing[m->request - 1];
	c->count += m->count;
	if (c->left > 0 && --c->left == 0)
		closing_end(s, c);
}

void
super_closings(struct super *s, tp_ms now)
{
	for (unsigned k = 0; k < CLOSINGS; k++)
		if (s->closing[k].used && s->closing[k].deadline <= now)
			closing_end(s, &s->closing[k]);
}

/* The level is an option like any other: all processes get a configuration that differs in it. */
static void
set_log_level(struct super *s, struct requester who, uint32_t level)
{
	int fd;

	if (level > LOG_L_DEBUG) {
		super_reply(s, who, 1, false, "no such log level");
		return;
	}
	s->conf.log_level = level;
	s->conf.generation++;
	fd = super_conf_publish(s, &s->conf);
	if (fd < 0) {
		super_reply(s, who, 1, false, "no memory for the configuration");
		return;
	}
	log_level_set((enum log_level)level);
	super_tell_conf(s);
	super_reply(s, who, 0, false, "log level is %s until the next reload",
	    log_level_name((enum log_level)level));
}

static void
status(struct super *s, struct requester who)
{
	const struct ledger *l = s->ledger;

	super_reply(s, who, 0, false,
	    "%s, %u of %u workers, %u shards, %u relay sockets, configuration %llu",
	    l->draining    ? "draining"
		: l->ready ? "ready"
			   : "not ready",
	    l->worker_count, l->worker_count, l->shard_count, l->relay_sockets,
	    (unsigned long long)l->conf_generation);
}

void
super_command(struct super *s, unsigned i, const struct msg_command *m)
{
	struct requester who = {
		.used = true, .request = m->request, .generation = s->ledger->child[i].generation
	};

	switch (m->command) {
	case CMD_STATUS:
		status(s, who);
		break;
	case CMD_RELOAD:
		super_reload(s, who);
		break;
	case CMD_CLOSE_SESSION:
	case CMD_CLOSE_USER:
		close_sessions(s, who, m);
		break;
	case CMD_RESTART_WORKERS:
		super_roll(s, ROLL_ONE_BY_ONE, s->ledger->worker_count, who);
		break;
	case CMD_DRAIN:
		super_drain(s, true, (tp_ms)m->value * 1000);
		super_reply(s, who, 0, false, "draining: no new allocations");
		break;
	case CMD_UNDRAIN:
		super_drain(s, false, 0);
		super_reply(s, who, 0, false, "serving");
		break;
	case CMD_UPGRADE:
		super_upgrade(s, who);
		break;
	case CMD_LOG_LEVEL:
		set_log_level(s, who, m->value);
		break;
	case CMD_STOP:
		super_reply(s, who, 0, false, "stopping");
		super_stop(s);
		break;
	default:
		super_reply(s, who, 1, false, "this version cannot do that");
		break;
	}
}
