/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * start.c: from the first message to READY.
 *
 *	START SHARD* LISTENER* POOL* STREAMS* GO   everything is told and checked
 *	map                               regions, configuration
 *	give up                           user, core dumps, files, system calls
 *	adopt                             state that a predecessor left, then its sockets
 *
 * A stand-by waits for its predecessor's end after the third of these:
 *
 *	START (SHARD LISTENER*)* PREPARE  answered by PREPARED
 *	HELD* NOT_HELD* LISTENER* POOL* STREAMS* GO
 *
 * Whatever is wrong ends the process: the supervisor tries again, with back-off, and shows the last words.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "worker_int.h"

#define PAGE        4096u
#define RING_MAX    1024
#define RELAY_BYTES (2u << 20) /* arena for relay datagrams and answers of one batch */

static void __attribute__((noreturn)) refuse(struct worker *w, const char *what, int rc)
{
	char text[80];

	snprintf(text, sizeof text, "start: %s", what);
	child_give_up(&w->proc, -rc, text);
}

/* ---- what is told -------------------------------------------------------------------------------- */

void
worker_told_start(void *arg, const struct msg_start *m)
{
	struct worker *w = arg;

	if (m->shard_count == 0 || m->shard_count > SHARDS_MAX || m->slot_max == 0 ||
	    m->slot_max > SLOT_MAX_MAX || m->tlsd_count > MSG_TLSDS_MAX)
		refuse(w, "START does not fit", -EPROTO);
	w->start = *m;
	w->stat = w->proc.stat;
	w->lane = calloc(m->shard_count, sizeof *w->lane);
	if (w->lane == NULL)
		refuse(w, "memory", -ENOMEM);
}

static void
told_shard(struct worker *w, const struct msg_shard *m)
{
	if (w->lane_count == w->start.shard_count || m->shard >= w->start.shard_count ||
	    lane_find(w, m->shard) != NULL || m->fd_base < 0 || m->fd_span <= 0 ||
	    m->fd_span > INT32_MAX - m->fd_base)
		refuse(w, "SHARD does not fit", -EPROTO);
	struct lane *l = &w->lane[w->lane_count++];
	l->told = *m;
	l->use = calloc((size_t)m->fd_span, 1);
	l->habit = calloc((size_t)m->fd_span, 1);
	l->sock = calloc((size_t)m->fd_span, sizeof *l->sock);
	if (l->use == NULL || l->habit == NULL || l->sock == NULL)
		refuse(w, "memory", -ENOMEM);
	for (unsigned i = 0; i < LISTENERS_MAX; i++)
		l->listener[i] = l->stream[i] = -1;
}

