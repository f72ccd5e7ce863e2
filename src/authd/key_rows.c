/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * key_rows.c: what databases have said about users, set-associative; the row that was not used for
 * longest goes.
 *
 * A row outlives its time: while its database is down it is better than nothing.
 */
#include "config.h"

#include <sodium.h>
#include <sys/mman.h>

#include "lookup_int.h"

struct key_rows *
key_rows_new(void)
{
	/* Zero pages until they are used; not in a core dump. */
	struct key_rows *t = mmap(
	    NULL, sizeof *t, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (t == MAP_FAILED)
		return NULL;
	(void)madvise(t, sizeof *t, MADV_DONTDUMP);
	randombytes_buf(t->key, sizeof t->key);
	return t;
}

uint64_t
key_rows_id(const struct key_rows *t, const char *realm, const void *name, size_t len)
{
	uint8_t text[DB_REALM_MAX + DB_NAME_MAX];
	size_t realm_len = strnlen(realm, DB_REALM_MAX - 1);
	uint64_t id;

	assert(len < DB_NAME_MAX);
	memcpy(text, realm, realm_len);
	text[realm_len] = 0;
	memcpy(text + realm_len + 1, name, len);
	crypto_shorthash((uint8_t *)&id, text, realm_len + 1 + len, t->key);
	return id != 0 ? id : 1; /* 0 is a free row */
}

static struct key_row *
set_of(struct key_rows *t, unsigned database, uint64_t id)
{
	return t->row[(id ^ database * UINT64_C(0x9e3779b97f4a7c15)) % KEY_ROW_SETS];
}

struct key_row *
key_rows_find(struct key_rows *t, unsigned database, uint64_t id)
{
	struct key_row *set = set_of(t, database, id);

	if (id == 0)
		return NULL;
	for (unsigned i = 0; i < KEY_ROW_WAYS; i++) {
		struct key_row *r = &set[i];

		if (r->id != id || r->database != database)
			continue;
		if (r->epoch !=
		    t->epoch[database]) { /* something has changed since: to be asked for again */
			r->epoch = t->epoch[database];
			r->until = r->asked = 0;
		}
		r->used = ++t->clock;
		return r;
	}
	return NULL;
}

struct key_row *
key_rows_put(struct key_rows *t, unsigned database, uint64_t id)
{
	struct key_row *set = set_of(t, database, id), *r = &set[0];

	for (unsigned i = 0; i < KEY_ROW_WAYS; i++) {
		if (set[i].id == id && set[i].database == database) {
			r = &set[i];
			break;
		}
		/* A name that does not exist goes before one that does. */
		if (r->id != 0 &&
		    (set[i].id == 0 || (set[i].absent && !r->absent) ||
			(set[i].absent == r->absent && t->clock - set[i].used > t->clock - r->used)))
			r = &set[i];
	}
	if (r->id != id || r->database != (uint8_t)database)
		key_rows_name(t, r)->len = 0;
	sodium_memzero(r, sizeof *r);
	r->id = id;
	r->database = (uint8_t)database;
	r->epoch = t->epoch[database];
	r->used = ++t->clock;
	return r;
}

struct key_name *
key_rows_name(struct key_rows *t, const struct key_row *r)
{
	return &t->name[0][0] + (r - &t->row[0][0]);
}

void
key_rows_forget(struct key_rows *t, unsigned database, uint64_t id)
{
	struct key_row *r = id != 0 ? key_rows_find(t, database, id) : NULL;

	if (id == 0)
		t->epoch[database]++;
	else if (r != NULL && key_rows_name(t, r)->len > 0)
		r->until = r->asked = 0; /* forget_sweep() asks whether it is gone */
	else if (r != NULL)
		sodium_memzero(r, sizeof *r);
}
