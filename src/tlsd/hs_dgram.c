/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * hs_dgram.c: a DTLS handshake whose datagrams come and go through the worker.
 *
 * The worker made the cookie and checked it, and kept nothing.  DTLSv1_listen() begins at the hello that
 * carries it: its message numbers, and the transcript with them, are those of the client, and our record
 * numbers of epoch 0 go on from the hello's, as RFC 6347 4.2.1 wants it, or the client would take our
 * first records for repetitions of HelloVerifyRequests.
 */
#include "config.h"

#include <openssl/err.h>
#include <sys/time.h>

#include "tlsd_int.h"

#define WAITING_MAX 16384 /* above it a hello is dropped; its client sends it again */

/* ---- BIO --------------------------------------------------------------------------------------- */

static int
on_read(BIO *b, char *buf, int len)
{
	struct hs *h = BIO_get_data(b);
	size_t n = h->in_len;

	BIO_clear_retry_flags(b);
	if (h->in == NULL || len <= 0) {
		BIO_set_retry_read(b);
		return -1;
	}
	if (n > (size_t)len)
		n = (size_t)len;
	memcpy(buf, h->in, n);
	h->in = NULL;
	return (int)n;
}

static int
on_write(BIO *b, const char *buf, int len)
{
	struct hs *h = BIO_get_data(b);
	struct flight *f = &h->u->out;

	BIO_clear_retry_flags(b);
	if (len <= 0)
		return len;
	if (len > MSG_HS_DATAGRAM_MAX || f->pieces == FLIGHT_PIECES ||
	    !flight_add(f, (const uint8_t *)buf, (size_t)len)) {
		h->broken = true;
		return -1;
	}
	f->piece[f->pieces++] = (uint16_t)len;
	if (tlsd_tap_out(&h->tap, (const uint8_t *)buf, (size_t)len) < 0) {
		h->broken = true;
		return -1;
	}
	return len;
}

static long
on_ctrl(BIO *b, int cmd, long num, void *ptr)
{
	(void)b;
	(void)num;
	(void)ptr;
	switch (cmd) {
	case BIO_CTRL_FLUSH:
		return 1;
	case BIO_CTRL_DGRAM_QUERY_MTU:
	case BIO_CTRL_DGRAM_GET_FALLBACK_MTU:
		return MTU;
	default:
		return 0;
	}
}

BIO_METHOD *
dgram_bio_method(void)
{
	return hs_bio_method("datagrams", on_read, on_write, on_ctrl);
}

/* ---- steps ------------------------------------------------------------------------------------- */

static void
set_timer(struct hs *h)
{
	struct timeval t;

	h->wake = 0;
	if (DTLSv1_get_timeout(h->ssl, &t) == 1)
		h->wake = clock_ms() + (tp_ms)t.tv_sec * 1000 + (tp_ms)t.tv_usec / 1000 + 1;
}

/* h may be gone afterwards. */
static void
feed(struct hs *h, const uint8_t *p, size_t n)
{
	h->in = p;
	h->in_len = n;
	h->moved = clock_ms();
	ERR_clear_error();
	if (hs_judge(h, SSL_do_handshake(h->ssl)))
		return;
	CRASH_POINT("tls:fed");
	h->in = NULL;
	flight_reply(h);
	set_timer(h);
}

static bool
prepare(struct hs *h)
{
	BIO *bio = BIO_new(h->u->dgram_bio);

	if (bio == NULL)
		return false;
	BIO_set_data(bio, h);
	BIO_set_init(bio, 1);
	SSL_set_bio(h->ssl, bio, bio);
	SSL_set_options(h->ssl, SSL_OP_NO_QUERY_MTU | SSL_OP_COOKIE_EXCHANGE);
	return SSL_set_mtu(h->ssl, MTU) != 0;
}

/* The hello with its cookie stays in the SSL object, for the handshake to read. */
static bool
listen_to(struct hs *h, const uint8_t *p, size_t n)
{
	BIO_ADDR *nobody = BIO_ADDR_new();
	int ret = 0;

	h->in = p;
	h->in_len = n;
	ERR_clear_error();
	if (nobody != NULL)
		ret = DTLSv1_listen(h->ssl, nobody);
	BIO_ADDR_free(nobody);
	return ret > 0;
}

