/* SPDX-License-Identifier: BSD-3-Clause */
/* check_state_perm.c: permissions and channels: inline, in chains, both families, to the second. */
#include "config.h"

#include <errno.h>

#include "check_state.h"

static struct session *x;

static void
setup(void)
{
	setup_small();
	x = open_session(1, 1);
}

static struct addr
peer(unsigned i)
{
	return i % 2 ? addr6(i, 0) : addr4(0xc6336400 + i, 0);
}

static struct addr
peer_port(unsigned i)
{
	struct addr a = peer(i);

	a.port = 4000;
	return a;
}

START_TEST(perm_by_address_only)
{
	struct addr a = addr4(0x01020304, 5), b = addr4(0x01020304, 6), c = addr4(0x01020305, 5);

	ck_assert(!perm_has(&shard, x, &a, NOW));
	ck_assert_int_eq(perm_set(&shard, x, &a, false, NOW, 10), 0);
	ck_assert(perm_has(&shard, x, &a, NOW));
	ck_assert(perm_has(&shard, x, &b, NOW));
	ck_assert(!perm_has(&shard, x, &c, NOW));
	ck_assert_uint_eq(x->perm_count, 1);
	ck_assert_int_eq(perm_set(&shard, x, &b, false, NOW, 10), 0);
	ck_assert_uint_eq(x->perm_count, 1);
	ck_assert_int_eq(perm_set(&shard, x, &(struct addr){ 0 }, false, NOW, 10), -EAFNOSUPPORT);
	audit_clean();
}
END_TEST

/* Whether the port matters is set, kept by a refresh that says the same, and changed without shortening. */
START_TEST(perm_port)
{
	struct addr a = _i < 2 ? (struct addr){ .family = ADDR_V4, .ip = { 1, 2, 3, 4 } }
			       : (struct addr){ .family = ADDR_V6, .ip = { 0x20, 1, 2 } };
	bool first = _i % 2 != 0;

	ck_assert_int_eq(perm_set(&shard, x, &a, first, NOW, 10), 0);
	ck_assert_int_eq(perm_has(&shard, x, &a, NOW), first ? PERM_PORT : PERM_ADDRESS);
	for (unsigned i = 0; i < 8; i++) {
		bool port = (i & 2) != 0;

		ck_assert_int_eq(perm_set(&shard, x, &a, port, NOW + i * 500, 10), 0);
		ck_assert_int_eq(
		    perm_has(&shard, x, &a, NOW + 299999 + i * 500), port ? PERM_PORT : PERM_ADDRESS);
		perm_mark(&shard, x, &a, !port);
		ck_assert_int_eq(
		    perm_has(&shard, x, &a, NOW + 299999 + i * 500), port ? PERM_ADDRESS : PERM_PORT);
	}
	ck_assert_int_eq(perm_has(&shard, x, &a, NOW + 320000), PERM_NONE);
	a.ip[1] ^= 1;
	perm_mark(&shard, x, &a, true); /* there is none */
	ck_assert_int_eq(perm_has(&shard, x, &a, NOW), PERM_NONE);
}
END_TEST

START_TEST(perm_expiry)
{
	for (unsigned i = 0; i < 2; i++) {
		struct addr a = peer(i);

		ck_assert_int_eq(perm_set(&shard, x, &a, false, NOW + 1, 10), 0);
		/* Rounded up to the second, then to one that says of the port what it should. */
		ck_assert(perm_has(&shard, x, &a, NOW + 300999));
		ck_assert(!perm_has(&shard, x, &a, NOW + 302000));
		ck_assert_int_eq(perm_set(&shard, x, &a, false, NOW + 100000, 10), 0);
		ck_assert_int_eq(perm_set(&shard, x, &a, false, NOW + 50000, 10), 0); /* never shortens */
		ck_assert(perm_has(&shard, x, &a, NOW + 399999));
		ck_assert(!perm_has(&shard, x, &a, NOW + 400000));
		ck_assert_int_eq(perm_set(&shard, x, &a, false, NOW + 500000, 10), 0);
		ck_assert(perm_has(&shard, x, &a, NOW + 500000));
	}
	ck_assert_uint_eq(x->perm_count, 2);
	audit_clean();
}
END_TEST

