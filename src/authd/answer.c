/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * answer.c: whose request is this?  Every candidate key is tried, whether one fitted before or not.
 */
#include "config.h"

#include <sodium.h>

#include "authd_int.h"

#define YEARS_MAX (INT64_C(10) * 365 * 86400) /* that a timestamp may be away from now */

enum origin { ORIGIN_NONE, ORIGIN_STATIC, ORIGIN_REST, ORIGIN_DATABASE /* + index */ };

/* What a request says about its sender. */
struct claim {
	struct stun_msg m;
	enum stun_alg alg;
	const uint8_t *name; /* USERNAME, or of the user whose USERHASH came; never NULL */
	size_t name_len;
	const struct users_user *user; /* static user; NULL */
	bool rest;
	int64_t expiry;
	const char *stable;
	size_t stable_len;
};

struct trial {
	const struct authd_db *db;
	const struct authd_more *more; /* NULL: no databases */
	const struct claim *c;
	struct authd_work *work;
	uint8_t key[STUN_KEY_MAX];
	uint8_t origin; /* enum origin */
};

static bool
realm_is_ours(const struct authd_db *db, const struct stun_msg *m)
{
	const struct stun_attr *a = stun_find(m, STUN_A_REALM);

	return a != NULL && a->len == db->realm_len && memcmp(a->value, db->users->realm, a->len) == 0;
}

static bool
read_algorithm(const struct stun_msg *m, enum stun_alg *alg)
{
	const struct stun_attr *a = stun_find(m, STUN_A_PASSWORD_ALGORITHM);
	uint16_t number = STUN_ALG_MD5;

	if (a != NULL && !stun_get_alg(a, &number))
		return false;
	*alg = (enum stun_alg)number;
	return number == STUN_ALG_MD5 || number == STUN_ALG_SHA256;
}

/* A name that is only known by its hash is a static user's: it cannot be turned into a password of a
 * secret. */
static bool
read_name(const struct authd_db *db, struct claim *c)
{
	const struct stun_attr *name = stun_find(&c->m, STUN_A_USERNAME),
			       *hash = stun_find(&c->m, STUN_A_USERHASH);

	if (name != NULL) {
		if (name->len == 0 || name->len > STUN_USERNAME_MAX)
			return false;
		c->name = name->value;
		c->name_len = name->len;
		c->user = db_find_name(db, name->value, name->len);
		c->rest = rest_name((const char *)name->value, name->len,
		    (enum rest_form)db->users->rest_names, &c->expiry, &c->stable, &c->stable_len);
		return true;
	}
	if (hash == NULL || hash->len != 32)
		return false;
	c->user = db_find_hash(db, hash->value);
	c->name = c->user != NULL ? (const uint8_t *)c->user->name : hash->value;
	c->name_len = c->user != NULL ? c->user->name_len : hash->len;
	return true;
}

/* False: not a request that anybody could have signed for us.  Nothing secret decides that. */
static bool
read_claim(const struct authd_db *db, const void *message, size_t len, struct claim *c)
{
	memset(c, 0, sizeof *c);
	return stun_parse(&c->m, message, len) == STUN_OK && c->m.cls == STUN_REQUEST &&
	    (c->m.mi_off != 0 || c->m.mi256_off != 0) && realm_is_ours(db, &c->m) &&
	    read_algorithm(&c->m, &c->alg) && read_name(db, c);
}

/* Takes the key over when `may` and it fits and none did before; the same stores in either case. */
static void
try_key(struct trial *t, const uint8_t key[STUN_KEY_MAX], size_t key_len, bool may, enum origin origin)
{
	const struct stun_msg *m = &t->c->m;
	bool fits = m->mi256_off != 0 ? stun_check_mi256(m, key, key_len) : stun_check_mi(m, key, key_len);
	unsigned take = (unsigned)fits & (unsigned)may & (unsigned)(t->origin == ORIGIN_NONE);
	uint8_t mask = (uint8_t)(0u - take);

	t->work->checks++;
	for (unsigned i = 0; i < STUN_KEY_MAX; i++)
		t->key[i] = (uint8_t)((t->key[i] & (uint8_t)~mask) | (key[i] & mask));
	t->origin = (uint8_t)((t->origin & (uint8_t)~mask) | ((uint8_t)origin & mask));
}

