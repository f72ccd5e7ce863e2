/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * secure.c: TLS and DTLS of one connection, without its socket: bytes of the network go in by secure_in()
 * and come out by a function of the owner, so nothing here ever waits.
 */
#include "config.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <sysexits.h>
#include <unistd.h>

#include "load_int.h"

#define DTLS_MTU 1400 /* of handshake messages */

struct secure_env {
	SSL_CTX *ctx;
	BIO_METHOD *bio;
	const struct load_options *o;
};
struct secure {
	SSL *ssl;
	const uint8_t *in;
	size_t left;
	secure_out_h *out;
	void *arg;
};

/* ---- the BIO ---- */

static int
bio_write(BIO *b, const char *p, int n)
{
	struct secure *s = BIO_get_data(b);

	BIO_clear_retry_flags(b);
	s->out(s->arg, (const uint8_t *)p, (size_t)n);
	return n;
}

static int
bio_read(BIO *b, char *p, int n)
{
	struct secure *s = BIO_get_data(b);
	size_t k = s->left < (size_t)n ? s->left : (size_t)n;

	BIO_clear_retry_flags(b);
	if (k == 0) {
		BIO_set_retry_read(b);
		return -1;
	}
	memcpy(p, s->in, k);
	s->in += k;
	s->left -= k;
	return (int)k;
}

static long
bio_ctrl(BIO *b, int command, long num, void *p)
{
	(void)b;
	(void)num;
	(void)p;
	switch (command) {
	case BIO_CTRL_FLUSH:
		return 1;
	case BIO_CTRL_DGRAM_QUERY_MTU:
	case BIO_CTRL_DGRAM_GET_FALLBACK_MTU:
		return DTLS_MTU;
	default:
		return 0;
	}
}

static int
bio_create(BIO *b)
{
	BIO_set_init(b, 1);
	return 1;
}

/* ---- what all connections share ---- */

static void __attribute__((noreturn)) no_tls(const char *what)
{
	const char *why = ERR_reason_error_string(ERR_peek_last_error());

	errno = 0;
	fatal(EX_UNAVAILABLE, "%s: %s", what, why != NULL ? why : "OpenSSL cannot do it");
}

struct secure_env *
secure_env_new(const struct load_options *o)
{
	struct secure_env *e = calloc(1, sizeof *e);

	if (e == NULL)
		fatal(EX_OSERR, "no memory");
	e->o = o;
	e->ctx = SSL_CTX_new(o->transport == LOAD_DTLS ? DTLS_client_method() : TLS_client_method());
	e->bio = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "turnpike-load");
	if (e->ctx == NULL || e->bio == NULL)
		no_tls("TLS");
	BIO_meth_set_write(e->bio, bio_write);
	BIO_meth_set_read(e->bio, bio_read);
	BIO_meth_set_ctrl(e->bio, bio_ctrl);
	BIO_meth_set_create(e->bio, bio_create);
	SSL_CTX_set_min_proto_version(e->ctx, o->transport == LOAD_DTLS ? DTLS1_2_VERSION : TLS1_2_VERSION);
	SSL_CTX_set_mode(e->ctx, SSL_MODE_RELEASE_BUFFERS);
	SSL_CTX_set_options(e->ctx, SSL_OP_NO_QUERY_MTU);
	if (o->ca[0] != '\0') {
		if (access(o->ca, R_OK) != 0)
			fatal(EX_NOINPUT, "--ca %s", o->ca);
		if (SSL_CTX_load_verify_locations(e->ctx, o->ca, NULL) != 1)
			no_tls(o->ca);
		SSL_CTX_set_verify(e->ctx, SSL_VERIFY_PEER, NULL);
	}
	return e;
}

void
secure_env_free(struct secure_env *e)
{
	if (e == NULL)
		return;
	SSL_CTX_free(e->ctx);
	BIO_meth_free(e->bio);
	free(e);
}

/* ---- one connection ---- */

/* The name asked for and, with --ca, demanded of the certificate; without a name the address is. */
static bool
set_name(const struct load_options *o, SSL *ssl)
{
	X509_VERIFY_PARAM *param = SSL_get0_param(ssl);
	char ip[ADDR_STRLEN];

	if (o->server_name[0] != '\0')
		return SSL_set_tlsext_host_name(ssl, o->server_name) == 1 &&
		    (o->ca[0] == '\0' || X509_VERIFY_PARAM_set1_host(param, o->server_name, 0) == 1);
	return o->ca[0] == '\0' || X509_VERIFY_PARAM_set1_ip_asc(param, addr_print_ip(&o->server, ip)) == 1;
}

struct secure *
secure_new(struct secure_env *e, secure_out_h *out, void *arg)
{
	struct secure *s = calloc(1, sizeof *s);
	BIO *b = s != NULL ? BIO_new(e->bio) : NULL;

	if (b == NULL || (s->ssl = SSL_new(e->ctx)) == NULL || !set_name(e->o, s->ssl))
		fatal(EX_OSERR, "no memory for TLS");
	s->out = out;
	s->arg = arg;
	BIO_set_data(b, s);
	SSL_set_bio(s->ssl, b, b);
	if (SSL_is_dtls(s->ssl))
		SSL_set_mtu(s->ssl, DTLS_MTU);
	SSL_set_connect_state(s->ssl);
	return s;
}

void
secure_free(struct secure *s, bool goodbye)
{
	if (s == NULL)
		return;
	ERR_clear_error();
	if (goodbye && SSL_is_init_finished(s->ssl))
		(void)SSL_shutdown(s->ssl);
	SSL_free(s->ssl);
	free(s);
}

void
secure_in(struct secure *s, const uint8_t *p, size_t n)
{
	s->in = p;
	s->left = n;
}

int
secure_handshake(struct secure *s)
{
	int r;

	ERR_clear_error();
	r = SSL_do_handshake(s->ssl);
	if (r == 1)
		return 1;
	r = SSL_get_error(s->ssl, r);
	return r == SSL_ERROR_WANT_READ || r == SSL_ERROR_WANT_WRITE ? 0 : -EPROTO;
}

ssize_t
secure_read(struct secure *s, uint8_t *p, size_t n)
{
	int r;

	ERR_clear_error();
	r = SSL_read(s->ssl, p, (int)n);
	if (r > 0)
		return r;
	switch (SSL_get_error(s->ssl, r)) {
	case SSL_ERROR_WANT_READ:
	case SSL_ERROR_WANT_WRITE:
		return 0;
	case SSL_ERROR_ZERO_RETURN:
		return -EPIPE;
	default:
		return -EPROTO;
	}
}

int
secure_write(struct secure *s, const uint8_t *p, size_t n)
{
	ERR_clear_error();
	return SSL_write(s->ssl, p, (int)n) == (int)n ? 0 : -EPROTO;
}

void
secure_tick(struct secure *s)
{
	ERR_clear_error();
	(void)DTLSv1_handle_timeout(s->ssl); /* looks at the clock itself */
}

void
secure_describe(const struct secure *s, char *out, size_t n)
{
	snprintf(out, n, "%s %s", SSL_get_version(s->ssl), SSL_get_cipher_name(s->ssl));
}

void
secure_reason(const struct secure *s, char *out, size_t n)
{
	unsigned long e = ERR_peek_error();
	long verdict = SSL_get_verify_result(s->ssl);
	const char *text = e != 0 ? ERR_reason_error_string(e) : NULL;

	if (verdict != X509_V_OK && SSL_get_verify_mode(s->ssl) != SSL_VERIFY_NONE)
		text = X509_verify_cert_error_string(verdict);
	snprintf(out, n, "%s", text != NULL ? text : "connection closed");
}
