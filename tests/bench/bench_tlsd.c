/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bench_tlsd.c: processor time of a handshake: in a real turnpike-tls (messages, cookie, export and all),
 * beside a libssl server in memory that is made, used and freed.  Not a test: numbers for
 * doc/performance.md.  Run in the build directory; `bench_tlsd bare`: the latter only, for secure.py; a
 * number: so many of each kind, and those with ECDSA only.
 */
#include "config.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "tests/lib/tlsd_rig.h"

static unsigned rounds = 1000;
#define MANY 32

static double
cpu_of(pid_t pid)
{
	clockid_t clock;
	struct timespec t;

	if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &t) != 0)
		abort();
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

/* `many` clients at once, as a storm has them, so that a wake-up serves several. */
static void
in_tlsd(struct rig *r, int version, const char *sni, unsigned many, const char *name)
{
	static struct party p[MANY];
	double took = 0;
	unsigned done = 0;

	for (unsigned i = 0; i < rounds / many; i++) {
		double t0 = cpu_of(r->pid);

		for (unsigned k = 0; k < many; k++) {
			party_init(&p[k], r, version, NULL, sni, i * many + k + 1);
			party_start(&p[k]);
		}
		for (done = 0; done < many;) {
			union msg m;

			for (unsigned k = 0; k < many; k++) {
				if (!SSL_is_init_finished(p[k].client))
					SSL_do_handshake(p[k].client);
				party_pump(&p[k]);
			}
			while (rig_recv(r, &m, 0))
				for (unsigned k = 0; k < many; k++)
					party_handle(&p[k], &m);
			done = 0;
			for (unsigned k = 0; k < many; k++)
				done += p[k].done;
			ERR_clear_error();
		}
		RIG_ASSERT(rig_until(r, STAT_HS_UNTAKEN, 0));
		took += cpu_of(r->pid) - t0;
		for (unsigned k = 0; k < many; k++)
			party_fini(&p[k]);
	}
	printf("turnpike-tls   %-24s %7.1f us  %6.0f/s   (%u at once)\n", name,
	    took / (rounds / many * many), 1e6 * (rounds / many * many) / took, many);
}

/* Which handshake it was, so that a table can say that it compares like with like. */
static void
describe(SSL *s, char *out, size_t room)
{
	long nid = SSL_version(s) == TLS1_3_VERSION ? SSL_get_negotiated_group(s)
						    : SSL_get_shared_group(s, 0);
	const char *group = OBJ_nid2sn((int)nid);

	snprintf(out, room, "%s %s, %s, %s", SSL_get_version(s), SSL_get_cipher_name(s),
	    group != NULL ? group : "?", EVP_PKEY_get0_type_name(SSL_get_privatekey(s)));
}

/* The same certificate and settings, both ends here; the server's calls alone are timed.  Microseconds
 * each. */
