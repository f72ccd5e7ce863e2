/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * start_message.c: what the supervisor tells its children: the queue of a full socket, and the words of a
 * start.
 */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "super_int.h"

#define OUT_MAX 65536 /* messages; a child that lets more wait does not read any more */

struct out_msg {
	struct out_msg *next;
	int fd;
	union msg m; /* only msg_size(type) bytes are allocated */
};

void
super_out_clear(struct child *c)
{
	while (c->out_head != NULL) {
		struct out_msg *o = c->out_head;
		c->out_head = o->next;
		free(o);
	}
	c->out_tail = NULL;
	c->out_count = 0;
}

static int
enqueue(struct super *s, unsigned i, const union msg *m, int fd)
{
	struct child *c = &s->children.c[i];
	size_t size = msg_size(m->h.type);
	struct out_msg *o = c->out_count < OUT_MAX ? malloc(offsetof(struct out_msg, m) + size) : NULL;

	if (o == NULL) {
		log_warnx("%s %u: does not read its messages: killed",
		    proc_role_name(s->ledger->child[i].role), s->ledger->child[i].index);
		children_kill(&s->children, i);
		return -ENOBUFS;
	}
	c->out_count++; /* first: what waits here dies with the supervisor, and the child is told again */
	o->next = NULL;
	o->fd = fd;
	memcpy(&o->m, m, size);
	if (c->out_tail != NULL)
		c->out_tail->next = o;
	else
		c->out_head = o;
	c->out_tail = o;
	return 0;
}

/* What a worker inherits. */
static bool
is_told(unsigned kind)
{
	return kind == LEDGER_LISTENER || kind == LEDGER_STREAM || kind == LEDGER_POOL;
}

/* A descriptor that waited may be another one by now: a configuration is sent as it is at that moment, a
 * socket only if it is still the shard's. */
static bool
refresh(struct super *s, struct out_msg *o)
{
	if (o->m.h.type == MSG_CONF) {
		o->fd = s->conf_fd;
		o->m.msg_conf.generation = s->conf.generation;
	} else if (o->m.h.type == MSG_USERS) {
		o->fd = s->users_fd;
		o->m.msg_users.size = s->users_size;
		o->m.msg_users.generation = s->conf.generation;
	} else if (o->m.h.type == MSG_CERTS) {
		o->fd = s->certs_fd;
		o->m.msg_certs.size = s->certs_size;
		o->m.msg_certs.generation = s->conf.generation;
	} else if (o->m.h.type == MSG_HELD) {
		return is_told(s->ledger->fd[o->fd].kind);
	} else if (o->m.h.type == MSG_SOCKET) {
		const struct ledger_fd *e = &s->ledger->fd[o->fd];
		return e->kind == LEDGER_POOL && e->shard == o->m.msg_socket.shard &&
		    e->port == o->m.msg_socket.port;
	}
	return true;
}

void
super_flush(struct super *s, unsigned i)
{
	struct child *c = &s->children.c[i];

	while (c->out_head != NULL) {
		struct out_msg *o = c->out_head;
		if (refresh(s, o) && ipc_send(c->control, &o->m, o->fd) == -EAGAIN)
			return;
		c->out_head = o->next;
		if (c->out_head == NULL)
			c->out_tail = NULL;
		c->out_count--;
		free(o);
	}
	(void)loop_mod(s->loop, c->control, EPOLLIN);
}

int
super_send(struct super *s, unsigned i, const void *msg, int fd)
{
	struct child *c = &s->children.c[i];
	union msg m;
	int err;

	if (c->control < 0)
		return -EPIPE;
	if (c->foreign) {
		/* Our numbers mean something else to it.  That we are gone, it understands. */
		if (((const struct msg_head *)msg)->type == MSG_STOP)
			(void)shutdown(c->control, SHUT_RDWR);
		return 0;
	}
	memcpy(&m, msg, msg_size(((const struct msg_head *)msg)->type));
	m.h.generation = s->ledger->child[i].generation;
	if (c->out_head != NULL)
		return enqueue(s, i, &m, fd);
	err = ipc_send(c->control, &m, fd);
	if (err != -EAGAIN)
		return err;
	err = enqueue(s, i, &m, fd);
	if (err == 0)
		(void)loop_mod(s->loop, c->control, EPOLLIN | EPOLLOUT);
	return err;
}

