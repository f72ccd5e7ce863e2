/* SPDX-License-Identifier: BSD-3-Clause */
/* check_load.c: the accounts of turnpike-load: payload, sequence numbers, histogram. */
#include "config.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "load_int.h"

#define SESSION 0x12345678u

static void
make(uint8_t *p, size_t n, const struct stamp *s)
{
	payload_write(p, n, SESSION, s, payload_fill(p, n));
}

START_TEST(payload_back)
{
	struct stamp s = { .flow = 77, .dir = DOWN, .seq = 1ull << 40, .time = 123456789 }, got;
	uint8_t p[PAYLOAD_MAX];

	for (size_t n = PAYLOAD_MIN; n <= PAYLOAD_MAX; n++) {
		make(p, n, &s);
		ck_assert_int_eq(payload_read(p, n, n, SESSION, &got), PAYLOAD_OK);
		ck_assert(got.flow == s.flow && got.dir == s.dir && got.seq == s.seq && got.time == s.time);
	}
}
END_TEST

START_TEST(payload_every_bit)
{
	struct stamp s = { .flow = 3, .dir = UP, .seq = 9, .time = 99 }, got;
	uint8_t p[203];

	make(p, sizeof p, &s);
	for (size_t bit = 0; bit < sizeof p * 8; bit++) {
		p[bit / 8] ^= (uint8_t)(1u << bit % 8);
		ck_assert_msg(payload_read(p, sizeof p, sizeof p, SESSION, &got) == PAYLOAD_DAMAGED ||
			(bit >= 32 && bit < 64),
		    "bit %zu", bit);
		p[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	for (size_t n = 0; n < sizeof p; n++)
		ck_assert_int_eq(payload_read(p, n, sizeof p, SESSION, &got), PAYLOAD_DAMAGED);
}
END_TEST

START_TEST(payload_foreign)
{
	struct stamp s = { .flow = 3, .dir = UP, .seq = 9, .time = 99 }, got;
	uint8_t p[64];

	make(p, sizeof p, &s);
	ck_assert_int_eq(payload_read(p, sizeof p, sizeof p, SESSION + 1, &got), PAYLOAD_FOREIGN);
	ck_assert_int_eq(payload_read(p, sizeof p, sizeof p + 1, SESSION, &got), PAYLOAD_DAMAGED);
}
END_TEST

START_TEST(account_order)
{
	struct side s = { .last = 1000, .sent = 6 };

	ck_assert_int_eq(side_seen(&s, 0, 1010), SEEN_NEW);
	ck_assert_int_eq(side_seen(&s, 3, 1500), SEEN_NEW);
	ck_assert_int_eq(side_seen(&s, 1, 1510), SEEN_LATE);
	ck_assert_int_eq(side_seen(&s, 1, 1520), SEEN_AGAIN);
	ck_assert_int_eq(side_seen(&s, 3, 1530), SEEN_AGAIN);
	ck_assert_int_eq(side_seen(&s, 5, 1540), SEEN_NEW);
	ck_assert(s.got == 4 && s.reordered == 1 && s.duplicate == 2 && side_lost(&s) == 2);
	ck_assert(s.gap == 490 && s.gap_at == 1500);
	side_fini(&s);
}
END_TEST

/* Against a plain list, with everything that a network does, far apart. */
START_TEST(account_random)
{
	static uint8_t seen[200000];
	struct side s = { 0 };
	uint64_t top = 0, again = 0, late = 0, got = 0;

	srandom((unsigned)_i);
	memset(seen, 0, sizeof seen);
	for (unsigned i = 0; i < 300000; i++) {
		uint64_t seq = (uint64_t)random() % sizeof seen;

		if (seen[seq])
			again++;
		else if (got++, seq < top)
			late++;
		seen[seq] = 1;
		top = seq >= top ? seq + 1 : top;
		(void)side_seen(&s, seq, i);
	}
	ck_assert(s.got == got && s.duplicate == again && s.reordered == late && s.top == top);
	side_fini(&s);
}
END_TEST

START_TEST(hist_edges)
{
	struct hist *h = calloc(1, sizeof *h), *sum = calloc(1, sizeof *sum);

	ck_assert_uint_eq(hist_at(h, 0.5), 0);
	for (uint64_t v = 1; v <= 100000; v++)
		hist_add(h, v * 1000);
	for (unsigned i = 1; i < 1000; i++) {
		double share = i / 1000.0, want = share * 1e8, got = (double)hist_at(h, share);

		ck_assert_msg(
		    got >= want * 0.999 && got <= want * 1.035, "%g: %g for %g", share, got, want);
	}
	ck_assert_uint_eq(hist_at(h, 1), 100000000);
	hist_add(h, UINT64_MAX);
	ck_assert_uint_eq(h->max, UINT64_MAX);
	hist_merge(sum, h);
	hist_merge(sum, h);
	ck_assert_uint_eq(sum->count, 200002);
	ck_assert_uint_eq(hist_at(sum, 0.5), hist_at(h, 0.5));
	free(h);
	free(sum);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("load");
	TCase *t = tcase_create("accounts");
	SRunner *r;
	int failed;

	tcase_add_test(t, payload_back);
	tcase_add_test(t, payload_every_bit);
	tcase_add_test(t, payload_foreign);
	tcase_add_test(t, account_order);
	tcase_add_loop_test(t, account_random, 1, 4);
	tcase_add_test(t, hist_edges);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
