/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bench_path.c: what the TURN core itself costs per packet, without a single system call.  N allocations
 * with a channel and a permission each, in the regions that a worker has; their flows interleaved (R =
 * 1).
 *
 *	bench_path [N [ROUNDS [up|down|send|data]]]
 *	valgrind --tool=callgrind --toggle-collect=turn_client_input bench_path 1000 100 up
 */
#include "config.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#include "tp/io.h"
#include "tp/turn.h"

#define BATCH   64u
#define PAYLOAD 120u

static struct turn_policy policy;
static struct port_map ports;
static struct turn core;
static struct cross cross;
static struct shard shard;
static struct turn_out out;
static struct turn_pool pool;
static uint8_t buffer[BATCH][64 + 256];

static void *
pages(size_t n)
{
	void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		fatal(1, "mmap");
	return p;
}

static struct addr
client_of(uint32_t i)
{
	struct addr a = { .family = ADDR_V4,
		.port = (uint16_t)(1024 + i % 60000),
		.ip = { 198, 18, (uint8_t)(i / 60000), 1 } };

	return a;
}

static struct addr
peer_of(uint32_t i)
{
	struct addr a = {
		.family = ADDR_V4, .port = (uint16_t)(2000 + i % 7), .ip = { 203, 0, 113, (uint8_t)i }
	};

	return a;
}

static void
setup(uint32_t n)
{
	struct cross_limits none = { 0, 0, 0 };
	uint8_t seed[16] = { 1 };
	uint32_t max = n < 1024 ? 1024 : n;

	if (shard_attach(&shard, 0, pages(shard_region_size(max)), pages(shard_keys_size(max)), max, true,
		seed) < 0 ||
	    cross_attach(&cross, pages(cross_region_size()), 0, seed) < 0)
		fatal(1, "regions");
	policy.generation = 1;
	policy.ports = &ports;
	policy.relay_count = 1;
	policy.relay[0] = (struct turn_relay_row){
		.addr = { .family = ADDR_V4, .ip = { 192, 0, 2, 1 } }, .port_min = 49152, .port_max = 65535
	};
	policy.peers.host_count = 3;
	for (unsigned i = 0; i < 3; i++)
		policy.peers.host[i] = (struct addr){ .family = ADDR_V4,
			.ip = { 192, 0, 2, (uint8_t)(i + 1) } };
	policy.peers.listener_count = 1;
	policy.peers.listener[0] = (struct addr){ .family = ADDR_V4, .port = 3478, .ip = { 192, 0, 2, 1 } };
	core = (struct turn){
		.policy = &policy, .cross = &cross, .stat = pages(STAT_SIZE), .now = 100000, .rnd = { 1, 2 }
	};
	for (uint32_t i = 0; i < n; i++) {
		struct session *x = session_new(&shard);
		struct addr peer = peer_of(i);
		x->client = client_of(i);
		x->transport = TRANSPORT_UDP;
		x->expiry = 4000;
		x->policy = 3; /* judged by this generation */
		x->relay[0] = (struct relay_ref){
			.fd = (int32_t)(100 + i), .port = 50000, .family = ADDR_V4
		};
		x->relay[1].fd = -1;
		if (cross_open(&cross, &shard, x, &none, NULL) < 0 ||
		    perm_set(&shard, x, &peer, false, core.now, 16) < 0 ||
		    chan_bind(&shard, x, 0x4001, &peer, core.now, 16) < 0)
			fatal(1, "session %u", i);
	}
}

/* Neighbours in time are no neighbours in memory. */
static uint32_t
scattered(uint32_t i, uint32_t n)
{
	return n <= BATCH ? i % n : (uint32_t)((uint64_t)i * 2654435761u % n);
}

static uint8_t *
datagram(unsigned k)
{
	return buffer[k] + 64;
}

