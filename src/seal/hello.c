/* SPDX-License-Identifier: BSD-3-Clause */
/* hello.c: a DTLS ClientHello before anything is kept about its sender: the cookie exchange (RFC 6347 4.2.1). */
#include "config.h"

#include <sodium.h>

#include "seal_int.h"

#define HANDSHAKE_HEAD 12
#define CLIENT_HELLO 1
#define HELLO_VERIFY 3
#define DTLS10 0xfeffu
#define MAC_LEN (SEAL_COOKIE_LEN - 1)

static uint32_t
get_u24(const uint8_t *p)
{
	return (uint32_t)p[0] << 16 | get_u16(p + 1);
}

/* Body of a ClientHello (RFC 5246 7.4.1.2 with the cookie of RFC 6347), whole and with nothing behind it. */
static int
parse_body(struct seal_hello *h)
{
	struct rd r = rd_over(h->body, h->body_len);
	uint16_t n;

	h->version = rd_u16(&r);
	h->random = rd_bytes(&r, 32);
	n = rd_u8(&r);
	rd_bytes(&r, n);
	if (r.bad || n > 32)
		return SEAL_F_DECODE;
	h->cookie_at = (size_t)(r.p - h->body);
	h->cookie_len = rd_u8(&r);
	h->cookie = rd_bytes(&r, h->cookie_len);
	n = rd_u16(&r);
	rd_bytes(&r, n);
	if (r.bad || n == 0 || n % 2 != 0)
		return SEAL_F_DECODE;
	n = rd_u8(&r);
	rd_bytes(&r, n);
	if (r.bad || n == 0)
		return SEAL_F_DECODE;
	if (rd_left(&r) > 0)
		rd_bytes(&r, rd_u16(&r));
	return r.bad || rd_left(&r) != 0 ? SEAL_F_DECODE : SEAL_OK;
}

int
seal_hello_parse(struct seal_hello *h, const uint8_t *p, size_t n)
{
	struct seal_dhead head;
	int len = seal_dtls_head(&head, p, n);

	if (len < 0)
		return len;
	if (head.dclass != SEAL_D_HELLO || (size_t)len != n)
		return SEAL_F_TYPE;
	if (n < SEAL_DTLS_HEAD + HANDSHAKE_HEAD || n > SEAL_HELLO_MAX)
		return SEAL_F_LENGTH;
	const uint8_t *m = p + SEAL_DTLS_HEAD;
	uint32_t body = get_u24(m + 1);
	/* One whole message: what a fragment declares is believed by nobody (memory would be reserved for it). */
	if (m[0] != CLIENT_HELLO || get_u24(m + 6) != 0 || get_u24(m + 9) != body ||
	    body != n - SEAL_DTLS_HEAD - HANDSHAKE_HEAD)
		return SEAL_F_DECODE;
	struct seal_hello found = { .record_seq = head.seq, .message_seq = get_u16(m + 4),
		.body = m + HANDSHAKE_HEAD, .body_len = body };
	int fault = parse_body(&found);
	if (fault == SEAL_OK)
		*h = found;
	return fault;
}

/* Everything that the second hello must repeat, and who says it. */
static void
mac(uint8_t out[MAC_LEN], const uint8_t key[32], const struct addr *client, const struct seal_hello *h)
{
	crypto_generichash_state st;
	size_t after = h->cookie_at + 1 + h->cookie_len;

	crypto_generichash_init(&st, key, 32, MAC_LEN);
	crypto_generichash_update(&st, (const uint8_t *)client, sizeof *client);
	crypto_generichash_update(&st, h->body, h->cookie_at);
	crypto_generichash_update(&st, h->body + after, h->body_len - after);
	crypto_generichash_final(&st, out, MAC_LEN);
}

void
seal_cookie_make(uint8_t out[SEAL_COOKIE_LEN], const struct seal_cookie_keys *keys, const struct addr *client,
    const struct seal_hello *h)
{
	out[0] = keys->number[0];
	mac(out + 1, keys->key[0], client, h);
}

static bool
seal_cookie_ok(const struct seal_cookie_keys *keys, const struct addr *client, const struct seal_hello *h)
{
	uint8_t want[MAC_LEN];
	unsigned i;

	if (h->cookie_len != SEAL_COOKIE_LEN)
		return false;
	for (i = 0; i < 2 && keys->number[i] != h->cookie[0]; i++)
		;
	if (i == 2)
		return false;
	mac(want, keys->key[i], client, h);
	return sodium_memcmp(want, h->cookie + 1, MAC_LEN) == 0;
}

static void
put_u24(uint8_t *p, size_t v)
{
	p[0] = (uint8_t)(v >> 16);
	put_u16(p + 1, (uint16_t)v);
}

/* Headers of a record with one whole message in epoch 0; the body follows. */
static uint8_t *
put_heads(uint8_t *p, uint16_t version, uint64_t record_seq, uint8_t type, uint16_t message_seq, size_t body)
{
	p[0] = SEAL_T_HANDSHAKE;
	put_u16(p + 1, version);
	put_u64(p + 3, record_seq);
	put_u16(p + 11, (uint16_t)(HANDSHAKE_HEAD + body));
	p += SEAL_DTLS_HEAD;
	p[0] = type;
	put_u24(p + 1, body);
	put_u16(p + 4, message_seq);
	put_u24(p + 6, 0);
	put_u24(p + 9, body);
	return p + HANDSHAKE_HEAD;
}

enum seal_verdict
seal_hello_judge(const struct seal_cookie_keys *keys, const struct addr *client, const uint8_t *p, size_t n,
    uint8_t reply[SEAL_VERIFY_LEN])
{
	struct seal_hello h;

	if (seal_hello_parse(&h, p, n) != SEAL_OK)
		return SEAL_V_DROP;
	if (h.cookie_len > 0) {
		/* Numbered as the second message and not sent in the first record, or the handshake cannot be joined here. */
		bool right = h.message_seq == 1 && h.record_seq > 0 && seal_cookie_ok(keys, client, &h);
		return right ? SEAL_V_PASS : SEAL_V_DROP;
	}
	if (h.message_seq != 0)
		return SEAL_V_DROP;
	/* The record's number is the hello's, and the version 1.0 whatever is chosen later (RFC 6347 4.2.1). */
	uint8_t *body = put_heads(reply, DTLS10, h.record_seq, HELLO_VERIFY, 0, 3 + SEAL_COOKIE_LEN);
	put_u16(body, DTLS10);
	body[2] = SEAL_COOKIE_LEN;
	seal_cookie_make(body + 3, keys, client, &h);
	return SEAL_V_VERIFY;
}

size_t
seal_hello_first(uint8_t *out, const struct seal_hello *h)
{
	size_t after = h->cookie_at + 1 + h->cookie_len, body = h->body_len - h->cookie_len;
	uint8_t *p = put_heads(out, DTLS10, h->record_seq - 1, CLIENT_HELLO, 0, body);

	memcpy(p, h->body, h->cookie_at);
	p[h->cookie_at] = 0;
	memcpy(p + h->cookie_at + 1, h->body + after, h->body_len - after);
	return SEAL_DTLS_HEAD + HANDSHAKE_HEAD + body;
}
