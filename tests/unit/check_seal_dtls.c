/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_seal_dtls.c: DTLS 1.2 against libssl in both roles; datagrams, replay window, the lost final
 * flight.
 */
#include "config.h"

#include <check.h>
#include <string.h>
#include <unistd.h>

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
		data[i] = (uint8_t)(i * 5 + (i >> 8));
}

static void
teardown(void)
{
	seal_ctx_fini(&ctx);
}

static bool
open_case(int i)
{
	if (link_cases[i].proto != SEAL_DTLS12)
		return false;
	link_open(&l, &link_cases[i], &ctx);
	return true;
}

static void
open_as(unsigned suite, enum seal_role role)
{
	const struct link_case k = { SEAL_DTLS12, suite, false, role };

	link_open(&l, &k, &ctx);
}

/* ---- against libssl ------------------------------------------------------------------------ */

START_TEST(echo)
{
	static const size_t sizes[] = { 1, 2, 15, 16, 17, 120, 1000, 1300 };

	if (!open_case(_i))
		return;
	ck_assert_uint_eq(l.s.dtls.tx, 1);
	for (size_t i = 0; i < TP_COUNT(sizes); i++)
		link_echo(&l, data, sizes[i]);
	ck_assert_uint_eq(l.s.dtls.tx, 1 + TP_COUNT(sizes));
	/* A number that a dead worker took and never used. */
	uint64_t hole;
	ck_assert_int_eq(seal_dtls_take(&l.s.dtls, &hole), 0);
	link_echo(&l, data, 77);
	link_fini(&l);
}
END_TEST

/* The Finished that was stored and OpenSSL's nonce make OpenSSL's own record again, byte for byte. */
START_TEST(same_finished)
{
	if (!open_case(_i))
		return;
	if (l.k.role == SEAL_SERVER) {
		int n = seal_dtls_seal(&l.s.keys, &ctx, 0, SEAL_T_HANDSHAKE, l.s.final.finished,
		    SEAL_FINISHED_LEN, out, sizeof out);
		ck_assert_int_le(n, (int)sizeof l.tail);
		ck_assert_mem_eq(out, l.tail + sizeof l.tail - n, (size_t)n);
	}
	link_fini(&l);
}
END_TEST

START_TEST(in_place)
{
	struct seal_in in;

	if (!open_case(_i))
		return;
	size_t before = seal_before(&l.s.keys);
	size_t n = link_peer_writes(&l, data, 120, raw, sizeof raw);
	link_recv(&l, raw, n, &in, raw + before, n - before);
	ck_assert_ptr_eq(in.data, raw + before);
	ck_assert_mem_eq(in.data, data, 120);
	uint64_t seq;
	ck_assert_int_eq(seal_dtls_take(&l.s.dtls, &seq), 0);
	int len = seal_dtls_seal(&l.s.keys, &ctx, seq, SEAL_T_DATA, raw + before, 120, raw, sizeof raw);
	link_to_peer(&l, raw, (size_t)len);
	link_peer_reads(&l, data, 120);
	link_fini(&l);
}
END_TEST

/* Records in any order within the window, each twice: each is taken once. */
START_TEST(reorder_and_replay)
{
	static size_t at[41], lens[40];
	static bool taken[40];
	struct seal_dhead h;
	struct seal_in in;
	uint64_t rnd = test_seed("reorder_and_replay");

	if (!open_case(_i))
		return;
	memset(taken, 0, sizeof taken);
	for (unsigned i = 0; i < 40; i++) {
		lens[i] = link_peer_writes(&l, data + i, 60, raw + at[i], sizeof raw - at[i]);
		at[i + 1] = at[i] + lens[i];
	}
	for (unsigned i = 0; i < 400; i++) {
		unsigned r = (unsigned)(test_random(&rnd) % 40);
		ck_assert_int_eq(seal_dtls_head(&h, raw + at[r], lens[r]), (int)lens[r]);
		ck_assert_uint_eq(h.epoch, 1);
		ck_assert_int_eq(seal_window_fresh(&l.s.dtls, h.seq), !taken[r]);
		if (taken[r])
			continue;
		link_recv(&l, raw + at[r], lens[r], &in, out, sizeof out);
		ck_assert_mem_eq(in.data, data + r, 60);
		taken[r] = true;
	}
	link_fini(&l);
}
END_TEST

