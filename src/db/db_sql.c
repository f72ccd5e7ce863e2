/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * db_sql.c: what is read from coturn's tables, by column name.  Extra columns are not seen; a table that
 * is missing is an empty one.
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>

#include "db_int.h"

struct key_row {
	struct db_found *found;
	unsigned rows;
	int err;
};

static void
on_key(void *arg, unsigned columns, const char *const *value, const size_t *len)
{
	struct key_row *k = arg;

	if (columns != 1 || k->rows++ > 0)
		return;
	k->err = value[0] != NULL ? facts_key(k->found, value[0], len[0]) : -EINVAL;
}

int
sql_user(const struct sql *q, const struct db_ask *ask, struct db_found *found, uint64_t deadline,
    struct db_error *e)
{
	const char *param[2] = { ask->realm, ask->name };
	const size_t len[2] = { strlen(ask->realm), ask->name_len };
	struct key_row k = { found, 0, 0 };
	char shown[96];
	int err;

	/* No database can hold such a name. */
	if (memchr(ask->name, 0, ask->name_len) != NULL)
		return -ENOENT;
	err = q->run(q->conn, "SELECT hmackey FROM turnusers_lt WHERE realm = ? AND name = ?", 2, param,
	    len, on_key, &k, NULL, deadline, e);
	if (err == -EINVAL || err == -ENOENT)
		return -ENOENT;
	if (err < 0)
		return err;
	if (k.rows == 0)
		return -ENOENT;
	if (k.err < 0)
		return db_fail(e, -EBADMSG, "table turnusers_lt: user \"%s\": hmackey is not hexadecimal",
		    text_escape(shown, sizeof shown, ask->name, ask->name_len < 60 ? ask->name_len : 60));
	return 0;
}

/* ---- facts ------------------------------------------------------------------------------------------- */

static void
on_secret(void *arg, unsigned columns, const char *const *value, const size_t *len)
{
	if (columns == 1 && value[0] != NULL)
		facts_secret(arg, "table turn_secret", value[0], len[0]);
}

static void
on_allowed(void *arg, unsigned columns, const char *const *value, const size_t *len)
{
	if (columns == 1 && value[0] != NULL)
		facts_range(arg, true, "table allowed_peer_ip", value[0], len[0]);
}

static void
on_denied(void *arg, unsigned columns, const char *const *value, const size_t *len)
{
	if (columns == 1 && value[0] != NULL)
		facts_range(arg, false, "table denied_peer_ip", value[0], len[0]);
}

static void
on_option(void *arg, unsigned columns, const char *const *value, const size_t *len)
{
	if (columns == 2 && value[0] != NULL && value[1] != NULL)
		facts_option(arg, "table turn_realm_option", value[0], value[1], len[1]);
}

static void
on_origin(void *arg, unsigned columns, const char *const *value, const size_t *len)
{
	(void)len;
	if (columns == 2 && value[0] != NULL && value[1] != NULL)
		facts_origin(arg, "table turn_origin_to_realm", value[0], value[1]);
}

static void
on_denied_user(void *arg, unsigned columns, const char *const *value, const size_t *len)
{
	if (columns == 2 && value[0] != NULL)
		facts_denied(
		    arg, "table turnpike_denied", value[0], len[0], value[1] != NULL ? value[1] : "");
}

int
sql_facts(const struct sql *q, const char *realm, struct db_facts *f, uint64_t deadline, struct db_error *e)
{
	static const struct {
		const char *text, *without_realm;
		unsigned n;
		sql_row_h *row;
	} reads[] = {
		{ "SELECT value FROM turn_secret WHERE realm = ?", NULL, 1, on_secret },
		{ "SELECT ip_range FROM allowed_peer_ip WHERE realm = ? OR realm = ''",
		    "SELECT ip_range FROM allowed_peer_ip", 1, on_allowed },
		{ "SELECT ip_range FROM denied_peer_ip WHERE realm = ? OR realm = ''",
		    "SELECT ip_range FROM denied_peer_ip", 1, on_denied },
		{ "SELECT opt, value FROM turn_realm_option WHERE realm = ?", NULL, 1, on_option },
		{ "SELECT origin, realm FROM turn_origin_to_realm LIMIT 1000", NULL, 0, on_origin },
		{ "SELECT name, until FROM turnpike_denied WHERE realm = ?", NULL, 1, on_denied_user },
	};
	size_t len = strlen(realm);
	int err;

	for (unsigned i = 0; i < TP_COUNT(reads); i++) {
		err = q->run(
		    q->conn, reads[i].text, reads[i].n, &realm, &len, reads[i].row, f, NULL, deadline, e);
		if (err == -ENODATA && reads[i].without_realm != NULL)
			err = q->run(q->conn, reads[i].without_realm, 0, NULL, NULL, reads[i].row, f, NULL,
			    deadline, e);
		if (err < 0 && err != -ENOENT)
			return err;
	}
	return 0;
}
