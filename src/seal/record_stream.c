/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * record_stream.c: TLS 1.2 and 1.3 records on a byte stream.  State goes in as a value and comes out as
 * one; nothing is changed.
 */
#include "config.h"

#include "seal_int.h"

size_t
seal_before(const struct seal *k)
{
	return head_len(k) + explicit_len(k);
}

size_t
seal_after(const struct seal *k)
{
	return k->proto == SEAL_TLS13 ? 1 + TAG_LEN : TAG_LEN;
}

size_t
seal_plain_max(const struct seal *k)
{
	return k->fragment == 0 ? SEAL_PLAIN_MAX : (size_t)256 << k->fragment;
}

/* The only outer types that an established session has: after the handshake TLS 1.3 hides them all and
 * sends no ChangeCipherSpec any more (RFC 8446 5); in TLS 1.2 that would be a renegotiation. */
static bool
outer_type_ok(const struct seal *k, uint8_t type)
{
	return type == SEAL_T_DATA ||
	    (k->proto == SEAL_TLS12 && (type == SEAL_T_ALERT || type == SEAL_T_HANDSHAKE));
}

int
seal_stream_len(const struct seal *k, const uint8_t *p, size_t n)
{
	if (n > 0 && !outer_type_ok(k, p[0]))
		return SEAL_F_TYPE;
	if (n < SEAL_HEAD)
		return 0;
	if (get_u16(p + 1) != VERSION_TLS12)
		return SEAL_F_TYPE;
	size_t len = SEAL_HEAD + (size_t)get_u16(p + 3);
	if (len > SEAL_RECORD_MAX)
		return SEAL_F_LENGTH;
	if (len < seal_before(k) + seal_after(k))
		return SEAL_F_DECODE;
	return (int)len;
}

static bool
overlap(const uint8_t *a, size_t an, const uint8_t *b, size_t bn)
{
	uintptr_t x = (uintptr_t)a, y = (uintptr_t)b;

	return x < y + bn && y < x + an;
}

/* RFC 8446 5.2-5.4: the type is the last byte that is not zero. */
static int
open13(const struct seal *k, uint64_t n, struct seal_ctx *c, const uint8_t *rec, size_t len, uint8_t *out,
    size_t room, struct seal_in *in)
{
	struct aead a = {
		.ctx = c, .suite = k->suite, .key = k->key[SEAL_RX], .ad = rec, .ad_len = SEAL_HEAD
	};
	size_t text = len - SEAL_HEAD - TAG_LEN;

	if (text > SEAL_PLAIN_MAX + 1)
		return SEAL_F_LENGTH;
	if (text > room)
		return SEAL_F_ROOM;
	nonce_xor(a.nonce, k->iv[SEAL_RX], n);
	int fault = aead_open(&a, rec + SEAL_HEAD, text, out);
	if (fault != SEAL_OK)
		return fault;
	while (text > 0 && out[text - 1] == 0)
		text--;
	if (text == 0)
		return SEAL_F_TYPE;
	in->type = out[text - 1];
	in->len = text - 1;
	return SEAL_OK;
}

static bool
ready(const struct seal *k, const struct seal_pos *pos, enum seal_way way)
{
	return seal_valid(k) && k->proto != SEAL_DTLS12 && k->gen[way] == pos->gen[way];
}

int
seal_open(const struct seal *k, const struct seal_pos *pos, struct seal_ctx *c, const uint8_t *rec,
    size_t len, uint8_t *out, size_t room, struct seal_in *in, struct seal_pos *next)
{
	struct seal_in got = { .data = out };
	int fault;

	if (!ready(k, pos, SEAL_RX))
		return SEAL_F_STATE;
	int whole = seal_stream_len(k, rec, len);
	if (whole < 0)
		return whole;
	if ((size_t)whole != len)
		return SEAL_F_DECODE;
	if (pos->seq[SEAL_RX] >= SEAL_SEQ_MAX)
		return SEAL_F_LIMIT;
	assert(!overlap(rec, len, out, room));
	if (k->proto == SEAL_TLS13) {
		fault = open13(k, pos->seq[SEAL_RX], c, rec, len, out, room, &got);
	} else {
		got.type = rec[0];
		fault = open12(k, c, pos->seq[SEAL_RX], rec, len, out, room, &got.len);
	}
	if (fault == SEAL_OK)
		fault = content_judge(k, &got);
	if (fault != SEAL_OK)
		return fault;

	struct seal_pos after = *pos;
	after.seq[SEAL_RX]++;
	if (got.kind == SEAL_DATA)
		after.idle = 0;
	else if (got.kind == SEAL_NOTHING && ++after.idle > SEAL_IDLE_MAX)
		return SEAL_F_FLOOD;
	if (got.kind == SEAL_KEY_UPDATE) {
		after.updates++;
		after.asked = 0;
	}
	*in = got;
	*next = after;
	return SEAL_OK;
}

