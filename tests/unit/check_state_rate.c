/* SPDX-License-Identifier: BSD-3-Clause */
/* check_state_rate.c: rates and bandwidth in virtual time. */
#include "config.h"

#include "check_state.h"

static unsigned
take_rate(uint64_t prefix, uint32_t rate, uint32_t burst, tp_ms from, tp_ms to, unsigned per_ms)
{
	unsigned n = 0;

	for (tp_ms t = from; t < to; t++)
		for (unsigned i = 0; i < per_ms; i++)
			n += rate_take(&cross, RATE_CHALLENGE, prefix, rate, burst, t);
	return n;
}

START_TEST(rates)
{
	ck_assert_uint_eq(take_rate(1, 10, 20, NOW, NOW + 1, 100), 20); /* the burst */
	ck_assert_uint_eq(take_rate(1, 10, 20, NOW + 1, NOW + 99, 5), 0);
	ck_assert_uint_eq(take_rate(1, 10, 20, NOW + 100, NOW + 101, 5), 1);
	ck_assert_uint_eq(take_rate(2, 10, 20, NOW, NOW + 1, 100), 20); /* another prefix */
	ck_assert(rate_take(&cross, RATE_BINDING, 1, 10, 20, NOW + 1)); /* another kind */
	ck_assert_uint_eq(take_rate(3, 0, 0, NOW, NOW + 1, 100), 100);  /* none */
	for (unsigned i = 0; i < 4; i++) {
		static const uint32_t rate[] = { 1, 7, 100, 5000 };
		unsigned got = take_rate(100 + i, rate[i], rate[i], NOW, NOW + 10000, 8);

		/* A burst and ten seconds' worth, within 1 %. */
		ck_assert_uint_ge(got, rate[i] * 11 - rate[i] / 9 - 1);
		ck_assert_uint_le(got, rate[i] * 11 + rate[i] / 9 + 1);
	}
}
END_TEST

START_TEST(rates_of_workers_with_different_clocks)
{
	/* The time of a batch that began earlier must not look like a clock that wrapped, and fill the
	 * bucket. */
	ck_assert_uint_eq(take_rate(4, 10, 20, NOW, NOW + 1, 100), 20);
	for (tp_ms back = 1; back < 500; back++)
		ck_assert(!rate_take(&cross, RATE_CHALLENGE, 4, 10, 20, NOW - back));
	ck_assert(!rate_take(&cross, RATE_CHALLENGE, 4, 10, 20, NOW));
}
END_TEST

START_TEST(rates_clock_wraps)
{
	/* 32 bits of us: 4295 s.  A client that comes back then is not held for hours. */
	for (tp_ms t = NOW; t < NOW + 50u * 4294967u; t += 1000003)
		ck_assert(rate_take(&cross, RATE_BINDING, 9, 1, 1, t));
}
END_TEST

START_TEST(rates_flood)
{
	/* More prefixes than there are places: bounded, and each gets its burst at least. */
	for (uint64_t p = 1; p < 200000; p++)
		ck_assert(rate_take(&cross, RATE_BINDING, p << 20, 10, 10, NOW));
}
END_TEST

static uint64_t
carry(struct session *x, const struct bandwidth *b, bool up, uint32_t size, tp_ms from, tp_ms to,
    unsigned per_ms)
{
	uint64_t bytes = 0;

	for (tp_ms t = from; t < to; t++)
		for (unsigned i = 0; i < per_ms; i++)
			if (bandwidth_take(&cross, &shard, x, b, up, size, t))
				bytes += size;
	return bytes;
}

static void
near(uint64_t got, uint64_t want, uint64_t slack)
{
	ck_assert_msg(got + slack >= want && got <= want + slack, "%llu, not about %llu",
	    (unsigned long long)got, (unsigned long long)want);
}

START_TEST(per_allocation)
{
	struct bandwidth b = { .per_allocation = 100000 };
	struct session *x = open_session(0, 1), *y = open_session(1, 1);

	ck_assert(bandwidth_take(&cross, &shard, x, &(struct bandwidth){ 0 }, true, 1000, NOW));
	ck_assert_uint_eq(x->bucket, 0);
	near(carry(x, &b, true, 1000, NOW, NOW + 10000, 2), 100000 * 11, 2000);
	near(carry(x, &b, false, 1000, NOW, NOW + 10000, 2), 100000 * 11, 2000); /* each direction */
	near(carry(y, &b, true, 100, NOW, NOW + 10000, 10), 100000 * 11, 2000);  /* each allocation */
	ck_assert_uint_ne(x->bucket, 0);
	audit_clean();
	ck_assert_int_eq(cross_close(&cross, &shard, x), 0);
	audit_clean();
}
END_TEST

