/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * super: the supervisor.  Binds, spawns, reaps, recovers, reloads.  Holds every socket and region; reads not one byte
 * that came from the network and parses no configuration.  Gets its children as a table.  Errors: 0 or -errno.
 */
#ifndef TP_SUPER_H
#define TP_SUPER_H

#include "tp/conf.h"
#include "tp/io.h"
#include "tp/state.h"

/* What turnpiked's command line says. */
struct super_options {
	const char *config;		/* absolute path; NULL: none */
	const char *runtime_dir;	/* absolute */
	const char *state_dir;		/* where a generated secret is kept */
	const char *libexec_dir;	/* where the children's binaries are */
	const char *const *sets;
	unsigned set_count;
	bool foreground;
	int  argc;			/* as given, for an upgrade */
	char **argv;
};
/* A kind of child: the table in prog/turnpiked.c. */
struct super_program { enum proc_role role; const char *binary; };

/* Runs until stopped; the exit code of turnpiked (0, 69 cannot bind, 78 configuration, 70 internal). */
int  super_run(const struct super_options *o, const struct super_program *programs, unsigned n);

/* Goes on where another image of the supervisor stopped: with what that one wrote to `state_fd`, and every descriptor.
 * `failed`: NULL, or why a newer image came back to this one. */
int  super_run_on(const struct super_options *o, const struct super_program *programs, unsigned n, int state_fd,
    const char *failed);
/* Could it?  Reads the state, maps every region, changes nothing.  Says "ok" or why not on descriptor 3; exit code. */
int  super_probe(const struct super_options *o, const struct super_program *programs, unsigned n, int state_fd);

/* ---- the ledger: the supervisor's own state, published read-only for turnpike-admin (status, verify) ---------- */

enum child_state { CHILD_NONE, CHILD_STARTING, CHILD_READY, CHILD_STOPPING, CHILD_BACKOFF, CHILD_PARKED };
const char *child_state_name(unsigned s);
struct ledger_child {
	uint32_t role, index, state, generation;
	int32_t  pid;
	uint32_t deaths, starts;
	uint64_t since_ms;
	uint32_t first_shard, shard_count;	/* workers: shards [first, first + count) */
	char     words[128];			/* last words of the previous one */
};
enum ledger_kind { LEDGER_FREE, LEDGER_LISTENER, LEDGER_POOL, LEDGER_RESERVED, LEDGER_STREAM /* a client's connection */,
	LEDGER_OFFERED /* for a pool: its worker may not have been told */ };
struct ledger_fd {			/* by descriptor number */
	uint8_t  kind, row, family;
	uint8_t  stream;		/* listener: TCP */
	uint16_t port, shard;
};
#define LEDGER_CHILDREN 160
#define LEDGER_FDS 1048576
#define LEDGER_MAGIC 0x54504c44u
struct ledger {
	uint32_t magic, layout;
	_Atomic uint32_t seq;			/* odd while it changes */
	int32_t  pid;
	uint64_t boot_ms, conf_generation, reloads, last_reload_ms;
	uint32_t shard_count, worker_count, slot_max, draining;
	uint32_t child_count, ready;		/* ready: every worker, turnpike-auth and turnpike-admin is */
	struct ledger_child child[LEDGER_CHILDREN];
	uint32_t fd_max;
	uint32_t relay_sockets, pool_sockets, reserved_sockets;
	struct ledger_fd fd[LEDGER_FDS];	/* sparse */
};
/* Of the region: whole pages, also where they are large. */
#define LEDGER_SIZE ((sizeof(struct ledger) + 65535) & ~(size_t)65535)

#endif