static unsigned
ask_up(uint32_t first, uint32_t n, size_t len)
{
	TP_UNSET struct addr from[BATCH];
	TP_UNSET uint32_t tag[BATCH];
	unsigned good = 0;

	for (unsigned k = 0; k < BATCH; k++) {
		from[k] = client_of(scattered(first + k, n));
		tag[k] = session_prefetch(&shard, &from[k], 1, 0);
	}
	for (unsigned k = 0; k < BATCH; k++)
		session_prefetch_slot(&shard, tag[k]);
	for (unsigned k = 0; k < BATCH; k++) {
		struct turn_in in = { .shard = &shard,
			.pool = &pool,
			.client = from[k],
			.transport = TRANSPORT_UDP,
			.buf = datagram(k),
			.len = len,
			.tagged = true,
			.tag = tag[k] };
		good += turn_client_input(&core, &in, &out) == TURN_TO_PEER;
	}
	return good;
}

static unsigned
ask_down(uint32_t first, uint32_t n, bool stranger)
{
	unsigned good = 0;

	for (unsigned k = 0; k < BATCH; k++)
		session_prefetch_at(&shard, scattered(first + k, n));
	for (unsigned k = 0; k < BATCH; k++) {
		uint32_t i = scattered(first + k, n);
		struct addr from = peer_of(i);
		from.port = (uint16_t)(from.port + stranger); /* the same address, but no channel */
		good += turn_peer_input(&core, &shard, (struct session_ref){ i, shard.slots[i].gen }, 0,
			    &from, datagram(k), PAYLOAD, &out) == TURN_TO_CLIENT;
	}
	return good;
}

static size_t
fill(const char *form, uint32_t n)
{
	static const uint8_t txid[STUN_TXID] = { 1 };
	size_t len = 4 + PAYLOAD;

	for (unsigned k = 0; k < BATCH; k++) {
		struct stun_out o;
		struct addr peer = peer_of(scattered(k, n));
		uint8_t zero[PAYLOAD] = { 0 };
		channel_header(datagram(k), 0x4001, PAYLOAD);
		if (strcmp(form, "send") != 0)
			continue;
		stun_begin(&o, datagram(k), 256, STUN_INDICATION, STUN_SEND, txid);
		stun_put_xaddr(&o, STUN_A_XOR_PEER_ADDRESS, &peer);
		stun_put_bytes(&o, STUN_A_DATA, zero, sizeof zero);
		len = stun_end(&o);
	}
	return len;
}

static void
measure(const char *form, uint32_t n, unsigned rounds)
{
	struct timespec a, b;
	unsigned good = 0;
	size_t len = fill(form, n);
	uint32_t all = (n + BATCH - 1) / BATCH;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
	for (unsigned r = 0; r < rounds; r++)
		for (uint32_t i = 0; i < all; i++) {
			/* The indications name the peers of the first sessions. */
			uint32_t first = strcmp(form, "send") == 0 ? 0 : i * BATCH;
			if (form[0] == 'd')
				good += ask_down(first, n, strcmp(form, "data") == 0);
			else
				good += ask_up(first, n, len);
		}
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b);
	double packets = (double)rounds * all * BATCH;
	double ns = (double)(b.tv_sec - a.tv_sec) * 1e9 + (double)(b.tv_nsec - a.tv_nsec);
	printf("%-4s %7u sessions: %6.1f ns per packet, %u of %.0f relayed\n", form, n, ns / packets, good,
	    packets);
}

int
main(int argc, char **argv)
{
	static const char *const forms[] = { "up", "down", "send", "data" };
	uint32_t n = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 1000;
	unsigned rounds = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : 2000;

	if (sodium_init() < 0 || n < BATCH || rounds == 0)
		fatal(1, "usage: bench_path [N >= 64 [ROUNDS [up|down|send|data]]]");
	setup(n);
	for (unsigned i = 0; i < TP_COUNT(forms); i++)
		if (argc < 4 || strcmp(argv[3], forms[i]) == 0)
			measure(forms[i], n, rounds);
	return 0;
}
