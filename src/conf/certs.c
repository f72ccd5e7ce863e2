/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * certs.c: tls.certificates: are the files what they should be?  They are handed on as they are; the
 * turnpike-tls processes alone keep a decrypted key.
 */
#include "config.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <time.h>

#include "conf_int.h"

#define RSA_BITS_MIN 2048

/* ---- files ------------------------------------------------------------------------------------ */

/* The path goes into the configuration, the bytes into load memory. */
static const char *
read_pem(struct load *l, const struct node *n, const char *what, bool secret, char path[CONF_PATH_MAX],
    size_t *len, struct conf_stamp *stamp)
{
	const char *p, *text;
	struct stat st;

	if (n->kind != NODE_SCALAR || n->len == 0) {
		load_error(l, n,
		    "tls.certificates: %s: allowed: the path of a PEM file, or credential:NAME", what);
		return NULL;
	}
	p = load_path(l, n, n->text);
	if (p == NULL)
		return NULL;
	if (text_copy(path, CONF_PATH_MAX, p) >= CONF_PATH_MAX) {
		load_error(l, n, "tls.certificates: %s: the path is too long: at most %u bytes are allowed",
		    what, CONF_PATH_MAX - 1);
		return NULL;
	}
	text = load_file(l, n, p, CERTS_PEM_MAX, len, &st);
	if (text == NULL || (secret && is_world_readable(l, n, p, &st)))
		return NULL;
	*stamp = conf_stamp_of(&st);
	return text;
}

static bool
read_password(struct load *l, const struct node *n, struct conf_certificate *x, struct cert_entry *e)
{
	const uint8_t *text;
	const char *p;
	struct stat st;

	/* Looked at before it is read: what changes in between is read once more. */
	if (n->kind == NODE_SCALAR && n->len > 0 && (p = load_path(l, n, n->text)) != NULL &&
	    stat(p, &st) == 0)
		x->stamp[CERT_FILE_PASSWORD] = conf_stamp_of(&st);
	if (!read_secret_file(
		l, n, "tls.certificates: password_file", CERTS_PASSWORD_MAX, &text, &e->password_len))
		return false;
	e->password = (const char *)text;
	p = load_path(l, n, n->text);
	if (p != NULL && text_copy(x->password_file, CONF_PATH_MAX, p) < CONF_PATH_MAX)
		return true;
	load_error(l, n,
	    "tls.certificates: password_file: the path is too long: at most %u bytes are allowed",
	    CONF_PATH_MAX - 1);
	return false;
}

/* ---- what is in them --------------------------------------------------------------------------- */

/* Never asks the terminal. */
static int
give_password(char *buf, int size, int rwflag, void *arg)
{
	const struct cert_entry *e = arg;

	(void)rwflag;
	if (e->password == NULL || e->password_len > (size_t)size)
		return -1;
	memcpy(buf, e->password, e->password_len);
	return (int)e->password_len;
}

/* Every certificate of the chain must be readable: a damaged one would be noticed by clients only. */
static X509 *
read_chain(struct load *l, const struct node *at, const struct cert_entry *e)
{
	BIO *bio = BIO_new_mem_buf(e->chain, (int)e->chain_len);
	X509 *first = bio != NULL ? PEM_read_bio_X509(bio, NULL, give_password, NULL) : NULL, *more;
	unsigned long err;

	if (first == NULL) {
		load_error(l, at, "tls.certificates: certificate: no certificate in PEM form in this file");
		goto out;
	}
	while ((more = PEM_read_bio_X509(bio, NULL, give_password, NULL)) != NULL)
		X509_free(more);
	err = ERR_peek_last_error();
	if (ERR_GET_REASON(err) != PEM_R_NO_START_LINE) {
		load_error(l, at,
		    "tls.certificates: certificate: the chain in this file is damaged after its first "
		    "certificate");
		X509_free(first);
		first = NULL;
	}
out:
	ERR_clear_error();
	BIO_free(bio);
	return first;
}

static EVP_PKEY *
read_key(struct load *l, const struct node *at, struct cert_entry *e)
{
	BIO *bio = BIO_new_mem_buf(e->key, (int)e->key_len);
	EVP_PKEY *key = bio != NULL ? PEM_read_bio_PrivateKey(bio, NULL, give_password, e) : NULL;

	BIO_free(bio);
	ERR_clear_error();
	if (key == NULL)
		load_error(l, at,
		    e->password == NULL
			? "tls.certificates: key: no private key in PEM form in this file, or an "
			  "encrypted one without password_file"
			: "tls.certificates: key: no private key in PEM form in this file, or "
			  "password_file has another password");
	return key;
}

