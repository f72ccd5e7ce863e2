/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check.c: is this request from whom it says?  The order of RFC 8489 9.2.4; challenges and signatures.
 *
 * A wrong password always takes the same way as an unknown user, through turnpike-auth, also when the
 * right key is cached: the time until the 401 says nothing about which names exist or are in use.
 */
#include "config.h"

#include <sodium.h>

#include "tp/auth.h"

/* PASSWORD-ALGORITHMS in order of preference: number and length of parameters of each, RFC 8489 14.11. */
static const uint8_t algs_any[] = { 0, STUN_ALG_SHA256, 0, 0, 0, STUN_ALG_MD5, 0, 0 };
#define ALGS_ANY_LEN    8
#define ALGS_SHA256_LEN 4 /* the first of them */

static size_t
algs_len(const struct auth_policy *p)
{
	return p->sha256_only ? ALGS_SHA256_LEN : ALGS_ANY_LEN;
}

/* The three identity attributes of a request, whole. */
struct identity {
	const struct stun_attr *name; /* USERNAME or USERHASH */
	const struct stun_attr *realm, *nonce;
};

static int
take_identity(const struct stun_msg *m, struct identity *id)
{
	id->name = stun_find(m, STUN_A_USERNAME);
	if (id->name == NULL)
		id->name = stun_find(m, STUN_A_USERHASH);
	id->realm = stun_find(m, STUN_A_REALM);
	id->nonce = stun_find(m, STUN_A_NONCE);
	if (id->name == NULL || id->realm == NULL || id->nonce == NULL)
		return STUN_E_BAD_REQUEST;
	if (id->name->type == STUN_A_USERHASH ? id->name->len != 32 : id->name->len > STUN_USERNAME_MAX)
		return STUN_E_BAD_REQUEST;
	if (id->realm->len > STUN_REALM_MAX || id->nonce->len > STUN_NONCE_MAX)
		return STUN_E_BAD_REQUEST;
	return 0;
}

/*
 * Bid-down protection: what the client chose must be what the nonce says that we offered.  *named: the
 * request names an algorithm, which also decides how the answer is signed.
 */
static int
choose_alg(const struct auth_policy *p, const struct stun_msg *m, uint32_t bits, uint8_t *alg, bool *named)
{
	const struct stun_attr *list = stun_find(m, STUN_A_PASSWORD_ALGORITHMS);
	const struct stun_attr *one = stun_find(m, STUN_A_PASSWORD_ALGORITHM);
	uint16_t chosen;

	*named = list != NULL || one != NULL;
	if (!*named) {
		*alg = STUN_ALG_MD5;
		return p->sha256_only ? STUN_E_UNAUTHENTICATED : 0;
	}
	if (list == NULL || !stun_get_alg(one, &chosen) || (bits & NONCE_BIT_ALGORITHMS) == 0)
		return STUN_E_BAD_REQUEST;
	/* A reload that forbids MD5 must not break clients that echo the list of before: they may
	 * choose SHA-256. */
	if (!(list->len == algs_len(p) || (p->sha256_only && list->len == ALGS_ANY_LEN)) ||
	    memcmp(list->value, algs_any, list->len) != 0)
		return STUN_E_BAD_REQUEST;
	if (chosen != STUN_ALG_SHA256 && (chosen != STUN_ALG_MD5 || list->len != ALGS_ANY_LEN))
		return STUN_E_BAD_REQUEST;
	*alg = (uint8_t)chosen;
	return p->sha256_only && chosen != STUN_ALG_SHA256 ? STUN_E_UNAUTHENTICATED : 0;
}

/* ---- keyed hashes ---------------------------------------------------------------------------- */

/* Hash of a kind of thing: parts never run into each other because each has its length in front. */
static uint64_t
hash_parts(const struct cross *c, const void *a, size_t a_len, const void *b, size_t b_len, uint8_t kind)
{
	uint8_t buf[5 + 128 + STUN_USERNAME_MAX];
	uint64_t h;

	assert(a_len <= 128 && b_len <= STUN_USERNAME_MAX);
	buf[0] = kind;
	put_u16(buf + 1, (uint16_t)a_len);
	put_u16(buf + 3, (uint16_t)b_len);
	memcpy(buf + 5, a, a_len);
	if (b_len > 0)
		memcpy(buf + 5 + a_len, b, b_len);
	h = cross_hash(c, buf, 5 + a_len + b_len);
	return h != 0 ? h : 1; /* 0 is "none" everywhere */
}

uint64_t
auth_user_hash(const struct cross *c, const void *realm, size_t realm_len, const void *stable, size_t len)
{
	return hash_parts(c, realm, realm_len, stable, len, 'u');
}

