/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * sign.c: message integrity, long-term keys, the checksum of FINGERPRINT.
 *
 * The hashes are libcrypto's low-level functions with contexts on the stack.  They are marked deprecated
 * in favour of EVP, which takes a heap object and a provider lookup per call: several times the cost of
 * hashing one STUN message, and this room must not touch the heap.
 */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "config.h"

#include <openssl/md5.h>
#include <openssl/sha.h>
#include <sodium.h>

#include "stun_int.h"

#define BLOCK 64 /* of SHA-1 and SHA-256 */

/* The copied header that says body_len. */
static void
adjusted_header(uint8_t out[STUN_HEADER], const uint8_t *raw, size_t body_len)
{
	memcpy(out, raw, STUN_HEADER);
	put_u16(out + 2, (uint16_t)body_len);
}

static void
xor_block(uint8_t block[BLOCK], uint8_t with)
{
	for (unsigned i = 0; i < BLOCK; i++)
		block[i] ^= with;
}

/* HMAC, RFC 2104: hash(key ^ opad, hash(key ^ ipad, text)); a key over one block is hashed first. */
void
stun_hmac_sha1(const uint8_t *raw, size_t upto, size_t body_len, const uint8_t *key, size_t key_len,
    uint8_t out[SHA1_LEN])
{
	uint8_t block[BLOCK] = { 0 }, head[STUN_HEADER];
	SHA_CTX c;

	if (key_len > BLOCK)
		SHA1(key, key_len, block);
	else if (key_len > 0)
		memcpy(block, key, key_len);
	adjusted_header(head, raw, body_len);
	xor_block(block, 0x36);
	SHA1_Init(&c);
	SHA1_Update(&c, block, BLOCK);
	SHA1_Update(&c, head, STUN_HEADER);
	SHA1_Update(&c, raw + STUN_HEADER, upto - STUN_HEADER);
	SHA1_Final(out, &c);
	xor_block(block, 0x36 ^ 0x5c);
	SHA1_Init(&c);
	SHA1_Update(&c, block, BLOCK);
	SHA1_Update(&c, out, SHA1_LEN);
	SHA1_Final(out, &c);
	sodium_memzero(block, sizeof block);
	sodium_memzero(&c, sizeof c);
}

void
stun_hmac_sha256(const uint8_t *raw, size_t upto, size_t body_len, const uint8_t *key, size_t key_len,
    uint8_t out[SHA256_LEN])
{
	uint8_t block[BLOCK] = { 0 }, head[STUN_HEADER];
	SHA256_CTX c;

	if (key_len > BLOCK)
		SHA256(key, key_len, block);
	else if (key_len > 0)
		memcpy(block, key, key_len);
	adjusted_header(head, raw, body_len);
	xor_block(block, 0x36);
	SHA256_Init(&c);
	SHA256_Update(&c, block, BLOCK);
	SHA256_Update(&c, head, STUN_HEADER);
	SHA256_Update(&c, raw + STUN_HEADER, upto - STUN_HEADER);
	SHA256_Final(out, &c);
	xor_block(block, 0x36 ^ 0x5c);
	SHA256_Init(&c);
	SHA256_Update(&c, block, BLOCK);
	SHA256_Update(&c, out, SHA256_LEN);
	SHA256_Final(out, &c);
	sodium_memzero(block, sizeof block);
	sodium_memzero(&c, sizeof c);
}

bool
stun_check_mi(const struct stun_msg *m, const uint8_t *key, size_t key_len)
{
	uint8_t want[SHA1_LEN];
	size_t off = m->mi_off;

	if (off == 0 || get_u16(m->raw + off + 2) != SHA1_LEN)
		return false;
	stun_hmac_sha1(m->raw, off, off + ATTR_HEADER + SHA1_LEN - STUN_HEADER, key, key_len, want);
	return sodium_memcmp(want, m->raw + off + ATTR_HEADER, SHA1_LEN) == 0;
}

bool
stun_check_mi256(const struct stun_msg *m, const uint8_t *key, size_t key_len)
{
	uint8_t want[SHA256_LEN];
	size_t off = m->mi256_off, len = m->mi256_len;

	/* RFC 8489 14.6: a usage must say that truncation is allowed, and RFC 8656 does not. */
	if (off == 0 || len != SHA256_LEN)
		return false;
	stun_hmac_sha256(m->raw, off, off + ATTR_HEADER + len - STUN_HEADER, key, key_len, want);
	return sodium_memcmp(want, m->raw + off + ATTR_HEADER, len) == 0;
}

/* ---- keys --------------------------------------------------------------------------------- */

static void
key_md5(const void *const part[5], const size_t len[5], uint8_t *out)
{
	MD5_CTX c;

	MD5_Init(&c);
	for (unsigned i = 0; i < 5; i++)
		MD5_Update(&c, part[i], len[i]);
	MD5_Final(out, &c);
	sodium_memzero(&c, sizeof c);
}

static void
key_sha256(const void *const part[], const size_t len[], unsigned n, uint8_t *out)
{
	SHA256_CTX c;

	SHA256_Init(&c);
	for (unsigned i = 0; i < n; i++)
		SHA256_Update(&c, part[i], len[i]);
	SHA256_Final(out, &c);
	sodium_memzero(&c, sizeof c);
}

size_t
stun_key(enum stun_alg alg, const void *user, size_t user_len, const void *realm, size_t realm_len,
    const void *password, size_t password_len, uint8_t out[STUN_KEY_MAX])
{
	const void *const part[5] = { user, ":", realm, ":", password };
	const size_t len[5] = { user_len, 1, realm_len, 1, password_len };

	switch (alg) {
	case STUN_ALG_MD5:
		key_md5(part, len, out);
		return MD5_DIGEST_LENGTH;
	case STUN_ALG_SHA256:
		key_sha256(part, len, 5, out);
		return SHA256_LEN;
	case STUN_ALG_NONE:
		break;
	}
	return 0;
}

