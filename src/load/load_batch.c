/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * load_batch.c: the sockets' side of the load: runs leave with UDP_SEGMENT, several messages in one
 * sendmmsg; what comes in is read with UDP_GRO and recvmmsg.  The generator must cost less than the
 * server it measures.
 */
#include "config.h"

#include <errno.h>
#include <netinet/udp.h>
#include <poll.h>
#include <stdlib.h>
#include <sysexits.h>

#include "load_int.h"

#ifndef SOL_UDP
#define SOL_UDP 17
#endif
#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#define SEGMENTS_MAX 64 /* UDP_MAX_SEGMENTS of the oldest kernels */
#define BYTES_MAX    65000
#define PATIENCE_MS  200 /* a send queue that stays full for longer loses the packets */

struct tx {
	size_t head, payload, wire;
	bool gso;
	int fd;
	unsigned msgs, slots;
	uint64_t filler;
	uint8_t *buf;
	struct mmsghdr mm[TX_MSGS];
	struct iovec iov[TX_MSGS];
	struct {
		union {
			char buf[CMSG_SPACE(sizeof(uint16_t))];
			struct cmsghdr align;
		} u;
	} control[TX_MSGS];
	struct {
		struct flow *f;
		unsigned dir, count;
	} owner[TX_MSGS];
};

static struct tx *
tx_of(size_t wire, bool gso)
{
	struct tx *t = calloc(1, sizeof *t);

	if (t == NULL || (t->buf = calloc(TX_SLOTS, wire)) == NULL)
		fatal(EX_OSERR, "no memory");
	t->wire = wire;
	t->gso = gso;
	t->fd = -1;
	return t;
}

struct tx *
tx_new_records(bool gso)
{
	return tx_of(RECORD_MAX, gso);
}

struct tx *
tx_new(size_t head, size_t payload, size_t pad, bool gso)
{
	struct tx *t = tx_of(head + payload + pad, gso);

	t->head = head;
	t->payload = payload;
	for (unsigned i = 0; i < TX_SLOTS; i++)
		t->filler = payload_fill(t->buf + i * t->wire + head, payload);
	return t;
}

void
tx_free(struct tx *t)
{
	if (t == NULL)
		return;
	free(t->buf);
	free(t);
}

static void
stamp(struct worker *w, struct tx *t, struct flow *f, unsigned dir, unsigned count, uint64_t time)
{
	struct stamp s = { .flow = f->id, .dir = (uint8_t)dir, .time = time };
	uint8_t *p = t->buf + t->slots * t->wire;

	for (unsigned i = 0; i < count; i++, p += t->wire) {
		s.seq = f->side[dir].next_seq++;
		memcpy(p, f->head, t->head);
		payload_write(p + t->head, t->payload, w->session, &s, t->filler);
	}
}

const uint8_t *
tx_stamp(struct worker *w, struct tx *t, struct flow *f, unsigned dir, unsigned count, uint64_t time,
    size_t *wire)
{
	assert(count <= TX_SLOTS && t->slots == 0);
	stamp(w, t, f, dir, count, time);
	*wire = t->wire;
	return t->buf;
}

static void
set_segment(struct tx *t, unsigned i)
{
	struct msghdr *h = &t->mm[i].msg_hdr;
	uint16_t size = (uint16_t)t->wire;
	struct cmsghdr *c;

	h->msg_control = t->control[i].u.buf;
	h->msg_controllen = sizeof t->control[0].u.buf;
	c = CMSG_FIRSTHDR(h);
	c->cmsg_level = SOL_UDP;
	c->cmsg_type = UDP_SEGMENT;
	c->cmsg_len = CMSG_LEN(sizeof size);
	memcpy(CMSG_DATA(c), &size, sizeof size);
}

/* One message of `count` packets that lie one behind the other. */
static void
add_message(struct tx *t, const struct sockaddr_storage *to, socklen_t to_len, struct flow *f, unsigned dir,
    unsigned count)
{
	t->iov[t->msgs] = (struct iovec){ t->buf + t->slots * t->wire, count * t->wire };
	t->mm[t->msgs].msg_hdr = (struct msghdr){ .msg_name = (void *)(uintptr_t)to,
		.msg_namelen = to_len,
		.msg_iov = &t->iov[t->msgs],
		.msg_iovlen = 1 };
	if (count > 1)
		set_segment(t, t->msgs);
	t->owner[t->msgs].f = f;
	t->owner[t->msgs].dir = dir;
	t->owner[t->msgs].count = count;
	t->msgs++;
	t->slots += count;
}

