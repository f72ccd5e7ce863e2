/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * operator.c: what turnpikectl asks: users and secrets in databases, and denied users.
 */
#include "config.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>

#include "authd_int.h"
#include "tp/child.h"

static bool
is_text(const char *s, size_t size)
{
	return memchr(s, 0, size) != NULL;
}

bool
operator_is_sound(const struct msg_db_ask *m)
{
	return is_text(m->database, sizeof m->database) && is_text(m->from, sizeof m->from) &&
	    is_text(m->realm, sizeof m->realm) && is_text(m->name, sizeof m->name) &&
	    is_text(m->value, sizeof m->value) && m->change < DB_CHANGES;
}

int
operator_change(struct lookup *k, const struct msg_db_ask *m, char *why, size_t size)
{
	struct db_write w = { .id = m->request, .what = (uint8_t)m->change };
	int err;

	if (k == NULL) {
		snprintf(why, size, "auth.databases has no database");
		return -ENOENT;
	}
	text_copy(w.realm, sizeof w.realm, m->realm);
	text_copy(w.name, sizeof w.name, m->name);
	text_copy(w.value, sizeof w.value, m->value);
	err = lookup_write(k, m->database, &w, m->from);
	if (err == -ENOENT)
		snprintf(why, size, "auth.databases has no database of this name");
	else if (err < 0)
		snprintf(why, size, "%s", strerror(-err));
	sodium_memzero(&w, sizeof w);
	return err;
}

/* ---- denied users, in shared memory that outlives this process ------------------------------- */

int
operator_deny(struct stats *s, const char *name, int64_t until)
{
	int place = -1;

	if (name[0] == '\0' || strlen(name) >= sizeof s->denied[0].name)
		return -EINVAL;
	for (unsigned i = STAT_DENIED; i-- > 0;)
		if (s->denied[i].name[0] == '\0' || strcmp(s->denied[i].name, name) == 0)
			place = place < 0 || s->denied[i].name[0] != '\0' ||
				s->denied[place].name[0] == '\0'
			    ? (int)i
			    : place;
	if (place < 0)
		return -ENOSPC;
	s->denied[place].until = until;
	text_copy(s->denied[place].name, sizeof s->denied[place].name, name);
	return 0;
}

int
operator_undeny(struct stats *s, const char *name)
{
	for (unsigned i = 0; i < STAT_DENIED; i++)
		if (s->denied[i].name[0] != '\0' && strcmp(s->denied[i].name, name) == 0) {
			memset(s->denied[i].name, 0, sizeof s->denied[i].name);
			return 0;
		}
	return -ENOENT;
}

/* Those whose time is over make room.  True when there were any. */
bool
operator_sweep(struct stats *s, int64_t unix_now)
{
	bool any = false;

	for (unsigned i = 0; i < STAT_DENIED; i++)
		if (s->denied[i].name[0] != '\0' && s->denied[i].until != 0 &&
		    s->denied[i].until <= unix_now) {
			memset(s->denied[i].name, 0, sizeof s->denied[i].name);
			any = true;
		}
	return any;
}
