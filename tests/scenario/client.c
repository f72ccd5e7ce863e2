/* SPDX-License-Identifier: BSD-3-Clause */
/* client.c: see client.h; the options of requests are described in README. */
#include "config.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>

#include "client.h"

const char *
word_value(const struct words *w, unsigned from, const char *key, const char *after)
{
	size_t n = strlen(key);

	for (unsigned i = from; i < w->n; i++) {
		if (strncmp(w->w[i], key, n) != 0 || w->w[i][n] != '=')
			continue;
		if (after == NULL)
			return w->w[i] + n + 1;
		if (w->w[i] + n + 1 == after)
			after = NULL;
	}
	return NULL;
}

bool
word_has(const struct words *w, unsigned from, const char *word)
{
	for (unsigned i = from; i < w->n; i++)
		if (strcmp(w->w[i], word) == 0)
			return true;
	return false;
}

size_t
hex_bytes(uint8_t *out, size_t cap, const char *hex)
{
	size_t n = 0;
	unsigned v;

	for (; n < cap && sscanf(hex, "%2x", &v) == 1 && hex[0] != 0 && hex[1] != 0; hex += 2)
		out[n++] = (uint8_t)v;
	return n;
}

static uint16_t
method_number(const char *name)
{
	static const struct {
		const char *name;
		uint16_t number;
	} table[] = {
		{ "binding", STUN_BINDING },
		{ "allocate", STUN_ALLOCATE },
		{ "refresh", STUN_REFRESH },
		{ "permission", STUN_CREATE_PERMISSION },
		{ "bind", STUN_CHANNEL_BIND },
		{ "send", STUN_SEND },
		{ "connect", STUN_CONNECT },
	};

	for (unsigned i = 0; i < TP_COUNT(table); i++)
		if (strcmp(table[i].name, name) == 0)
			return table[i].number;
	return (uint16_t)strtoul(name, NULL, 0);
}

static void
new_txid(struct client *c, const char *how)
{
	if (how != NULL && strcmp(how, "same") == 0)
		return;
	memset(c->txid, 0, sizeof c->txid);
	memcpy(c->txid, c->name, strnlen(c->name, 8));
	put_u32(c->txid + 8, ++c->serial);
}

/* "TYPE:HEX" */
static void
put_raw(struct stun_out *o, const char *text)
{
	uint8_t value[1024];
	const char *colon = strchr(text, ':');

	stun_put_bytes(o, (uint16_t)strtoul(text, NULL, 16), value,
	    colon != NULL ? hex_bytes(value, sizeof value, colon + 1) : 0);
}

static void
put_raws(struct stun_out *o, const struct words *l, unsigned from, const char *key)
{
	for (const char *v = word_value(l, from, key, NULL); v != NULL; v = word_value(l, from, key, v))
		put_raw(o, v);
}

static void
put_number(struct stun_out *o, const struct words *l, unsigned from, const char *key, uint16_t type,
    unsigned shift)
{
	const char *v = word_value(l, from, key, NULL);

	if (v != NULL)
		stun_put_u32(o, type, (uint32_t)strtoul(v, NULL, 0) << shift);
}

static void
put_method_attrs(
    struct client *c, struct stun_out *o, const struct words *l, unsigned from, uint16_t method)
{
	const char *v = word_value(l, from, "transport", NULL);
	struct addr peer;

