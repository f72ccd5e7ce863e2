/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * carry_load.c: takes over what the previous image wrote.
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "carry.h"
#include "super_int.h"

struct loading {
	struct super *s;
	char *why;
	size_t len;
};

static int TP_PRINTF(2, 3) refuse(struct loading *l, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(l->why, l->len, fmt, ap);
	va_end(ap);
	return -EPROTO;
}

static int
fd_in(int32_t fd)
{
	return fd <= 0 ? -1 : fd;
}

/* What an older writer did not know of is zero. */
#define TAKE(x, r, body)                                                                                   \
	do {                                                                                               \
		memset(&(x), 0, sizeof(x));                                                                \
		memcpy(&(x), (body), (r)->len < sizeof(x) ? (r)->len : sizeof(x));                         \
	} while (0)

static int
check_layouts(struct loading *l, const struct carry_head *h)
{
	static const char *const names[] = { "session", "key", "cross-shard" };
	const uint32_t theirs[] = { h->layout_shard, h->layout_keys, h->layout_cross };
	const uint32_t ours[] = { STATE_LAYOUT_SHARD, STATE_LAYOUT_KEYS, STATE_LAYOUT_CROSS };

	if (h->magic != CARRY_MAGIC)
		return refuse(l, "this is not the state of a supervisor");
	if (h->version != CARRY_VERSION)
		return refuse(l,
		    "the supervisor's state has format %u, this version (" PACKAGE_VERSION ") reads %u",
		    h->version, CARRY_VERSION);
	for (unsigned i = 0; i < TP_COUNT(names); i++)
		if (theirs[i] != ours[i])
			return refuse(l,
			    "the %s tables have layout %u, this version (" PACKAGE_VERSION
			    ") works with %u: only a "
			    "full restart can change to it",
			    names[i], theirs[i], ours[i]);
	if (h->shards == 0 || h->shards > SHARDS_MAX || h->workers == 0 || h->workers > h->shards ||
	    h->slot_max == 0 || h->fd_first < 8 || h->fd_span == 0 ||
	    (uint64_t)h->fd_first + (uint64_t)h->fd_span * h->shards > LEDGER_FDS)
		return refuse(l, "the supervisor's state has impossible numbers");
	return 0;
}

static void
head_numbers(struct super *s, const struct carry_head *h)
{
	struct ledger *l = s->ledger;

	s->regions.shards = h->shards;
	s->regions.slot_max = h->slot_max;
	s->win = (struct windows){ .first = h->fd_first, .span = h->fd_span, .shards = h->shards };
	l->shard_count = h->shards;
	l->worker_count = h->workers;
	l->slot_max = h->slot_max;
	l->boot_ms = h->boot_ms;
	l->reloads = h->reloads;
	l->last_reload_ms = h->last_reload_ms;
	l->draining = h->phase == SUPER_DRAINING;
	s->phase = h->phase == SUPER_DRAINING ? SUPER_DRAINING : SUPER_RUNNING;
	s->terminated = h->terminated != 0;
	s->deadline = h->deadline;
	s->foreground = h->foreground != 0;
	s->drop = h->drop != 0;
	s->uid = h->uid;
	s->gid = h->gid;
	s->warnings = h->warnings;
	s->granted = (size_t)h->granted;
	s->users_size = h->users_size;
	s->conf.generation = h->conf_generation;
	s->pool.next_id = h->next_reservation;
	s->upgrade.who = (struct requester){
		.used = h->request_used != 0, .request = h->request, .generation = h->request_generation
	};
	s->upgrade.foreign = h->messages != carry_messages();
	s->upgrade.other_stats = h->stat_rows != carry_stat_rows();
	/* Compiled together: one that cannot be read means that both are compiled again. */
	s->upgrade.conf_size = h->layout_users == USERS_LAYOUT ? h->conf_size : 0;
}

