/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * hs_finish.c: how a handshake begins, and every way in which it ends.
 */
#include "config.h"

#include <errno.h>
#include <openssl/err.h>
#include <sodium.h>
#include <stdlib.h>
#include <unistd.h>

#include "tlsd_int.h"

static const enum stat_counter fail_row[HS_REASONS] = {
	[HS_R_CLOSED] = STAT_HS_FAIL_CLOSED,
	[HS_R_TIMEOUT] = STAT_HS_FAIL_TIMEOUT,
	[HS_R_CROWDED] = STAT_HS_FAIL_CROWDED,
	[HS_R_CROWDED_PREFIX] = STAT_HS_FAIL_CROWDED,
	[HS_R_ALERT] = STAT_HS_FAIL_ALERT,
	[HS_R_PROTOCOL] = STAT_HS_FAIL_PROTOCOL,
	[HS_R_NO_MATCH] = STAT_HS_FAIL_NO_MATCH,
	[HS_R_INTERNAL] = STAT_HS_FAIL_INTERNAL,
	[HS_R_CANCELED] = STAT_HS_FAIL_CANCELED,
	[HS_R_VERSION] = STAT_HS_FAIL_NO_MATCH,
	[HS_R_ALPN] = STAT_HS_FAIL_NO_MATCH,
	[HS_R_UNTRUSTED] = STAT_HS_FAIL_ALERT,
};

static void
gauge(struct stats *s, enum stat_counter c, uint64_t v)
{
	atomic_store_explicit((_Atomic uint64_t *)&s->counter[c], v, memory_order_relaxed);
}

static void
hs_gauges(struct tlsd *u)
{
	gauge(u->proc.stat, STAT_HS_HALF_OPEN, u->table.line[HS_HALF].count);
	gauge(u->proc.stat, STAT_HS_UNTAKEN, u->table.line[HS_UNTAKEN].count);
}

BIO_METHOD *
hs_bio_method(const char *name, int (*read)(BIO *b, char *buf, int len),
    int (*write)(BIO *b, const char *buf, int len), long (*ctrl)(BIO *b, int cmd, long num, void *ptr))
{
	BIO_METHOD *m = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, name);

	if (m != NULL && BIO_meth_set_read(m, read) == 1 && BIO_meth_set_write(m, write) == 1 &&
	    BIO_meth_set_ctrl(m, ctrl) == 1)
		return m;
	BIO_meth_free(m);
	return NULL;
}

/* ---- beginning --------------------------------------------------------------------------------- */

static void
tell_failed(struct tlsd *u, const struct hs_who *who, enum hs_reason why)
{
	struct msg_hs_fail m = { .h = { .type = MSG_HS_FAIL, .generation = u->proc.start.h.generation },
		.who = *who,
		.reason = (uint8_t)why };

	stat_add(u->proc.stat, who->dtls != 0 ? STAT_HS_FAILED_DTLS : STAT_HS_FAILED_TLS, 1);
	stat_add(u->proc.stat, fail_row[why], 1);
	/* When the worker's queue is full its own deadline closes the connection. */
	if (why != HS_R_CANCELED)
		toworker(u, who->shard, &m);
}

struct hs *
hs_new(struct tlsd *u, const struct hs_who *who, bool dtls, int fd, enum hs_state state)
{
	struct hs *h = calloc(1, sizeof *h);

	if (h != NULL) {
		h->u = u;
		h->who = *who;
		h->who.number = u->numbers++;
		h->dtls = dtls;
		h->fd = fd;
		h->began = h->moved = clock_ms();
		h->until = h->began + (state == HS_WAITING ? 2 : 1) * u->timeout;
	}
	if (h == NULL || !table_add(&u->table, h, state, u->per_prefix)) {
		free(h);
		if (fd >= 0)
			close(fd);
		log_limited(&u->internal, 1, LOG_L_WARN, "handshake: cannot begin: no memory");
		tell_failed(u, who, HS_R_INTERNAL);
		return NULL;
	}
	u->changed(u);
	return h;
}

