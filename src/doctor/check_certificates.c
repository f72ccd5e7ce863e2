/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_certificates.c: the certificates as they are on disk now, beside what the configuration was
 * compiled from.
 */
#include "config.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <time.h>

#include "tp/doctor.h"

static int
no_password(char *buf, int size, int rwflag, void *arg)
{
	(void)buf;
	(void)size;
	(void)rwflag;
	(void)arg;
	return -1;
}

static void
names_of(const X509 *x, char out[DOCTOR_TEXT / 2])
{
	GENERAL_NAMES *names = X509_get_ext_d2i(x, NID_subject_alt_name, NULL, NULL);
	char one[128];
	size_t at = 0;

	out[0] = '\0';
	for (int i = 0; names != NULL && i < sk_GENERAL_NAME_num(names); i++) {
		const GENERAL_NAME *g = sk_GENERAL_NAME_value(names, i);

		if (g->type != GEN_DNS || at + 40 > DOCTOR_TEXT / 2)
			continue;
		text_escape(one, sizeof one, ASN1_STRING_get0_data(g->d.dNSName),
		    (size_t)ASN1_STRING_length(g->d.dNSName));
		(void)text_copy(out + at, DOCTOR_TEXT / 2 - at, at > 0 ? ", " : "");
		at = strlen(out);
		(void)text_copy(out + at, DOCTOR_TEXT / 2 - at, one);
		at = strlen(out);
	}
	GENERAL_NAMES_free(names);
	if (at == 0)
		text_copy(out, DOCTOR_TEXT / 2, "no DNS name");
}

/* 1 it is, 0 it is not, -1 cannot be seen. */
static int
key_fits(X509 *x, const struct conf_certificate *c)
{
	FILE *f = fopen(c->key, "re");
	EVP_PKEY *key = f != NULL ? PEM_read_PrivateKey(f, NULL, no_password, NULL) : NULL;
	int fits = key == NULL ? -1 : X509_check_private_key(x, key) == 1;

	if (f != NULL)
		fclose(f);
	EVP_PKEY_free(key);
	ERR_clear_error();
	return fits;
}

static void
one(struct doctor_report *r, const struct doctor_case *c, const struct conf_certificate *cert)
{
	struct doctor_finding *f = doctor_put(r, DOCTOR_OK, "tls.certificates");
	FILE *file = fopen(cert->certificate, "re");
	int error = errno, fits;
	X509 *x = file != NULL ? PEM_read_X509(file, NULL, no_password, NULL) : NULL;
	char names[DOCTOR_TEXT / 2];
	struct tm tm = { 0 };
	int64_t end = 0, left;

	if (file != NULL)
		fclose(file);
	if (x == NULL || ASN1_TIME_to_tm(X509_get0_notAfter(x), &tm) != 1) {
		f->level = file == NULL && error == EACCES ? DOCTOR_NOTE : DOCTOR_BAD;
		doctor_text(f->is, "%.200s: %s", cert->certificate,
		    file == NULL ? strerror(error) : "no certificate in PEM form");
		X509_free(x);
		return;
	}
	end = (int64_t)timegm(&tm);
	left = end - c->host->now;
	names_of(x, names);
	fits = key_fits(x, cert);
	doctor_text(f->is, "%.120s: %s, expires in %lld days%s", cert->certificate, names,
	    (long long)(left / 86400),
	    fits < 0   ? "; the key cannot be looked at (run as root; encrypted ones never)"
		: fits ? "; the key fits"
		       : "");
	if (fits == 0 || left <= 0) {
		f->level = DOCTOR_BAD;
		doctor_text(f->should, "%s",
		    fits == 0 ? "the certificate of this key" : "renewed: clients refuse it");
	} else if (end != cert->not_after) {
		f->level = DOCTOR_WARNING;
		doctor_text(f->should, "what the daemon uses: it has read another one");
		doctor_text(f->set, "turnpikectl reload");
	} else if (left < (int64_t)(c->conf->expiry_warning / 1000)) {
		f->level = DOCTOR_WARNING;
		doctor_text(f->should, "renewed by now (tls.expiry_warning)");
	}
	X509_free(x);
	ERR_clear_error();
}

void
doctor_certificates(struct doctor_report *r, const struct doctor_case *c)
{
	for (uint32_t i = 0; i < c->conf->certificate_count; i++)
		one(r, c, &c->conf->certificates[i]);
}
