/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * world.h: everything around the TURN core, in one process and in virtual time: two shards with a worker's
 * state each, turnpike-auth, a supervisor that makes relay sockets (numbers only), and the books about
 * those.
 */
#ifndef WORLD_H
#define WORLD_H

#include "tp/turn.h"

#define WORLD_SHARDS 2
#define WORLD_SLOTS  64
#define WORLD_FDS    8192
#define WORLD_BUF    4096
#define WORLD_HEAD   64

enum fd_fate { FD_FREE, FD_READY /* pool, offer, reserved */, FD_LIVE, FD_CLOSED };

struct world {
	struct turn t[WORLD_SHARDS];
	struct cross cross[WORLD_SHARDS];
	struct shard shard[WORLD_SHARDS];
	struct turn_pool pool[WORLD_SHARDS];
	struct stats stat;
	struct turn_policy policy;
	struct port_map *ports;
	void *mem[2 * WORLD_SHARDS + 1];
	size_t mem_len[2 * WORLD_SHARDS + 1];
	tp_ms now;
	int64_t unix_now;
	/* turnpike-auth */
	struct {
		char name[64], pass[64];
	} user[8];
	unsigned users;
	char secret[64];
	enum rest_form rest_form;
	bool authd_off;
	unsigned authd_asked;
	/* supervisor */
	bool generous; /* offers more than was asked for */
	int supply;    /* sockets that can still be made, -1: no end */
	int32_t next_fd;
	uint16_t next_port;
	enum fd_fate fate[WORLD_FDS];
	struct relay_ref made[WORLD_FDS];
	struct relay_ref reserved[64];
	unsigned reserved_n;
	unsigned relay_asked, swept, unreserved;
	enum turn_event swept_event;
	uint8_t buf[WORLD_HEAD + WORLD_BUF];
	const char *fault; /* first broken invariant, NULL */
};

struct world *world_new(void);
void world_free(struct world *w);
void world_time(struct world *w, tp_ms now);
/* Password of the TURN REST convention. */
void world_rest_password(const struct world *w, const char *name, char out[64]);
/* Carries NEED_KEY and NEED_RELAY through. */
enum turn_act world_input(struct world *w, unsigned shard, const struct addr *client, uint8_t transport,
    const void *bytes, size_t len, struct turn_out *out);
enum turn_act world_peer(struct world *w, unsigned shard, struct session_ref ref, unsigned which,
    const struct addr *from, const void *bytes, size_t len, struct turn_out *out);
void world_effects(struct world *w, unsigned shard, const struct turn_out *out);
void world_sweep(struct world *w, struct turn_out *scratch);
void world_fill_pool(struct world *w, unsigned shard, unsigned per_row);
/* A relay row that is not configured any more: idle sockets are closed. */
void world_retire(struct world *w, unsigned row);
/* Another worker takes or gives a lock that each allocation needs. */
void world_lock(struct world *w, bool take);
/* A new configuration: caches and sessions judge again. */
void world_reload(struct world *w);
/* state_audit() and the books about sockets; NULL or what is wrong. */
const char *world_audit(struct world *w);

#endif
