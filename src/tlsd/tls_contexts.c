/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tls_contexts.c: certificates and keys as OpenSSL contexts: one pair (TLS, DTLS) for each set of names,
 * in which certificates of different kinds of key stand beside each other and OpenSSL takes what the
 * client can check.
 */
#include "config.h"

#include <ctype.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <sodium.h>
#include <stdlib.h>

#include "tlsd_int.h"

#define GROUPS "X25519:P-256:P-384:P-521"
#define HYBRID "X25519MLKEM768" /* draft-ietf-tls-ecdhe-mlkem, of TLS 1.3 only */

struct group {
	char *names;     /* "a b c" */
	SSL_CTX *ctx[2]; /* TLS, DTLS */
};
struct cert_set {
	unsigned users, count, certificates;
	struct group group[CONF_CERTS_MAX]; /* [0] is for names that none has */
};

/* ---- names ---------------------------------------------------------------------------------------- */

static int
by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* A name with a blank or control character in it would be two, or a trick. */
static char *
lower(const ASN1_STRING *s)
{
	const unsigned char *p = ASN1_STRING_get0_data(s);
	int n = ASN1_STRING_length(s);
	char *out = n > 0 && n < 256 ? malloc((size_t)n + 1) : NULL;

	for (int i = 0; out != NULL && i < n; i++) {
		if (p[i] <= ' ' || p[i] >= 0x7f) {
			free(out);
			return NULL;
		}
		out[i] = (char)tolower(p[i]);
	}
	if (out != NULL)
		out[n] = '\0';
	return out;
}

static char *
join(char **name, size_t count)
{
	size_t len = 1;
	char *out;

	qsort(name, count, sizeof *name, by_text);
	for (size_t i = 0; i < count; i++)
		len += strlen(name[i]) + 1;
	out = calloc(1, len);
	for (size_t i = 0; i < count; i++) {
		if (out != NULL && (i == 0 || strcmp(name[i - 1], name[i]) != 0)) {
			strcat(out, out[0] != '\0' ? " " : "");
			strcat(out, name[i]);
		}
	}
	for (size_t i = 0; i < count; i++)
		free(name[i]);
	return out;
}

/* The names that clients may ask for, lower case, as "a b c"; malloc'ed; "" for none. */
static char *
cert_names(const X509 *x)
{
	GENERAL_NAMES *all = X509_get_ext_d2i(x, NID_subject_alt_name, NULL, NULL);
	const X509_NAME *subject = X509_get_subject_name(x);
	int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
	char *name[256], *one;
	size_t count = 0;

	for (int i = 0; i < sk_GENERAL_NAME_num(all) && count < TP_COUNT(name); i++) {
		const GENERAL_NAME *g = sk_GENERAL_NAME_value(all, i);

		if (g->type == GEN_DNS && (one = lower(g->d.dNSName)) != NULL)
			name[count++] = one;
	}
	/* Without alternative names the old way. */
	if (all == NULL && at >= 0 &&
	    (one = lower(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)))) != NULL)
		name[count++] = one;
	GENERAL_NAMES_free(all);
	return join(name, count);
}

/* Is `want` in the list, itself or with `*` for its first label (RFC 6125 6.4.3)? */
static bool
has_name(const char *names, const char *want, bool wildcard)
{
	const char *rest = strchr(want, '.');
	size_t len;

	for (const char *p = names; *p != '\0'; p += len + strspn(p + len, " ")) {
		len = strcspn(p, " ");
		if (!wildcard && strlen(want) == len && memcmp(p, want, len) == 0)
			return true;
		if (wildcard && rest != NULL && rest != want && p[0] == '*' && strlen(rest) == len - 1 &&
		    memcmp(p + 1, rest, len - 1) == 0)
			return true;
	}
	return false;
}

static struct group *
group_for(struct cert_set *s, const char *name)
{
	for (unsigned pass = 0; pass < 2; pass++)
		for (unsigned i = 0; i < s->count; i++)
			if (has_name(s->group[i].names, name, pass == 1))
				return &s->group[i];
	return NULL;
}

/* ---- what a context asks ------------------------------------------------------------------------ */