START_TEST(slow_rate_passes_large)
{
	struct bandwidth b = { .per_allocation = 1000 };
	struct session *x = open_session(0, 1);

	ck_assert(bandwidth_take(&cross, &shard, x, &b, true, 65535, NOW));
	ck_assert(!bandwidth_take(&cross, &shard, x, &b, true, 65535, NOW));
	ck_assert(bandwidth_take(&cross, &shard, x, &b, true, 65535, NOW + 66000));
}
END_TEST

START_TEST(per_user_and_total)
{
	struct session *x[6];
	uint64_t bytes[6] = { 0 };
	struct bandwidth b = { .per_user = 200000, .total = 500000 };

	for (unsigned i = 0; i < 6; i++)
		x[i] = open_session(i, 1 + i / 2); /* three users of two */
	for (tp_ms t = NOW; t < NOW + 10000; t++)  /* one user alone: the share of two */
		for (unsigned i = 0; i < 2; i++)
			if (bandwidth_take(&cross, &shard, x[i], &b, true, 500, t))
				bytes[i] += 500;
	near(bytes[0] + bytes[1], 200000 * 11, 40000);
	memset(bytes, 0, sizeof bytes);
	for (tp_ms t = NOW + 20000; t < NOW + 30000; t++) /* all: the server's */
		for (unsigned i = 0; i < 6; i++)
			if (bandwidth_take(&cross, &shard, x[i], &b, true, 500, t))
				bytes[i] += 500;
	near(bytes[0] + bytes[1] + bytes[2] + bytes[3] + bytes[4] + bytes[5], 500000 * 11, 100000);
	/* Scribbled words do no more than cost a burst. */
	atomic_store(&cross_head(&cross)->tat[0], UINT64_MAX);
	near(carry(x[0], &b, true, 500, NOW + 40000, NOW + 50000, 1), 200000 * 10, 300000);
	audit_clean();
}
END_TEST

/* They end by themselves or are taken back, and a flood of other prefixes does not displace them. */
START_TEST(marks)
{
	const uint64_t name = UINT64_C(0x123456789abcdef0);
	unsigned left = 0;

	ck_assert(!rate_is_marked(&cross, name, NOW));
	rate_mark(&cross, name, 10000, NOW);
	ck_assert(rate_is_marked(&cross, name, NOW));
	ck_assert(rate_is_marked(&cross, name, NOW + 9999));
	ck_assert(!rate_is_marked(&cross, name, NOW + 10001));
	ck_assert(!rate_is_marked(&cross, name ^ (UINT64_C(1) << 40), NOW));
	rate_unmark(&cross, name);
	ck_assert(!rate_is_marked(&cross, name, NOW));
	for (unsigned i = 0; i < 1000; i++)
		rate_mark(&cross, cross_hash(&cross, &i, sizeof i), 10000, NOW);
	for (uint64_t prefix = 1; prefix <= 500000; prefix++)
		(void)rate_take(&cross, RATE_BINDING, prefix, 100, 100, NOW + 1);
	for (unsigned i = 0; i < 1000; i++)
		left += rate_is_marked(&cross, cross_hash(&cross, &i, sizeof i), NOW + 5000);
	ck_assert_uint_eq(left, 1000);
}
END_TEST

Suite *
suite_rate(void)
{
	Suite *s = suite_create("rate");
	TCase *t = tcase_create("rate");

	tcase_add_checked_fixture(t, setup_small, teardown_shard);
	tcase_add_test(t, rates);
	tcase_add_test(t, rates_of_workers_with_different_clocks);
	tcase_add_test(t, rates_clock_wraps);
	tcase_add_test(t, rates_flood);
	tcase_add_test(t, marks);
	tcase_add_test(t, per_allocation);
	tcase_add_test(t, slow_rate_passes_large);
	tcase_add_test(t, per_user_and_total);
	tcase_set_timeout(t, 60);
	suite_add_tcase(s, t);
	return s;
}