static int
head(struct loading *l, const struct carry_head *h)
{
	struct super *s = l->s;
	struct regions *r = &s->regions;
	int err = check_layouts(l, h);

	if (err < 0)
		return err;
	head_numbers(s, h);
	s->conf_fd = fd_in(h->conf_fd);
	s->users_fd = fd_in(h->users_fd);
	s->log_read = fd_in(h->log_read);
	s->log_write = fd_in(h->log_write);
	s->control_fd = fd_in(h->control_fd);
	s->http_fd = fd_in(h->http_fd);
	s->pid_fd = fd_in(h->pid_fd);
	s->certs_fd = fd_in(h->certs_fd);
	s->filter_fd = fd_in(h->filter_fd);
	s->certs_size = h->certs_size;
	s->tlsd_count = h->tlsd_count < MSG_TLSDS_MAX ? h->tlsd_count : MSG_TLSDS_MAX;
	for (unsigned k = 0; k < MSG_TLSDS_MAX; k++)
		r->stat_tlsd[k] = (struct region){ -1, -1 };
	for (unsigned i = 0; i < r->shards; i++)
		for (unsigned k = 0; k < s->tlsd_count; k++)
			s->tlsd_pair[i][k][0] = s->tlsd_pair[i][k][1] = -1;
	s->upgrade.back_exe = fd_in(h->exe_fd);
	r->secret = (struct region){ fd_in(h->secret_rw), fd_in(h->secret_ro) };
	r->ports = (struct region){ fd_in(h->ports_rw), fd_in(h->ports_ro) };
	r->cross = (struct region){ fd_in(h->cross_rw), fd_in(h->cross_ro) };
	r->stat_authd = (struct region){ fd_in(h->authd_stat_rw), fd_in(h->authd_stat_ro) };
	r->stat_admin = (struct region){ fd_in(h->admin_stat_rw), fd_in(h->admin_stat_ro) };
	r->stat_super = (struct region){ fd_in(h->super_stat_rw), fd_in(h->super_stat_ro) };
	s->authd_pair[SHARDS_MAX][0] = fd_in(h->admin_pair);
	s->authd_pair[SHARDS_MAX][1] = fd_in(h->authd_pair);
	return 0;
}

static int
shard(struct loading *l, const struct carry_shard *c)
{
	struct super *s = l->s;
	struct regions *r = &s->regions;

	if (c->index >= r->shards)
		return refuse(l, "the supervisor's state names shard %u of %u", c->index, r->shards);
	r->shard[c->index] = (struct region){ fd_in(c->shard_rw), fd_in(c->shard_ro) };
	r->keys[c->index] = (struct region){ fd_in(c->keys_rw), -1 };
	r->stat_worker[c->index] = (struct region){ fd_in(c->stat_rw), fd_in(c->stat_ro) };
	r->epoll[c->index] = fd_in(c->epoll);
	s->authd_pair[c->index][0] = fd_in(c->worker_pair);
	s->authd_pair[c->index][1] = fd_in(c->authd_pair);
	s->adopt_deaths[c->index] = c->adopt_deaths;
	return 0;
}

static void
tlsd(struct super *s, const struct carry_tlsd *c)
{
	if (c->index < MSG_TLSDS_MAX)
		s->regions.stat_tlsd[c->index] = (struct region){ fd_in(c->stat_rw), fd_in(c->stat_ro) };
}

static void
tlsd_pair(struct super *s, const struct carry_tlsd_pair *c)
{
	if (c->shard >= s->regions.shards || c->tlsd >= s->tlsd_count)
		return;
	s->tlsd_pair[c->shard][c->tlsd][0] = fd_in(c->worker_fd);
	s->tlsd_pair[c->shard][c->tlsd][1] = fd_in(c->tlsd_fd);
}

static int
child(struct loading *l, const struct carry_child *c)
{
	struct super *s = l->s;
	int i = c->role < ROLES ? children_row(&s->children, c->role, c->index) : -1;

	if (i < 0 || c->shard_count > s->regions.shards ||
	    c->first_shard > s->regions.shards - c->shard_count)
		return refuse(l, "the supervisor's state names a process that cannot be");
	struct ledger_child *p = &s->ledger->child[i];
	struct child *q = &s->children.c[i];
	p->state = c->state;
	p->generation = c->generation;
	p->pid = c->pid;
	p->deaths = c->deaths;
	p->starts = c->starts;
	p->first_shard = c->first_shard;
	p->shard_count = c->shard_count;
	p->since_ms = c->since_ms;
	text_copy(p->words, sizeof p->words, c->words[sizeof c->words - 1] == '\0' ? c->words : "");
	q->control = fd_in(c->control);
	q->started = c->started;
	q->due = c->due;
	q->killed = (c->flags & 1) != 0;
	q->hung = (c->flags & 2) != 0;
	q->paused = (c->flags & 4) != 0;
	q->again = (c->flags & 8) != 0;
	q->foreign = s->upgrade.foreign;
	return 0;
}

static int
socket_of(struct loading *l, const struct carry_fd *c)
{
	struct super *s = l->s;
	struct ledger_fd e = { .kind = c->kind, .row = c->row, .family = c->family, .stream = c->stream };

	if (c->shard >= s->win.shards || !window_has(&s->win, c->shard, c->fd))
		return refuse(
		    l, "the supervisor's state names socket %d in a place that it cannot have", c->fd);
	e.port = c->port;
	e.shard = c->shard;
	ledger_set(s->ledger, c->fd, e);
	return 0;
}

