/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * udp_rx: the arena that datagrams are received into, and receiving.
 */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "io_int.h"

unsigned
udp_batch_bucket(unsigned n)
{
	unsigned b = 0;

	for (unsigned limit = 1; n > limit && b < 7; limit *= 2)
		b++;
	return b;
}

struct udp_arena *
udp_arena_new(size_t relay_bytes)
{
	struct udp_arena *a = calloc(1, sizeof *a);
	size_t slots = (size_t)UDP_BATCH * SLOT_STRIDE;

	if (a == NULL)
		return NULL;
	if (relay_bytes < SLOT_STRIDE)
		relay_bytes = SLOT_STRIDE;
	a->size = slots + relay_bytes;
	void *base = mmap(NULL, a->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (base == MAP_FAILED) {
		free(a);
		return NULL;
	}
	a->base = base;
	a->relay_at = slots;
	a->relay_end = a->size;
	for (unsigned i = 0; i < UDP_BATCH; i++) {
		a->iov[i] = (struct iovec){ .iov_base = arena_slot(a, i), .iov_len = UDP_MAX };
		a->mm[i].msg_hdr = (struct msghdr){ .msg_iov = &a->iov[i], .msg_iovlen = 1, .msg_name = &a->name[i] };
	}
	return a;
}

void
udp_arena_free(struct udp_arena *a)
{
	if (a == NULL)
		return;
	munmap(a->base, a->size);
	free(a);
}

void
udp_arena_reset(struct udp_arena *a)
{
	a->slots_used = 0;
	a->relay_at = (size_t)UDP_BATCH * SLOT_STRIDE;
}

uint8_t *
udp_arena_take(struct udp_arena *a, size_t len)
{
	size_t whole = (UDP_HEADROOM + len + UDP_TAIL + 15u) & ~(size_t)15u;

	if (whole > a->relay_end - a->relay_at)
		return NULL;
	uint8_t *p = a->base + a->relay_at + UDP_HEADROOM;
	a->relay_at += whole;
	return p;
}

/* Fills in what the kernel told about slot `i`. */
static void
told(struct udp_arena *a, unsigned i, size_t len, int flags, struct udp_pkt *pkt)
{
	if (addr_from_sockaddr(&pkt->from, &a->name[i].sa) < 0)
		memset(&pkt->from, 0, sizeof pkt->from);
	pkt->p = arena_slot(a, i);
	pkt->len = (uint32_t)len;
	pkt->seg = 0;
	pkt->truncated = (flags & MSG_TRUNC) != 0;
}

static void
ready(struct udp_arena *a, unsigned i)
{
	a->mm[i].msg_hdr.msg_namelen = sizeof a->name[i];
	a->mm[i].msg_hdr.msg_flags = 0;
	a->name[i].sa.sa_family = AF_UNSPEC;
}

static int
no_listener(int fd)
{
	(void)fd;
	return 0;
}

static unsigned
room_for(const struct udp_arena *a, unsigned max)
{
	unsigned left = UDP_BATCH - a->slots_used;

	return max < left ? max : left;
}

static void
count_batch(struct udp_counts *c, unsigned n)
{
	c->rx_calls++;
	c->rx_batch[udp_batch_bucket(n)]++;
}

static int
rx_plain(int fd, struct udp_arena *a, struct udp_pkt *pkts, unsigned max, struct udp_counts *c)
{
	unsigned n = 0, room = room_for(a, max);

	if (room == 0)
		return -ENOBUFS;
	while (n < room) {
		unsigned i = a->slots_used;
		ready(a, i);
		ssize_t got = recvmsg(fd, &a->mm[i].msg_hdr, MSG_DONTWAIT);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0 && n == 0 && errno != EAGAIN && errno != EWOULDBLOCK)
			return -errno;
		if (got < 0)
			break;
		told(a, i, (size_t)got, a->mm[i].msg_hdr.msg_flags, &pkts[n++]);
		a->slots_used++;
		count_batch(c, 1);
	}
	return (int)n;
}

static int
rx_mmsg(int fd, struct udp_arena *a, struct udp_pkt *pkts, unsigned max, struct udp_counts *c)
{
	unsigned first = a->slots_used, room = room_for(a, max);
	int n;

	if (room == 0)
		return -ENOBUFS;
	for (unsigned i = first; i < first + room; i++)
		ready(a, i);
	do {
		n = recvmmsg(fd, a->mm + first, room, MSG_DONTWAIT, NULL);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -errno;
	for (unsigned i = 0; i < (unsigned)n; i++)
		told(a, first + i, a->mm[first + i].msg_len, a->mm[first + i].msg_hdr.msg_flags, &pkts[i]);
	a->slots_used += (unsigned)n;
	if (n > 0)
		count_batch(c, (unsigned)n);
	return n;
}

const struct udp_engine udp_engine_plain = { "plain", no_listener, rx_plain, udp_flush_plain };
const struct udp_engine udp_engine_mmsg = { "mmsg", no_listener, rx_mmsg, udp_flush_mmsg };

int
udp_recv_one(int fd, struct udp_arena *a, struct udp_pkt *pkt)
{
	union sock_addr name = { 0 };
	struct iovec iov = { .iov_base = a->base + a->relay_at + UDP_HEADROOM, .iov_len = UDP_MAX };
	struct msghdr m = { .msg_name = &name, .msg_namelen = sizeof name, .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t n;

	if (a->relay_end - a->relay_at < UDP_HEADROOM + UDP_MAX + UDP_TAIL)
		return -ENOBUFS;
	do {
		n = recvmsg(fd, &m, MSG_DONTWAIT);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -errno;
	if (addr_from_sockaddr(&pkt->from, &name.sa) < 0)
		memset(&pkt->from, 0, sizeof pkt->from);
	pkt->len = (uint32_t)n;
	pkt->seg = 0;
	pkt->truncated = (m.msg_flags & MSG_TRUNC) != 0;
	pkt->p = udp_arena_take(a, pkt->len);
	return 1;
}