START_TEST(alerts)
{
	struct seal_in in;
	uint64_t seq;

	if (!open_case(_i))
		return;
	ck_assert_int_eq(SSL_shutdown(l.peer), 0);
	size_t n = link_from_peer(&l, raw, sizeof raw);
	link_recv(&l, raw, n, &in, out, sizeof out);
	ck_assert_int_eq(in.kind, SEAL_CLOSE);
	ck_assert_int_eq(seal_dtls_take(&l.s.dtls, &seq), 0);
	int len = seal_dtls_alert(&l.s.keys, &ctx, seq, SEAL_A_CLOSE_NOTIFY, out, sizeof out);
	link_to_peer(&l, out, (size_t)len);
	ck_assert_int_eq(SSL_shutdown(l.peer), 1);
	link_fini(&l);
}
END_TEST

START_TEST(renegotiation)
{
	struct seal_in in;

	open_as(SEAL_AES256_SHA384, (enum seal_role)_i);
	SSL_clear_options(l.peer, SSL_OP_NO_RENEGOTIATION);
	ck_assert_int_eq(SSL_renegotiate(l.peer), 1);
	SSL_do_handshake(l.peer);
	size_t n = link_from_peer(&l, raw, sizeof raw);
	link_recv(&l, raw, link_record_len(&l, raw, n), &in, out, sizeof out);
	ck_assert_int_eq(in.kind, SEAL_RENEGOTIATE);
	link_fini(&l);
}
END_TEST

static unsigned
soon(SSL *s, unsigned us)
{
	(void)s;
	(void)us;
	return 60000; /* libssl takes less than 15 ms as none */
}

/* The client repeats its flight; what of it is ours to answer? */
static void
answer_repeat(bool deliver)
{
	struct seal_dhead h;
	struct seal_in in;
	unsigned classes[4] = { 0 };
	int fin = 0;

	for (unsigned i = 0; i < 1000 && DTLSv1_handle_timeout(l.peer) != 1; i++)
		usleep(5000);
	size_t n = link_from_peer(&l, raw, sizeof raw), at = 0;
	while (at < n) {
		int len = seal_dtls_head(&h, raw + at, n - at);
		ck_assert_int_gt(len, 0);
		classes[h.dclass]++;
		if (h.dclass == SEAL_D_SESSION) {
			link_recv(&l, raw + at, (size_t)len, &in, out, sizeof out);
			ck_assert_int_eq(in.kind, SEAL_FINISHED);
			fin = seal_final_flight(&l.s.keys, &ctx, &l.s.dtls, &l.s.final, out, sizeof out);
			ck_assert_int_gt(fin, 0);
			ck_assert_int_le(fin, SEAL_FINAL_MAX);
		}
		at += (size_t)len;
	}
	ck_assert_uint_eq(classes[SEAL_D_SESSION], 1);
	ck_assert_uint_eq(classes[SEAL_D_HANDSHAKE], 2); /* ClientKeyExchange, ChangeCipherSpec */
	if (deliver)
		link_to_peer(&l, out, (size_t)fin);
}

START_TEST(final_flight_lost)
{
	const struct link_case *k = &link_cases[_i];

	if (k->proto != SEAL_DTLS12 || k->role != SEAL_SERVER)
		return;
	link_init(&l, k, &ctx);
	DTLS_set_timer_cb(l.peer, soon);
	link_handshake(&l, true);
	link_take_over(&l);
	ck_assert_int_eq(SSL_is_init_finished(l.peer), 0);
	answer_repeat(false);
	answer_repeat(true);
	ck_assert_int_eq(SSL_do_handshake(l.peer), 1);
	link_echo(&l, data, 120);
	ck_assert_uint_eq(l.s.final.resent, 2);
	while (l.s.final.resent < SEAL_RESEND_MAX)
		ck_assert_int_gt(
		    seal_final_flight(&l.s.keys, &ctx, &l.s.dtls, &l.s.final, out, sizeof out), 0);
	uint64_t tx = l.s.dtls.tx;
	ck_assert_int_eq(
	    seal_final_flight(&l.s.keys, &ctx, &l.s.dtls, &l.s.final, out, sizeof out), SEAL_F_LIMIT);
	ck_assert_uint_eq(l.s.dtls.tx, tx);
	link_echo(&l, data, 120);
	link_fini(&l);
}
END_TEST

/* ---- datagrams ----------------------------------------------------------------------------- */

