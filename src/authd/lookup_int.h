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
struct key_rows {
	uint8_t key[16];
	uint32_t clock, epoch[USERS_DATABASES_MAX];
	struct key_row row[KEY_ROW_SETS][KEY_ROW_WAYS];
};
struct key_rows *key_rows_new(void);
uint64_t key_rows_id(const struct key_rows *t, const char *realm, const void *name, size_t len);
struct key_row *key_rows_find(struct key_rows *t, unsigned database, uint64_t id); /* NULL */
struct key_row *key_rows_put(
    struct key_rows *t, unsigned database, uint64_t id);                  /* zeroed but for its id */
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
	const struct lookup_limits *limits;
	struct lookup_db db[USERS_DATABASES_MAX];
	struct addr addr[FOLLOWED_ADDRS_MAX]; /* of databases: never peers */
	unsigned addr_count;
	uint64_t id[PARKED_MAX]; /* of the name that parked[i] waits for; 0: free */
	struct parked *parked[PARKED_MAX];
	unsigned used; /* places of parked[] that were ever in use */
	lookup_answer_h *answer;
	lookup_rows_h *told;
	void *arg;
	struct log_class trouble, full, over;
};
/* Judges parked[i] again; answers and frees it when there is something to say. */
void lookup_again(struct lookup *k, unsigned i);
void lookup_on_events(void *arg, int fd, uint32_t events);

#endif
