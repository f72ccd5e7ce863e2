/* SPDX-License-Identifier: BSD-3-Clause */
/* check_stun_sign.c: sign.c against libcrypto's one-shot HMAC and a bit-by-bit CRC. */
#include "config.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "check_stun.h"

static const uint8_t txid[STUN_TXID] = "abcdefghijkl";

static uint32_t
crc_by_bits(const uint8_t *p, size_t n)
{
	uint32_t c = 0xffffffffu;

	while (n-- > 0) {
		c ^= *p++;
		for (unsigned i = 0; i < 8; i++)
			c = c >> 1 ^ (c & 1 ? 0xedb88320u : 0);
	}
	return ~c;
}

START_TEST(crc)
{
	uint8_t buf[300];

	for (unsigned i = 0; i < sizeof buf; i++)
		buf[i] = (uint8_t)(i * 151u + (i >> 3));
	ck_assert_uint_eq(stun_crc32("123456789", 9), 0xcbf43926u);
	ck_assert_uint_eq(stun_crc32("", 0), 0);
	for (size_t start = 0; start < 8; start++)
		for (size_t n = 0; n + start < sizeof buf; n++) {
			const uint8_t *p = at_the_edge(buf + start, n);

			ck_assert_uint_eq(stun_crc32(p, n), crc_by_bits(p, n));
		}
	/* Each byte value at each place of a block: every entry of every table. */
	for (unsigned v = 0; v < 256; v++)
		for (unsigned at = 0; at < 8; at++) {
			uint8_t b[8] = { 0 };

			b[at] = (uint8_t)v;
			ck_assert_uint_eq(stun_crc32(b, 8), crc_by_bits(b, 8));
		}
}
END_TEST

/* Signs with the builder, checks the bytes against libcrypto, then checks. */
START_TEST(keys_of_every_length)
{
	uint8_t key[200], buf[300], head[300], mac[64];
	unsigned mac_len;

	for (unsigned i = 0; i < sizeof key; i++)
		key[i] = (uint8_t)(i * 7u);
	for (size_t n = 0; n <= sizeof key; n++) {
		struct stun_out o;
		struct stun_msg m;
		size_t len;

		stun_begin(&o, buf, sizeof buf, STUN_REQUEST, STUN_REFRESH, txid);
		stun_put_bytes(&o, STUN_A_USERNAME, "user", n % 5);
		stun_put_mi(&o, key, n);
		stun_put_mi256(&o, key, n);
		stun_put_fingerprint(&o);
		len = stun_end(&o);
		ck_assert_uint_gt(len, 0);
		ck_assert_int_eq(stun_parse(&m, at_the_edge(buf, len), len), STUN_OK);
		ck_assert(stun_check_mi(&m, key, n));
		ck_assert(stun_check_mi256(&m, key, n));

		memcpy(head, buf, len);
		put_u16(head + 2, (uint16_t)(m.mi_off + 24 - STUN_HEADER));
		HMAC(EVP_sha1(), key, (int)n, head, m.mi_off, mac, &mac_len);
		ck_assert_mem_eq(mac, buf + m.mi_off + 4, 20);
		put_u16(head + 2, (uint16_t)(m.mi256_off + 36 - STUN_HEADER));
		HMAC(EVP_sha256(), key, (int)n, head, m.mi256_off, mac, &mac_len);
		ck_assert_mem_eq(mac, buf + m.mi256_off + 4, 32);
	}
}
END_TEST

/* Message with MESSAGE-INTEGRITY-SHA256 cut to `keep` bytes; the HMAC is over the length it then has. */
static size_t
truncated(uint8_t *buf, unsigned keep, const uint8_t key[32])
{
	size_t len = STUN_HEADER + 4 + ((keep + 3u) & ~3u);
	uint8_t mac[32];
	unsigned mac_len;

	memset(buf, 0, len);
	put_u16(buf, STUN_BINDING);
	put_u16(buf + 2, (uint16_t)(len - STUN_HEADER));
	put_u32(buf + 4, STUN_COOKIE);
	HMAC(EVP_sha256(), key, 32, buf, STUN_HEADER, mac, &mac_len);
	put_u16(buf + STUN_HEADER, STUN_A_MESSAGE_INTEGRITY_SHA256);
	put_u16(buf + STUN_HEADER + 2, (uint16_t)keep);
	memcpy(buf + STUN_HEADER + 4, mac, keep < 32 ? keep : 32);
	return len;
}

