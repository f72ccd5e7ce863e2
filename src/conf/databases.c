/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * databases.c: the entries of auth.databases.  What a connection string says is for the client library;
 * here only what is wrong for certain is refused.
 */
#include "config.h"

#include <stdio.h>
#include <sys/stat.h>

#include "conf_int.h"

enum part {
	P_NAME,
	P_TYPE,
	P_CONNECTION,
	P_CONNECTION_FILE,
	P_SECRET_FILE,
	P_CA,
	P_CONNECTIONS,
	P_TIMEOUT,
	PARTS
};
static const char *const names[PARTS] = { "name", "type", "connection", "connection_file", "secret_file",
	"ca", "connections", "timeout" };

static bool
read_name(struct load *l, const struct node *n, struct users_database *d)
{
	bool ok = n->kind == NODE_SCALAR && n->len > 0 && n->len < sizeof d->name;

	for (size_t i = 0; ok && i < n->len; i++)
		ok = (n->text[i] >= 'a' && n->text[i] <= 'z') || (n->text[i] >= '0' && n->text[i] <= '9') ||
		    n->text[i] == '-' || n->text[i] == '_';
	if (!ok) {
		load_error(l, n, "auth.databases: name: %s: allowed: 1 to 31 of a-z, 0-9, - and _",
		    load_show(l, n));
		return false;
	}
	text_copy(d->name, sizeof d->name, n->text);
	for (uint32_t i = 0; i < l->database_count; i++)
		if (strcmp(l->databases[i].name, d->name) == 0) {
			load_error(l, n, "auth.databases: name: %s: the database at %s has this name, too",
			    load_show(l, n), l->databases[i].where);
			return false;
		}
	return true;
}

static bool
read_type(struct load *l, const struct node *n, struct users_database *d)
{
	static const bool built[CONF_DB_TYPES] = { TP_HAVE_PGSQL, TP_HAVE_HIREDIS, TP_HAVE_SQLITE,
		TP_HAVE_MARIADB, TP_HAVE_CURL };

	for (d->type = 0; n->kind == NODE_SCALAR && d->type < CONF_DB_TYPES; d->type++)
		if (strcmp(conf_database_types[d->type], n->text) == 0) {
			if (!built[d->type])
				load_error(l, n,
				    "auth.databases: type: %s: this build was made without its library",
				    n->text);
			return built[d->type];
		}
	load_error(l, n, "auth.databases: type: %s%s", load_show(l, n),
	    n->kind == NODE_SCALAR ? suggest_or_list(l, n->text, conf_database_types, CONF_DB_TYPES)
				   : ": a word is wanted");
	return false;
}

/* A path or the text itself: neither is ever printed. */
static bool
read_connection(struct load *l, const struct node *const part[PARTS], struct users_database *d)
{
	const struct node *n = part[P_CONNECTION] != NULL ? part[P_CONNECTION] : part[P_CONNECTION_FILE];
	const uint8_t *text;
	size_t len;
	struct stat st;

	if (!(part[P_CONNECTION] != NULL
		    ? read_inline(l, n, "auth.databases: connection", sizeof d->connection - 1, &text, &len)
		    : read_secret_file(
			  l, n, "auth.databases: connection_file", sizeof d->connection - 1, &text, &len)))
		return false;
	memcpy(d->connection, text, len);
	if (d->type == CONF_DB_HTTP && strncmp(d->connection, "https://", 8) != 0 &&
	    strncmp(d->connection, "http://", 7) != 0) {
		load_error(l, n,
		    "auth.databases: connection: allowed for type http: a URL with https:// or http://");
		return false;
	}
	if (d->type == CONF_DB_HTTP && strncmp(d->connection, "http://", 7) == 0 &&
	    strstr(d->connection, "//127.") == NULL && strstr(d->connection, "//localhost") == NULL &&
	    strstr(d->connection, "//[::1]") == NULL)
		load_warn(
		    l, n, "auth.databases: connection: keys cross the network in clear text: use https://");
	if (d->type == CONF_DB_SQLITE && d->connection[0] != '/') {
		load_error(l, n, "auth.databases: connection: allowed for type sqlite: an absolute path");
		return false;
	}
	if (d->type == CONF_DB_SQLITE && stat(d->connection, &st) < 0)
		load_warn(l, n,
		    "auth.databases: connection: there is no such file yet (turnpikectl user create --database %s "
		    "makes it)",
		    d->name);
	return true;
}

