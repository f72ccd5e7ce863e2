/* SPDX-License-Identifier: BSD-3-Clause */
/* check_state.c: the fixture and the runner of room state. */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "check_state.h"

struct shard shard, reader;
struct cross cross;

static const uint8_t seed[16] = "check-state-seed";
static void *region, *read_only, *keys, *cross_region;
static uint32_t slots;

static void *
map(size_t size, void **ro_map)
{
	int rw, ro;
	void *p;

	ck_assert_int_eq(region_make("check-state", size, &rw, &ro), 0);
	p = region_map(rw, size, true, false);
	ck_assert_ptr_nonnull(p);
	if (ro_map != NULL)
		*ro_map = region_map(ro, size, false, false);
	close(rw);
	close(ro);
	return p;
}

void
setup_shard(uint32_t slot_max)
{
	slots = slot_max;
	region = map(shard_region_size(slot_max), &read_only);
	keys = map(shard_keys_size(slot_max), NULL);
	cross_region = map(cross_region_size(), NULL);
	ck_assert_int_eq(shard_attach(&reader, 0, read_only, NULL, slot_max, false, NULL), 0);
	ck_assert_uint_eq(shard_high(&reader), 0);
	ck_assert_int_eq(cross_attach(&cross, cross_region, 0, NULL), -EPROTO);
	ck_assert_int_eq(cross_attach(&cross, cross_region, 0, seed), 0);
	ck_assert_int_eq(shard_attach(&shard, 0, region, keys, slot_max, true, seed), 0);
	ck_assert_int_eq(shard_attach(&reader, 0, read_only, NULL, slot_max, false, NULL), 0);
}

void
setup_small(void)
{
	setup_shard(64);
}

void
teardown_shard(void)
{
	region_unmap(region, shard_region_size(slots));
	region_unmap(read_only, shard_region_size(slots));
	region_unmap(keys, shard_keys_size(slots));
	region_unmap(cross_region, cross_region_size());
}

struct addr
addr4(uint32_t ip, uint16_t port)
{
	struct addr a = { .family = ADDR_V4, .port = port };

	put_u32(a.ip, ip);
	return a;
}

struct addr
addr6(uint32_t n, uint16_t port)
{
	struct addr a = { .family = ADDR_V6, .port = port, .ip = { 0x20, 1, 0xd, 0xb8 } };

	put_u32(a.ip + 12, n);
	return a;
}

struct session *
fill(unsigned n, uint64_t user)
{
	struct session *x = session_new(&shard);
	struct session_key *k;
	uint32_t slot;

	if (x == NULL)
		return NULL;
	slot = session_slot(&shard, x);
	x->client = n % 4 == 3 ? addr6(n, (uint16_t)(1 + n % 60000))
			       : addr4(0x0a000000 + n / 4, (uint16_t)(1 + n % 60000));
	x->transport = TRANSPORT_UDP;
	x->user = user;
	x->expiry = NOW / 1000 + 600;
	x->relay[0] = (struct relay_ref){ .fd = (int32_t)slot + 100,
		.port = (uint16_t)(1 + slot % 65535),
		.row = (uint8_t)(slot / 65535),
		.family = ADDR_V4 };
	k = session_key(&shard, x);
	ck_assert_uint_eq(k->gen, x->gen);
	k->len = 16;
	memset(k->key, 0x55, 16);
	return x;
}

struct session *
open_session(unsigned n, uint64_t user)
{
	struct cross_limits none = { 0 };
	struct session *x = fill(n, user);

	ck_assert_ptr_nonnull(x);
	ck_assert_int_eq(cross_open(&cross, &shard, x, &none, NULL), 0);
	return x;
}

static void
print_breach(void *arg, const char *text)
{
	(void)arg;
	fprintf(stderr, "breach: %s\n", text);
}

void
audit_clean(void)
{
	ck_assert_uint_eq(state_audit(&cross, &reader, 1, true, NOW, print_breach, NULL), 0);
}

unsigned
audit_count(void)
{
	return state_audit(&cross, &reader, 1, true, NOW, NULL, NULL);
}

int
main(void)
{
	SRunner *run = srunner_create(suite_session());
	int failed;

	srunner_add_suite(run, suite_perm());
	srunner_add_suite(run, suite_cross());
	srunner_add_suite(run, suite_rate());
	srunner_add_suite(run, suite_conn());
	srunner_run_all(run, CK_NORMAL);
	failed = srunner_ntests_failed(run);
	srunner_free(run);
	return failed == 0 ? 0 : 1;
}
