/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * udp_ring: datagrams that wait to be sent, and sending them.
 *
 * A flush takes the sockets one after the other, in the order of their first datagram, and each one's datagrams in
 * the order they were put: several packets for one relay socket leave in one call, and no flow is reordered.
 *
 * A send can fail for a reason that is not its own: a socket with an error queue reports each ICMP error once, on
 * whatever comes next, and then forgets it.  So the message at which a call failed is tried once more; if it
 * fails again it is its own fault, it is reported, and those behind it go on.
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
	r->entry = calloc(capacity, sizeof *r->entry);
	r->group = calloc(capacity, sizeof *r->group);
	r->cell = calloc(cells, sizeof *r->cell);
	r->mm = calloc(SEND_MAX, sizeof *r->mm);
	r->iov = calloc(SEND_MAX, sizeof *r->iov);
	r->name = calloc(SEND_MAX, sizeof *r->name);
	if (r->entry == NULL || r->group == NULL || r->cell == NULL || r->mm == NULL || r->iov == NULL || r->name == NULL) {
		udp_ring_free(r);
		return NULL;
	}
	for (unsigned i = 0; i < SEND_MAX; i++)
		r->mm[i].msg_hdr = (struct msghdr){ .msg_iov = &r->iov[i], .msg_iovlen = 1, .msg_name = &r->name[i] };
	return r;
}

void
udp_ring_free(struct udp_ring *r)
{
	if (r == NULL)
		return;
	free(r->entry);
	free(r->group);
	free(r->cell);
	free(r->mm);
	free(r->iov);
	free(r->name);
	free(r);
}

bool
udp_ring_put(struct udp_ring *r, int fd, const struct addr *to, const uint8_t *p, size_t len)
{
	if (r->count == r->capacity)
		return false;
	r->entry[r->count++] = (struct ring_entry){ .p = p, .len = (uint32_t)len, .fd = fd, .to = *to };
	return true;
}

unsigned
udp_ring_count(const struct udp_ring *r)
{
	return r->count;
}

/* The group of a socket, made when it is new. */
static struct ring_group *
group_of(struct udp_ring *r, int fd)
{
	uint32_t at = ((uint32_t)fd * 2654435761u >> 8) & r->cell_mask;

	while (r->cell[at].stamp == r->stamp) {
		struct ring_group *g = &r->group[r->cell[at].group];
		if (g->fd == fd)
			return g;
		at = (at + 1) & r->cell_mask;
	}
	r->cell[at].stamp = r->stamp;
	r->cell[at].group = r->groups;
	r->group[r->groups] = (struct ring_group){ .fd = fd };
	return &r->group[r->groups++];
}

static void
group_all(struct udp_ring *r)
{
	struct ring_group *g = NULL;

	r->groups = 0;
	if (++r->stamp == 0) {		/* wrapped: old stamps could be taken for the present one */
		memset(r->cell, 0, ((size_t)r->cell_mask + 1) * sizeof *r->cell);
		r->stamp = 1;
	}
	for (uint32_t i = 0; i < r->count; i++) {
		struct ring_entry *e = &r->entry[i];
		if (g == NULL || g->fd != e->fd)
			g = group_of(r, e->fd);
		if (g->tail == 0)
			g->head = i + 1;
		else
			r->entry[g->tail - 1].next = i + 1;
		g->tail = i + 1;
		e->next = 0;
	}
}

/* What a failed send means. */
enum verdict { RETRY, SKIP, FULL };

static enum verdict
judge(int err, bool retried)
{
	if (err == EAGAIN || err == EWOULDBLOCK)
		return FULL;
	/* The queue of the device is full: another try only meets it again. */
	if (err == ENOBUFS || err == EMSGSIZE)
		return SKIP;
	return retried ? SKIP : RETRY;
}

static void
sent(struct udp_counts *c, const struct ring_entry *e)
{
	c->tx_packets++;
	c->tx_bytes += e->len;
}

struct sender { struct udp_ring *r; udp_unsent_h *unsent; void *arg; struct udp_counts *c; };