static void
reserved(struct super *s, const struct carry_reserved *c)
{
	for (unsigned i = 0; i < POOL_RESERVED; i++)
		if (s->pool.reserved[i].fd < 0) {
			s->pool.reserved[i] = (struct pool_reserved){
				.id = c->id, .fd = c->fd, .expiry = c->expiry
			};
			return;
		}
}

static void
suspected(struct super *s, const struct carry_suspect *c)
{
	for (unsigned i = 0; i < SUSPECTS; i++)
		if (s->suspect[i].deaths == 0) {
			s->suspect[i] = (struct suspect){ .deaths = c->deaths,
				.shard = c->shard,
				.slot = c->slot,
				.gen = c->gen,
				.source = c->source,
				.last = c->last };
			return;
		}
}

static void
row_of(struct super *s, unsigned type, const struct carry_row *c)
{
	if (type == CARRY_LISTENER && c->row < LISTENERS_MAX) {
		s->conf.listeners[c->row] = (struct conf_listener){
			.addr = c->addr, .retired = c->retired != 0, .transports = (uint8_t)c->transports
		};
		if (s->conf.listener_count <= c->row)
			s->conf.listener_count = c->row + 1;
	}
	if (type == CARRY_RELAY && c->row < RELAYS_MAX) {
		s->conf.relays[c->row] = (struct conf_relay){ .addr = c->addr,
			.port_min = c->port_min,
			.port_max = c->port_max,
			.external = c->external,
			.unknown = c->has_external != 0 ? 0 : ROW_EXTERNAL_NOT_CARRIED,
			.retired = c->retired != 0 };
		if (s->conf.relay_count <= c->row)
			s->conf.relay_count = c->row + 1;
	}
}

static int
record(void *arg, const struct carry_record *r, const void *body)
{
	struct loading *l = arg;
	union {
		struct carry_head head;
		struct carry_shard shard;
		struct carry_child child;
		struct carry_fd fd;
		struct carry_reserved reserved;
		struct carry_suspect suspect;
		struct carry_row row;
		struct carry_binary binary;
		struct carry_tlsd tlsd;
		struct carry_tlsd_pair tlsd_pair;
	} x;

	TAKE(x, r, body);
	switch (r->type) {
	case CARRY_HEAD:
		return head(l, &x.head);
	case CARRY_SHARD:
		return shard(l, &x.shard);
	case CARRY_CHILD:
		return child(l, &x.child);
	case CARRY_FD:
		return socket_of(l, &x.fd);
	case CARRY_RESERVED:
		reserved(l->s, &x.reserved);
		return 0;
	case CARRY_SUSPECT:
		suspected(l->s, &x.suspect);
		return 0;
	case CARRY_LISTENER:
	case CARRY_RELAY:
		row_of(l->s, r->type, &x.row);
		return 0;
	case CARRY_BINARY:
		if (x.binary.role < ROLES)
			l->s->upgrade.back_binary[x.binary.role] = fd_in(x.binary.fd);
		return 0;
	case CARRY_TLSD:
		tlsd(l->s, &x.tlsd);
		return 0;
	case CARRY_TLSD_PAIR:
		tlsd_pair(l->s, &x.tlsd_pair);
		return 0;
	case CARRY_STAT_ROW:
		return 0; /* regions_resume() reads these */
	default:
		if (r->flags & CARRY_MUST)
			return refuse(l,
			    "the supervisor's state has a record (%u) that this version (" PACKAGE_VERSION
			    ") does not know and may not leave out",
			    r->type);
		return 0;
	}
}

/* A turnpike-tls process without all its socket pairs could not be
 * reached. */
static void
check_tlsds(struct super *s)
{
	for (unsigned i = 0; i < s->regions.shards; i++)
		for (unsigned k = 0; k < s->tlsd_count; k++)
			if (s->tlsd_pair[i][k][0] < 0 || s->tlsd_pair[i][k][1] < 0)
				s->tlsd_count = 0;
}

int
carry_load(struct super *s, int fd, char *why, size_t len)
{
	struct loading l = { .s = s, .why = why, .len = len };
	struct stat st;
	void *p;
	int err;

	if (fstat(fd, &st) < 0 || st.st_size < (off_t)sizeof(struct carry_record))
		return refuse(&l, "there is no supervisor's state on descriptor %d", fd);
	p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return refuse(&l, "the supervisor's state cannot be mapped: %s", strerror(errno));
	err = carry_walk(p, (size_t)st.st_size, record, &l, why, len);
	if (err == 0)
		check_tlsds(s);
	munmap(p, (size_t)st.st_size);
	return err;
}
