/* SPDX-License-Identifier: BSD-3-Clause */
/* seal_int.h: what the files of room seal share. */
#ifndef TP_SEAL_INT_H
#define TP_SEAL_INT_H

#include "tp/seal.h"

#define TAG_LEN        16
#define EXPLICIT_LEN   8      /* explicit nonce of (D)TLS 1.2 AES-GCM, RFC 5288 3 */
#define VERSION_TLS12  0x0303 /* TLS 1.3 records say so too, RFC 8446 5.1 */
#define VERSION_DTLS12 0xfefd
#define VERSION_DTLS10 0xfeff /* a first ClientHello may say so, RFC 6347 4.2.1 */
#define FIRST_EPOCH    1

enum {
	HS_HELLO_REQUEST = 0,
	HS_CLIENT_HELLO = 1,
	HS_FINISHED = 20,
	HS_KEY_UPDATE = 24,
};

static inline bool
is_gcm(const struct seal *k)
{
	return k->suite != SEAL_CHACHA_SHA256;
}

/* Bytes of explicit nonce in each record. */
static inline size_t
explicit_len(const struct seal *k)
{
	return k->proto != SEAL_TLS13 && is_gcm(k) ? EXPLICIT_LEN : 0;
}

static inline size_t
head_len(const struct seal *k)
{
	return k->proto == SEAL_DTLS12 ? SEAL_DTLS_HEAD : SEAL_HEAD;
}

/* aead.c: one AEAD operation.  in -> out, both `len` bytes of text; the tag follows the text on the
 * cipher's side.  out == in, or no overlap.  0, SEAL_F_MAC (out wiped) or SEAL_F_CRYPTO. */
struct aead {
	struct seal_ctx *ctx;
	unsigned suite;
	const uint8_t *key;
	uint8_t nonce[12];
	const uint8_t *ad;
	size_t ad_len;
};
int aead_seal(const struct aead *a, const uint8_t *in, size_t len, uint8_t *out);
int aead_open(const struct aead *a, const uint8_t *in, size_t len, uint8_t *out);
/* iv xor the right-aligned number (RFC 8446 5.3, RFC 7905 2). */
void nonce_xor(uint8_t nonce[12], const uint8_t iv[12], uint64_t n);
/* salt and explicit part (RFC 5288 3). */
void nonce_explicit(uint8_t nonce[12], const uint8_t salt[4], const uint8_t part[EXPLICIT_LEN]);

/* record12.c: the protection that TLS 1.2 and DTLS 1.2 share.  n: the 64-bit number, the epoch on top
 * in DTLS. */
int seal12(const struct seal *k, struct seal_ctx *c, uint64_t n, uint64_t explicit_nonce, uint8_t type,
    const uint8_t *data, size_t len, uint8_t *out);
int open12(const struct seal *k, struct seal_ctx *c, uint64_t n, const uint8_t *rec, size_t len,
    uint8_t *out, size_t room, size_t *text_len);

/* content.c: judges authenticated content.  in->type, data and len are set; sets the rest. 0 or a fault. */
int content_judge(const struct seal *k, struct seal_in *in);
/* The two bytes of an alert. */
void alert_write(uint8_t out[2], enum seal_proto proto, enum seal_alert what);

#endif
