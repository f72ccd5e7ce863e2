/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * udp_ring.c: datagrams that wait to be sent, and putting them in order: by socket, or by socket and
 * destination.
 *
 * A flush takes the sockets one after the other, in the order of their first datagram, and each one's
 * datagrams in the order they were put (with GSO: each destination's): several packets for one relay
 * socket leave in one call, and no flow is reordered.
 */
#include "config.h"

#include <errno.h>
#include <stdlib.h>

#include "io_int.h"

socklen_t
sock_addr_of(union sock_addr *out, const struct addr *a)
{
	if (a->family == ADDR_V4) {
		out->in4 = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons(a->port) };
		memcpy(&out->in4.sin_addr, a->ip, 4);
		return sizeof out->in4;
	}
	if (a->family == ADDR_V6) {
		out->in6 = (struct sockaddr_in6){ .sin6_family = AF_INET6, .sin6_port = htons(a->port) };
		memcpy(&out->in6.sin6_addr, a->ip, 16);
		return sizeof out->in6;
	}
	return 0;
}

/* All arrays in one piece; their sizes are multiples of 8. */
static size_t
lay_arrays(struct udp_ring *r, uint8_t *at, uint32_t cells)
{
	size_t used = 0, n = r->capacity;

#define ARRAY(field, count)                                                                                \
	do {                                                                                               \
		if (at != NULL)                                                                            \
			r->field = (void *)(at + used);                                                    \
		used += ((count) * sizeof *r->field + 63) & ~(size_t)63;                                   \
	} while (0)
	ARRAY(entry, n);
	ARRAY(group, n);
	ARRAY(flow, n);
	ARRAY(group_cell, cells);
	ARRAY(flow_cell, cells);
	ARRAY(message, SEND_MAX);
	ARRAY(mm, SEND_MAX);
	ARRAY(iov, n);
	ARRAY(name, SEND_MAX);
	ARRAY(control, SEND_MAX);
#undef ARRAY
	return used;
}

struct udp_ring *
udp_ring_new(unsigned capacity)
{
	struct udp_ring *r = calloc(1, sizeof *r);
	uint32_t cells = 16;

	if (r == NULL || capacity == 0 || capacity > 65536) {
		free(r);
		return NULL;
	}
	while (cells < capacity * 2)
		cells *= 2;
	r->capacity = capacity;
	r->cell_mask = cells - 1;
	uint8_t *arrays = calloc(1, lay_arrays(r, NULL, cells));
	if (arrays == NULL) {
		free(r);
		return NULL;
	}
	(void)lay_arrays(r, arrays, cells);
	for (unsigned i = 0; i < NOTES; i++)
		r->note[i].fd = -1;
	return r;
}

void
udp_ring_free(struct udp_ring *r)
{
	if (r == NULL)
		return;
	free(r->entry); /* the first of all arrays */
	free(r);
}

static inline bool
put(struct udp_ring *r, int fd, const struct addr *to, const uint8_t *p, size_t len, bool df)
{
	if (r->count == r->capacity)
		return false;
	r->entry[r->count++] = (struct ring_entry){
		.p = p, .len = (uint32_t)len & 0x7fffffff, .df = df, .fd = fd, .to = *to
	};
	return true;
}

bool
udp_ring_put(struct udp_ring *r, int fd, const struct addr *to, const uint8_t *p, size_t len)
{
	return put(r, fd, to, p, len, false);
}

bool
udp_ring_put_df(struct udp_ring *r, int fd, const struct addr *to, const uint8_t *p, size_t len)
{
	return put(r, fd, to, p, len, true);
}

unsigned
udp_ring_count(const struct udp_ring *r)
{
	return r->count;
}

static void
new_stamp(struct udp_ring *r)
{
	size_t cells = (size_t)r->cell_mask + 1;

	r->groups = r->flows = 0;
	if (++r->stamp != 0)
		return;
	/* Wrapped: old stamps could be taken for the present one. */
	memset(r->group_cell, 0, cells * sizeof *r->group_cell);
	memset(r->flow_cell, 0, cells * sizeof *r->flow_cell);
	r->stamp = 1;
}

static inline uint32_t
mix(uint64_t v)
{
	return (uint32_t)(v * 0x9e3779b97f4a7c15u >> 32);
}

/* The chain of a socket, made when it is new. */
static struct ring_chain *
group_of(struct udp_ring *r, int fd)
{
	uint32_t at = mix((uint32_t)fd) & r->cell_mask;

	for (; r->group_cell[at].stamp == r->stamp; at = (at + 1) & r->cell_mask) {
		struct ring_chain *g = &r->group[r->group_cell[at].at];
		if (g->fd == fd)
			return g;
	}
	r->group_cell[at] = (struct ring_cell){ r->stamp, r->groups };
	r->group[r->groups] = (struct ring_chain){ .fd = fd };
	return &r->group[r->groups++];
}

static inline void
chain_entry(struct udp_ring *r, struct ring_chain *c, uint32_t i)
{
	if (c->tail == 0)
		c->head = i + 1;
	else
		r->entry[c->tail - 1].next = i + 1;
	c->tail = i + 1;
	c->count++;
	r->entry[i].next = 0;
}

void
ring_by_socket(struct udp_ring *r)
{
	struct ring_chain *g = NULL;

	new_stamp(r);
	for (uint32_t i = 0; i < r->count; i++) {
		if (g == NULL || g->fd != r->entry[i].fd)
			g = group_of(r, r->entry[i].fd);
		chain_entry(r, g, i);
	}
}

static inline bool
same_flow(const struct ring_entry *a, const struct ring_entry *b)
{
	return a->fd == b->fd && addr_eq(&a->to, &b->to);
}

static uint32_t
flow_hash(const struct ring_entry *e)
{
	uint64_t word[2];

	memcpy(word, e->to.ip, sizeof word);
	return mix(word[0] ^ word[1] * 3 ^ (uint64_t)e->to.port << 40 ^ (uint64_t)(uint32_t)e->fd << 32);
}

/* The chain of an entry's flow, made, and chained to its socket's, when it is new. */
static struct ring_chain *
flow_of(struct udp_ring *r, const struct ring_entry *e)
{
	uint32_t at = flow_hash(e) & r->cell_mask;

	for (; r->flow_cell[at].stamp == r->stamp; at = (at + 1) & r->cell_mask) {
		struct ring_chain *f = &r->flow[r->flow_cell[at].at];
		if (same_flow(&r->entry[f->head - 1], e))
			return f;
	}
	struct ring_chain *f = &r->flow[r->flows], *g = group_of(r, e->fd);
	r->flow_cell[at] = (struct ring_cell){ r->stamp, r->flows++ };
	*f = (struct ring_chain){ .fd = e->fd };
	if (g->tail == 0)
		g->head = r->flows;
	else
		r->flow[g->tail - 1].next = r->flows;
	g->tail = r->flows;
	return f;
}

void
ring_by_flow(struct udp_ring *r)
{
	struct ring_chain *f = NULL;

	new_stamp(r);
	for (uint32_t i = 0; i < r->count; i++) {
		if (f == NULL || !same_flow(&r->entry[i - 1], &r->entry[i]))
			f = flow_of(r, &r->entry[i]);
		chain_entry(r, f, i);
	}
}

struct ring_note *
ring_note_of(struct udp_ring *r, int fd)
{
	return &r->note[(unsigned)fd % NOTES];
}
