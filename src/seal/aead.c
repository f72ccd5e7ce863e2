/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * aead.c: one AEAD operation on one record, by the library that is fastest at it; the working memory of
 * libcrypto.
 */
#include "config.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <sodium.h>

#include "seal_int.h"

_Static_assert(crypto_aead_aes256gcm_ABYTES == TAG_LEN, "tag");
_Static_assert(crypto_aead_chacha20poly1305_ietf_ABYTES == TAG_LEN, "tag");

static const char *const cipher_names[] = { NULL, "AES-128-GCM", "AES-256-GCM", "ChaCha20-Poly1305" };

/* libsodium is keyed in no time but does not use wide vectors: from about these sizes libcrypto is
 * faster, with AES at least for the sessions whose keys are kept (tests/bench/bench_seal). */
#define CHACHA_EVP_FROM 256
#define AES256_EVP_FROM 900

static void
ctx_free(struct seal_ctx *c)
{
	for (unsigned i = 0; i < SEAL_CTX_SLOTS; i++)
		EVP_CIPHER_CTX_free(c->slot[i]);
	for (unsigned i = 0; i < TP_COUNT(c->cipher); i++)
		EVP_CIPHER_free(c->cipher[i]);
	memset(c->slot, 0, sizeof c->slot);
	memset(c->cipher, 0, sizeof c->cipher);
}

int
seal_ctx_init(struct seal_ctx *c)
{
	memset(c, 0, sizeof *c);
	if (sodium_init() < 0)
		return SEAL_F_CRYPTO;
	c->sodium_aes = crypto_aead_aes256gcm_is_available() != 0;
	/* The host's openssl.cnf is out of reach once a process has given up its files. */
	return OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG, NULL) == 1 ? SEAL_OK : SEAL_F_CRYPTO;
}

int
seal_ctx_warm(struct seal_ctx *c)
{
	bool ok = true;

	if (c->slot[0] != NULL)
		return SEAL_OK;
	for (unsigned i = SEAL_AES128_SHA256; i <= SEAL_CHACHA_SHA256; i++) {
		c->cipher[i] = EVP_CIPHER_fetch(NULL, cipher_names[i], NULL);
		ok = ok && c->cipher[i] != NULL;
	}
	for (unsigned i = 0; i < SEAL_CTX_SLOTS; i++) {
		c->slot[i] = EVP_CIPHER_CTX_new();
		ok = ok && c->slot[i] != NULL;
	}
	if (ok)
		return SEAL_OK;
	ctx_free(c);
	return SEAL_F_CRYPTO;
}

void
seal_ctx_wipe(struct seal_ctx *c)
{
	for (unsigned i = 0; i < SEAL_CTX_SLOTS; i++)
		if (c->suite[i] != 0)
			EVP_CIPHER_CTX_reset(c->slot[i]);
	memset(c->suite, 0, sizeof c->suite);
	sodium_memzero(c->key, sizeof c->key);
}

void
seal_ctx_fini(struct seal_ctx *c)
{
	ctx_free(c);
	sodium_memzero(c, sizeof *c);
}

void
nonce_xor(uint8_t nonce[12], const uint8_t iv[12], uint64_t n)
{
	uint8_t number[8];

	put_u64(number, n);
	memcpy(nonce, iv, 12);
	for (unsigned i = 0; i < 8; i++)
		nonce[4 + i] ^= number[i];
}

void
nonce_explicit(uint8_t nonce[12], const uint8_t salt[4], const uint8_t part[EXPLICIT_LEN])
{
	memcpy(nonce, salt, 4);
	memcpy(nonce + 4, part, EXPLICIT_LEN);
}

/*
 * A context keyed for this record, the nonce set; NULL when libcrypto fails.  Direct mapped by a key
 * byte, one half for each way so that a session's two keys never push each other out.
 */
