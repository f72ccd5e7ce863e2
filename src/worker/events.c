/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * events: the loop.  The worker's own epoll holds its shards' epolls (which outlive it), its two message sockets and its
 * tick.  A shard that is ready gives one batch, then the others have their turn.
 */
#include "config.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <sysexits.h>
#include <unistd.h>

#include "worker_int.h"

enum outer { OUTER_CONTROL, OUTER_AUTHD, OUTER_TICK, OUTER_SHARD, OUTER_TLSD = 1 << 16 };
#define SETTLE_STEP 256
#define REST_PACKETS 100		/* a second */

static int
watch(struct worker *w, int fd, uint64_t data)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.u64 = data };

	return epoll_ctl(w->outer, EPOLL_CTL_ADD, fd, &ev) < 0 ? -errno : 0;
}

int
events_open(struct worker *w)
{
	struct itimerspec every = { .it_interval.tv_nsec = TICK_MS * 1000000, .it_value.tv_nsec = TICK_MS * 1000000 };
	int rc;

	w->outer = epoll_create1(EPOLL_CLOEXEC);
	w->tick = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (w->outer < 0 || w->tick < 0 || timerfd_settime(w->tick, 0, &every, NULL) < 0)
		return -errno;
	if ((rc = watch(w, w->control, OUTER_CONTROL)) < 0 || (rc = watch(w, w->authd, OUTER_AUTHD)) < 0)
		return rc;
	for (unsigned i = 0; i < w->lane_count; i++)
		for (unsigned k = 0; k < w->start.tlsd_count; k++)
			if ((rc = watch(w, w->lane[i].told.tlsd_fd[k], OUTER_TLSD + i * MSG_TLSDS_MAX + k)) < 0)
				return rc;
	return watch(w, w->tick, OUTER_TICK);
}

int
events_shard(struct worker *w, struct lane *l)
{
	for (unsigned row = 0; row < CONF_LISTENERS_MAX; row++) {
		if (l->listener[row] < 0)
			continue;
		struct epoll_event ev = { .events = EPOLLIN, .data.u64 = tag_make(TAG_LISTENER, row, 0, 0) };
		int rc = epoll_ctl(l->told.epoll_fd, EPOLL_CTL_ADD, l->listener[row], &ev);
		if (rc < 0 && errno == EEXIST)
			rc = epoll_ctl(l->told.epoll_fd, EPOLL_CTL_MOD, l->listener[row], &ev);
		if (rc < 0)
			return -errno;
		if ((rc = w->engine->listener(l->listener[row])) < 0)
			return rc;
	}
	int rc = accept_listen(w, l, true);
	if (rc < 0)
		return rc;
	return watch(w, l->told.epoll_fd, OUTER_SHARD + (uint64_t)(l - w->lane));
}

void
events_control(struct worker *w, bool want_write)
{
	struct epoll_event ev = { .events = EPOLLIN | (want_write ? EPOLLOUT : 0u), .data.u64 = OUTER_CONTROL };

	(void)epoll_ctl(w->outer, EPOLL_CTL_MOD, w->control, &ev);
}

static uint64_t
received(const struct worker *w)
{
	return w->stat->counter[STAT_CLIENT_RX_PACKETS] + w->stat->counter[STAT_PEER_RX_PACKETS];
}

static void
shard_ready(struct worker *w, struct lane *l)
{
	TP_UNSET struct epoll_event ev[EVENTS_MAX];
	int n = epoll_wait(l->told.epoll_fd, ev, EVENTS_MAX, 0);
	uint64_t before = received(w);

	for (int i = 0; i < n; i++)
		if (tag_kind(ev[i].data.u64) == TAG_RELAY)
			session_prefetch_at(&l->shard, tag_slot(ev[i].data.u64));
	for (int i = 0; i < n; i++) {
		uint64_t tag = ev[i].data.u64;
		if (tag_kind(tag) == TAG_LISTENER)
			path_listener(w, l, tag_which(tag), ev[i].events);
		else if (tag_kind(tag) == TAG_RELAY)
			path_relay(w, l, tag, ev[i].events);
		else if (tag_kind(tag) == TAG_STREAM)
			stream_event(w, l, tag, ev[i].events);
		else if (tag_kind(tag) == TAG_ACCEPT)
			accept_ready(w, l, tag_which(tag));
		else if (tag_kind(tag) == TAG_REST)
			rest_event(w, l, tag, ev[i].events);
		else
			stat_drop(w->stat, DROP_STALE_EVENT);
	}
	shard_packets_add(&l->shard, received(w) - before);
}

/* ---- the tick -------------------------------------------------------------------------------------- */

struct swept { struct worker *w; struct lane *l; };

static void
session_swept(void *arg, struct turn_out *out)
{
	struct swept *s = arg;

	assert(out == &s->w->out);
	path_effects(s->w, s->l);
}

/* A tenth of the slots each time: every one is looked at once a second. */
static void
sweep(struct worker *w, struct lane *l)
{
	struct swept s = { w, l };
	uint32_t high = shard_high(&l->shard);

	if (high > 0)
		l->cursor = turn_sweep(&w->turn, &l->shard, l->cursor, high / TICKS_PER_SEC + 1, &w->out, session_swept, &s);
}

