/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_seal_content.c: authenticated content that must be refused or understood, and limits: two ends of
 * our own say what libssl would not.
 */
#include "config.h"

#include <check.h>
#include <string.h>

#include "seal_suites.h"
#include "tp/seal.h"

static struct seal_ctx ctx;
static uint8_t data[SEAL_PLAIN_MAX + 1], raw[SEAL_RECORD_MAX], out[SEAL_RECORD_MAX];

static void
setup(void)
{
	ck_assert_int_eq(seal_ctx_init(&ctx), 0);
}

static void
teardown(void)
{
	seal_ctx_fini(&ctx);
}

static struct seal us, them;
static struct seal_pos ours, theirs;
static struct seal_secrets secrets;

static void
pair(enum seal_proto proto, unsigned suite)
{
	uint8_t a[48], b[48];

	memset(a, 'a', sizeof a);
	memset(b, 'b', sizeof b);
	memset(&ours, 0, sizeof ours);
	memset(&theirs, 0, sizeof theirs);
	struct seal *k[2] = { &us, &them };
	for (unsigned i = 0; i < 2; i++)
		ck_assert_int_eq(proto == SEAL_TLS13
			? seal_start13(
			      k[i], &secrets, (enum seal_role)i, suite, a, b, seal_secret_len(suite))
			: seal_start12(k[i], proto, (enum seal_role)i, suite, a, b, b, 1234),
		    0);
	seal_start13(&us, &secrets, SEAL_SERVER, suite, a, b, seal_secret_len(suite));
	if (proto != SEAL_TLS13)
		seal_start12(&us, proto, SEAL_SERVER, suite, a, b, b, 1234);
}

static int
hear(uint8_t type, const void *text, size_t n, struct seal_in *in)
{
	int len = seal_seal(&them, &theirs, &ctx, type, text, n, raw, sizeof raw, &theirs);

	ck_assert_int_gt(len, 0);
	return seal_open(&us, &ours, &ctx, raw, (size_t)len, out, sizeof out, in, &ours);
}

START_TEST(inner_content13)
{
	static const struct {
		uint8_t type, n, text[8];
		int fault;
	} rows[] = {
		{ 22, 5, { 24, 0, 0, 1, 0 }, 0 },
		{ 22, 5, { 24, 0, 0, 1, 1 }, 0 },
		{ 22, 5, { 24, 0, 0, 1, 2 }, SEAL_F_VALUE },
		{ 22, 6, { 24, 0, 0, 2, 0, 0 }, SEAL_F_DECODE },
		{ 22, 6, { 24, 0, 0, 1, 0, 24 }, SEAL_F_DECODE },
		{ 22, 4, { 24, 0, 0, 1 }, SEAL_F_DECODE },
		{ 22, 0, { 0 }, SEAL_F_TYPE },
		{ 22, 8, { 4, 0, 0, 4 }, SEAL_F_TYPE },  /* NewSessionTicket */
		{ 22, 8, { 13, 0, 0, 4 }, SEAL_F_TYPE }, /* CertificateRequest */
		{ 22, 8, { 1, 0, 0, 4 }, SEAL_F_TYPE },  /* ClientHello */
		{ 20, 1, { 1 }, SEAL_F_TYPE },
		{ 0, 8, { 0 }, SEAL_F_TYPE }, /* padding only */
		{ 0, 0, { 0 }, SEAL_F_TYPE },
		{ 24, 3, { 1 }, SEAL_F_TYPE },
		{ 99, 3, { 1 }, SEAL_F_TYPE },
		{ 21, 1, { 2 }, SEAL_F_DECODE },
		{ 21, 3, { 2, 0, 0 }, SEAL_F_DECODE },
		{ 21, 2, { 1, 90 }, 0 },
		{ 21, 2, { 1, 40 }, 0 },
	};
	struct seal_in in;

	for (unsigned suite = 1; suite <= 3; suite++)
		for (size_t i = 0; i < TP_COUNT(rows); i++) {
			pair(SEAL_TLS13, suite);
			ck_assert_int_eq(hear(rows[i].type, rows[i].text, rows[i].n, &in), rows[i].fault);
			ck_assert_uint_eq(ours.seq[SEAL_RX], rows[i].fault == 0);
		}
	pair(SEAL_TLS13, SEAL_AES256_SHA384);
	ck_assert_int_eq(hear(21, "\001\050", 2, &in), 0); /* a "warning" that is none in 1.3 */
	ck_assert_int_eq(in.kind, SEAL_FATAL);
	ck_assert_int_eq(in.alert, 40);
	ck_assert_int_eq(hear(21, "\001\132", 2, &in), 0);
	ck_assert_int_eq(in.kind, SEAL_NOTHING);
}
END_TEST