static int
on_name(SSL *ssl, int *alert, void *arg)
{
	const char *asked = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
	struct cert_set *s = arg;
	char name[256];
	struct group *g;
	size_t n = asked != NULL ? strlen(asked) : 0;

	(void)alert;
	if (n == 0 || n >= sizeof name)
		return SSL_TLSEXT_ERR_NOACK;
	for (size_t i = 0; i <= n; i++)
		name[i] = (char)tolower((unsigned char)asked[i]);
	if (name[n - 1] == '.')
		name[n - 1] = '\0';
	g = group_for(s, name);
	if (g == NULL)
		return SSL_TLSEXT_ERR_NOACK;
	SSL_set_SSL_CTX(ssl, g->ctx[SSL_is_dtls(ssl)]);
	return SSL_TLSEXT_ERR_OK;
}

static const char *const protocols[] = {
	[HS_ALPN_TURN] = "stun.turn", [HS_ALPN_DISCOVERY] = "stun.nat-discovery"
};

static int
on_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len, const unsigned char *in,
    unsigned in_len, void *arg)
{
	(void)ssl;
	(void)arg;
	for (unsigned k = 1; k < TP_COUNT(protocols); k++) {
		size_t n = strlen(protocols[k]);

		for (unsigned at = 0; at < in_len && at + 1u + in[at] <= in_len; at += 1u + in[at])
			if (in[at] == n && memcmp(in + at + 1, protocols[k], n) == 0) {
				*out = in + at + 1;
				*out_len = (unsigned char)n;
				return SSL_TLSEXT_ERR_OK;
			}
	}
	return SSL_TLSEXT_ERR_ALERT_FATAL; /* no_application_protocol, RFC 7301 3.2 */
}

unsigned
cert_alpn(const SSL *ssl)
{
	const unsigned char *p;
	unsigned len;

	SSL_get0_alpn_selected(ssl, &p, &len);
	for (unsigned k = 1; k < TP_COUNT(protocols); k++)
		if (len == strlen(protocols[k]) && memcmp(p, protocols[k], len) == 0)
			return k;
	return HS_ALPN_NONE;
}

/* ---- contexts ------------------------------------------------------------------------------------ */

/* With the hybrid group first where this libssl has it: OpenSSL 3.5 does, 3.0 refuses a list with a
 * name that it does not know. */
static bool
set_groups(SSL_CTX *ctx, bool dtls)
{
	bool ok = !dtls && SSL_CTX_set1_groups_list(ctx, HYBRID ":" GROUPS) == 1;

	ERR_clear_error();
	return ok || SSL_CTX_set1_groups_list(ctx, GROUPS) == 1;
}

/* The worker made the cookie and checked it: OpenSSL is to find what the hello has. */
static int
on_cookie_make(SSL *ssl, unsigned char *cookie, unsigned int *len)
{
	const struct hs *h = hs_of(ssl);

	memcpy(cookie, h->cookie, SEAL_COOKIE_LEN);
	*len = SEAL_COOKIE_LEN;
	return 1;
}

static int
on_cookie_check(SSL *ssl, const unsigned char *cookie, unsigned int len)
{
	const struct hs *h = hs_of(ssl);

	return len == SEAL_COOKIE_LEN && sodium_memcmp(cookie, h->cookie, len) == 0;
}

static SSL_CTX *
make_ctx(struct cert_set *s, bool dtls, enum conf_tls least)
{
	SSL_CTX *ctx = SSL_CTX_new(dtls ? DTLS_server_method() : TLS_server_method());

	if (ctx == NULL)
		return NULL;
	if (tlsd_ctx_policy(ctx) < 0 || !set_groups(ctx, dtls) ||
	    SSL_CTX_set_min_proto_version(ctx,
		dtls                      ? DTLS1_2_VERSION
		    : least == CONF_TLS13 ? TLS1_3_VERSION
					  : TLS1_2_VERSION) != 1) {
		SSL_CTX_free(ctx);
		return NULL;
	}
	SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS);
	SSL_CTX_set_tlsext_servername_callback(ctx, on_name);
	SSL_CTX_set_tlsext_servername_arg(ctx, s);
	SSL_CTX_set_alpn_select_cb(ctx, on_alpn, NULL);
	SSL_CTX_set_cookie_generate_cb(ctx, on_cookie_make);
	SSL_CTX_set_cookie_verify_cb(ctx, on_cookie_check);
	return ctx;
}

