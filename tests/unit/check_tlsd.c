/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_tlsd.c: a real turnpike-tls between libssl clients and room seal: handshakes, their takeover, and
 * everything that a stranger, a worker or a death can do to them.
 */
#include "config.h"

#include <arpa/inet.h>
#include <check.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/lib/tlsd_rig.h"

#define WAIT_MS 60000 /* for what must come: a slow machine is no failure */
static struct rig rig;

static void
setup(void)
{
	signal(SIGPIPE, SIG_IGN);
	rig_init(&rig);
	rig_start(&rig);
}

static void
teardown(void)
{
	ck_assert_uint_eq(rig_count(&rig, STAT_MSG_BAD), 0);
	rig_fini(&rig);
}

/* ---- handshakes that succeed ---------------------------------------------------------------------- */

struct way {
	int version;
	const char *suites, *sni;
	uint16_t cipher;
	int key;
	const char *name;
};
#define TWELVE(v)                                                                                          \
	{ v, "ECDHE-ECDSA-AES256-GCM-SHA384", "ecdsa.test", 0xc02c, EVP_PKEY_EC, "ecdsa.test" },           \
	    { v, "ECDHE-RSA-AES256-GCM-SHA384", "rsa.test", 0xc030, EVP_PKEY_RSA, "rsa.test" },            \
	    { v, "ECDHE-ECDSA-CHACHA20-POLY1305", "both.test", 0xcca9, EVP_PKEY_EC, "Both.test" },         \
	    { v, "ECDHE-RSA-CHACHA20-POLY1305", "BOTH.test", 0xcca8, EVP_PKEY_RSA, "both.test" },          \
	    { v, "ECDHE-ECDSA-AES128-GCM-SHA256", "a.wild.test", 0xc02b, EVP_PKEY_EC, "*.wild.test" },     \
	    { v, "ECDHE-RSA-AES128-GCM-SHA256", "rsa.test", 0xc02f, EVP_PKEY_RSA, "rsa.test" },            \
	    { v, NULL, NULL, 0xc02c, EVP_PKEY_EC, "ecdsa.test" },                                          \
	{                                                                                                  \
		v, NULL, "a.b.wild.test", 0xc02c, EVP_PKEY_EC, "ecdsa.test"                                \
	}
static const struct way ways[] = {
	TWELVE(TLS1_2_VERSION),
	TWELVE(DTLS1_2_VERSION),
	{ TLS1_3_VERSION, NULL, NULL, 0x1302, EVP_PKEY_EC, "ecdsa.test" },
	{ TLS1_3_VERSION, "TLS_CHACHA20_POLY1305_SHA256", "rsa.test", 0x1303, EVP_PKEY_RSA, "rsa.test" },
	{ TLS1_3_VERSION, "TLS_AES_128_GCM_SHA256", "both.test", 0x1301, EVP_PKEY_EC, "Both.test" },
};

static void
check_certificate(SSL *client, const char *name, int key, const char *tag)
{
	X509 *x = SSL_get0_peer_certificate(client);
	char org[64];

	ck_assert_ptr_nonnull(x);
	ck_assert_int_eq(EVP_PKEY_get_base_id(X509_get0_pubkey(x)), key);
	ck_assert_int_eq(X509_check_host(x, name[0] == '*' ? "x.wild.test" : name, 0, 0, NULL), 1);
	X509_NAME_get_text_by_NID(X509_get_subject_name(x), NID_organizationName, org, sizeof org);
	ck_assert_str_eq(org, tag);
}

START_TEST(takeover)
{
	const struct way *w = &ways[_i];
	struct party p;

	party_init(&p, &rig, w->version, w->suites, w->sni, 7);
	party_start(&p);
	party_run(&p, WAIT_MS);
	ck_assert_msg(p.done, "failed: %d", p.reason);
	ck_assert_uint_eq(p.last.msg_hs_done.cipher, w->cipher);
	ck_assert_uint_eq(p.last.msg_hs_done.version, w->version);
	ck_assert_uint_eq(p.last.msg_hs_done.alpn, HS_ALPN_NONE);
	check_certificate(p.client, w->name, w->key, "first");
	party_echo(&p, "through room seal");
	ck_assert(rig_until(&rig, STAT_HS_UNTAKEN, 0));
	ck_assert_uint_eq(rig_count(&rig, STAT_HS_OK_TLS12) + rig_count(&rig, STAT_HS_OK_TLS13) +
		rig_count(&rig, STAT_HS_OK_DTLS12),
	    1);
	ck_assert_uint_eq(rig_count(&rig, STAT_HS_HALF_OPEN), 0);
	party_fini(&p);
}
END_TEST

