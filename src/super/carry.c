/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * carry.c: writes the state that the next image of the supervisor takes over; walks records; says which
 * descriptors belong to it.
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "carry.h"
#include "super_int.h"

struct out {
	uint8_t *p;
	size_t len, max;
	uint32_t records;
	bool failed;
};

static uint64_t
sum_of(const uint8_t *p, size_t len)
{
	uint64_t h = 0xcbf29ce484222325u; /* FNV-1a: against a cut file, not against an enemy */

	for (size_t i = 0; i < len; i++)
		h = (h ^ p[i]) * 0x100000001b3u;
	return h;
}

static void
put(struct out *o, enum carry_type type, bool must, const void *body, size_t len)
{
	struct carry_record r = {
		.type = (uint16_t)type, .flags = must ? CARRY_MUST : 0, .len = (uint32_t)len
	};
	size_t all = sizeof r + ((len + 7) & ~(size_t)7);

	if (o->len + all > o->max) {
		size_t max = o->max == 0 ? 65536 : o->max * 2;
		uint8_t *grown = o->failed ? NULL : realloc(o->p, max);
		if (grown == NULL) {
			o->failed = true;
			return;
		}
		o->p = grown;
		o->max = max;
	}
	memset(o->p + o->len, 0, all);
	memcpy(o->p + o->len, &r, sizeof r);
	memcpy(o->p + o->len + sizeof r, body, len);
	o->len += all;
	o->records++;
}

/* Absent descriptors are 0. */
static int32_t
fd_out(int fd)
{
	return fd < 0 ? 0 : fd;
}

uint32_t
carry_messages(void)
{
	uint64_t h = 0;

	for (uint32_t t = 0; t < MSG_TYPES; t++) {
		size_t size = msg_size(t);
		h = h * 31 + sum_of((const uint8_t *)msg_name(t), strlen(msg_name(t)));
		h = h * 31 + size;
	}
	return (uint32_t)(h ^ h >> 32) | 1;
}

uint32_t
carry_stat_rows(void)
{
	uint64_t h = sizeof(struct stats);

	for (unsigned i = 0; i < STAT_COUNTERS; i++)
		h = h * 31 + sum_of((const uint8_t *)stat_rows[i].name, strlen(stat_rows[i].name));
	for (unsigned i = 0; i < DROPS; i++)
		h = h * 31 + sum_of((const uint8_t *)drop_rows[i].name, strlen(drop_rows[i].name));
	return (uint32_t)(h ^ h >> 32) | 1;
}

/* ---- writing --------------------------------------------------------------------------------------- */

static void
head_numbers(const struct super *s, struct carry_head *h)
{
	const struct ledger *l = s->ledger;

	*h = (struct carry_head){
		.magic = CARRY_MAGIC,
		.version = CARRY_VERSION,
		.layout_shard = STATE_LAYOUT_SHARD,
		.layout_keys = STATE_LAYOUT_KEYS,
		.layout_cross = STATE_LAYOUT_CROSS,
		.messages = carry_messages(),
		.shards = s->regions.shards,
		.workers = l->worker_count,
		.slot_max = s->regions.slot_max,
		.fd_first = s->win.first,
		.fd_span = s->win.span,
		.phase = s->phase,
		.terminated = s->terminated,
		.foreground = s->foreground,
		.drop = s->drop,
		.uid = s->uid,
		.gid = s->gid,
		.request_used = s->upgrade.who.used,
		.request = s->upgrade.who.request,
		.request_generation = s->upgrade.who.generation,
		.next_reservation = s->pool.next_id,
		.warnings = s->warnings,
		.boot_ms = l->boot_ms,
		.reloads = l->reloads,
		.last_reload_ms = l->last_reload_ms,
		.conf_generation = s->conf.generation,
		.deadline = s->deadline,
		.users_size = s->users_size,
		.granted = s->granted,
		.conf_size = sizeof s->conf,
		.stat_rows = carry_stat_rows(),
		.layout_users = USERS_LAYOUT,
	};
}

