/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * foreign.c: a file of another server, given by mistake.
 */
#include "config.h"

#include "conf_int.h"

/* Names that begin a line of a turnserver.conf, and no line of YAML. */
static const char *const coturn[] = {
	"listening-port",
	"tls-listening-port",
	"listening-ip",
	"relay-ip",
	"external-ip",
	"min-port",
	"max-port",
	"fingerprint",
	"lt-cred-mech",
	"use-auth-secret",
	"static-auth-secret",
	"user",
	"realm",
	"server-name",
	"total-quota",
	"user-quota",
	"max-bps",
	"stale-nonce",
	"cert",
	"pkey",
	"no-tls",
	"no-dtls",
	"no-cli",
	"no-multicast-peers",
	"denied-peer-ip",
	"allowed-peer-ip",
	"log-file",
	"syslog",
	"verbose",
	"simple-log",
	"no-tcp-relay",
	"cli-password",
	"userdb",
	"psql-userdb",
	"redis-userdb",
	"proc-user",
	"proc-group",
	"pidfile",
	"mobility",
	"no-tlsv1",
	"no-tlsv1_1",
	"cipher-list",
	"dh-file",
};

/* The name of a line `name` or `name=value`; 0 when it has another form. */
static size_t
name_len(const char *line, size_t len)
{
	size_t n = 0;

	while (
	    n < len && strchr("abcdefghijklmnopqrstuvwxyz0123456789-_", line[n]) != NULL && line[n] != '\0')
		n++;
	return n == len || line[n] == '=' || line[n] == ' ' ? n : 0;
}

static bool
is_known(const char *line, size_t n)
{
	for (unsigned i = 0; i < TP_COUNT(coturn); i++)
		if (strlen(coturn[i]) == n && memcmp(coturn[i], line, n) == 0)
			return true;
	return false;
}

/* Every line that is not empty and no comment has that form, and one of the names is coturn's. */
bool
foreign_is_coturn(const char *text, size_t len)
{
	const char *end = text + len, *line, *stop;
	unsigned known = 0;

	for (line = text; line < end; line = stop + 1) {
		size_t n;

		stop = memchr(line, '\n', (size_t)(end - line));
		if (stop == NULL)
			stop = end;
		n = (size_t)(stop - line);
		if (n > 0 && line[n - 1] == '\r')
			n--;
		if (n == 0 || line[0] == '#')
			continue;
		size_t name = name_len(line, n);
		if (name == 0 || memchr(line, ':', name) != NULL)
			return false;
		known += is_known(line, name);
	}
	return known > 0;
}