START_TEST(alpn)
{
	static const struct {
		const char *offer;
		int alpn;
	} row[] = { { "\x09stun.turn", HS_ALPN_TURN },
		{ "\x02h2\x12stun.nat-discovery", HS_ALPN_DISCOVERY }, { "\x02h2\x08http/1.1", -1 } };

	for (unsigned i = 0; i < TP_COUNT(row) * 3; i++) {
		static const int versions[] = { TLS1_2_VERSION, TLS1_3_VERSION, DTLS1_2_VERSION };
		const char *offer = row[i % 3].offer;
		struct party p;

		party_init(&p, &rig, versions[i / 3], NULL, NULL, 100 + i);
		SSL_set_alpn_protos(p.client, (const unsigned char *)offer, (unsigned)strlen(offer));
		party_start(&p);
		party_run(&p, WAIT_MS);
		ck_assert_int_eq(p.done, row[i % 3].alpn >= 0);
		if (p.done)
			ck_assert_uint_eq(p.last.msg_hs_done.alpn, (unsigned)row[i % 3].alpn);
		else
			ck_assert_uint_eq(p.reason, HS_R_ALPN);
		if (p.failed) { /* the alert came before the message */
			if (p.client_error == 0 && SSL_do_handshake(p.client) != 1)
				p.client_error = ERR_GET_REASON(ERR_peek_error());
			ck_assert_int_eq(p.client_error, SSL_R_TLSV1_ALERT_NO_APPLICATION_PROTOCOL);
		}
		party_fini(&p);
	}
}
END_TEST

/* Lost: the server's flight once, then the final one. */
START_TEST(dtls_losses)
{
	struct party p;
	uint8_t final[SEAL_FINAL_MAX];
	int len;

	party_init(&p, &rig, DTLS1_2_VERSION, NULL, NULL, 9);
	p.hold_replies = true;
	party_run(&p, WAIT_MS);
	ck_assert_uint_ge(p.replies, 1);
	p.hold_replies = false;
	party_run(&p, WAIT_MS);
	ck_assert(p.done);
	/* As if it had been lost: the numbers go on. */
	len = seal_final_flight(&p.s.keys, &rig.seal, &p.s.dtls, &p.s.final, final, sizeof final);
	ck_assert_int_gt(len, 0);
	send(p.fd[1], final, (size_t)len, 0);
	party_echo(&p, "after losses");
	party_fini(&p);
}
END_TEST

/* The client's first hello was repeated: the second one is record 3, and our numbers go on from there. */
START_TEST(dtls_record_numbers)
{
	struct party p;
	union msg m;
	struct seal_dhead head;

	party_init(&p, &rig, DTLS1_2_VERSION, NULL, NULL, 9);
	p.hold_replies = true;
	party_run(&p, WAIT_MS);
	ck_assert_uint_gt(p.hello_len, 0);
	p.who.client.port = 10;
	put_u64(p.hello + 3, 5);
	struct msg_hs_datagram d = {
		.h = { .type = MSG_HS_DATAGRAM }, .who = p.who, .hello = 1, .len = (uint16_t)p.hello_len
	};
	memcpy(d.datagram, p.hello, p.hello_len);
	rig_send(&rig, &d, -1);
	do /* the rest of the first one's flight may come before */
		ck_assert(rig_recv_type(&rig, &m, MSG_HS_REPLY, WAIT_MS));
	while (m.msg_hs_reply.who.client.port != p.who.client.port);
	ck_assert_int_gt(seal_dtls_head(&head, m.msg_hs_reply.datagram, m.msg_hs_reply.len), 0);
	ck_assert_uint_eq(head.seq, 5);
	ck_assert_uint_eq(
	    get_u16(m.msg_hs_reply.datagram + SEAL_DTLS_HEAD + 4), 1); /* message_seq of ServerHello */
	party_fini(&p);
}
END_TEST

