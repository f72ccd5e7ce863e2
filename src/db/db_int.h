/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * db_int.h: what the files of the room share.
 */
#ifndef TP_DB_INT_H
#define TP_DB_INT_H

#include "tp/db.h"

struct sql;
struct db_error {
	char text[DB_TEXT_MAX];
};
int db_fail(struct db_error *e, int err, const char *fmt, ...) TP_PRINTF(3, 4); /* returns err */

/* What a thread may spend: monotonic ms. */
uint64_t db_now(void);
int db_left(uint64_t deadline); /* ms, at least 0 */
/* Waits for `events` on fd.  0, -ETIMEDOUT, -errno. */
int db_poll(int fd, short events, uint64_t deadline);

/* One row of a list for the operator. */
typedef void db_row_h(void *arg, const char *text);
/*
 * One kind of database.  Every function runs in a thread of its own connection and may block until the
 * deadline.  -ENOTCONN and -ETIMEDOUT mean that the connection is to be made again; any other error
 * leaves it usable.
 */
struct db_engine {
	const char *name;
	bool built;
	void *(*open)(const struct users_database *d, bool change, uint64_t deadline, struct db_error *e);
	void (*close)(void *conn);
	void (*server)(void *conn, struct addr *a);
	/* 0, -ENOENT when there is no such user. */
	int (*user)(void *conn, const struct db_ask *ask, struct db_found *found, uint64_t deadline,
	    struct db_error *e);
	/* NULL: the database has no facts. */
	int (*facts)(
	    void *conn, const char *realm, struct db_facts *f, uint64_t deadline, struct db_error *e);
	/* Until a change is told, `kick` is readable or ms are over: 1 with the user name or "" for
	 * everything; 0; -errno. */
	int (*wait)(void *conn, int kick, int ms, char name[DB_NAME_MAX], struct db_error *e);
	int (*change)(void *conn, const struct db_write *w, db_row_h *row, void *arg, uint64_t deadline,
	    struct db_error *e);
	/* NULL: not SQL. */
	const struct sql *(*sql)(void *conn, struct sql *q);
	void (*prepare)(void);
};
extern const struct db_engine db_pgsql, db_redis, db_sqlite, db_mariadb, db_http;

/* ---- db_sql.c, db_sql_change.c: coturn's schema over three engines --------------------------- */

typedef void sql_row_h(void *arg, unsigned columns, const char *const *value, const size_t *len);
/*
 * `?` stands for a parameter.  0, -ENOENT no such table, -ENODATA no such column, -EINVAL a parameter
 * that this database cannot hold, -EIO, -ENOTCONN, -ETIMEDOUT.  *changed (may be NULL): rows that it
 * changed.
 */
struct sql {
	void *conn;
	int (*run)(void *conn, const char *text, unsigned n, const char *const *param, const size_t *len,
	    sql_row_h *row, void *arg, uint64_t *changed, uint64_t deadline, struct db_error *e);
};
int sql_user(const struct sql *q, const struct db_ask *ask, struct db_found *found, uint64_t deadline,
    struct db_error *e);
int sql_facts(
    const struct sql *q, const char *realm, struct db_facts *f, uint64_t deadline, struct db_error *e);
int sql_change(const struct sql *q, const struct db_write *w, db_row_h *row, void *arg, uint64_t deadline,
    struct db_error *e);
/* Makes the tables of `to` and copies every row of `from`; *rows is added to. */
int sql_copy(const struct sql *from, const struct sql *to, const struct db_write *w, uint64_t *rows,
    uint64_t deadline, struct db_error *e);
/* ---- db_key.c: keys in coturn's forms, and the wake-up of a database's thread ------------------ */

/* Waits for `kick` alone: for databases that tell no changes. */
int db_wait_plain(int kick, int ms);
/* hexadecimal MD5 of name:realm:password. */
void db_hmackey(char out[33], const char *name, const char *realm, const char *password);
void db_key_sha256(uint8_t out[32], const char *name, size_t name_len, const char *realm,
    const char *password, size_t len);
void db_key_md5(uint8_t out[16], const char *name, size_t name_len, const char *realm, const char *password,
    size_t len);
/* Empties an eventfd. */
void db_kick_take(int fd);

/* ---- db_pairs.c -------------------------------------------------------------------------------------- */

struct pair_row {
	const char *keys /* "a|b|c" */;
	char *out;
	size_t size;
};
/* Fills what the text names; -EINVAL for a key that no row has. */
int pairs_read(const char *text, const struct pair_row *rows, unsigned count, struct db_error *e);
/* "" leaves *out as it is. */
int pairs_number(const char *text, const char *key, unsigned most, unsigned *out, struct db_error *e);

/* ---- redis_link.c: a byte stream to Redis, plain or TLS -------------------------------------- */

struct redis_link;
struct redis_where {
	char host[256], port[8], db[8], user[256], password[512], timeout[8];
	char tls[16], ca[256], capath[256], cert[256], key[256], sni[256], verify[16];
};
int redis_where_read(struct redis_where *w, const char *connection, struct db_error *e);
struct redis_link *link_open(const struct redis_where *w, uint64_t deadline, struct db_error *e);
void link_close(struct redis_link *k);
int link_fd(const struct redis_link *k);
/* All of it; 0 or -errno. */
int link_write(struct redis_link *k, const char *bytes, size_t len, uint64_t deadline, struct db_error *e);
/* Some; the number, or -errno.  -EAGAIN when the deadline is over and nothing came. */
int link_read(struct redis_link *k, char *bytes, size_t size, uint64_t deadline, struct db_error *e);

#endif
