/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_seal_stream.c: TLS 1.2 and 1.3 streams, record for record against libssl in both roles; bad input;
 * the order of commits.
 */
#include "config.h"

#include <check.h>
#include <errno.h>
#include <openssl/err.h>
#include <string.h>

#include "seal_link.h"
#include "seal_suites.h"

static struct seal_ctx ctx;
static struct link l;
static uint8_t data[SEAL_PLAIN_MAX], raw[4 * SEAL_RECORD_MAX], out[SEAL_RECORD_MAX];

static void
setup(void)
{
	ck_assert_int_eq(seal_ctx_init(&ctx), 0);
	for (size_t i = 0; i < sizeof data; i++)
		data[i] = (uint8_t)(i * 7 + (i >> 8));
}

static void
teardown(void)
{
	seal_ctx_fini(&ctx);
}

static bool
open_case(int i)
{
	if (link_cases[i].proto == SEAL_DTLS12)
		return false;
	link_open(&l, &link_cases[i], &ctx);
	return true;
}

static bool
open_as(enum seal_proto proto, enum seal_role role)
{
	const struct link_case k = { proto, SEAL_AES256_SHA384, false, role };

	link_open(&l, &k, &ctx);
	return true;
}

/* ---- against libssl ------------------------------------------------------------------------ */

START_TEST(echo)
{
	static const size_t sizes[] = { 1, 2, 15, 16, 17, 120, 1000, SEAL_PLAIN_MAX };

	if (!open_case(_i))
		return;
	for (size_t i = 0; i < TP_COUNT(sizes); i++)
		link_echo(&l, data, sizes[i]);
	ck_assert_uint_eq(l.s.pos.seq[SEAL_TX], TP_COUNT(sizes) + (l.k.proto == SEAL_TLS12));
	ck_assert_uint_eq(l.s.pos.seq[SEAL_RX], TP_COUNT(sizes) + (l.k.proto == SEAL_TLS12));
	link_fini(&l);
}
END_TEST

/* Our explicit nonces go on where OpenSSL's Finished, number 0, was. */
START_TEST(nonce_goes_on)
{
	struct seal_pos next;

	if (!open_case(_i))
		return;
	if (l.k.proto == SEAL_TLS12 && l.k.suite != SEAL_CHACHA_SHA256) {
		const uint8_t *finished = l.tail + sizeof l.tail - (SEAL_HEAD + 8 + 16 + 16);
		ck_assert_uint_eq(finished[0], SEAL_T_HANDSHAKE);
		seal_seal(&l.s.keys, &l.s.pos, &ctx, SEAL_T_DATA, data, 1, out, sizeof out, &next);
		ck_assert_uint_eq(get_u64(out + SEAL_HEAD), get_u64(finished + SEAL_HEAD) + 1);
	}
	link_fini(&l);
}
END_TEST

START_TEST(many_records)
{
	struct seal_in in;
	size_t got = 0, at = 0;
	static uint8_t big[40000];

	if (!open_case(_i))
		return;
	memset(big, 'x', sizeof big);
	size_t n = link_peer_writes(&l, big, sizeof big, raw, sizeof raw);
	while (at < n) {
		/* Byte by byte until the header is whole, as a stream gives it. */
		for (size_t have = 0; have < SEAL_HEAD; have++)
			ck_assert_int_eq(seal_stream_len(&l.s.keys, raw + at, have), 0);
		size_t len = link_record_len(&l, raw + at, n - at);
		link_recv(&l, raw + at, len, &in, out, sizeof out);
		ck_assert_int_eq(in.kind, SEAL_DATA);
		ck_assert_mem_eq(in.data, big + got, in.len);
		got += in.len;
		at += len;
	}
	ck_assert_uint_eq(got, sizeof big);
	link_fini(&l);
}
END_TEST

START_TEST(padding)
{
	struct seal_in in;

	open_as(SEAL_TLS13, (enum seal_role)_i);
	ck_assert_int_eq(SSL_set_block_padding(l.peer, 512), 1);
	size_t n = link_peer_writes(&l, data, 100, raw, sizeof raw);
	ck_assert_uint_ge(n, 512);
	link_recv(&l, raw, n, &in, out, sizeof out);
	ck_assert_uint_eq(in.len, 100);
	ck_assert_mem_eq(in.data, data, 100);
	link_fini(&l);
}
END_TEST