static size_t
make_key(struct trial *t, const void *password, size_t len, uint8_t key[STUN_KEY_MAX])
{
	const struct claim *c = t->c;

	memset(key, 0, STUN_KEY_MAX);
	t->work->keys++;
	return stun_key(
	    c->alg, c->name, c->name_len, t->db->users->realm, t->db->realm_len, password, len, key);
}

/* A key_file user has no password: the stand-in's is hashed instead, and the ready key is used if it is
 * of this kind. */
static void
try_static(struct trial *t)
{
	const struct users_user *u = t->c->user != NULL ? t->c->user : t->db->stand_in;
	enum users_kind ready = t->c->alg == STUN_ALG_MD5 ? USERS_KEY_MD5 : USERS_KEY_SHA256;
	const struct users_user *p = u->kind == USERS_PASSWORD ? u : t->db->stand_in;
	uint8_t key[STUN_KEY_MAX];
	size_t len = make_key(t, p->pass, p->pass_len, key);

	if (u->kind == ready)
		memcpy(key, u->pass, len);
	try_key(t, key, len, t->c->user != NULL && (u->kind == USERS_PASSWORD || u->kind == ready),
	    ORIGIN_STATIC);
	sodium_memzero(key, sizeof key);
}

static void
try_secret(struct trial *t, const void *value, size_t value_len, bool valid, bool sha256)
{
	char password[REST_PASSWORD_MAX];
	uint8_t key[STUN_KEY_MAX];
	size_t len = rest_password(sha256, value, value_len, t->c->name, t->c->name_len, password);

	t->work->rest_hmacs++;
	valid = valid && t->c->rest && len > 0;
	len = make_key(t, password, len, key);
	try_key(t, key, len, valid, ORIGIN_REST);
	sodium_memzero(key, sizeof key);
	sodium_memzero(password, sizeof password);
}

/*
 * Quotas go by the stable name.  One that is too long for its field is shortened to a beginning and a
 * hash, so that two users with the same beginning stay two.
 */
static void
put_stable(struct auth_grant *g, const void *stable, size_t len)
{
	uint8_t hash[16];
	char hex[2 * sizeof hash + 1];
	size_t head = sizeof g->stable - 2 * sizeof hash;

	if (len <= sizeof g->stable) {
		memcpy(g->stable, stable, len);
		g->stable_len = (uint8_t)len;
		return;
	}
	crypto_generichash(hash, sizeof hash, stable, len, NULL, 0);
	memcpy(g->stable, stable, head);
	memcpy(g->stable + head, text_hex(hex, hash, sizeof hash), 2 * sizeof hash);
	g->stable_len = sizeof g->stable;
}

static void
put_grant(struct auth_grant *g, const struct trial *t)
{
	const struct claim *c = t->c;

	g->verdict = GRANT_OK;
	g->alg = (uint8_t)c->alg;
	g->key_len = c->alg == STUN_ALG_MD5 ? 16 : 32;
	memcpy(g->key, t->key, sizeof g->key);
	g->name_len = (uint16_t)c->name_len;
	memcpy(g->name, c->name, c->name_len);
	if (t->origin == ORIGIN_REST) {
		g->credential_expiry = c->expiry;
		put_stable(g, c->stable, c->stable_len);
	} else {
		put_stable(g, c->name, c->name_len);
	}
	if (t->origin == ORIGIN_STATIC)
		g->limits = (struct auth_limits){ c->user->allocations, c->user->permissions,
			c->user->bandwidth };
	if (t->origin >= ORIGIN_DATABASE) {
		const struct db_found *f = t->more->found[t->origin - ORIGIN_DATABASE];

		g->credential_expiry = f->expires;
		g->limits = (struct auth_limits){ f->limits.allocations, f->limits.permissions,
			f->limits.bandwidth };
	}
}

