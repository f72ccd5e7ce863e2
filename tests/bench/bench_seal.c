/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bench_seal.c: what a record costs: ns per seal and open at 120 and 1000 bytes, beside SSL_write and
 * SSL_read of the same suite in memory; and what the key schedules cost.  Not a test: numbers for
 * PERFORMANCE.md.
 */
#include "config.h"

#include <err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tp/seal.h"
#include "tp/tlsd.h"

#define ROUNDS 5
#define CALLS  40000u
#define MANY   64 /* sessions taken in turn, so that every record has another key */

struct end {
	struct seal k;
	struct seal_secrets s;
	struct seal_pos pos;
	struct seal_dtls d;
};
static struct end tx[MANY], rx[MANY];
static struct seal_ctx ctx;
static uint8_t data[SEAL_PLAIN_MAX], out[SEAL_RECORD_MAX], record[CALLS / 8][1100];
static int record_len;

static double
now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void
start(enum seal_proto proto, unsigned suite)
{
	uint8_t a[48] = { 0 }, b[48] = { 1 };

	for (unsigned i = 0; i < MANY; i++) {
		struct end *e[2] = { &tx[i], &rx[i] };
		for (unsigned j = 0; j < 48; j++)
			a[j] = (uint8_t)(i * 31 + j), b[j] = (uint8_t)(i * 17 + 3 * j);
		for (unsigned r = 0; r < 2; r++) {
			memset(e[r], 0, sizeof *e[r]);
			int fault = proto == SEAL_TLS13
			    ? seal_start13(&e[r]->k, &e[r]->s, (enum seal_role)r, suite, a, b,
				  seal_secret_len(suite))
			    : seal_start12(&e[r]->k, proto, (enum seal_role)r, suite, a, b, b, i);
			if (fault != SEAL_OK)
				errx(1, "start: %s", seal_fault_name(fault));
		}
	}
}

static int
seal_one(struct end *e, size_t n, uint8_t *rec)
{
	uint64_t seq;

	if (e->k.proto != SEAL_DTLS12)
		return seal_seal(
		    &e->k, &e->pos, &ctx, SEAL_T_DATA, data, n, rec, sizeof record[0], &e->pos);
	if (seal_dtls_take(&e->d, &seq) != SEAL_OK)
		return -1;
	return seal_dtls_seal(&e->k, &ctx, seq, SEAL_T_DATA, data, n, rec, sizeof record[0]);
}

static int
open_one(struct end *e, const uint8_t *rec, size_t n)
{
	struct seal_in in;
	struct seal_dhead h;

	if (e->k.proto != SEAL_DTLS12)
		return seal_open(&e->k, &e->pos, &ctx, rec, n, out, sizeof out, &in, &e->pos);
	if (seal_dtls_head(&h, rec, n) < 0 || !seal_window_fresh(&e->d, h.seq) ||
	    seal_dtls_open(&e->k, &ctx, rec, n, out, sizeof out, &in) != SEAL_OK)
		return -1;
	seal_window_mark(&e->d, h.seq);
	return 0;
}

/* Best of some rounds, over `sessions` sessions in turn. */
static void
ours(enum seal_proto proto, unsigned suite, size_t n, unsigned sessions, double best[2])
{
	best[0] = best[1] = 1e18;
	for (unsigned r = 0; r < ROUNDS; r++) {
		double took[2] = { 0, 0 };
		start(proto, suite);
		for (unsigned done = 0; done < CALLS; done += TP_COUNT(record)) {
			double t0 = now_ns();
			for (unsigned i = 0; i < TP_COUNT(record); i++)
				if ((record_len = seal_one(&tx[i % sessions], n, record[i])) < 0)
					errx(1, "seal");
			double t1 = now_ns();
			for (unsigned i = 0; i < TP_COUNT(record); i++)
				if (open_one(&rx[i % sessions], record[i], (size_t)record_len) != 0)
					errx(1, "open");
			took[0] += t1 - t0;
			took[1] += now_ns() - t1;
		}
		for (unsigned i = 0; i < 2; i++)
			if (took[i] / CALLS < best[i])
				best[i] = took[i] / CALLS;
	}
}

/* ---- libssl -------------------------------------------------------------------------------- */

static const char *const names13[] = { "", "TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384",
	"TLS_CHACHA20_POLY1305_SHA256" };
static const char *const names12[] = { "", "ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384",
	"ECDHE-ECDSA-CHACHA20-POLY1305" };

static SSL_CTX *
make_ctx(enum seal_proto proto, unsigned suite, bool server)
{
	static EVP_PKEY *key;
	SSL_CTX *c = SSL_CTX_new(proto == SEAL_DTLS12 ? DTLS_method() : TLS_method());
	int version = proto == SEAL_TLS13 ? TLS1_3_VERSION
	    : proto == SEAL_TLS12         ? TLS1_2_VERSION
					  : DTLS1_2_VERSION;

	if (tlsd_ctx_policy(c) != 0 || SSL_CTX_set_cipher_list(c, names12[suite]) != 1 ||
	    SSL_CTX_set_ciphersuites(c, names13[suite]) != 1)
		errx(1, "policy");
	SSL_CTX_set_min_proto_version(c, version);
	SSL_CTX_set_max_proto_version(c, version);
	if (!server)
		return c;
	if (key == NULL)
		key = EVP_EC_gen("P-256");
	X509 *x = X509_new();
	X509_gmtime_adj(X509_getm_notBefore(x), 0);
	X509_gmtime_adj(X509_getm_notAfter(x), 3600);
	X509_set_pubkey(x, key);
	X509_sign(x, key, EVP_sha256());
	if (SSL_CTX_use_certificate(c, x) != 1 || SSL_CTX_use_PrivateKey(c, key) != 1)
		errx(1, "certificate");
	X509_free(x);
	return c;
}

