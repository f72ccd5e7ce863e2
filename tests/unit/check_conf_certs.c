/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_conf_certs.c: unit tests of conf/certs.c: pairs that fit, everything that does not, what the CERTS
 * region holds.
 */
#include "config.h"

#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "check_conf.h"

static char dir[] = "/tmp/check_conf_certs.XXXXXX";
static char reports[8192];
static EVP_PKEY *key[2], *weak;
static struct certs *certs;
static size_t certs_len;

static FILE *
create(const char *name, unsigned mode)
{
	char path[128];
	FILE *f;

	snprintf(path, sizeof path, "%s/%s", dir, name);
	f = fopen(path, "w");
	ck_assert_ptr_nonnull(f);
	chmod(path, mode);
	return f;
}

static void
put_key(const char *name, EVP_PKEY *k, const char *password, unsigned mode)
{
	FILE *f = create(name, mode);

	ck_assert_int_eq(PEM_write_PKCS8PrivateKey(f, k, password != NULL ? EVP_aes_128_cbc() : NULL,
			     password, password != NULL ? (int)strlen(password) : 0, NULL, NULL),
	    1);
	fclose(f);
}

static void
put_cert(const char *name, EVP_PKEY *k, long from, long to, const char *behind)
{
	X509 *x = X509_new();
	FILE *f = create(name, 0644);

	X509_gmtime_adj(X509_getm_notBefore(x), from);
	X509_gmtime_adj(X509_getm_notAfter(x), to);
	X509_set_pubkey(x, k);
	ck_assert_int_gt(X509_sign(x, k, EVP_sha256()), 0);
	PEM_write_X509(f, x);
	fputs(behind, f);
	fclose(f);
	X509_free(x);
}

/* Once, before tests fork: they cost a second or more. */
static void
make_keys(void)
{
	key[0] = EVP_EC_gen("P-256");
	key[1] = EVP_RSA_gen(2048);
	weak = EVP_RSA_gen(1024);
	ck_assert(key[0] != NULL && key[1] != NULL && weak != NULL);
}

static void
free_keys(void)
{
	EVP_PKEY_free(key[0]);
	EVP_PKEY_free(key[1]);
	EVP_PKEY_free(weak);
}

