/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * db_mariadb.c: MariaDB and MySQL through libmariadb, whose calls block for as long as its time limits say.
 */
#include "config.h"

#include <errno.h>
#include <mysql.h>
#include <mysqld_error.h>
#include <errmsg.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "db_int.h"

#define COLUMN_MAX 1024
#define AUTHENTICATION_PLUGIN                                                                              \
	2 /* MYSQL_CLIENT_AUTHENTICATION_PLUGIN, whose header needs another that is not installed */

struct maria_where {
	char host[256], port[8], db[128], user[128], password[256], connect_timeout[8], read_timeout[8];
	char key[256], ca[256], capath[256], cert[256], cipher[256];
};

static int
where_read(struct maria_where *w, const char *connection, struct db_error *e)
{
	const struct pair_row rows[] = {
		{ "host|ip|addr|ipaddr|hostaddr", w->host, sizeof w->host },
		{ "dbname|db|database", w->db, sizeof w->db },
		{ "user|uname|name|username", w->user, sizeof w->user },
		{ "password|pwd|passwd|secret", w->password, sizeof w->password },
		{ "port|p", w->port, sizeof w->port },
		{ "connect_timeout|timeout", w->connect_timeout, sizeof w->connect_timeout },
		{ "read_timeout", w->read_timeout, sizeof w->read_timeout },
		{ "key|ssl-key", w->key, sizeof w->key },
		{ "ca|ssl-ca", w->ca, sizeof w->ca },
		{ "capath|ssl-capath", w->capath, sizeof w->capath },
		{ "cert|ssl-cert", w->cert, sizeof w->cert },
		{ "cipher|ssl-cipher", w->cipher, sizeof w->cipher },
	};
	unsigned n = 0;

	memset(w, 0, sizeof *w);
	text_copy(w->host, sizeof w->host, "localhost");
	if (pairs_read(connection, rows, TP_COUNT(rows), e) < 0 ||
	    pairs_number(w->port, "port", 65535, &n, e) < 0 ||
	    pairs_number(w->connect_timeout, "connect_timeout", 3600, &n, e) < 0 ||
	    pairs_number(w->read_timeout, "read_timeout", 3600, &n, e) < 0)
		return -EINVAL;
	return w->db[0] != '\0' ? 0 : db_fail(e, -EINVAL, "connection: dbname is missing");
}

static void
maria_close(void *conn)
{
	mysql_close(conn);
	mysql_thread_end();
}

static const char *
or_null(const char *text)
{
	return text[0] != '\0' ? text : NULL;
}

static void
set_options(MYSQL *c, const struct maria_where *w, uint64_t deadline)
{
	unsigned seconds = (unsigned)(db_left(deadline) + 999) / 1000;
	my_bool no = 0, yes = 1;
	bool tls = w->ca[0] != '\0' || w->capath[0] != '\0' || w->cert[0] != '\0' || w->cipher[0] != '\0';

	mysql_options(c, MYSQL_OPT_CONNECT_TIMEOUT, &seconds);
	mysql_options(c, MYSQL_OPT_READ_TIMEOUT, &seconds);
	mysql_options(c, MYSQL_OPT_WRITE_TIMEOUT, &seconds);
	mysql_options(c, MYSQL_OPT_RECONNECT, &no);
	mysql_options(c, MYSQL_SET_CHARSET_NAME, "utf8mb4");
	if (!tls)
		return;
	mysql_ssl_set(
	    c, or_null(w->key), or_null(w->cert), or_null(w->ca), or_null(w->capath), or_null(w->cipher));
	mysql_options(c, MYSQL_OPT_SSL_ENFORCE, &yes);
	if (w->ca[0] != '\0' || w->capath[0] != '\0')
		mysql_options(c, MYSQL_OPT_SSL_VERIFY_SERVER_CERT, &yes);
}

static void *
maria_open(const struct users_database *d, bool change, uint64_t deadline, struct db_error *e)
{
	struct maria_where w;
	unsigned port = 0;
	MYSQL *c;
	const char *host;

	(void)change;
	if (where_read(&w, d->connection, e) < 0)
		return NULL;
	(void)pairs_number(w.port, "port", 65535, &port, e);
	mysql_thread_init();
	if ((c = mysql_init(NULL)) == NULL)
		return NULL;
	set_options(c, &w, deadline);
	host = w.host[0] == '/' ? NULL : w.host;
	/* CLIENT_FOUND_ROWS: an UPDATE tells the rows that it found, as the other databases do. */
	if (mysql_real_connect(c, host, or_null(w.user), w.password, w.db, port,
		w.host[0] == '/' ? w.host : NULL, CLIENT_FOUND_ROWS) == NULL) {
		db_fail(e, -ENOTCONN, "%s", mysql_error(c));
		maria_close(c);
		c = NULL;
	}
	explicit_bzero(&w, sizeof w);
	return c;
}

static void
maria_server(void *conn, struct addr *a)
{
	struct sockaddr_storage s;
	socklen_t len = sizeof s;
	my_socket fd = mysql_get_socket(conn);

	if (getpeername((int)fd, (struct sockaddr *)&s, &len) == 0)
		(void)addr_from_sockaddr(a, (struct sockaddr *)&s);
}

