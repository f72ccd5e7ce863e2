/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * hello.c: a DTLS ClientHello before anything is kept about its sender: its fragments (RFC 6347 4.2.3)
 * and the cookie exchange (RFC 6347 4.2.1).
 */
#include "config.h"

#include <sodium.h>

#include "seal_int.h"

#define HANDSHAKE_HEAD 12
#define CLIENT_HELLO   1
#define HELLO_VERIFY   3
#define DTLS10         0xfeffu
#define MAC_LEN        (SEAL_COOKIE_LEN - 1)
#define PARAMETERS     34 /* version and random: what of a hello a cookie covers */
#define SESSION_ID_MAX 32
/* The cookie's end lies here at the latest. */
#define PREFIX_MAX     (PARAMETERS + 1 + SESSION_ID_MAX + 1 + SEAL_COOKIE_LEN)
#define ADDRESS_ONLY   0x80 /* in a cookie's first byte: it covers the address alone */

static uint32_t
get_u24(const uint8_t *p)
{
	return (uint32_t)p[0] << 16 | get_u16(p + 1);
}

/* Body of a ClientHello (RFC 5246 7.4.1.2 with the cookie of RFC 6347), whole and with nothing behind
 * it. */
static int
parse_body(struct seal_hello *h, const uint8_t *body, size_t len)
{
	struct rd r = rd_over(body, len);
	uint16_t n;

	h->version = rd_u16(&r);
	h->random = rd_bytes(&r, 32);
	n = rd_u8(&r);
	rd_bytes(&r, n);
	if (r.bad || n > 32)
		return SEAL_F_DECODE;
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
seal_hello_parse(struct seal_hello *h, const uint8_t *body, size_t len)
{
	struct seal_hello found;
	int fault = parse_body(&found, body, len);

	if (fault == SEAL_OK)
		*h = found;
	return fault;
}

/* ---- fragments ------------------------------------------------------------------------------- */

/* The next record of the datagram.  1, 0 at its end, or a fault. */
static int
next_record(struct seal_frags *it)
{
	struct seal_dhead head;
	int len;

	if (it->left == 0)
		return 0;
	len = seal_dtls_head(&head, it->p, it->left);
	if (len < 0)
		return len;
	if (head.dclass != SEAL_D_HELLO)
		return SEAL_F_TYPE;
	it->record_seq = head.seq;
	it->in = it->p + SEAL_DTLS_HEAD;
	it->in_left = (size_t)len - SEAL_DTLS_HEAD;
	it->p += len;
	it->left -= (size_t)len;
	return 1;
}

int
seal_frags_next(struct seal_frags *it, struct seal_frag *f)
{
	const uint8_t *m;
	int more;

	while (it->in_left == 0)
		if ((more = next_record(it)) <= 0)
			return more;
	m = it->in;
	if (it->in_left < HANDSHAKE_HEAD || m[0] != CLIENT_HELLO)
		return SEAL_F_DECODE;
	struct seal_frag found = {
		.record_seq = it->record_seq,
		.message_seq = get_u16(m + 4),
		.total = get_u24(m + 1),
		.at = get_u24(m + 6),
		.len = get_u24(m + 9),
		.bytes = m + HANDSHAKE_HEAD,
	};
	if (found.total > SEAL_HELLO_MAX || found.at > found.total || found.len > found.total - found.at ||
	    found.len > it->in_left - HANDSHAKE_HEAD)
		return SEAL_F_DECODE;
	it->in += HANDSHAKE_HEAD + found.len;
	it->in_left -= HANDSHAKE_HEAD + found.len;
	*f = found;
	return 1;
}

void
seal_gather_init(struct seal_gather *g, uint8_t *body, uint8_t *seen, size_t room)
{
	memset(g, 0, sizeof *g);
	memset(seen, 0, SEAL_SEEN_LEN(room));
	g->body = body;
	g->seen = seen;
	g->room = (uint32_t)room;
}

/* What came first stays: a fragment that says something else of the same bytes changes nothing. */
bool
seal_gather_add(struct seal_gather *g, const struct seal_frag *f)
{
	if (g->total != 0 && g->total != f->total)
		return false;
	g->total = f->total;
	for (uint32_t i = 0; i < f->len && f->at + i < g->room; i++) {
		uint32_t at = f->at + i;
		uint8_t bit = (uint8_t)(1u << at % 8);
		if ((g->seen[at / 8] & bit) != 0)
			continue;
		g->seen[at / 8] |= bit;
		g->body[at] = f->bytes[i];
		g->have++;
	}
	if (f->record_seq > g->record_seq)
		g->record_seq = f->record_seq;
	return true;
}

bool
seal_gather_whole(const struct seal_gather *g)
{
	return g->total > 0 && g->have == g->total;
}

/* Are the first n bytes there? */
static bool
has_first(const struct seal_gather *g, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		if (i >= g->room || (g->seen[i / 8] >> i % 8 & 1) == 0)
			return false;
	return true;
}

/* ---- cookies --------------------------------------------------------------------------------- */

/*
 * The address and, of what the second hello must repeat, version and random: the rest may lie in a later
 * fragment.  A first fragment that is shorter than these leaves the address alone.
 */
static void
mac(uint8_t out[MAC_LEN], const uint8_t key[32], const struct addr *client, const uint8_t *parameters)
{
	crypto_generichash_state st;

	crypto_generichash_init(&st, key, 32, MAC_LEN);
	crypto_generichash_update(&st, (const uint8_t *)client, sizeof *client);
	if (parameters != NULL)
		crypto_generichash_update(&st, parameters, PARAMETERS);
	crypto_generichash_final(&st, out, MAC_LEN);
}

static void
cookie_make(uint8_t out[SEAL_COOKIE_LEN], const struct seal_cookie_keys *keys, const struct addr *client,
    const struct seal_frag *f)
{
	bool bound = f->len >= PARAMETERS;

	out[0] = bound ? keys->number[0] : keys->number[0] ^ ADDRESS_ONLY;
	mac(out + 1, keys->key[0], client, bound ? f->bytes : NULL);
}

static bool
cookie_ok(const struct seal_cookie_keys *keys, const struct addr *client, const uint8_t *body,
    const uint8_t *cookie)
{
	uint8_t want[MAC_LEN];

	for (unsigned i = 0; i < 2; i++) {
		bool bound = cookie[0] == keys->number[i];
		if (!bound && cookie[0] != (keys->number[i] ^ ADDRESS_ONLY))
			continue;
		mac(want, keys->key[i], client, bound ? body : NULL);
		return sodium_memcmp(want, cookie + 1, MAC_LEN) == 0;
	}
	return false;
}

enum seal_proof
seal_hello_proof(
    const struct seal_cookie_keys *keys, const struct addr *client, const struct seal_gather *g)
{
	uint32_t at;

	if (!has_first(g, PARAMETERS + 1))
		return SEAL_P_PART;
	if (g->body[PARAMETERS] > SESSION_ID_MAX)
		return SEAL_P_WRONG;
	at = PARAMETERS + 1u + g->body[PARAMETERS];
	if (!has_first(g, at + 1))
		return SEAL_P_PART;
	if (g->body[at] != SEAL_COOKIE_LEN)
		return SEAL_P_WRONG;
	if (!has_first(g, at + 1 + SEAL_COOKIE_LEN))
		return SEAL_P_PART;
	return cookie_ok(keys, client, g->body, g->body + at + 1) ? SEAL_P_GOOD : SEAL_P_WRONG;
}

/* ---- what to do ------------------------------------------------------------------------------ */

static void
put_u24(uint8_t *p, size_t v)
{
	p[0] = (uint8_t)(v >> 16);
	put_u16(p + 1, (uint16_t)v);
}

/* Headers of a record with one fragment in epoch 0; its bytes follow. */
static uint8_t *
put_heads(uint8_t *p, uint8_t type, const struct seal_frag *f)
{
	p[0] = SEAL_T_HANDSHAKE;
	put_u16(p + 1, DTLS10);
	put_u64(p + 3, f->record_seq);
	put_u16(p + 11, (uint16_t)(HANDSHAKE_HEAD + f->len));
	p += SEAL_DTLS_HEAD;
	p[0] = type;
	put_u24(p + 1, f->total);
	put_u16(p + 4, f->message_seq);
	put_u24(p + 6, f->at);
	put_u24(p + 9, f->len);
	return p + HANDSHAKE_HEAD;
}

size_t
seal_frag_write(uint8_t *out, const struct seal_frag *f)
{
	memcpy(put_heads(out, CLIENT_HELLO, f), f->bytes, f->len);
	return SEAL_FRAG_HEAD + f->len;
}

/* The record's number is the hello's, and the version 1.0 whatever is chosen later (RFC 6347 4.2.1). */
static void
verify(uint8_t reply[SEAL_VERIFY_LEN], const struct seal_cookie_keys *keys, const struct addr *client,
    const struct seal_frag *f)
{
	struct seal_frag answer = {
		.record_seq = f->record_seq, .total = 3 + SEAL_COOKIE_LEN, .len = 3 + SEAL_COOKIE_LEN
	};
	uint8_t *body = put_heads(reply, HELLO_VERIFY, &answer);

	put_u16(body, DTLS10);
	body[2] = SEAL_COOKIE_LEN;
	cookie_make(body + 3, keys, client, f);
}

/* A first hello has no cookie: its length, if it is seen, is 0. */
static bool
has_cookie(const struct seal_frag *f)
{
	uint32_t at;

	if (f->len <= PARAMETERS)
		return false;
	at = PARAMETERS + 1u + f->bytes[PARAMETERS];
	return f->bytes[PARAMETERS] > SESSION_ID_MAX || (at < f->len && f->bytes[at] != 0);
}

enum seal_verdict
seal_hello_judge(const struct seal_cookie_keys *keys, const struct addr *client, const uint8_t *p, size_t n,
    uint8_t reply[SEAL_VERIFY_LEN])
{
	uint8_t body[PREFIX_MAX], seen[SEAL_SEEN_LEN(PREFIX_MAX)];
	struct seal_frags it = seal_frags_over(p, n);
	struct seal_frag f, first = { .len = 0 };
	struct seal_gather second;
	int more;

	seal_gather_init(&second, body, seen, sizeof body);
	while ((more = seal_frags_next(&it, &f)) > 0) {
		if (f.message_seq == 0 && f.at == 0 && f.len > 0 && first.len == 0)
			first = f;
		/* Not sent in the first record, or the handshake cannot be joined here. */
		if (f.message_seq > 1 ||
		    (f.message_seq == 1 && (f.record_seq == 0 || !seal_gather_add(&second, &f))))
			return SEAL_V_DROP;
	}
	if (more < 0)
		return SEAL_V_DROP;
	if (second.total > 0) {
		enum seal_proof proof = seal_hello_proof(keys, client, &second);
		return proof == SEAL_P_GOOD ? SEAL_V_PASS
		    : proof == SEAL_P_PART  ? SEAL_V_PART
					    : SEAL_V_DROP;
	}
	if (first.len == 0)
		return SEAL_V_REST;
	if (has_cookie(&first))
		return SEAL_V_DROP;
	verify(reply, keys, client, &first);
	return SEAL_V_VERIFY;
}
