/* SPDX-License-Identifier: BSD-3-Clause */
/* bench_stun.c: what the codec costs, in ns per call.  Not a test: numbers for PERFORMANCE.md. */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "tp/stun.h"

#define ROUNDS 5
#define CALLS  300000u

static const uint8_t txid[STUN_TXID] = "abcdefghijkl", key[16] = "0123456789abcdef";
static struct stun_msg msg;
static uint8_t bytes[1500], headroom[STUN_DATA_HEADROOM + 1203], digest[STUN_KEY_MAX];
static size_t len;
static struct addr peer;
static volatile uint64_t sink;

static void
parse(void)
{
	sink += (uint64_t)stun_parse(&msg, bytes, len) + msg.count;
}
static void
mi(void)
{
	sink += stun_check_mi(&msg, key, sizeof key);
}
static void
mi256(void)
{
	sink += stun_check_mi256(&msg, key, sizeof key);
}
static void
crc(void)
{
	sink += stun_crc32(bytes, len);
}
static void
md5_key(void)
{
	sink += stun_key(STUN_ALG_MD5, "user", 4, "example.org", 11, "password", 8, digest);
}

static void
data_indication(void)
{
	size_t n;

	sink += *stun_data_indication(headroom + STUN_DATA_HEADROOM, 1200, &peer, txid, &n);
}

static double
now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* The best of some rounds: the machine may be shared. */
static void
measure(const char *what, void (*call)(void))
{
	double best = 1e18;

	for (unsigned r = 0; r < ROUNDS; r++) {
		double start = now_ns(), took;

		for (unsigned i = 0; i < CALLS; i++)
			call();
		took = (now_ns() - start) / CALLS;
		best = took < best ? took : best;
	}
	printf("%-44s %7.1f ns\n", what, best);
}

static void
build_send(void)
{
	static const uint8_t payload[1200];
	struct stun_out o;

	stun_begin(&o, bytes, sizeof bytes, STUN_INDICATION, STUN_SEND, txid);
	stun_put_xaddr(&o, STUN_A_XOR_PEER_ADDRESS, &peer);
	stun_put_bytes(&o, STUN_A_DATA, payload, sizeof payload);
	len = stun_end(&o);
}

static void
build_allocate(void)
{
	struct stun_out o;

	stun_begin(&o, bytes, sizeof bytes, STUN_REQUEST, STUN_ALLOCATE, txid);
	stun_put_u32(&o, STUN_A_REQUESTED_TRANSPORT, 17u << 24);
	stun_put_u32(&o, STUN_A_LIFETIME, 600);
	stun_put_bytes(&o, STUN_A_USERNAME, "1893456000:username", 19);
	stun_put_bytes(&o, STUN_A_REALM, "example.org", 11);
	stun_put_bytes(&o, STUN_A_NONCE, "obMatJos2AAACf//499k954d6OL34oL9FSTvy64sA", 41);
	stun_put_mi(&o, key, sizeof key);
	stun_put_mi256(&o, key, sizeof key);
	stun_put_fingerprint(&o);
	len = stun_end(&o);
}

int
main(void)
{
	if (addr_parse(&peer, "192.0.2.1:40000") != 0)
		return EXIT_FAILURE;
	build_send();
	measure("stun_parse, Send with 1200 bytes", parse);
	measure("stun_data_indication, 1200 bytes", data_indication);
	build_allocate();
	printf("Allocate of %zu bytes:\n", len);
	measure("stun_parse with FINGERPRINT", parse);
	measure("stun_crc32", crc);
	measure("stun_check_mi", mi);
	measure("stun_check_mi256", mi256);
	measure("stun_key, MD5", md5_key);
	if (!stun_check_mi(&msg, key, sizeof key) || !stun_check_mi256(&msg, key, sizeof key))
		return EXIT_FAILURE;
	return EXIT_SUCCESS;
}