static void
setup(void)
{
	FILE *f;

	ck_assert_ptr_nonnull(mkdtemp(dir));
	put_key("ec.key", key[0], NULL, 0600);
	put_key("rsa.key", key[1], "s3same", 0640);
	put_key("open.key", key[0], NULL, 0644);
	put_key("weak.key", weak, NULL, 0600);
	put_cert("ec.pem", key[0], -60, 90 * 86400, "");
	put_cert("rsa.pem", key[1], -60, 90 * 86400, "");
	put_cert("weak.pem", weak, -60, 90 * 86400, "");
	put_cert("soon.pem", key[0], -60, 13 * 86400 - 600, "");
	put_cert("over.pem", key[0], -60, -1, "");
	put_cert("early.pem", key[0], 3600, 90 * 86400, "");
	put_cert("damaged.pem", key[0], -60, 90 * 86400,
	    "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
	f = create("password", 0600);
	fputs("s3same\n", f);
	fclose(f);
	f = create("wrong", 0600);
	fputs("sesame\n", f);
	fclose(f);
	f = create("empty.pem", 0600);
	fclose(f);
}

static void
teardown(void)
{
	char command[64];

	snprintf(command, sizeof command, "rm -r %s", dir);
	ck_assert_int_eq(system(command), 0);
	strcpy(dir + strlen(dir) - 6, "XXXXXX");
	free(certs);
	certs = NULL;
}

static void
on_report(void *arg, enum log_level level, const char *text)
{
	size_t n = strlen(reports);

	(void)arg;
	snprintf(reports + n, sizeof reports - n, "%s%s\n", level == LOG_L_ERROR ? "error: " : "", text);
}

/* The list as it stands in the file, beside which the paths are. */
static int
load(const char *list, struct conf *c)
{
	struct conf_host host = { .addr_count = 1 };
	struct users *users = NULL;
	size_t users_len;
	char path[128];
	FILE *f = create("t.yaml", 0600);

	addr_parse(&host.addr[0], "127.0.0.1");
	host.route[0] = host.addr[0];
	fprintf(f,
	    "tls: { certificates: %s }\nlisteners: { address: 127.0.0.1, transport: [ udp, tls ] }\n",
	    list);
	fclose(f);
	snprintf(path, sizeof path, "%s/t.yaml", dir);
	reports[0] = '\0';
	struct conf_request rq = {
		.file = path, .host = &host, .report = on_report, .certs = &certs, .certs_len = &certs_len
	};
	int rc = conf_load(&rq, c, &users, &users_len);
	free(users);
	return rc;
}

START_TEST(good)
{
	struct conf *c = calloc(1, sizeof *c);
	char text[1024];

	ck_assert_msg(
	    load(
		"[ { certificate: ec.pem, key: ec.key }, { certificate: rsa.pem, key: rsa.key, password_file: password } ]",
		c) == 0,
	    "%s", reports);
	ck_assert_str_eq(reports, "");
	ck_assert_uint_eq(c->certificate_count, 2);
	ck_assert_int_gt(c->certificates[0].not_after, time(NULL) + 89 * 86400);
	ck_assert_ptr_nonnull(strstr(c->certificates[1].key, "/rsa.key"));
	ck_assert_int_eq(conf_validate(c, sizeof *c), 0);
	ck_assert_int_eq(certs_validate(certs, certs_len), 0);
	ck_assert_uint_eq(certs->count, 2);
	ck_assert_uint_eq(certs->entry[0].password.len, 0);
	ck_assert_mem_eq(certs_bytes(certs, certs->entry[1].password), "s3same", 6);
	ck_assert_mem_eq(certs_bytes(certs, certs->entry[1].chain), "-----BEGIN CERTIFICATE", 22);
	ck_assert_mem_eq(certs_bytes(certs, certs->entry[1].key), "-----BEGIN ENCRYPTED", 20);
	option_print(c, option_find("tls.certificates"), text, sizeof text);
	ck_assert_ptr_nonnull(strstr(text, "password_file: "));
	for (size_t cut = 0; cut < certs_len; cut += 7)
		ck_assert_int_ne(certs_validate(certs, cut), 0);
	certs->entry[1].key.at = UINT32_MAX;
	ck_assert_int_ne(certs_validate(certs, certs_len), 0);
	free(c);
}
END_TEST

static const struct {
	const char *list, *says;
	bool ok;
} rows[] = {
	{ "[ { certificate: soon.pem, key: ec.key } ]", "expires in 12 days", true },
	{ "[ { certificate: over.pem, key: ec.key } ]", "has expired", true },
	{ "[ { certificate: ec.pem, key: ec.key }, { certificate: soon.pem, key: ec.key } ]",
	    "ec.pem is never shown", true },
	{ "[ { certificate: early.pem, key: ec.key } ]", "not valid yet", true },
	{ "[ { certificate: ec.pem, key: rsa.key, password_file: password } ]", "is not the key of",
	    false },
	{ "[ { certificate: rsa.pem, key: rsa.key } ]", "without password_file", false },
	{ "[ { certificate: rsa.pem, key: rsa.key, password_file: wrong } ]", "another password", false },
	{ "[ { certificate: ec.pem, key: open.key } ]", "all users may read", false },
	{ "[ { certificate: weak.pem, key: weak.key } ]", "RSA of 2048 bits", false },
	{ "[ { certificate: damaged.pem, key: ec.key } ]", "damaged after its first", false },
	{ "[ { certificate: empty.pem, key: ec.key } ]", "no certificate in PEM", false },
	{ "[ { certificate: none.pem, key: ec.key } ]", "cannot read", false },
	{ "[ { certificate: ec.pem } ]", "allowed: list of", false },
	{ "[ { certificate: ec.pem, kee: ec.key } ]", "did you mean", false },
	{ "[ { certificate: [ ec.pem ], key: ec.key } ]", "allowed: the path", false },
};

START_TEST(reported)
{
	struct conf *c = calloc(1, sizeof *c);

	ck_assert_int_eq(load(rows[_i].list, c) == 0, rows[_i].ok);
	ck_assert_msg(strstr(reports, rows[_i].says) != NULL, "%s", reports);
	free(c);
}
END_TEST

Suite *
suite_certs(void)
{
	Suite *s = suite_create("certs");
	TCase *t = tcase_create("certs");

	tcase_add_unchecked_fixture(t, make_keys, free_keys);
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, good);
	tcase_add_loop_test(t, reported, 0, TP_COUNT(rows));
	suite_add_tcase(s, t);
	return s;
}