/* Secrets and keys that came from databases. */
static void
try_more(struct trial *t, int64_t unix_now)
{
	const struct authd_more *m = t->more;

	for (unsigned d = 0; d < m->count; d++) {
		const struct db_facts *facts = m->facts[d];
		const struct db_found *f = m->found[d];
		bool sha256 = t->c->alg == STUN_ALG_SHA256;

		for (uint32_t i = 0; facts != NULL && t->c->rest && i < facts->secret_count; i++) {
			try_secret(t, facts->secret[i].value, facts->secret[i].len, true, false);
			try_secret(t, facts->secret[i].value, facts->secret[i].len, true, true);
		}
		if (f != NULL && (sha256 ? f->has_sha256 : f->has_md5) &&
		    (f->expires == 0 || f->expires > unix_now)) {
			uint8_t key[STUN_KEY_MAX] = { 0 };

			memcpy(key, sha256 ? f->sha256 : f->md5, sha256 ? 32 : 16);
			try_key(t, key, sha256 ? 32 : 16, true, (enum origin)(ORIGIN_DATABASE + d));
			sodium_memzero(key, sizeof key);
		}
	}
}

bool
authd_name(const struct authd_db *db, const void *message, size_t len, struct authd_asked *a)
{
	struct claim c;

	memset(a, 0, sizeof *a);
	if (!read_claim(db, message, len, &c) || stun_find(&c.m, STUN_A_USERNAME) == NULL)
		return false;
	a->name_len = (uint16_t)c.name_len;
	memcpy(a->name, c.name, c.name_len);
	a->rest = c.rest;
	text_copy(a->realm, sizeof a->realm, db->users->realm);
	return true;
}

/* A number of seconds or milliseconds where a Unix time should be, or one that no clock of today is
 * near to. */
static bool
timestamp_is_odd(const struct claim *c, int64_t unix_now)
{
	size_t digits = 0;

	while (digits < c->name_len && c->name[digits] >= '0' && c->name[digits] <= '9')
		digits++;
	if (digits > 11 && (digits == c->name_len || c->name[digits] == ':'))
		return true;
	return c->rest && (c->expiry < unix_now - YEARS_MAX || c->expiry > unix_now + YEARS_MAX);
}

/* Why it is refused when no key fits.  It is made of what the request says in the clear, before any key
 * is tried. */
static enum reason
refusal(const struct authd_db *db, const struct claim *c, int64_t unix_now)
{
	if (c->user != NULL)
		return REASON_PASSWORD;
	if (timestamp_is_odd(c, unix_now))
		return REASON_TIMESTAMP;
	if (!c->rest && db->users->secret_count > 0 && memchr(c->name, ':', c->name_len) != NULL)
		return REASON_NAME_FORM;
	return c->rest && db->users->secret_count > 0 ? REASON_NO_SECRET : REASON_UNKNOWN_USER;
}

void
authd_judge(const struct authd_db *db, const struct authd_more *more, const void *message, size_t len,
    int64_t unix_now, struct auth_grant *g, struct authd_work *work)
{
	struct authd_work unasked = { 0 };
	struct claim c;
	struct trial t = { .db = db, .more = more, .c = &c, .work = work != NULL ? work : &unasked };
	const struct users_secret *s = users_secrets(db->users);

	memset(g, 0, sizeof *g);
	g->verdict = GRANT_REFUSED;
	g->conf_generation = db->generation;
	g->reason = REASON_INCOMPLETE;
	if (!read_claim(db, message, len, &c))
		return;
	g->reason = (uint8_t)refusal(db, &c, unix_now);
	try_static(&t);
	for (uint32_t i = 0; i < db->users->secret_count; i++) {
		bool valid = s[i].until == 0 || s[i].until > unix_now;

		try_secret(&t, s[i].value, s[i].len, valid, false);
		try_secret(&t, s[i].value, s[i].len, valid, true);
	}
	if (more != NULL)
		try_more(&t, unix_now);
	if (t.origin != ORIGIN_NONE)
		put_grant(g, &t);
	sodium_memzero(&t, sizeof t);
}
