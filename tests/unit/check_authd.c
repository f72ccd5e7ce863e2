/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_authd.c: credentials of every kind, judged; the work that it takes; making REST credentials.
 */
#include "config.h"

#include <check.h>
#include <errno.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <sodium.h>
#include <stdlib.h>

#include "tp/authd.h"

#define REALM "example.org"
#define NOW   1700000000
#define LATER "1800000000"

static struct authd_db *db;

static void
put_user(struct users_user *u, const char *name, enum users_kind kind, const void *pass, size_t len)
{
	memset(u, 0, sizeof *u);
	u->kind = (uint8_t)kind;
	u->name_len = (uint16_t)strlen(name);
	memcpy(u->name, name, u->name_len);
	u->pass_len = (uint16_t)len;
	memcpy(u->pass, pass, len);
}

static void
put_secret(struct users_secret *s, const char *value, int64_t until)
{
	memset(s, 0, sizeof *s);
	s->until = until;
	s->len = (uint16_t)strlen(value);
	memcpy(s->value, value, s->len);
}

/* Secrets: old (over), fading (until in the future), new.  Users sorted: alice, bob (MD5 key), carol
 * (SHA-256 key). */
static struct users *
make_users(unsigned secrets, unsigned users, size_t *size)
{
	static const char *const value[] = { "old-secret-that-is-over", "fading-secret-still-good",
		"new-secret" };
	static const int64_t until[] = { NOW - 1, NOW + 100, 0 };
	struct users *u;
	struct users_secret *s;
	struct users_user *x;
	uint8_t key[32];

	*size = sizeof *u + secrets * sizeof *s + users * sizeof *x;
	u = calloc(1, *size);
	u->magic = USERS_MAGIC;
	u->layout = USERS_LAYOUT;
	u->secret_count = secrets;
	u->user_count = users;
	strcpy(u->realm, REALM);
	s = (void *)(u + 1);
	for (unsigned i = 0; i < secrets; i++)
		put_secret(&s[i], value[i], until[i]);
	x = (void *)(s + secrets);
	if (users > 0)
		put_user(&x[0], "alice", USERS_PASSWORD, "wonderland", 10);
	if (users > 1) {
		stun_key(STUN_ALG_MD5, "bob", 3, REALM, strlen(REALM), "builder", 7, key);
		put_user(&x[1], "bob", USERS_KEY_MD5, key, 16);
	}
	if (users > 2) {
		stun_key(STUN_ALG_SHA256, "carol", 5, REALM, strlen(REALM), "singer", 6, key);
		put_user(&x[2], "carol", USERS_KEY_SHA256, key, 32);
	}
	return u;
}

static void
load(unsigned secrets, unsigned users)
{
	size_t size;
	struct users *u = make_users(secrets, users, &size);

	authd_db_free(db);
	db = NULL;
	ck_assert_int_eq(authd_db_new(&db, u, size, 7), 0);
	free(u);
}

static void
setup(void)
{
	ck_assert_int_ge(sodium_init(), 0);
	load(3, 3);
}

static void
teardown(void)
{
	authd_db_free(db);
	db = NULL;
}

struct ask {
	const char *name, *password, *realm;
	size_t name_len;   /* 0: strlen */
	enum stun_alg alg; /* STUN_ALG_NONE: no PASSWORD-ALGORITHM, MD5 */
	bool userhash, mi, mi256, spoil_mi, spoil_mi256;
};

