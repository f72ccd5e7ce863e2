/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * lookup_int.h: questions to databases: what waits, what is remembered, how much is allowed.
 */
#ifndef TP_LOOKUP_INT_H
#define TP_LOOKUP_INT_H

#include "authd_int.h"
#include "tp/child.h"

/* ---- key_rows.c ------------------------------------------------------------------------------------- */

#define KEY_ROW_SETS 16384
#define KEY_ROW_WAYS 4
struct key_row {
	uint64_t id;        /* keyed hash of realm and name; 0: free */
	tp_ms until, asked; /* good until; when it was asked for */
	uint32_t used, epoch;
	uint8_t database;
	bool absent;
	struct db_found found;
};
struct key_name {
	uint16_t len; /* 0: not kept */
	char text[DB_NAME_MAX];
};
struct key_rows {
	uint8_t key[16];
	uint32_t clock, epoch[USERS_DATABASES_MAX];
	struct key_row row[KEY_ROW_SETS][KEY_ROW_WAYS];
	struct key_name name[KEY_ROW_SETS][KEY_ROW_WAYS]; /* with auth.end_removed_users, else untouched */
};
struct key_rows *key_rows_new(void);
uint64_t key_rows_id(const struct key_rows *t, const char *realm, const void *name, size_t len);
struct key_row *key_rows_find(struct key_rows *t, unsigned database, uint64_t id); /* NULL */
struct key_row *key_rows_put(
    struct key_rows *t, unsigned database, uint64_t id); /* zeroed but for its id */
struct key_name *key_rows_name(struct key_rows *t, const struct key_row *r);
void key_rows_forget(struct key_rows *t, unsigned database, uint64_t id); /* id 0: all of this
 * database are to be asked for again, and hold while it is down */

/* ---- lookup_rate.c ---------------------------------------------------------------------------------- */

#define LOOKUP_BUCKETS 4096
struct lookup_bucket {
	uint64_t left;
	tp_ms when, told; /* told: when the log said last that it was empty */
};
struct lookup_rate {
	uint8_t key[16];
	struct lookup_bucket bucket[LOOKUP_BUCKETS];
};
/* May this prefix cause another question?  *tell: it may not, and a minute has passed since it was told so. */
bool lookup_rate_take(
    struct lookup_rate *r, const struct addr *client, uint64_t rate, tp_ms now, bool *tell);

/* ---- forget.c: keys of users who are changed or gone ------------------------------------------------ */

#define FORGET_MAX 64
struct forget {
	struct msg_forget queue[FORGET_MAX];
	unsigned first, count;
	unsigned swept; /* the row that is looked at next */
};
struct lookup;
/* len 0: all.  False: there is no room for it, which can only be when the user is gone. */
bool forget_put(struct lookup *k, const void *name, size_t len, bool gone);
/* A database has said something about a name that it had: before the row is replaced.  False: not now. */
bool forget_compare(struct lookup *k, const struct db_event *e);
/* Keeps the name for forget_sweep(). */
void forget_name(struct lookup *k, const struct key_row *r);
void forget_sweep(struct lookup *k); /* at each tick */

/* ---- lookup.c, lookup_events.c --------------------------------------------------------------- */

#define PARKED_MAX 1024
/* A request whose key is asked for. */
struct parked {
	unsigned peer;
	uint32_t request, generation;
	tp_ms deadline;
	uint8_t asked, follows; /* databases, by bit, whose answer or facts it waits for */
	uint8_t failed;
	struct authd_asked who;
	uint16_t len;
	uint8_t message[MSG_STUN_MAX];
};
struct lookup_db {
	bool up;
	tp_ms try_at, facts_asked;
	struct db_facts *facts;
};
struct lookup {
	struct child_proc *proc;
	struct authd_db **users;
	struct db_set *set;
	struct key_rows *rows;
	struct lookup_rate rate;
	struct forget forget;
	const struct lookup_limits *limits;
	struct lookup_db db[USERS_DATABASES_MAX];
	struct addr addr[FOLLOWED_ADDRS_MAX]; /* of databases: never peers */
	unsigned addr_count;
	uint64_t id[PARKED_MAX]; /* of the name that parked[i] waits for; 0: free */
	struct parked *parked[PARKED_MAX];
	uint32_t lists; /* by bit: id % 32 of an operator's question changes nothing */
	unsigned used;  /* places of parked[] that were ever in use */
	lookup_answer_h *answer;
	lookup_rows_h *told;
	void *arg;
	struct log_class trouble, full, over;
};
/* Judges parked[i] again; answers and frees it when there is something to say. */
void lookup_again(struct lookup *k, unsigned i);
void lookup_on_events(void *arg, int fd, uint32_t events);

#endif