static bool
read_http(struct load *l, const struct node *const part[PARTS], struct users_database *d)
{
	const uint8_t *text;
	const char *path;
	size_t len;

	if (d->type != CONF_DB_HTTP && (part[P_SECRET_FILE] != NULL || part[P_CA] != NULL)) {
		load_error(l, part[P_SECRET_FILE] != NULL ? part[P_SECRET_FILE] : part[P_CA],
		    "auth.databases: %s: allowed for type http only",
		    part[P_SECRET_FILE] != NULL ? "secret_file" : "ca");
		return false;
	}
	if (part[P_SECRET_FILE] != NULL) {
		if (!read_secret_file(l, part[P_SECRET_FILE], "auth.databases: secret_file",
			sizeof d->secret - 1, &text, &len))
			return false;
		memcpy(d->secret, text, len);
	}
	if (part[P_CA] == NULL)
		return true;
	path = part[P_CA]->kind == NODE_SCALAR ? load_path(l, part[P_CA], part[P_CA]->text) : NULL;
	if (path == NULL || text_copy(d->ca, sizeof d->ca, path) >= sizeof d->ca) {
		load_error(l, part[P_CA], "auth.databases: ca: allowed: the path of a file");
		return false;
	}
	return true;
}

static bool
read_numbers(struct load *l, const struct node *const part[PARTS], struct users_database *d)
{
	static const struct option_row timeout = {
		.path = "timeout", .type = OPT_TIME, .min = 100, .max = 1900, .size = 8
	};
	uint64_t ms = 0;
	const struct node *n = part[P_CONNECTIONS];
	unsigned v = 0;
	char end;

	d->connections = 4;
	d->timeout_ms = 1500;
	if (n != NULL &&
	    (n->kind != NODE_SCALAR || sscanf(n->text, "%2u%c", &v, &end) != 1 || v < 1 || v > 32)) {
		load_error(l, n, "auth.databases: connections: %s: allowed: a decimal number from 1 to 32",
		    load_show(l, n));
		return false;
	}
	if (n != NULL)
		d->connections = v;
	n = part[P_TIMEOUT];
	if (n == NULL)
		return true;
	/* The row's field is at offset 0: nothing but ms is written. */
	if (n->kind != NODE_SCALAR ||
	    option_set((struct conf *)(void *)&ms, &timeout, n->text, NULL, 0) < 0) {
		load_error(l, n,
		    "auth.databases: timeout: %s: allowed: a number with a unit (ms, s) from 100ms to 1900ms",
		    load_show(l, n));
		return false;
	}
	d->timeout_ms = (uint32_t)ms;
	return true;
}

void
database_read(struct load *l, const struct node *n)
{
	const struct node *part[PARTS];
	struct users_database d;

	memset(&d, 0, sizeof d);
	if (n->kind != NODE_MAP || !shape_read(l, n, "auth.databases", names, PARTS, part) ||
	    part[P_NAME] == NULL || part[P_TYPE] == NULL ||
	    (part[P_CONNECTION] != NULL) + (part[P_CONNECTION_FILE] != NULL) != 1) {
		load_error(l, n,
		    "auth.databases: allowed: name, type, one of connection and connection_file, and optionally "
		    "secret_file, ca, connections, timeout");
		return;
	}
	text_copy(d.where, sizeof d.where, load_place(l, n));
	if (!read_name(l, part[P_NAME], &d) || !read_type(l, part[P_TYPE], &d) ||
	    !read_connection(l, part, &d) || !read_http(l, part, &d) || !read_numbers(l, part, &d)) {
		explicit_bzero(&d, sizeof d);
		return;
	}
	if (l->database_count == USERS_DATABASES_MAX) {
		load_error(l, n, "auth.databases: too many: at most %u are allowed", USERS_DATABASES_MAX);
		return;
	}
	struct conf_database *c = &l->conf->databases[l->database_count];
	text_copy(c->name, sizeof c->name, d.name);
	c->type = d.type;
	c->connections = d.connections;
	c->timeout_ms = d.timeout_ms;
	l->databases[l->database_count++] = d;
	l->conf->database_count = l->database_count;
	explicit_bzero(&d, sizeof d);
}