START_TEST(byte_at_a_time)
{
	struct party p;
	uint8_t hello[4096];
	ssize_t n;

	/* What the client wrote lies in fd[1], which turnpike-tls reads: taken before it is told, and
	 * dripped. */
	party_init(&p, &rig, TLS1_3_VERSION, NULL, NULL, 12);
	SSL_do_handshake(p.client);
	n = recv(p.fd[1], hello, sizeof hello, 0);
	ck_assert_int_gt(n, 100);
	party_start(&p);
	for (ssize_t i = 0; i < n; i++) {
		ck_assert_int_eq(write(p.fd[0], hello + i, 1), 1);
		usleep(300);
	}
	party_run(&p, WAIT_MS);
	ck_assert(p.done);
	party_echo(&p, "slowly");
	party_fini(&p);
}
END_TEST

/* ---- handshakes that do not ------------------------------------------------------------------------ */

START_TEST(silence)
{
	static const struct {
		const char *bytes;
		size_t len;
	} row[] = { { "", 0 }, { "\x16\x03\x01\x02\x00\x01", 6 } };
	struct party p;

	rig_kill(&rig);
	rig.conf.handshake_timeout = 500;
	rig_start(&rig);
	for (unsigned i = 0; i < TP_COUNT(row); i++) {
		union msg m;

		party_init(&p, &rig, TLS1_3_VERSION, NULL, NULL, 20 + i);
		ck_assert_int_eq(write(p.fd[0], row[i].bytes, row[i].len), (ssize_t)row[i].len);
		party_start(&p);
		ck_assert(rig_recv(&rig, &m, WAIT_MS));
		party_handle(&p, &m);
		ck_assert(p.failed);
		ck_assert_uint_eq(p.reason, HS_R_TIMEOUT);
		party_fini(&p);
	}
	ck_assert_uint_eq(rig_count(&rig, STAT_HS_FAIL_TIMEOUT), 2);
}
END_TEST

START_TEST(nonsense)
{
	static const struct {
		const char *bytes;
		size_t len;
		uint8_t reason;
	} row[] = {
		{ "GET / HTTP/1.1\r\nHost: x\r\n\r\n", 27, HS_R_PROTOCOL },
		{ "\x00\x01\x00\x00\x21\x12\xa4\x42............", 20, HS_R_NO_MATCH },
		{ "\x16\x03\x01\x00\x05hello", 10, HS_R_PROTOCOL },
		{ "\x15\x03\x01\x00\x02\x02\x28", 7, HS_R_ALERT },
		{ "\x16\x03\x01\xff\xff"
		  "0123456789",
		    15, HS_R_PROTOCOL },
	};

	for (unsigned i = 0; i < TP_COUNT(row); i++) {
		struct party p;
		union msg m;

		party_init(&p, &rig, TLS1_3_VERSION, NULL, NULL, 30 + i);
		ck_assert_int_eq(write(p.fd[0], row[i].bytes, row[i].len), (ssize_t)row[i].len);
		party_start(&p);
		ck_assert(rig_recv(&rig, &m, WAIT_MS));
		party_handle(&p, &m);
		ck_assert(p.failed);
		ck_assert_msg(
		    p.reason == row[i].reason || p.reason == HS_R_PROTOCOL, "row %u: %u", i, p.reason);
		party_fini(&p);
	}
	ck_assert_uint_eq(rig_count(&rig, STAT_HS_FAILED_TLS), TP_COUNT(row));
}
END_TEST

START_TEST(old_and_weak)
{
	static const struct {
		int version;
		const char *suites;
	} row[] = {
		{ TLS1_2_VERSION, "AES128-GCM-SHA256" },
		{ TLS1_2_VERSION, "ECDHE-ECDSA-AES128-SHA" },
		{ DTLS1_2_VERSION, "ECDHE-ECDSA-AES128-SHA" },
		{ TLS1_1_VERSION, "ALL:@SECLEVEL=0" },
	};

	for (unsigned i = 0; i < TP_COUNT(row); i++) {
		struct party p;

		party_init(&p, &rig, row[i].version, row[i].suites, NULL, 40 + i);
		party_start(&p);
		party_run(&p, WAIT_MS);
		ck_assert(p.failed && !p.done);
		ck_assert_uint_eq(
		    p.reason, row[i].version == TLS1_1_VERSION ? HS_R_VERSION : HS_R_NO_MATCH);
		party_fini(&p);
	}
}
END_TEST