START_TEST(inner_content12)
{
	static const struct {
		uint8_t type, n, text[8];
		int fault;
		uint8_t kind;
	} rows[] = {
		{ 22, 4, { 1, 0, 0, 0 }, 0, SEAL_RENEGOTIATE },
		{ 22, 4, { 0, 0, 0, 0 }, SEAL_F_TYPE, 0 }, /* HelloRequest to a server */
		{ 22, 4, { 20, 0, 0, 0 }, SEAL_F_TYPE, 0 },
		{ 22, 0, { 0 }, SEAL_F_DECODE, 0 },
		{ 21, 2, { 1, 100 }, 0, SEAL_NOTHING },
		{ 21, 2, { 2, 40 }, 0, SEAL_FATAL },
		{ 21, 2, { 1, 0 }, 0, SEAL_CLOSE },
		{ 21, 2, { 3, 40 }, SEAL_F_VALUE, 0 },
		{ 21, 4, { 1, 100, 1, 100 }, SEAL_F_DECODE, 0 },
		{ 23, 0, { 0 }, 0, SEAL_NOTHING },
		{ 20, 1, { 1 }, SEAL_F_TYPE, 0 },
	};
	struct seal_in in;

	for (size_t i = 0; i < TP_COUNT(rows); i++) {
		pair(SEAL_TLS12, SEAL_AES128_SHA256);
		ck_assert_int_eq(hear(rows[i].type, rows[i].text, rows[i].n, &in), rows[i].fault);
		if (rows[i].fault == 0)
			ck_assert_int_eq(in.kind, rows[i].kind);
	}
}
END_TEST

START_TEST(empty_flood)
{
	struct seal_in in;

	pair(_i ? SEAL_TLS13 : SEAL_TLS12, SEAL_CHACHA_SHA256);
	for (unsigned round = 0; round < 2; round++) {
		for (unsigned i = 0; i < SEAL_IDLE_MAX; i++)
			ck_assert_int_eq(hear(23, "", 0, &in), 0);
		if (round == 0)
			ck_assert_int_eq(hear(23, "x", 1, &in), 0);
	}
	ck_assert_int_eq(hear(23, "", 0, &in), SEAL_F_FLOOD);
}
END_TEST

/* More than 2^14 bytes inside a record that is not too long: 1.3 may carry 256 more only as tag and
 * type. */
START_TEST(plain_too_long)
{
	struct seal_in in;
	struct seal_pos next;

	for (unsigned proto = SEAL_TLS12; proto <= SEAL_TLS13; proto++) {
		pair((enum seal_proto)proto, SEAL_CHACHA_SHA256);
		ck_assert_int_eq(hear(23, data, SEAL_PLAIN_MAX, &in), 0);
		ck_assert_uint_eq(in.len, SEAL_PLAIN_MAX);
		ck_assert_int_eq(
		    seal_seal(&them, &theirs, &ctx, 23, data, SEAL_PLAIN_MAX + 1, raw, sizeof raw, &next),
		    SEAL_F_LENGTH);
		size_t body = SEAL_PLAIN_MAX + 2 + 16;
		memset(raw, 0, sizeof raw);
		memcpy(raw, "\027\003\003", 3);
		put_u16(raw + 3, (uint16_t)body);
		ck_assert_int_eq(
		    seal_open(&us, &ours, &ctx, raw, SEAL_HEAD + body, out, sizeof out, &in, &next),
		    SEAL_F_LENGTH);
	}
}
END_TEST

