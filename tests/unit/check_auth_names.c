/* SPDX-License-Identifier: BSD-3-Clause */
/* check_auth_names.c: REST names and the key cache. */
#include "config.h"

#include <stdlib.h>

#include "check_auth.h"
#include "tp/auth.h"

/* ---- REST names --------------------------------------------------------------------------------- */

static const struct {
	const char *name;
	int64_t expiry;
	const char *stable;
} names[] = {
	{ "1736:alice", 1736, "alice" },
	{ "alice:1736", 1736, "alice" },
	{ "1736", 1736, "" },
	{ "0", 0, "" },
	{ "1736:@alice:hs.org", 1736, "@alice:hs.org" },
	{ "@alice:hs.org:1736", 1736, "@alice:hs.org" },
	{ "1736:1737", -1, NULL },
	{ "99999999999:eve:1736", -1, NULL },
	{ "eve:1736:eve", -1, NULL },
	{ "99999999999:a", 99999999999, "a" },
	{ "1736::", 1736, ":" },
	{ "", -1, NULL },
	{ ":bob", -1, NULL },
	{ ":1736", -1, NULL },
	{ "1736:", -1, NULL },
	{ "-1:bob", -1, NULL },
	{ "+1:bob", -1, NULL },
	{ "999999999999:bob", -1, NULL },
	{ "99999999999999999999:bob", -1, NULL },
	{ "0x7fffffff:bob", -1, NULL },
	{ " 1999:bob", -1, NULL },
	{ "1999 :bob", -1, NULL },
	{ "bob", -1, NULL },
	{ "bob:", -1, NULL },
	{ "1.5:bob", -1, NULL },
	{ ":", -1, NULL },
};

START_TEST(rest_names)
{
	const char *stable = NULL;
	size_t len = 0;
	int64_t t = -1;
	bool is = rest_name(names[_i].name, strlen(names[_i].name), REST_ANY, &t, &stable, &len);

	ck_assert_msg(is == (names[_i].stable != NULL), "%s", names[_i].name);
	ck_assert_int_eq(t, names[_i].expiry);
	if (is) {
		ck_assert_uint_eq(len, strlen(names[_i].stable));
		ck_assert_mem_eq(stable, names[_i].stable, len);
	}
}
END_TEST

Suite *
suite_rest(void)
{
	Suite *s = suite_create("rest");
	TCase *c = tcase_create("rest");

	tcase_add_loop_test(c, rest_names, 0, (int)TP_COUNT(names));
	suite_add_tcase(s, c);
	return s;
}

/* ---- key cache ------------------------------------------------------------------------------------ */

static struct auth_grant
grant(void)
{
	struct auth_grant g = { .verdict = GRANT_OK,
		.alg = STUN_ALG_MD5,
		.key_len = 16,
		.conf_generation = 7,
		.stable_len = 3,
		.name_len = 8 };

	memcpy(g.stable, "ann", 3);
	memcpy(g.name, "1736:ann", 8);
	memset(g.key, 0x5a, 16);
	return g;
}

START_TEST(found_while_fresh)
{
	struct key_cache *kc = calloc(1, sizeof *kc);
	struct auth_grant g = grant();
	const struct key_entry *e;

	ck_assert_ptr_null(key_cache_find(kc, 0, 1000, 0));
	ck_assert_ptr_null(key_cache_find(kc, 42, 1000, 7));
	key_cache_put(kc, 42, &g, 1, 2, 1000);
	e = key_cache_find(kc, 42, 1000, 7);
	ck_assert_ptr_nonnull(e);
	ck_assert_uint_eq(e->user, 1);
	ck_assert_uint_eq(e->name, 2);
	ck_assert_mem_eq(e->key, g.key, 16);
	ck_assert_mem_eq(e->user_text, "ann\0", 4);
	ck_assert_ptr_nonnull(key_cache_find(kc, 42, 1000 + KEY_CACHE_MS - 1, 7));
	ck_assert_ptr_null(key_cache_find(kc, 42, 1000 + KEY_CACHE_MS, 7));
	ck_assert_ptr_null(key_cache_find(kc, 42, 1000, 8)); /* the configuration changed */
	key_cache_clear(kc);
	ck_assert_ptr_null(key_cache_find(kc, 42, 1000, 7));
	free(kc);
}
END_TEST

START_TEST(least_recently_used_goes)
{
	struct key_cache *kc = calloc(1, sizeof *kc);
	struct auth_grant g = grant();

	kc->clock = UINT32_MAX - 2; /* also across the wrap */
	for (uint64_t i = 1; i <= KEY_CACHE_WAYS; i++)
		key_cache_put(kc, i * KEY_CACHE_SETS, &g, i, i, 1000);
	ck_assert_ptr_nonnull(key_cache_find(kc, 1 * KEY_CACHE_SETS, 1000, 7));
	key_cache_put(kc, 9 * KEY_CACHE_SETS, &g, 9, 9, 1000);
	ck_assert_ptr_nonnull(key_cache_find(kc, 1 * KEY_CACHE_SETS, 1000, 7));
	ck_assert_ptr_null(key_cache_find(kc, 2 * KEY_CACHE_SETS, 1000, 7));
	ck_assert_ptr_nonnull(key_cache_find(kc, 9 * KEY_CACHE_SETS, 1000, 7));
	free(kc);
}
END_TEST

Suite *
suite_cache(void)
{
	Suite *s = suite_create("cache");
	TCase *c = tcase_create("cache");

	tcase_add_test(c, found_while_fresh);
	tcase_add_test(c, least_recently_used_goes);
	suite_add_tcase(s, c);
	return s;
}