static EVP_CIPHER_CTX *
keyed(const struct aead *a, int enc)
{
	struct seal_ctx *c = a->ctx;
	unsigned i = (a->key[0] % (SEAL_CTX_SLOTS / 2)) + (enc ? 0 : SEAL_CTX_SLOTS / 2);

	if (seal_ctx_warm(c) != SEAL_OK)
		return NULL;
	if (c->suite[i] == a->suite && sodium_memcmp(c->key[i], a->key, sizeof c->key[i]) == 0)
		return EVP_CipherInit_ex2(c->slot[i], NULL, NULL, a->nonce, enc, NULL) == 1 ? c->slot[i]
											    : NULL;
	c->suite[i] = 0;
	if (EVP_CipherInit_ex2(c->slot[i], c->cipher[a->suite], a->key, a->nonce, enc, NULL) != 1)
		return NULL;
	memcpy(c->key[i], a->key, sizeof c->key[i]);
	c->suite[i] = (uint8_t)a->suite;
	return c->slot[i];
}

static int
evp_seal(const struct aead *a, const uint8_t *in, size_t len, uint8_t *out)
{
	int n;
	EVP_CIPHER_CTX *x = keyed(a, 1);

	if (x == NULL || EVP_EncryptUpdate(x, NULL, &n, a->ad, (int)a->ad_len) != 1 ||
	    (len > 0 && EVP_EncryptUpdate(x, out, &n, in, (int)len) != 1) ||
	    EVP_EncryptFinal_ex(x, out + len, &n) != 1 ||
	    EVP_CIPHER_CTX_ctrl(x, EVP_CTRL_AEAD_GET_TAG, TAG_LEN, out + len) != 1)
		return SEAL_F_CRYPTO;
	return SEAL_OK;
}

static int
evp_open(const struct aead *a, const uint8_t *in, size_t len, uint8_t *out)
{
	int n;
	uint8_t tag[TAG_LEN], none[1];
	EVP_CIPHER_CTX *x = keyed(a, 0);

	memcpy(tag, in + len, TAG_LEN);
	if (x == NULL || EVP_CIPHER_CTX_ctrl(x, EVP_CTRL_AEAD_SET_TAG, TAG_LEN, tag) != 1 ||
	    EVP_DecryptUpdate(x, NULL, &n, a->ad, (int)a->ad_len) != 1 ||
	    (len > 0 && EVP_DecryptUpdate(x, out, &n, in, (int)len) != 1))
		return SEAL_F_CRYPTO;
	if (EVP_DecryptFinal_ex(x, none, &n) == 1)
		return SEAL_OK;
	/* EVP hands out text before it has checked it. */
	sodium_memzero(out, len);
	return SEAL_F_MAC;
}

int
aead_seal(const struct aead *a, const uint8_t *in, size_t len, uint8_t *out)
{
	if (a->suite == SEAL_CHACHA_SHA256 && len < CHACHA_EVP_FROM)
		return crypto_aead_chacha20poly1305_ietf_encrypt(
			   out, NULL, in, len, a->ad, a->ad_len, NULL, a->nonce, a->key) == 0
		    ? SEAL_OK
		    : SEAL_F_CRYPTO;
	if (a->suite == SEAL_AES256_SHA384 && a->ctx->sodium_aes && len < AES256_EVP_FROM)
		return crypto_aead_aes256gcm_encrypt(
			   out, NULL, in, len, a->ad, a->ad_len, NULL, a->nonce, a->key) == 0
		    ? SEAL_OK
		    : SEAL_F_CRYPTO;
	return evp_seal(a, in, len, out);
}

int
aead_open(const struct aead *a, const uint8_t *in, size_t len, uint8_t *out)
{
	if (a->suite == SEAL_CHACHA_SHA256 && len < CHACHA_EVP_FROM)
		return crypto_aead_chacha20poly1305_ietf_decrypt(
			   out, NULL, NULL, in, len + TAG_LEN, a->ad, a->ad_len, a->nonce, a->key) == 0
		    ? SEAL_OK
		    : SEAL_F_MAC;
	if (a->suite == SEAL_AES256_SHA384 && a->ctx->sodium_aes && len < AES256_EVP_FROM)
		return crypto_aead_aes256gcm_decrypt(
			   out, NULL, NULL, in, len + TAG_LEN, a->ad, a->ad_len, a->nonce, a->key) == 0
		    ? SEAL_OK
		    : SEAL_F_MAC;
	return evp_open(a, in, len, out);
}
