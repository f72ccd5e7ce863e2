/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * build.c: messages written into the caller's buffer.
 */
#include "config.h"

#include "stun_int.h"

static uint16_t
message_type(enum stun_class cls, uint16_t method)
{
	unsigned c = cls, m = method;

	return (
	    uint16_t)((m & 0x0f80) << 2 | (m & 0x0070) << 1 | (m & 0x000f) | (c & 2) << 7 | (c & 1) << 4);
}

static void
put_header(uint8_t *p, enum stun_class cls, uint16_t method, size_t body_len, const uint8_t txid[STUN_TXID])
{
	put_u16(p, message_type(cls, method));
	put_u16(p + 2, (uint16_t)body_len);
	put_u32(p + 4, STUN_COOKIE);
	memcpy(p + 8, txid, STUN_TXID);
}

void
stun_begin(struct stun_out *o, void *buf, size_t cap, enum stun_class cls, uint16_t method,
    const uint8_t txid[STUN_TXID])
{
	uint8_t *p;

	/* The same limit as stun_parse()'s: everything built can be parsed. */
	o->w = wr_over(buf, cap < UINT16_MAX ? cap : UINT16_MAX);
	memcpy(o->txid, txid, STUN_TXID);
	p = wr_room(&o->w, STUN_HEADER);
	if (p != NULL)
		put_header(p, cls, method, 0, txid);
}

/* Header and padding of an attribute; returns where the value goes, or NULL. */
static uint8_t *
put_attr(struct stun_out *o, uint16_t type, size_t len)
{
	uint8_t *p;

	if (len > UINT16_MAX) {
		o->w.bad = true;
		return NULL;
	}
	p = wr_room(&o->w, ATTR_HEADER + padded(len));
	if (p == NULL)
		return NULL;
	put_u16(p, type);
	put_u16(p + 2, (uint16_t)len);
	memset(p + ATTR_HEADER + len, 0, padded(len) - len);
	return p + ATTR_HEADER;
}

void
stun_put_bytes(struct stun_out *o, uint16_t type, const void *value, size_t len)
{
	uint8_t *p = put_attr(o, type, len);

	if (p != NULL && len > 0)
		memcpy(p, value, len);
}

void
stun_put_u32(struct stun_out *o, uint16_t type, uint32_t v)
{
	uint8_t *p = put_attr(o, type, 4);

	if (p != NULL)
		put_u32(p, v);
}

/* The value of an address attribute; txid NULL: plain, otherwise XORed.  Returns its length. */
static size_t
write_addr(uint8_t *p, const struct addr *a, const uint8_t *txid)
{
	unsigned n = addr_iplen(a);

	p[0] = 0;
	p[1] = a->family == ADDR_V4 ? WIRE_V4 : WIRE_V6;
	put_u16(p + 2, txid != NULL ? (uint16_t)(a->port ^ (STUN_COOKIE >> 16)) : a->port);
	memcpy(p + 4, a->ip, n);
	if (txid != NULL)
		stun_xor_ip(p + 4, n, txid);
	return 4 + n;
}

static void
put_any_addr(struct stun_out *o, uint16_t type, const struct addr *a, const uint8_t *txid)
{
	uint8_t *p;

	if (a->family != ADDR_V4 && a->family != ADDR_V6) {
		o->w.bad = true;
		return;
	}
	p = put_attr(o, type, 4 + addr_iplen(a));
	if (p != NULL)
		write_addr(p, a, txid);
}

void
stun_put_xaddr(struct stun_out *o, uint16_t type, const struct addr *a)
{
	put_any_addr(o, type, a, o->txid);
}

void
stun_put_addr(struct stun_out *o, uint16_t type, const struct addr *a)
{
	put_any_addr(o, type, a, NULL);
}

void
stun_put_error(struct stun_out *o, unsigned code, bool phrase)
{
	const char *text = phrase ? stun_error_phrase(code) : "";
	uint8_t *p = put_attr(o, STUN_A_ERROR_CODE, 4 + strlen(text));

	if (p == NULL)
		return;
	put_u32(p, (code / 100) << 8 | code % 100);
	memcpy(p + 4, text, strlen(text));
}