static void
not_over(void *arg, struct session *s)
{
	(void)arg;
	(void)s;
	ck_abort_msg("a live session is over");
}

START_TEST(perm_chains)
{
	x->expiry = UINT32_MAX;
	for (unsigned i = 0; i < 256; i++) {
		struct addr a = peer(i);

		ck_assert(perm_fits(&shard, x, &a, 1, NOW, 256));
		ck_assert_int_eq(perm_set(&shard, x, &a, false, NOW, 256), 0);
	}
	for (unsigned i = 0; i < 300; i++) {
		struct addr a = peer(i);

		ck_assert(perm_has(&shard, x, &a, NOW) == (i < 256));
		ck_assert_int_eq(perm_set(&shard, x, &a, false, NOW, 256), i < 256 ? 0 : -ENOSPC);
		ck_assert(perm_fits(&shard, x, &a, 1, NOW, 256) == (i < 256));
	}
	ck_assert_uint_eq(x->perm_count, 256);
	audit_clean();
	shard_adopt(&shard, NOW, NULL, NULL);
	ck_assert_uint_eq(x->perm_count, 256);
	audit_clean();
	session_sweep(&shard, 0, 1, NOW + 299999, not_over, NULL);
	ck_assert_uint_eq(x->perm_count, 256);
	session_sweep(&shard, 0, 1, NOW + 300000, not_over, NULL);
	ck_assert_uint_eq(x->perm_count, 0);
	ck_assert_uint_eq(x->more, 0);
	ck_assert_uint_eq(shard.head->block_chained, 0);
	audit_clean();
}
END_TEST

START_TEST(expired_are_reused)
{
	for (unsigned i = 0; i < 40; i++) {
		struct addr a = peer(i), b = peer_port(i);

		ck_assert_int_eq(perm_set(&shard, x, &a, false, NOW, 40), 0);
		ck_assert_int_eq(chan_bind(&shard, x, (uint16_t)(0x4000 + i), &b, NOW, 40), 0);
	}
	for (unsigned i = 100; i < 140; i++) {
		struct addr a = peer(i), b = peer_port(i);

		ck_assert_int_eq(perm_set(&shard, x, &a, false, NOW, 40), -ENOSPC);
		ck_assert_int_eq(perm_set(&shard, x, &a, false, NOW + 600000, 40), 0);
		ck_assert_int_eq(chan_bind(&shard, x, (uint16_t)(0x4000 + i), &b, NOW, 40), -ENOSPC);
		ck_assert_int_eq(chan_bind(&shard, x, (uint16_t)(0x4000 + i), &b, NOW + 600000, 40), 0);
	}
	ck_assert_uint_le(x->perm_count, 44); /* a few that are over wait for the sweep */
	audit_clean();
	x->expiry = UINT32_MAX;
	session_sweep(&shard, 0, 1, NOW + 600000, not_over, NULL);
	ck_assert_uint_eq(x->perm_count, 40);
	ck_assert_uint_eq(x->chan_count, 40);
	audit_clean();
}
END_TEST

START_TEST(fits_all_or_nothing)
{
	struct addr p[6] = { peer(0), peer(1), peer(2), peer(2), peer(0), peer(4) };

	ck_assert(perm_fits(&shard, x, p, 6, NOW, 4)); /* four distinct */
	ck_assert(!perm_fits(&shard, x, p, 6, NOW, 3));
	ck_assert_int_eq(perm_set(&shard, x, &p[0], false, NOW, 4), 0);
	ck_assert(perm_fits(&shard, x, p, 6, NOW, 4));
	ck_assert(!perm_fits(&shard, x, p, 6, NOW, 3));
	ck_assert(perm_fits(&shard, x, p, 1, NOW, 0) == false);
}
END_TEST

