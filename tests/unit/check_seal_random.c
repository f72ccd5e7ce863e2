/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_seal_random.c: differential: random traffic of every kind between seal and libssl, with damaged
 * copies in between.
 */
#include "config.h"

#include <check.h>
#include <sodium.h>
#include <string.h>

#include "seal_link.h"
#include "seal_suites.h"

#define STEPS 300

static struct seal_ctx ctx;
static struct link l;
static uint64_t rnd;
static uint8_t data[SEAL_PLAIN_MAX], raw[4 * SEAL_RECORD_MAX], out[SEAL_RECORD_MAX];

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

static size_t
size_of_step(void)
{
	size_t most = l.k.proto == SEAL_DTLS12 ? 1300 : test_random(&rnd) % 8 == 0 ? SEAL_PLAIN_MAX : 1500;

	return 1 + test_random(&rnd) % most;
}

/* A damaged copy must not open and must not move anything. */
static void
try_damaged(const uint8_t *rec, size_t n)
{
	static uint8_t copy[SEAL_RECORD_MAX + 64], text[SEAL_RECORD_MAX];
	struct seal_session before = l.s;
	struct seal_pos next;
	struct seal_in in;
	size_t len = n;

	memcpy(copy, rec, n);
	if (test_random(&rnd) % 4 == 0) {
		len = test_random(&rnd) % n;
		if (l.k.proto != SEAL_DTLS12 && len > SEAL_HEAD) /* cut, with a header that says so */
			put_u16(copy + 3, (uint16_t)(len - SEAL_HEAD));
	} else {
		copy[test_random(&rnd) % n] ^= (uint8_t)(1 + test_random(&rnd) % 255);
	}
	if (l.k.proto == SEAL_DTLS12)
		ck_assert_int_lt(seal_dtls_open(&l.s.keys, &ctx, copy, len, text, sizeof text, &in), 0);
	else
		ck_assert_int_lt(
		    seal_open(&l.s.keys, &l.s.pos, &ctx, copy, len, text, sizeof text, &in, &next), 0);
	ck_assert_mem_eq(&before, &l.s, sizeof before);
}

static void
commit_rekey(enum seal_way way)
{
	struct seal_pos next = l.s.pos;

	ck_assert_int_eq(seal_rekey(&l.s.keys, &l.s.secrets, &l.s.pos, &next, way), 0);
	ck_assert_int_eq(seal_sync(&l.s.keys, &l.s.secrets, &next), 0);
	l.s.pos = next;
}

static void
our_update(bool request)
{
	struct seal_pos next;
	int n = seal_update(&l.s.keys, &l.s.pos, &ctx, request, out, sizeof out, &next);

	ck_assert_int_gt(n, 0);
	l.s.pos = next;
	commit_rekey(SEAL_TX);
	link_to_peer(&l, out, (size_t)n);
}

/* Everything the peer wrote; its KeyUpdates are obeyed. Returns the bytes of data, compared with `data`. */
static size_t
hear(size_t n)
{
	size_t at = 0, got = 0;
	struct seal_in in;

	while (at < n) {
		size_t len = link_record_len(&l, raw + at, n - at);
		try_damaged(raw + at, len);
		link_recv(&l, raw + at, len, &in, out, sizeof out);
		if (in.kind == SEAL_KEY_UPDATE) {
			bool answer = in.answer;
			commit_rekey(SEAL_RX);
			if (answer)
				our_update(false);
		} else {
			ck_assert_int_eq(in.kind, SEAL_DATA);
			ck_assert_mem_eq(in.data, data + got, in.len);
			got += in.len;
		}
		at += len;
	}
	return got;
}

static void
step(void)
{
	size_t n = size_of_step();

	for (size_t i = 0; i < n; i++)
		data[i] = (uint8_t)test_random(&rnd);
	switch (test_random(&rnd) % 8) {
	case 0:
		if (l.k.proto == SEAL_TLS13)
			SSL_key_update(l.peer,
			    test_random(&rnd) & 1 ? SSL_KEY_UPDATE_REQUESTED
						  : SSL_KEY_UPDATE_NOT_REQUESTED);
		break;
	case 1:
		if (l.k.proto == SEAL_TLS13) {
			our_update(test_random(&rnd) & 1);
			link_send(&l, SEAL_T_DATA, data, n);
			link_peer_reads(&l, data, n);
		}
		break;
	case 2:
		if (l.k.proto == SEAL_DTLS12) /* lost under way */
			link_peer_writes(&l, data, n, raw, sizeof raw);
		else if (l.k.proto == SEAL_TLS13)
			SSL_set_block_padding(l.peer, 1 + test_random(&rnd) % 700);
		break;
	case 3:
		ctx.sodium_aes = !ctx.sodium_aes && crypto_aead_aes256gcm_is_available();
		break;
	case 4:
	case 5:
		ck_assert_uint_eq(hear(link_peer_writes(&l, data, n, raw, sizeof raw)), n);
		break;
	default:
		link_send(&l, SEAL_T_DATA, data, n);
		link_peer_reads(&l, data, n);
	}
}

START_TEST(traffic)
{
	rnd = test_seed("traffic") + (uint64_t)_i;
	link_open(&l, &link_cases[_i], &ctx);
	for (unsigned i = 0; i < STEPS; i++)
		step();
	link_fini(&l);
}
END_TEST

Suite *
suite_random(void)
{
	Suite *s = suite_create("seal random");
	TCase *t = tcase_create("traffic");

	tcase_add_unchecked_fixture(t, link_keys, NULL);
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, traffic, 0, (int)link_case_count);
	suite_add_tcase(s, t);
	return s;
}
