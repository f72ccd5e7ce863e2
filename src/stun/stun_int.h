/* SPDX-License-Identifier: BSD-3-Clause */
/* stun_int.h: what the files of stun share among themselves. */
#ifndef TP_STUN_INT_H
#define TP_STUN_INT_H

#include "tp/stun.h"

#define ATTR_HEADER     4
#define FINGERPRINT_XOR 0x5354554eu /* "STUN", RFC 8489 14.7 */
#define SHA1_LEN        20
#define SHA256_LEN      32
#define WIRE_V4         1 /* family on the wire, RFC 8489 14.1 */
#define WIRE_V6         2

/* Length on the wire of a value of len bytes. */
static inline size_t
padded(size_t len)
{
	return (len + 3) & ~(size_t)3;
}

/* X-Address to address and back: port and IPv4 with the cookie, IPv6 with cookie and transaction id. */
void stun_xor_ip(uint8_t ip[16], unsigned n, const uint8_t txid[STUN_TXID]);

/*
 * HMAC over a message as if it ended at body_len bytes behind its header (RFC 8489 14.5): the header is
 * hashed from a copy that says body_len, then raw[STUN_HEADER] up to raw[upto].
 */
void stun_hmac_sha1(const uint8_t *raw, size_t upto, size_t body_len, const uint8_t *key, size_t key_len,
    uint8_t out[SHA1_LEN]);
void stun_hmac_sha256(const uint8_t *raw, size_t upto, size_t body_len, const uint8_t *key, size_t key_len,
    uint8_t out[SHA256_LEN]);

#endif