START_TEST(closed_and_canceled)
{
	struct party p;
	union msg m;

	party_init(&p, &rig, TLS1_3_VERSION, NULL, NULL, 50);
	party_start(&p);
	shutdown(p.fd[0], SHUT_RDWR);
	ck_assert(rig_recv(&rig, &m, WAIT_MS));
	party_handle(&p, &m);
	ck_assert_uint_eq(p.reason, HS_R_CLOSED);
	party_fini(&p);
	party_init(&p, &rig, TLS1_3_VERSION, NULL, NULL, 51);
	party_start(&p);
	ck_assert(rig_until(&rig, STAT_HS_HALF_OPEN, 1));
	struct msg_hs_cancel c = { .h = { .type = MSG_HS_CANCEL }, .who = p.who };
	rig_send(&rig, &c, -1);
	ck_assert(rig_until(&rig, STAT_HS_HALF_OPEN, 0));
	ck_assert(!rig_recv(&rig, &m, 100));
	ck_assert_uint_eq(rig_count(&rig, STAT_HS_FAIL_CANCELED), 1);
	party_fini(&p);
}
END_TEST

/* ---- DTLS before the handshake --------------------------------------------------------------- */

/* A hello that passed, from a client that never goes on. */
static struct party
lone_hello(void)
{
	struct party p;

	party_init(&p, &rig, DTLS1_2_VERSION, NULL, NULL, 60);
	p.hold_replies = true;
	party_run(&p, WAIT_MS);
	ck_assert_uint_gt(p.hello_len, 0);
	ck_assert_uint_eq(p.verifies, 1);
	return p;
}

START_TEST(cookies)
{
	struct party p = lone_hello();
	uint8_t reply[SEAL_VERIFY_LEN], *random = p.hello + SEAL_FRAG_HEAD + 2;
	struct addr other = p.who.client;

	ck_assert_int_eq(seal_hello_judge(&rig.cookies, &other, p.hello, p.hello_len, reply), SEAL_V_PASS);
	other.port++;
	ck_assert_int_eq(seal_hello_judge(&rig.cookies, &other, p.hello, p.hello_len, reply), SEAL_V_DROP);
	other = p.who.client;
	other.ip[3]++;
	ck_assert_int_eq(seal_hello_judge(&rig.cookies, &other, p.hello, p.hello_len, reply), SEAL_V_DROP);
	/* Another hello with the same cookie. */
	*random ^= 1;
	ck_assert_int_eq(
	    seal_hello_judge(&rig.cookies, &p.who.client, p.hello, p.hello_len, reply), SEAL_V_DROP);
	*random ^= 1;
	/* Keys move on: previous, then forgotten. */
	rig.cookies.number[1] = rig.cookies.number[0]++;
	memcpy(rig.cookies.key[1], rig.cookies.key[0], 32);
	rig.cookies.key[0][0] ^= 1;
	ck_assert_int_eq(
	    seal_hello_judge(&rig.cookies, &p.who.client, p.hello, p.hello_len, reply), SEAL_V_PASS);
	rig.cookies.key[1][0] ^= 1;
	ck_assert_int_eq(
	    seal_hello_judge(&rig.cookies, &p.who.client, p.hello, p.hello_len, reply), SEAL_V_DROP);
	/* What the client sent first asks for a cookie, whole or cut: nothing that is cut as a datagram
	 * is looked at. */
	ck_assert_int_eq(
	    seal_hello_judge(&rig.cookies, &p.who.client, p.first, p.first_len, reply), SEAL_V_VERIFY);
	ck_assert_uint_lt(sizeof reply, p.first_len);
	for (size_t cut = 1; cut < p.first_len; cut++)
		ck_assert_int_eq(
		    seal_hello_judge(&rig.cookies, &p.who.client, p.first, cut, reply), SEAL_V_DROP);
	party_fini(&p);
}
END_TEST

