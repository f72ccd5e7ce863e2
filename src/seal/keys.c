/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * keys.c: key schedules: what turns exported secrets into record keys, and a TLS 1.3 key into the next
 * one.
 */
#include "config.h"

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <sodium.h>
#include <stdatomic.h>

#include "seal_int.h"

static const struct {
	uint16_t iana;
	uint8_t tls13, suite;
} suites[] = {
	{ 0x1301, 1, SEAL_AES128_SHA256 }, { 0x1302, 1, SEAL_AES256_SHA384 },
	{ 0x1303, 1, SEAL_CHACHA_SHA256 }, { 0xC02B, 0, SEAL_AES128_SHA256 },
	{ 0xC02C, 0, SEAL_AES256_SHA384 },                                    /* ECDHE-ECDSA */
	{ 0xC02F, 0, SEAL_AES128_SHA256 }, { 0xC030, 0, SEAL_AES256_SHA384 }, /* ECDHE-RSA */
	{ 0xCCA9, 0, SEAL_CHACHA_SHA256 }, { 0xCCA8, 0, SEAL_CHACHA_SHA256 }, /* ECDHE-ECDSA, -RSA */
};

unsigned
seal_suite_of(enum seal_proto proto, uint16_t iana)
{
	for (size_t i = 0; i < TP_COUNT(suites); i++)
		if (suites[i].iana == iana && proto != SEAL_NONE &&
		    suites[i].tls13 == (proto == SEAL_TLS13))
			return suites[i].suite;
	return 0;
}

const char *
seal_suite_name(unsigned suite)
{
	static const char *const names[] = { "none", "AES-128-GCM", "AES-256-GCM", "CHACHA20-POLY1305" };

	return suite < TP_COUNT(names) ? names[suite] : "unknown";
}

size_t
seal_secret_len(unsigned suite)
{
	return suite == SEAL_AES256_SHA384 ? 48 : 32;
}

static size_t
key_len(unsigned suite)
{
	return suite == SEAL_AES128_SHA256 ? 16 : 32;
}

static const char *
hash_name(unsigned suite)
{
	return suite == SEAL_AES256_SHA384 ? "SHA384" : "SHA256";
}

bool
seal_valid(const struct seal *k)
{
	return k->proto >= SEAL_TLS12 && k->proto <= SEAL_DTLS12 && k->suite >= SEAL_AES128_SHA256 &&
	    k->suite <= SEAL_CHACHA_SHA256 && k->role <= SEAL_CLIENT && k->fragment <= 4 &&
	    (k->proto == SEAL_TLS13 || (k->gen[SEAL_TX] == 0 && k->gen[SEAL_RX] == 0));
}

static int
derive(const char *kdf_name, const OSSL_PARAM *params, uint8_t *out, size_t len)
{
	EVP_KDF *kdf = EVP_KDF_fetch(NULL, kdf_name, NULL);
	EVP_KDF_CTX *x = EVP_KDF_CTX_new(kdf);
	int ok = x != NULL && EVP_KDF_derive(x, out, len, params) == 1;

	EVP_KDF_CTX_free(x);
	EVP_KDF_free(kdf);
	return ok ? SEAL_OK : SEAL_F_CRYPTO;
}

/* HKDF-Expand-Label with an empty context, RFC 8446 7.1. */
static int
expand_label(unsigned suite, const uint8_t *secret, const char *label, uint8_t *out, size_t len)
{
	uint8_t info[32];
	struct wr w = wr_over(info, sizeof info);
	int mode = EVP_KDF_HKDF_MODE_EXPAND_ONLY;

	wr_u16(&w, (uint16_t)len);
	wr_u8(&w, (uint8_t)(6 + strlen(label)));
	wr_bytes(&w, "tls13 ", 6);
	wr_bytes(&w, label, strlen(label));
	wr_u8(&w, 0);
	assert(!w.bad);
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_int(OSSL_KDF_PARAM_MODE, &mode),
		OSSL_PARAM_construct_utf8_string(
		    OSSL_KDF_PARAM_DIGEST, (char *)(uintptr_t)hash_name(suite), 0),
		OSSL_PARAM_construct_octet_string(
		    OSSL_KDF_PARAM_KEY, (void *)(uintptr_t)secret, seal_secret_len(suite)),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, info, wr_len(&w)),
		OSSL_PARAM_construct_end(),
	};
	return derive("HKDF", params, out, len);
}

/* RFC 8446 7.3.  key: 32 bytes, zero beyond the cipher's. */
static int
traffic_key(unsigned suite, const uint8_t *secret, uint8_t key[32], uint8_t iv[12])
{
	memset(key, 0, 32);
	int fault = expand_label(suite, secret, "key", key, key_len(suite));
	return fault != SEAL_OK ? fault : expand_label(suite, secret, "iv", iv, 12);
}