static uint64_t
hash_user(const struct auth_in *in, const void *stable, size_t len)
{
	return auth_user_hash(in->cross, in->policy->realm, in->policy->realm_len, stable, len);
}

uint64_t
auth_name_hash(const struct cross *c, const void *realm, size_t realm_len, const void *name, size_t len)
{
	return hash_parts(c, realm, realm_len, name, len, 'n');
}

static uint64_t
hash_name(const struct auth_in *in, const void *name, size_t len)
{
	return auth_name_hash(in->cross, in->policy->realm, in->policy->realm_len, name, len);
}

static uint64_t
hash_identity(const struct auth_in *in, const struct stun_attr *name, uint8_t alg)
{
	uint8_t head[3];

	put_u16(head, name->type);
	head[2] = alg;
	return hash_parts(in->cross, head, sizeof head, name->value, name->len, 'i');
}

/* ---- the key ------------------------------------------------------------------------------------ */

static bool
integrity_holds(const struct stun_msg *m, const uint8_t *key, size_t key_len)
{
	return m->mi256_off != 0 ? stun_check_mi256(m, key, key_len) : stun_check_mi(m, key, key_len);
}

/*
 * The allocation's own key goes on being good after its credential expired or was rotated.  A key is made
 * of the whole name: a key that fits identifies the user, also when only a USERHASH came.
 */
static bool
from_session(const struct auth_in *in, const struct stun_msg *m, const struct stun_attr *name, uint8_t alg,
    struct auth_who *who)
{
	const struct session_key *k = in->session_key;
	const struct session *x = in->session;

	if (x == NULL || k == NULL || k->gen != x->gen || k->alg != alg || k->len > STUN_KEY_MAX)
		return false;
	if (name->type == STUN_A_USERNAME && hash_name(in, name->value, name->len) != x->name)
		return false;
	if (!integrity_holds(m, k->key, k->len))
		return false;
	who->user = x->user;
	who->name = x->name;
	who->alg = k->alg;
	who->key_len = k->len;
	memcpy(who->key, k->key, sizeof who->key);
	who->credential_expiry = k->credential_expiry;
	who->limits.permissions = k->permissions;
	memcpy(who->user_text, x->user_text, SESSION_NAME);
	who->user_text_len = (uint8_t)strnlen(x->user_text, SESSION_NAME);
	return true;
}

static bool
from_entry(const struct key_entry *e, const struct stun_msg *m, struct auth_who *who)
{
	if (!integrity_holds(m, e->key, e->key_len))
		return false;
	who->user = e->user;
	who->name = e->name;
	who->alg = e->alg;
	who->key_len = e->key_len;
	memcpy(who->key, e->key, sizeof who->key);
	who->credential_expiry = e->credential_expiry;
	who->limits = e->limits;
	memcpy(who->user_text, e->user_text, SESSION_NAME);
	who->user_text_len = e->user_text_len;
	return true;
}

static enum reason
grant_reason(const struct auth_grant *g)
{
	return g->verdict == GRANT_REFUSED && g->reason < REASONS ? (enum reason)g->reason
								  : REASON_PASSWORD;
}

static bool
grant_is_sound(const struct auth_grant *g, uint8_t alg)
{
	return g->verdict == GRANT_OK && g->alg == alg && g->key_len == (alg == STUN_ALG_MD5 ? 16 : 32) &&
	    g->stable_len <= sizeof g->stable && g->name_len <= sizeof g->name;
}

static const struct key_entry *
authd_grant(const struct auth_in *in, uint64_t id)
{
	const struct auth_grant *g = in->grant;
	uint64_t user = g->stable_len > 0 ? hash_user(in, g->stable, g->stable_len) : 0;

	return key_cache_put(in->cache, id, g, user, hash_name(in, g->name, g->name_len), in->now);
}

static int
find_key(const struct auth_in *in, const struct stun_msg *m, const struct stun_attr *name, uint8_t alg,
    struct auth_who *who)
{
	uint64_t id;
	const struct key_entry *e;

	if (from_session(in, m, name, alg, who))
		return 0;
	id = hash_identity(in, name, alg);
	if (in->grant != NULL) {
		who->reason = grant_reason(in->grant);
		if (!grant_is_sound(in->grant, alg))
			return STUN_E_UNAUTHENTICATED;
		return from_entry(authd_grant(in, id), m, who) ? 0 : STUN_E_UNAUTHENTICATED;
	}
	e = key_cache_find(in->cache, id, in->now, in->policy->conf_generation);
	return e != NULL && from_entry(e, m, who) ? 0 : AUTH_NEED_KEY;
}