static double
bare(struct rig *r, int version, unsigned cert, char *what, size_t room)
{
	bool dtls = version == DTLS1_2_VERSION;
	uint8_t *base = calloc(1, 65536);
	struct certs *c = (void *)base;
	SSL_CTX *ctx = SSL_CTX_new(dtls ? DTLS_server_method() : TLS_server_method());
	double took = 0;

	RIG_ASSERT(pread(r->certs_fd, base, 65536, 0) > 0 && tlsd_ctx_policy(ctx) == 0);
	BIO *b = BIO_new_mem_buf(certs_bytes(c, c->entry[cert].chain), (int)c->entry[cert].chain.len);
	BIO *k = BIO_new_mem_buf(certs_bytes(c, c->entry[cert].key), (int)c->entry[cert].key.len);
	X509 *x = PEM_read_bio_X509(b, NULL, NULL, NULL);
	char password[] = "open sesame";
	EVP_PKEY *key = PEM_read_bio_PrivateKey(k, NULL, NULL, password);
	RIG_ASSERT(SSL_CTX_use_certificate(ctx, x) == 1 && SSL_CTX_use_PrivateKey(ctx, key) == 1);
	RIG_ASSERT(SSL_CTX_set1_groups_list(ctx, "X25519:P-256:P-384:P-521") == 1);
	SSL_CTX_set_keylog_callback(ctx, NULL);
	SSL_CTX_set_mode(ctx, SSL_MODE_NO_AUTO_CHAIN); /* as with the chain of a certificate file */
	for (unsigned i = 0; i < rounds + 10; i++) {
		struct party p;
		double t0, mine = 0;
		int done = 0, client = 0;

		party_init(&p, r, version, NULL, NULL, 1);
		t0 = cpu_of(0);
		SSL *s = SSL_new(ctx);
		SSL_set_bio(s, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
		BIO_set_mem_eof_return(SSL_get_rbio(s), -1);
		SSL_set_options(s, SSL_OP_NO_QUERY_MTU);
		SSL_set_mtu(s, 1200);
		SSL_set_accept_state(s);
		mine += cpu_of(0) - t0;
		BIO_up_ref(SSL_get_rbio(s));
		BIO_up_ref(SSL_get_wbio(s));
		SSL_set_bio(p.client, SSL_get_wbio(s), SSL_get_rbio(s));
		BIO_set_mem_eof_return(SSL_get_wbio(s), -1);
		while (done != 1 || client != 1) {
			client = SSL_do_handshake(p.client);
			t0 = cpu_of(0);
			done = SSL_do_handshake(s);
			mine += cpu_of(0) - t0;
		}
		describe(s, what, room);
		t0 = cpu_of(0);
		SSL_free(s);
		mine += cpu_of(0) - t0;
		if (i >= 10)
			took += mine;
		party_fini(&p);
	}
	SSL_CTX_free(ctx);
	X509_free(x);
	EVP_PKEY_free(key);
	BIO_free(b);
	BIO_free(k);
	free(base);
	return took / rounds;
}

static void
print_bare(struct rig *r, int version, unsigned cert)
{
	char what[128];
	double us = bare(r, version, cert, what, sizeof what);

	printf("libssl  %-24s %7.1f us  %6.0f/s\n", what, us, 1e6 / us);
}

/* For tests/bench/secure.py. */
static void
print_json(struct rig *r)
{
	char tls[128], dtls[128];
	double t = bare(r, TLS1_3_VERSION, 0, tls, sizeof tls),
	       d = bare(r, DTLS1_2_VERSION, 0, dtls, sizeof dtls);

	printf("{ \"tls\": %.2f, \"tls_what\": \"%s\", \"dtls\": %.2f, \"dtls_what\": \"%s\" }\n", t, tls,
	    d, dtls);
}

static void
cookie(struct rig *r)
{
	struct party p;
	uint8_t reply[SEAL_VERIFY_LEN];
	double t0, t1, t2;

	party_init(&p, r, DTLS1_2_VERSION, NULL, NULL, 60);
	party_run(&p, 5000);
	RIG_ASSERT(p.done);
	t0 = cpu_of(0);
	for (unsigned i = 0; i < 1000000; i++)
		if (seal_hello_judge(&r->cookies, &p.who.client, p.first, p.first_len, reply) !=
		    SEAL_V_VERIFY)
			abort();
	t1 = cpu_of(0);
	for (unsigned i = 0; i < 1000000; i++)
		if (seal_hello_judge(&r->cookies, &p.who.client, p.hello, p.hello_len, reply) !=
		    SEAL_V_PASS)
			abort();
	t2 = cpu_of(0);
	printf("cookie: hello of %zu bytes answered in %.0f ns, checked in %.0f ns\n", p.first_len,
	    (t1 - t0) / 1e3, (t2 - t1) / 1e3);
	party_fini(&p);
}

int
main(int argc, char **argv)
{
	struct rig r;
	bool brief = argc > 1 && atoi(argv[argc - 1]) > 0;

	signal(SIGPIPE, SIG_IGN);
	if (brief)
		rounds = (unsigned)atoi(argv[--argc]);
	rig_init(&r);
	if (argc == 2 && strcmp(argv[1], "bare") == 0) {
		print_json(&r);
		return 0;
	}
	rig_start(&r);
	if (!brief)
		cookie(&r);
	print_bare(&r, DTLS1_2_VERSION, 0);
	in_tlsd(&r, DTLS1_2_VERSION, "ecdsa.test", 1, "DTLS 1.2 ECDSA P-256");
	in_tlsd(&r, DTLS1_2_VERSION, "ecdsa.test", MANY, "DTLS 1.2 ECDSA P-256");
	if (!brief) {
		print_bare(&r, DTLS1_2_VERSION, 1);
		in_tlsd(&r, DTLS1_2_VERSION, "rsa.test", 1, "DTLS 1.2 RSA-2048");
		in_tlsd(&r, DTLS1_2_VERSION, "rsa.test", MANY, "DTLS 1.2 RSA-2048");
	}
	print_bare(&r, TLS1_3_VERSION, 0);
	in_tlsd(&r, TLS1_3_VERSION, "ecdsa.test", 1, "TLS 1.3 ECDSA P-256");
	in_tlsd(&r, TLS1_3_VERSION, "ecdsa.test", MANY, "TLS 1.3 ECDSA P-256");
	rig_fini(&r);
	return 0;
}
