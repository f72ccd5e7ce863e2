/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * record12.c: record protection of TLS 1.2 and DTLS 1.2 (RFC 5246 6.2.3.3, RFC 5288, RFC 7905): same
 * nonce, same additional data, another header.
 */
#include "config.h"

#include "seal_int.h"

#define AD_LEN 13

/* additional data: number, type, version, length of the plaintext */
static void
additional(uint8_t ad[AD_LEN], uint64_t n, uint8_t type, uint16_t version, size_t len)
{
	put_u64(ad, n);
	ad[8] = type;
	put_u16(ad + 9, version);
	put_u16(ad + 11, (uint16_t)len);
}

static size_t
header(const struct seal *k, uint8_t *out, uint64_t n, uint8_t type, size_t body)
{
	size_t h = head_len(k);

	out[0] = type;
	if (k->proto == SEAL_DTLS12) {
		put_u16(out + 1, VERSION_DTLS12);
		put_u64(out + 3, n);
	} else {
		put_u16(out + 1, VERSION_TLS12);
	}
	put_u16(out + h - 2, (uint16_t)body);
	return h;
}

/* The caller has checked the lengths. */
int
seal12(const struct seal *k, struct seal_ctx *c, uint64_t n, uint64_t explicit_nonce, uint8_t type,
    const uint8_t *data, size_t len, uint8_t *out)
{
	uint8_t ad[AD_LEN];
	size_t x = explicit_len(k), h = header(k, out, n, type, x + len + TAG_LEN);
	struct aead a = {
		.ctx = c, .suite = k->suite, .key = k->key[SEAL_TX], .ad = ad, .ad_len = sizeof ad
	};

	if (x > 0) {
		put_u64(out + h, explicit_nonce);
		nonce_explicit(a.nonce, k->iv[SEAL_TX], out + h);
	} else {
		nonce_xor(a.nonce, k->iv[SEAL_TX], n);
	}
	additional(ad, n, type, get_u16(out + 1), len);
	return aead_seal(&a, data, len, out + h + x);
}

int
open12(const struct seal *k, struct seal_ctx *c, uint64_t n, const uint8_t *rec, size_t len, uint8_t *out,
    size_t room, size_t *text_len)
{
	uint8_t ad[AD_LEN];
	size_t h = head_len(k), x = explicit_len(k);
	struct aead a = {
		.ctx = c, .suite = k->suite, .key = k->key[SEAL_RX], .ad = ad, .ad_len = sizeof ad
	};

	if (len < h + x + TAG_LEN)
		return SEAL_F_DECODE;
	size_t text = len - h - x - TAG_LEN;
	if (text > SEAL_PLAIN_MAX)
		return SEAL_F_LENGTH;
	if (text > room)
		return SEAL_F_ROOM;
	if (x > 0)
		nonce_explicit(a.nonce, k->iv[SEAL_RX], rec + h);
	else
		nonce_xor(a.nonce, k->iv[SEAL_RX], n);
	additional(ad, n, rec[0], get_u16(rec + 1), text);
	*text_len = text;
	return aead_open(&a, rec + h + x, text, out);
}
