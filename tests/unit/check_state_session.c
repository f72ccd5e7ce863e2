/* SPDX-License-Identifier: BSD-3-Clause */
/* check_state_session.c: slots, index, adoption, reading from another process. */
#include "config.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check_state.h"

static struct session *
find(unsigned n)
{
	struct addr a = n % 4 == 3 ? addr6(n, (uint16_t)(1 + n % 60000))
				   : addr4(0x0a000000 + n / 4, (uint16_t)(1 + n % 60000));

	session_prefetch(&shard, &a, 1, 0);
	return session_find(&shard, &a, TRANSPORT_UDP, 0);
}

START_TEST(open_find_close)
{
	struct session *x = open_session(1, 7), copy;
	struct session_ref ref = { session_slot(&shard, x), x->gen };
	struct session_key *k = session_key(&shard, x);
	struct addr a = x->client;

	ck_assert_ptr_eq(find(1), x);
	ck_assert_ptr_null(session_find(&shard, &a, 2, 0));
	ck_assert_ptr_null(session_find(&shard, &a, TRANSPORT_UDP, 1));
	a.port++;
	ck_assert_ptr_null(session_find(&shard, &a, TRANSPORT_UDP, 0));
	ck_assert_ptr_eq(session_get(&shard, ref), x);
	ck_assert(session_read(&reader, ref.slot, &copy));
	ck_assert_uint_eq(copy.user, 7);
	ck_assert_uint_eq(shard_live(&reader), 1);
	audit_clean();
	ck_assert_int_eq(cross_close(&cross, &shard, x), 0);
	ck_assert_ptr_null(find(1));
	ck_assert_ptr_null(session_get(&shard, ref));
	ck_assert(!session_read(&reader, ref.slot, &copy));
	for (size_t i = 0; i < sizeof *k; i++)
		ck_assert_uint_eq(((uint8_t *)k)[i], 0); /* the key is wiped */
	ck_assert_uint_eq(shard_live(&shard), 0);
	audit_clean();
}
END_TEST

START_TEST(slots_are_reused_with_a_new_generation)
{
	struct session *x = open_session(1, 7), *y;
	struct session_ref ref = { session_slot(&shard, x), x->gen };

	ck_assert_int_eq(cross_close(&cross, &shard, x), 0);
	y = open_session(2, 8);
	ck_assert_ptr_eq(x, y);
	ck_assert_uint_eq(y->gen, ref.gen + 1);
	ck_assert_ptr_null(session_get(&shard, ref));
	ck_assert_uint_eq(y->up_bytes, 0);
	x->gen = UINT32_MAX; /* never 0 */
	session_key(&shard, x)->gen = UINT32_MAX;
	ck_assert_int_eq(cross_close(&cross, &shard, y), 0);
	ck_assert_uint_eq(open_session(3, 8)->gen, 1);
	ck_assert_ptr_null(session_get(&shard, (struct session_ref){ UINT32_MAX, 1 }));
	audit_clean();
}
END_TEST

START_TEST(abandoned_and_full)
{
	struct session *x[64];

	for (unsigned i = 0; i < 64; i++)
		ck_assert_ptr_nonnull(x[i] = fill(i, 1));
	ck_assert_ptr_null(session_new(&shard));
	for (unsigned i = 0; i < 64; i++)
		session_abandon(&shard, x[i]);
	ck_assert_uint_eq(shard_live(&shard), 0);
	for (unsigned i = 0; i < 64; i++)
		open_session(i, 1);
	ck_assert_ptr_null(session_new(&shard));
	audit_clean();
}
END_TEST

#define MANY 100000u
static void
setup_many(void)
{
	setup_shard(MANY);
}

START_TEST(hundred_thousand)
{
	for (unsigned i = 0; i < MANY; i++)
		open_session(i, 1 + i % 1000);
	ck_assert_uint_eq(shard_live(&shard), MANY);
	ck_assert_ptr_null(session_new(&shard));
	for (unsigned i = 0; i < MANY; i += 3)
		ck_assert_int_eq(cross_close(&cross, &shard, find(i)), 0);
	for (unsigned i = 0; i < MANY; i++) {
		struct session *x = find(i);

		ck_assert((x == NULL) == (i % 3 == 0));
		if (x != NULL)
			ck_assert_uint_eq(x->user, 1 + i % 1000);
	}
	audit_clean();
	for (unsigned i = 0; i < MANY; i += 3)
		open_session(i, 1 + i % 1000);
	for (unsigned i = 0; i < MANY; i++)
		ck_assert_ptr_nonnull(find(i));
	audit_clean();
}
END_TEST