START_TEST(large_fragment)
{
	/* 35 bytes that declare a ClientHello of 650,000. */
	uint8_t d[35] = { 22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 1, 0, 22, 1, 0x09, 0xeb, 0x10, 0, 1, 0, 0, 0,
		0, 0, 10 };
	uint8_t reply[SEAL_VERIFY_LEN];
	struct msg_hs_datagram m = { .h = { .type = MSG_HS_DATAGRAM }, .hello = 1, .len = sizeof d };

	addr_parse(&m.who.client, "192.0.2.9:9");
	m.who.dtls = 1;
	ck_assert_int_eq(seal_hello_judge(&rig.cookies, &m.who.client, d, sizeof d, reply), SEAL_V_DROP);
	memcpy(m.datagram, d, sizeof d);
	rig_send(&rig, &m, -1);
	m.hello = 0;
	rig_send(&rig, &m, -1);
	ck_assert(rig_until(&rig, STAT_HS_STRAY, 2));
	ck_assert_uint_eq(rig_count(&rig, STAT_HS_HALF_OPEN), 0);
}
END_TEST

/* n verified hellos and nothing after them. */
static void
crowd(unsigned n, bool one_prefix)
{
	struct party p = lone_hello();
	struct msg_hs_datagram d = {
		.h = { .type = MSG_HS_DATAGRAM }, .who = p.who, .hello = 1, .len = (uint16_t)p.hello_len
	};

	memcpy(d.datagram, p.hello, p.hello_len);
	for (unsigned i = 0; i < n; i++) {
		d.who.client.port = (uint16_t)(1000 + i);
		if (!one_prefix)
			put_u32(d.who.client.ip, 0x0a000000u + i);
		rig_send(&rig, &d, -1);
	}
	party_fini(&p);
}

START_TEST(crowds)
{
	struct party p;
	union msg m;

	rig_kill(&rig);
	rig.conf.half_open_total = 300;
	rig.conf.half_open_per_prefix = 50;
	rig.conf.handshake_timeout = 60000;
	rig_start(&rig);
	crowd(300, true);
	ck_assert(rig_until(&rig, STAT_HS_HALF_OPEN, 50));
	/* Nothing gives way at once. */
	ck_assert_uint_eq(rig_count(&rig, STAT_HS_FAIL_CROWDED), 0);
	crowd(600, false);
	ck_assert(rig_until(&rig, STAT_HS_HALF_OPEN, 300));
	/* More wait than have room.  Those in place are silent, and lose it after a second. */
	while (rig_recv(&rig, &m, 50))
		ck_assert(m.h.type == MSG_HS_FAIL || m.h.type == MSG_HS_REPLY);
	party_init(&p, &rig, DTLS1_2_VERSION, NULL, NULL, 99);
	party_run(&p, WAIT_MS);
	ck_assert(p.done);
	ck_assert_uint_ge(rig_count(&rig, STAT_HS_FAIL_CROWDED), 300);
	party_echo(&p, "in a crowd");
	party_fini(&p);
}
END_TEST

/* ---- deaths and changes ---------------------------------------------------------------------- */

START_TEST(tlsd_killed)
{
	struct party before, during, taken;

	party_init(&taken, &rig, TLS1_3_VERSION, NULL, NULL, 70);
	party_start(&taken);
	party_run(&taken, WAIT_MS);
	ck_assert(taken.done);
	party_init(&before, &rig, TLS1_3_VERSION, NULL, NULL, 71);
	SSL_do_handshake(before.client); /* a hello, not yet answered */
	party_start(&before);
	ck_assert(rig_until(&rig, STAT_HS_HALF_OPEN, 1));
	rig_kill(&rig);
	/* Asked while there is none: the queue keeps it for the next. */
	party_init(&during, &rig, TLS1_3_VERSION, NULL, NULL, 72);
	party_start(&during);
	rig_start(&rig);
	party_run(&during, WAIT_MS);
	ck_assert(during.done);
	party_echo(&during, "second life");
	party_echo(&taken, "does not need a turnpike-tls");
	party_fini(&before);
	party_fini(&during);
	party_fini(&taken);
}
END_TEST