static bool
check_key(struct load *l, const struct node *at, const EVP_PKEY *key)
{
	int type = EVP_PKEY_get_base_id(key);

	if (type == EVP_PKEY_EC || type == EVP_PKEY_ED25519)
		return true;
	if (type == EVP_PKEY_RSA && EVP_PKEY_get_bits(key) >= RSA_BITS_MIN)
		return true;
	load_error(l, at, "tls.certificates: key: allowed: ECDSA, Ed25519, or RSA of %u bits or more",
	    RSA_BITS_MIN);
	return false;
}

static void
read_expiry(const X509 *cert, struct cert_entry *e, struct conf_certificate *x)
{
	struct tm tm = { 0 };

	if (ASN1_TIME_to_tm(X509_get0_notAfter(cert), &tm) == 1)
		x->not_after = (int64_t)timegm(&tm);
	e->early = X509_cmp_current_time(X509_get0_notBefore(cert)) > 0;
}

static void
warn_expiry(struct load *l, unsigned i)
{
	const struct conf_certificate *x = &l->conf->certificates[i];
	int64_t left = x->not_after - (int64_t)time(NULL);

	if (x->not_after != 0 && left <= 0)
		load_warn(l, l->cert_at[i],
		    "tls.certificates: %s: this certificate has expired: clients will refuse it",
		    x->certificate);
	else if (x->not_after != 0 && left < (int64_t)(l->conf->expiry_warning / 1000))
		load_warn(l, l->cert_at[i],
		    "tls.certificates: %s: this certificate expires in %lld %s: renew it", x->certificate,
		    (long long)(left >= 172800 ? left / 86400 : left / 3600),
		    left >= 172800 ? "days" : "hours");
	if (l->cert[i].early)
		load_warn(l, l->cert_at[i], "tls.certificates: %s: this certificate is not valid yet",
		    x->certificate);
}

static void
add_name(struct cert_entry *e, const ASN1_STRING *name)
{
	uint8_t lower[256], hash[32];
	const uint8_t *p = ASN1_STRING_get0_data(name);
	size_t n = (size_t)ASN1_STRING_length(name);

	if (n > sizeof lower)
		n = sizeof lower;
	for (size_t i = 0; i < n; i++)
		lower[i] = p[i] >= 'A' && p[i] <= 'Z' ? (uint8_t)(p[i] | 0x20) : p[i];
	if (EVP_Digest(lower, n, hash, NULL, EVP_sha256(), NULL) == 1)
		for (unsigned i = 0; i < sizeof hash; i++)
			e->names[i] ^= hash[i];
}

/* For URLs: printable, and no pattern. */
static void
keep_name(struct conf_certificate *x, const ASN1_STRING *name)
{
	const char *p = (const char *)ASN1_STRING_get0_data(name);
	size_t n = (size_t)ASN1_STRING_length(name);

	if (x->name[0] != '\0' || n == 0 || n >= sizeof x->name)
		return;
	for (size_t i = 0; i < n; i++)
		if (strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.", p[i]) ==
			NULL ||
		    p[i] == '\0')
			return;
	memcpy(x->name, p, n);
}