static void
rekey(enum seal_way way)
{
	struct seal_pos next = l.s.pos, committed = l.s.pos;

	ck_assert_int_eq(seal_rekey(&l.s.keys, &l.s.secrets, &committed, &next, way), 0);
	ck_assert_int_eq(seal_rekey(&l.s.keys, &l.s.secrets, &committed, &next, way), SEAL_F_COMMIT);
	ck_assert_uint_eq(next.gen[way], committed.gen[way] + 1);
	ck_assert_uint_eq(next.seq[way], 0);
	ck_assert_uint_eq(next.seq[!way], committed.seq[!way]);
	ck_assert_int_eq(seal_sync(&l.s.keys, &l.s.secrets, &next), 0);
	/* Killed before the commit: the old keys come back, then it is done again with the same result. */
	struct seal ahead = l.s.keys;
	ck_assert_int_eq(seal_sync(&l.s.keys, &l.s.secrets, &committed), 0);
	ck_assert(memcmp(l.s.keys.key[way], ahead.key[way], 32) != 0);
	next = committed;
	ck_assert_int_eq(seal_rekey(&l.s.keys, &l.s.secrets, &committed, &next, way), 0);
	l.s.pos = next;
	ck_assert_int_eq(seal_sync(&l.s.keys, &l.s.secrets, &l.s.pos), 0);
	ck_assert_mem_eq(&l.s.keys, &ahead, sizeof ahead);
}

static void
send_update(bool request)
{
	struct seal_pos next;
	int n = seal_update(&l.s.keys, &l.s.pos, &ctx, request, out, sizeof out, &next);

	ck_assert_int_eq(n, 5 + 5 + 1 + 16);
	link_to_peer(&l, out, (size_t)n);
	ck_assert_int_eq(next.asked, request || l.s.pos.asked);
	l.s.pos = next;
	rekey(SEAL_TX);
}

/* The peer's next record is a KeyUpdate; takes it and returns what follows. */
static size_t
take_update(uint8_t *p, size_t n, bool answer)
{
	struct seal_in in;
	size_t len = link_record_len(&l, p, n);
	uint32_t updates = l.s.pos.updates;

	link_recv(&l, p, len, &in, out, sizeof out);
	ck_assert_int_eq(in.kind, SEAL_KEY_UPDATE);
	ck_assert_int_eq(in.answer, answer);
	ck_assert_uint_eq(l.s.pos.updates, updates + 1);
	ck_assert_int_eq(l.s.pos.asked, 0);
	rekey(SEAL_RX);
	return len;
}

START_TEST(key_update)
{
	struct seal_in in;

	if (!open_case(_i))
		return;
	if (l.k.proto != SEAL_TLS13) {
		link_fini(&l);
		return;
	}
	for (unsigned round = 0; round < 5; round++) {
		/* Theirs, with and without a request. */
		bool ask = round & 1;
		ck_assert_int_eq(
		    SSL_key_update(l.peer, ask ? SSL_KEY_UPDATE_REQUESTED : SSL_KEY_UPDATE_NOT_REQUESTED),
		    1);
		size_t n = link_peer_writes(&l, data, 50, raw, sizeof raw);
		size_t at = take_update(raw, n, ask);
		link_recv(&l, raw + at, n - at, &in, out, sizeof out);
		ck_assert_mem_eq(in.data, data, 50);
		if (ask)
			send_update(false);
		link_echo(&l, data, 200);
		/* Ours, asking for theirs, which comes in front of its next record. */
		send_update(true);
		link_send(&l, SEAL_T_DATA, data, 99);
		link_peer_reads(&l, data, 99);
		n = link_peer_writes(&l, data, 70, raw, sizeof raw);
		at = take_update(raw, n, false);
		link_recv(&l, raw + at, n - at, &in, out, sizeof out);
		ck_assert_mem_eq(in.data, data, 70);
		link_echo(&l, data, 1000);
	}
	ck_assert_uint_eq(l.s.pos.gen[SEAL_RX], 10);
	link_fini(&l);
}
END_TEST

