/* SPDX-License-Identifier: BSD-3-Clause */
/* check_state_cross.c: quotas, tokens, refusal of forged redo records, what the audit notices. */
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
	r = cross_open(&cross, &shard, x, &l, &(struct cross_with){ .redeem = token });
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
		ck_assert_int_eq(try_open(i, 0, l, 0), 0); /* no user is not counted */
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
	ck_assert_int_eq(cross_open(&cross, &shard, y, &l, NULL), -ETIMEDOUT);
	session_abandon(&shard, y);
	ck_assert_int_eq(cross_close(&cross, &shard, x), -ETIMEDOUT);
	ck_assert_uint_eq(atomic_load(&x->state), SESSION_ENDING);
	ck_assert_ptr_null(session_find(&shard, &x->client, TRANSPORT_UDP, 0));
	ck_assert_int_eq(cross_close(&cross, &shard, x), -ETIMEDOUT);
	lock_give(w, 9);
	ck_assert_uint_eq(cross_total(&cross), 1);
	audit_clean(); /* ending, and still counted */
	ck_assert_int_eq(cross_close(&cross, &shard, x), 0);
	ck_assert_uint_eq(cross_total(&cross), 0);
	ck_assert_uint_eq(closed, 0);
	audit_clean();
}
END_TEST

/* The first wait without success is a long one, those after it are short until a lock was free again:
 * longer than ours is what the machine adds, shorter is wrong. */
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

/* A session with a reservation. */
static int
try_reserve(unsigned n, uint64_t user, struct cross_limits l, uint64_t token)
{
	struct reservation want = {
		.token = token, .user = user, .id = 11, .expiry = NOW / 1000 + TOKEN_LIFETIME
	};
	struct session *x = fill(n, user);
	int r = cross_open(&cross, &shard, x, &l, &(struct cross_with){ .reserve = &want });

	if (r != 0)
		session_abandon(&shard, x);
	return r;
}

START_TEST(tokens)
{
	struct cross_limits l = { 0 };
	struct reservation got;

	ck_assert_int_eq(token_look(&cross, 42, 5, NOW, &got), -ENOENT);
	ck_assert_int_eq(try_reserve(0, 5, l, 42), 0);
	ck_assert_int_eq(try_reserve(9, 5, l, 42), -EEXIST);
	ck_assert_int_eq(token_look(&cross, 42, 6, NOW, &got), -ENOENT);
	ck_assert_int_eq(token_look(&cross, 43, 5, NOW, &got), -ENOENT);
	ck_assert_int_eq(token_look(&cross, 0, 5, NOW, &got), -ENOENT);
	ck_assert_int_eq(token_look(&cross, 42, 5, NOW + 29999, &got), 0);
	ck_assert_uint_eq(got.id, 11);
	ck_assert_int_eq(token_look(&cross, 42, 5, NOW + 30000, &got), -ENOENT);
	ck_assert_int_eq(try_open(1, 6, l, 42), -ENOENT); /* another's */
	ck_assert_int_eq(try_open(1, 5, (struct cross_limits){ .total = 2 }, 42), 0);
	ck_assert_int_eq(try_open(2, 5, l, 42), -ENOENT); /* single use */
	audit_clean();
}
END_TEST

/* It counts like a session, for user, prefix and in total; redeeming moves the count, its end gives it
 * back. */
START_TEST(reservations_count)
{
	struct cross_limits two = { .per_user = 2 };
	struct reservation got;

	ck_assert_int_eq(try_reserve(0, 5, (struct cross_limits){ .per_user = 1 }, 42), -EDQUOT);
	ck_assert_int_eq(try_reserve(0, 5, (struct cross_limits){ .per_prefix = 1 }, 42), -EUSERS);
	ck_assert_int_eq(try_reserve(0, 5, (struct cross_limits){ .total = 1 }, 42), -ENOSPC);
	ck_assert_int_eq(token_look(&cross, 42, 5, NOW, &got), -ENOENT);
	audit_clean();
	ck_assert_int_eq(try_reserve(0, 5, two, 42), 0);
	ck_assert_uint_eq(cross_user_count(&cross, 5), 2);
	ck_assert_uint_eq(cross_total(&cross), 2);
	audit_clean();
	ck_assert_int_eq(cross_fits(&cross, 5, 0, &two, 1), -EDQUOT);
	ck_assert_int_eq(cross_fits(&cross, 5, 0, &two, 0), 0);
	ck_assert_int_eq(try_open(1, 5, two, 0), -EDQUOT);
	ck_assert_int_eq(try_open(1, 5, two, 42), 0); /* from another address */
	ck_assert_uint_eq(cross_user_count(&cross, 5), 2);
	audit_clean();
	ck_assert_int_eq(try_reserve(2, 6, two, 43), 0);
	ck_assert_int_eq(try_open(3, 7, (struct cross_limits){ .total = 4 }, 0), -ENOSPC);
	token_sweep(&cross, 0, TOKENS, NOW + 29999);
	ck_assert_uint_eq(cross_user_count(&cross, 6), 2);
	token_sweep(&cross, 0, TOKENS, NOW + 30000);
	ck_assert_uint_eq(cross_user_count(&cross, 6), 1);
	ck_assert_int_eq(token_look(&cross, 43, 6, NOW, &got), -ENOENT);
	audit_clean();
	/* A user without a name of its own has no limit per user, but its reservation has an owner. */
	struct session *x = fill(4, 0);
	x->name = 99;
	struct reservation want = { .token = 44, .user = 99, .expiry = NOW / 1000 + 30 };
	ck_assert_int_eq(cross_open(&cross, &shard, x, &two, &(struct cross_with){ .reserve = &want }), 0);
	audit_clean();
	token_sweep(&cross, 0, TOKENS, NOW + 30000);
	audit_clean();
}
END_TEST