static size_t
build(const struct ask *q, uint8_t buf[MSG_STUN_MAX])
{
	static const uint8_t txid[STUN_TXID] = "transaction";
	const char *realm = q->realm != NULL ? q->realm : REALM;
	size_t name_len = q->name_len != 0 ? q->name_len : strlen(q->name), key_len;
	uint8_t key[STUN_KEY_MAX], hash[32], bad[STUN_KEY_MAX] = { 1 };
	struct stun_out o;

	key_len = stun_key(q->alg == STUN_ALG_SHA256 ? STUN_ALG_SHA256 : STUN_ALG_MD5, q->name, name_len,
	    realm, strlen(realm), q->password, strlen(q->password), key);
	stun_begin(&o, buf, MSG_STUN_MAX, STUN_REQUEST, STUN_ALLOCATE, txid);
	if (q->userhash) {
		stun_userhash(q->name, name_len, realm, strlen(realm), hash);
		stun_put_bytes(&o, STUN_A_USERHASH, hash, 32);
	} else {
		stun_put_bytes(&o, STUN_A_USERNAME, q->name, name_len);
	}
	stun_put_bytes(&o, STUN_A_REALM, realm, strlen(realm));
	stun_put_bytes(&o, STUN_A_NONCE, "nonce", 5);
	if (q->alg != STUN_ALG_NONE)
		stun_put_u32(&o, STUN_A_PASSWORD_ALGORITHM, (uint32_t)q->alg << 16);
	if (q->mi || !q->mi256)
		stun_put_mi(&o, q->spoil_mi ? bad : key, key_len);
	if (q->mi256)
		stun_put_mi256(&o, q->spoil_mi256 ? bad : key, key_len);
	return stun_end(&o);
}

static struct authd_work work;
static struct auth_grant grant;

static bool
judged(const struct ask *q)
{
	uint8_t buf[MSG_STUN_MAX];
	size_t n = build(q, buf);

	ck_assert_uint_gt(n, 0);
	memset(&work, 0, sizeof work);
	authd_judge(db, NULL, buf, n, NOW, &grant, &work);
	ck_assert_uint_eq(grant.conf_generation, 7);
	return grant.verdict == GRANT_OK;
}
#define JUDGED(...) judged(&(struct ask){ __VA_ARGS__ })

static void
assert_stable(const char *stable)
{
	ck_assert_uint_eq(grant.stable_len, strlen(stable));
	ck_assert_mem_eq(grant.stable, stable, strlen(stable));
}

/* An independent way to the password of a REST name. */
static const char *
rest(const char *secret, const char *name, bool sha256)
{
	static char out[64];
	uint8_t mac[EVP_MAX_MD_SIZE];
	size_t len = 0;

	EVP_Q_mac(NULL, "HMAC", NULL, sha256 ? "SHA256" : "SHA1", NULL, secret, strlen(secret),
	    (const void *)name, strlen(name), mac, sizeof mac, &len);
	EVP_EncodeBlock((void *)out, mac, (int)len);
	return out;
}

START_TEST(static_password)
{
	uint8_t key[STUN_KEY_MAX];

	ck_assert(JUDGED(.name = "alice", .password = "wonderland"));
	assert_stable("alice");
	ck_assert_int_eq(grant.alg, STUN_ALG_MD5);
	ck_assert_int_eq(grant.key_len, 16);
	stun_key(STUN_ALG_MD5, "alice", 5, REALM, strlen(REALM), "wonderland", 10, key);
	ck_assert_mem_eq(grant.key, key, 16);
	ck_assert_int_eq(grant.credential_expiry, 0);
	ck_assert_int_eq(grant.name_len, 5);
	ck_assert_mem_eq(grant.name, "alice", 5);
	ck_assert(JUDGED(.name = "alice", .password = "wonderland", .alg = STUN_ALG_MD5));
	ck_assert(JUDGED(.name = "alice", .password = "wonderland", .alg = STUN_ALG_SHA256));
	ck_assert_int_eq(grant.key_len, 32);
	ck_assert_int_eq(grant.alg, STUN_ALG_SHA256);
	ck_assert(JUDGED(.name = "alice", .password = "wonderland", .alg = STUN_ALG_SHA256, .mi256 = true));
}
END_TEST