	if (method == STUN_ALLOCATE && (v == NULL || strcmp(v, "none") != 0))
		stun_put_u32(
		    o, STUN_A_REQUESTED_TRANSPORT, (v != NULL ? (uint32_t)strtoul(v, NULL, 0) : 17) << 24);
	put_number(o, l, from, "lifetime", STUN_A_LIFETIME, 0);
	put_number(o, l, from, "number", STUN_A_CHANNEL_NUMBER, 16);
	put_number(o, l, from, "family", STUN_A_REQUESTED_ADDRESS_FAMILY, 24);
	put_number(o, l, from, "additional", STUN_A_ADDITIONAL_ADDRESS_FAMILY, 24);
	for (v = word_value(l, from, "peer", NULL); v != NULL; v = word_value(l, from, "peer", v))
		if (addr_parse(&peer, v) == 0)
			stun_put_xaddr(o, STUN_A_XOR_PEER_ADDRESS, &peer);
	v = word_value(l, from, "even", NULL);
	if (v != NULL)
		stun_put_bytes(o, STUN_A_EVEN_PORT, *v == 'r' ? "\x80" : "\0", 1);
	v = word_value(l, from, "token", NULL);
	if (v != NULL) {
		uint8_t bytes[8];

		stun_put_bytes(o, STUN_A_RESERVATION_TOKEN, *v == '-' ? c->token : bytes,
		    *v == '-' ? 8 : hex_bytes(bytes, 8, v));
	}
	if (word_has(l, from, "df"))
		stun_put_bytes(o, STUN_A_DONT_FRAGMENT, "", 0);
	v = word_value(l, from, "data", NULL);
	if (v != NULL)
		stun_put_bytes(o, STUN_A_DATA, v, strlen(v));
}

static bool
omitted(const struct words *l, unsigned from, const char *what)
{
	for (const char *v = word_value(l, from, "no", NULL); v != NULL; v = word_value(l, from, "no", v))
		if (strcmp(v, what) == 0)
			return true;
	return false;
}

static void
put_name(struct client *c, struct stun_out *o, const struct words *l, unsigned from, const char *user)
{
	uint8_t hash[32];

	if (omitted(l, from, "name"))
		return;
	if (!word_has(l, from, "userhash")) {
		stun_put_bytes(o, STUN_A_USERNAME, user, strlen(user));
		return;
	}
	stun_userhash(user, strlen(user), c->realm, c->realm_len, hash);
	stun_put_bytes(o, STUN_A_USERHASH, hash, sizeof hash);
}

static void
put_nonce(struct client *c, struct stun_out *o, const char *how)
{
	uint8_t nonce[128];

	memcpy(nonce, c->nonce, c->nonce_len);
	if (how != NULL && strcmp(how, "bad") == 0)
		nonce[c->nonce_len - 1] ^= 1;
	if (how != NULL && strcmp(how, "nobits") == 0) /* an attacker on the path clears the features */
		memcpy(nonce + 9, "AAAA", 4);
	stun_put_bytes(o, STUN_A_NONCE, nonce, c->nonce_len);
}

static void
put_algorithms(struct client *c, struct stun_out *o, const struct words *l, unsigned from, unsigned alg)
{
	const char *v = word_value(l, from, "algs", NULL);
	uint8_t list[32], one[4] = { 0, (uint8_t)alg, 0, 0 };

	if (alg == 0 && v == NULL)
		return;
	if (v == NULL)
		stun_put_bytes(o, STUN_A_PASSWORD_ALGORITHMS, c->algs, c->algs_len);
	else if (strcmp(v, "none") != 0)
		stun_put_bytes(o, STUN_A_PASSWORD_ALGORITHMS, list, hex_bytes(list, sizeof list, v));
	if (alg != 0)
		stun_put_bytes(o, STUN_A_PASSWORD_ALGORITHM, one, 4);
}

/* The first 16 bytes of a MESSAGE-INTEGRITY-SHA256, right as far as they go. */
static void
put_short_mi256(struct client *c, struct stun_out *o)
{
	size_t at = wr_len(&o->w), body = at + 4 + 16 - STUN_HEADER;
	uint8_t sum[32];
	unsigned len = 0;

	put_u16(o->w.base + 2, (uint16_t)body);
	HMAC(EVP_sha256(), c->key, (int)c->key_len, o->w.base, at, sum, &len);
	stun_put_bytes(o, STUN_A_MESSAGE_INTEGRITY_SHA256, sum, 16);
}

static void
put_integrity(struct client *c, struct stun_out *o, const char *mi, bool sha256)
{
	uint8_t bad[STUN_KEY_MAX] = { 0 };
	bool both = mi != NULL && (strcmp(mi, "both") == 0 || strcmp(mi, "weak") == 0);

	bool send256 = both ||
	    (mi != NULL ? strcmp(mi, "sha256") == 0 || strcmp(mi, "short") == 0 : sha256);

	if (mi != NULL && strcmp(mi, "bad") == 0)
		stun_put_mi(o, bad, sizeof bad);
	else if (mi != NULL && strcmp(mi, "twice") == 0) { /* the first one wins, and is wrong */
		stun_put_mi(o, bad, sizeof bad);
		stun_put_mi(o, c->key, c->key_len);
	} else {
		if (both || !send256)
			stun_put_mi(o, c->key, c->key_len);
		if (mi != NULL && strcmp(mi, "short") == 0)
			put_short_mi256(c, o);
		else if (send256)
			stun_put_mi256(o, mi != NULL && strcmp(mi, "weak") == 0 ? bad : c->key, c->key_len);
	}
}