void
stun_put_address_error(struct stun_out *o, uint8_t family, unsigned code)
{
	uint32_t wire = family == ADDR_V4 ? WIRE_V4 : WIRE_V6;
	const char *text = stun_error_phrase(code);
	uint8_t *p = put_attr(o, STUN_A_ADDRESS_ERROR_CODE, 4 + strlen(text));

	if (p == NULL)
		return;
	put_u32(p, wire << 24 | (code / 100) << 8 | code % 100);
	memcpy(p + 4, text, strlen(text));
}

void
stun_put_unknown(struct stun_out *o, const uint16_t *types, unsigned n)
{
	uint8_t *p = put_attr(o, STUN_A_UNKNOWN_ATTRIBUTES, 2u * (size_t)n);

	for (unsigned i = 0; p != NULL && i < n; i++)
		put_u16(p + 2 * i, types[i]);
}

void
stun_put_icmp(struct stun_out *o, uint8_t type, uint8_t code, uint32_t data)
{
	uint8_t *p;

	/* The type has 7 bits and the code 9: error types are below 128 in both ICMPs. */
	if (type > 127) {
		o->w.bad = true;
		return;
	}
	p = put_attr(o, STUN_A_ICMP, 8);
	if (p == NULL)
		return;
	put_u16(p, 0);
	put_u16(p + 2, (uint16_t)(type << 9 | code));
	put_u32(p + 4, data);
}

/* ---- integrity ---------------------------------------------------------------------------- */

void
stun_put_mi(struct stun_out *o, const uint8_t *key, size_t key_len)
{
	size_t upto = wr_len(&o->w);
	uint8_t *p = put_attr(o, STUN_A_MESSAGE_INTEGRITY, SHA1_LEN);

	if (p != NULL)
		stun_hmac_sha1(o->w.base, upto, wr_len(&o->w) - STUN_HEADER, key, key_len, p);
}

void
stun_put_mi256(struct stun_out *o, const uint8_t *key, size_t key_len)
{
	size_t upto = wr_len(&o->w);
	uint8_t *p = put_attr(o, STUN_A_MESSAGE_INTEGRITY_SHA256, SHA256_LEN);

	if (p != NULL)
		stun_hmac_sha256(o->w.base, upto, wr_len(&o->w) - STUN_HEADER, key, key_len, p);
}

void
stun_put_fingerprint(struct stun_out *o)
{
	size_t upto = wr_len(&o->w);
	uint8_t *p = put_attr(o, STUN_A_FINGERPRINT, 4);

	if (p == NULL)
		return;
	/* The checksum covers the header, so its length must count this attribute already. */
	put_u16(o->w.base + 2, (uint16_t)(wr_len(&o->w) - STUN_HEADER));
	put_u32(p, stun_crc32(o->w.base, upto) ^ FINGERPRINT_XOR);
}

size_t
stun_end(struct stun_out *o)
{
	if (o->w.bad)
		return 0;
	put_u16(o->w.base + 2, (uint16_t)(wr_len(&o->w) - STUN_HEADER));
	return wr_len(&o->w);
}

/* ---- the data path ------------------------------------------------------------------------ */

uint8_t *
stun_data_indication(
    uint8_t *payload, size_t len, const struct addr *peer, const uint8_t txid[STUN_TXID], size_t *total)
{
	size_t addr_len = 4 + addr_iplen(peer);
	size_t head = STUN_HEADER + ATTR_HEADER + addr_len + ATTR_HEADER;
	size_t all = head + padded(len);
	uint8_t *start = payload - head, *p = start + STUN_HEADER;

	if (all > FRAME_STREAM_MAX) {
		*total = 0;
		return NULL;
	}
	put_header(start, STUN_INDICATION, STUN_DATA, all - STUN_HEADER, txid);
	put_u16(p, STUN_A_XOR_PEER_ADDRESS);
	put_u16(p + 2, (uint16_t)addr_len);
	p += ATTR_HEADER;
	p += write_addr(p, peer, txid);
	put_u16(p, STUN_A_DATA);
	put_u16(p + 2, (uint16_t)len);
	memset(payload + len, 0, padded(len) - len);
	*total = all;
	return start;
}