START_TEST(wrong_bytes)
{
	struct seal_in in;

	if (!open_case(_i))
		return;
	size_t n = link_peer_writes(&l, data, 120, raw, sizeof raw);
	for (size_t at = 0; at < n; at++) {
		raw[at] ^= (uint8_t)(1u << (at % 8));
		int fault = seal_dtls_open(&l.s.keys, &ctx, raw, n, out, sizeof out, &in);
		ck_assert_int_lt(fault, 0);
		if (at >= SEAL_DTLS_HEAD || (at >= 5 && at < 11)) /* the number is protected too */
			ck_assert_int_eq(fault, SEAL_F_MAC);
		raw[at] ^= (uint8_t)(1u << (at % 8));
	}
	for (size_t len = 0; len < n; len++)
		ck_assert_int_lt(seal_dtls_open(&l.s.keys, &ctx, raw, len, out, sizeof out, &in), 0);
	ck_assert_int_eq(seal_dtls_open(&l.s.keys, &ctx, raw, n, out, 119, &in), SEAL_F_ROOM);
	link_recv(&l, raw, n, &in, out, sizeof out);
	link_fini(&l);
}
END_TEST

static size_t
plain(uint8_t *p, uint8_t type, uint16_t version, uint16_t epoch, uint64_t seq, uint16_t len, uint8_t first)
{
	p[0] = type;
	put_u16(p + 1, version);
	put_u64(p + 3, (uint64_t)epoch << 48 | seq);
	put_u16(p + 11, len);
	memset(p + 13, 0, len);
	if (len > 0)
		p[13] = first;
	return 13u + len;
}

START_TEST(classes)
{
	static const struct {
		uint8_t type;
		uint16_t version, epoch, len;
		uint8_t first;
		int dclass;
	} rows[] = {
		{ 22, 0xfefd, 0, 40, 1, SEAL_D_HELLO },
		{ 22, 0xfeff, 0, 40, 1, SEAL_D_HELLO },
		{ 22, 0xfefd, 0, 40, 16, SEAL_D_HANDSHAKE },
		{ 22, 0xfefd, 0, 0, 0, SEAL_D_HANDSHAKE },
		{ 20, 0xfefd, 0, 1, 1, SEAL_D_HANDSHAKE },
		{ 21, 0xfefd, 0, 2, 2, SEAL_D_IGNORE }, /* a forged alert closes nothing */
		{ 23, 0xfefd, 0, 2, 2, SEAL_D_IGNORE },
		{ 23, 0xfefd, 1, 2, 2, SEAL_D_SESSION },
		{ 22, 0xfefd, 1, 2, 1, SEAL_D_SESSION },
		{ 24, 0xfefd, 1, 2, 1, SEAL_D_IGNORE }, /* heartbeat */
		{ 19, 0xfefd, 1, 2, 1, SEAL_D_IGNORE },
		{ 23, 0xfefd, 2, 2, 1, SEAL_D_IGNORE },
		{ 22, 0xfefd, 0xffff, 2, 1, SEAL_D_IGNORE },
		{ 22, 0x0303, 0, 40, 1, SEAL_F_TYPE },
		{ 22, 0xfefc, 0, 40, 1, SEAL_F_TYPE },
		{ 22, 0xfefd, 0, 16384 + 257, 1, SEAL_F_LENGTH },
	};
	struct seal_dhead h;

	for (size_t i = 0; i < TP_COUNT(rows); i++) {
		size_t n = plain(raw, rows[i].type, rows[i].version, rows[i].epoch, 0x123456789abc,
		    rows[i].len, rows[i].first);
		int len = seal_dtls_head(&h, raw, n);
		if (rows[i].dclass < 0) {
			ck_assert_int_eq(len, rows[i].dclass);
			continue;
		}
		ck_assert_int_eq(len, (int)n);
		ck_assert_int_eq(h.dclass, rows[i].dclass);
		ck_assert_uint_eq(h.epoch, rows[i].epoch);
		ck_assert_uint_eq(h.seq, 0x123456789abc);
		for (size_t cut = 0; cut < n; cut++)
			ck_assert_int_eq(seal_dtls_head(&h, raw, cut), SEAL_F_DECODE);
	}
}
END_TEST