static void
send_alert(enum seal_alert what)
{
	struct seal_pos next;
	int n = seal_alert(&l.s.keys, &l.s.pos, &ctx, what, out, sizeof out, &next);

	ck_assert_int_gt(n, 0);
	l.s.pos = next;
	link_to_peer(&l, out, (size_t)n);
}

START_TEST(close_both_ways)
{
	struct seal_in in;

	if (!open_case(_i))
		return;
	ck_assert_int_eq(SSL_shutdown(l.peer), 0);
	size_t n = link_from_peer(&l, raw, sizeof raw);
	link_recv(&l, raw, n, &in, out, sizeof out);
	ck_assert_int_eq(in.kind, SEAL_CLOSE);
	send_alert(SEAL_A_CLOSE_NOTIFY);
	ck_assert_int_eq(SSL_shutdown(l.peer), 1);
	link_fini(&l);
	/* Ours first. */
	open_case(_i);
	send_alert(SEAL_A_CLOSE_NOTIFY);
	ck_assert_int_eq(SSL_read(l.peer, out, sizeof out), 0);
	ck_assert_int_eq(SSL_get_error(l.peer, 0), SSL_ERROR_ZERO_RETURN);
	link_fini(&l);
}
END_TEST

START_TEST(fatal_alerts)
{
	struct seal_in in;
	struct seal_pos next;

	if (!open_case(_i))
		return;
	/* A record that was changed under way: libssl says so, and we understand it. */
	int n = seal_seal(&l.s.keys, &l.s.pos, &ctx, SEAL_T_DATA, data, 100, out, sizeof out, &next);
	out[n - 1] ^= 1;
	link_to_peer(&l, out, (size_t)n);
	ck_assert_int_le(SSL_read(l.peer, raw, 100), 0);
	size_t len = link_from_peer(&l, raw, sizeof raw);
	link_recv(&l, raw, len, &in, out, sizeof out);
	ck_assert_int_eq(in.kind, SEAL_FATAL);
	ck_assert_int_eq(in.alert, SEAL_A_BAD_MAC);
	link_fini(&l);
	open_case(_i);
	send_alert(seal_fault_alert(SEAL_F_MAC));
	ck_assert_int_le(SSL_read(l.peer, raw, 100), 0);
	ck_assert_int_eq(ERR_GET_REASON(ERR_peek_last_error()), SSL_R_SSLV3_ALERT_BAD_RECORD_MAC);
	link_fini(&l);
}
END_TEST

START_TEST(renegotiation)
{
	struct seal_in in;

	open_as(SEAL_TLS12, (enum seal_role)_i);
	SSL_clear_options(l.peer, SSL_OP_NO_RENEGOTIATION);
	ck_assert_int_eq(SSL_renegotiate(l.peer), 1);
	SSL_do_handshake(l.peer);
	size_t n = link_from_peer(&l, raw, sizeof raw);
	link_recv(&l, raw, n, &in, out, sizeof out);
	ck_assert_int_eq(in.kind, SEAL_RENEGOTIATE);
	send_alert(SEAL_A_NO_RENEGOTIATION);
	ck_assert_uint_eq(out[0], SEAL_T_ALERT);
	link_fini(&l);
}
END_TEST

/* The client's first data comes with its Finished: it stays in the socket, and is ours. */
START_TEST(early_bird)
{
	const struct link_case k = { SEAL_TLS13, SEAL_AES256_SHA384, false, SEAL_SERVER };
	struct seal_in in;

	for (unsigned read_ahead = 0; read_ahead < 2; read_ahead++) {
		link_init(&l, &k, &ctx);
		SSL *s = l.ssl[SEAL_SERVER], *c = l.peer;
		SSL_set_read_ahead(s, (int)read_ahead);
		SSL_do_handshake(c);
		link_move(&l, SEAL_CLIENT);
		SSL_do_handshake(s);
		link_move(&l, SEAL_SERVER);
		ck_assert_int_eq(SSL_do_handshake(c), 1);
		ck_assert_int_eq(SSL_write(c, data, 300), 300);
		link_move(&l, SEAL_CLIENT);
		ck_assert_int_eq(SSL_do_handshake(s), 1);
		if (read_ahead) {
			ck_assert_int_eq(tlsd_export(&l.s, s, &l.tap[SEAL_SERVER]), -EBUSY);
		} else {
			int n = BIO_read(SSL_get_rbio(s), raw, sizeof raw);
			ck_assert_int_eq(n, 300 + 22);
			link_take_over(&l);
			link_recv(&l, raw, (size_t)n, &in, out, sizeof out);
			ck_assert_mem_eq(in.data, data, 300);
			link_echo(&l, data, 10);
		}
		link_fini(&l);
	}
}
END_TEST

