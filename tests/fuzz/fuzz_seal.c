/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz_seal.c: the record layer on arbitrary bytes.  Byte 0: protocol and suite; byte 1, bit 0: the rest
 * is what came from the wire (a stream, or a datagram), otherwise it is a list of {type, length 2,
 * content} that the peer seals, so that what stands behind the tag is reached too; bit 1: sealed records
 * are damaged on the way.
 */
#include "config.h"

#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "tp/seal.h"

struct end {
	struct seal k;
	struct seal_secrets s;
	struct seal_pos pos;
	struct seal_dtls d;
};
static struct seal_ctx ctx;
static struct end us, them;
static unsigned touched;

static void
start(struct end *e, enum seal_role role, enum seal_proto proto, unsigned suite)
{
	static const uint8_t secret[48] = "forty-eight bytes of a secret that all can know";

	memset(e, 0, sizeof *e);
	int fault = proto == SEAL_TLS13
	    ? seal_start13(&e->k, &e->s, role, suite, secret, secret, seal_secret_len(suite))
	    : seal_start12(&e->k, proto, role, suite, secret, secret, secret, 99);
	FUZZ_ASSERT(fault == SEAL_OK);
}

static void
rekey(struct end *e, enum seal_way way)
{
	struct seal_pos next = e->pos;

	FUZZ_ASSERT(seal_rekey(&e->k, &e->s, &e->pos, &next, way) == SEAL_OK);
	FUZZ_ASSERT(seal_sync(&e->k, &e->s, &next) == SEAL_OK);
	e->pos = next;
}

/* One record of exactly n bytes, in memory of exactly that size. Returns what the layer said. */
static int
receive(const uint8_t *p, size_t n, struct seal_in *in, uint8_t *out, size_t room)
{
	struct seal_dhead h;
	struct seal_pos next;
	uint8_t *rec = malloc(n > 0 ? n : 1);
	int fault;

	FUZZ_ASSERT(rec != NULL);
	if (n > 0)
		memcpy(rec, p, n);
	if (us.k.proto != SEAL_DTLS12) {
		fault = seal_open(&us.k, &us.pos, &ctx, rec, n, out, room, in, &next);
		if (fault == SEAL_OK) {
			FUZZ_ASSERT(next.seq[SEAL_RX] == us.pos.seq[SEAL_RX] + 1);
			us.pos = next;
		}
	} else {
		fault = seal_dtls_head(&h, rec, n);
		if (fault > 0) {
			FUZZ_ASSERT((size_t)fault <= n && h.len == (size_t)fault);
			fault = seal_window_fresh(&us.d, h.seq)
			    ? seal_dtls_open(&us.k, &ctx, rec, n, out, room, in)
			    : SEAL_F_STATE;
		}
		if (fault == SEAL_OK) {
			seal_window_mark(&us.d, h.seq);
			FUZZ_ASSERT(!seal_window_fresh(&us.d, h.seq));
		}
	}
	free(rec);
	if (fault == SEAL_OK) {
		FUZZ_ASSERT(in->data >= out && in->data + in->len <= out + room);
		for (size_t i = 0; i < in->len; i++)
			touched += in->data[i];
	}
	return fault;
}

static void
raw_stream(const uint8_t *p, size_t n)
{
	static uint8_t out[SEAL_RECORD_MAX];
	struct seal_in in;

	for (;;) {
		int len = seal_stream_len(&us.k, p, n);
		FUZZ_ASSERT(len <= SEAL_RECORD_MAX);
		if (len <= 0 || (size_t)len > n)
			break;
		/* A tag cannot be guessed. */
		FUZZ_ASSERT(receive(p, (size_t)len, &in, out, sizeof out) != SEAL_OK);
		p += len;
		n -= (size_t)len;
	}
	FUZZ_ASSERT(receive(p, n, &in, out, sizeof out) != SEAL_OK);
}

static void
raw_datagram(const uint8_t *p, size_t n)
{
	static uint8_t out[SEAL_RECORD_MAX];
	struct seal_dhead h;
	struct seal_in in;
	int len;

	while ((len = seal_dtls_head(&h, p, n)) > 0) {
		FUZZ_ASSERT((size_t)len <= n && h.dclass <= SEAL_D_IGNORE);
		FUZZ_ASSERT(receive(p, (size_t)len, &in, out, sizeof out) != SEAL_OK);
		p += len;
		n -= (size_t)len;
	}
}

static int
send_one(uint8_t type, const uint8_t *text, size_t n, uint8_t *rec, size_t room)
{
	uint64_t seq;

	if (them.k.proto != SEAL_DTLS12)
		return seal_seal(&them.k, &them.pos, &ctx, type, text, n, rec, room, &them.pos);
	FUZZ_ASSERT(seal_dtls_take(&them.d, &seq) == SEAL_OK);
	return seal_dtls_seal(&them.k, &ctx, seq, type, text, n, rec, room);
}

static void
sealed(const uint8_t *p, size_t n, bool damage)
{
	static uint8_t rec[SEAL_RECORD_MAX + SEAL_OVERHEAD_MAX], out[SEAL_RECORD_MAX];
	struct seal_in in;

	while (n >= 3) {
		uint8_t type = p[0];
		size_t want = get_u16(p + 1), len = want < n - 3 ? want : n - 3;
		if (len > SEAL_PLAIN_MAX)
			len = SEAL_PLAIN_MAX;
		int got = send_one(type, p + 3, len, rec, sizeof rec);
		FUZZ_ASSERT(got > 0);
		if (damage)
			rec[(p[1] * 256u + p[2]) % (unsigned)got] ^= (uint8_t)(type | 1);
		int fault = receive(rec, (size_t)got, &in, out, sizeof out);
		FUZZ_ASSERT(!damage || fault != SEAL_OK);
		if (fault == SEAL_F_MAC)
			FUZZ_ASSERT(damage);
		/* Type 0 is padding in 1.3: what stands before it is the type then. */
		if (fault == SEAL_OK && in.kind == SEAL_DATA && type != 0)
			FUZZ_ASSERT(in.len == len && memcmp(in.data, p + 3, len) == 0);
		if (fault == SEAL_OK && in.kind == SEAL_KEY_UPDATE) {
			rekey(&us, SEAL_RX);
			rekey(&them, SEAL_TX);
		}
		if (fault != SEAL_OK && us.k.proto != SEAL_DTLS12)
			return;
		p += 3 + len;
		n -= 3 + len;
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static bool ready;

	if (!ready)
		FUZZ_ASSERT(seal_ctx_init(&ctx) == SEAL_OK);
	ready = true;
	if (size < 2)
		return 0;
	enum seal_proto proto = (enum seal_proto)(SEAL_TLS12 + data[0] % 3);
	unsigned suite = SEAL_AES128_SHA256 + data[0] / 3u % 3u;
	start(&us, SEAL_SERVER, proto, suite);
	start(&them, SEAL_CLIENT, proto, suite);
	if ((data[1] & 1) == 0)
		sealed(data + 2, size - 2, (data[1] & 2) != 0);
	else if (proto == SEAL_DTLS12)
		raw_datagram(data + 2, size - 2);
	else
		raw_stream(data + 2, size - 2);
	return 0;
}