START_TEST(static_refused)
{
	static const uint8_t none[STUN_KEY_MAX];

	ck_assert(!JUDGED(.name = "alice", .password = "wonderlane"));
	ck_assert_mem_eq(grant.key, none, sizeof none);
	ck_assert_int_eq(grant.name_len, 0);
	ck_assert_int_eq(grant.stable_len, 0);
	ck_assert(!JUDGED(.name = "alic", .password = "wonderland"));
	ck_assert(!JUDGED(.name = "alicee", .password = "wonderland"));
	ck_assert(!JUDGED(.name = "Alice", .password = "wonderland"));
	ck_assert(!JUDGED(.name = "zoe", .password = "wonderland"));
	ck_assert(!JUDGED(.name = "alice", .password = "wonderland", .realm = "example.com"));
	ck_assert(!JUDGED(.name = "alice", .password = ""));
	ck_assert(!JUDGED(.name = "alice", .password = "wonderland", .alg = (enum stun_alg)3));
}
END_TEST

/* RFC 8489 9.2.4: with both, MESSAGE-INTEGRITY-SHA256 decides. */
START_TEST(both_integrities)
{
	ck_assert(JUDGED(.name = "alice", .password = "wonderland", .mi = true, .mi256 = true));
	ck_assert(
	    JUDGED(.name = "alice", .password = "wonderland", .mi = true, .mi256 = true, .spoil_mi = true));
	ck_assert(!JUDGED(.name = "alice", .password = "wonderland", .mi = true, .mi256 = true,
	    .spoil_mi256 = true));
}
END_TEST

START_TEST(key_files)
{
	ck_assert(JUDGED(.name = "bob", .password = "builder"));
	ck_assert(!JUDGED(.name = "bob", .password = "builder", .alg = STUN_ALG_SHA256));
	ck_assert(!JUDGED(.name = "bob", .password = "wrong"));
	ck_assert(!JUDGED(.name = "carol", .password = "singer"));
	ck_assert(JUDGED(.name = "carol", .password = "singer", .alg = STUN_ALG_SHA256));
	assert_stable("carol");
}
END_TEST

START_TEST(userhash)
{
	ck_assert(JUDGED(.name = "alice", .password = "wonderland", .userhash = true));
	assert_stable("alice");
	ck_assert_int_eq(grant.name_len, 5);
	ck_assert_mem_eq(grant.name, "alice", 5);
	ck_assert(JUDGED(.name = "bob", .password = "builder", .userhash = true));
	ck_assert(JUDGED(.name = "carol", .password = "singer", .userhash = true, .alg = STUN_ALG_SHA256,
	    .mi256 = true));
	ck_assert(!JUDGED(.name = "alice", .password = "builder", .userhash = true));
	ck_assert(!JUDGED(.name = "dave", .password = "wonderland", .userhash = true));
}
END_TEST

static const char *const rest_names[][2] = {
	/* name, stable part */
	{ LATER ":alice", "alice" }, /* also a static user's name: another identity form, same person */
	{ "alice:" LATER, "alice" }, /* coturn's order */
	{ LATER, "" }, { LATER ":@alice:hs.org", "@alice:hs.org" },
	{ "1:late", "late" }, /* lateness is the core's to judge */
};

START_TEST(rest_forms)
{
	const char *name = rest_names[_i][0];

	for (int sha256 = 0; sha256 < 2; sha256++) {
		ck_assert(JUDGED(.name = name, .password = rest("new-secret", name, sha256)));
		assert_stable(rest_names[_i][1]);
		ck_assert_int_eq(
		    grant.credential_expiry, name[0] == '1' && name[1] == ':' ? 1 : 1800000000);
		ck_assert_int_eq(grant.name_len, strlen(name));
		ck_assert(JUDGED(.name = name, .password = rest("fading-secret-still-good", name, sha256)));
		ck_assert(JUDGED(.name = name, .password = rest("new-secret", name, sha256),
		    .alg = STUN_ALG_SHA256, .mi256 = true));
		ck_assert(!JUDGED(.name = name, .password = rest("old-secret-that-is-over", name, sha256)));
		ck_assert(!JUDGED(.name = name, .password = rest("another-secret", name, sha256)));
		ck_assert(!JUDGED(.name = name, .password = rest("new-secret", "1800000001", sha256)));
	}
}
END_TEST