START_TEST(tickets)
{
	const struct link_case k = { SEAL_TLS13, SEAL_AES256_SHA384, false, SEAL_SERVER };

	link_init(&l, &k, &ctx);
	SSL_set_num_tickets(l.ssl[SEAL_SERVER], 1);
	link_handshake(&l, false);
	ck_assert_int_eq(tlsd_export(&l.s, l.ssl[SEAL_SERVER], &l.tap[SEAL_SERVER]), -ENOTSUP);
	link_fini(&l);
}
END_TEST

/* Bytes that are no records; a session that does not exist yet. */
START_TEST(tap_refuses)
{
	struct tlsd_tap tap = { 0 };
	const uint8_t http[] = "GET / HTTP/1.1\r\n", future[] = "\026\376\375\0\2\0\0\0\0\0\0\0\1x";

	ck_assert_int_eq(tlsd_tap_out(&tap, http, sizeof http - 1), -EPROTO);
	tap = (struct tlsd_tap){ .dtls = true };
	ck_assert_int_eq(tlsd_tap_out(&tap, future, sizeof future - 1), -EPROTO); /* epoch 2 */
}
END_TEST

/* A client that asked for small records gets no larger ones. */
START_TEST(small_fragments)
{
	const struct link_case k = { _i ? SEAL_TLS13 : SEAL_TLS12, SEAL_AES256_SHA384, false, SEAL_SERVER };
	struct seal_pos next;

	link_init(&l, &k, &ctx);
	SSL_set_tlsext_max_fragment_length(l.peer, TLSEXT_max_fragment_length_1024);
	link_handshake(&l, false);
	link_take_over(&l);
	ck_assert_uint_eq(seal_plain_max(&l.s.keys), 1024);
	link_echo(&l, data, 1024);
	ck_assert_int_eq(
	    seal_seal(&l.s.keys, &l.s.pos, &ctx, 23, data, 1025, raw, sizeof raw, &next), SEAL_F_LENGTH);
	link_fini(&l);
}
END_TEST

/* ---- what must be refused ------------------------------------------------------------------ */

START_TEST(wrong_bytes)
{
	struct seal_in in;
	struct seal_pos next, before;
	static uint8_t text[2000];

	if (!open_case(_i))
		return;
	before = l.s.pos;
	memset(&next, 0xee, sizeof next);
	struct seal_pos untouched = next;
	size_t n = link_peer_writes(&l, data, 120, raw, sizeof raw);
	for (size_t at = 0; at < n; at++) {
		raw[at] ^= (uint8_t)(1u << (at % 8));
		int fault = seal_open(&l.s.keys, &l.s.pos, &ctx, raw, n, text, sizeof text, &in, &next);
		if (at >= SEAL_HEAD)
			ck_assert_int_eq(fault, SEAL_F_MAC);
		else
			ck_assert_int_lt(fault, 0);
		raw[at] ^= (uint8_t)(1u << (at % 8));
		ck_assert_mem_eq(&next, &untouched, sizeof next);
	}
	for (size_t len = 0; len < n; len++)
		ck_assert_int_lt(
		    seal_open(&l.s.keys, &l.s.pos, &ctx, raw, len, text, sizeof text, &in, &next), 0);
	/* The ciphertext is still whole: the real record opens after all that. */
	ck_assert_mem_eq(&l.s.pos, &before, sizeof before);
	ck_assert_int_eq(seal_open(&l.s.keys, &l.s.pos, &ctx, raw, n, text, 119, &in, &next), SEAL_F_ROOM);
	link_recv(&l, raw, n, &in, text, sizeof text);
	ck_assert_mem_eq(in.data, data, 120);
	/* Again, with the next number. */
	ck_assert_int_eq(
	    seal_open(&l.s.keys, &l.s.pos, &ctx, raw, n, text, sizeof text, &in, &next), SEAL_F_MAC);
	for (size_t i = 0; i < 120; i++)
		ck_assert_uint_eq(text[i], 0);
	link_fini(&l);
}
END_TEST