/* Packets of one message. */
static unsigned
most_of(const struct tx *t)
{
	size_t most = t->gso ? BYTES_MAX / t->wire : 1;

	return most < SEGMENTS_MAX ? (unsigned)most : SEGMENTS_MAX;
}

void
tx_record(struct worker *w, struct tx *t, int fd, struct flow *f, unsigned dir, const uint8_t *p, size_t n)
{
	unsigned last;

	assert(n <= RECORD_MAX);
	if (t->fd != fd || t->wire != n || t->slots == TX_SLOTS)
		tx_flush(w, t);
	t->fd = fd;
	t->wire = n;
	last = t->msgs - 1;
	if (t->msgs == 0 || t->owner[last].f != f || t->owner[last].dir != dir ||
	    t->owner[last].count >= most_of(t)) {
		if (t->msgs == TX_MSGS)
			tx_flush(w, t);
		memcpy(t->buf + t->slots * n, p, n);
		add_message(t, NULL, 0, f, dir, 1);
		return;
	}
	memcpy(t->buf + t->slots++ * n, p, n);
	t->iov[last].iov_len += n;
	t->owner[last].count++;
	set_segment(t, last);
}

void
tx_put(struct worker *w, struct tx *t, int fd, const struct sockaddr_storage *to, socklen_t to_len,
    struct flow *f, unsigned dir, unsigned count, uint64_t time)
{
	unsigned most = most_of(t);

	while (count > 0) {
		unsigned n = count < most ? count : most;

		if (t->fd != fd || t->msgs == TX_MSGS || t->slots + n > TX_SLOTS)
			tx_flush(w, t);
		t->fd = fd;
		stamp(w, t, f, dir, n, time);
		add_message(t, to, to_len, f, dir, n);
		count -= n;
	}
}

void
tx_account(struct worker *w, struct flow *f, unsigned dir, unsigned n, bool went)
{
	struct side *s = &f->side[dir];

	/* Numbers that never left count as under way, like those that were lost: a later arrival
	 * settles them. */
	w->inflight += n;
	if (went) {
		s->sent += n;
		atomic_store_explicit(&w->sent[dir], w->sent[dir] + n, memory_order_relaxed);
	} else {
		w->unsent += n;
	}
}

static void
account(struct worker *w, struct tx *t, unsigned i, bool went)
{
	tx_account(w, t->owner[i].f, t->owner[i].dir, t->owner[i].count, went);
}

/* A device without UDP_SEGMENT: the same bytes as single datagrams. */
static void
send_singly(struct worker *w, struct tx *t, unsigned i)
{
	struct msghdr h = t->mm[i].msg_hdr;
	struct side *s = &t->owner[i].f->side[t->owner[i].dir];
	uint8_t *p = t->iov[i].iov_base;

	h.msg_control = NULL;
	h.msg_controllen = 0;
	for (unsigned n = 0; n < t->owner[i].count; n++) {
		struct iovec one = { p + n * t->wire, t->wire };

		h.msg_iov = &one;
		w->inflight++;
		if (sendmsg(t->fd, &h, 0) < 0) {
			w->unsent++;
			continue;
		}
		s->sent++;
		atomic_store_explicit(
		    &w->sent[t->owner[i].dir], w->sent[t->owner[i].dir] + 1, memory_order_relaxed);
	}
}

/* The first message failed.  True: try it again; false: it has been dealt with. */
static bool
again(struct worker *w, struct tx *t, unsigned i, int error, unsigned *retries)
{
	struct pollfd p = { .fd = t->fd, .events = POLLOUT };

	if (error == EINTR)
		return true;
	if ((error == EAGAIN || error == ENOBUFS) && (*retries)++ < PATIENCE_MS) {
		w->send_again++;
		poll(&p, 1, 1);
		return true;
	}
	if ((error == EIO || error == EINVAL || error == EMSGSIZE) && t->owner[i].count > 1) {
		t->gso = false;
		send_singly(w, t, i);
		return false;
	}
	/* An ICMP error of an earlier packet is reported once, in place of this send. */
	if ((error == ECONNREFUSED || error == EHOSTUNREACH || error == ENETUNREACH) && (*retries)++ < 2)
		return true;
	account(w, t, i, false);
	return false;
}

