/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_super_children.c: the table of children with a spawn that starts nothing: states, generations,
 * back-off, deadlines.
 */
#include "config.h"

#include <errno.h>
#include <stdlib.h>

#include "../../src/super/super_int.h"
#include "check_super.h"

static struct ledger *ledger;
static struct children *table;
static int next_pid, spawns, kills, fail_spawn, fail_kill;

static int
fake_spawn(void *arg, unsigned i)
{
	(void)arg;
	(void)i;
	spawns++;
	return fail_spawn ? -EAGAIN : next_pid++;
}

static int
fake_kill(void *arg, unsigned i)
{
	(void)arg;
	(void)i;
	kills++;
	return fail_kill ? -EPERM : 0;
}

static const struct children_ops ops = { .spawn = fake_spawn, .kill = fake_kill };

static void
setup(void)
{
	ledger = calloc(1, sizeof *ledger);
	table = calloc(1, sizeof *table);
	ck_assert(ledger != NULL && table != NULL);
	children_init(table, ledger, &ops, NULL);
	next_pid = 1000;
	spawns = kills = fail_spawn = fail_kill = 0;
}

static void
teardown(void)
{
	free(ledger);
	free(table);
}

START_TEST(test_split)
{
	for (unsigned shards = 1; shards <= 128; shards++)
		for (unsigned workers = 1; workers <= shards; workers++) {
			uint32_t at = 0, first, count;
			for (unsigned w = 0; w < workers; w++) {
				shards_split(shards, workers, w, &first, &count);
				ck_assert_uint_eq(first, at);
				ck_assert_uint_ge(count, shards / workers);
				ck_assert_uint_le(count, shards / workers + 1);
				at += count;
			}
			ck_assert_uint_eq(at, shards);
		}
}
END_TEST

START_TEST(test_life)
{
	int i = children_row(table, ROLE_WORKER, 3);

	ck_assert_int_eq(children_row(table, ROLE_WORKER, 3), i);
	ledger->child[i].first_shard = 2;
	ledger->child[i].shard_count = 2;
	children_start(table, (unsigned)i, 100);
	ck_assert_uint_eq(ledger->child[i].state, CHILD_STARTING);
	ck_assert_uint_eq(ledger->child[i].generation, 1);
	ck_assert_int_eq(children_by_pid(table, 1000), i);
	ck_assert_int_eq(children_owner(table, 3), i);
	ck_assert_int_eq(children_owner(table, 4), -1);
	ck_assert(!children_all_ready(table));
	children_ready(table, (unsigned)i, 110);
	ck_assert(children_all_ready(table));
	ck_assert_uint_eq(ledger->ready, 1);
	ck_assert_uint_eq(children_due(table), 0);

	/* A good end that was asked for is no death; the successor has the row and the next generation. */
	children_stopping(table, (unsigned)i, 200, 1000, true);
	ck_assert_uint_eq(children_due(table), 1200);
	ck_assert(!children_ended(table, (unsigned)i, true, 300));
	ck_assert_uint_eq(ledger->child[i].state, CHILD_STARTING);
	ck_assert_uint_eq(ledger->child[i].generation, 2);
	ck_assert_uint_eq(ledger->child[i].deaths, 0);
	ck_assert_int_eq(children_by_pid(table, 1000), -1);
}
END_TEST

/* Delays before the restarts of a process that dies as soon as it is started. */
static void
check_backoff(unsigned role, const tp_ms *want, unsigned n)
{
	unsigned i = (unsigned)children_row(table, role, 0);
	tp_ms now = 1000;

	children_start(table, i, now);
	for (unsigned k = 0; k < n; k++) {
		ck_assert(children_ended(table, i, true, now));
		ck_assert_uint_eq(ledger->child[i].state, CHILD_BACKOFF);
		ck_assert_uint_eq(children_due(table) - now, want[k]);
		if (want[k] > 0) {
			children_tick(table, now + want[k] - 1);
			ck_assert_uint_eq(ledger->child[i].state, CHILD_BACKOFF);
		}
		now += want[k];
		children_tick(table, now);
		ck_assert_uint_eq(ledger->child[i].state, CHILD_STARTING);
		ck_assert_uint_eq(ledger->child[i].generation, k + 2);
	}
	/* One that lived long starts at once again. */
	children_ready(table, i, now);
	ck_assert(children_ended(table, i, false, now + CHILD_STABLE_MS));
	ck_assert_uint_eq(children_due(table), now + CHILD_STABLE_MS);
}