static void
start_message(const struct super *s, const struct ledger_child *c, struct msg_start *m)
{
	int keep[HELD_KEEP_MAX];

	memset(m, 0xff, sizeof *m); /* every descriptor -1 */
	m->h.type = MSG_START;
	m->role = c->role;
	m->index = c->index;
	m->shard_count = s->regions.shards;
	m->slot_max = s->regions.slot_max;
	m->boot_ms = s->ledger->boot_ms;
	m->foreground = s->foreground;
	m->drop_privileges = s->drop;
	m->stand_by = 0;
	m->zero = 0;
	m->uid = s->uid;
	m->gid = s->gid;
	m->draining = super_drain_flags(s);
	m->tlsd_count = s->tlsd_count;
	(void)held_keep(s, c, keep, m);
}

static struct msg_shard
shard_message(const struct super *s, unsigned shard, bool owner)
{
	const struct regions *r = &s->regions;
	struct msg_shard m = {
		.h.type = MSG_SHARD,
		.shard = shard,
		.region_fd = owner ? r->shard[shard].rw : r->shard[shard].ro,
		.keys_fd = owner ? r->keys[shard].rw : -1,
		.epoll_fd = owner ? r->epoll[shard] : -1,
		.epoll_is_new = owner && s->renewed[shard],
		.fd_base = window_base(&s->win, shard),
		.fd_span = (int32_t)s->win.span,
	};

	for (unsigned k = 0; k < MSG_TLSDS_MAX; k++)
		m.tlsd_fd[k] = owner && k < s->tlsd_count ? s->tlsd_pair[shard][k][0] : -1;
	return m;
}

static void
tell_shard(struct super *s, unsigned i, unsigned shard, bool owner)
{
	struct msg_shard m = shard_message(s, shard, owner);

	(void)super_send(s, i, &m, -1);
}

static struct msg_listener
listener_message(const struct ledger_fd *e, unsigned shard, int fd)
{
	return (struct msg_listener){ .h.type = MSG_LISTENER,
		.shard = shard,
		.row = e->row,
		.fd = fd,
		.transport = e->stream ? TRANSPORT_TCP : TRANSPORT_UDP };
}

static int
window_end(const struct super *s, unsigned shard)
{
	int end = window_base(&s->win, shard) + (int)s->win.span;

	return end > (int)s->ledger->fd_max ? (int)s->ledger->fd_max : end;
}

/* `again`: to a stand-by, which was told of the listeners that there were. */
static void
tell_sockets(struct super *s, unsigned i, unsigned shard, bool again)
{
	struct msg_pool p = { .h.type = MSG_POOL, .shard = shard };
	struct msg_streams t = { .h.type = MSG_STREAMS, .shard = shard };
	int end = window_end(s, shard);

	for (int fd = window_base(&s->win, shard); fd < end; fd++) {
		const struct ledger_fd *e = &s->ledger->fd[fd];
		if (e->kind == LEDGER_LISTENER) {
			struct msg_listener m = listener_message(e, shard, fd);
			if (!again || ledger_has_changed(fd))
				(void)super_send(s, i, &m, -1);
		} else if (e->kind == LEDGER_STREAM) {
			t.sock[t.count++] = (struct msg_stream_sock){ .fd = fd, .row = e->row };
			if (t.count == MSG_POOL_MAX) {
				(void)super_send(s, i, &t, -1);
				t.count = 0;
			}
		} else if (e->kind == LEDGER_POOL) {
			p.sock[p.count++] = (struct msg_pool_sock){
				.fd = fd, .port = e->port, .row = e->row, .family = e->family
			};
			if (p.count == MSG_POOL_MAX) {
				(void)super_send(s, i, &p, -1);
				p.count = 0;
			}
		}
	}
	if (p.count > 0)
		(void)super_send(s, i, &p, -1);
	if (t.count > 0)
		(void)super_send(s, i, &t, -1);
}

static void
go(struct super *s, unsigned i)
{
	struct msg_go m = { .h.type = MSG_GO };

	(void)super_send(s, i, &m, -1);
	super_poison_tell(s, i);
	s->children.c[i].told = true;
	CRASH_POINT("super:told");
}