START_TEST(limits)
{
	struct seal_pos pos = { 0 }, next;
	uint8_t text[1] = { 0 };

	pair(SEAL_TLS13, SEAL_AES128_SHA256);
	ck_assert_int_eq(seal_due(&us, &pos), SEAL_DUE_NOT);
	pos.seq[SEAL_TX] = SEAL_UPDATE_AT;
	ck_assert_int_eq(seal_due(&us, &pos), SEAL_DUE_UPDATE);
	pos.seq[SEAL_RX] = SEAL_UPDATE_AT;
	ck_assert_int_eq(seal_due(&us, &pos), SEAL_DUE_REQUEST);
	ck_assert_int_gt(seal_update(&us, &pos, &ctx, true, out, sizeof out, &next), 0);
	ck_assert_int_eq(next.asked, 1);
	next.seq[SEAL_TX] = 0;
	ck_assert_int_eq(seal_due(&us, &next), SEAL_DUE_NOT);
	pos.seq[SEAL_TX] = SEAL_GCM13_MAX - 1;
	ck_assert_int_gt(seal_seal(&us, &pos, &ctx, 23, text, 1, out, sizeof out, &next), 0);
	ck_assert_int_eq(seal_seal(&us, &next, &ctx, 23, text, 1, out, sizeof out, &next), SEAL_F_LIMIT);
	ck_assert_int_gt(seal_alert(&us, &next, &ctx, SEAL_A_CLOSE_NOTIFY, out, sizeof out, &pos), 0);
	ck_assert_int_gt(seal_update(&us, &pos, &ctx, false, out, sizeof out, &next), 0);
	pos = next;
	ck_assert_int_eq(seal_rekey(&us, &secrets, &pos, &next, SEAL_TX), 0);
	ck_assert_int_eq(seal_sync(&us, &secrets, &next), 0);
	ck_assert_int_gt(seal_seal(&us, &next, &ctx, 23, text, 1, out, sizeof out, &next), 0);
	pos.seq[SEAL_TX] = SEAL_GCM13_MAX + SEAL_IDLE_MAX;
	pos.gen[SEAL_TX] = next.gen[SEAL_TX];
	ck_assert_int_eq(
	    seal_alert(&us, &pos, &ctx, SEAL_A_CLOSE_NOTIFY, out, sizeof out, &next), SEAL_F_LIMIT);
	pair(SEAL_TLS12, SEAL_AES128_SHA256);
	pos = (struct seal_pos){ .seq = { SEAL_SEQ_MAX, 0 } };
	ck_assert_int_eq(seal_seal(&us, &pos, &ctx, 23, text, 1, out, sizeof out, &next), SEAL_F_LIMIT);
	ck_assert_int_eq(seal_update(&us, &pos, &ctx, false, out, sizeof out, &next), SEAL_F_STATE);
	/* No data under this key any more, and nothing to renew it with: close. */
	ck_assert_int_eq(seal_due(&us, &pos), SEAL_DUE_END);
	ck_assert_int_gt(seal_alert(&us, &pos, &ctx, SEAL_A_CLOSE_NOTIFY, out, sizeof out, &next), 0);
	pos.seq[SEAL_TX]--;
	ck_assert_int_eq(seal_due(&us, &pos), SEAL_DUE_NOT);
	pair(SEAL_TLS13, SEAL_CHACHA_SHA256);
	ck_assert_int_eq(seal_due(&us, &pos), SEAL_DUE_NOT);
	pos.seq[SEAL_TX]++;
	ck_assert_int_eq(seal_due(&us, &pos), SEAL_DUE_END);
	/* A KeyUpdate was due 7 million records ago and did not get out. */
	pair(SEAL_TLS13, SEAL_AES128_SHA256);
	pos.seq[SEAL_TX] = SEAL_GCM13_MAX - 1;
	ck_assert_int_eq(seal_due(&us, &pos), SEAL_DUE_UPDATE);
	pos.seq[SEAL_TX] = SEAL_GCM13_MAX;
	ck_assert_int_eq(seal_due(&us, &pos), SEAL_DUE_END);
	ck_assert_int_gt(seal_alert(&us, &pos, &ctx, SEAL_A_CLOSE_NOTIFY, out, sizeof out, &next), 0);
	/* What the peer seals is refused at the limit that it should have kept. */
	pos = (struct seal_pos){ .seq = { 0, SEAL_SEQ_MAX } };
	struct seal_in in;
	ck_assert_int_eq(seal_open(&us, &pos, &ctx, raw, sizeof raw, out, sizeof out, &in, &next) < 0, 1);
}
END_TEST

Suite *
suite_content(void)
{
	Suite *s = suite_create("seal content");
	TCase *t = tcase_create("content");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, inner_content13);
	tcase_add_test(t, inner_content12);
	tcase_add_loop_test(t, empty_flood, 0, 2);
	tcase_add_test(t, plain_too_long);
	tcase_add_test(t, limits);
	suite_add_tcase(s, t);
	return s;
}
