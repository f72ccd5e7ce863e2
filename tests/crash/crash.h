/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * crash.h: the regions that crash tests play in, and recovery as the supervisor and a successor do it.
 */
#ifndef TP_CRASH_H
#define TP_CRASH_H

#include "state_int.h"

#define WORLD_SHARDS 3

struct world {
	uint32_t slot_max;
	int region_fd[WORLD_SHARDS], keys_fd[WORLD_SHARDS], cross_fd;
	void *region[WORLD_SHARDS], *keys[WORLD_SHARDS], *cross_region;
	struct shard shard[WORLD_SHARDS];  /* as a writer */
	struct shard reader[WORLD_SHARDS]; /* read-only mappings */
	void *read_only[WORLD_SHARDS];
	struct cross cross[WORLD_SHARDS], super;
};

extern uint8_t world_seed[16]; /* of the hash tables that are made next */
extern bool crash_control;     /* leave out the replay: the audit must notice */

void world_make(struct world *w, uint32_t slot_max);
void world_wipe(struct world *w);  /* all zero again */
void world_clear(struct world *w); /* all zero again, attached again */
void world_attach(struct world *w);
void world_end(struct world *w);
/* Supervisor's part after a death, then the successor's. */
void world_recover(struct world *w, uint32_t owner);
void world_adopt(struct world *w, uint32_t owner, tp_ms now);
/* Finishes what the dead one was ending. */
void world_finish(struct world *w, uint32_t owner, tp_ms now);
unsigned world_audit(struct world *w, bool still, tp_ms now, bool quiet);

struct addr client_addr(unsigned n); /* n-th client; 16 share a prefix */
struct addr peer_addr(unsigned n);   /* odd: IPv6 */
/* A filled slot of this client, or NULL. */
struct session *session_fill(struct world *w, unsigned shard, unsigned client, uint64_t user, tp_ms now);
uint64_t rnd(uint64_t *seed);
/* In a child: a test that fails leaves no process behind. */
void die_with_parent(void);
/* Ends the test with a message unless ok. */
void must(bool ok, const char *fmt, ...) TP_PRINTF(2, 3);

/* ---- crash_script.c ---- */

#define SCRIPT_OPS 50
#define SCRIPT_NOW 10000000u
extern struct world script_world;
void script_setup(uint64_t seed); /* what is there before; 0: always the same */
void script_op(unsigned i);
uint64_t script_look(unsigned ops); /* a sum of what can be seen after so many of them */

void script_run(void); /* a death at each passage of a marked point */
void points_run(
    unsigned times, uint64_t seed); /* so many deaths at each marked point, each in another state */
void kills_run(unsigned kills, uint64_t seed);
void evil_run(unsigned rounds, uint64_t seed);

#endif
