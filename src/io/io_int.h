/* SPDX-License-Identifier: BSD-3-Clause */
/* io_int.h: what the files of room io share: the insides of the arena and of the ring. */
#ifndef TP_IO_INT_H
#define TP_IO_INT_H

#include <netinet/in.h>
#include <sys/socket.h>

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
 * Only pages that were touched count.  The stride is no multiple of a page, so that the headers of a
 * batch do not share cache sets.
 */
#define SLOT_STRIDE ((UDP_HEADROOM + UDP_MAX + UDP_TAIL + 127u) / 128u * 128u)
/* Merged receives (GRO) between two resets: each may fill its slot, so that more of them leave the
 * cache. */
#define MERGED_MAX  16u

/* What a relay datagram may need of the relay area: its own bytes, and a copy with margins of each
 * datagram that the kernel merged into it (at most 128). */
#define RELAY_ROOM  (2u * UDP_MAX + 130u * (UDP_HEADROOM + UDP_TAIL + 16u))

/* Room for one control message of an int: UDP_GRO on receive, UDP_SEGMENT on send. */
union udp_control {
	struct cmsghdr align;
	char space[CMSG_SPACE(sizeof(int))];
};

struct udp_arena {
	uint8_t *base;
	size_t size;
	unsigned slots_used, merged;
	bool wide;                  /* since the last rest it held more than what is always in use */
	size_t relay_at, relay_end; /* offsets from base */
	struct mmsghdr mm[UDP_BATCH];
	struct iovec iov[UDP_BATCH];
	union sock_addr name[UDP_BATCH];
	union udp_control control[UDP_BATCH];
};
static inline uint8_t *
arena_slot(const struct udp_arena *a, unsigned i)
{
	return a->base + (size_t)i * SLOT_STRIDE + UDP_HEADROOM;
}

/* A datagram to be sent; `next` chains those of one flow in the order they were put. */
struct ring_entry {
	const uint8_t *p;
	uint32_t len : 31, df : 1; /* df: DF is set on it */
	int32_t fd;
	uint32_t next; /* index + 1; 0: last */
	struct addr to;
};
/* A chain: of entries (a flow; without GSO a socket) or of flows (a socket).  Indices + 1. */
struct ring_chain {
	int32_t fd;
	uint32_t head, tail, count /* entries */, next /* of the same socket */;
};
struct ring_cell {
	uint32_t stamp, at;
};
/* A message of the call that is being laid out: `many` entries from `first` (index + 1) on. */
struct ring_message {
	uint32_t first, many;
};
/* Where a merged send failed: segments as long as `limit` or longer go one by one, for a while. */
struct ring_note {
	int32_t fd;
	uint16_t limit, left;
};

/* Largest number of messages of one sendmmsg call. */
#define SEND_MAX 256u
#define NOTES    256u

struct udp_ring {
	unsigned count, capacity;
	struct ring_entry *entry;
	/* Grouping: sockets and flows in the order of their first datagram, and tables to them whose
	 * cells count only with the present stamp. */
	unsigned groups, flows;
	struct ring_chain *group, *flow;
	struct ring_cell *group_cell, *flow_cell;
	uint32_t cell_mask, stamp;
	/* For one call of sendmmsg. */
	unsigned messages, iovs;
	struct ring_message *message;
	struct mmsghdr *mm;
	struct iovec *iov;
	union sock_addr *name;
	union udp_control *control;
	struct ring_note note[NOTES];
};

/* udp_ring.c: both return with r->groups set; the second chains flows to their sockets. */
void ring_by_socket(struct udp_ring *r);
void ring_by_flow(struct udp_ring *r);
struct ring_note *ring_note_of(struct udp_ring *r, int fd);

/* udp_rx.c */
int rx_prepare(struct udp_arena *a, unsigned max, unsigned *first); /* slots to fill, or -ENOBUFS */
int rx_slots(
    int fd, struct udp_arena *a, unsigned first, unsigned n, struct udp_pkt *pkts, struct udp_counts *c);
int udp_rx_plain(int fd, struct udp_arena *a, struct udp_pkt *pkts, unsigned max, struct udp_counts *c);
int udp_rx_mmsg(int fd, struct udp_arena *a, struct udp_pkt *pkts, unsigned max, struct udp_counts *c);
int udp_unmerged(int fd);
int udp_unmerged_relay(int fd);
unsigned udp_batch_bucket(unsigned n); /* as stat_batch_bucket() of shm */

/* udp_tx.c */
struct udp_sender {
	struct udp_ring *r;
	udp_unsent_h *unsent;
	void *arg;
	struct udp_counts *c;
	int fd;        /* the socket in hand */
	uint32_t left; /* its datagrams without a verdict yet */
	bool df, v6;   /* the socket sets DF now, by the option of this family */
};
/* Sends what is laid out and switches the socket's option to what this entry needs.  False: the socket
 * is full. */
bool udp_sender_switch(struct udp_sender *s, const struct ring_entry *e);
static inline bool
udp_sender_for(struct udp_sender *s, const struct ring_entry *e)
{
	return e->df == s->df || udp_sender_switch(s, e);
}
/* Sends what is left, unless the socket is full (!ok); the option is as it was. */
void udp_sender_end(struct udp_sender *s, bool ok);
/* Lays out the next message: `many` entries from `first` on, as one GSO send when there are several.
 * False: the call is full, send it first. */
bool udp_message_add(struct udp_ring *r, uint32_t first, unsigned many);
/* Sends what is laid out.  False: the socket is full, the rest of its datagrams is dropped and counted. */
bool udp_messages_send(struct udp_sender *s);

#endif