void
stun_userhash(const void *user, size_t user_len, const void *realm, size_t realm_len, uint8_t out[32])
{
	const void *const part[3] = { user, ":", realm };
	const size_t len[3] = { user_len, 1, realm_len };

	key_sha256(part, len, 3, out);
}

/* ---- CRC-32 ------------------------------------------------------------------------------- */

/*
 * Slicing by 8 (reflected polynomial 0xEDB88320).  A table entry is linear in the bits of its index, so
 * each of the eight tables follows from its entries for 1, 2, 4 .. 128: row k is that basis of table k,
 * which is the checksum of the byte followed by k zero bytes.
 */
#define BASIS_0                                                                                            \
	0x77073096u, 0xee0e612cu, 0x076dc419u, 0x0edb8832u, 0x1db71064u, 0x3b6e20c8u, 0x76dc4190u,         \
	    0xedb88320u
#define BASIS_1                                                                                            \
	0x191b3141u, 0x32366282u, 0x646cc504u, 0xc8d98a08u, 0x4ac21251u, 0x958424a2u, 0xf0794f05u,         \
	    0x3b83984bu
#define BASIS_2                                                                                            \
	0x01c26a37u, 0x0384d46eu, 0x0709a8dcu, 0x0e1351b8u, 0x1c26a370u, 0x384d46e0u, 0x709a8dc0u,         \
	    0xe1351b80u
#define BASIS_3                                                                                            \
	0xb8bc6765u, 0xaa09c88bu, 0x8f629757u, 0xc5b428efu, 0x5019579fu, 0xa032af3eu, 0x9b14583du,         \
	    0xed59b63bu
#define BASIS_4                                                                                            \
	0x3d6029b0u, 0x7ac05360u, 0xf580a6c0u, 0x30704bc1u, 0x60e09782u, 0xc1c12f04u, 0x58f35849u,         \
	    0xb1e6b092u
#define BASIS_5                                                                                            \
	0xcb5cd3a5u, 0x4dc8a10bu, 0x9b914216u, 0xec53826du, 0x03d6029bu, 0x07ac0536u, 0x0f580a6cu,         \
	    0x1eb014d8u
#define BASIS_6                                                                                            \
	0xa6770bb4u, 0x979f1129u, 0xf44f2413u, 0x33ef4e67u, 0x67de9cceu, 0xcfbd399cu, 0x440b7579u,         \
	    0x8816eaf2u
#define BASIS_7                                                                                            \
	0xccaa009eu, 0x4225077du, 0x844a0efau, 0xd3e51bb5u, 0x7cbb312bu, 0xf9766256u, 0x299dc2edu,         \
	    0x533b85dau

#define BIT(i, b, v) ((i) >> (b)&1 ? (v) : 0u)
#define ENTRY(i, b0, b1, b2, b3, b4, b5, b6, b7)                                                           \
	(BIT(i, 0, b0) ^ BIT(i, 1, b1) ^ BIT(i, 2, b2) ^ BIT(i, 3, b3) ^ BIT(i, 4, b4) ^ BIT(i, 5, b5) ^   \
	    BIT(i, 6, b6) ^ BIT(i, 7, b7))
#define E1(i, ...) ENTRY(i, __VA_ARGS__)
#define E4(i, ...)                                                                                         \
	E1(i, __VA_ARGS__), E1((i) + 1, __VA_ARGS__), E1((i) + 2, __VA_ARGS__), E1((i) + 3, __VA_ARGS__)
#define E16(i, ...)                                                                                        \
	E4(i, __VA_ARGS__), E4((i) + 4, __VA_ARGS__), E4((i) + 8, __VA_ARGS__), E4((i) + 12, __VA_ARGS__)
#define E64(i, ...)                                                                                        \
	E16(i, __VA_ARGS__), E16((i) + 16, __VA_ARGS__), E16((i) + 32, __VA_ARGS__),                       \
	    E16((i) + 48, __VA_ARGS__)
#define TABLE(...)                                                                                         \
	{                                                                                                  \
		E64(0, __VA_ARGS__), E64(64, __VA_ARGS__), E64(128, __VA_ARGS__), E64(192, __VA_ARGS__)    \
	}

static const uint32_t crc_table[8][256] = {
	TABLE(BASIS_0),
	TABLE(BASIS_1),
	TABLE(BASIS_2),
	TABLE(BASIS_3),
	TABLE(BASIS_4),
	TABLE(BASIS_5),
	TABLE(BASIS_6),
	TABLE(BASIS_7),
};

static inline uint32_t
get_le32(const uint8_t *p)
{
	return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

uint32_t
stun_crc32(const void *bytes, size_t n)
{
	const uint8_t *p = bytes;
	uint32_t c = 0xffffffffu;

	for (; n >= 8; n -= 8, p += 8) {
		uint32_t lo = get_le32(p) ^ c, hi = get_le32(p + 4);

		c = crc_table[7][lo & 0xff] ^ crc_table[6][lo >> 8 & 0xff] ^ crc_table[5][lo >> 16 & 0xff] ^
		    crc_table[4][lo >> 24] ^ crc_table[3][hi & 0xff] ^ crc_table[2][hi >> 8 & 0xff] ^
		    crc_table[1][hi >> 16 & 0xff] ^ crc_table[0][hi >> 24];
	}
	for (; n > 0; n--, p++)
		c = c >> 8 ^ crc_table[0][(c ^ *p) & 0xff];
	return ~c;
}
