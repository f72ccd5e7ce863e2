/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Quotas, tokens, refusal of forged redo records, what the audit notices.
 */
#include "config.h"

#include <errno.h>
#include <time.h>

#include "check_state.h"

static tp_ms
wall_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (tp_ms)t.tv_sec * 1000 + (tp_ms)t.tv_nsec / 1000000;
}

static int
try_open(unsigned n, uint64_t user, struct cross_limits l, uint64_t token)
{
	struct session *x = fill(n, user);
	int r;

	ck_assert_ptr_nonnull(x);
	r = cross_open(&cross, &shard, x, &l, token);
	if (r != 0)
		session_abandon(&shard, x);
	return r;
}

START_TEST(per_user)
{
	struct cross_limits l = { .per_user = 3 };
	struct session *x = open_session(0, 5);

	for (unsigned i = 1; i < 3; i++)
		ck_assert_int_eq(try_open(i, 5, l, 0), 0);
	ck_assert_int_eq(try_open(3, 5, l, 0), -EDQUOT);
	ck_assert_int_eq(try_open(3, 6, l, 0), 0);
	ck_assert_uint_eq(cross_user_count(&cross, 5), 3);
	ck_assert_int_eq(cross_close(&cross, &shard, x), 0);
	ck_assert_uint_eq(cross_user_count(&cross, 5), 2);
	ck_assert_int_eq(try_open(4, 5, l, 0), 0);
	ck_assert_int_eq(try_open(5, 5, l, 0), -EDQUOT);
	for (unsigned i = 10; i < 20; i++)
		ck_assert_int_eq(try_open(i, 0, l, 0), 0);	/* nobody is not counted */
	ck_assert_uint_eq(cross_user_count(&cross, 0), 0);
	audit_clean();
}
END_TEST

START_TEST(per_prefix)
{
	struct cross_limits l = { .per_prefix = 2 };

	/* clients 0, 1, 2 are one IPv4 address; 3, 7, 11 one IPv6 /64. */
	ck_assert_int_eq(try_open(0, 1, l, 0), 0);
	ck_assert_int_eq(try_open(1, 2, l, 0), 0);
	ck_assert_int_eq(try_open(2, 3, l, 0), -EUSERS);
	ck_assert_int_eq(try_open(3, 3, l, 0), 0);
	ck_assert_int_eq(try_open(7, 4, l, 0), 0);
	ck_assert_int_eq(try_open(11, 5, l, 0), -EUSERS);
	ck_assert_int_eq(try_open(4, 5, l, 0), 0);
	audit_clean();
}
END_TEST

START_TEST(in_total)
{
	struct cross_limits l = { .total = 4 };

	for (unsigned i = 0; i < 4; i++)
		ck_assert_int_eq(try_open(i, i, l, 0), 0);
	ck_assert_int_eq(try_open(5, 5, l, 0), -ENOSPC);
	ck_assert_uint_eq(cross_total(&cross), 4);
	audit_clean();
}
END_TEST

START_TEST(locks_time_out)
{
	struct cross_limits l = { 0 };
	struct session *x = open_session(0, 5), *y;
	lock_word *w = &cross_stripe(&cross, STRIPE_TOTAL)->lock;
	unsigned closed = 0;

	ck_assert_int_eq(lock_take(w, 9, 0), 0);
	y = fill(1, 5);
	ck_assert_int_eq(cross_open(&cross, &shard, y, &l, 0), -ETIMEDOUT);
	session_abandon(&shard, y);
	ck_assert_int_eq(cross_close(&cross, &shard, x), -ETIMEDOUT);
	ck_assert_uint_eq(atomic_load(&x->state), SESSION_ENDING);
	ck_assert_ptr_null(session_find(&shard, &x->client, TRANSPORT_UDP, 0));
	ck_assert_int_eq(cross_close(&cross, &shard, x), -ETIMEDOUT);
	lock_give(w, 9);
	ck_assert_uint_eq(cross_total(&cross), 1);
	audit_clean();					/* ending, and still counted */
	ck_assert_int_eq(cross_close(&cross, &shard, x), 0);
	ck_assert_uint_eq(cross_total(&cross), 0);
	ck_assert_uint_eq(closed, 0);
	audit_clean();
}
END_TEST

/* The first wait in vain is a long one, those after it are short until a lock was free again: longer than ours is what
 * the machine adds, shorter is wrong. */
START_TEST(patience)
{
	struct cross_limits l = { 0 };
	lock_word *w = &cross_stripe(&cross, STRIPE_TOTAL)->lock;
	tp_ms start;

	for (unsigned n = 0; n < 4; n += 2) {
		ck_assert(!cross.hurried);
		ck_assert_int_eq(lock_take(w, 9, 0), 0);
		start = wall_ms();
		ck_assert_int_eq(try_open(n, 5, l, 0), -ETIMEDOUT);
		ck_assert_uint_ge(wall_ms() + 1, start + LOCK_PATIENCE_MS);
		ck_assert(cross.hurried);
		ck_assert_int_eq(try_open(n, 5, l, 0), -ETIMEDOUT);
		ck_assert(cross.hurried);
		lock_give(w, 9);
		ck_assert_int_eq(try_open(n, 5, l, 0), 0);
	}
	audit_clean();
}
END_TEST