/* The new session has the count of the old one; no limit can part them, and a refusal leaves the old
 * one. */
START_TEST(replacing)
{
	struct session *old = open_session(0, 5), *x = fill(0, 5);
	struct cross_limits one = { .per_user = 1, .per_prefix = 1, .total = 1 };
	struct reservation want = { .token = 42, .user = 5, .expiry = NOW / 1000 + 30 };
	struct cross_with with = { .replace = old, .reserve = &want };
	uint32_t slot = session_slot(&shard, old);

	ck_assert_int_eq(cross_open(&cross, &shard, x, &one, &with), -EDQUOT);
	ck_assert_ptr_eq(session_find(&shard, &old->client, old->transport, old->listener), old);
	with.reserve = NULL;
	ck_assert_int_eq(cross_open(&cross, &shard, x, &one, &with), 0);
	ck_assert_ptr_eq(session_find(&shard, &x->client, x->transport, x->listener), x);
	ck_assert_uint_eq(atomic_load(&shard.slots[slot].state), SESSION_FREE);
	ck_assert_uint_eq(shard_live(&shard), 1);
	ck_assert_uint_eq(cross_user_count(&cross, 5), 1);
	audit_clean();
}
END_TEST

START_TEST(tokens_run_out)
{
	unsigned kept = 0;
	struct cross_limits l = { 0 };

	for (uint64_t i = 1; i <= 64; i++) {
		struct session *x = fill((unsigned)i, 1);
		struct reservation r = { .token = i, .user = 1, .expiry = NOW / 1000 + 30 };

		ck_assert_int_eq(
		    cross_open(&cross, &shard, x, &l, &(struct cross_with){ .reserve = &r }), 0);
		kept++;
		ck_assert_int_eq(cross_close(&cross, &shard, x), 0);
	}
	ck_assert_uint_eq(cross_user_count(&cross, 1), kept);
	audit_clean();
	token_sweep(&cross, 0, TOKENS, NOW + 30000);
	ck_assert_uint_eq(cross_user_count(&cross, 1), 0);
	audit_clean();
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
	struct redo honest = { .op = REDO_OPEN,
		.shard = 0,
		.slot = session_slot(&shard, x),
		.gen = x->gen,
		.user = { .key = 5, .change = 1 },
		.prefix = { .key = cross_prefix(&cross, &x->client), .change = 1 },
		.total_change = 1 },
		    r;

	ck_assert_uint_eq(recover(honest, true), 0);
	ck_assert_uint_eq(recover(honest, false), 1); /* it held nothing */
	r = honest, r.op = 7;
	ck_assert_uint_eq(recover(r, true), 1);
	r = honest, r.shard = 3;
	ck_assert_uint_eq(recover(r, true), 1);
	r = honest, r.slot = UINT32_MAX;
	ck_assert_uint_eq(recover(r, true), 1);
	r = honest, r.gen++;
	ck_assert_uint_eq(recover(r, true), 1);
	r = honest, r.user.key = 6;
	ck_assert_uint_eq(recover(r, true), 1);
	r = honest, r.prefix.key++;
	ck_assert_uint_eq(recover(r, true), 1);
	r = honest, r.total = 1000;
	ck_assert_uint_eq(recover(r, true), 1);
	r = honest, r.user.before = 1000;
	ck_assert_uint_eq(recover(r, true), 1);
	r = honest, r.user.change = 3;
	ck_assert_uint_eq(recover(r, true), 1);
	r = honest, r.token_at = UINT32_MAX;
	ck_assert_uint_eq(recover(r, true), 1);
	r = honest, r.op = REDO_CLOSE; /* but it is live */
	ck_assert_uint_eq(recover(r, true), 1);
	ck_assert_int_eq(cross_recover(&cross, SHARDS_MAX, &reader, 1, NULL), -EINVAL);
}
END_TEST

START_TEST(recover_frees_garbage_words)
{
	const bool runs[SHARDS_MAX] = { [6] = true };

	cross_stripe(&cross, 3)->lock = 0x7fffffff;
	cross_stripe(&cross, 4)->lock = 7;   /* worker 6 lives */
	cross_stripe(&cross, 5)->lock = 101; /* there is no worker 100 */
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
	tcase_add_test(t, reservations_count);
	tcase_add_test(t, replacing);
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
