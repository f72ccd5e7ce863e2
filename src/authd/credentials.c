/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * credentials.c: the users and secrets, in guarded memory, and finding a user in them.
 */
#include "config.h"

#include <errno.h>
#include <sodium.h>
#include <stdlib.h>

#include "authd_int.h"

/* sodium_malloc() puts the end of a block at a page's end, so its beginning is aligned only when its
 * size is. */
#define GUARD_ALIGN 16

static void *
guarded(size_t size)
{
	return sodium_malloc((size + GUARD_ALIGN - 1) & ~(size_t)(GUARD_ALIGN - 1));
}

static int
name_compare(const void *a, size_t a_len, const void *b, size_t b_len)
{
	int c = memcmp(a, b, a_len < b_len ? a_len : b_len);

	return c != 0 ? c : (a_len > b_len) - (a_len < b_len);
}

static bool
names_are_sorted(const struct users *u)
{
	const struct users_user *x = users_users(u);

	for (uint32_t i = 1; i < u->user_count; i++)
		if (name_compare(x[i - 1].name, x[i - 1].name_len, x[i].name, x[i].name_len) >= 0)
			return false;
	return true;
}

static int
by_hash(const void *a, const void *b)
{
	return memcmp(((const struct authd_hash *)a)->hash, ((const struct authd_hash *)b)->hash, 32);
}

static const struct authd_hash *
hashes_new(const struct authd_db *db)
{
	const struct users_user *user = users_users(db->users);
	size_t n = db->users->user_count;
	struct authd_hash *h = guarded((n + 1) * sizeof *h);

	if (h == NULL)
		return NULL;
	for (uint32_t i = 0; i < n; i++) {
		stun_userhash(user[i].name, user[i].name_len, db->users->realm, db->realm_len, h[i].hash);
		h[i].user = i;
		h[i].zero = 0;
	}
	qsort(h, n, sizeof *h, by_hash);
	sodium_mprotect_readonly(h);
	return h;
}

/* A stand-in user: no request carries this password. */
static const struct users_user *
stand_in_new(void)
{
	struct users_user *x = guarded(sizeof *x);

	if (x == NULL)
		return NULL;
	memset(x, 0, sizeof *x);
	x->kind = USERS_PASSWORD;
	x->pass_len = 24;
	randombytes_buf(x->pass, x->pass_len);
	sodium_mprotect_readonly(x);
	return x;
}

int
authd_db_new(struct authd_db **out, const struct users *u, size_t size, uint64_t generation)
{
	struct authd_db *db;
	struct users *copy;

	if (size < sizeof *u)
		return -EINVAL;
	copy = guarded(size);
	db = calloc(1, sizeof *db);
	if (copy == NULL || db == NULL) {
		sodium_free(copy);
		free(db);
		return -ENOMEM;
	}
	/* Copied first, checked then: what is used is what was checked. */
	memcpy(copy, u, size);
	if (users_validate(copy, size) < 0 || !names_are_sorted(copy)) {
		sodium_free(copy);
		free(db);
		return -EINVAL;
	}
	sodium_mprotect_readonly(copy);
	db->users = copy;
	db->generation = generation;
	db->realm_len = strnlen(copy->realm, sizeof copy->realm);
	db->hashes = hashes_new(db);
	db->stand_in = stand_in_new();
	if (db->hashes == NULL || db->stand_in == NULL) {
		authd_db_free(db);
		return -ENOMEM;
	}
	*out = db;
	return 0;
}

void
authd_db_free(struct authd_db *db)
{
	if (db == NULL)
		return;
	sodium_free((void *)db->users); /* wipes */
	sodium_free((void *)db->hashes);
	sodium_free((void *)db->stand_in);
	free(db);
}

void
authd_db_generation(struct authd_db *db, uint64_t generation)
{
	db->generation = generation;
}

unsigned
authd_db_users(const struct authd_db *db)
{
	return db->users->user_count;
}

unsigned
authd_db_secrets(const struct authd_db *db)
{
	return db->users->secret_count;
}

const struct users_user *
db_find_name(const struct authd_db *db, const void *name, size_t len)
{
	const struct users_user *x = users_users(db->users);
	uint32_t lo = 0, hi = db->users->user_count;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;
		int c = name_compare(name, len, x[mid].name, x[mid].name_len);

		if (c == 0)
			return &x[mid];
		if (c < 0)
			hi = mid;
		else
			lo = mid + 1;
	}
	return NULL;
}

const struct users_user *
db_find_hash(const struct authd_db *db, const uint8_t hash[32])
{
	uint32_t lo = 0, hi = db->users->user_count;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;
		int c = memcmp(hash, db->hashes[mid].hash, 32);

		if (c == 0)
			return &users_users(db->users)[db->hashes[mid].user];
		if (c < 0)
			hi = mid;
		else
			lo = mid + 1;
	}
	return NULL;
}
