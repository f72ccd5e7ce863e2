/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * authd_int.h: what the files of the room share.
 */
#ifndef TP_AUTHD_INT_H
#define TP_AUTHD_INT_H

#include "tp/authd.h"

/* USERHASH (RFC 8489 14.4) of each static user, sorted by the hash. */
struct authd_hash {
	uint8_t hash[32];
	uint32_t user, zero;
};

struct authd_db {
	uint64_t generation;
	const struct users *users;         /* guarded, read-only */
	const struct authd_hash *hashes;   /* likewise */
	const struct users_user *stand_in; /* likewise: tried for a name that does not exist */
	size_t realm_len;
};

/* NULL when absent. */
const struct users_user *db_find_name(const struct authd_db *db, const void *name, size_t len);
const struct users_user *db_find_hash(const struct authd_db *db, const uint8_t hash[32]);

/* ---- authd_sandbox.c: what turnpike-auth gives up when it has databases to talk to ----------- */

struct child_proc;
void authd_confine_open(struct child_proc *proc, const struct users *u);

/* ---- lookup.c: questions to databases -------------------------------------------------------- */

struct lookup;
struct lookup_limits {
	uint64_t cache_ms, negative_ms, lookups_per_prefix;
	bool anonymous;   /* log.anonymize_addresses */
	bool end_removed; /* auth.end_removed_users */
};
/* The answer to a request that was parked. */
typedef void lookup_answer_h(
    void *arg, unsigned peer, uint32_t request, uint32_t generation, const struct auth_grant *g);
/* An event ROW or DONE; NULL: what workers are to be told has changed. */
typedef void lookup_rows_h(void *arg, const struct db_event *e);
/* users and limits are read whenever they are needed. */
int lookup_new(struct lookup **k, struct child_proc *proc, struct authd_db **users, const struct users *u,
    const struct lookup_limits *limits, lookup_answer_h *answer, lookup_rows_h *told, void *arg);
/* True: *g is the answer.  False: the request is parked, or dropped. */
bool lookup_ask(struct lookup *k, unsigned peer, const struct msg_key_ask *m, struct auth_grant *g);
void lookup_tick(struct lookup *k); /* ten times a second or so */
/* Fills realm (when empty) and from.  -ENOENT: no database of that name. */
int lookup_write(struct lookup *k, const char *database, struct db_write *w, const char *from);

/* ---- forget.c: users who are changed or removed ------------------------------------------------- */

/* What workers are to forget, oldest first; NULL: nothing. */
struct msg_forget;
const struct msg_forget *lookup_forget_next(const struct lookup *k);
void lookup_forget_done(struct lookup *k);

/* ---- followed.c: what workers are told ------------------------------------------------------- */

struct stats;
void followed_build(
    const struct lookup *k, const struct stats *stat, struct conf_followed *f); /* k may be NULL */
/* True when the address is a new one. */
bool followed_note_server(struct lookup *k, const struct addr *a);
int followed_memfd(const struct conf_followed *f); /* sealed; -errno */

/* ---- operator.c: what turnpikectl asks ------------------------------------------------------- */

bool operator_is_sound(const struct msg_db_ask *m);
/* 0: the answer comes as events ROW and DONE with the id of the request.  Else -errno and why. */
int operator_change(struct lookup *k, const struct msg_db_ask *m, char *why, size_t size);
int operator_deny(struct stats *s, const char *name, int64_t until); /* -ENOSPC, -EINVAL */
int operator_undeny(struct stats *s, const char *name);              /* -ENOENT */
bool operator_sweep(struct stats *s, int64_t unix_now);

#endif