/* Adoption of an untouched shard changes nothing. */
START_TEST(adopt_quiet)
{
	struct shard_adopted got;

	for (unsigned i = 0; i < 700; i++)
		open_session(i, 1);
	for (unsigned i = 0; i < 700; i += 7)
		ck_assert_int_eq(cross_close(&cross, &shard, find(i)), 0);
	got = shard_adopt(&shard, NOW, NULL, NULL);
	ck_assert_uint_eq(got.live, 600);
	ck_assert_uint_eq(got.dropped, 0);
	ck_assert_uint_eq(got.half, 0);
	audit_clean();
	for (unsigned i = 0; i < 700; i++)
		ck_assert((find(i) == NULL) == (i % 7 == 0));
	open_session(0, 1);
	audit_clean();
}
END_TEST

static unsigned dropped;
static void
count_dropped(void *arg, const struct session *s, uint32_t slot, const char *why)
{
	(void)s;
	(void)slot;
	ck_assert_ptr_nonnull(why);
	dropped += *(unsigned *)arg;
}

static void
close_it(void *arg, struct session *x)
{
	(*(unsigned *)arg)++;
	ck_assert_int_eq(cross_close(&cross, &shard, x), 0);
}

START_TEST(adopt_damage)
{
	struct session *x[20];
	struct shard_adopted got;
	unsigned one = 1, closed = 0;

	for (unsigned i = 0; i < 20; i++)
		x[i] = open_session(i, 1);
	fill(30, 1); /* left half filled */
	x[1]->client.port = 0;
	x[2]->relay[0].fd = -1;
	x[3]->transport = 3;
	session_key(&shard, x[4])->gen++;
	atomic_store(&x[5]->seq, 3); /* in the middle of a change: kept */
	x[6]->more = 999999;         /* chain to nowhere: kept */
	x[7]->flags = 0xff;
	atomic_store(&x[8]->state, SESSION_ENDING);
	shard.area[1][7] = 0x123400000005u; /* an index entry to the wrong place */
	shard.head->free = 3;
	shard.head->block_free = 77;
	ck_assert_uint_gt(audit_count(), 0);
	dropped = 0;
	got = shard_adopt(&shard, NOW, count_dropped, &one);
	ck_assert_uint_eq(got.half, 1);
	ck_assert_uint_eq(got.dropped, 6);
	ck_assert_uint_eq(dropped, 6);
	ck_assert_uint_eq(got.live, 14);
	for (unsigned i = 9; i < 20; i++)
		ck_assert_ptr_eq(find(i), x[i]);
	ck_assert_uint_eq(session_sweep(&shard, 0, 64, NOW, close_it, &closed), 0);
	ck_assert_uint_eq(closed, 6);
	/* The one whose address was lost leaves its prefix counted until a recount. */
	cross_recount(&cross, &reader, 1);
	audit_clean();
}
END_TEST

START_TEST(attach_refuses)
{
	struct shard s;
	const uint8_t *seed = (const uint8_t *)"0123456789abcdef";

	ck_assert_int_eq(shard_attach(&s, 1, shard.region, shard.keys, 64, true, seed), -EINVAL);
	ck_assert_int_eq(shard_attach(&s, 0, shard.region, shard.keys, 63, true, seed), -EINVAL);
	ck_assert_int_eq(shard_attach(&s, 0, shard.region, NULL, 64, true, seed), -EINVAL);
	ck_assert_int_eq(shard_attach(&s, 0, shard.region, shard.keys, 0, true, seed), -EINVAL);
	shard.head->layout++;
	ck_assert_int_eq(shard_attach(&s, 0, shard.region, shard.keys, 64, true, seed), -EPROTO);
	shard.head->layout--;
	shard.head->bump = 65;
	ck_assert_int_eq(shard_attach(&s, 0, shard.region, shard.keys, 64, true, seed), -EINVAL);
	shard.head->bump = 0;
	shard.head->index_log2 = 40;
	ck_assert_int_eq(shard_attach(&s, 0, shard.region, shard.keys, 64, true, seed), -EINVAL);
	ck_assert_uint_eq(index_sum(&shard).count, 0);
	shard.head->index_log2 = INDEX_LOG2_MIN;
	ck_assert_int_eq(shard_attach(&s, 0, shard.region, shard.keys, 64, true, seed), 0);
}
END_TEST

