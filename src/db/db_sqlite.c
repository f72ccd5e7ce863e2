/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * db_sqlite.c: SQLite, whose calls block and so have the thread to themselves.  Look-ups never write.
 */
#include "config.h"

#include <errno.h>
#include <sqlite3.h>
#include <stdlib.h>

#include "db_int.h"

#define STEPS 10000 /* of the virtual machine between two looks at the clock */

struct lite {
	sqlite3 *c;
	uint64_t deadline;
};

static int
is_late(void *arg)
{
	const struct lite *l = arg;

	return db_now() >= l->deadline;
}

static void
lite_close(void *conn)
{
	struct lite *l = conn;

	sqlite3_close(l->c);
	free(l);
}

static void *
lite_open(const struct users_database *d, bool change, uint64_t deadline, struct db_error *e)
{
	struct lite *l = calloc(1, sizeof *l);
	int rc;

	if (l == NULL)
		return NULL;
	l->deadline = deadline;
	/* Writable where possible also for reading: a database with a write-ahead log needs its shared
	 * memory file. */
	rc = sqlite3_open_v2(d->connection, &l->c,
	    SQLITE_OPEN_READWRITE | (change ? SQLITE_OPEN_CREATE : 0) | SQLITE_OPEN_NOMUTEX, NULL);
	if (rc != SQLITE_OK && !change) {
		sqlite3_close(l->c);
		rc = sqlite3_open_v2(
		    d->connection, &l->c, SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX, NULL);
	}
	if (rc != SQLITE_OK) {
		db_fail(e, -ENOTCONN, "%s: %s", d->connection,
		    l->c != NULL ? sqlite3_errmsg(l->c) : "out of memory");
		lite_close(l);
		return NULL;
	}
	sqlite3_busy_timeout(l->c, (int)d->timeout_ms);
	sqlite3_progress_handler(l->c, STEPS, is_late, l);
	if (!change)
		(void)sqlite3_exec(l->c, "PRAGMA query_only = 1", NULL, NULL, NULL);
	return l;
}

static int
verdict(sqlite3 *c, int rc, struct db_error *e)
{
	const char *text = sqlite3_errmsg(c);

	db_fail(e, 0, "%s", text);
	if (rc == SQLITE_ERROR && strncmp(text, "no such table", 13) == 0)
		return -ENOENT;
	if (rc == SQLITE_ERROR && strncmp(text, "no such column", 14) == 0)
		return -ENODATA;
	if (rc == SQLITE_INTERRUPT || rc == SQLITE_BUSY)
		return -ETIMEDOUT;
	return rc == SQLITE_NOTADB || rc == SQLITE_IOERR || rc == SQLITE_CORRUPT || rc == SQLITE_CANTOPEN
	    ? -ENOTCONN
	    : -EIO;
}

static void
tell_row(sqlite3_stmt *s, sql_row_h *row, void *arg)
{
	const char *value[4];
	size_t len[4];
	int columns = sqlite3_column_count(s);

	for (int k = 0; k < columns && k < 4; k++) {
		value[k] = (const char *)sqlite3_column_text(s, k);
		len[k] = (size_t)sqlite3_column_bytes(s, k);
	}
	if (columns <= 4)
		row(arg, (unsigned)columns, value, len);
}

static int
lite_run(void *conn, const char *text, unsigned n, const char *const *param, const size_t *len,
    sql_row_h *row, void *arg, uint64_t *changed, uint64_t deadline, struct db_error *e)
{
	struct lite *l = conn;
	sqlite3_stmt *s = NULL;
	int rc, err = 0;

	l->deadline = deadline;
	if ((rc = sqlite3_prepare_v2(l->c, text, -1, &s, NULL)) != SQLITE_OK)
		return verdict(l->c, rc, e);
	for (unsigned i = 0; i < n; i++)
		sqlite3_bind_text(s, (int)i + 1, param[i], (int)len[i], SQLITE_TRANSIENT);
	while ((rc = sqlite3_step(s)) == SQLITE_ROW)
		if (row != NULL)
			tell_row(s, row, arg);
	if (rc != SQLITE_DONE)
		err = verdict(l->c, rc, e);
	else if (changed != NULL)
		*changed = (uint64_t)sqlite3_changes(l->c);
	sqlite3_finalize(s);
	return err;
}

static int
lite_user(
    void *conn, const struct db_ask *ask, struct db_found *found, uint64_t deadline, struct db_error *e)
{
	return sql_user(&(struct sql){ conn, lite_run }, ask, found, deadline, e);
}

static int
lite_facts(void *conn, const char *realm, struct db_facts *f, uint64_t deadline, struct db_error *e)
{
	return sql_facts(&(struct sql){ conn, lite_run }, realm, f, deadline, e);
}

static int
lite_wait(void *conn, int kick, int ms, char name[DB_NAME_MAX], struct db_error *e)
{
	(void)conn;
	(void)name;
	(void)e;
	return db_wait_plain(kick, ms);
}

static int
lite_change(
    void *conn, const struct db_write *w, db_row_h *row, void *arg, uint64_t deadline, struct db_error *e)
{
	return sql_change(&(struct sql){ conn, lite_run }, w, row, arg, deadline, e);
}

static const struct sql *
lite_sql(void *conn, struct sql *q)
{
	*q = (struct sql){ conn, lite_run };
	return q;
}

const struct db_engine db_sqlite = { .name = "sqlite",
	.built = true,
	.open = lite_open,
	.close = lite_close,
	.user = lite_user,
	.facts = lite_facts,
	.wait = lite_wait,
	.change = lite_change,
	.sql = lite_sql };