/* Ours, a stray ClientHello, ours, rubbish of another epoch, ours: in one datagram. */
START_TEST(one_datagram)
{
	struct seal_dhead h;
	struct seal_in in;
	size_t n = 0, at = 0;
	unsigned data_records = 0, hellos = 0, ignored = 0;

	open_as(SEAL_CHACHA_SHA256, SEAL_SERVER);
	n += link_peer_writes(&l, data, 10, raw + n, sizeof raw - n);
	n += plain(raw + n, 22, 0xfeff, 0, 0, 60, 1);
	n += link_peer_writes(&l, data, 20, raw + n, sizeof raw - n);
	n += plain(raw + n, 23, 0xfefd, 3, 9, 60, 1);
	n += link_peer_writes(&l, data, 30, raw + n, sizeof raw - n);
	while (at < n) {
		int len = seal_dtls_head(&h, raw + at, n - at);
		ck_assert_int_gt(len, 0);
		if (h.dclass == SEAL_D_SESSION) {
			link_recv(&l, raw + at, (size_t)len, &in, out, sizeof out);
			ck_assert_uint_eq(in.len, 10 * ++data_records);
		}
		hellos += h.dclass == SEAL_D_HELLO;
		ignored += h.dclass == SEAL_D_IGNORE;
		at += (size_t)len;
	}
	ck_assert_uint_eq(data_records, 3);
	ck_assert_uint_eq(hellos, 1);
	ck_assert_uint_eq(ignored, 1);
	link_fini(&l);
}
END_TEST

/* Authenticated handshake messages and alerts that mean nothing any more. */
START_TEST(content)
{
	static const struct {
		uint8_t type, n, text[4];
		int fault;
		uint8_t kind;
	} rows[] = {
		{ 22, 4, { 1 }, 0, SEAL_RENEGOTIATE },
		{ 22, 4, { 20 }, 0, SEAL_FINISHED },
		{ 22, 4, { 11 }, 0, SEAL_NOTHING },
		{ 22, 0, { 0 }, SEAL_F_DECODE, 0 },
		{ 20, 1, { 1 }, 0, SEAL_NOTHING },
		{ 23, 0, { 0 }, 0, SEAL_NOTHING },
		{ 21, 2, { 2, 20 }, 0, SEAL_FATAL },
		{ 21, 2, { 1, 90 }, 0, SEAL_NOTHING },
		{ 21, 2, { 1, 0 }, 0, SEAL_CLOSE },
		{ 21, 1, { 1 }, SEAL_F_DECODE, 0 },
	};
	uint8_t secret[48] = { 1 };
	struct seal us, them;
	struct seal_in in;

	seal_start12(&us, SEAL_DTLS12, SEAL_SERVER, SEAL_AES128_SHA256, secret, secret, secret, 0);
	seal_start12(
	    &them, SEAL_DTLS12, SEAL_CLIENT, SEAL_AES128_SHA256, secret, secret, secret, UINT64_MAX - 3);
	for (size_t i = 0; i < TP_COUNT(rows); i++) {
		int n = seal_dtls_seal(
		    &them, &ctx, i, rows[i].type, rows[i].text, rows[i].n, raw, sizeof raw);
		ck_assert_int_eq(
		    seal_dtls_open(&us, &ctx, raw, (size_t)n, out, sizeof out, &in), rows[i].fault);
		if (rows[i].fault == 0)
			ck_assert_int_eq(in.kind, rows[i].kind);
	}
}
END_TEST

/* ---- numbers ------------------------------------------------------------------------------- */

#define SPAN 3000

/* Against a model that remembers everything. */
START_TEST(window_model)
{
	static bool seen[SPAN];
	struct seal_dtls d = { 0 };
	uint64_t rnd = test_seed("window_model"), top = 0;

	memset(seen, 0, sizeof seen);
	for (unsigned i = 0; i < 20000; i++) {
		uint64_t back = test_random(&rnd) % 80, step = test_random(&rnd) % 100 == 0 ? 90 : 2;
		uint64_t n = top + step > back ? top + step - back : 0;
		if (n >= SPAN)
			break;
		bool fresh = n >= top || (top - n <= 64 && !seen[n]);
		ck_assert_int_eq(seal_window_fresh(&d, n), fresh);
		if (!fresh)
			continue;
		seal_window_mark(&d, n);
		seen[n] = true;
		top = n + 1 > top ? n + 1 : top;
		ck_assert_uint_eq(d.top, top);
	}
	ck_assert_uint_gt(top, 64);
}
END_TEST