START_TEST(expiry_to_the_second)
{
	struct session *x = open_session(1, 1);
	unsigned closed = 0;

	x->expiry = TP_SEC_UP(NOW + 1); /* rounded up: 1001 s */
	session_sweep(&shard, 0, 64, 1000999, close_it, &closed);
	ck_assert_uint_eq(closed, 0);
	session_sweep(&shard, 0, 64, 1001000, close_it, &closed);
	ck_assert_uint_eq(closed, 1);
	audit_clean();
}
END_TEST

START_TEST(sweep_goes_round)
{
	uint32_t cursor = 0;
	unsigned closed = 0;

	ck_assert_uint_eq(session_sweep(&shard, 5, 10, NOW, close_it, &closed), 0);
	for (unsigned i = 0; i < 50; i++)
		open_session(i, 1)->expiry = i % 2 ? 1 : NOW / 1000 + 1;
	for (unsigned i = 0; i < 5; i++)
		cursor = session_sweep(&shard, cursor, 10, NOW, close_it, &closed);
	ck_assert_uint_eq(cursor, 0);
	ck_assert_uint_eq(closed, 25);
	ck_assert_uint_eq(shard_live(&shard), 25);
	audit_clean();
}
END_TEST

/* A reader in another process never sees half of a change. */
START_TEST(seqlock)
{
	struct session *x = open_session(1, 1);
	uint32_t slot = session_slot(&shard, x);
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		for (uint64_t i = 1;; i++) {
			session_change(x);
			x->user = i;
			x->name = i;
			x->up_bytes = i;
			memset(x->user_text, (int)(i & 0x7f), sizeof x->user_text);
			session_changed(x);
		}
	}
	for (unsigned got = 0, i = 0; got < 20000 && i < 2000000; i++) {
		struct session copy;

		if (!session_read(&reader, slot, &copy))
			continue;
		got++;
		ck_assert_uint_eq(copy.user == 1 ? copy.up_bytes : copy.user, copy.up_bytes);
		if (copy.name != 0) {
			ck_assert_uint_eq(copy.name, copy.user);
			ck_assert_uint_eq((uint8_t)copy.user_text[0], copy.user & 0x7f);
			ck_assert_uint_eq((uint8_t)copy.user_text[19], copy.user & 0x7f);
		}
		if (got == 19999)
			ck_assert_uint_gt(copy.user, 1);
	}
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	ck_assert(WIFSIGNALED(status));
}
END_TEST

START_TEST(change_left_open_is_not_read)
{
	struct session *x = open_session(1, 1), copy;

	session_change(x);
	ck_assert(!session_read(&reader, 0, &copy));
	session_changed(x);
	ck_assert(session_read(&reader, 0, &copy));
	ck_assert(!session_read(&reader, 1, &copy));
	ck_assert(!session_read(&reader, SLOT_NONE, &copy));
}
END_TEST

Suite *
suite_session(void)
{
	Suite *s = suite_create("session");
	TCase *t = tcase_create("small"), *many = tcase_create("many");

	tcase_add_checked_fixture(t, setup_small, teardown_shard);
	tcase_add_test(t, open_find_close);
	tcase_add_test(t, slots_are_reused_with_a_new_generation);
	tcase_add_test(t, abandoned_and_full);
	tcase_add_test(t, adopt_damage);
	tcase_add_test(t, attach_refuses);
	tcase_add_test(t, expiry_to_the_second);
	tcase_add_test(t, sweep_goes_round);
	tcase_add_test(t, seqlock);
	tcase_add_test(t, change_left_open_is_not_read);
	tcase_add_checked_fixture(many, setup_many, teardown_shard);
	tcase_add_test(many, hundred_thousand);
	tcase_add_test(many, adopt_quiet);
	tcase_set_timeout(many, 120);
	suite_add_tcase(s, t);
	suite_add_tcase(s, many);
	return s;
}
