/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * udp_tx.c: sending the ring.  A message of a call is one datagram, or with GSO a run of them for one
 * destination.
 *
 * A send can fail for a reason that is not its own: a socket with an error queue reports each ICMP error
 * once, on whatever comes next, and then forgets it.  So the message at which a call failed is tried once
 * more; if it fails again it is its own fault, it is reported, and those behind it go on.  A run that the
 * device or the path does not take as one is sent datagram by datagram.
 */
#include "config.h"

#include <errno.h>
#include <netinet/udp.h>

#include "io_int.h"

/* What a failed send means. */
enum verdict { AGAIN, RETRY, SKIP, APART, FULL };

static enum verdict
judge(struct udp_sender *s, int err, bool retried, bool run)
{
	if (err == EINTR)
		return AGAIN;
	if (err == EAGAIN || err == EWOULDBLOCK)
		return FULL;
	/* EIO: the device has no checksum offload.  EINVAL, EMSGSIZE: a segment is longer than the
	 * path's MTU. */
	if (run && (err == EIO || err == EINVAL || err == EMSGSIZE || err == EOPNOTSUPP))
		return APART;
	/* The queue of the device is full: another try only meets it again. */
	if (err == ENOBUFS)
		s->c->tx_nobufs++;
	if (err == ENOBUFS || err == EMSGSIZE)
		return SKIP;
	return retried ? SKIP : RETRY;
}

static void
sent(struct udp_sender *s, const struct ring_entry *e)
{
	s->c->tx_packets++;
	s->c->tx_bytes += e->len;
	s->left--;
}

static void
not_sent(struct udp_sender *s, const struct ring_entry *e, int err)
{
	s->c->tx_errors++;
	s->left--;
	if (s->unsent != NULL)
		s->unsent(s->arg, e->fd, &e->to, e->len, err);
}

/* The rest of a socket's datagrams is dropped: its buffer is full, and waiting would hold up all others. */
static bool
drop_rest(struct udp_sender *s)
{
	s->c->tx_again += s->left;
	s->left = 0;
	return false;
}

/* `many` entries of a chain, one call each.  False: the socket is full. */
static bool
send_each(struct udp_sender *s, uint32_t at, uint32_t many)
{
	bool retried = false;

	while (many > 0) {
		const struct ring_entry *e = &s->r->entry[at - 1];
		TP_UNSET union sock_addr name;
		socklen_t len = sock_addr_of(&name, &e->to);
		if (!udp_sender_for(s, e))
			return false;
		s->c->tx_calls++;
		if (sendto(s->fd, e->p, e->len, MSG_DONTWAIT | MSG_NOSIGNAL, &name.sa, len) >= 0) {
			s->c->tx_batch[0]++;
			s->c->gso_batch[0]++;
			sent(s, e);
		} else {
			int err = errno;
			enum verdict v = judge(s, err, retried, false);
			if (v == FULL)
				return drop_rest(s);
			if (v == RETRY || v == AGAIN) {
				retried |= v == RETRY;
				continue;
			}
			not_sent(s, e, err);
		}
		retried = false;
		at = e->next;
		many--;
	}
	return true;
}

/* PROBE sets DF without heeding what the kernel believes of the path. */
static void
set_df(struct udp_sender *s, bool v6, bool on)
{
	int level = v6 ? IPPROTO_IPV6 : IPPROTO_IP;
	int option = v6 ? IPV6_MTU_DISCOVER : IP_MTU_DISCOVER;
	int value = v6 ? (on ? IPV6_PMTUDISC_PROBE : IPV6_PMTUDISC_DONT)
		       : (on ? IP_PMTUDISC_PROBE : IP_PMTUDISC_DONT);

	(void)setsockopt(s->fd, level, option, &value, sizeof value);
	s->df = on;
	s->v6 = v6;
}

bool
udp_sender_switch(struct udp_sender *s, const struct ring_entry *e)
{
	bool ok = s->r->messages == 0 || udp_messages_send(s);

	if (ok)
		set_df(s, e->to.family == ADDR_V6, e->df);
	return ok;
}

void
udp_sender_end(struct udp_sender *s, bool ok)
{
	if (ok)
		(void)udp_messages_send(s);
	if (s->df)
		set_df(s, s->v6, false);
}

static void
flush_plain(struct udp_ring *r, udp_unsent_h *unsent, void *arg, struct udp_counts *c)
{
	ring_by_socket(r);
	for (unsigned i = 0; i < r->groups; i++) {
		const struct ring_chain *g = &r->group[i];
		struct udp_sender s = {
			.r = r, .unsent = unsent, .arg = arg, .c = c, .fd = g->fd, .left = g->count
		};
		udp_sender_end(&s, send_each(&s, g->head, g->count));
	}
	r->count = 0;
}

/* ---- messages ------------------------------------------------------------------------------- */

static void
set_segment(struct msghdr *h, union udp_control *control, uint32_t len)
{
	uint16_t segment = (uint16_t)len;

	control->align = (struct cmsghdr){
		.cmsg_level = IPPROTO_UDP, .cmsg_type = UDP_SEGMENT, .cmsg_len = CMSG_LEN(sizeof segment)
	};
	memcpy(CMSG_DATA(&control->align), &segment, sizeof segment);
	h->msg_control = control->space;
	h->msg_controllen = CMSG_SPACE(sizeof segment);
}