START_TEST(window_edge)
{
	struct seal_dtls d = { .top = 100 };

	ck_assert(seal_window_fresh(&d, 36));
	ck_assert(!seal_window_fresh(&d, 35));
	ck_assert(!seal_window_fresh(&d, 0));
	ck_assert(seal_window_fresh(&d, 100));
	seal_window_mark(&d, (UINT64_C(1) << 48) - 1);
	ck_assert(!seal_window_fresh(&d, (UINT64_C(1) << 48) - 1));
	ck_assert(seal_window_fresh(&d, (UINT64_C(1) << 48) - 2));
	ck_assert(!seal_window_fresh(&d, 100));
}
END_TEST

/* Killed between the two stores (top, then bits): nothing that was taken is fresh again. */
START_TEST(window_torn)
{
	static bool seen[SPAN];
	struct seal_dtls d = { 0 };
	uint64_t rnd = test_seed("window_torn");

	memset(seen, 0, sizeof seen);
	for (unsigned i = 0; i < 20000 && d.top < SPAN - 200; i++) {
		uint64_t n = d.top + test_random(&rnd) % 8;
		n = n > 40 ? n - test_random(&rnd) % 40 : n;
		if (!seal_window_fresh(&d, n))
			continue;
		struct seal_dtls after = d;
		seal_window_mark(&after, n);
		if (test_random(&rnd) % 4 == 0) {
			d.top = after.top; /* and died: n was not acted on */
		} else {
			d = after;
			seen[n] = true;
		}
		bool twice = false;
		for (uint64_t m = d.top > 200 ? d.top - 200 : 0; m < SPAN; m++)
			twice = twice || (seen[m] && seal_window_fresh(&d, m));
		ck_assert(!twice);
	}
}
END_TEST

START_TEST(numbers)
{
	struct seal_dtls d = { .tx = SEAL_SEQ_MAX - 1, .bad = SEAL_BAD_MAX - 2 };
	struct seal k = { 0 };
	uint64_t seq = 0;
	uint8_t buf[64];

	ck_assert_int_eq(seal_dtls_take(&d, &seq), 0);
	ck_assert_uint_eq(seq, SEAL_SEQ_MAX - 1);
	ck_assert_uint_eq(d.tx, SEAL_SEQ_MAX);
	ck_assert_int_eq(seal_dtls_take(&d, &seq), SEAL_F_LIMIT);
	d.tx = SEAL_SEQ_MAX - SEAL_SEQ_LAST - 1;
	ck_assert(!seal_dtls_spent(&d));
	ck_assert_int_eq(seal_dtls_take(&d, &seq), 0);
	ck_assert(seal_dtls_spent(&d));
	ck_assert(!seal_bad(&d));
	ck_assert(seal_bad(&d));
	ck_assert(seal_bad(&d));
	ck_assert_uint_eq(d.bad, SEAL_BAD_MAX);
	ck_assert_int_eq(seal_dtls_seal(&k, &ctx, 0, 23, data, 1, buf, sizeof buf), SEAL_F_STATE);
	struct seal_final none = { 0 };
	ck_assert_int_eq(seal_final_flight(&k, &ctx, &d, &none, out, sizeof out), SEAL_F_STATE);
}
END_TEST

Suite *
suite_dtls(void)
{
	Suite *s = suite_create("seal dtls");
	TCase *t = tcase_create("libssl"), *b = tcase_create("datagrams"), *n = tcase_create("numbers");
	int cases = (int)link_case_count;

	tcase_add_unchecked_fixture(t, link_keys, NULL);
	tcase_add_unchecked_fixture(b, link_keys, NULL);
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_checked_fixture(b, setup, teardown);
	tcase_add_checked_fixture(n, setup, teardown);
	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, echo, 0, cases);
	tcase_add_loop_test(t, same_finished, 0, cases);
	tcase_add_loop_test(t, in_place, 0, cases);
	tcase_add_loop_test(t, reorder_and_replay, 0, cases);
	tcase_add_loop_test(t, alerts, 0, cases);
	tcase_add_loop_test(t, renegotiation, 0, 2);
	tcase_add_loop_test(t, final_flight_lost, 0, cases);
	tcase_add_loop_test(b, wrong_bytes, 0, cases);
	tcase_add_test(b, classes);
	tcase_add_test(b, one_datagram);
	tcase_add_test(b, content);
	tcase_add_test(n, window_model);
	tcase_add_test(n, window_edge);
	tcase_add_test(n, window_torn);
	tcase_add_test(n, numbers);
	suite_add_tcase(s, t);
	suite_add_tcase(s, b);
	suite_add_tcase(s, n);
	return s;
}
