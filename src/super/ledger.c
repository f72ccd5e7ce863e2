/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ledger.c: the supervisor's own state for others to read, and its descriptor windows.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "super_int.h"

#define WINDOW_MIN 64

int
windows_plan(struct windows *w, uint64_t limit, unsigned shards)
{
	/* Per shard: two regions with two descriptors each, an epoll, a STAT region with two, a control
	 * socket, both ends of turnpike-auth pair and of a pair with each turnpike-tls; and room for what
	 * passes through (a socket that is being made, a reload's memfds). */
	uint64_t first = 128 + 2 * MSG_TLSDS_MAX + (uint64_t)shards * (16 + 2 * MSG_TLSDS_MAX);

	if (limit > LEDGER_FDS)
		limit = LEDGER_FDS;
	if (limit < first + (uint64_t)shards * WINDOW_MIN)
		return -EMFILE;
	w->first = (uint32_t)first;
	w->shards = shards;
	w->span = (uint32_t)((limit - first) / shards);
	return 0;
}

struct ledger *
ledger_map(int fd)
{
	return region_map(fd, LEDGER_SIZE, true, false);
}

struct ledger *
ledger_new(int *fd_rw, int *fd_ro)
{
	struct ledger *l;
	int err = region_make("turnpike-ledger", LEDGER_SIZE, fd_rw, fd_ro);

	if (err < 0) {
		errno = -err;
		return NULL;
	}
	l = ledger_map(*fd_rw);
	if (l == NULL)
		return NULL;
	l->magic = LEDGER_MAGIC;
	l->layout = 1;
	return l;
}

void
ledger_begin(struct ledger *l)
{
	uint32_t seq = atomic_load_explicit(&l->seq, memory_order_relaxed);

	atomic_store_explicit(&l->seq, seq + 1, memory_order_relaxed);
	atomic_thread_fence(memory_order_release);
}

void
ledger_end(struct ledger *l)
{
	uint32_t seq = atomic_load_explicit(&l->seq, memory_order_relaxed);

	atomic_store_explicit(&l->seq, seq + 1, memory_order_release);
}

static void
count(struct ledger *l, unsigned kind, bool more)
{
	uint32_t d = more ? 1 : UINT32_MAX;

	if (kind == LEDGER_POOL || kind == LEDGER_OFFERED || kind == LEDGER_RESERVED)
		l->relay_sockets += d;
	if (kind == LEDGER_POOL || kind == LEDGER_OFFERED)
		l->pool_sockets += d;
	if (kind == LEDGER_RESERVED)
		l->reserved_sockets += d;
}

/* Not in the ledger: a stand-by ends with the supervisor that started it. */
static uint64_t changed[LEDGER_FDS / 64];

void
ledger_watch(void)
{
	memset(changed, 0, sizeof changed);
}

bool
ledger_has_changed(int fd)
{
	return (changed[fd / 64] >> fd % 64 & 1) != 0;
}

void
ledger_set(struct ledger *l, int fd, struct ledger_fd entry)
{
	assert(fd >= 0 && fd < LEDGER_FDS);
	changed[fd / 64] |= (uint64_t)1 << fd % 64;
	ledger_begin(l);
	count(l, l->fd[fd].kind, false);
	count(l, entry.kind, true);
	l->fd[fd] = entry;
	if ((uint32_t)fd >= l->fd_max)
		l->fd_max = (uint32_t)fd + 1;
	ledger_end(l);
}

uint32_t
windows_reserve(const struct windows *w)
{
	return w->span / 8;
}

/* The lowest free number in [from, end) of a window.  Not close-on-exec: see spawn.c. */
static int
dup_in(const struct windows *w, unsigned shard, int fd, uint32_t from, uint32_t end)
{
	int base = window_base(w, shard), n = fcntl(fd, F_DUPFD, base + (int)from);

	if (n < 0)
		return -errno;
	if (n < base + (int)end)
		return n;
	close(n);
	return -EMFILE;
}

/* Connections and relay sockets share the most; of the rest the first part is kept for relay sockets, the
 * last for connections, and a listener that a reload brings takes what there is. */
static int
place(const struct windows *w, unsigned shard, int fd, enum ledger_kind kind)
{
	uint32_t reserve = windows_reserve(w), end = w->span - reserve;
	int n;

	if (kind == LEDGER_LISTENER)
		return dup_in(w, shard, fd, 0, w->span);
	if (kind != LEDGER_STREAM)
		return dup_in(w, shard, fd, 0, end);
	n = dup_in(w, shard, fd, 0, end - reserve);
	return n == -EMFILE ? dup_in(w, shard, fd, end, w->span) : n;
}

int
ledger_move(struct ledger *l, const struct windows *w, unsigned shard, int fd, struct ledger_fd entry)
{
	int n = place(w, shard, fd, entry.kind);

	close(fd);
	if (n < 0)
		return n;
	entry.shard = (uint16_t)shard;
	ledger_set(l, n, entry);
	return n;
}

void
ledger_close(struct ledger *l, int fd)
{
	struct ledger_fd none = { 0 };

	/* In this order: a number that is not entered is closed by the next supervisor. */
	ledger_set(l, fd, none);
	close(fd);
}

void
ledger_repair(struct ledger *l)
{
	if (atomic_load_explicit(&l->seq, memory_order_relaxed) % 2 != 0)
		ledger_end(l);
	ledger_begin(l);
	l->relay_sockets = l->pool_sockets = l->reserved_sockets = 0;
	for (uint32_t fd = 0; fd < l->fd_max; fd++)
		count(l, l->fd[fd].kind, true);
	ledger_end(l);
}
