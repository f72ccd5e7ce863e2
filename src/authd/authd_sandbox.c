/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * authd_sandbox.c: what turnpike-auth gives up when it has databases to talk to.
 *
 * It then needs sockets, threads, name resolution and a few files: the system's, those that a connection
 * string names, and the directory of a SQLite file.  What client libraries call beyond the list fails
 * instead of ending the process.
 */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>

#include "authd_int.h"
#include "tp/child.h"

#define PATHS_MAX 64

struct paths {
	unsigned n;
	char *at[PATHS_MAX];
};

static void
add(struct paths *p, const char *text, size_t len)
{
	char *copy = p->n < PATHS_MAX ? strndup(text, len) : NULL;

	if (copy != NULL)
		p->at[p->n++] = copy;
}

/* What follows "=/" in a connection string, or "=%2F" in a URI, is a file or a socket. */
static void
add_named(struct paths *p, const char *connection)
{
	for (const char *s = strstr(connection, "=/"); s != NULL; s = strstr(s + 1, "=/"))
		add(p, s + 1, strcspn(s + 1, " '\"&"));
	for (const char *s = strstr(connection, "='/"); s != NULL; s = strstr(s + 1, "='/"))
		add(p, s + 2, strcspn(s + 2, "'"));
}

static void
add_directory(struct paths *p, const char *file)
{
	const char *slash = strrchr(file, '/');

	if (slash != NULL)
		add(p, file, slash == file ? 1 : (size_t)(slash - file));
}

void
authd_confine_open(struct child_proc *proc, const struct users *u)
{
	static const char *const system_paths[] = {
		"/etc",
		"/usr/share/ca-certificates",
		"/usr/lib/ssl",
		"/usr/share/zoneinfo",
		"/usr/share/mysql",
		"/usr/share/mariadb",
		"/run/systemd/resolve",
		"/dev/urandom",
	};
	struct paths reads = { 0 }, writes = { 0 };

	db_prepare();
	for (unsigned i = 0; i < TP_COUNT(system_paths); i++)
		add(&reads, system_paths[i], strlen(system_paths[i]));
	for (unsigned i = 0; i < u->database_count; i++) {
		const struct users_database *d = &u->database[i];

		if (d->type == CONF_DB_SQLITE)
			add_directory(&writes, d->connection);
		else
			add_named(&reads, d->connection);
		if (d->ca[0] != '\0')
			add(&reads, d->ca, strlen(d->ca));
	}
	child_confine_reach(proc,
	    &(struct sandbox_reach){ .log_dir = -1,
		.connects = true,
		.read_count = reads.n,
		.write_count = writes.n,
		.read = (const char *const *)reads.at,
		.write = (const char *const *)writes.at },
	    SANDBOX_DATABASES);
	for (unsigned i = 0; i < reads.n; i++)
		free(reads.at[i]);
	for (unsigned i = 0; i < writes.n; i++)
		free(writes.at[i]);
}