START_TEST(blocks_run_out)
{
	unsigned n = 0, opened = 1;
	struct session *y = x;
	int r;

	/* 64 slots, 640 blocks of two IPv6 permissions. */
	for (;;) {
		struct addr a = addr6(n, 0);

		r = perm_set(&shard, y, &a, false, NOW, 512);
		if (r == 0)
			n++;
		else if (y->perm_count == 512)
			y = open_session(1 + opened++, 1);
		else
			break;
	}
	ck_assert_int_eq(r, -ENOSPC);
	ck_assert_uint_eq(n, 2 * shard_block_chain_max(64));
	audit_clean();
	ck_assert_int_eq(cross_close(&cross, &shard, x), 0);
	ck_assert_int_eq(
	    perm_set(&shard, y, &(struct addr){ .family = ADDR_V6, .ip = { 9 } }, false, NOW, 512), 0);
	audit_clean();
}
END_TEST

START_TEST(chan_bijection)
{
	for (unsigned i = 0; i < 2; i++) {
		struct addr a = peer_port(10 + i), b = peer_port(20 + i), got;
		uint16_t n = (uint16_t)(0x4000 + 2 * i);

		ck_assert(!chan_peer(&shard, x, n, NOW, &got));
		ck_assert_int_eq(chan_bind(&shard, x, n, &a, NOW, 10), 0);
		ck_assert(chan_peer(&shard, x, n, NOW, &got));
		ck_assert(addr_eq(&got, &a));
		ck_assert_uint_eq(chan_number(&shard, x, &a, NOW), n);
		ck_assert_uint_eq(chan_number(&shard, x, &b, NOW), 0);
		ck_assert_int_eq(chan_bind(&shard, x, n, &b, NOW, 10), -EEXIST);
		ck_assert_int_eq(chan_bind(&shard, x, n + 1, &a, NOW, 10), -EEXIST);
		ck_assert_int_eq(chan_bind(&shard, x, n, &a, NOW + 1000, 10), 0);
		a.port++;
		ck_assert_int_eq(
		    chan_bind(&shard, x, n + 1, &a, NOW, 10), 0); /* another port is another peer */
	}
	ck_assert_uint_eq(x->chan_count, 4);
	ck_assert_int_eq(chan_bind(&shard, x, 0, &(struct addr){ .family = ADDR_V4 }, NOW, 10), -EINVAL);
	audit_clean();
}
END_TEST

START_TEST(chan_expiry)
{
	for (unsigned i = 0; i < 2; i++) {
		struct addr a = peer_port(10 + i), b = peer_port(20 + i), got;
		uint16_t n = (uint16_t)(0x4000 + i);

		ck_assert_int_eq(chan_bind(&shard, x, n, &a, NOW, 10), 0);
		ck_assert(chan_peer(&shard, x, n, NOW + 599999, &got));
		ck_assert(!chan_peer(&shard, x, n, NOW + 600000, &got));
		ck_assert_uint_eq(chan_number(&shard, x, &a, NOW + 600000), 0);
		/* Over: number and peer are free, and the old binding does not come back. */
		ck_assert_int_eq(chan_bind(&shard, x, n, &b, NOW + 600000, 10), 0);
		ck_assert_int_eq(chan_bind(&shard, x, (uint16_t)(n + 8), &a, NOW + 600000, 10), 0);
		ck_assert(chan_peer(&shard, x, n, NOW + 600000, &got));
		ck_assert(addr_eq(&got, &b));
	}
	ck_assert_uint_eq(x->chan_count, 4);
	audit_clean();
}
END_TEST

START_TEST(chan_chains)
{
	for (unsigned i = 0; i < 256; i++) {
		struct addr a = peer_port(i);

		ck_assert_int_eq(chan_bind(&shard, x, (uint16_t)(0x4000 + i), &a, NOW, 256), 0);
	}
	for (unsigned i = 0; i < 256; i++) {
		struct addr a = peer_port(i), got;

		ck_assert(chan_peer(&shard, x, (uint16_t)(0x4000 + i), NOW, &got));
		ck_assert(addr_eq(&got, &a));
		ck_assert_uint_eq(chan_number(&shard, x, &a, NOW), 0x4000 + i);
	}
	audit_clean();
	ck_assert_int_eq(cross_close(&cross, &shard, x), 0);
	ck_assert_uint_eq(shard.head->block_chained, 0);
	audit_clean();
}
END_TEST

