/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * db_pgsql.c: PostgreSQL through libpq, without blocking calls.
 */
#include "config.h"

#include <errno.h>
#include <libpq-fe.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "db_int.h"

struct pgsql {
	PGconn *c;
	bool listens;
};

static void
pg_close(void *conn)
{
	struct pgsql *p = conn;

	PQfinish(p->c);
	free(p);
}

static int
connect_until(PGconn *c, uint64_t deadline)
{
	PostgresPollingStatusType s = PGRES_POLLING_WRITING;

	for (;;) {
		int err = db_poll(PQsocket(c), s == PGRES_POLLING_READING ? POLLIN : POLLOUT, deadline);

		if (err < 0)
			return err;
		s = PQconnectPoll(c);
		if (s == PGRES_POLLING_OK)
			return 0;
		if (s == PGRES_POLLING_FAILED)
			return -ENOTCONN;
	}
}

static void *
pg_open(const struct users_database *d, bool change, uint64_t deadline, struct db_error *e)
{
	struct pgsql *p = calloc(1, sizeof *p);
	int err;

	(void)change;
	if (p == NULL)
		return NULL;
	/* expand_dbname: a connection string or URI is given as the name. */
	p->c = PQconnectStartParams((const char *const[]){ "application_name", "dbname", NULL },
	    (const char *const[]){ "turnpike", d->connection, NULL }, 1);
	if (p->c == NULL || PQstatus(p->c) == CONNECTION_BAD) {
		db_fail(e, -ENOTCONN, "%s", p->c != NULL ? PQerrorMessage(p->c) : "out of memory");
		pg_close(p);
		return NULL;
	}
	err = connect_until(p->c, deadline);
	if (err < 0 || PQsetnonblocking(p->c, 1) != 0) {
		db_fail(e, err, "%s", err == -ETIMEDOUT ? "no answer in time" : PQerrorMessage(p->c));
		pg_close(p);
		return NULL;
	}
	return p;
}

static void
pg_server(void *conn, struct addr *a)
{
	const struct pgsql *p = conn;
	struct sockaddr_storage s;
	socklen_t len = sizeof s;

	if (getpeername(PQsocket(p->c), (struct sockaddr *)&s, &len) == 0)
		(void)addr_from_sockaddr(a, (struct sockaddr *)&s);
}

/* `?` to $1, $2 ... */
static void
dollars(char *out, size_t size, const char *text)
{
	size_t at = 0;
	unsigned n = 0;

	for (; *text != '\0' && at + 4 < size; text++) {
		if (*text == '?')
			at += (size_t)snprintf(out + at, size - at, "$%u", ++n);
		else
			out[at++] = *text;
	}
	out[at] = '\0';
}

static int
verdict(const PGresult *r, struct db_error *e)
{
	const char *state = PQresultErrorField(r, PG_DIAG_SQLSTATE);
	const char *text = PQresultErrorField(r, PG_DIAG_MESSAGE_PRIMARY);

	db_fail(e, 0, "%s", text != NULL ? text : PQresultErrorMessage(r));
	if (state == NULL)
		return -EIO;
	if (strcmp(state, "42P01") == 0)
		return -ENOENT; /* undefined table */
	if (strcmp(state, "42703") == 0)
		return -ENODATA; /* undefined column */
	if (strncmp(state, "22", 2) == 0)
		return -EINVAL; /* bytes that the encoding does not have */
	return strncmp(state, "57P", 3) == 0 || strncmp(state, "08", 2) == 0 ? -ENOTCONN : -EIO;
}

static void
rows(const PGresult *r, sql_row_h *row, void *arg)
{
	const char *value[4];
	size_t len[4];
	int columns = PQnfields(r);

	for (int i = 0; i < PQntuples(r) && columns <= 4; i++) {
		for (int k = 0; k < columns; k++) {
			value[k] = PQgetisnull(r, i, k) ? NULL : PQgetvalue(r, i, k);
			len[k] = (size_t)PQgetlength(r, i, k);
		}
		row(arg, (unsigned)columns, value, len);
	}
}

/* Sends what is queued and reads until a result is complete. */
static int
exchange(PGconn *c, uint64_t deadline)
{
	for (;;) {
		int out = PQflush(c);
		int err;

		if (out < 0)
			return -ENOTCONN;
		if (out == 0 && !PQisBusy(c))
			return 0;
		err = db_poll(PQsocket(c), (short)(POLLIN | (out > 0 ? POLLOUT : 0)), deadline);
		if (err < 0)
			return err;
		if (PQconsumeInput(c) == 0)
			return -ENOTCONN;
	}
}

