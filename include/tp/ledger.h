/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ledger.h: the ledger (room shm): what the supervisor publishes of itself, read-only for turnpike-admin
 * (status, verify): the table of processes, and which descriptor number is what.
 */
#ifndef TP_LEDGER_H
#define TP_LEDGER_H

#include <stdatomic.h>

#include "tp/base.h"

/* ---- ledger_names.c ------------------------------------------------------------------------------ */

enum child_state { CHILD_NONE, CHILD_STARTING, CHILD_READY, CHILD_STOPPING, CHILD_BACKOFF, CHILD_PARKED };
const char *child_state_name(unsigned s);
struct ledger_child {
	uint32_t role, index, state, generation;
	int32_t pid;
	uint32_t deaths, starts;
	uint64_t since_ms;
	uint32_t first_shard, shard_count; /* workers: shards [first, first + count) */
	char words[128];                   /* last words of the previous one */
};
enum ledger_kind {
	LEDGER_FREE,
	LEDGER_LISTENER,
	LEDGER_POOL,
	LEDGER_RESERVED,
	LEDGER_STREAM /* a client's connection */,
	LEDGER_OFFERED /* for a pool: its worker may not have been told */
};
struct ledger_fd { /* by descriptor number */
	uint8_t kind, row, family;
	uint8_t stream; /* listener: TCP */
	uint16_t port, shard;
};
#define LEDGER_CHILDREN 160
#define LEDGER_FDS      1048576
#define LEDGER_MAGIC    0x54504c44u
struct ledger {
	uint32_t magic, layout;
	_Atomic uint32_t seq; /* odd while it changes */
	int32_t pid;
	uint64_t boot_ms, conf_generation, reloads, last_reload_ms;
	uint32_t shard_count, worker_count, slot_max, draining;
	uint32_t child_count, ready; /* ready: every worker, turnpike-auth and turnpike-admin is */
	struct ledger_child child[LEDGER_CHILDREN];
	uint32_t fd_max;
	uint32_t relay_sockets, pool_sockets, reserved_sockets;
	struct ledger_fd fd[LEDGER_FDS]; /* sparse */
};
/* Of the region: whole pages, also where they are large. */
#define LEDGER_SIZE ((sizeof(struct ledger) + 65535) & ~(size_t)65535)

#endif