static void
put_credentials(struct world *w, struct client *c, struct stun_out *o, const struct words *l, unsigned from)
{
	const char *user = word_value(l, from, "user", NULL), *pass = word_value(l, from, "pass", NULL);
	const char *algname = word_value(l, from, "alg", NULL), *realm = word_value(l, from, "realm", NULL);
	unsigned alg = algname == NULL       ? 0
	    : strcmp(algname, "sha256") == 0 ? 2
	    : strcmp(algname, "md5") == 0    ? 1
					     : 7;
	char rest[64];

	c->key_len = 0;
	if (user == NULL)
		return;
	if (pass == NULL) {
		world_rest_password(w, user, rest);
		pass = rest;
	}
	put_name(c, o, l, from, user);
	if (!omitted(l, from, "realm"))
		stun_put_bytes(o, STUN_A_REALM, realm != NULL ? realm : c->realm,
		    realm != NULL ? strlen(realm) : c->realm_len);
	if (!omitted(l, from, "nonce"))
		put_nonce(c, o, word_value(l, from, "nonce", NULL));
	put_algorithms(c, o, l, from, alg);
	c->mi256 = alg != 0 ||
	    word_value(l, from, "algs", NULL) != NULL; /* how the answer must be signed */
	put_raws(o, l, from, "attr");
	c->key_len = stun_key(alg == 2 ? STUN_ALG_SHA256 : STUN_ALG_MD5, user, strlen(user), c->realm,
	    c->realm_len, pass, strlen(pass), c->key);
	if (!omitted(l, from, "mi"))
		put_integrity(c, o, word_value(l, from, "mi", NULL), alg != 0);
}

size_t
client_request(
    struct world *w, struct client *c, const struct words *l, unsigned from, uint8_t *buf, size_t cap)
{
	uint16_t method = method_number(l->w[from]);
	const char *cls = word_value(l, from, "class", NULL);
	bool indication = method == STUN_SEND || (cls != NULL && *cls == 'i');
	struct stun_out o;

	new_txid(c, word_value(l, from, "txid", NULL));
	stun_begin(&o, buf, cap,
	    indication                       ? STUN_INDICATION
		: cls != NULL && *cls == 's' ? STUN_SUCCESS
		: cls != NULL && *cls == 'e' ? STUN_ERROR
					     : STUN_REQUEST,
	    method, c->txid);
	put_raws(&o, l, from, "first");
	put_method_attrs(c, &o, l, from, method);
	if (word_value(l, from, "user", NULL) == NULL)
		put_raws(&o, l, from, "attr");
	put_credentials(w, c, &o, l, from);
	put_raws(&o, l, from, "after");
	if (word_has(l, from, "fingerprint"))
		stun_put_fingerprint(&o);
	return stun_end(&o);
}

static size_t
learn(void *to, size_t cap, const struct stun_attr *a)
{
	if (a == NULL || a->len > cap)
		return 0;
	memcpy(to, a->value, a->len);
	return a->len;
}

void
client_learn(struct client *c, const struct stun_msg *m)
{
	const struct stun_attr *nonce = stun_find(m, STUN_A_NONCE),
			       *token = stun_find(m, STUN_A_RESERVATION_TOKEN);

	if (nonce != NULL) {
		c->nonce_len = learn(c->nonce, sizeof c->nonce, nonce);
		c->realm_len = learn(c->realm, sizeof c->realm, stun_find(m, STUN_A_REALM));
		c->algs_len = learn(c->algs, sizeof c->algs, stun_find(m, STUN_A_PASSWORD_ALGORITHMS));
	}
	if (token != NULL)
		learn(c->token, sizeof c->token, token);
}
