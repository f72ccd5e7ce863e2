/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the files of room io share: the insides of the arena and of the ring.
 */
#ifndef TP_IO_INT_H
#define TP_IO_INT_H

#include <netinet/in.h>

#include "tp/io.h"

/* A kernel address without the 100 spare bytes of sockaddr_storage: 64 of them are in cache at once. */
union sock_addr {
	struct sockaddr sa;
	struct sockaddr_in in4;
	struct sockaddr_in6 in6;
};
socklen_t sock_addr_of(union sock_addr *out, const struct addr *a);

/*
 * One mapping:
 *
 *   UDP_BATCH slots, each   | headroom 64 | 65535 bytes | tail | ...   SLOT_STRIDE apart
 *   relay area              bump allocated, each datagram with headroom and tail
 *
 * Only pages that were touched count.  The stride is no multiple of a page, so that the headers of a batch do not
 * share cache sets.
 */
#define SLOT_STRIDE ((UDP_HEADROOM + UDP_MAX + UDP_TAIL + 127u) / 128u * 128u)

struct udp_arena {
	uint8_t *base;
	size_t size;
	unsigned slots_used;
	size_t relay_at, relay_end;	/* offsets from base */
	struct mmsghdr mm[UDP_BATCH];
	struct iovec iov[UDP_BATCH];
	union sock_addr name[UDP_BATCH];
};
static inline uint8_t *arena_slot(const struct udp_arena *a, unsigned i)
{
	return a->base + (size_t)i * SLOT_STRIDE + UDP_HEADROOM;
}

/* A datagram to be sent; `next` chains those of one socket in the order they were put. */
struct ring_entry {
	const uint8_t *p;
	uint32_t len;
	int32_t fd;
	uint32_t next;			/* index + 1; 0: last */
	struct addr to;
};
struct ring_group { int32_t fd; uint32_t head, tail; };	/* index + 1 */
struct udp_ring {
	unsigned count, capacity;
	struct ring_entry *entry;
	/* Grouping by socket: the groups in the order of their first datagram, and a table from descriptor to group whose
	 * cells count only with the present stamp. */
	unsigned groups;
	struct ring_group *group;
	struct { uint32_t stamp, group; } *cell;
	uint32_t cell_mask, stamp;
	/* For one call of sendmmsg. */
	struct mmsghdr *mm;
	struct iovec *iov;
	union sock_addr *name;
};
/* Largest number of messages of one sendmmsg call. */
#define SEND_MAX 256u

void udp_flush_plain(struct udp_ring *r, udp_unsent_h *unsent, void *arg, struct udp_counts *c);
void udp_flush_mmsg(struct udp_ring *r, udp_unsent_h *unsent, void *arg, struct udp_counts *c);
unsigned udp_batch_bucket(unsigned n);	/* as stat_batch_bucket() of shm */

#endif