static int
refused(struct auth_who *who, enum reason why, int code)
{
	who->reason = why;
	return code;
}

static bool
is_denied(const struct auth_policy *p, uint64_t user, int64_t unix_now)
{
	for (uint32_t i = 0; i < p->denied_count; i++)
		if (p->denied[i].user == user && (p->denied[i].until == 0 || p->denied[i].until > unix_now))
			return true;
	return false;
}

/* What needs no key: realm and form of the integrity attribute. */
static int
check_form(
    const struct auth_in *in, const struct stun_msg *m, const struct identity *id, struct auth_who *who)
{
	const struct auth_policy *p = in->policy;

	if (id->realm->len != p->realm_len || memcmp(id->realm->value, p->realm, p->realm_len) != 0)
		return refused(who, REASON_REALM, STUN_E_UNAUTHENTICATED);
	if (p->sha256_only && m->mi256_off == 0)
		return refused(who, REASON_ALGORITHM, STUN_E_UNAUTHENTICATED);
	if (m->mi256_off != 0 && m->mi256_len != 32)
		return refused(who, REASON_TRUNCATED, STUN_E_UNAUTHENTICATED);
	return 0;
}

/* After the key has proved the sender. */
static int
check_age(const struct auth_in *in, enum nonce_verdict v, struct auth_who *who)
{
	if (who->user != 0 && is_denied(in->policy, who->user, in->unix_now))
		return refused(who, REASON_DENIED, STUN_E_UNAUTHENTICATED);
	if (v != NONCE_GOOD)
		return refused(who, v == NONCE_FOREIGN ? REASON_NONCE_FOREIGN : REASON_NONCE_STALE,
		    STUN_E_STALE_NONCE);
	if (in->policy->strict_expiry && who->credential_expiry != 0 &&
	    in->unix_now >= who->credential_expiry)
		return refused(who, REASON_EXPIRED, STUN_E_UNAUTHENTICATED);
	return 0;
}

int
auth_check(const struct auth_in *in, const struct stun_msg *m, struct auth_who *who, bool *foreign)
{
	const struct auth_policy *p = in->policy;
	struct nonce_for whom = { *in->client, in->transport, p->realm, p->realm_len };
	struct identity id;
	enum nonce_verdict v;
	uint32_t bits = 0;
	uint8_t alg = STUN_ALG_MD5;
	int code;

	*foreign = false;
	memset(who, 0, sizeof *who);
	if (m->mi_off == 0 && m->mi256_off == 0)
		return refused(who, REASON_CHALLENGE, STUN_E_UNAUTHENTICATED);
	code = take_identity(m, &id);
	if (code != 0)
		return refused(who, REASON_INCOMPLETE, code);
	v = nonce_judge(
	    id.nonce->value, id.nonce->len, in->nonces, &whom, in->now, p->nonce_lifetime, &bits);
	*foreign = v == NONCE_FOREIGN;
	code = choose_alg(p, m, bits, &alg, &who->mi256);
	if (code != 0)
		return refused(who, REASON_ALGORITHM, code);
	code = check_form(in, m, &id, who);
	if (code != 0)
		return code;
	code = find_key(in, m, id.name, alg, who);
	if (code != 0)
		return code;
	who->reason = REASON_NONE;
	return check_age(in, v, who);
}

void
auth_challenge(struct stun_out *o, const struct auth_policy *p, const struct nonce_keys *k,
    const struct addr *client, uint8_t transport, tp_ms now, bool algorithms)
{
	uint32_t bits = (algorithms ? NONCE_BIT_ALGORITHMS : 0) |
	    (p->offer_userhash ? NONCE_BIT_USERHASH : 0);
	struct nonce_for whom = { *client, transport, p->realm, p->realm_len };
	char nonce[NONCE_LEN];

	nonce_make(nonce, k, bits, &whom, now);
	stun_put_bytes(o, STUN_A_REALM, p->realm, p->realm_len);
	stun_put_bytes(o, STUN_A_NONCE, nonce, sizeof nonce);
	if (algorithms)
		stun_put_bytes(o, STUN_A_PASSWORD_ALGORITHMS, algs_any, algs_len(p));
}

/* RFC 8489 9.2.4, its end: SHA-256 unless the request named no algorithm. */
void
auth_sign(struct stun_out *o, const struct auth_who *who)
{
	if (who->mi256)
		stun_put_mi256(o, who->key, who->key_len);
	else
		stun_put_mi(o, who->key, who->key_len);
}
