/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * record_dtls.c: DTLS 1.2 records: heads of a datagram, the replay window, numbers that are stored before
 * use, the final flight.
 */
#include "config.h"

#include <stdatomic.h>

#include "seal_int.h"

#define WINDOW   64
#define SEQ_BITS 48

static enum seal_dclass
classify(const struct seal_dhead *h, uint8_t first)
{
	bool handshake = h->type == SEAL_T_HANDSHAKE || h->type == SEAL_T_CCS;

	if (h->epoch == FIRST_EPOCH)
		return handshake || h->type == SEAL_T_ALERT || h->type == SEAL_T_DATA ? SEAL_D_SESSION
										      : SEAL_D_IGNORE;
	if (h->epoch != 0 || !handshake)
		return SEAL_D_IGNORE;
	return h->type == SEAL_T_HANDSHAKE && first == HS_CLIENT_HELLO ? SEAL_D_HELLO : SEAL_D_HANDSHAKE;
}

int
seal_dtls_head(struct seal_dhead *head, const uint8_t *p, size_t n)
{
	struct rd r = rd_over(p, n);
	struct seal_dhead h = { .type = rd_u8(&r) };
	uint16_t version = rd_u16(&r);
	uint64_t number = rd_u64(&r);
	size_t body = rd_u16(&r);

	if (r.bad)
		return SEAL_F_DECODE;
	if (version != VERSION_DTLS12 && version != VERSION_DTLS10)
		return SEAL_F_TYPE;
	if (SEAL_DTLS_HEAD + body > SEAL_DTLS_HEAD + SEAL_PLAIN_MAX + 256)
		return SEAL_F_LENGTH;
	const uint8_t *content = rd_bytes(&r, body);
	if (content == NULL)
		return SEAL_F_DECODE;
	h.epoch = (uint16_t)(number >> SEQ_BITS);
	h.seq = number & ((UINT64_C(1) << SEQ_BITS) - 1);
	h.len = SEAL_DTLS_HEAD + body;
	h.dclass = (uint8_t)classify(&h, body > 0 ? content[0] : 0);
	*head = h;
	return (int)h.len;
}

bool
seal_window_fresh(const struct seal_dtls *d, uint64_t seq)
{
	if (seq >= d->top)
		return true;
	return d->top - seq <= WINDOW && (d->seen >> (seq % WINDOW) & 1) == 0;
}

/*
 * The bit of a number is seq % 64, so that moving the window shifts nothing.  The top moves first: killed
 * before the bits follow, those of the numbers just passed are stale ones of 64 earlier, which may refuse
 * a number that never came; the other order would forget numbers that did.
 */
void
seal_window_mark(struct seal_dtls *d, uint64_t seq)
{
	uint64_t top = d->top, seen = d->seen;
	volatile struct seal_dtls *v = d;

	if (seq >= top) {
		if (seq - top >= WINDOW)
			seen = 0;
		else
			for (uint64_t n = top; n < seq; n++)
				seen &= ~(UINT64_C(1) << (n % WINDOW));
		v->top = seq + 1;
		atomic_signal_fence(memory_order_seq_cst);
	}
	v->seen = seen | UINT64_C(1) << (seq % WINDOW);
	atomic_signal_fence(memory_order_seq_cst);
}

bool
seal_bad(struct seal_dtls *d)
{
	if (d->bad < SEAL_BAD_MAX)
		d->bad++;
	return d->bad >= SEAL_BAD_MAX;
}

static uint64_t
with_epoch(uint64_t seq)
{
	return (uint64_t)FIRST_EPOCH << SEQ_BITS | seq;
}