bool
hs_begin(struct hs *h)
{
	struct tlsd *u = h->u;

	h->moved = clock_ms();
	h->until = h->moved + u->timeout;
	h->certs = cert_set_take(u->certs);
	h->ssl = cert_set_ssl(h->certs, h->dtls);
	if (h->ssl == NULL || tlsd_tap_attach(&h->tap, h->ssl) < 0) {
		log_limited(
		    &u->internal, 1, LOG_L_WARN, "handshake: cannot begin: no certificate, or no memory");
		hs_fail(h, HS_R_INTERNAL);
		return false;
	}
	SSL_set_accept_state(h->ssl);
	u->swollen |= u->table.line[HS_HALF].count >= CROWD;
	hs_gauges(u);
	CRASH_POINT("tls:begun");
	return true;
}

/* ---- end ---------------------------------------------------------------------------------------- */

/* OpenSSL and the connection are of no more use. */
static void
let_go(struct hs *h)
{
	if (h->ssl != NULL) {
		tlsd_tap_detach(h->ssl);
		SSL_free(h->ssl);
		h->ssl = NULL;
		tlsd_tap_fini(&h->tap);
	}
	cert_set_give(h->certs);
	h->certs = NULL;
	if (h->fd >= 0) {
		loop_del(h->u->proc.loop, h->fd);
		close(h->fd);
		h->fd = -1;
	}
	flight_fini(&h->out);
}

void
hs_free(struct hs *h)
{
	struct tlsd *u = h->u;

	table_del(&u->table, h, u->per_prefix);
	let_go(h);
	if (h->done != NULL)
		sodium_memzero(h->done, sizeof *h->done);
	free(h->done);
	free(h->hello);
	sodium_memzero(h, sizeof *h);
	free(h);
	hs_gauges(u);
	u->changed(u);
}

void
hs_fail(struct hs *h, enum hs_reason why)
{
	/* The alert, as far as the client takes it now. */
	if (h->dtls && h->ssl != NULL)
		flight_reply(h);
	else if (!h->dtls && !h->closed)
		(void)flight_flush(h);
	flight_reset(&h->u->out);
	tell_failed(h->u, &h->who, why);
	hs_free(h);
}

/* AlertDescription, RFC 8446 6: what a client says that does not accept what it was shown. */
static bool
is_about_certificate(int alert)
{
	switch (alert) {
	case SSL_AD_BAD_CERTIFICATE:
	case SSL_AD_UNSUPPORTED_CERTIFICATE:
	case SSL_AD_CERTIFICATE_REVOKED:
	case SSL_AD_CERTIFICATE_EXPIRED:
	case SSL_AD_CERTIFICATE_UNKNOWN:
	case SSL_AD_UNKNOWN_CA:
		return true;
	default:
		return false;
	}
}

static enum hs_reason
reason_of(const struct hs *h)
{
	unsigned long e = ERR_peek_error();
	int r = ERR_GET_REASON(e);

	if (h->closed)
		return HS_R_CLOSED;
	if (h->broken || ERR_GET_LIB(e) != ERR_LIB_SSL)
		return ERR_GET_LIB(e) == ERR_LIB_SSL || e == 0 ? HS_R_PROTOCOL : HS_R_INTERNAL;
	if (r >= SSL_AD_REASON_OFFSET && r < SSL_AD_REASON_OFFSET + 256)
		return is_about_certificate(r - SSL_AD_REASON_OFFSET) ? HS_R_UNTRUSTED : HS_R_ALERT;
	switch (r) {
	case SSL_R_UNSUPPORTED_PROTOCOL:
	case SSL_R_VERSION_TOO_LOW:
		return HS_R_VERSION;
	case SSL_R_NO_APPLICATION_PROTOCOL:
		return HS_R_ALPN;
	case SSL_R_NO_SHARED_CIPHER:
	case SSL_R_NO_SUITABLE_KEY_SHARE:
	case SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM:
	case SSL_R_NO_SHARED_SIGNATURE_ALGORITHMS:
		return HS_R_NO_MATCH;
	case ERR_R_INTERNAL_ERROR:
	case ERR_R_MALLOC_FAILURE:
		return HS_R_INTERNAL;
	default:
		return HS_R_PROTOCOL;
	}
}

static void hs_finish(struct hs *h);