static int
verdict(unsigned code, const char *text, struct db_error *e)
{
	db_fail(e, 0, "%s", text);
	switch (code) {
	case ER_NO_SUCH_TABLE:
		return -ENOENT;
	case ER_BAD_FIELD_ERROR:
		return -ENODATA;
	case ER_DATA_TOO_LONG:
	case 1366: /* ER_TRUNCATED_WRONG_VALUE_FOR_FIELD: bytes that the character set does not have */
	case 1267: /* ER_CANT_AGGREGATE_2COLLATIONS */
		return -EINVAL;
	default:
		return code >= CR_MIN_ERROR || code == ER_SERVER_SHUTDOWN ? -ENOTCONN : -EIO;
	}
}

/* Binds buffers for the columns of a result and hands each row on. */
static int
fetch(MYSQL_STMT *s, sql_row_h *row, void *arg)
{
	char buf[4][COLUMN_MAX];
	MYSQL_BIND out[4];
	unsigned long len[4];
	my_bool null[4];
	const char *value[4];
	size_t size[4];
	unsigned columns = mysql_stmt_field_count(s);
	int rc;

	if (columns == 0 || columns > 4)
		return 0;
	memset(out, 0, sizeof out);
	for (unsigned i = 0; i < columns; i++) {
		out[i].buffer_type = MYSQL_TYPE_STRING;
		out[i].buffer = buf[i];
		out[i].buffer_length = COLUMN_MAX - 1;
		out[i].length = &len[i];
		out[i].is_null = &null[i];
	}
	if (mysql_stmt_bind_result(s, out) != 0)
		return -1;
	while ((rc = mysql_stmt_fetch(s)) == 0 || rc == MYSQL_DATA_TRUNCATED) {
		for (unsigned i = 0; i < columns; i++) {
			size[i] = len[i] < COLUMN_MAX - 1 ? len[i] : COLUMN_MAX - 1;
			buf[i][size[i]] = '\0';
			value[i] = null[i] ? NULL : buf[i];
		}
		if (row != NULL)
			row(arg, columns, value, size);
	}
	return rc == MYSQL_NO_DATA ? 0 : -1;
}

static int
execute(MYSQL_STMT *s, const char *text, unsigned n, const char *const *param, const size_t *len,
    sql_row_h *row, void *arg)
{
	MYSQL_BIND in[4];
	unsigned long size[4];

	memset(in, 0, sizeof in);
	for (unsigned i = 0; i < n; i++) {
		size[i] = len[i];
		in[i].buffer_type = MYSQL_TYPE_STRING;
		in[i].buffer = (void *)(uintptr_t)param[i];
		in[i].buffer_length = len[i];
		in[i].length = &size[i];
	}
	if (mysql_stmt_prepare(s, text, strlen(text)) != 0 ||
	    (n > 0 && mysql_stmt_bind_param(s, in) != 0) || mysql_stmt_execute(s) != 0)
		return -1;
	/* Stored here: a row handler may use the connection. */
	if (mysql_stmt_field_count(s) > 0 && mysql_stmt_store_result(s) != 0)
		return -1;
	return fetch(s, row, arg);
}

static int
maria_run(void *conn, const char *text, unsigned n, const char *const *param, const size_t *len,
    sql_row_h *row, void *arg, uint64_t *changed, uint64_t deadline, struct db_error *e)
{
	MYSQL_STMT *s = mysql_stmt_init(conn);
	int err = 0;

	(void)deadline; /* the time limits of the connection */
	if (s == NULL)
		return db_fail(e, -ENOTCONN, "out of memory");
	if (execute(s, text, n, param, len, row, arg) != 0)
		err = verdict(mysql_stmt_errno(s), mysql_stmt_error(s), e);
	else if (changed != NULL)
		*changed = mysql_stmt_affected_rows(s);
	mysql_stmt_close(s);
	return err;
}

static int
maria_user(
    void *conn, const struct db_ask *ask, struct db_found *found, uint64_t deadline, struct db_error *e)
{
	return sql_user(&(struct sql){ conn, maria_run }, ask, found, deadline, e);
}

static int
maria_facts(void *conn, const char *realm, struct db_facts *f, uint64_t deadline, struct db_error *e)
{
	return sql_facts(&(struct sql){ conn, maria_run }, realm, f, deadline, e);
}

static int
maria_wait(void *conn, int kick, int ms, char name[DB_NAME_MAX], struct db_error *e)
{
	(void)conn;
	(void)name;
	(void)e;
	return db_wait_plain(kick, ms);
}

static int
maria_change(
    void *conn, const struct db_write *w, db_row_h *row, void *arg, uint64_t deadline, struct db_error *e)
{
	return sql_change(&(struct sql){ conn, maria_run }, w, row, arg, deadline, e);
}

static const struct sql *
maria_sql(void *conn, struct sql *q)
{
	*q = (struct sql){ conn, maria_run };
	return q;
}

/* The ways to log in that are files of their own: no file can be executed later. */
static void
maria_prepare(void)
{
	static const char *const plugins[] = { "caching_sha2_password", "sha256_password",
		"client_ed25519" };
	MYSQL *c;

	if (mysql_library_init(0, NULL, NULL) != 0 || (c = mysql_init(NULL)) == NULL)
		return;
	for (unsigned i = 0; i < TP_COUNT(plugins); i++)
		(void)mysql_client_find_plugin(c, plugins[i], AUTHENTICATION_PLUGIN);
	mysql_close(c);
}

const struct db_engine db_mariadb = { .name = "mariadb",
	.built = true,
	.open = maria_open,
	.close = maria_close,
	.server = maria_server,
	.user = maria_user,
	.facts = maria_facts,
	.wait = maria_wait,
	.change = maria_change,
	.sql = maria_sql,
	.prepare = maria_prepare };
