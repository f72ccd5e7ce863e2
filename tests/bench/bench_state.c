/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bench_state.c: bench_state [sessions]: one shard with a million sessions: memory, look-up, open and
 * close, adoption.
 */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <sys/stat.h>

#include "tp/state.h"

#define BATCH 32u

static const uint8_t seed[16] = "bench-state-seed";
static struct shard shard;
static struct cross cross;

/* Of this process: others may run beside it. */
static double
seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void *
make(size_t size, int *fd)
{
	int ro;
	void *p;

	if (region_make("bench-state", size, fd, &ro) != 0 ||
	    (p = region_map(*fd, size, true, false)) == NULL) {
		perror("bench_state: region");
		exit(1);
	}
	close(ro);
	return p;
}

static double
bytes_of(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 ? (double)st.st_blocks * 512 : 0;
}

static struct addr
client(uint32_t n)
{
	struct addr a = { .family = ADDR_V4, .port = (uint16_t)(1 + n % 60000) };

	put_u32(a.ip, 0x0a000000 + n);
	return a;
}

static struct session *
open_one(uint32_t n)
{
	static const struct cross_limits limits = { .per_user = 100 };
	struct session *x = session_new(&shard);
	uint32_t user = n;

	if (x == NULL)
		exit(2);
	x->client = client(n);
	x->transport = TRANSPORT_UDP;
	x->user = cross_hash(&cross, &user, sizeof user);
	x->expiry = 1000;
	x->relay[0] = (struct relay_ref){ .fd = (int32_t)n, .port = 1, .family = ADDR_V4 };
	if (cross_open(&cross, &shard, x, &limits, NULL) != 0)
		exit(3);
	return x;
}

static void
find_all(uint32_t n)
{
	uint32_t r = 1, found = 0;
	double t = seconds();

	for (uint32_t i = 0; i < n; i++) {
		struct addr a;

		r = r * 1664525u + 1013904223u;
		a = client((uint32_t)((uint64_t)r * n >> 32));
		found += session_find(&shard, &a, TRANSPORT_UDP, 0) != NULL;
	}
	printf("session_find, random:  %.0f ns (%u found)\n", (seconds() - t) * 1e9 / n, found);
}

/* As a worker looks them up that has received a batch. */
static void
find_batches(uint32_t n)
{
	struct addr a[BATCH];
	uint32_t tag[BATCH], r = 1, found = 0;
	double t = seconds();

	for (uint32_t i = 0; i < n; i += BATCH) {
		for (unsigned k = 0; k < BATCH; k++) {
			r = r * 1664525u + 1013904223u;
			a[k] = client((uint32_t)((uint64_t)r * n >> 32));
			tag[k] = session_prefetch(&shard, &a[k], 1, 0);
		}
		for (unsigned k = 0; k < BATCH; k++)
			session_prefetch_slot(&shard, tag[k]);
		for (unsigned k = 0; k < BATCH; k++)
			found += session_find_tag(&shard, &a[k], 1, 0, tag[k]) != NULL;
	}
	printf("in batches of %u:      %.0f ns (%u found)\n", BATCH, (seconds() - t) * 1e9 / n, found);
}

int
main(int argc, char **argv)
{
	uint32_t n = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 1000000;
	int shard_fd, keys_fd, cross_fd;
	void *region = make(shard_region_size(n + 1), &shard_fd),
	     *keys = make(shard_keys_size(n + 1), &keys_fd);
	struct shard_adopted got;
	double t;

	cross_attach(&cross, make(cross_region_size(), &cross_fd), 0, seed);
	shard_attach(&shard, 0, region, keys, n + 1, true, seed);
	printf("empty:                 %.0f bytes of shard, keys and cross\n",
	    bytes_of(shard_fd) + bytes_of(keys_fd) + bytes_of(cross_fd));
	t = seconds();
	for (uint32_t i = 0; i < n; i++)
		open_one(i);
	printf("first open:            %.0f ns (with page faults and growth)\n", (seconds() - t) * 1e9 / n);
	printf("per session:           %.0f shard, %.0f keys, %.0f cross (each its own user and prefix)\n",
	    bytes_of(shard_fd) / n, bytes_of(keys_fd) / n, bytes_of(cross_fd) / n);
	find_all(n);
	find_batches(n);
	t = seconds();
	for (uint32_t i = 0; i < n; i++)
		cross_close(&cross, &shard, open_one(n + 1));
	printf("new, open and close:   %.0f ns\n", (seconds() - t) * 1e9 / n);
	for (int i = 0; i < 3; i++) {
		t = seconds();
		got = shard_adopt(&shard, 1000, NULL, NULL);
		printf("shard_adopt:           %.1f ms (%u live)\n", (seconds() - t) * 1e3, got.live);
	}
	return 0;
}