START_TEST(many_accounts)
{
	for (unsigned i = 0; i < 20000; i++)
		open_session(i, cross_hash(&cross, &i, sizeof i));
	audit_clean();
	for (uint32_t i = 0; i < 20000; i++)
		if (i % 5 != 0)
			ck_assert_int_eq(cross_close(&cross, &shard, &shard.slots[i]), 0);
	audit_clean();
	cross_recount(&cross, &reader, 1);
	audit_clean();
	for (unsigned i = 30000; i < 40000; i++)
		open_session(i, cross_hash(&cross, &i, sizeof i));
	audit_clean();
}
END_TEST

START_TEST(tokens)
{
	struct cross_limits l = { 0 };
	struct reservation r = {.token = 42, .user = 5, .id = 11, .expiry = NOW / 1000 + TOKEN_LIFETIME},
			   got;

	ck_assert_int_eq(token_look(&cross, 42, 5, NOW, &got), -ENOENT);
	ck_assert_int_eq(token_put(&cross, &r, NOW), 0);
	ck_assert_int_eq(token_put(&cross, &r, NOW), -EEXIST);
	ck_assert_int_eq(token_look(&cross, 42, 6, NOW, &got), -ENOENT);
	ck_assert_int_eq(token_look(&cross, 43, 5, NOW, &got), -ENOENT);
	ck_assert_int_eq(token_look(&cross, 0, 5, NOW, &got), -ENOENT);
	ck_assert_int_eq(token_look(&cross, 42, 5, NOW + 29999, &got), 0);
	ck_assert_uint_eq(got.id, 11);
	ck_assert_int_eq(token_look(&cross, 42, 5, NOW + 30000, &got), -ENOENT);
	ck_assert_int_eq(try_open(0, 6, l, 42), -ENOENT);	/* another's */
	ck_assert_int_eq(try_open(1, 5, (struct cross_limits){ .total = 1 }, 42), 0);
	ck_assert_int_eq(try_open(2, 5, l, 42), -ENOENT);	/* single use */
	r.token = 44;
	ck_assert_int_eq(token_put(&cross, &r, NOW), 0);
	ck_assert_int_eq(try_open(2, 5, (struct cross_limits){ .total = 1 }, 44), -ENOSPC);
	ck_assert_int_eq(token_look(&cross, 44, 5, NOW, &got), 0);	/* a refusal does not consume */
	r.token = 0;
	ck_assert_int_eq(token_put(&cross, &r, NOW), -EINVAL);
	audit_clean();
}
END_TEST

START_TEST(tokens_run_out)
{
	unsigned kept = 0;

	for (uint64_t i = 1; i <= 2 * TOKENS; i++) {
		struct reservation r = { .token = i, .user = 1, .expiry = NOW / 1000 + 30 };
		int e = token_put(&cross, &r, NOW);

		ck_assert(e == 0 || e == -ENOSPC);
		kept += e == 0;
	}
	ck_assert_uint_le(kept, TOKENS);
	ck_assert_uint_gt(kept, TOKENS * 3 / 4);
	for (uint64_t i = 1; i <= TOKENS / 4; i++) {		/* what is over makes room */
		struct reservation r = { .token = i << 32, .user = 1, .expiry = NOW / 1000 + 60 };

		ck_assert_int_eq(token_put(&cross, &r, NOW + 30000), 0);
	}
}
END_TEST

/* ---- recovery ------------------------------------------------------------------------------------------
 */

/* Owner 0 has died holding every lock, with this record. */
static unsigned
recover(struct redo r, bool locks)
{
	unsigned refused = 0;

	*cross_redo(&cross, 0) = r;
	for (unsigned i = 0; locks && i < CROSS_STRIPES; i++)
		ck_assert_int_eq(lock_take(&cross_stripe(&cross, i)->lock, 0, 0), 0);
	ck_assert_int_eq(cross_recover(&cross, 0, &reader, 1, &refused), 0);
	ck_assert_uint_eq(cross_redo(&cross, 0)->op, REDO_NONE);
	audit_clean();
	return refused;
}