void
tx_flush(struct worker *w, struct tx *t)
{
	unsigned done = 0, retries = 0;

	while (done < t->msgs) {
		int n = t->msgs - done == 1 ? (sendmsg(t->fd, &t->mm[done].msg_hdr, 0) < 0 ? -1 : 1)
					    : sendmmsg(t->fd, t->mm + done, t->msgs - done, 0);

		if (n < 0) {
			if (!again(w, t, done, errno, &retries)) {
				done++;
				retries = 0;
			}
			continue;
		}
		for (int i = 0; i < n; i++)
			account(w, t, done + (unsigned)i, true);
		done += (unsigned)n;
	}
	t->msgs = t->slots = 0;
}

/* Buffers of 64 KiB, shifted against each other so that their beginnings do not share a cache set. */
#define RX_STRIDE (65536 + 320)

struct rx {
	uint8_t *buf;
	struct mmsghdr mm[RX_SLOTS];
	struct iovec iov[RX_SLOTS];
	struct sockaddr_storage from[RX_SLOTS];
	struct {
		union {
			char buf[64];
			struct cmsghdr align;
		} u;
	} control[RX_SLOTS];
};

struct rx *
rx_new(void)
{
	struct rx *r = calloc(1, sizeof *r);

	if (r == NULL || (r->buf = malloc((size_t)RX_SLOTS * RX_STRIDE)) == NULL)
		fatal(EX_OSERR, "no memory");
	return r;
}

void
rx_free(struct rx *r)
{
	if (r == NULL)
		return;
	free(r->buf);
	free(r);
}

static size_t
segment_size(struct msghdr *h, size_t whole)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(h); c != NULL; c = CMSG_NXTHDR(h, c))
		if (c->cmsg_level == SOL_UDP && c->cmsg_type == UDP_GRO) {
			int size;

			memcpy(&size, CMSG_DATA(c), sizeof size);
			return size > 0 ? (size_t)size : whole;
		}
	return whole;
}

static void
prepare(struct rx *r, unsigned max, bool named)
{
	for (unsigned i = 0; i < max; i++) {
		r->iov[i] = (struct iovec){ r->buf + (size_t)i * RX_STRIDE, 65535 };
		r->mm[i].msg_hdr = (struct msghdr){ .msg_iov = &r->iov[i],
			.msg_iovlen = 1,
			.msg_name = named ? &r->from[i] : NULL,
			.msg_namelen = named ? sizeof r->from[i] : 0,
			.msg_control = r->control[i].u.buf,
			.msg_controllen = sizeof r->control[i].u.buf };
	}
}

unsigned
rx_read(struct worker *w, int fd, unsigned max, bool named, rx_h *handler, void *arg, uint64_t now)
{
	struct rx *r = w->rx;
	struct addr from = { 0 };
	unsigned count = 0;
	int n;

	prepare(r, max, named);
	if (max == 1) {
		ssize_t len = recvmsg(fd, &r->mm[0].msg_hdr, MSG_DONTWAIT);

		r->mm[0].msg_len = len < 0 ? 0 : (unsigned)len;
		n = len < 0 ? -1 : 1;
	} else {
		n = recvmmsg(fd, r->mm, max, MSG_DONTWAIT, NULL);
	}
	for (int i = 0; i < n; i++) {
		size_t left = r->mm[i].msg_len, size = segment_size(&r->mm[i].msg_hdr, left);
		const uint8_t *p = r->iov[i].iov_base;

		if (named && addr_from_sockaddr(&from, (struct sockaddr *)&r->from[i]) != 0)
			continue;
		do {
			size_t one = left < size ? left : size;

			handler(w, arg, &from, p, one, now);
			count++;
			p += one;
			left -= one;
		} while (left > 0);
	}
	return count;
}