START_TEST(wrong_order)
{
	struct seal_in in;
	struct seal_pos next;

	if (!open_case(_i))
		return;
	size_t a = link_peer_writes(&l, data, 10, raw, sizeof raw);
	size_t b = link_peer_writes(&l, data, 20, raw + a, sizeof raw - a);
	ck_assert_int_eq(
	    seal_open(&l.s.keys, &l.s.pos, &ctx, raw + a, b, out, sizeof out, &in, &next), SEAL_F_MAC);
	link_recv(&l, raw, a, &in, out, sizeof out);
	link_recv(&l, raw + a, b, &in, out, sizeof out);
	link_fini(&l);
}
END_TEST

static int
head(uint8_t type, uint16_t version, uint16_t len)
{
	uint8_t h[SEAL_HEAD] = { type };

	put_u16(h + 1, version);
	put_u16(h + 3, len);
	return seal_stream_len(&l.s.keys, h, sizeof h);
}

START_TEST(heads)
{
	open_as(SEAL_TLS13, SEAL_SERVER);
	ck_assert_int_eq(head(23, 0x0303, 100), 105);
	ck_assert_int_eq(head(23, 0x0303, 16384 + 256), SEAL_RECORD_MAX);
	ck_assert_int_eq(head(23, 0x0303, 16384 + 257), SEAL_F_LENGTH);
	ck_assert_int_eq(head(23, 0x0303, 65535), SEAL_F_LENGTH);
	ck_assert_int_eq(head(23, 0x0303, 17), 22);
	ck_assert_int_eq(head(23, 0x0303, 16), SEAL_F_DECODE);
	ck_assert_int_eq(head(23, 0x0301, 100), SEAL_F_TYPE);
	ck_assert_int_eq(head(23, 0xfefd, 100), SEAL_F_TYPE);
	for (unsigned type = 0; type < 256; type++)
		if (type != 23)
			ck_assert_int_eq(head((uint8_t)type, 0x0303, 100), SEAL_F_TYPE);
	ck_assert_int_eq(seal_stream_len(&l.s.keys, (const uint8_t *)"G", 1), SEAL_F_TYPE);
	link_fini(&l);
	open_as(SEAL_TLS12, SEAL_SERVER);
	ck_assert_int_eq(head(23, 0x0303, 24), 29);
	ck_assert_int_eq(head(23, 0x0303, 23), SEAL_F_DECODE);
	for (unsigned type = 0; type < 256; type++)
		if (type < 21 || type > 23)
			ck_assert_int_eq(head((uint8_t)type, 0x0303, 100), SEAL_F_TYPE);
	link_fini(&l);
}
END_TEST

/* ---- commits and repair -------------------------------------------------------------------- */

START_TEST(torn_keys)
{
	struct seal_pos next;
	struct seal_in in;

	open_as(SEAL_TLS13, SEAL_SERVER);
	struct seal good = l.s.keys;
	for (unsigned way = 0; way < 2; way++) {
		l.s.keys.gen[way] = SEAL_GEN_NONE;
		memset(l.s.keys.key[way], 0x55, 20);
		ck_assert_int_eq(way == SEAL_TX
			? seal_seal(&l.s.keys, &l.s.pos, &ctx, 23, data, 1, out, sizeof out, &next)
			: seal_open(&l.s.keys, &l.s.pos, &ctx, data, 100, out, sizeof out, &in, &next),
		    SEAL_F_STATE);
		ck_assert_int_eq(seal_sync(&l.s.keys, &l.s.secrets, &l.s.pos), 0);
		ck_assert_mem_eq(&l.s.keys, &good, sizeof good);
	}
	link_echo(&l, data, 100);
	link_fini(&l);
}
END_TEST

