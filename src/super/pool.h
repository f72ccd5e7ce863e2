/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pool.h: relay sockets in the supervisor, and the descriptor numbers that shards have.
 */
#ifndef TP_SUPER_POOL_H
#define TP_SUPER_POOL_H

#include "tp/conf.h"
#include "tp/ledger.h"
#include "tp/msg.h"
#include "tp/shm.h"

/*
 * Descriptor numbers.  Below `first` the supervisor's own; then one window per shard for its listeners
 * and relay sockets, which have the same number in the worker:
 *
 *   0 1 2 | 3 control | 4 log | regions, pairs, epolls ... | first: shard 0 ... | first + span: shard 1 ... |
 */
struct windows {
	uint32_t first, span, shards;
};

/* ---- pool.c: relay sockets ------------------------------------------------------------------- */

#define POOL_WAITS    256
#define POOL_RESERVED 4096
#define POOL_WAIT_MS  1000 /* a RELAY waits this long for recalled sockets */
#define POOL_DRY_MS   1000 /* then the range counts as used up, until something is released */
#define POOL_GRANT    64
#define POOL_START    8 /* per shard and row before the first worker starts */

struct pool_row {
	struct addr addr;
	uint16_t min, max;
	bool active;
	bool full; /* a scan found nothing; cleared by a release and after POOL_DRY_MS */
	tp_ms full_since, recalled, dry_until;
};
struct pool_wait {
	bool used;
	tp_ms deadline;
	struct msg_relay m;
};
struct pool_reserved {
	uint32_t id;
	int32_t fd;
	tp_ms expiry;
};
/* Sends to the worker that owns the shard. */
typedef int pool_send_h(void *arg, unsigned shard, const void *msg, int fd);
struct pool {
	struct ledger *ledger;
	struct port_map *ports; /* saves a scan from trying what is open already */
	struct windows win;
	uint64_t receive_buffer;
	uint32_t rows, next_id, wait_next;
	struct pool_row row[RELAYS_MAX];
	struct pool_wait wait[POOL_WAITS]; /* a ring by arrival: wait_next is the oldest */
	struct pool_reserved reserved[POOL_RESERVED];
	pool_send_h *send;
	void *arg;
};
void pool_init(struct pool *p, struct ledger *l, const struct windows *w, pool_send_h *send, void *arg);
/* Takes the rows of a configuration; held sockets stay. */
/* The pools of a supervisor that died; pool_ports() and pool_rows() come next. */
void pool_adopt(struct pool *p, struct ledger *l, pool_send_h *send, void *arg);
/* Sockets whose worker may not have been told of them: it is told. */
void pool_offer_again(struct pool *p);
/* Publishes in `ports` the sockets that the ledger has: before pool_rows(), and again when the ledger has
 * been carried over. */
int pool_ports(struct pool *p, struct port_map *ports); /* 0 or -ENOMEM */
void pool_rows(struct pool *p, const struct conf *c);
/* Before a worker starts: up to `n` sockets of a row for a shard; how many. */
unsigned pool_fill(struct pool *p, unsigned shard, unsigned row, unsigned n, tp_ms now);
/* Messages of the worker that owns m->shard (the caller has checked that). */
void pool_want(struct pool *p, const struct msg_want *m, tp_ms now);
void pool_relay(struct pool *p, const struct msg_relay *m, tp_ms now);
int pool_release(struct pool *p, const struct msg_release *m, tp_ms now); /* -EINVAL: not its socket */
void pool_forget(struct pool *p, unsigned shard); /* its worker ended: no request waits any more */
void pool_tick(struct pool *p, tp_ms now);        /* ends waits and reservations */
bool pool_waiting(const struct pool *p);

#endif