static void
read_names(const X509 *cert, struct cert_entry *e, struct conf_certificate *x)
{
	GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
	const X509_NAME *subject = X509_get_subject_name(cert);
	int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);

	bool any = false;

	for (int i = 0; names != NULL && i < sk_GENERAL_NAME_num(names); i++) {
		const GENERAL_NAME *g = sk_GENERAL_NAME_value(names, i);

		if (g->type == GEN_DNS) {
			add_name(e, g->d.dNSName);
			keep_name(x, g->d.dNSName);
		}
		any |= g->type == GEN_DNS;
	}
	if (!any && at >= 0) { /* as turnpike-tls processes do */
		add_name(e, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
		keep_name(x, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
	}
	GENERAL_NAMES_free(names);
}

static bool
check_pair(
    struct load *l, const struct node *const part[3], struct cert_entry *e, struct conf_certificate *x)
{
	X509 *cert = read_chain(l, part[0], e);
	EVP_PKEY *key = read_key(l, part[1], e);
	bool ok = cert != NULL && key != NULL;

	if (ok && X509_check_private_key(cert, key) != 1) {
		load_error(
		    l, part[1], "tls.certificates: key: %s is not the key of %s", x->key, x->certificate);
		ok = false;
	}
	ok = ok && check_key(l, part[1], key);
	if (ok) {
		read_expiry(cert, e, x);
		read_names(cert, e, x);
		e->kind = EVP_PKEY_get_base_id(key);
	}
	ERR_clear_error();
	X509_free(cert);
	EVP_PKEY_free(key);
	return ok;
}

/* ---- the list --------------------------------------------------------------------------------- */

void
certificate_read(struct load *l, const struct node *n)
{
	static const char *const names[] = { "certificate", "key", "password_file" };
	struct conf_certificate x = { 0 };
	struct cert_entry e = { 0 };
	const struct node *part[3];
	struct conf *c = l->conf;

	memset(part, 0, sizeof part);
	if (n->kind != NODE_MAP || !shape_read(l, n, "tls.certificates", names, 3, part) ||
	    part[0] == NULL || part[1] == NULL) {
		load_error(l, n, "tls.certificates: allowed: %s", option_rows[OPTION_certificates].shape);
		return;
	}
	e.chain = read_pem(
	    l, part[0], "certificate", false, x.certificate, &e.chain_len, &x.stamp[CERT_FILE_CHAIN]);
	e.key = read_pem(l, part[1], "key", true, x.key, &e.key_len, &x.stamp[CERT_FILE_KEY]);
	if (e.chain == NULL || e.key == NULL || (part[2] != NULL && !read_password(l, part[2], &x, &e)))
		return;
	if (!check_pair(l, part, &e, &x))
		return;
	if (c->certificate_count == CONF_CERTS_MAX) {
		load_error(l, n, "tls.certificates: too many: at most %u are allowed", CONF_CERTS_MAX);
		return;
	}
	l->cert_at[c->certificate_count] = n;
	l->cert[c->certificate_count] = e;
	c->certificates[c->certificate_count++] = x;
}

void
certs_check(struct load *l)
{
	const struct conf *c = l->conf;

	for (uint32_t i = 0; i < c->certificate_count; i++) {
		warn_expiry(l, i);
		for (uint32_t j = 0; j < i; j++)
			if (l->cert[j].kind == l->cert[i].kind &&
			    memcmp(l->cert[j].names, l->cert[i].names, sizeof l->cert[i].names) == 0) {
				load_warn(l, l->cert_at[i],
				    "tls.certificates: %s is never shown: %s has the same names and kind of key",
				    c->certificates[j].certificate, c->certificates[i].certificate);
				break;
			}
	}
	if (c->certificate_count > 0 || l->errors > 0)
		return; /* perhaps one was there and is not readable: said already */
	for (uint32_t i = 0; i < c->listener_count; i++)
		if (c->listeners[i].transports & (TRANSPORT_TLS | TRANSPORT_DTLS)) {
			load_error(l, l->seen[OPTION_listeners],
			    "tls.certificates: the listener at %s needs a certificate and its key",
			    c->listeners[i].where);
			return;
		}
}

static struct certs_part
append(char *base, uint32_t *at, const char *bytes, size_t len)
{
	struct certs_part p = { *at, (uint32_t)len };

	if (len > 0)
		memcpy(base + *at, bytes, len);
	*at += (uint32_t)len;
	return p;
}

struct certs *
certs_block(struct load *l, size_t *len)
{
	uint32_t at = sizeof(struct certs);
	size_t size = sizeof(struct certs);
	struct certs *c;

	for (uint32_t i = 0; i < l->conf->certificate_count; i++)
		size += l->cert[i].chain_len + l->cert[i].key_len + l->cert[i].password_len;
	c = calloc(1, size);
	if (c == NULL)
		abort();
	c->magic = CERTS_MAGIC;
	c->layout = CERTS_LAYOUT;
	c->count = l->conf->certificate_count;
	for (uint32_t i = 0; i < c->count; i++) {
		const struct cert_entry *e = &l->cert[i];

		c->entry[i].chain = append((char *)c, &at, e->chain, e->chain_len);
		c->entry[i].key = append((char *)c, &at, e->key, e->key_len);
		c->entry[i].password = append((char *)c, &at, e->password, e->password_len);
	}
	*len = size;
	return c;
}
