/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * db_sql_change.c: what turnpikectl writes into coturn's tables.  No statement depends on a primary key:
 * some installations have none.
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <sodium.h>

#include "db_int.h"

struct change {
	const struct sql *q;
	const struct db_write *w;
	uint64_t deadline;
	struct db_error *e;
};

static int
run(const struct change *c, const char *text, const char *const *param, unsigned n, uint64_t *changed)
{
	size_t len[4];

	for (unsigned i = 0; i < n; i++)
		len[i] = strlen(param[i]);
	return c->q->run(c->q->conn, text, n, param, len, NULL, NULL, changed, c->deadline, c->e);
}

static int
user_add(const struct change *c)
{
	char key[33];
	const char *param[3] = { key, c->w->realm, c->w->name };
	uint64_t changed = 0;
	int err;

	db_hmackey(key, c->w->name, c->w->realm, c->w->value);
	err = run(
	    c, "UPDATE turnusers_lt SET hmackey = ? WHERE realm = ? AND name = ?", param, 3, &changed);
	if (err == 0 && changed == 0)
		err = run(
		    c, "INSERT INTO turnusers_lt (hmackey, realm, name) VALUES (?, ?, ?)", param, 3, NULL);
	sodium_memzero(key, sizeof key);
	return err;
}

static int
secret_add(const struct change *c)
{
	const char *param[2] = { c->w->realm, c->w->value };
	uint64_t changed = 0;
	int err = run(
	    c, "UPDATE turn_secret SET value = value WHERE realm = ? AND value = ?", param, 2, &changed);

	return err == 0 && changed == 0
	    ? run(c, "INSERT INTO turn_secret (realm, value) VALUES (?, ?)", param, 2, NULL)
	    : err;
}

static int
deny_add(const struct change *c)
{
	const char *param[3] = { c->w->value, c->w->realm, c->w->name };
	uint64_t changed = 0;
	int err = run(c,
	    "UPDATE turnpike_denied SET until = CAST(? AS DECIMAL(20,0)) WHERE realm = ? AND name = ?",
	    param, 3, &changed);

	if (err == -ENOENT)
		return db_fail(
		    c->e, err, "table turnpike_denied is missing: turnpikectl user create makes it");
	if (err == 0 && changed == 0)
		err = run(c,
		    "INSERT INTO turnpike_denied (until, realm, name) VALUES (CAST(? AS DECIMAL(20,0)), ?, ?)",
		    param, 3, NULL);
	return err;
}

static int
delete_one(const struct change *c, const char *text, const char *second)
{
	const char *param[2] = { c->w->realm, second };
	uint64_t changed = 0;
	int err = run(c, text, param, 2, &changed);

	return err == 0 && changed == 0 ? db_fail(c->e, -ENOENT, "there is none in this realm") : err;
}

static int
create(const struct change *c)
{
	static const char *const tables[] = {
		"CREATE TABLE IF NOT EXISTS turnusers_lt (realm varchar(127) DEFAULT '', name varchar(512), hmackey char(128), "
		"PRIMARY KEY (realm, name))",
		"CREATE TABLE IF NOT EXISTS turn_secret (realm varchar(127) DEFAULT '', value varchar(256), "
		"PRIMARY KEY (realm, value))",
		"CREATE TABLE IF NOT EXISTS allowed_peer_ip (realm varchar(127) DEFAULT '', ip_range varchar(256), "
		"PRIMARY KEY (realm, ip_range))",
		"CREATE TABLE IF NOT EXISTS denied_peer_ip (realm varchar(127) DEFAULT '', ip_range varchar(256), "
		"PRIMARY KEY (realm, ip_range))",
		"CREATE TABLE IF NOT EXISTS turn_origin_to_realm (origin varchar(127), realm varchar(127), PRIMARY KEY (origin))",
		"CREATE TABLE IF NOT EXISTS turn_realm_option (realm varchar(127) DEFAULT '', opt varchar(32), value varchar(128), "
		"PRIMARY KEY (realm, opt))",
		"CREATE TABLE IF NOT EXISTS oauth_key (kid varchar(128), ikm_key varchar(256), timestamp bigint DEFAULT 0, "
		"lifetime integer DEFAULT 0, as_rs_alg varchar(64) DEFAULT '', realm varchar(127), PRIMARY KEY (kid))",
		"CREATE TABLE IF NOT EXISTS admin_user (name varchar(32), realm varchar(127), password varchar(127), "
		"PRIMARY KEY (name))",
		"CREATE TABLE IF NOT EXISTS turnpike_denied (realm varchar(127) DEFAULT '', name varchar(127), until bigint "
		"DEFAULT 0, PRIMARY KEY (realm, name))",
	};
	int err = 0;

	for (unsigned i = 0; i < TP_COUNT(tables) && err == 0; i++)
		err = run(c, tables[i], NULL, 0, NULL);
	return err;
}

struct list {
	db_row_h *row;
	void *arg;
};

static void
on_name(void *arg, unsigned columns, const char *const *value, const size_t *len)
{
	const struct list *l = arg;
	char text[DB_NAME_MAX];

	if (columns == 1 && value[0] != NULL)
		l->row(l->arg, text_escape(text, sizeof text, value[0], len[0]));
}