static int
pg_run(void *conn, const char *text, unsigned n, const char *const *param, const size_t *len,
    sql_row_h *row, void *arg, uint64_t *changed, uint64_t deadline, struct db_error *e)
{
	struct pgsql *p = conn;
	char sql[1024], copy[4][DB_NAME_MAX + 1];
	const char *value[4];
	int verdict_is = 0, err;
	PGresult *r;

	dollars(sql, sizeof sql, text);
	for (unsigned i = 0; i < n; i++) { /* text parameters are terminated strings */
		if (len[i] > DB_NAME_MAX)
			return -EINVAL;
		memcpy(copy[i], param[i], len[i]);
		copy[i][len[i]] = '\0';
		value[i] = copy[i];
	}
	if (PQsendQueryParams(p->c, sql, (int)n, NULL, value, NULL, NULL, 0) == 0)
		return db_fail(e, -ENOTCONN, "%s", PQerrorMessage(p->c));
	for (;;) {
		if ((err = exchange(p->c, deadline)) < 0)
			return db_fail(
			    e, err, "%s", err == -ETIMEDOUT ? "no answer in time" : PQerrorMessage(p->c));
		r = PQgetResult(p->c);
		if (r == NULL)
			break;
		if (PQresultStatus(r) == PGRES_TUPLES_OK && row != NULL)
			rows(r, row, arg);
		else if (PQresultStatus(r) != PGRES_TUPLES_OK && PQresultStatus(r) != PGRES_COMMAND_OK)
			verdict_is = verdict(r, e);
		if (changed != NULL)
			*changed = strtoull(PQcmdTuples(r), NULL, 10);
		PQclear(r);
	}
	return verdict_is != 0 || PQstatus(p->c) == CONNECTION_OK ? verdict_is : -ENOTCONN;
}

static int
pg_user(void *conn, const struct db_ask *ask, struct db_found *found, uint64_t deadline, struct db_error *e)
{
	return sql_user(&(struct sql){ conn, pg_run }, ask, found, deadline, e);
}

static int
pg_facts(void *conn, const char *realm, struct db_facts *f, uint64_t deadline, struct db_error *e)
{
	struct pgsql *p = conn;

	/* A pooler that does not do LISTEN refuses it: then only the clock tells. */
	if (!p->listens) {
		int err = pg_run(conn, "LISTEN turnpike", 0, NULL, NULL, NULL, NULL, NULL, deadline, e);

		if (err == -ENOTCONN || err == -ETIMEDOUT)
			return err;
		p->listens = true;
	}
	return sql_facts(&(struct sql){ conn, pg_run }, realm, f, deadline, e);
}

/* NOTIFY turnpike: everything; NOTIFY turnpike, 'NAME': this user. */
static int
pg_wait(void *conn, int kick, int ms, char name[DB_NAME_MAX], struct db_error *e)
{
	struct pgsql *p = conn;
	struct pollfd f[2] = { { .fd = kick, .events = POLLIN },
		{ .fd = PQsocket(p->c), .events = POLLIN } };
	PGnotify *n;
	int told = 0;

	if (poll(f, 2, ms) <= 0)
		return 0;
	if (f[0].revents != 0)
		db_kick_take(kick);
	if (f[1].revents != 0 && (PQconsumeInput(p->c) == 0 || PQstatus(p->c) != CONNECTION_OK))
		return db_fail(e, -ENOTCONN, "%s", PQerrorMessage(p->c));
	while ((n = PQnotifies(p->c)) != NULL) {
		/* Two names in one look are told as "everything". */
		text_copy(name, DB_NAME_MAX, told == 0 ? n->extra : "");
		told = 1;
		PQfreemem(n);
	}
	return told;
}

static int
pg_change(
    void *conn, const struct db_write *w, db_row_h *row, void *arg, uint64_t deadline, struct db_error *e)
{
	return sql_change(&(struct sql){ conn, pg_run }, w, row, arg, deadline, e);
}

static const struct sql *
pg_sql(void *conn, struct sql *q)
{
	*q = (struct sql){ conn, pg_run };
	return q;
}

const struct db_engine db_pgsql = { .name = "postgresql",
	.built = true,
	.open = pg_open,
	.close = pg_close,
	.server = pg_server,
	.user = pg_user,
	.facts = pg_facts,
	.wait = pg_wait,
	.change = pg_change,
	.sql = pg_sql };