START_TEST(sha256_lengths)
{
	static const uint8_t key[32] = "key";
	uint8_t buf[100];

	for (unsigned keep = 0; keep <= 40; keep++) {
		size_t len = truncated(buf, keep, key);
		struct stun_msg m;

		ck_assert_int_eq(stun_parse(&m, at_the_edge(buf, len), len), STUN_OK);
		ck_assert_int_eq(stun_check_mi256(&m, key, 32), keep == 32);
	}
}
END_TEST

START_TEST(sha1_lengths)
{
	static const uint8_t mac[32];
	uint8_t buf[100];

	for (size_t n = 0; n <= 32; n++) {
		struct stun_out o;
		struct stun_msg m;
		size_t len;

		stun_begin(&o, buf, sizeof buf, STUN_REQUEST, STUN_BINDING, txid);
		stun_put_bytes(&o, STUN_A_MESSAGE_INTEGRITY, mac, n);
		len = stun_end(&o);
		ck_assert_int_eq(stun_parse(&m, at_the_edge(buf, len), len), STUN_OK);
		ck_assert(!stun_check_mi(&m, (const uint8_t *)"k", 1));
	}
}
END_TEST

/* Bytes behind the integrity attribute do not matter to it, every bit before it does. */
START_TEST(every_flip_is_noticed)
{
	uint8_t copy[sizeof vectors[0].bytes];
	const struct vector *v = &vectors[V_LONG_TERM];
	uint8_t key[STUN_KEY_MAX];
	struct stun_msg m;

	ck_assert_int_eq(stun_parse(&m, v->bytes, v->len), STUN_OK);
	stun_key(STUN_ALG_MD5, v->bytes + 24, 18, "example.org", 11, "TheMatrIX", 9, key);
	ck_assert(stun_check_mi(&m, key, 16));
	for (size_t bit = 0; bit < v->len * 8; bit++) {
		memcpy(copy, v->bytes, v->len);
		copy[bit / 8] ^= (uint8_t)(1u << bit % 8);
		if (stun_parse(&m, at_the_edge(copy, v->len), v->len) == STUN_OK)
			ck_assert_msg(!stun_check_mi(&m, key, 16), "bit %zu", bit);
	}
}
END_TEST

START_TEST(key_algorithms)
{
	uint8_t key[STUN_KEY_MAX] = { 0 }, md[64];
	unsigned n;

	ck_assert_uint_eq(stun_key(STUN_ALG_MD5, "u", 1, "r", 1, "p", 1, key), 16);
	EVP_Digest("u:r:p", 5, md, &n, EVP_md5(), NULL);
	ck_assert_mem_eq(key, md, 16);
	ck_assert_uint_eq(stun_key(STUN_ALG_SHA256, "u", 1, "r", 1, "", 0, key), 32);
	EVP_Digest("u:r:", 4, md, &n, EVP_sha256(), NULL);
	ck_assert_mem_eq(key, md, 32);
	ck_assert_uint_eq(stun_key(STUN_ALG_NONE, "u", 1, "r", 1, "p", 1, key), 0);
	ck_assert_uint_eq(stun_key((enum stun_alg)9, "u", 1, "r", 1, "p", 1, key), 0);
}
END_TEST

Suite *
suite_sign(void)
{
	Suite *s = suite_create("sign");
	TCase *t = tcase_create("sign");

	tcase_add_test(t, crc);
	tcase_add_test(t, keys_of_every_length);
	tcase_add_test(t, sha256_lengths);
	tcase_add_test(t, sha1_lengths);
	tcase_add_test(t, every_flip_is_noticed);
	tcase_add_test(t, key_algorithms);
	suite_add_tcase(s, t);
	return s;
}