START_TEST(test_backoff_authd)
{
	static const tp_ms want[] = { 0, 100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000 };

	check_backoff(ROLE_AUTHD, want, TP_COUNT(want));
}
END_TEST

START_TEST(test_backoff_worker)
{
	static const tp_ms want[] = { 0, 100, 200, 400, 800, 1000, 1000 };

	check_backoff(ROLE_WORKER, want, TP_COUNT(want));
}
END_TEST

/* However often: a child that was READY for a moment is replaced at once. */
START_TEST(test_kills)
{
	unsigned i = (unsigned)children_row(table, ROLE_WORKER, 0);
	tp_ms now = 1000;

	children_start(table, i, now);
	for (unsigned k = 0; k < 100; k++) {
		children_ready(table, i, now + 10);
		now += 10 + CHILD_STABLE_MS;
		ck_assert(children_ended(table, i, false, now));
		ck_assert_uint_eq(children_due(table), now);
		children_tick(table, now);
		ck_assert_uint_eq(ledger->child[i].state, CHILD_STARTING);
	}
	/* Killed while it starts: not its fault, so the pause does not grow. */
	for (unsigned k = 0; k < 100; k++) {
		now += 5;
		table->c[i].shot = true;
		ck_assert(children_ended(table, i, false, now));
		now += CHILD_SHOT_MS;
		ck_assert_uint_eq(children_due(table), now);
		children_tick(table, now);
		ck_assert_uint_eq(ledger->child[i].state, CHILD_STARTING);
	}
}
END_TEST

START_TEST(test_deadlines)
{
	unsigned i = (unsigned)children_row(table, ROLE_ADMIN, 0);

	children_start(table, i, 1);
	children_tick(table, CHILD_READY_MS);
	ck_assert_int_eq(kills, 0);
	children_tick(table, CHILD_READY_MS + 1);
	ck_assert_int_eq(kills, 1);
	children_tick(table, CHILD_READY_MS + 50); /* once is enough */
	ck_assert_int_eq(kills, 1);
	ck_assert(children_ended(table, i, false, CHILD_READY_MS + 60));
	children_tick(table, CHILD_READY_MS + 60);
	children_stopping(table, i, 20000, 100, false);
	children_tick(table, 20100);
	ck_assert_int_eq(kills, 2);
	(void)children_ended(table, i, false, 20110);
	ck_assert_uint_eq(ledger->child[i].state, CHILD_NONE);
	ck_assert_uint_eq(children_due(table), 0);
}
END_TEST

START_TEST(test_spawn_fails)
{
	unsigned i = (unsigned)children_row(table, ROLE_AUTHD, 0);

	fail_spawn = 1;
	children_start(table, i, 500);
	ck_assert_uint_eq(ledger->child[i].state, CHILD_BACKOFF);
	children_stopping(table, i, 501, 100, false); /* nothing runs: nothing is awaited */
	ck_assert_uint_eq(ledger->child[i].state, CHILD_NONE);
	children_tick(table, 99999);
	ck_assert_int_eq(spawns, 1);
}
END_TEST