static void
begin(struct hs *h, const uint8_t *p, size_t n)
{
	if (!hs_begin(h))
		return;
	if (!prepare(h)) {
		hs_fail(h, HS_R_INTERNAL);
		return;
	}
	if (!listen_to(h, p, n)) {
		flight_reset(&h->u->out);
		hs_fail(h, HS_R_PROTOCOL);
		return;
	}
	feed(h, NULL, 0);
}

void
dgram_begin(struct hs *h)
{
	uint8_t *p = h->hello;

	h->hello = NULL;
	begin(h, p, h->hello_len);
	free(p);
}

/* Its client sends the hello again until there is an answer; what it keeps here is its place in the line. */
static void
wait_for_room(struct hs *h, const uint8_t *p, size_t n)
{
	h->hello = malloc(n);
	if (h->hello == NULL) {
		hs_fail(h, HS_R_INTERNAL);
		return;
	}
	memcpy(h->hello, p, n);
	h->hello_len = n;
}

static void
start(struct tlsd *u, const struct hs_who *who, const struct seal_hello *hello, const uint8_t *p, size_t n)
{
	bool has_room = table_has_room(&u->table, &who->client, u->per_prefix, u->total);
	struct hs *h;

	if (!has_room && u->table.line[HS_WAITING].count >= WAITING_MAX) {
		stat_add(u->proc.stat, STAT_HS_PUT_OFF, 1);
		return;
	}
	h = hs_new(u, who, true, -1, has_room ? HS_HALF : HS_WAITING);
	if (h == NULL)
		return;
	memcpy(h->random, hello->random, sizeof h->random);
	memcpy(h->cookie, hello->cookie, SEAL_COOKIE_LEN);
	if (has_room)
		begin(h, p, n);
	else
		wait_for_room(h, p, n);
}

/* A hello that is whole, as one record: OpenSSL takes none in pieces before it has seen the cookie. */
static void
take_hello(struct tlsd *u, const struct hs_who *who, const struct seal_frag *f)
{
	struct hs *h = table_find(&u->table, who);
	struct seal_hello hello;
	size_t n;

	if (seal_hello_parse(&hello, f->bytes, f->total) != SEAL_OK ||
	    hello.cookie_len != SEAL_COOKIE_LEN) {
		stat_add(u->proc.stat, STAT_HS_STRAY, 1);
		return;
	}
	n = seal_frag_write(u->hello, f);
	if (h != NULL && memcmp(h->random, hello.random, sizeof h->random) == 0) {
		if (h->state == HS_HALF)
			feed(h, u->hello, n);
		return;
	}
	if (h != NULL)
		hs_fail(h, HS_R_CANCELED);
	start(u, who, &hello, u->hello, n);
}

static void
take_fragment(struct tlsd *u, const struct msg_hs_datagram *m)
{
	struct seal_frags it = seal_frags_over(m->datagram, m->len);
	const struct hs *h = table_find(&u->table, &m->who);
	struct hello_part *part;
	struct seal_frag f;

	if (seal_frags_next(&it, &f) != 1 || f.message_seq != 1 || f.record_seq == 0 || f.total == 0 ||
	    (h != NULL && h->state == HS_UNTAKEN)) {
		stat_add(u->proc.stat, STAT_HS_STRAY, 1);
		return;
	}
	if (f.len == f.total) {
		take_hello(u, &m->who, &f);
		return;
	}
	part = part_take(u, &m->who, &f);
	if (part == NULL)
		return;
	struct seal_frag whole = { .record_seq = part->gather.record_seq,
		.message_seq = 1,
		.total = f.total,
		.len = f.total,
		.bytes = part->bytes };
	take_hello(u, &part->who, &whole);
	part_free(part);
}

void
dgram_take(struct tlsd *u, const struct msg_hs_datagram *m)
{
	struct hs *h;

	if (m->hello != 0) {
		take_fragment(u, m);
		return;
	}
	h = table_find(&u->table, &m->who);
	if (h != NULL && h->state == HS_HALF)
		feed(h, m->datagram, m->len);
	else
		stat_add(u->proc.stat, STAT_HS_STRAY, 1);
}

void
dgram_timeout(struct hs *h)
{
	ERR_clear_error();
	if (DTLSv1_handle_timeout(h->ssl) < 0) {
		hs_fail(h, HS_R_TIMEOUT);
		return;
	}
	flight_reply(h);
	set_timer(h);
}