START_TEST(rest_not)
{
	ck_assert(!JUDGED(.name = "dave", .password = rest("new-secret", "dave", false)));
	ck_assert(!JUDGED(.name = "alice", .password = rest("new-secret", "alice", false)));
	ck_assert(!JUDGED(.name = "-5:x", .password = rest("new-secret", "-5:x", false)));
	/* A USERHASH of a REST name says nothing about the name. */
	ck_assert(!JUDGED(.name = LATER ":x", .password = rest("new-secret", LATER ":x", false),
	    .userhash = true));
	load(0, 3);
	ck_assert(!JUDGED(.name = LATER ":x", .password = rest("new-secret", LATER ":x", false)));
	ck_assert(!JUDGED(.name = LATER ":x", .password = rest("", LATER ":x", false)));
}
END_TEST

/* Quota identities: long names keep their beginning and stay different from one another. */
START_TEST(long_stable)
{
	char a[764], b[764], stable[128];

	memset(a, 'n', sizeof a);
	memcpy(a, LATER ":", 11);
	a[763] = '\0';
	strcpy(b, a);
	b[762] = 'm';
	ck_assert(JUDGED(.name = a, .password = rest("new-secret", a, false)));
	ck_assert_uint_eq(grant.stable_len, 128);
	ck_assert_uint_eq(grant.name_len, 763);
	memcpy(stable, grant.stable, 128);
	ck_assert(JUDGED(.name = b, .password = rest("new-secret", b, false)));
	ck_assert_uint_eq(grant.stable_len, 128);
	ck_assert_mem_eq(grant.stable, stable, 96);
	ck_assert_mem_ne(grant.stable, stable, 128);
	a[138] = '\0';
	ck_assert(JUDGED(.name = a, .password = rest("new-secret", a, false)));
	assert_stable(a + 11);
}
END_TEST

/* The work must not depend on the user, nor on the password. */
START_TEST(same_work)
{
	const struct ask asks[] = {
		{ .name = "alice", .password = "wonderland" },
		{ .name = "alice", .password = "wrong" },
		{ .name = "nobody", .password = "wrong" },
		{ .name = "bob", .password = "builder" },
		{ .name = "bob", .password = "wrong", .alg = STUN_ALG_SHA256 },
		{ .name = LATER ":x", .password = "wrong" },
		{ .name = "alice", .password = "wrong", .userhash = true },
		{ .name = "nobody",
		    .password = "wrong",
		    .userhash = true,
		    .alg = STUN_ALG_SHA256,
		    .mi256 = true },
		{ .name = LATER ":x", .password = strdup(rest("new-secret", LATER ":x", false)) },
		{ .name = LATER ":x",
		    .password = strdup(rest("fading-secret-still-good", LATER ":x", true)) },
	};

	for (unsigned i = 0; i < TP_COUNT(asks); i++) {
		judged(&asks[i]);
		ck_assert_uint_eq(work.checks, 7);
		ck_assert_uint_eq(work.keys, 7);
		ck_assert_uint_eq(work.rest_hmacs, 6);
	}
	load(0, 0);
	ck_assert(!judged(&asks[0]));
	ck_assert_uint_eq(work.checks, 1);
	free((void *)asks[8].password);
	free((void *)asks[9].password);
}
END_TEST