/* A crash before the commit seals again: the same bytes when the content is the same, and the peer
 * takes them. */
START_TEST(seal_again)
{
	struct seal_pos next;
	static uint8_t first[200], second[200];

	if (!open_case(_i))
		return;
	int n = seal_seal(&l.s.keys, &l.s.pos, &ctx, 23, data, 100, first, sizeof first, &next);
	int m = seal_seal(&l.s.keys, &l.s.pos, &ctx, 23, data, 100, second, sizeof second, &next);
	ck_assert_int_eq(n, m);
	ck_assert_mem_eq(first, second, (size_t)n);
	link_to_peer(&l, first, (size_t)n);
	l.s.pos = next;
	link_peer_reads(&l, data, 100);
	link_echo(&l, data, 10);
	link_fini(&l);
}
END_TEST

START_TEST(headroom)
{
	struct seal_pos next;
	static uint8_t far[200], near[200];

	if (!open_case(_i))
		return;
	size_t before = seal_before(&l.s.keys);
	int n = seal_seal(&l.s.keys, &l.s.pos, &ctx, 23, data, 100, far, sizeof far, &next);
	memcpy(near + before, data, 100);
	ck_assert_int_eq(
	    seal_seal(&l.s.keys, &l.s.pos, &ctx, 23, near + before, 100, near, sizeof near, &next), n);
	ck_assert_mem_eq(far, near, (size_t)n);
	ck_assert_int_eq(
	    seal_seal(&l.s.keys, &l.s.pos, &ctx, 23, data, 100, far, (size_t)n - 1, &next), SEAL_F_ROOM);
	link_fini(&l);
}
END_TEST

/* libsodium's AES-256-GCM and libcrypto's are the same to the peer. */
START_TEST(without_sodium_aes)
{
	open_as(_i & 1 ? SEAL_TLS13 : SEAL_TLS12, (enum seal_role)(_i >> 1));
	for (unsigned i = 0; i < 6; i++) {
		link_echo(&l, data, 100 + i);
		ctx.sodium_aes = !ctx.sodium_aes && i != 3;
		if (i == 4)
			seal_ctx_wipe(&ctx);
	}
	link_fini(&l);
}
END_TEST

Suite *
suite_stream(void)
{
	Suite *s = suite_create("seal stream");
	TCase *t = tcase_create("libssl"), *b = tcase_create("bad input"), *c = tcase_create("commits");
	int cases = (int)link_case_count;

	tcase_add_unchecked_fixture(t, link_keys, NULL);
	tcase_add_unchecked_fixture(b, link_keys, NULL);
	tcase_add_unchecked_fixture(c, link_keys, NULL);
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_checked_fixture(b, setup, teardown);
	tcase_add_checked_fixture(c, setup, teardown);
	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, echo, 0, cases);
	tcase_add_loop_test(t, nonce_goes_on, 0, cases);
	tcase_add_loop_test(t, many_records, 0, cases);
	tcase_add_loop_test(t, padding, 0, 2);
	tcase_add_loop_test(t, key_update, 0, cases);
	tcase_add_loop_test(t, close_both_ways, 0, cases);
	tcase_add_loop_test(t, fatal_alerts, 0, cases);
	tcase_add_loop_test(t, renegotiation, 0, 2);
	tcase_add_test(t, early_bird);
	tcase_add_test(t, tickets);
	tcase_add_test(t, tap_refuses);
	tcase_add_loop_test(t, small_fragments, 0, 2);
	tcase_add_loop_test(b, wrong_bytes, 0, cases);
	tcase_add_loop_test(b, wrong_order, 0, cases);
	tcase_add_test(b, heads);
	tcase_add_test(c, torn_keys);
	tcase_add_loop_test(c, seal_again, 0, cases);
	tcase_add_loop_test(c, headroom, 0, cases);
	tcase_add_loop_test(c, without_sodium_aes, 0, 4);
	suite_add_tcase(s, t);
	suite_add_tcase(s, b);
	suite_add_tcase(s, c);
	return s;
}