START_TEST(recover_believes_little)
{
	struct session *x = open_session(0, 5);
	struct redo honest = {.op = REDO_OPEN,
			.shard = 0,
			.slot = session_slot(&shard, x),
			.gen = x->gen,
			.user = 5,
			.prefix = cross_prefix(&cross, &x->client),
			.total = 0},
		    r;

	ck_assert_uint_eq(recover(honest, true), 0);
	ck_assert_uint_eq(recover(honest, false), 1);		/* it held nothing */
	r = honest, r.op = 7;
	ck_assert_uint_eq(recover(r, true), 1);
	r = honest, r.shard = 3;
	ck_assert_uint_eq(recover(r, true), 1);
	r = honest, r.slot = UINT32_MAX;
	ck_assert_uint_eq(recover(r, true), 1);
	r = honest, r.gen++;
	ck_assert_uint_eq(recover(r, true), 1);
	r = honest, r.user = 6;
	ck_assert_uint_eq(recover(r, true), 1);
	r = honest, r.prefix++;
	ck_assert_uint_eq(recover(r, true), 1);
	r = honest, r.total = 1000;
	ck_assert_uint_eq(recover(r, true), 1);
	r = honest, r.user_count = 1000;
	ck_assert_uint_eq(recover(r, true), 1);
	r = honest, r.token_at = UINT32_MAX;
	ck_assert_uint_eq(recover(r, true), 1);
	r = honest, r.op = REDO_CLOSE;				/* but it is live */
	ck_assert_uint_eq(recover(r, true), 1);
	ck_assert_int_eq(cross_recover(&cross, SHARDS_MAX, &reader, 1, NULL), -EINVAL);
}
END_TEST

START_TEST(recover_frees_garbage_words)
{
	const bool runs[SHARDS_MAX] = { [6] = true };

	cross_stripe(&cross, 3)->lock = 0x7fffffff;
	cross_stripe(&cross, 4)->lock = 7;			/* worker 6 lives */
	cross_stripe(&cross, 5)->lock = 101;			/* there is no worker 100 */
	ck_assert_uint_eq(cross_free_words(&cross, runs), 2);
	ck_assert_uint_eq(cross_stripe(&cross, 3)->lock, 0);
	ck_assert_uint_eq(cross_stripe(&cross, 5)->lock, 0);
	ck_assert_uint_eq(cross_stripe(&cross, 4)->lock, 7);
}
END_TEST

/* ---- audit
 * ----------------------------------------------------------------------------------------------- */

START_TEST(audit_sees)
{
	struct session *x = open_session(0, 5), *y = open_session(1, 6);
	struct session was = *x;

	audit_clean();
	atomic_store(&cross_head(&cross)->total, 3);
	ck_assert_uint_gt(audit_count(), 0);
	atomic_store(&cross_head(&cross)->total, 2);
	x->relay[0].fd = y->relay[0].fd;
	ck_assert_uint_eq(audit_count(), 1);
	*x = was;
	x->relay[0].port = y->relay[0].port;
	ck_assert_uint_eq(audit_count(), 1);
	*x = was;
	x->client = y->client;
	ck_assert_uint_gt(audit_count(), 0);
	*x = was;
	x->user = 6;
	ck_assert_uint_gt(audit_count(), 0);
	*x = was;
	atomic_store(&x->seq, 1);
	ck_assert_uint_gt(audit_count(), 0);
	*x = was;
	shard.head->free = 1;
	ck_assert_uint_gt(audit_count(), 0);
	shard.head->free = 0;
	cross_stripe(&cross, 0)->lock = 1;
	ck_assert_uint_eq(audit_count(), 1);
	cross_stripe(&cross, 0)->lock = 0;
	cross_redo(&cross, 0)->op = 1;
	ck_assert_uint_eq(audit_count(), 1);
	cross_redo(&cross, 0)->op = 0;
	index_remove(&shard, session_tag(&shard, x), 0);
	ck_assert_uint_gt(audit_count(), 0);
	index_insert(&shard, session_tag(&shard, x), 0);
	account_more(&cross, ACCOUNT_USER, 99);
	ck_assert_uint_gt(audit_count(), 0);
	account_less(&cross, ACCOUNT_USER, 99);
	audit_clean();
}
END_TEST

static void
setup_many(void)
{
	setup_shard(40000);
}

Suite *
suite_cross(void)
{
	Suite *s = suite_create("cross");
	TCase *t = tcase_create("small"), *many = tcase_create("many");

	tcase_add_checked_fixture(t, setup_small, teardown_shard);
	tcase_add_test(t, per_user);
	tcase_add_test(t, per_prefix);
	tcase_add_test(t, in_total);
	tcase_add_test(t, locks_time_out);
	tcase_add_test(t, patience);
	tcase_add_test(t, tokens);
	tcase_add_test(t, tokens_run_out);
	tcase_add_test(t, recover_believes_little);
	tcase_add_test(t, recover_frees_garbage_words);
	tcase_add_test(t, audit_sees);
	tcase_add_checked_fixture(many, setup_many, teardown_shard);
	tcase_add_test(many, many_accounts);
	tcase_set_timeout(many, 60);
	suite_add_tcase(s, t);
	suite_add_tcase(s, many);
	return s;
}