int
seal_dtls_open(const struct seal *k, struct seal_ctx *c, const uint8_t *rec, size_t len, uint8_t *out,
    size_t room, struct seal_in *in)
{
	struct seal_in got = { .data = out };
	struct seal_dhead h;

	if (!seal_valid(k) || k->proto != SEAL_DTLS12)
		return SEAL_F_STATE;
	int whole = seal_dtls_head(&h, rec, len);
	if (whole < 0)
		return whole;
	if ((size_t)whole != len)
		return SEAL_F_DECODE;
	if (h.dclass != SEAL_D_SESSION || get_u16(rec + 1) != VERSION_DTLS12)
		return SEAL_F_TYPE;
	int fault = open12(k, c, with_epoch(h.seq), rec, len, out, room, &got.len);
	if (fault != SEAL_OK)
		return fault;
	got.type = h.type;
	if (got.type != SEAL_T_CCS) {
		fault = content_judge(k, &got);
		if (fault != SEAL_OK)
			return fault;
	} else {
		got.kind = SEAL_NOTHING;
	}
	*in = got;
	return SEAL_OK;
}

static int
take(uint64_t *shared, uint64_t limit, uint64_t *seq)
{
	volatile uint64_t *v = shared;
	uint64_t n = *v;

	if (n >= limit)
		return SEAL_F_LIMIT;
	*v = n + 1;
	/* No byte may be sealed with n before the store is done. */
	atomic_signal_fence(memory_order_seq_cst);
	*seq = n;
	return SEAL_OK;
}

int
seal_dtls_take(struct seal_dtls *d, uint64_t *seq)
{
	return take(&d->tx, SEAL_SEQ_MAX, seq);
}

bool
seal_dtls_spent(const struct seal_dtls *d)
{
	return d->tx >= SEAL_SEQ_MAX - SEAL_SEQ_LAST;
}

int
seal_dtls_seal(const struct seal *k, struct seal_ctx *c, uint64_t seq, uint8_t type, const uint8_t *data,
    size_t len, uint8_t *out, size_t room)
{
	if (!seal_valid(k) || k->proto != SEAL_DTLS12)
		return SEAL_F_STATE;
	if (len > seal_plain_max(k))
		return SEAL_F_LENGTH;
	size_t total = seal_before(k) + len + seal_after(k);
	if (total > room)
		return SEAL_F_ROOM;
	if (seq >= SEAL_SEQ_MAX)
		return SEAL_F_LIMIT;
	int fault = seal12(k, c, with_epoch(seq), k->nonce + seq, type, data, len, out);
	return fault != SEAL_OK ? fault : (int)total;
}

int
seal_dtls_alert(
    const struct seal *k, struct seal_ctx *c, uint64_t seq, enum seal_alert what, uint8_t *out, size_t room)
{
	uint8_t body[2];

	alert_write(body, k->proto, what);
	return seal_dtls_seal(k, c, seq, SEAL_T_ALERT, body, sizeof body, out, room);
}

int
seal_final_flight(const struct seal *k, struct seal_ctx *c, struct seal_dtls *d, struct seal_final *f,
    uint8_t *out, size_t room)
{
	uint64_t seq0, seq;
	struct wr w = wr_over(out, room);

	if (f->len != SEAL_FINISHED_LEN)
		return SEAL_F_STATE;
	if (f->resent >= SEAL_RESEND_MAX)
		return SEAL_F_LIMIT;
	if (room < SEAL_FINAL_MAX)
		return SEAL_F_ROOM;
	int fault = take(&f->tx0, SEAL_SEQ_MAX, &seq0);
	if (fault == SEAL_OK)
		fault = seal_dtls_take(d, &seq);
	if (fault != SEAL_OK)
		return fault;
	f->resent++;
	wr_u8(&w, SEAL_T_CCS);
	wr_u16(&w, VERSION_DTLS12);
	wr_u64(&w, seq0);
	wr_u16(&w, 1);
	wr_u8(&w, 1);
	int n = seal_dtls_seal(
	    k, c, seq, SEAL_T_HANDSHAKE, f->finished, sizeof f->finished, w.p, (size_t)(w.end - w.p));
	return n < 0 ? n : (int)wr_len(&w) + n;
}