void
super_tell_start(struct super *s, unsigned i)
{
	const struct ledger_child *c = &s->ledger->child[i];
	struct msg_start m;

	start_message(s, c, &m);
	(void)super_send(s, i, &m, -1);
	if (c->role == ROLE_ADMIN)
		for (unsigned k = 0; k < s->regions.shards; k++)
			tell_shard(s, i, k, false);
	for (unsigned k = 0; k < c->shard_count; k++) {
		tell_shard(s, i, c->first_shard + k, true);
		tell_sockets(s, i, c->first_shard + k, false);
	}
	go(s, i);
}

/* Each is small, and the socket is empty: what it does not take, no other will. */
static int
tell_one(const struct stand_by *b, void *msg)
{
	struct msg_head *h = msg;

	h->generation = b->generation;
	return ipc_send(b->control, msg, -1);
}

/* Its engine is chosen by them. */
static int
tell_listeners(const struct super *s, const struct stand_by *b, unsigned shard)
{
	int end = window_end(s, shard), err = 0;

	for (int fd = window_base(&s->win, shard); fd < end && err == 0; fd++) {
		struct msg_listener m = listener_message(&s->ledger->fd[fd], shard, fd);
		if (s->ledger->fd[fd].kind == LEDGER_LISTENER)
			err = tell_one(b, &m);
	}
	return err;
}

int
super_tell_stand_by(struct super *s, const struct stand_by *b)
{
	struct ledger_child c = s->ledger->child[b->child];
	struct msg_prepare p = { .h.type = MSG_PREPARE };
	struct msg_start m;
	int err;

	c.first_shard = b->first_shard;
	c.shard_count = b->shard_count;
	start_message(s, &c, &m);
	m.stand_by = 1;
	err = tell_one(b, &m);
	for (unsigned k = 0; k < b->shard_count && err == 0; k++) {
		struct msg_shard shard = shard_message(s, b->first_shard + k, true);
		err = tell_one(b, &shard);
		if (err == 0)
			err = tell_listeners(s, b, b->first_shard + k);
	}
	return err == 0 ? tell_one(b, &p) : err;
}

/* What the stand-by has under a number of this window and what the shard has there are no longer the same. */
static void
tell_changes(struct super *s, unsigned i, unsigned shard)
{
	int end = window_end(s, shard);

	for (int fd = window_base(&s->win, shard); fd < end; fd++) {
		struct msg_held held = { .h.type = MSG_HELD, .fd = fd };
		struct msg_not_held not = { .h.type = MSG_NOT_HELD, .fd = fd };
		if (!ledger_has_changed(fd))
			continue;
		(void)super_send(s, i, &not, -1);
		if (is_told(s->ledger->fd[fd].kind))
			(void)super_send(s, i, &held, fd);
	}
}

void
super_tell_rest(struct super *s, unsigned i)
{
	const struct ledger_child *c = &s->ledger->child[i];

	for (unsigned k = 0; k < c->shard_count; k++)
		tell_changes(s, i, c->first_shard + k);
	for (unsigned k = 0; k < c->shard_count; k++)
		tell_sockets(s, i, c->first_shard + k, true);
	go(s, i);
}

void
super_tell_conf(struct super *s)
{
	struct msg_conf m = {
		.h.type = MSG_CONF, .size = sizeof s->conf, .generation = s->conf.generation
	};
	struct msg_certs certs = {
		.h.type = MSG_CERTS, .size = s->certs_size, .generation = s->conf.generation
	};
	struct msg_users u = {
		.h.type = MSG_USERS, .size = s->users_size, .generation = s->conf.generation
	};

	stand_by_end(s);
	for (unsigned i = 0; i < s->ledger->child_count; i++) {
		if (!child_is_running(&s->ledger->child[i]))
			continue;
		/* Users before the configuration: turnpike-auth answers with the new generation only
		 * when it has both. */
		if (s->ledger->child[i].role == ROLE_AUTHD)
			(void)super_send(s, i, &u, s->users_fd);
		(void)super_send(s, i, &m, s->conf_fd);
		/* Contexts are made with the last configuration: it comes first. */
		if (s->ledger->child[i].role == ROLE_TLSD)
			(void)super_send(s, i, &certs, s->certs_fd);
	}
}