static void
theirs(enum seal_proto proto, unsigned suite, size_t n, double best[2])
{
	SSL_CTX *c[2] = { make_ctx(proto, suite, true), make_ctx(proto, suite, false) };
	SSL *s[2];
	BIO *b[2] = { BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()) };

	for (unsigned i = 0; i < 2; i++) {
		s[i] = SSL_new(c[i]);
		BIO_set_mem_eof_return(b[i], -1);
		BIO_up_ref(b[0]);
		BIO_up_ref(b[1]);
		SSL_set_bio(s[i], b[i], b[!i]);
		SSL_set_options(s[i], SSL_OP_NO_QUERY_MTU);
		if (proto == SEAL_DTLS12)
			SSL_set_mtu(s[i], 1400);
	}
	SSL_set_accept_state(s[0]);
	SSL_set_connect_state(s[1]);
	for (unsigned i = 0; i < 10; i++)
		SSL_do_handshake(s[1]), SSL_do_handshake(s[0]);
	if (!SSL_is_init_finished(s[0]) || !SSL_is_init_finished(s[1]))
		errx(1, "handshake");
	best[0] = best[1] = 1e18;
	for (unsigned r = 0; r < ROUNDS; r++) {
		double took[2] = { 0, 0 };
		/* One at a time: a memory BIO has no datagrams.  The clock's own cost is taken off
		 * below. */
		for (unsigned i = 0; i < CALLS; i++) {
			double t0 = now_ns();
			if (SSL_write(s[0], data, (int)n) != (int)n)
				errx(1, "SSL_write");
			double t1 = now_ns();
			if (SSL_read(s[1], out, sizeof out) != (int)n)
				errx(1, "SSL_read");
			took[0] += t1 - t0;
			took[1] += now_ns() - t1;
		}
		for (unsigned i = 0; i < 2; i++)
			if (took[i] / CALLS < best[i])
				best[i] = took[i] / CALLS;
	}
	double t0 = now_ns();
	for (unsigned i = 0; i < CALLS; i++)
		now_ns();
	double clock_cost = (now_ns() - t0) / CALLS;
	for (unsigned i = 0; i < 2; i++) {
		best[i] -= clock_cost;
		SSL_free(s[i]);
		SSL_CTX_free(c[i]);
		BIO_free(b[i]);
	}
}

static void
schedules(void)
{
	uint8_t secret[48] = { 0 };
	struct end e = { 0 };
	const unsigned calls = 2000;
	double t[4];

	t[0] = now_ns();
	for (unsigned i = 0; i < calls; i++)
		seal_start12(&e.k, SEAL_TLS12, SEAL_SERVER, SEAL_AES256_SHA384, secret, secret, secret, i);
	t[1] = now_ns();
	for (unsigned i = 0; i < calls; i++)
		seal_start13(&e.k, &e.s, SEAL_SERVER, SEAL_AES256_SHA384, secret, secret, 48);
	t[2] = now_ns();
	for (unsigned i = 0; i < calls; i++) {
		struct seal_pos next = e.pos;
		if (seal_rekey(&e.k, &e.s, &e.pos, &next, SEAL_RX) != SEAL_OK ||
		    seal_sync(&e.k, &e.s, &next) != SEAL_OK)
			errx(1, "rekey");
		e.pos = next;
	}
	t[3] = now_ns();
	printf("\nus: keys of a 1.2 session %.1f, of a 1.3 session %.1f, one KeyUpdate %.1f\n",
	    (t[1] - t[0]) / calls / 1e3, (t[2] - t[1]) / calls / 1e3, (t[3] - t[2]) / calls / 1e3);
}

int
main(void)
{
	static const char *const protos[] = { "", "TLS 1.2", "TLS 1.3", "DTLS 1.2" };
	static const unsigned order[] = { SEAL_AES256_SHA384, SEAL_CHACHA_SHA256, SEAL_AES128_SHA256 };
	static const size_t sizes[] = { 120, 1000 };

	if (seal_ctx_init(&ctx) != SEAL_OK)
		errx(1, "seal_ctx_init");
	printf("ns a record, seal / open; AES-256-GCM by %s\n", ctx.sodium_aes ? "libsodium" : "libcrypto");
	printf("%-9s %-18s %5s %17s %17s %17s\n", "", "", "bytes", "one session", "64 in turn",
	    "SSL_write / read");
	for (unsigned p = SEAL_TLS12; p <= SEAL_DTLS12; p++)
		for (unsigned i = 0; i < TP_COUNT(order); i++)
			for (unsigned n = 0; n < 2; n++) {
				double one[2], many[2], ssl[2];
				ours((enum seal_proto)p, order[i], sizes[n], 1, one);
				ours((enum seal_proto)p, order[i], sizes[n], MANY, many);
				theirs((enum seal_proto)p, order[i], sizes[n], ssl);
				printf("%-9s %-18s %5zu %8.0f /%7.0f %8.0f /%7.0f %8.0f /%7.0f\n",
				    protos[p], seal_suite_name(order[i]), sizes[n], one[0], one[1], many[0],
				    many[1], ssl[0], ssl[1]);
			}
	schedules();
	seal_ctx_fini(&ctx);
	return EXIT_SUCCESS;
}
