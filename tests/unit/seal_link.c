/* SPDX-License-Identifier: BSD-3-Clause */
/* seal_link.c: a connection between seal and libssl. */
#include "config.h"

#include <check.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/rand.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "seal_link.h"

#define ROLES(proto, suite, rsa)                                                                           \
	{ proto, suite, rsa, SEAL_SERVER },                                                                \
	{                                                                                                  \
		proto, suite, rsa, SEAL_CLIENT                                                             \
	}
#define CERTS(proto, suite) ROLES(proto, suite, false), ROLES(proto, suite, true)
#define SUITES(proto)                                                                                      \
	CERTS(proto, SEAL_AES256_SHA384), CERTS(proto, SEAL_CHACHA_SHA256), CERTS(proto, SEAL_AES128_SHA256)
const struct link_case link_cases[] = { SUITES(SEAL_TLS13), SUITES(SEAL_TLS12), SUITES(SEAL_DTLS12) };
const unsigned link_case_count = TP_COUNT(link_cases);

static const char *const names13[] = { "", "TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384",
	"TLS_CHACHA20_POLY1305_SHA256" };
static const char *const names12[] = { "", "AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305" };

uint64_t
test_random(uint64_t *s)
{
	uint64_t z = (*s += UINT64_C(0x9e3779b97f4a7c15)); /* splitmix64 */

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

uint64_t
test_seed(const char *name)
{
	const char *given = getenv("TP_SEED");
	uint64_t seed = given != NULL ? strtoull(given, NULL, 0) : (uint64_t)time(NULL);

	printf("%s: TP_SEED=%llu\n", name, (unsigned long long)seed);
	fflush(stdout);
	return seed;
}

static EVP_PKEY *
key_of(bool rsa)
{
	static EVP_PKEY *keys[2];

	if (keys[rsa] == NULL)
		keys[rsa] = rsa ? EVP_RSA_gen(2048) : EVP_EC_gen("P-256");
	ck_assert_ptr_nonnull(keys[rsa]);
	return keys[rsa];
}

void
link_keys(void)
{
	key_of(false);
	key_of(true);
}

static void
add_certificate(SSL_CTX *ctx, EVP_PKEY *key)
{
	X509 *x = X509_new();
	X509_NAME *name = X509_get_subject_name(x);

	ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
	X509_gmtime_adj(X509_getm_notBefore(x), 0);
	X509_gmtime_adj(X509_getm_notAfter(x), 3600);
	X509_NAME_add_entry_by_txt(
	    name, "CN", MBSTRING_ASC, (const unsigned char *)"turn.example", -1, -1, 0);
	X509_set_issuer_name(x, name);
	X509_set_pubkey(x, key);
	ck_assert_int_gt(X509_sign(x, key, EVP_sha256()), 0);
	ck_assert_int_eq(SSL_CTX_use_certificate(ctx, x), 1);
	ck_assert_int_eq(SSL_CTX_use_PrivateKey(ctx, key), 1);
	X509_free(x);
}

static SSL_CTX *
make_ctx(const struct link_case *k, enum seal_role role)
{
	bool dtls = k->proto == SEAL_DTLS12;
	int version = dtls ? DTLS1_2_VERSION : k->proto == SEAL_TLS13 ? TLS1_3_VERSION : TLS1_2_VERSION;
	SSL_CTX *ctx = SSL_CTX_new(dtls ? DTLS_method() : TLS_method());
	char list[64];

	ck_assert_int_eq(tlsd_ctx_policy(ctx), 0);
	snprintf(list, sizeof list, "ECDHE-%s-%s", k->rsa ? "RSA" : "ECDSA", names12[k->suite]);
	ck_assert_int_eq(SSL_CTX_set_cipher_list(ctx, list), 1);
	ck_assert_int_eq(SSL_CTX_set_ciphersuites(ctx, names13[k->suite]), 1);
	SSL_CTX_set_min_proto_version(ctx, version);
	SSL_CTX_set_max_proto_version(ctx, version);
	if (role == SEAL_SERVER)
		add_certificate(ctx, key_of(k->rsa));
	return ctx;
}

void
link_init(struct link *l, const struct link_case *k, struct seal_ctx *c)
{
	memset(l, 0, sizeof *l);
	l->k = *k;
	l->c = c;
	for (unsigned i = 0; i < 2; i++) {
		l->ctx[i] = make_ctx(k, (enum seal_role)i);
		l->ssl[i] = SSL_new(l->ctx[i]);
		SSL_set_bio(l->ssl[i], BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
		BIO_set_mem_eof_return(SSL_get_rbio(l->ssl[i]), -1);
		SSL_set_options(l->ssl[i], SSL_OP_NO_QUERY_MTU);
		if (k->proto == SEAL_DTLS12)
			SSL_set_mtu(l->ssl[i], 1400);
		ck_assert_int_eq(tlsd_tap_attach(&l->tap[i], l->ssl[i]), 0);
	}
	SSL_set_accept_state(l->ssl[SEAL_SERVER]);
	SSL_set_connect_state(l->ssl[SEAL_CLIENT]);
	l->peer = l->ssl[!k->role];
}

/* Pieces of an odd size, to try the tap's assembly. */
static void
move(struct link *l, unsigned from, bool deliver)
{
	uint8_t buf[257];
	int n;

	while ((n = BIO_read(SSL_get_wbio(l->ssl[from]), buf, sizeof buf)) > 0) {
		for (int i = 0; i < n && from == l->k.role; i++) {
			memmove(l->tail, l->tail + 1, sizeof l->tail - 1);
			l->tail[sizeof l->tail - 1] = buf[i];
		}
		ck_assert_int_eq(tlsd_tap_out(&l->tap[from], buf, (size_t)n), 0);
		if (deliver)
			BIO_write(SSL_get_rbio(l->ssl[!from]), buf, n);
	}
}

void
link_move(struct link *l, enum seal_role from)
{
	move(l, from, true);
}

void
link_handshake(struct link *l, bool hold_last)
{
	SSL *s = l->ssl[SEAL_SERVER], *c = l->ssl[SEAL_CLIENT];
	struct seal_session none;

	ck_assert_int_eq(tlsd_export(&none, l->ssl[l->k.role], &l->tap[l->k.role]), -EAGAIN);
	for (unsigned round = 0; round < 100; round++) { /* DTLS sends again on a slow machine */
		SSL_do_handshake(c);
		move(l, SEAL_CLIENT, true);
		SSL_do_handshake(s);
		move(l, SEAL_SERVER, !(hold_last && SSL_is_init_finished(s)));
		if (SSL_is_init_finished(s) && hold_last)
			return;
		if (SSL_do_handshake(c) == 1 && SSL_is_init_finished(s) &&
		    BIO_pending(SSL_get_wbio(c)) == 0)
			return;
	}
	ERR_print_errors_fp(stderr);
	ck_abort_msg("no handshake");
}

void
link_take_over(struct link *l)
{
	SSL **ours = &l->ssl[l->k.role];

	ck_assert_int_eq(tlsd_export(&l->s, *ours, &l->tap[l->k.role]), 0);
	ck_assert(seal_valid(&l->s.keys));
	ck_assert_uint_eq(l->s.keys.suite, l->k.suite);
	tlsd_tap_detach(*ours);
	SSL_free(*ours);
	*ours = NULL;
}

void
link_open(struct link *l, const struct link_case *k, struct seal_ctx *c)
{
	link_init(l, k, c);
	link_handshake(l, false);
	link_take_over(l);
}

void
link_fini(struct link *l)
{
	for (unsigned i = 0; i < 2; i++) {
		SSL_free(l->ssl[i]);
		SSL_CTX_free(l->ctx[i]);
		tlsd_tap_fini(&l->tap[i]);
	}
	ERR_clear_error();
}

size_t
link_from_peer(struct link *l, uint8_t *buf, size_t room)
{
	int n = BIO_read(SSL_get_wbio(l->peer), buf, (int)room);

	return n > 0 ? (size_t)n : 0;
}

void
link_to_peer(struct link *l, const uint8_t *buf, size_t n)
{
	ck_assert_int_eq(BIO_write(SSL_get_rbio(l->peer), buf, (int)n), (int)n);
}

size_t
link_peer_writes(struct link *l, const void *data, size_t n, uint8_t *raw, size_t room)
{
	ck_assert_int_eq(SSL_write(l->peer, data, (int)n), (int)n);
	return link_from_peer(l, raw, room);
}

void
link_peer_reads(struct link *l, const void *want, size_t n)
{
	static uint8_t got[SEAL_RECORD_MAX];
	int r = SSL_read(l->peer, got, sizeof got);

	if (r < 0 || (size_t)r != n)
		ERR_print_errors_fp(stderr);
	ck_assert_int_eq(r, (int)n);
	ck_assert_mem_eq(got, want, n);
}

void
link_send(struct link *l, uint8_t type, const void *data, size_t n)
{
	static uint8_t rec[SEAL_RECORD_MAX];
	struct seal_session *s = &l->s;
	struct seal_pos next;
	uint64_t seq;
	int len;

	if (l->k.proto == SEAL_DTLS12) {
		ck_assert_int_eq(seal_dtls_take(&s->dtls, &seq), 0);
		len = seal_dtls_seal(&s->keys, l->c, seq, type, data, n, rec, sizeof rec);
	} else {
		len = seal_seal(&s->keys, &s->pos, l->c, type, data, n, rec, sizeof rec, &next);
		s->pos = next;
	}
	ck_assert_int_eq(len, (int)(seal_before(&s->keys) + n + seal_after(&s->keys)));
	link_to_peer(l, rec, (size_t)len);
}

size_t
link_record_len(const struct link *l, const uint8_t *p, size_t n)
{
	struct seal_dhead h;
	int len = l->k.proto == SEAL_DTLS12 ? seal_dtls_head(&h, p, n) : seal_stream_len(&l->s.keys, p, n);

	ck_assert_int_gt(len, 0);
	ck_assert_uint_le((size_t)len, n);
	return (size_t)len;
}

void
link_recv(struct link *l, const uint8_t *rec, size_t n, struct seal_in *in, uint8_t *out, size_t room)
{
	struct seal_session *s = &l->s;
	struct seal_dhead h;
	struct seal_pos next;

	if (l->k.proto == SEAL_DTLS12) {
		ck_assert_int_eq(seal_dtls_head(&h, rec, n), (int)n);
		ck_assert_int_eq(h.dclass, SEAL_D_SESSION);
		ck_assert(seal_window_fresh(&s->dtls, h.seq));
		ck_assert_int_eq(seal_dtls_open(&s->keys, l->c, rec, n, out, room, in), 0);
		seal_window_mark(&s->dtls, h.seq);
		ck_assert(!seal_window_fresh(&s->dtls, h.seq));
	} else {
		ck_assert_int_eq(seal_open(&s->keys, &s->pos, l->c, rec, n, out, room, in, &next), 0);
		s->pos = next;
	}
}

void
link_echo(struct link *l, const void *data, size_t n)
{
	static uint8_t raw[SEAL_RECORD_MAX + 64], out[SEAL_RECORD_MAX];
	struct seal_in in;

	size_t len = link_peer_writes(l, data, n, raw, sizeof raw);
	ck_assert_uint_eq(link_record_len(l, raw, len), len);
	link_recv(l, raw, len, &in, out, sizeof out);
	ck_assert_int_eq(in.kind, SEAL_DATA);
	ck_assert_uint_eq(in.len, n);
	ck_assert_mem_eq(in.data, data, n);
	link_send(l, SEAL_T_DATA, in.data, in.len);
	link_peer_reads(l, data, n);
}