START_TEST(resent_until_taken)
{
	static const int versions[] = { TLS1_2_VERSION, DTLS1_2_VERSION };

	for (unsigned i = 0; i < TP_COUNT(versions); i++) {
		struct party p;
		union msg m;

		party_init(&p, &rig, versions[i], NULL, NULL, 80 + i);
		p.no_ack = true;
		party_start(&p);
		party_run(&p, WAIT_MS);
		ck_assert(p.done);
		struct msg_hs_done first = p.last.msg_hs_done;
		ck_assert_uint_eq(first.again, 0);
		for (unsigned k = 0; k < 2; k++) {
			first.again++;
			ck_assert(rig_recv_type(&rig, &m, MSG_HS_DONE, WAIT_MS));
			ck_assert_mem_eq(&m.msg_hs_done, &first, sizeof first);
		}
		/* For a predecessor's handshake of the same key: not this one. */
		struct msg_hs_ack ack = { .h = { .type = MSG_HS_ACK }, .who = first.who };
		ack.who.number ^= UINT64_C(1) << 33;
		rig_send(&rig, &ack, -1);
		ck_assert(rig_recv_type(&rig, &m, MSG_HS_DONE, WAIT_MS));
		/* A successor asks again. */
		party_start(&p);
		if (!p.who.dtls)
			ck_assert(rig_recv_type(&rig, &m, MSG_HS_DONE, WAIT_MS));
		ack.who = first.who;
		rig_send(&rig, &ack, -1);
		ck_assert(rig_until(&rig, STAT_HS_UNTAKEN, 0));
		while (rig_recv(&rig, &m, 0))
			;
		ck_assert(!rig_recv(&rig, &m, 700));
		party_echo(&p, "at last");
		party_fini(&p);
	}
}
END_TEST

START_TEST(certificates_swapped)
{
	struct party before, after;

	party_init(&before, &rig, TLS1_2_VERSION, NULL, "rsa.test", 90);
	party_start(&before);
	ck_assert(rig_until(&rig, STAT_HS_HALF_OPEN, 1));
	rig_certs(&rig, "second");
	do {
		party_init(&after, &rig, TLS1_2_VERSION, NULL, "rsa.test", 91);
		party_start(&after);
		party_run(&after, WAIT_MS);
		ck_assert(after.done);
		char org[64];
		X509_NAME_get_text_by_NID(X509_get_subject_name(SSL_get0_peer_certificate(after.client)),
		    NID_organizationName, org, sizeof org);
		if (strcmp(org, "second") == 0)
			break;
		party_fini(&after);
	} while (true);
	party_run(&before, WAIT_MS);
	ck_assert(before.done);
	check_certificate(before.client, "rsa.test", EVP_PKEY_RSA, "first");
	party_echo(&before, "old certificate");
	party_echo(&after, "new certificate");
	/* Nonsense changes nothing. */
	struct msg_certs m = { .h = { .type = MSG_CERTS, .generation = rig.generation } };
	ck_assert_int_eq(ipc_send(rig.control, &m, rig.conf_fd), 0);
	party_fini(&before);
	party_init(&before, &rig, TLS1_3_VERSION, NULL, NULL, 92);
	party_start(&before);
	party_run(&before, WAIT_MS);
	ck_assert(before.done);
	check_certificate(before.client, "ecdsa.test", EVP_PKEY_EC, "second");
	party_fini(&before);
	party_fini(&after);
}
END_TEST

START_TEST(hostile_worker)
{
	struct msg_hs_stream s = { .h = { .type = MSG_HS_STREAM }, .who = { .request = 1, .shard = 5 } };
	struct msg_hs_datagram d = { .h = { .type = MSG_HS_DATAGRAM }, .len = 65535, .who = { .dtls = 1 } };
	struct msg_ready r = { .h = { .type = MSG_READY } };
	struct party p;

	addr_parse(&s.who.client, "192.0.2.9:9");
	d.who.client = s.who.client;
	rig_send(&rig, &s, rig.conf_fd);
	rig_send(&rig, &d, -1);
	rig_send(&rig, &r, -1);
	ck_assert(rig_until(&rig, STAT_MSG_BAD, 3));
	s.who.shard = 0;
	rig_send(&rig, &s, rig.conf_fd); /* not a socket */
	ck_assert(rig_until(&rig, STAT_HS_FAILED_TLS, 1));
	party_init(&p, &rig, TLS1_3_VERSION, NULL, NULL, 95);
	party_start(&p);
	party_run(&p, WAIT_MS);
	ck_assert(p.done);
	party_fini(&p);
	rig_fini(&rig);
	rig_init(&rig);
	rig_start(&rig);
}
END_TEST

/* ---- openssl s_client ------------------------------------------------------------------------ */

struct outsider {
	pid_t pid;
	int in, out;
};