static void
put_head(struct out *o, const struct super *s)
{
	const struct regions *r = &s->regions;
	struct carry_head h;

	head_numbers(s, &h);
	h.conf_fd = fd_out(s->conf_fd);
	h.users_fd = fd_out(s->users_fd);
	h.log_read = fd_out(s->log_read);
	h.log_write = fd_out(s->log_write);
	h.control_fd = fd_out(s->control_fd);
	h.http_fd = fd_out(s->http_fd);
	h.pid_fd = fd_out(s->pid_fd);
	h.exe_fd = fd_out(s->upgrade.back_exe >= 0 ? s->upgrade.back_exe : s->exe_fd);
	h.secret_rw = fd_out(r->secret.rw);
	h.secret_ro = fd_out(r->secret.ro);
	h.cross_rw = fd_out(r->cross.rw);
	h.cross_ro = fd_out(r->cross.ro);
	h.authd_stat_rw = fd_out(r->stat_authd.rw);
	h.authd_stat_ro = fd_out(r->stat_authd.ro);
	h.admin_stat_rw = fd_out(r->stat_admin.rw);
	h.admin_stat_ro = fd_out(r->stat_admin.ro);
	h.super_stat_rw = fd_out(r->stat_super.rw);
	h.super_stat_ro = fd_out(r->stat_super.ro);
	h.admin_pair = fd_out(s->authd_pair[SHARDS_MAX][0]);
	h.certs_fd = fd_out(s->certs_fd);
	h.filter_fd = fd_out(s->filter_fd);
	h.ports_rw = fd_out(r->ports.rw);
	h.ports_ro = fd_out(r->ports.ro);
	h.certs_size = s->certs_size;
	h.tlsd_count = s->tlsd_count;
	h.authd_pair = fd_out(s->authd_pair[SHARDS_MAX][1]);
	put(o, CARRY_HEAD, true, &h, sizeof h);
}

static void
put_shards(struct out *o, const struct super *s)
{
	const struct regions *r = &s->regions;

	for (unsigned i = 0; i < r->shards; i++) {
		struct carry_shard c = {
			.index = i,
			.shard_rw = fd_out(r->shard[i].rw),
			.shard_ro = fd_out(r->shard[i].ro),
			.keys_rw = fd_out(r->keys[i].rw),
			.epoll = fd_out(r->epoll[i]),
			.stat_rw = fd_out(r->stat_worker[i].rw),
			.stat_ro = fd_out(r->stat_worker[i].ro),
			.worker_pair = fd_out(s->authd_pair[i][0]),
			.authd_pair = fd_out(s->authd_pair[i][1]),
			.adopt_deaths = s->adopt_deaths[i],
		};
		put(o, CARRY_SHARD, true, &c, sizeof c);
	}
}

static void
put_tlsds(struct out *o, const struct super *s)
{
	const struct regions *r = &s->regions;

	for (unsigned k = 0; k < MSG_TLSDS_MAX; k++) {
		struct carry_tlsd c = { .index = k,
			.stat_rw = fd_out(r->stat_tlsd[k].rw),
			.stat_ro = fd_out(r->stat_tlsd[k].ro) };
		put(o, CARRY_TLSD, false, &c, sizeof c);
	}
	for (unsigned i = 0; i < r->shards; i++)
		for (unsigned k = 0; k < s->tlsd_count; k++) {
			struct carry_tlsd_pair c = { .shard = i,
				.tlsd = k,
				.worker_fd = fd_out(s->tlsd_pair[i][k][0]),
				.tlsd_fd = fd_out(s->tlsd_pair[i][k][1]) };
			put(o, CARRY_TLSD_PAIR, false, &c, sizeof c);
		}
}

static void
put_children(struct out *o, const struct super *s)
{
	for (unsigned i = 0; i < s->ledger->child_count; i++) {
		const struct ledger_child *p = &s->ledger->child[i];
		const struct child *q = &s->children.c[i];
		struct carry_child c = {
			.role = p->role,
			.index = p->index,
			.state = p->state,
			.generation = p->generation,
			.pid = p->pid,
			.control = fd_out(q->control),
			.deaths = p->deaths,
			.starts = p->starts,
			.first_shard = p->first_shard,
			.shard_count = p->shard_count,
			.flags = (q->killed ? 1u : 0) | (q->hung ? 2u : 0) | (q->paused ? 4u : 0) |
			    (q->again ? 8u : 0),
			.since_ms = p->since_ms,
			.started = q->started,
			.due = q->due,
		};
		memcpy(c.words, p->words, sizeof c.words);
		put(o, CARRY_CHILD, true, &c, sizeof c);
	}
	for (unsigned i = 0; i < s->program_count; i++) {
		unsigned role = s->programs[i].role;
		int fd = s->upgrade.back_exe >= 0 ? s->upgrade.back_binary[role] : s->binary[role];
		struct carry_binary b = { .role = role, .fd = fd_out(fd) };
		put(o, CARRY_BINARY, false, &b, sizeof b);
	}
}

