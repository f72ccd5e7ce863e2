/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * db.h: databases of users and secrets in coturn's schema, and the HTTP callback.
 *
 * Used by turnpike-auth alone.  Each database has threads of its own, because name resolution and some
 * client libraries block: the caller puts a question into a queue and takes the answer from another one,
 * told by an eventfd.  Nothing that a database does or fails to do delays the caller.  Errors: 0 or
 * -errno.
 */
#ifndef TP_DB_H
#define TP_DB_H

#include "tp/base.h"
#include "tp/conf.h"

#define DB_REALM_MAX   128
#define DB_NAME_MAX    512
#define DB_TAG_MAX     64
#define DB_SECRETS_MAX 64   /* of one realm */
#define DB_RANGES_MAX  1024 /* of one list */
#define DB_ORIGINS_MAX 64
#define DB_DENIED_MAX  CONF_DENIED_MAX
#define DB_TEXT_MAX    256

/* ---- questions and answers ---------------------------------------------------------------------- */

/* Whose key?  name is not terminated. */
struct db_ask {
	uint64_t id; /* the caller's own, handed back */
	char realm[DB_REALM_MAX];
	struct addr client;
	uint16_t name_len;
	char name[DB_NAME_MAX];
};
struct db_limits {
	uint64_t allocations, permissions, bandwidth;
}; /* 0: as configured; bandwidth in bytes per second */
struct db_found {
	bool has_md5, has_sha256;
	uint8_t md5[16], sha256[32];
	uint32_t ttl;    /* seconds to keep it, 0: the caller's choice */
	int64_t expires; /* Unix time at which the credential ends; 0: none */
	struct db_limits limits;
	char tag[DB_TAG_MAX]; /* terminated */
};

/* ---- facts: what is followed ---------------------------------------------------------------------- */

struct db_secret {
	uint16_t len;
	uint8_t value[USERS_SECRET_MAX];
};
struct db_ranges {
	uint32_t count;
	struct addr_range range[DB_RANGES_MAX];
};
struct db_denied {
	char name[128];
	int64_t until;
}; /* Unix time, 0: no end */
struct db_origin {
	char origin[DB_REALM_MAX], realm[DB_REALM_MAX];
};
/* All of one database that concerns one realm. */
struct db_facts {
	uint32_t secret_count, origin_count, denied_count, zero;
	uint32_t bad;                              /* entries that could not be read */
	char bad_text[DB_TEXT_MAX];                /* the first one: table or key, and what is wrong */
	uint64_t max_bps, total_quota, user_quota; /* 0: not set */
	struct db_secret secret[DB_SECRETS_MAX];
	struct db_ranges allowed, denied;
	struct db_origin origin[DB_ORIGINS_MAX];
	struct db_denied user[DB_DENIED_MAX]; /* denied users */
};
/* Each reads one entry; what cannot be used is counted in `bad`, with `from` (table or key) in its text. */
void facts_secret(struct db_facts *f, const char *from, const char *value, size_t len);
void facts_range(struct db_facts *f, bool allowed, const char *from, const char *value, size_t len);
void facts_option(struct db_facts *f, const char *from, const char *opt, const char *value, size_t len);
void facts_origin(struct db_facts *f, const char *from, const char *origin, const char *realm);
/* 0 when the text of a hmackey column is a key: 32 hexadecimal digits at least, 64 are a SHA-256 key,
 * too. */
int facts_key(struct db_found *found, const char *text, size_t len);
void facts_denied(struct db_facts *f, const char *from, const char *name, size_t len, const char *until);

/* ---- changes by the operator ---------------------------------------------------------------------- */

enum db_change {
	DB_USER_ADD,
	DB_USER_DELETE,
	DB_USER_LIST,
	DB_SECRET_ADD,
	DB_SECRET_DELETE,
	DB_SECRET_LIST,
	DB_CREATE,
	DB_IMPORT,
	DB_DENY_ADD,
	DB_DENY_DELETE,
	DB_CHANGES,
};
struct db_write {
	uint64_t id;
	uint8_t what;                                                    /* enum db_change */
	uint8_t from;                                                    /* DB_IMPORT: the other database */
	char realm[DB_REALM_MAX], name[DB_NAME_MAX], value[DB_NAME_MAX]; /* terminated */
};

/* ---- db_pool.c: the threads -------------------------------------------------------------------------- */

enum db_event_type {
	DB_EV_FOUND,
	DB_EV_ABSENT,
	DB_EV_FAILED,
	DB_EV_FACTS,
	DB_EV_STATE,
	DB_EV_CHANGED,
	DB_EV_ROW,
	DB_EV_DONE
};
struct db_event {
	struct db_event *next;
	uint8_t type; /* enum db_event_type */
	uint8_t database;
	bool up;            /* STATE */
	int err;            /* DONE: 0 or -errno */
	uint64_t id;        /* FOUND, ABSENT, FAILED, ROW, DONE: of the question */
	struct addr server; /* STATE: address of the database, ADDR_NONE when it has none */
	/* FAILED, STATE, DONE: why; ROW: one; CHANGED: user name, "" for everything */
	char text[DB_NAME_MAX];
	struct db_found found;  /* FOUND */
	struct db_facts *facts; /* FACTS: owned by the event */
};
struct db_set;
/* Copies the list.  Threads begin at once. */
int db_set_new(struct db_set **set, const struct users_database *list, unsigned count, const char *realm);
/* Readable when there are events. */
int db_set_fd(const struct db_set *set);
/* NULL when there is none.  Free it with db_event_free(), which wipes it. */
struct db_event *db_set_event(struct db_set *set);
void db_event_free(struct db_event *e);
/* The answer is an event FOUND, ABSENT or FAILED.  -EAGAIN: the queue of this database is full. */
int db_set_ask(struct db_set *set, unsigned database, const struct db_ask *ask);
/* Events ROW, then DONE. */
int db_set_write(struct db_set *set, unsigned database, const struct db_write *w);
/* Read the facts again now. */
void db_set_refresh(struct db_set *set, unsigned database);
unsigned db_set_count(const struct db_set *set);
const char *db_set_name(const struct db_set *set, unsigned database);
bool db_set_has_facts(const struct db_set *set, unsigned database); /* not of type http */

/* Loads what the client libraries load at run time; before the sandbox closes. */
void db_prepare(void);

#endif