static void
told_listener(struct worker *w, const struct msg_listener *m)
{
	struct lane *l = lane_find(w, m->shard);
	int type = 0;
	socklen_t len = sizeof type;

	if (l == NULL || m->row >= LISTENERS_MAX)
		refuse(w, "LISTENER does not fit", -EPROTO);
	if (getsockopt(m->fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0)
		refuse(w, "listener", -errno);
	if (lane_window(l, m->fd))
		*lane_use(l, m->fd) = FD_LISTENER;
	int *at = m->transport == TRANSPORT_TCP ? &l->stream[m->row] : &l->listener[m->row];
	if (*at >= 0 || type != (m->transport == TRANSPORT_TCP ? SOCK_STREAM : SOCK_DGRAM))
		refuse(w, "LISTENER does not fit", -EPROTO);
	*at = m->fd;
}

static void
told_pool(struct worker *w, const struct msg_pool *m)
{
	struct lane *l = lane_find(w, m->shard);

	if (l == NULL || m->count > MSG_POOL_MAX)
		refuse(w, "POOL does not fit", -EPROTO);
	if (l->inherited_count + m->count > l->inherited_max) {
		size_t max = l->inherited_max == 0 ? 256 : l->inherited_max * 2;
		struct msg_pool_sock *grown = realloc(l->inherited, max * sizeof *grown);
		if (grown == NULL)
			refuse(w, "memory", -ENOMEM);
		l->inherited = grown;
		l->inherited_max = max;
	}
	for (uint32_t i = 0; i < m->count; i++) {
		const struct msg_pool_sock *s = &m->sock[i];
		if (!lane_window(l, s->fd) || *lane_use(l, s->fd) != FD_NONE || s->row >= RELAYS_MAX ||
		    (s->family != ADDR_V4 && s->family != ADDR_V6))
			refuse(w, "POOL names a wrong socket", -EPROTO);
		*lane_use(l, s->fd) = FD_INHERITED;
		*lane_sock(
		    l, s->fd) = (struct lane_sock){ .port = s->port, .row = s->row, .family = s->family };
		l->inherited[l->inherited_count++] = *s;
	}
}

static void
told_streams(struct worker *w, const struct msg_streams *m)
{
	struct lane *l = lane_find(w, m->shard);

	if (l == NULL || m->count > MSG_POOL_MAX)
		refuse(w, "STREAMS does not fit", -EPROTO);
	if (l->stream_count + m->count > l->stream_max) {
		size_t max = l->stream_max == 0 ? 256 : l->stream_max * 2;
		struct msg_stream_sock *grown = realloc(l->streams, max * sizeof *grown);
		if (grown == NULL)
			refuse(w, "memory", -ENOMEM);
		l->streams = grown;
		l->stream_max = max;
	}
	for (uint32_t i = 0; i < m->count; i++) {
		const struct msg_stream_sock *s = &m->sock[i];
		if (!lane_window(l, s->fd) || *lane_use(l, s->fd) != FD_NONE || s->row >= LISTENERS_MAX)
			refuse(w, "STREAMS names a wrong socket", -EPROTO);
		*lane_use(l, s->fd) = FD_STREAM_LEFT;
		l->streams[l->stream_count++] = *s;
	}
}

static void
forget_listener(struct lane *l, int fd)
{
	for (unsigned row = 0; row < LISTENERS_MAX; row++) {
		l->listener[row] = l->listener[row] == fd ? -1 : l->listener[row];
		l->stream[row] = l->stream[row] == fd ? -1 : l->stream[row];
	}
	*lane_use(l, fd) = FD_NONE;
}

/* A descriptor of one of its windows, under its number.  What it is will be told. */
static void
told_held(struct worker *w, int number, int fd)
{
	struct lane *l = NULL;

	for (unsigned i = 0; i < w->lane_count; i++)
		if (lane_window(&w->lane[i], number))
			l = &w->lane[i];
	if (l == NULL)
		refuse(w, "HELD names a wrong descriptor", -EPROTO);
	forget_listener(l, number);
	if (fd < 0)
		close(number);
	else if (fd != number && (dup3(fd, number, O_CLOEXEC) < 0 || close(fd) < 0))
		refuse(w, "descriptor", -errno);
}

void
worker_told(void *arg, const union msg *m, int fd)
{
	struct worker *w = arg;

	if (m->h.type == MSG_HELD) {
		told_held(w, m->msg_held.fd, fd);
		return;
	}
	if (fd >= 0) {
		close(fd);
		refuse(w, "a descriptor before GO", -EPROTO);
	}
	switch (m->h.type) {
	case MSG_SHARD:
		told_shard(w, &m->msg_shard);
		break;
	case MSG_LISTENER:
		told_listener(w, &m->msg_listener);
		break;
	case MSG_POOL:
		told_pool(w, &m->msg_pool);
		break;
	case MSG_STREAMS:
		told_streams(w, &m->msg_streams);
		break;
	case MSG_NOT_HELD:
		told_held(w, m->msg_not_held.fd, -1);
		break;
	default:
		refuse(w, "a message that has no place before GO", -EPROTO);
	}
}

/* ---- memory ----------------------------------------------------------------------------------------- */

static void *
map(struct worker *w, int fd, size_t size, bool write, bool secret, const char *what)
{
	void *p = region_map(fd, (size + PAGE - 1) / PAGE * PAGE, write, secret);

	if (p == NULL)
		refuse(w, what, -errno);
	return p;
}

static void *
locked(struct worker *w, size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		refuse(w, "memory", -errno);
	(void)madvise(p, size, MADV_DONTDUMP);
	(void)mlock2(p, size, MLOCK_ONFAULT);
	return p;
}

/*
 * Keys stay out of swap, where that is permitted.  The limit counts what may be touched one day, which is
 * far more than a host without the unit's LimitMEMLOCK allows: then the beginning of each table, which
 * fills up from there.
 */
static void
lock_keys(const struct worker *w, uint8_t *keys, size_t size)
{
	size_t end[SHARD_KEYS_TABLES], at = 0, share;
	struct rlimit r;

	if (mlock2(keys, size, MLOCK_ONFAULT) == 0 || getrlimit(RLIMIT_MEMLOCK, &r) < 0)
		return;
	share = (size_t)r.rlim_cur / 2 / (SHARD_KEYS_TABLES * w->lane_count) / PAGE * PAGE;
	shard_keys_ends(w->start.slot_max, end);
	for (unsigned i = 0; i < SHARD_KEYS_TABLES; at = end[i++])
		(void)mlock2(keys + at, end[i] - at < share ? end[i] - at : share, MLOCK_ONFAULT);
}

static void
map_shard(struct worker *w, struct lane *l)
{
	uint32_t max = w->start.slot_max;
	size_t keys_size = shard_keys_size(max);
	void *region = map(w, l->told.region_fd, shard_region_size(max), true, false, "shard region");
	void *keys = map(w, l->told.keys_fd, keys_size, true, true, "key region");
	uint8_t seed[16];

	lock_keys(w, keys, keys_size);
	randombytes_buf(seed, sizeof seed);
	w->stat->busy.shard = l->told.shard;
	w->stat->busy.phase = BUSY_ADOPT;
	int rc = shard_attach(&l->shard, l->told.shard, region, keys, max, true, seed);
	if (rc < 0)
		refuse(w, "shard", rc);
}

static void
map_all(struct worker *w)
{
	int err;

	w->keys.secret = map(w, w->start.secret_fd, SECRET_BYTES, false, true, "secret");
	void *cross = map(w, w->start.cross_fd, cross_region_size(), true, false, "cross region");
	if ((err = cross_attach(&w->cross, cross, w->index, NULL)) < 0)
		refuse(w, "cross region", err);
	w->ports = map(w, w->start.ports_fd, PORT_MAP_SIZE, false, false, "ports region");
	for (unsigned i = 0; i < w->lane_count; i++)
		map_shard(w, &w->lane[i]);
	w->policy[0] = calloc(1, sizeof *w->policy[0]);
	w->policy[1] = calloc(1, sizeof *w->policy[1]);
	w->plain = calloc(1, sizeof *w->plain);
	w->pending = pending_new((uint64_t)randombytes_random() << 32 | randombytes_random());
	w->arena = udp_arena_new(RELAY_BYTES);
	w->udp.down = udp_ring_new(RING_MAX);
	w->udp.up = udp_ring_new(RING_MAX);
	w->rows = calloc(LISTENERS_MAX, sizeof *w->rows);
	w->once = log_once_new();
	if (w->rows == NULL || w->once == NULL || w->plain == NULL || w->policy[0] == NULL ||
	    w->policy[1] == NULL || w->pending == NULL || w->arena == NULL || w->udp.down == NULL ||
	    w->udp.up == NULL)
		refuse(w, "memory", -ENOMEM);
	policy_drain(w, w->start.draining);
	if ((err = policy_take(w, w->start.conf_fd)) < 0)
		refuse(w, "configuration", err);
}

static void
make_core(struct worker *w)
{
	struct turn *t = &w->turn;

	batch_now(w);
	t->cross = &w->cross;
	t->stat = w->stat;
	t->cache = locked(w, sizeof *t->cache);
	if (seal_ctx_init(&w->seal) < 0)
		refuse(w, "ciphers", -ENOMEM);
	secret_derive(t->token_key, w->keys.secret, "tptoken0", 0);
	randombytes_buf(t->rnd, sizeof t->rnd);
	randombytes_buf(&w->pools.dice, sizeof w->pools.dice);
	w->pools.dice |= 1;
	worker_keys(w);
	w->client[TRANSPORT_TCP] = w->client[TRANSPORT_TLS] = &client_stream;
	w->client[TRANSPORT_DTLS] = &client_dtls;
}

/* ---- state ----------------------------------------------------------------------------------- */

struct adopting {
	struct worker *w;
	struct lane *l;
};

static void
dropped(void *arg, const struct session *x, uint32_t slot, const char *why)
{
	const struct adopting *a = arg;

	worklog_dropped(a->w, a->l->shard.index, x, slot, why);
}

static void
adopt(struct worker *w, struct msg_ready *m)
{
	w->stat->busy.phase = BUSY_ADOPT;
	for (unsigned i = 0; i < w->lane_count; i++) {
		struct lane *l = &w->lane[i];
		struct adopting a = { w, l };
		w->stat->busy.shard = l->told.shard;
		struct shard_adopted n = shard_adopt(&l->shard, w->turn.now, dropped, &a);
		session_adopt_sockets(w, l);
		conn_settle_all(w, l);
		m->adopted += n.live;
		m->dropped += n.dropped;
		int rc = events_shard(w, l);
		if (rc < 0)
			refuse(w, "shard epoll", rc);
		w->events.unsettled = true;
	}
	w->stat->busy.phase = BUSY_IDLE;
	w->stat->busy.slot = SLOT_NONE;
}

/* All that needs no state of a predecessor, which may still run. */
static void
prepare(struct worker *w)
{
	int rc;

	if (w->lane_count == 0)
		refuse(w, "no shard", -EPROTO);
	map_all(w);
	make_core(w);
	w->authd = w->start.authd_fd;
	rc = events_open(w);
	if (rc < 0)
		refuse(w, "event loop", rc);
	child_confine(&w->proc, -1);
}

/* Its counters are its predecessor's from now on; what it chose when it was prepared is its own. */
static void
take_over(struct worker *w)
{
	char engine[sizeof w->stat->engine];
	int32_t cpu = w->stat->cpu;
	uint32_t node = w->stat->node;

	memcpy(engine, w->stat->engine, sizeof engine);
	child_take_over(&w->proc);
	memcpy(w->stat->engine, engine, sizeof engine);
	w->stat->cpu = cpu;
	w->stat->node = node;
}

static void
stand_by(struct worker *w)
{
	CRASH_POINT("start:preparing");
	child_prepared(&w->proc);
	CRASH_POINT("start:prepared");
	if (!child_told(&w->proc))
		refuse(w, "PREPARE twice", -EPROTO);
	take_over(w);
	CRASH_POINT("start:taken");
	batch_now(w);
}

void
worker_start(struct worker *w)
{
	struct msg_ready m = { .h = { MSG_READY, 0 } };
	bool go = child_told(&w->proc);

	prepare(w);
	if (go == (w->start.stand_by != 0))
		refuse(w, "PREPARE is for a stand-by", -EPROTO);
	if (!go)
		stand_by(w);
	adopt(w, &m);
	w->serving = true;
	followed_ask(w);
	control_readable(w); /* sessions to close, sources to drop: before their next packet */
	w->stat->ready = 1;
	log_info("worker %u: serving %u shards from shard %u, %u sessions adopted, %u dropped, engine %s",
	    w->index, w->lane_count, w->lane[0].told.shard, m.adopted, m.dropped, w->engine->name);
	outbox_put(w, &m);
}