static struct group *
group_add(struct cert_set *s, char *names, enum conf_tls least)
{
	struct group *g;

	for (unsigned i = 0; i < s->count; i++)
		if (strcmp(s->group[i].names, names) == 0) {
			free(names);
			return &s->group[i];
		}
	g = &s->group[s->count++];
	g->names = names;
	g->ctx[0] = make_ctx(s, false, least);
	g->ctx[1] = make_ctx(s, true, least);
	return g->ctx[0] != NULL && g->ctx[1] != NULL ? g : NULL;
}

struct secret {
	const char *p;
	size_t len;
};

static int
give_password(char *buf, int size, int rwflag, void *arg)
{
	const struct secret *s = arg;

	(void)rwflag;
	if (s->len == 0 || s->len > (size_t)size)
		return -1;
	memcpy(buf, s->p, s->len);
	return (int)s->len;
}

static bool
use(struct group *g, X509 *x, EVP_PKEY *key, BIO *chain)
{
	STACK_OF(X509) *more = sk_X509_new_null();
	X509 *next;
	bool ok = more != NULL;

	while (ok && (next = PEM_read_bio_X509(chain, NULL, NULL, NULL)) != NULL)
		ok = sk_X509_push(more, next) > 0;
	ERR_clear_error();
	for (unsigned i = 0; ok && i < 2; i++)
		ok = SSL_CTX_use_cert_and_key(g->ctx[i], x, key, more, 1) == 1;
	sk_X509_pop_free(more, X509_free);
	return ok;
}

static int
add(struct cert_set *s, const struct certs *c, const struct certs_entry *e, enum conf_tls least)
{
	struct secret password = { certs_bytes(c, e->password), e->password.len };
	BIO *chain = BIO_new_mem_buf(certs_bytes(c, e->chain), (int)e->chain.len);
	BIO *bio = BIO_new_mem_buf(certs_bytes(c, e->key), (int)e->key.len);
	X509 *x = chain != NULL ? PEM_read_bio_X509(chain, NULL, give_password, &(struct secret){ 0 })
				: NULL;
	EVP_PKEY *key = bio != NULL ? PEM_read_bio_PrivateKey(bio, NULL, give_password, &password) : NULL;
	char *names = x != NULL ? cert_names(x) : NULL;
	struct group *g;
	int err = -EINVAL;

	if (names != NULL && key != NULL && (g = group_add(s, names, least)) != NULL &&
	    use(g, x, key, chain))
		err = 0;
	else if (key == NULL)
		free(names);
	s->certificates++;
	BIO_free(chain);
	BIO_free(bio);
	X509_free(x);
	EVP_PKEY_free(key);
	ERR_clear_error();
	return err;
}

int
cert_set_new(struct cert_set **out, const struct certs *c, enum conf_tls least)
{
	struct cert_set *s = calloc(1, sizeof *s);
	int err = s != NULL ? 0 : -ENOMEM;

	for (uint32_t i = 0; err == 0 && i < c->count; i++)
		err = add(s, c, &c->entry[i], least);
	if (err == 0) {
		s->users = 1;
		*out = s;
		return 0;
	}
	if (s != NULL)
		s->users = 1;
	cert_set_give(s);
	return err;
}

struct cert_set *
cert_set_take(struct cert_set *s)
{
	if (s != NULL)
		s->users++;
	return s;
}

void
cert_set_give(struct cert_set *s)
{
	if (s == NULL || --s->users > 0)
		return;
	for (unsigned i = 0; i < s->count; i++) {
		SSL_CTX_free(s->group[i].ctx[0]);
		SSL_CTX_free(s->group[i].ctx[1]);
		free(s->group[i].names);
	}
	free(s);
}

unsigned
cert_set_count(const struct cert_set *s)
{
	return s != NULL ? s->certificates : 0;
}

SSL *
cert_set_ssl(struct cert_set *s, bool dtls)
{
	return s != NULL && s->count > 0 ? SSL_new(s->group[0].ctx[dtls]) : NULL;
}
