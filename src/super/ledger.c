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
	/* Per shard: two regions with two descriptors each, an epoll, a STAT region with two, a control socket, both
	 * ends of turnpike-auth pair and of a pair with each turnpike-tls; and room for what passes through (a socket that is being made, a reload's memfds). */
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
	int r = region_make("turnpike-ledger", LEDGER_SIZE, fd_rw, fd_ro);

	if (r < 0) {
		errno = -r;
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

void
ledger_set(struct ledger *l, int fd, struct ledger_fd entry)
{
	assert(fd >= 0 && fd < LEDGER_FDS);
	ledger_begin(l);
	count(l, l->fd[fd].kind, false);
	count(l, entry.kind, true);
	l->fd[fd] = entry;
	if ((uint32_t)fd >= l->fd_max)
		l->fd_max = (uint32_t)fd + 1;
	ledger_end(l);
}

int
ledger_move(struct ledger *l, const struct windows *w, unsigned shard, int fd, struct ledger_fd entry)
{
	/* Not close-on-exec: see spawn.c. */
	int base = window_base(w, shard), n = fcntl(fd, F_DUPFD, base), r = errno;

	close(fd);
	if (n < 0)
		return -r;
	if (!window_has(w, shard, n)) {
		close(n);
		return -EMFILE;
	}
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