START_TEST(malformed)
{
	uint8_t buf[MSG_STUN_MAX], bytes[64];
	size_t n = build(&(struct ask){ .name = "alice", .password = "wonderland" }, buf);
	struct stun_out o;

	for (size_t i = 0; i < n; i++) {
		authd_judge(db, NULL, buf, i, NOW, &grant, NULL);
		ck_assert_int_ne(grant.verdict, GRANT_OK);
	}
	/* One flipped bit anywhere that the integrity covers is a refusal. */
	for (size_t bit = 0; bit < (n - 24) * 8; bit++) {
		buf[bit / 8] ^= (uint8_t)(1 << bit % 8);
		authd_judge(db, NULL, buf, n, NOW, &grant, NULL);
		ck_assert_int_ne(grant.verdict, GRANT_OK);
		buf[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	authd_judge(db, NULL, buf, n, NOW, &grant, NULL);
	ck_assert_int_eq(grant.verdict, GRANT_OK);
	stun_begin(&o, buf, sizeof buf, STUN_REQUEST, STUN_ALLOCATE, bytes);
	stun_put_bytes(&o, STUN_A_USERNAME, "alice", 5);
	stun_put_bytes(&o, STUN_A_REALM, REALM, strlen(REALM));
	n = stun_end(&o);
	authd_judge(db, NULL, buf, n, NOW, &grant, NULL); /* no integrity at all */
	ck_assert_int_eq(grant.verdict, GRANT_REFUSED);
}
END_TEST

START_TEST(database_refused)
{
	size_t size;
	struct users *u = make_users(3, 3, &size);
	struct users_user *x = (void *)((char *)(u + 1) + 3 * sizeof(struct users_secret)), swap;
	struct authd_db *none = NULL;

	ck_assert_int_eq(authd_db_new(&none, u, size - 1, 1), -EINVAL);
	ck_assert_int_eq(authd_db_new(&none, u, 4, 1), -EINVAL);
	swap = x[0];
	x[0] = x[1];
	x[1] = swap;
	ck_assert_int_eq(authd_db_new(&none, u, size, 1), -EINVAL);
	ck_assert_ptr_null(none);
	free(u);
}
END_TEST

START_TEST(credentials)
{
	struct msg_cred_answer a = { 0 };

	for (int sha256 = 0; sha256 < 2; sha256++) {
		ck_assert_int_eq(authd_credential(db, "dave", 3600, sha256, NOW, &a), 0);
		ck_assert_str_eq(a.name, "1700003600:dave");
		ck_assert_str_eq(a.password, rest("fading-secret-still-good", a.name, sha256));
		ck_assert_str_eq(a.realm, REALM);
		ck_assert_int_eq(a.expiry, NOW + 3600);
		ck_assert(JUDGED(.name = a.name, .password = a.password));
	}
	ck_assert_int_eq(authd_credential(db, "dave", 3600, false, NOW + 100, &a), 0);
	ck_assert_str_eq(a.password, rest("new-secret", a.name, false));
	ck_assert_int_eq(authd_credential(db, "", 1, false, NOW, &a), 0);
	ck_assert_str_eq(a.name, "1700000001");
	ck_assert_int_eq(authd_credential(db, "dave", 0, false, NOW, &a), -EINVAL);
	ck_assert_int_eq(authd_credential(db, "dave", REST_LIFETIME_MAX + 1, false, NOW, &a), -EINVAL);
	ck_assert_int_eq(authd_credential(db, "a\nb", 1, false, NOW, &a), -EINVAL);
	load(0, 3);
	ck_assert_int_eq(authd_credential(db, "dave", 1, false, NOW, &a), -ENOENT);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("keep");
	TCase *t = tcase_create("judge");
	SRunner *r;
	int failed;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, static_password);
	tcase_add_test(t, static_refused);
	tcase_add_test(t, both_integrities);
	tcase_add_test(t, key_files);
	tcase_add_test(t, userhash);
	tcase_add_loop_test(t, rest_forms, 0, TP_COUNT(rest_names));
	tcase_add_test(t, rest_not);
	tcase_add_test(t, long_stable);
	tcase_add_test(t, same_work);
	tcase_add_test(t, malformed);
	tcase_add_test(t, database_refused);
	tcase_add_test(t, credentials);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