static void
put_sockets(struct out *o, const struct super *s)
{
	for (int fd = (int)s->win.first; fd < (int)s->ledger->fd_max; fd++) {
		const struct ledger_fd *e = &s->ledger->fd[fd];
		struct carry_fd c = { .fd = fd,
			.kind = e->kind,
			.row = e->row,
			.family = e->family,
			.stream = e->stream,
			.port = e->port,
			.shard = e->shard };
		if (e->kind != LEDGER_FREE)
			put(o, CARRY_FD, true, &c, sizeof c);
	}
	for (unsigned i = 0; i < POOL_RESERVED; i++) {
		const struct pool_reserved *r = &s->pool.reserved[i];
		struct carry_reserved c = { .id = r->id, .fd = r->fd, .expiry = r->expiry };
		if (r->fd >= 0)
			put(o, CARRY_RESERVED, true, &c, sizeof c);
	}
}

static void
put_rows(struct out *o, const struct super *s)
{
	for (uint32_t i = 0; i < s->conf.listener_count; i++) {
		const struct conf_listener *l = &s->conf.listeners[i];
		struct carry_row c = {
			.row = i, .retired = l->retired, .addr = l->addr, .transports = l->transports
		};
		put(o, CARRY_LISTENER, true, &c, sizeof c);
	}
	for (uint32_t i = 0; i < s->conf.relay_count; i++) {
		const struct conf_relay *r = &s->conf.relays[i];
		struct carry_row c = { .row = i,
			.retired = r->retired,
			.addr = r->addr,
			.port_min = r->port_min,
			.port_max = r->port_max,
			.external = r->external,
			.has_external = 1 };
		put(o, CARRY_RELAY, true, &c, sizeof c);
	}
	for (unsigned i = 0; i < SUSPECTS; i++) {
		const struct suspect *v = &s->suspect[i];
		struct carry_suspect c = { .deaths = v->deaths,
			.shard = v->shard,
			.slot = v->slot,
			.gen = v->gen,
			.source = v->source,
			.last = v->last };
		if (v->deaths > 0)
			put(o, CARRY_SUSPECT, false, &c, sizeof c);
	}
}

static void
put_stat_row(struct out *o, uint32_t array, size_t offset, const char *name)
{
	struct carry_stat_row c = { .array = array, .offset = (uint32_t)offset };

	text_copy(c.name, sizeof c.name, name);
	put(o, CARRY_STAT_ROW, false, &c, sizeof c);
}

int
carry_save(const struct super *s)
{
	struct out o = { 0 };
	struct carry_end end = { 0 };
	int fd;

	put_head(&o, s);
	put_shards(&o, s);
	put_tlsds(&o, s);
	put_children(&o, s);
	put_sockets(&o, s);
	put_rows(&o, s);
	for (unsigned i = 0; i < STAT_COUNTERS; i++)
		put_stat_row(&o, 0, offsetof(struct stats, counter) + 8 * i, stat_rows[i].name);
	for (unsigned i = 0; i < DROPS; i++)
		put_stat_row(&o, 1, offsetof(struct stats, drop) + 8 * i, drop_rows[i].name);
	for (unsigned i = 0; i < STAT_ERROR_CODES; i++) {
		char name[16];
		snprintf(name, sizeof name, "%u", i);
		put_stat_row(&o, 2, offsetof(struct stats, error) + 8 * i, name);
	}
	end.records = o.records;
	end.sum = sum_of(o.p, o.failed ? 0 : o.len);
	put(&o, CARRY_END, true, &end, sizeof end);
	fd = o.failed ? -ENOMEM : conf_seal("turnpike-state", o.p, o.len);
	free(o.p);
	return fd;
}

/* ---- reading ---------------------------------------------------------------------------------------- */

int
carry_walk(const void *bytes, size_t len, carry_h *cb, void *arg, char *why, size_t why_len)
{
	const uint8_t *p = bytes;
	struct carry_end end = { 0 };
	uint32_t records = 0;
	size_t at = 0;
	int err;

	while (len - at >= sizeof(struct carry_record)) {
		struct carry_record r;
		memcpy(&r, p + at, sizeof r);
		if (r.len > len - at - sizeof r) {
			break;
		} else if (records == 0 && r.type != CARRY_HEAD) {
			snprintf(why, why_len, "this is not the state of a supervisor");
			return -EPROTO;
		} else if (r.type == CARRY_END) {
			memcpy(&end, p + at + sizeof r, r.len < sizeof end ? r.len : sizeof end);
			if (end.records == records && end.sum == sum_of(p, at))
				return 0;
			break;
		}
		if ((err = cb(arg, &r, p + at + sizeof r)) < 0)
			return err;
		records++;
		at += sizeof r + (((size_t)r.len + 7) & ~(size_t)7);
		if (at > len)
			break;
	}
	snprintf(why, why_len, "the supervisor's state is cut or damaged");
	return -EPROTO;
}
