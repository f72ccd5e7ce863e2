/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * db_pairs.c: connection strings of the form "key=value key=value", as coturn has them for Redis and MySQL.
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>

#include "db_int.h"

/* Does `key` stand in the list "a|b|c"? */
static bool
is_one_of(const char *list, const char *key, size_t len)
{
	while (*list != '\0') {
		size_t n = strcspn(list, "|");

		if (n == len && strncmp(list, key, n) == 0)
			return true;
		list += n + (list[n] == '|');
	}
	return false;
}

int
pairs_read(const char *text, const struct pair_row *rows, unsigned count, struct db_error *e)
{
	while (*text != '\0') {
		size_t n = strcspn(text, " \t\""), eq = strcspn(text, "=");
		unsigned i;

		if (n == 0) {
			text++;
			continue;
		}
		if (eq >= n || eq == 0)
			return db_fail(e, -EINVAL, "connection: word %.*s: allowed: KEY=VALUE",
			    eq < n ? (int)eq : 8, text);
		for (i = 0; i < count && !is_one_of(rows[i].keys, text, eq); i++)
			;
		if (i == count)
			return db_fail(
			    e, -EINVAL, "connection: unknown key %.*s", (int)(eq < 40 ? eq : 40), text);
		if (n - eq - 1 >= rows[i].size)
			return db_fail(e, -EINVAL, "connection: %.*s: at most %zu bytes", (int)eq, text,
			    rows[i].size - 1);
		memcpy(rows[i].out, text + eq + 1, n - eq - 1);
		rows[i].out[n - eq - 1] = '\0';
		text += n;
	}
	return 0;
}

int
pairs_number(const char *text, const char *key, unsigned most, unsigned *out, struct db_error *e)
{
	unsigned n = 0;

	if (*text == '\0')
		return 0;
	for (const char *p = text; *p != '\0'; p++) {
		if (*p < '0' || *p > '9' || n > most)
			return db_fail(e, -EINVAL,
			    "connection: %s=%.20s: allowed: a decimal number up to %u", key, text, most);
		n = n * 10 + (unsigned)(*p - '0');
	}
	if (n > most)
		return db_fail(e, -EINVAL, "connection: %s=%.20s: allowed: a decimal number up to %u", key,
		    text, most);
	*out = n;
	return 0;
}
