/* SPDX-License-Identifier: BSD-3-Clause */
/* udp_rx.c: the arena that datagrams are received into, and receiving. */
#include "config.h"

#include <errno.h>
#include <netinet/udp.h>
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

void
udp_count_segments(struct udp_counts *c, const struct udp_pkt *pkt)
{
	unsigned n = 1;

	if (pkt->seg > 0) {
		n = (pkt->len + pkt->seg - 1u) / pkt->seg;
		c->gro_receives++;
		c->gro_segments += n;
	}
	c->gro_batch[udp_batch_bucket(n)]++;
}

struct udp_arena *
udp_arena_new(size_t relay_bytes)
{
	struct udp_arena *a = calloc(1, sizeof *a);
	size_t slots = (size_t)UDP_BATCH * SLOT_STRIDE;

	if (a == NULL)
		return NULL;
	if (relay_bytes < RELAY_ROOM)
		relay_bytes = RELAY_ROOM;
	a->size = slots + relay_bytes;
	void *base = mmap(
	    NULL, a->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (base == MAP_FAILED) {
		free(a);
		return NULL;
	}
	a->base = base;
	a->relay_at = slots;
	a->relay_end = a->size;
	for (unsigned i = 0; i < UDP_BATCH; i++) {
		a->iov[i] = (struct iovec){ .iov_base = arena_slot(a, i), .iov_len = UDP_MAX };
		a->mm[i].msg_hdr = (struct msghdr){ .msg_iov = &a->iov[i],
			.msg_iovlen = 1,
			.msg_name = &a->name[i],
			.msg_control = a->control[i].space };
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

/* A page for each of a few slots, and one maximal datagram of a relay socket, are always in use. */
#define NARROW_SLOTS 16u
#define NARROW_RELAY (1u << 17)

void
udp_arena_reset(struct udp_arena *a)
{
	a->wide |= a->merged > 0 || a->slots_used > NARROW_SLOTS ||
	    a->relay_at > (size_t)UDP_BATCH * SLOT_STRIDE + NARROW_RELAY;
	a->slots_used = a->merged = 0;
	a->relay_at = (size_t)UDP_BATCH * SLOT_STRIDE;
}

void
udp_arena_rest(struct udp_arena *a)
{
	assert(a->slots_used == 0);
	if (a->wide)
		(void)madvise(a->base, a->size, MADV_DONTNEED);
	a->wide = false;
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

/* Length of the datagrams that the kernel merged, 0 when it is a single one.  A run of one is none. */
static uint16_t
segment_of(struct msghdr *h, size_t len)
{
	if (h->msg_controllen < CMSG_LEN(sizeof(int)))
		return 0;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(h); c != NULL; c = CMSG_NXTHDR(h, c)) {
		int seg = 0;
		if (c->cmsg_level != IPPROTO_UDP || c->cmsg_type != UDP_GRO ||
		    c->cmsg_len < CMSG_LEN(sizeof seg))
			continue;
		memcpy(&seg, CMSG_DATA(c), sizeof seg);
		return seg > 0 && (size_t)seg < len && seg <= UINT16_MAX ? (uint16_t)seg : 0;
	}
	return 0;
}

/* Fills in what the kernel told; everything but where it lies. */
static void
told(struct udp_pkt *pkt, struct msghdr *h, const union sock_addr *name, size_t len)
{
	if (addr_from_sockaddr(&pkt->from, &name->sa) < 0)
		memset(&pkt->from, 0, sizeof pkt->from);
	pkt->len = (uint32_t)len;
	pkt->seg = segment_of(h, len);
	pkt->truncated = (h->msg_flags & MSG_TRUNC) != 0;
}

static void
told_slot(struct udp_arena *a, unsigned i, size_t len, struct udp_pkt *pkt, struct udp_counts *c)
{
	told(pkt, &a->mm[i].msg_hdr, &a->name[i], len);
	pkt->p = arena_slot(a, i);
	a->merged += pkt->seg > 0;
	udp_count_segments(c, pkt);
}

static void
ready(struct udp_arena *a, unsigned i)
{
	struct msghdr *h = &a->mm[i].msg_hdr;

	h->msg_namelen = sizeof a->name[i];
	h->msg_controllen = sizeof a->control[i];
	h->msg_flags = 0;
	a->name[i].sa.sa_family = AF_UNSPEC;
}

/*
 * An engine before this one, in another process, may have left merging on.  What is merged already in the
 * queue can be told apart only while it is on, so it goes off only at an empty queue: off first, so that
 * nothing merged comes any more, and on again if there is something.  Then it stays on for good, and rx
 * reads what is merged, as well.
 */
int
udp_unmerged(int fd)
{
	int value = 0;
	socklen_t len = sizeof value;
	char byte;

	if (getsockopt(fd, IPPROTO_UDP, UDP_GRO, &value, &len) < 0 || value == 0)
		return 0;
	value = 0;
	if (setsockopt(fd, IPPROTO_UDP, UDP_GRO, &value, sizeof value) < 0)
		return 0;
	if (recv(fd, &byte, sizeof byte, MSG_PEEK | MSG_DONTWAIT | MSG_TRUNC) < 0 &&
	    (errno == EAGAIN || errno == EWOULDBLOCK))
		return 0;
	value = 1;
	return setsockopt(fd, IPPROTO_UDP, UDP_GRO, &value, sizeof value) < 0 ? -errno : 0;
}

int
udp_unmerged_relay(int fd)
{
	(void)fd; /* it is off by default, and udp_recv_one() takes both */
	return 0;
}

int
rx_prepare(struct udp_arena *a, unsigned max, unsigned *first)
{
	unsigned left = UDP_BATCH - a->slots_used;

	*first = a->slots_used;
	return left == 0 ? -ENOBUFS : (int)(max < left ? max : left);
}

static void
count_batch(struct udp_counts *c, unsigned n)
{
	c->rx_calls++;
	c->rx_batch[udp_batch_bucket(n)]++;
}

int
udp_rx_plain(int fd, struct udp_arena *a, struct udp_pkt *pkts, unsigned max, struct udp_counts *c)
{
	unsigned i, n = 0;
	int room = rx_prepare(a, max, &i);

	if (room < 0)
		return room;
	while (n < (unsigned)room) {
		ready(a, i);
		ssize_t got = recvmsg(fd, &a->mm[i].msg_hdr, MSG_DONTWAIT);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0 && n == 0 && errno != EAGAIN && errno != EWOULDBLOCK)
			return -errno;
		if (got < 0)
			break;
		told_slot(a, i++, (size_t)got, &pkts[n++], c);
		a->slots_used++;
		count_batch(c, 1);
	}
	return (int)n;
}

int
rx_slots(
    int fd, struct udp_arena *a, unsigned first, unsigned n, struct udp_pkt *pkts, struct udp_counts *c)
{
	int got;

	for (unsigned i = first; i < first + n; i++)
		ready(a, i);
	do {
		got = recvmmsg(fd, a->mm + first, n, MSG_DONTWAIT, NULL);
	} while (got < 0 && errno == EINTR);
	if (got < 0)
		return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -errno;
	for (unsigned i = 0; i < (unsigned)got; i++)
		told_slot(a, first + i, a->mm[first + i].msg_len, &pkts[i], c);
	a->slots_used += (unsigned)got;
	if (got > 0)
		count_batch(c, (unsigned)got);
	return got;
}

int
udp_rx_mmsg(int fd, struct udp_arena *a, struct udp_pkt *pkts, unsigned max, struct udp_counts *c)
{
	unsigned first;
	int room = rx_prepare(a, max, &first);

	return room < 0 ? room : rx_slots(fd, a, first, (unsigned)room, pkts, c);
}

int
udp_recv_one(int fd, struct udp_arena *a, struct udp_pkt *pkt)
{
	TP_UNSET union sock_addr name;
	TP_UNSET union udp_control control;
	struct iovec iov = { .iov_base = a->base + a->relay_at + UDP_HEADROOM, .iov_len = UDP_MAX };
	struct msghdr m = { .msg_name = &name,
		.msg_namelen = sizeof name,
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.space,
		.msg_controllen = sizeof control };
	ssize_t n;

	if (a->relay_end - a->relay_at < RELAY_ROOM)
		return -ENOBUFS;
	name.sa.sa_family = AF_UNSPEC;
	do {
		n = recvmsg(fd, &m, MSG_DONTWAIT);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -errno;
	told(pkt, &m, &name, (size_t)n);
	pkt->p = udp_arena_take(a, pkt->len);
	return 1;
}