bool
udp_message_add(struct udp_ring *r, uint32_t first, unsigned many)
{
	unsigned n = r->messages;

	if (n == SEND_MAX || r->iovs + many > r->capacity)
		return false;
	struct iovec *iov = &r->iov[r->iovs];
	const struct ring_entry *e = &r->entry[first - 1];
	r->message[n] = (struct ring_message){ first, many };
	r->mm[n].msg_hdr = (struct msghdr){ .msg_name = &r->name[n],
		.msg_namelen = sock_addr_of(&r->name[n], &e->to),
		.msg_iov = iov,
		.msg_iovlen = many };
	if (many > 1)
		set_segment(&r->mm[n].msg_hdr, &r->control[n], e->len);
	for (unsigned i = 0; i < many; i++) {
		e = &r->entry[first - 1];
		iov[i] = (struct iovec){ .iov_base = (void *)(uintptr_t)e->p, .iov_len = e->len };
		first = e->next;
	}
	r->iovs += many;
	r->messages++;
	return true;
}

static void
message_sent(struct udp_sender *s, const struct ring_message *m)
{
	uint32_t at = m->first;

	for (uint32_t i = 0; i < m->many; i++) {
		const struct ring_entry *e = &s->r->entry[at - 1];
		sent(s, e);
		at = e->next;
	}
	if (m->many > 1) {
		s->c->gso_sends++;
		s->c->gso_segments += m->many;
	}
	s->c->gso_batch[udp_batch_bucket(m->many)]++;
}

static void
message_lost(struct udp_sender *s, const struct ring_message *m, int err)
{
	uint32_t at = m->first;

	for (uint32_t i = 0; i < m->many; i++) {
		const struct ring_entry *e = &s->r->entry[at - 1];
		not_sent(s, e, err);
		at = e->next;
	}
}

/* A run goes out one by one, and the next ones like it on this socket too. */
static bool
message_apart(struct udp_sender *s, const struct ring_message *m, int err)
{
	struct ring_note *note = ring_note_of(s->r, s->fd);
	uint32_t len = s->r->entry[m->first - 1].len;

	s->c->gso_refused++;
	*note = (struct ring_note){ .fd = s->fd,
		.limit = err == EINVAL || err == EMSGSIZE ? (uint16_t)len : 0,
		.left = UINT16_MAX };
	return send_each(s, m->first, m->many);
}

/* One call for messages `i` and following.  How many were taken, or -errno. */
static int
send_call(struct udp_sender *s, unsigned i)
{
	struct udp_ring *r = s->r;
	unsigned n = r->messages - i;
	const struct msghdr *h = &r->mm[i].msg_hdr;
	int got;

	s->c->tx_calls++;
	if (n > 1)
		got = sendmmsg(s->fd, r->mm + i, n, MSG_DONTWAIT | MSG_NOSIGNAL);
	else if (r->message[i].many > 1)
		got = sendmsg(s->fd, h, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -1 : 1;
	else /* cheaper than a message header */
		got = sendto(s->fd, h->msg_iov->iov_base, h->msg_iov->iov_len, MSG_DONTWAIT | MSG_NOSIGNAL,
			  h->msg_name, h->msg_namelen) < 0
		    ? -1
		    : 1;
	if (got < 0)
		return -errno;
	s->c->tx_batch[udp_batch_bucket((unsigned)got)]++;
	return got;
}

static bool
send_all(struct udp_sender *s)
{
	bool retried = false;

	for (unsigned i = 0; i < s->r->messages;) {
		const struct ring_message *m = &s->r->message[i];
		int got = send_call(s, i);
		if (got > 0) {
			for (int k = 0; k < got; k++)
				message_sent(s, &m[k]);
			i += (unsigned)got;
			retried = false;
			continue;
		}
		switch (judge(s, -got, retried, m->many > 1)) {
		case AGAIN:
			continue;
		case RETRY:
			retried = true;
			continue;
		case FULL:
			return drop_rest(s);
		case APART:
			if (!message_apart(s, m, -got))
				return false;
			break;
		case SKIP:
			message_lost(s, m, -got);
			break;
		}
		i++;
		retried = false;
	}
	return true;
}

bool
udp_messages_send(struct udp_sender *s)
{
	bool ok = send_all(s);

	s->r->messages = s->r->iovs = 0;
	return ok;
}

/* ---- mmsg ----------------------------------------------------------------------------------- */

static void
flush_mmsg(struct udp_ring *r, udp_unsent_h *unsent, void *arg, struct udp_counts *c)
{
	ring_by_socket(r);
	for (unsigned i = 0; i < r->groups; i++) {
		const struct ring_chain *g = &r->group[i];
		struct udp_sender s = {
			.r = r, .unsent = unsent, .arg = arg, .c = c, .fd = g->fd, .left = g->count
		};
		bool ok = true;
		for (uint32_t at = g->head; ok && at != 0;) {
			ok = udp_sender_for(&s, &r->entry[at - 1]);
			if (ok && udp_message_add(r, at, 1))
				at = r->entry[at - 1].next;
			else if (ok)
				ok = udp_messages_send(&s);
		}
		udp_sender_end(&s, ok);
	}
	r->count = 0;
}

const struct udp_engine udp_engine_plain = { "plain", udp_unmerged, udp_unmerged_relay, udp_rx_plain,
	flush_plain };
const struct udp_engine udp_engine_mmsg = { "mmsg", udp_unmerged, udp_unmerged_relay, udp_rx_mmsg,
	flush_mmsg };