static void
not_sent(const struct sender *s, const struct ring_entry *e, int err)
{
	s->c->tx_errors++;
	if (s->unsent != NULL)
		s->unsent(s->arg, e->fd, &e->to, e->len, err);
}

/* The rest of a socket's datagrams is dropped: its buffer is full, and waiting would hold up all others. */
static void
drop_rest(const struct sender *s, uint32_t at)
{
	for (; at != 0; at = s->r->entry[at - 1].next)
		s->c->tx_again++;
}

/* ---- plain ---------------------------------------------------------------------------------- */

static void
send_group_plain(const struct sender *s, const struct ring_group *g)
{
	bool retried = false;

	for (uint32_t at = g->head; at != 0;) {
		const struct ring_entry *e = &s->r->entry[at - 1];
		union sock_addr name;
		socklen_t len = sock_addr_of(&name, &e->to);
		s->c->tx_calls++;
		if (sendto(g->fd, e->p, e->len, MSG_DONTWAIT | MSG_NOSIGNAL, &name.sa, len) >= 0) {
			s->c->tx_batch[0]++;
			sent(s->c, e);
		} else {
			int err = errno;
			enum verdict v = err == EINTR ? RETRY : judge(err, retried);
			if (v == FULL) {
				drop_rest(s, at);
				return;
			}
			if (v == RETRY) {
				retried = err != EINTR;
				continue;
			}
			not_sent(s, e, err);
		}
		retried = false;
		at = e->next;
	}
}

void
udp_flush_plain(struct udp_ring *r, udp_unsent_h *unsent, void *arg, struct udp_counts *c)
{
	struct sender s = { r, unsent, arg, c };

	group_all(r);
	for (unsigned i = 0; i < r->groups; i++)
		send_group_plain(&s, &r->group[i]);
	r->count = 0;
}

/* ---- mmsg ----------------------------------------------------------------------------------- */

/* Lays out at most SEND_MAX datagrams of a group from `at` on; the index behind them. */
static uint32_t
lay_out(struct udp_ring *r, uint32_t at, unsigned *n)
{
	for (*n = 0; at != 0 && *n < SEND_MAX; at = r->entry[at - 1].next, (*n)++) {
		const struct ring_entry *e = &r->entry[at - 1];
		r->iov[*n] = (struct iovec){ .iov_base = (void *)(uintptr_t)e->p, .iov_len = e->len };
		r->mm[*n].msg_hdr.msg_namelen = sock_addr_of(&r->name[*n], &e->to);
	}
	return at;
}

/* Sends what was laid out, which begins with entry `at`.  False: the socket is full, its rest was dropped. */
static bool
send_run(const struct sender *s, int fd, uint32_t at, unsigned n)
{
	bool retried = false;

	for (unsigned i = 0; i < n;) {
		int got = sendmmsg(fd, s->r->mm + i, n - i, MSG_DONTWAIT | MSG_NOSIGNAL);
		int err = got < 0 ? errno : 0;
		s->c->tx_calls++;
		if (got > 0) {
			s->c->tx_batch[udp_batch_bucket((unsigned)got)]++;
			for (; got > 0; got--, i++, at = s->r->entry[at - 1].next)
				sent(s->c, &s->r->entry[at - 1]);
			retried = false;
			continue;
		}
		enum verdict v = err == EINTR ? RETRY : judge(err, retried);
		if (v == FULL) {
			drop_rest(s, at);
			return false;
		}
		if (v == RETRY) {
			retried = err != EINTR;
			continue;
		}
		not_sent(s, &s->r->entry[at - 1], err);
		at = s->r->entry[at - 1].next;
		i++;
		retried = false;
	}
	return true;
}

void
udp_flush_mmsg(struct udp_ring *r, udp_unsent_h *unsent, void *arg, struct udp_counts *c)
{
	struct sender s = { r, unsent, arg, c };

	group_all(r);
	for (unsigned i = 0; i < r->groups; i++) {
		uint32_t at = r->group[i].head;
		unsigned n;
		while (at != 0) {
			uint32_t next = lay_out(r, at, &n);
			if (!send_run(&s, r->group[i].fd, at, n))
				break;
			at = next;
		}
	}
	r->count = 0;
}