static void
count(void *arg, const struct addr *p, uint16_t channel, uint32_t expiry)
{
	unsigned *n = arg;

	(void)p;
	ck_assert_uint_gt(expiry, NOW / 1000);
	n[channel != 0]++;
}

START_TEST(drop_and_list)
{
	unsigned n[2] = { 0 };
	struct session copy;

	for (unsigned i = 0; i < 20; i++) {
		struct addr a = peer(i), b = peer_port(i), c = peer_port(i);

		c.port++;
		ck_assert_int_eq(perm_set(&shard, x, &a, false, NOW, 40), 0);
		ck_assert_int_eq(chan_bind(&shard, x, (uint16_t)(0x4000 + i), &b, NOW, 40), 0);
		ck_assert_int_eq(chan_bind(&shard, x, (uint16_t)(0x4800 + i), &c, NOW, 40), 0);
	}
	for (unsigned i = 0; i < 20; i += 4)
		perm_drop(&shard, x,
		    &(struct addr){ peer(i).family, 0, 0,
			{ peer(i).ip[0], peer(i).ip[1], peer(i).ip[2], peer(i).ip[3] } });
	{
		struct addr a = peer(1), b = peer_port(1);

		perm_drop(&shard, x, &a);
		ck_assert(!perm_has(&shard, x, &a, NOW));
		ck_assert_uint_eq(chan_number(&shard, x, &b, NOW), 0);
	}
	ck_assert_uint_eq(x->perm_count, 14);
	ck_assert_uint_eq(x->chan_count, 28);
	audit_clean();
	ck_assert(session_read(&reader, session_slot(&shard, x), &copy));
	session_each_peer(&reader, &copy, NOW, count, n);
	ck_assert_uint_eq(n[0], 14);
	ck_assert_uint_eq(n[1], 28);
	n[0] = n[1] = 0;
	session_each_peer(&reader, &copy, NOW + 300000, count, n);
	ck_assert_uint_eq(n[0], 0);
	ck_assert_uint_eq(n[1], 28);
}
END_TEST

START_TEST(audit_sees_chains)
{
	for (unsigned i = 0; i < 40; i++) {
		struct addr a = peer(i), b = peer_port(i);

		perm_set(&shard, x, &a, false, NOW, 40);
		chan_bind(&shard, x, (uint16_t)(0x4000 + i), &b, NOW, 40);
	}
	audit_clean();
	x->chan[0].number++; /* two channels with one number */
	ck_assert_uint_gt(audit_count(), 0);
	x->chan[0].number--;
	x->perm_count++;
	ck_assert_uint_gt(audit_count(), 0);
	x->perm_count--;
	shard.blocks[x->more - 1].next = x->more; /* a ring */
	ck_assert_uint_gt(audit_count(), 0);
}
END_TEST

Suite *
suite_perm(void)
{
	Suite *s = suite_create("perm");
	TCase *t = tcase_create("perm");

	tcase_add_checked_fixture(t, setup, teardown_shard);
	tcase_add_test(t, perm_by_address_only);
	tcase_add_loop_test(t, perm_port, 0, 4);
	tcase_add_test(t, perm_expiry);
	tcase_add_test(t, perm_chains);
	tcase_add_test(t, expired_are_reused);
	tcase_add_test(t, fits_all_or_nothing);
	tcase_add_test(t, blocks_run_out);
	tcase_add_test(t, chan_bijection);
	tcase_add_test(t, chan_expiry);
	tcase_add_test(t, chan_chains);
	tcase_add_test(t, drop_and_list);
	tcase_add_test(t, audit_sees_chains);
	suite_add_tcase(s, t);
	return s;
}