static struct outsider
run_client(const char *version, unsigned port)
{
	struct outsider o;
	int in[2], out[2];
	char where[32];

	snprintf(where, sizeof where, "127.0.0.1:%u", port);
	ck_assert_int_eq(pipe(in) + pipe(out), 0);
	o.pid = fork();
	if (o.pid == 0) {
		dup2(in[0], 0);
		dup2(out[1], 1);
		dup2(out[1], 2);
		close(in[1]);
		execlp("openssl", "openssl", "s_client", "-connect", where, version, "-quiet", NULL);
		_exit(127);
	}
	close(in[0]);
	close(out[1]);
	o.in = in[1];
	o.out = out[0];
	return o;
}

static bool
says(struct outsider *o, const char *want)
{
	static char text[65536];
	size_t n = 0;

	while (n < sizeof text - 1) {
		struct pollfd p = { .fd = o->out, .events = POLLIN };
		ssize_t got;

		if (poll(&p, 1, WAIT_MS) != 1 || (got = read(o->out, text + n, sizeof text - 1 - n)) <= 0)
			break;
		n += (size_t)got;
		text[n] = '\0';
		if (strstr(text, want) != NULL)
			return true;
	}
	fprintf(stderr, "%s\n", text);
	return false;
}

START_TEST(s_client)
{
	static const char *const versions[] = { "-tls1_2", "-tls1_3", "-dtls1_2" };
	bool dtls = _i == 2;
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof a;
	struct party p = { .r = &rig, .who = { .request = dtls ? 0 : 1, .dtls = dtls } };
	int fd = socket(AF_INET, dtls ? SOCK_DGRAM : SOCK_STREAM, 0);
	uint8_t buf[SEAL_RECORD_MAX];
	union msg m;
	size_t n = 0;

	ck_assert_int_eq(bind(fd, (struct sockaddr *)&a, len), 0);
	if (!dtls)
		listen(fd, 1);
	getsockname(fd, (struct sockaddr *)&a, &len);
	struct outsider o = run_client(versions[_i], ntohs(a.sin_port));
	if (dtls) {
		ck_assert_int_ge(recvfrom(fd, buf, sizeof buf, MSG_PEEK, (struct sockaddr *)&a, &len), 0);
		ck_assert_int_eq(connect(fd, (struct sockaddr *)&a, len), 0);
		p.fd[1] = fd;
	} else {
		p.fd[1] = accept(fd, (struct sockaddr *)&a, &len);
	}
	ck_assert_int_eq(addr_from_sockaddr(&p.who.client, (struct sockaddr *)&a), 0);
	struct timeval soon = { 0, 5000 };
	setsockopt(p.fd[1], SOL_SOCKET, SO_RCVTIMEO, &soon, sizeof soon);
	party_start(&p);
	for (unsigned i = 0; i < 20000 && !p.done; i++) {
		party_pump(&p);
		if (rig_recv(&rig, &m, 5))
			party_handle(&p, &m);
		ck_assert(!p.failed);
	}
	ck_assert(p.done);
	ck_assert_int_eq(write(o.in, "over\n", 5), 5);
	for (unsigned i = 0; i < 20000 && n == 0; i++)
		n = party_read(&p, buf, sizeof buf);
	ck_assert_uint_eq(n, 5);
	party_write(&p, "and back\n", 9);
	ck_assert(says(&o, "and back"));
	kill(o.pid, SIGKILL);
	waitpid(o.pid, NULL, 0);
	close(o.in);
	close(o.out);
	close(fd);
	if (!dtls)
		close(p.fd[1]);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("tls");
	TCase *t = tcase_create("handshakes");
	SRunner *r;
	int failed;

	rig_keys();
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, takeover, 0, TP_COUNT(ways));
	tcase_add_loop_test(t, s_client, 0, 3);
	tcase_add_test(t, alpn);
	tcase_add_test(t, dtls_losses);
	tcase_add_test(t, dtls_record_numbers);
	tcase_add_test(t, byte_at_a_time);
	tcase_add_test(t, silence);
	tcase_add_test(t, nonsense);
	tcase_add_test(t, old_and_weak);
	tcase_add_test(t, closed_and_canceled);
	tcase_add_test(t, cookies);
	tcase_add_test(t, large_fragment);
	tcase_add_test(t, crowds);
	tcase_add_test(t, tlsd_killed);
	tcase_add_test(t, resent_until_taken);
	tcase_add_test(t, certificates_swapped);
	tcase_add_test(t, hostile_worker);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed == 0 ? 0 : 1;
}