START_TEST(expiry_stages)
{
	static const int64_t day = 86400;
	static const struct {
		int64_t left, first;
		unsigned stage;
	} rows[] = {
		{ 31 * 86400, 30 * 86400, 0 },
		{ 30 * 86400 - 1, 30 * 86400, 1 },
		{ 14 * 86400, 30 * 86400, 1 },
		{ 14 * 86400 - 1, 30 * 86400, 2 },
		{ 7 * 86400 - 1, 30 * 86400, 3 },
		{ 3 * 86400 - 1, 30 * 86400, 4 },
		{ 86399, 30 * 86400, 5 },
		{ 1, 30 * 86400, 5 },
		{ 0, 30 * 86400, 6 },
		{ -86399, 30 * 86400, 6 },
		{ -86400, 30 * 86400, 7 },
		{ 10 * 86400, 2 * 86400, 0 },
		{ 86400 + 1, 2 * 86400, 4 },
		{ INT64_MIN + 1, 1, 6 + UINT32_MAX / 2 },
	};
	unsigned last = 0;

	for (unsigned i = 0; i < TP_COUNT(rows); i++)
		ck_assert_uint_eq(expiry_stage(rows[i].left, rows[i].first), rows[i].stage);
	/* It only grows as time passes. */
	for (int64_t left = 40 * day; left > -40 * day; left -= 3600) {
		ck_assert_uint_ge(expiry_stage(left, 30 * day), last);
		last = expiry_stage(left, 30 * day);
	}
}
END_TEST

/* A kill(2) that fails is no death: it is tried again. */
START_TEST(test_kill_fails)
{
	int i = children_row(table, ROLE_WORKER, 0);

	children_start(table, (unsigned)i, 100);
	fail_kill = 1;
	children_tick(table, 100 + CHILD_READY_MS);
	ck_assert_int_eq(kills, 1);
	ck_assert(!table->c[i].killed);
	children_tick(table, 100 + CHILD_READY_MS);
	ck_assert_int_eq(kills, 1);
	fail_kill = 0;
	children_tick(table, 100 + CHILD_READY_MS + CHILD_KILL_MS);
	ck_assert_int_eq(kills, 2);
	ck_assert(table->c[i].killed);
}
END_TEST

START_TEST(test_late)
{
	int i = children_row(table, ROLE_AUTHD, 0);

	children_start(table, (unsigned)i, 100);
	children_ready(table, (unsigned)i, 120);
	ck_assert_uint_eq(ledger->ready, 1);
	children_late(table, (unsigned)i, true);
	ck_assert_uint_eq(ledger->ready, 0);
	children_late(table, (unsigned)i, false);
	ck_assert_uint_eq(ledger->ready, 1);
}
END_TEST

/* What a supervisor that died leaves: only what was being told something is replaced. */
START_TEST(test_adopted)
{
	unsigned ready = (unsigned)children_row(table, ROLE_WORKER, 0),
		 half = (unsigned)children_row(table, ROLE_WORKER, 1),
		 told = (unsigned)children_row(table, ROLE_AUTHD, 0),
		 queued = (unsigned)children_row(table, ROLE_ADMIN, 0),
		 born = (unsigned)children_row(table, ROLE_TLSD, 0);

	children_start(table, ready, 100);
	children_ready(table, ready, 120);
	children_start(table, half, 100);
	children_start(table, told, 100);
	table->c[told].told = true;
	children_start(table, queued, 100);
	children_ready(table, queued, 120);
	table->c[queued].out_count = 1;
	table->c[born].born = 77;
	children_adopt(table, ledger, &ops, NULL, 200);
	ck_assert_int_eq(kills, 3);
	ck_assert(!table->c[ready].killed && !table->c[told].killed);
	ck_assert(table->c[half].killed && table->c[queued].killed && table->c[born].killed);
	ck_assert_int_eq(ledger->child[born].pid, 77);
	ck_assert_uint_eq(ledger->child[ready].state, CHILD_READY);
}
END_TEST

Suite *
suite_children(void)
{
	Suite *s = suite_create("children");
	TCase *t = tcase_create("table");

	tcase_set_timeout(t, 60); /* hundreds of thousands of assertions, and the machine may be busy */
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, test_split);
	tcase_add_test(t, test_life);
	tcase_add_test(t, test_backoff_authd);
	tcase_add_test(t, test_backoff_worker);
	tcase_add_test(t, test_kills);
	tcase_add_test(t, test_deadlines);
	tcase_add_test(t, test_spawn_fails);
	tcase_add_test(t, test_kill_fails);
	tcase_add_test(t, test_late);
	tcase_add_test(t, test_adopted);
	tcase_add_test(t, expiry_stages);
	suite_add_tcase(s, t);
	return s;
}