bool
hs_judge(struct hs *h, int ret)
{
	int e;

	if (ret == 1) {
		hs_finish(h);
		return true;
	}
	e = SSL_get_error(h->ssl, ret);
	if (!h->closed && !h->broken && (e == SSL_ERROR_WANT_READ || e == SSL_ERROR_WANT_WRITE))
		return false;
	log_debug("handshake: %s", ERR_reason_error_string(ERR_peek_error()));
	hs_fail(h, reason_of(h));
	return true;
}

/* ---- success ------------------------------------------------------------------------------------- */

/* Data that arrived in the datagram of the client's Finished, or before it: a datagram may be lost. */
static int
export_keys(struct hs *h, struct seal_session *s)
{
	int err = tlsd_export(s, h->ssl, &h->tap);
	uint8_t lost[2048];

	for (unsigned i = 0; i < 64 && err == -EBUSY && h->dtls; i++) {
		if (SSL_read(h->ssl, lost, sizeof lost) <= 0)
			break;
		err = tlsd_export(s, h->ssl, &h->tap);
	}
	return err;
}

static bool
put_flight(struct msg_hs_done *m, const struct hs *h)
{
	const struct flight *f = h->dtls ? &h->u->out : &h->out;

	if (f->len > MSG_HS_FLIGHT_MAX || f->pieces > MSG_HS_PIECES)
		return false;
	if (f->len > 0)
		memcpy(m->flight, f->p, f->len);
	if (h->dtls) {
		m->pieces = (uint8_t)f->pieces;
		memcpy(m->piece, f->piece, f->pieces * sizeof m->piece[0]);
	} else if (f->len > 0) {
		m->pieces = 1;
		m->piece[0] = (uint16_t)f->len;
	}
	return true;
}

static void
count_done(struct tlsd *u, int version)
{
	stat_add(u->proc.stat,
	    version == TLS1_3_VERSION       ? STAT_HS_OK_TLS13
		: version == TLS1_2_VERSION ? STAT_HS_OK_TLS12
					    : STAT_HS_OK_DTLS12,
	    1);
}

/* The handshake is done: export and HS_DONE. */
static void
hs_finish(struct hs *h)
{
	struct tlsd *u = h->u;
	struct msg_hs_done *m = calloc(1, sizeof *m);
	struct seal_session s;
	int err = m != NULL ? export_keys(h, &s) : -ENOMEM;

	if (err == 0 && !put_flight(m, h))
		err = -E2BIG;
	if (err != 0) {
		log_limited(
		    &u->internal, 1, LOG_L_WARN, "handshake: cannot be handed over: %s", strerror(-err));
		free(m);
		hs_fail(h, HS_R_INTERNAL);
		return;
	}
	m->h = (struct msg_head){ .type = MSG_HS_DONE, .generation = u->proc.start.h.generation };
	m->who = h->who;
	m->version = (uint16_t)SSL_version(h->ssl);
	m->cipher = SSL_CIPHER_get_protocol_id(SSL_get_current_cipher(h->ssl));
	m->alpn = (uint8_t)cert_alpn(h->ssl);
	memcpy(m->session, &s, sizeof s);
	sodium_memzero(&s, sizeof s);
	count_done(u, m->version);
	stat_observe(u->proc.stat, SPREAD_HANDSHAKE, clock_ms() - h->began);
	h->done = m;
	flight_reset(&u->out);
	let_go(h);
	table_untaken(&u->table, h, u->per_prefix);
	u->changed(u);
	h->until = clock_ms() + UNTAKEN_MS;
	hs_gauges(u);
	CRASH_POINT("tls:finished");
	hs_offer(h);
}

void
hs_offer(struct hs *h)
{
	h->wake = clock_ms() + RESEND_MS;
	toworker(h->u, h->who.shard, h->done);
	if (h->done->again < UINT8_MAX) /* UNTAKEN_MS ends it long before */
		h->done->again++;
}

void
hs_ack(struct tlsd *u, const struct hs_who *who)
{
	struct hs *h = table_find(&u->table, who);

	CRASH_POINT("tls:acked");
	if (h != NULL && h->state == HS_UNTAKEN && h->who.number == who->number)
		hs_free(h);
}

void
hs_cancel(struct tlsd *u, const struct hs_who *who)
{
	struct hs *h = table_find(&u->table, who);

	if (h == NULL)
		return;
	if (h->state != HS_UNTAKEN)
		hs_fail(h, HS_R_CANCELED);
	else
		hs_free(h);
}