int
seal_start13(struct seal *k, struct seal_secrets *s, enum seal_role role, unsigned suite,
    const uint8_t *client, const uint8_t *server, size_t len)
{
	struct seal n = { .proto = SEAL_TLS13, .suite = (uint8_t)suite, .role = (uint8_t)role };
	const uint8_t *secret[2] = { role == SEAL_CLIENT ? client : server,
		role == SEAL_CLIENT ? server : client };
	int fault = SEAL_OK;

	if (!seal_valid(&n) || len != seal_secret_len(suite))
		return SEAL_F_STATE;
	for (unsigned way = 0; way < 2 && fault == SEAL_OK; way++)
		fault = traffic_key(suite, secret[way], n.key[way], n.iv[way]);
	if (fault == SEAL_OK) {
		*k = n;
		memset(s, 0, sizeof *s);
		memcpy(s->secret[SEAL_TX][0], secret[SEAL_TX], len);
		memcpy(s->secret[SEAL_RX][0], secret[SEAL_RX], len);
	}
	sodium_memzero(&n, sizeof n);
	return fault;
}

/* The key block of RFC 5246 6.3: client key, server key, client iv, server iv (AEAD has no MAC keys). */
static int
key_block(unsigned suite, const uint8_t master[48], const uint8_t client_random[32],
    const uint8_t server_random[32], uint8_t *out, size_t len)
{
	uint8_t seed[13 + 64];

	memcpy(seed, "key expansion", 13);
	memcpy(seed + 13, server_random, 32);
	memcpy(seed + 45, client_random, 32);
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_utf8_string(
		    OSSL_KDF_PARAM_DIGEST, (char *)(uintptr_t)hash_name(suite), 0),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SECRET, (void *)(uintptr_t)master, 48),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SEED, seed, sizeof seed),
		OSSL_PARAM_construct_end(),
	};
	return derive("TLS1-PRF", params, out, len);
}

int
seal_start12(struct seal *k, enum seal_proto proto, enum seal_role role, unsigned suite,
    const uint8_t master[48], const uint8_t client_random[32], const uint8_t server_random[32],
    uint64_t nonce)
{
	struct seal n = { .proto = (uint8_t)proto, .suite = (uint8_t)suite, .role = (uint8_t)role };
	uint8_t block[2 * (32 + 12)];

	if (!seal_valid(&n) || proto == SEAL_TLS13)
		return SEAL_F_STATE;
	size_t kl = key_len(suite), il = is_gcm(&n) ? 4 : 12;
	int fault = key_block(suite, master, client_random, server_random, block, 2 * (kl + il));
	if (fault == SEAL_OK) {
		unsigned client = role == SEAL_CLIENT ? SEAL_TX : SEAL_RX;
		memcpy(n.key[client], block, kl);
		memcpy(n.key[!client], block + kl, kl);
		memcpy(n.iv[client], block + 2 * kl, il);
		memcpy(n.iv[!client], block + 2 * kl + il, il);
		n.nonce = is_gcm(&n) ? nonce : 0;
		*k = n;
	}
	sodium_memzero(block, sizeof block);
	sodium_memzero(&n, sizeof n);
	return fault;
}

int
seal_rekey(const struct seal *k, struct seal_secrets *s, const struct seal_pos *committed,
    struct seal_pos *next, enum seal_way way)
{
	uint32_t gen = committed->gen[way];
	uint8_t secret[48] = { 0 };

	if (k->proto != SEAL_TLS13)
		return SEAL_F_STATE;
	if (next->gen[way] != gen)
		return SEAL_F_COMMIT;
	if (gen >= SEAL_GEN_NONE - 1)
		return SEAL_F_LIMIT;
	int fault = expand_label(
	    k->suite, s->secret[way][gen & 1], "traffic upd", secret, seal_secret_len(k->suite));
	if (fault == SEAL_OK) {
		memcpy(s->secret[way][(gen + 1) & 1], secret, sizeof secret);
		next->gen[way] = gen + 1;
		next->seq[way] = 0;
	}
	sodium_memzero(secret, sizeof secret);
	return fault;
}

static int
sync_way(struct seal *k, const struct seal_secrets *s, uint32_t gen, unsigned way)
{
	uint8_t key[32], iv[12];
	int fault = traffic_key(k->suite, s->secret[way][gen & 1], key, iv);

	if (fault == SEAL_OK) {
		/* The generation goes away before the first byte of the key does, and comes back after
		 * the last:  killed between, the successor sees SEAL_GEN_NONE and derives again.  A fence
		 * against the compiler is enough: what a process stored before it died is in the memory
		 * in program order. */
		volatile uint32_t *tag = &k->gen[way];
		*tag = SEAL_GEN_NONE;
		atomic_signal_fence(memory_order_seq_cst);
		memcpy(k->key[way], key, sizeof key);
		memcpy(k->iv[way], iv, sizeof iv);
		atomic_signal_fence(memory_order_seq_cst);
		*tag = gen;
	}
	sodium_memzero(key, sizeof key);
	sodium_memzero(iv, sizeof iv);
	return fault;
}

int
seal_sync(struct seal *k, const struct seal_secrets *s, const struct seal_pos *pos)
{
	int fault = SEAL_OK;

	for (unsigned way = 0; way < 2 && fault == SEAL_OK; way++) {
		if (k->gen[way] == pos->gen[way])
			continue;
		if (k->proto != SEAL_TLS13 || pos->gen[way] == SEAL_GEN_NONE)
			return SEAL_F_STATE;
		fault = sync_way(k, s, pos->gen[way], way);
	}
	return fault;
}