static int
list_names(const struct change *c, const char *text, db_row_h *row, void *arg)
{
	const char *realm = c->w->realm;
	size_t len = strlen(realm);
	struct list l = { row, arg };

	return c->q->run(c->q->conn, text, 1, &realm, &len, on_name, &l, NULL, c->deadline, c->e);
}

/* ---- a copy of a whole database -------------------------------------------------------------- */

/* The rows come through `row` as "table TAB value TAB value ...", each value in hexadecimal: the caller
 * writes them elsewhere. */
struct copy {
	const struct change *to;
	const char *update, *insert;
	unsigned columns;
	int err;
	uint64_t rows;
};

static void
on_copy(void *arg, unsigned columns, const char *const *value, const size_t *len)
{
	struct copy *k = arg;
	const struct change *c = k->to;
	const char *param[4];
	uint64_t changed = 0;

	if (k->err < 0 || columns != k->columns)
		return;
	for (unsigned i = 0; i < columns; i++)
		param[i] = value[i] != NULL ? value[i] : "";
	(void)len;
	k->err = run(c, k->update, param, columns, &changed);
	if (k->err == 0 && changed == 0)
		k->err = run(c, k->insert, param, columns, NULL);
	k->rows++;
}

int
sql_copy(const struct sql *from, const struct sql *to, const struct db_write *w, uint64_t *rows,
    uint64_t deadline, struct db_error *e)
{
	/* The columns to set first, then those that find the row. */
	static const struct {
		const char *read, *update, *insert;
		unsigned columns;
	} tables[] = {
		{ "SELECT hmackey, realm, name FROM turnusers_lt",
		    "UPDATE turnusers_lt SET hmackey = ? WHERE realm = ? AND name = ?",
		    "INSERT INTO turnusers_lt (hmackey, realm, name) VALUES (?, ?, ?)", 3 },
		{ "SELECT realm, value FROM turn_secret",
		    "UPDATE turn_secret SET value = value WHERE realm = ? AND value = ?",
		    "INSERT INTO turn_secret (realm, value) VALUES (?, ?)", 2 },
		{ "SELECT realm, ip_range FROM allowed_peer_ip",
		    "UPDATE allowed_peer_ip SET ip_range = ip_range WHERE realm = ? AND ip_range = ?",
		    "INSERT INTO allowed_peer_ip (realm, ip_range) VALUES (?, ?)", 2 },
		{ "SELECT realm, ip_range FROM denied_peer_ip",
		    "UPDATE denied_peer_ip SET ip_range = ip_range WHERE realm = ? AND ip_range = ?",
		    "INSERT INTO denied_peer_ip (realm, ip_range) VALUES (?, ?)", 2 },
		{ "SELECT value, realm, opt FROM turn_realm_option",
		    "UPDATE turn_realm_option SET value = ? WHERE realm = ? AND opt = ?",
		    "INSERT INTO turn_realm_option (value, realm, opt) VALUES (?, ?, ?)", 3 },
		{ "SELECT realm, origin FROM turn_origin_to_realm",
		    "UPDATE turn_origin_to_realm SET realm = ? WHERE origin = ?",
		    "INSERT INTO turn_origin_to_realm (realm, origin) VALUES (?, ?)", 2 },
	};
	struct change c = { to, w, deadline, e };
	int err = create(&c);

	for (unsigned i = 0; i < TP_COUNT(tables) && err == 0; i++) {
		struct copy k = { &c, tables[i].update, tables[i].insert, tables[i].columns, 0, 0 };

		err = from->run(from->conn, tables[i].read, 0, NULL, NULL, on_copy, &k, NULL, deadline, e);
		err = err == -ENOENT ? 0 : err == 0 ? k.err : err;
		*rows += k.rows;
	}
	return err;
}

int
sql_change(const struct sql *q, const struct db_write *w, db_row_h *row, void *arg, uint64_t deadline,
    struct db_error *e)
{
	const struct change c = { q, w, deadline, e };

	switch (w->what) {
	case DB_USER_ADD:
		return user_add(&c);
	case DB_USER_DELETE:
		return delete_one(&c, "DELETE FROM turnusers_lt WHERE realm = ? AND name = ?", w->name);
	case DB_USER_LIST:
		return list_names(
		    &c, "SELECT name FROM turnusers_lt WHERE realm = ? ORDER BY name LIMIT 1000", row, arg);
	case DB_SECRET_ADD:
		return secret_add(&c);
	case DB_SECRET_DELETE:
		return delete_one(&c, "DELETE FROM turn_secret WHERE realm = ? AND value = ?", w->value);
	case DB_SECRET_LIST:
		return list_names(&c,
		    "SELECT value FROM turn_secret WHERE realm = ? ORDER BY value LIMIT 1000", row, arg);
	case DB_DENY_ADD:
		return deny_add(&c);
	case DB_DENY_DELETE:
		return delete_one(&c, "DELETE FROM turnpike_denied WHERE realm = ? AND name = ?", w->name);
	case DB_CREATE:
		return create(&c);
	default:
		return db_fail(e, -EOPNOTSUPP, "this database cannot do that");
	}
}