/* What the kernel did before we came: the sum over our listeners, once a second. */
static void
look_at_listeners(struct worker *w)
{
	uint64_t drops = 0, backlog = 0, refused = 0, waiting = 0, d, b;

	for (unsigned i = 0; i < w->lane_count; i++)
		for (unsigned row = 0; row < CONF_LISTENERS_MAX; row++) {
			const struct lane *l = &w->lane[i];
			if (l->listener[row] >= 0 && udp_pressure(l->listener[row], &d, &b) == 0) {
				drops += d;
				backlog += b;
			}
			if (l->stream[row] >= 0 && stream_pressure(l->stream[row], &d, &b) == 0) {
				refused += d;
				waiting += b;
			}
		}
	w->stat->counter[STAT_LISTENER_DROPS] = drops;
	w->stat->counter[STAT_LISTENER_BACKLOG] = backlog;
	w->stat->counter[STAT_ACCEPT_DROPS] = refused;
	w->stat->counter[STAT_ACCEPT_BACKLOG] = waiting;
}

/* Are there listeners whose records this worker seals? */
static bool
worker_seals(const struct worker *w)
{
	for (unsigned row = 0; row < CONF_LISTENERS_MAX; row++)
		if ((w->rows[row].transports & (TRANSPORT_TLS | TRANSPORT_DTLS)) != 0)
			return true;
	return false;
}

/* A second with next to nothing to do: what a burst left behind goes back, once nothing waits in it. */
static void
look_for_rest(struct worker *w)
{
	uint64_t now = received(w);

	w->rest = now - w->received < REST_PACKETS;
	w->received = now;
}

static void
tick(struct worker *w)
{
	uint64_t times;

	if (read(w->tick, &times, sizeof times) != (ssize_t)sizeof times)
		return;
	atomic_store_explicit(&w->stat->heartbeat_ms, w->turn.now, memory_order_relaxed);
	atomic_fetch_add_explicit(&w->stat->ticks, 1, memory_order_relaxed);
	worklog_tick(w);
	w->stat->busy.phase = BUSY_SWEEP;
	for (unsigned i = 0; i < w->lane_count; i++) {
		sweep(w, &w->lane[i]);
		stream_sweep(w, &w->lane[i]);
		handshake_again(w, &w->lane[i]);
		rest_expire(w, &w->lane[i]);
	}
	w->stat->busy.phase = BUSY_IDLE;
	pending_expire(w);
	pending_ask_waiting(w);
	accept_again(w);
	worker_keys(w);
	if (w->tick_count == 0 && worker_seals(w))
		(void)seal_ctx_warm(&w->seal);
	if (++w->tick_count % TICKS_PER_SEC == 0) {
		look_at_listeners(w);
		look_for_rest(w);
		stat_usage(w->stat, w->proc.usage_fd);
		w->second = true;
	}
	w->stat->counter[STAT_LOG_LOST] += log_lost() - w->log_lost;
	w->log_lost = log_lost();
}

static void
control_ready(struct worker *w, uint32_t events)
{
	if ((events & EPOLLOUT) != 0)
		control_writable(w);
	w->stat->busy.phase = BUSY_MESSAGE;
	if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0)
		control_readable(w);
	w->stat->busy.phase = BUSY_IDLE;
}

static void
ready(struct worker *w, const struct epoll_event *ev)
{
	uint64_t data = ev->data.u64;

	if (data == OUTER_CONTROL)
		control_ready(w, ev->events);
	else if (data == OUTER_AUTHD)
		control_authd(w);
	else if (data == OUTER_TICK)
		tick(w);
	else if (data >= OUTER_TLSD)
		handshake_readable(w, &w->lane[(data - OUTER_TLSD) / MSG_TLSDS_MAX], (data - OUTER_TLSD) % MSG_TLSDS_MAX);
	else if (data - OUTER_SHARD < w->lane_count)
		shard_ready(w, &w->lane[data - OUTER_SHARD]);
}

void
events_run(struct worker *w)
{
	TP_UNSET struct epoll_event ev[EVENTS_MAX];

	while (!w->stop) {
		control_flush(w);
		int n = epoll_wait(w->outer, ev, EVENTS_MAX, w->unsettled || w->kick ? 0 : -1);
		if (n < 0 && errno != EINTR) {
			stat_words(w->stat, "epoll_wait failed");
			fatal(EX_OSERR, "epoll_wait");
		}
		path_now(w);
		for (int i = 0; i < n && !w->stop; i++)
			ready(w, &ev[i]);
		if (w->unsettled)
			w->unsettled = relays_settle(w, SETTLE_STEP);
		if (w->kick)
			stream_kick(w);		/* after the messages: who is poisoned was told with the start */
		relays_wish(w);
		path_flush(w);
		/* After the last flights that are acknowledged. */
		tlsd_box_flush(w);
		if (w->rest)
			udp_arena_rest(w->arena);
		w->rest = false;
		for (unsigned i = 0; w->second && i < w->lane_count; i++)
			(void)ring_rest(&w->lane[i].shard);
		w->second = false;
	}
	tlsd_box_flush(w);
	control_flush(w);
}
