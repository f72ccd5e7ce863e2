/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * nonce.c: the stateless nonce.
 *
 *	o b M a t J o s 2   F F F F   T T M M M M M M M M M
 *	cookie, RFC 8489 9.2.1        11 base64 characters = 66 bits:
 *	        feature bits          16 of time, 50 of MAC
 */
#include "config.h"

#include <sodium.h>

#include "tp/auth.h"

#define COOKIE     "obMatJos2"
#define COOKIE_LEN 9
#define BITS_LEN   4
#define TAIL_LEN   11
#define UNIT_MS    8000u /* of the 16 bits of time: they wrap after six days, keys after two hours */

_Static_assert(COOKIE_LEN + BITS_LEN + TAIL_LEN == NONCE_LEN, "the nonce is cookie, bits, tail");

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static int
sextet(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* The MAC's 50 bits, right-aligned. */
static uint64_t
nonce_mac(const uint8_t key[32], uint16_t when, uint32_t bits, const struct nonce_for *f)
{
	crypto_generichash_state st;
	uint8_t head[10 + 16], sum[16];

	put_u16(head, when);
	put_u32(head + 2, bits);
	head[6] = f->client.family;
	head[7] = f->transport;
	put_u16(head + 8, f->client.port);
	memcpy(head + 10, f->client.ip, 16);
	crypto_generichash_init(&st, key, 32, sizeof sum);
	crypto_generichash_update(&st, head, sizeof head);
	crypto_generichash_update(&st, (const uint8_t *)f->realm, f->realm_len);
	crypto_generichash_final(&st, sum, sizeof sum);
	return get_u64(sum) >> 14;
}

void
nonce_make(
    char out[NONCE_LEN], const struct nonce_keys *k, uint32_t bits, const struct nonce_for *f, tp_ms now)
{
	uint16_t when = (uint16_t)(now / UNIT_MS);
	uint64_t mac = nonce_mac(k->key[0], when, bits, f);
	char *p = out + COOKIE_LEN;

	memcpy(out, COOKIE, COOKIE_LEN);
	for (unsigned i = 0; i < BITS_LEN; i++)
		*p++ = alphabet[bits >> (18 - 6 * i) & 63];
	/* 66 bits: 12 of time; 4 of time and 2 of MAC; 48 of MAC. */
	*p++ = alphabet[when >> 10];
	*p++ = alphabet[when >> 4 & 63];
	*p++ = alphabet[(when & 15) << 2 | (unsigned)(mac >> 48)];
	for (int shift = 42; shift >= 0; shift -= 6)
		*p++ = alphabet[mac >> shift & 63];
}

/* The feature bits behind the nonce cookie, unverified; 0 without one. */
static uint32_t
claimed_bits(const char *nonce, size_t len)
{
	uint32_t bits = 0;

	if (len < COOKIE_LEN + BITS_LEN || memcmp(nonce, COOKIE, COOKIE_LEN) != 0)
		return 0;
	for (unsigned i = 0; i < BITS_LEN; i++) {
		int v = sextet(nonce[COOKIE_LEN + i]);

		if (v < 0)
			return 0;
		bits = bits << 6 | (uint32_t)v;
	}
	return bits;
}

/* False when it is not of our form. */
static bool
take_apart(const char *nonce, size_t len, uint32_t *bits, uint16_t *when, uint64_t *mac)
{
	uint8_t v[BITS_LEN + TAIL_LEN];

	if (len != NONCE_LEN || memcmp(nonce, COOKIE, COOKIE_LEN) != 0)
		return false;
	for (unsigned i = 0; i < sizeof v; i++) {
		int s = sextet(nonce[COOKIE_LEN + i]);

		if (s < 0)
			return false;
		v[i] = (uint8_t)s;
	}
	*bits = (uint32_t)v[0] << 18 | (uint32_t)v[1] << 12 | (uint32_t)v[2] << 6 | v[3];
	*when = (uint16_t)(v[4] << 10 | v[5] << 4 | v[6] >> 2);
	*mac = v[6] & 3u;
	for (unsigned i = 7; i < sizeof v; i++)
		*mac = *mac << 6 | v[i];
	return true;
}

enum nonce_verdict
nonce_judge(const void *nonce, size_t len, const struct nonce_keys *k, const struct nonce_for *f, tp_ms now,
    tp_ms lifetime, uint32_t *bits)
{
	uint32_t b;
	uint16_t when, age;
	uint64_t mac;
	bool ours = false;

	*bits = claimed_bits(nonce, len);
	if (!take_apart(nonce, len, &b, &when, &mac))
		return NONCE_FOREIGN;
	for (unsigned i = 0; i < 2 && !ours; i++) {
		uint64_t want = nonce_mac(k->key[i], when, b, f);

		ours = sodium_memcmp(&want, &mac, sizeof mac) == 0;
	}
	if (!ours)
		return NONCE_FOREIGN;
	age = (uint16_t)(now / UNIT_MS - when);
	if (age >= 0x8000) /* another worker's batch began a unit later than ours */
		age = 0;
	/* Rounded so that none is stale before its time. */
	return (tp_ms)age * UNIT_MS >= lifetime + UNIT_MS ? NONCE_STALE : NONCE_GOOD;
}