static int
seal13(const struct seal *k, uint64_t n, struct seal_ctx *c, uint8_t type, const uint8_t *data, size_t len,
    uint8_t *out)
{
	struct aead a = {
		.ctx = c, .suite = k->suite, .key = k->key[SEAL_TX], .ad = out, .ad_len = SEAL_HEAD
	};
	uint8_t *text = out + SEAL_HEAD;

	out[0] = SEAL_T_DATA;
	put_u16(out + 1, VERSION_TLS12);
	put_u16(out + 3, (uint16_t)(len + 1 + TAG_LEN));
	if (len > 0 && data != text)
		memcpy(text, data, len);
	text[len] = type;
	nonce_xor(a.nonce, k->iv[SEAL_TX], n);
	return aead_seal(&a, text, len + 1, text);
}

static uint64_t
tx_limit(const struct seal *k)
{
	return k->proto == SEAL_TLS13 && is_gcm(k) ? SEAL_GCM13_MAX : SEAL_SEQ_MAX;
}

int
seal_seal(const struct seal *k, const struct seal_pos *pos, struct seal_ctx *c, uint8_t type,
    const uint8_t *data, size_t len, uint8_t *out, size_t room, struct seal_pos *next)
{
	uint64_t n = pos->seq[SEAL_TX];

	if (!ready(k, pos, SEAL_TX))
		return SEAL_F_STATE;
	if (len > seal_plain_max(k))
		return SEAL_F_LENGTH;
	size_t total = seal_before(k) + len + seal_after(k);
	if (total > room)
		return SEAL_F_ROOM;
	/* An alert, and the KeyUpdate that ends this key, may still go out. */
	if (n >= tx_limit(k) && (type == SEAL_T_DATA || n >= tx_limit(k) + SEAL_IDLE_MAX))
		return SEAL_F_LIMIT;
	assert(len == 0 || data == out + seal_before(k) || !overlap(data, len, out, total));
	int fault = k->proto == SEAL_TLS13 ? seal13(k, n, c, type, data, len, out)
					   : seal12(k, c, n, k->nonce + n, type, data, len, out);
	if (fault != SEAL_OK)
		return fault;
	struct seal_pos after = *pos;
	after.seq[SEAL_TX]++;
	*next = after;
	return (int)total;
}

int
seal_alert(const struct seal *k, const struct seal_pos *pos, struct seal_ctx *c, enum seal_alert what,
    uint8_t *out, size_t room, struct seal_pos *next)
{
	uint8_t body[2];

	alert_write(body, k->proto, what);
	return seal_seal(k, pos, c, SEAL_T_ALERT, body, sizeof body, out, room, next);
}

int
seal_update(const struct seal *k, const struct seal_pos *pos, struct seal_ctx *c, bool request,
    uint8_t *out, size_t room, struct seal_pos *next)
{
	const uint8_t body[5] = { HS_KEY_UPDATE, 0, 0, 1, request };

	if (k->proto != SEAL_TLS13)
		return SEAL_F_STATE;
	int n = seal_seal(k, pos, c, SEAL_T_HANDSHAKE, body, sizeof body, out, room, next);
	if (n > 0 && request)
		next->asked = 1;
	return n;
}

enum seal_due
seal_due(const struct seal *k, const struct seal_pos *pos)
{
	if (pos->seq[SEAL_TX] >= tx_limit(k))
		return SEAL_DUE_END;
	if (k->proto != SEAL_TLS13 || !is_gcm(k))
		return SEAL_DUE_NOT;
	if (pos->seq[SEAL_RX] >= SEAL_UPDATE_AT && !pos->asked)
		return SEAL_DUE_REQUEST;
	return pos->seq[SEAL_TX] >= SEAL_UPDATE_AT ? SEAL_DUE_UPDATE : SEAL_DUE_NOT;
}
