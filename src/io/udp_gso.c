/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * udp_gso.c: the engine that lets the kernel merge and split.
 *
 * Receive: UDP_GRO hands over up to 64 KiB of one flow's equally long datagrams at once; the caller goes
 * through them by udp_pkt.seg.  Send: a run of equally long datagrams of one flow, wherever they lie in
 * memory, leaves as one message with UDP_SEGMENT; the last of a run may be shorter.
 */
#include "config.h"

#include <errno.h>
#include <netinet/udp.h>

#include "io_int.h"

#define RUN_MAX   64u    /* UDP_MAX_SEGMENTS of Linux before 6.9 */
#define RUN_BYTES 65000u /* one IP packet, whatever its version and headers */

/* ---- receiving ------------------------------------------------------------------------------ */

static int
merge(int fd)
{
	int on = 1;

	return setsockopt(fd, IPPROTO_UDP, UDP_GRO, &on, sizeof on) < 0 ? -errno : 0;
}

bool
udp_probe_gso(int fd)
{
	int value;
	socklen_t len = sizeof value;

	return getsockopt(fd, IPPROTO_UDP, UDP_SEGMENT, &value, &len) == 0 &&
	    getsockopt(fd, IPPROTO_UDP, UDP_GRO, &value, &len) == 0;
}

/*
 * At first as many slots as may be filled to the brim.  If nothing was merged there, the flows are
 * interleaved, and the rest of the batch is fetched as well: a small datagram needs no more of a slot
 * than its own length.
 */
static int
rx_gso(int fd, struct udp_arena *a, struct udp_pkt *pkts, unsigned max, struct udp_counts *c)
{
	unsigned first, total = 0;
	int room = rx_prepare(a, max, &first);

	if (room < 0 || a->merged >= MERGED_MAX)
		return -ENOBUFS;
	while (total < (unsigned)room && a->merged < MERGED_MAX) {
		unsigned want = (unsigned)room - total;
		if ((total == 0 || a->merged > 0) && want > MERGED_MAX - a->merged)
			want = MERGED_MAX - a->merged;
		int n = rx_slots(fd, a, first + total, want, pkts + total, c);
		if (n < 0 && total == 0)
			return n;
		if (n > 0)
			total += (unsigned)n;
		if (n < (int)want)
			break;
	}
	return (int)total;
}

/* ---- sending -------------------------------------------------------------------------------- */

/* May datagrams of this length leave this socket as a run?  What was refused is tried again after a
 * while: routes and devices change, and descriptors get new meanings. */
static bool
may_merge(struct udp_ring *r, int fd, uint32_t len)
{
	struct ring_note *n = ring_note_of(r, fd);

	if (n->fd != fd || len < n->limit)
		return true;
	if (n->left > 0) {
		n->left--;
		return false;
	}
	n->fd = -1;
	return true;
}

/* How many entries from `first` (index + 1) on are one message. */
static unsigned
run_of(struct udp_ring *r, uint32_t first)
{
	const struct ring_entry *e = &r->entry[first - 1];
	uint32_t len = e->len, bytes = len;
	unsigned n = 1;

	bool df = e->df;

	if (e->next == 0 || len == 0 || r->entry[e->next - 1].len > len || !may_merge(r, e->fd, len))
		return 1;
	while (e->next != 0 && n < RUN_MAX) {
		e = &r->entry[e->next - 1];
		if (e->len > len || e->len == 0 || e->df != df || bytes + e->len > RUN_BYTES)
			break;
		bytes += e->len;
		n++;
		if (e->len < len)
			break; /* the short one ends it */
	}
	return n;
}

/* The index + 1 behind a run. */
static uint32_t
behind(const struct udp_ring *r, uint32_t at, unsigned n)
{
	while (n-- > 0)
		at = r->entry[at - 1].next;
	return at;
}

static bool
send_flow(struct udp_sender *s, const struct ring_chain *f)
{
	struct udp_ring *r = s->r;

	for (uint32_t at = f->head; at != 0;) {
		unsigned n = run_of(r, at);
		if (!udp_sender_for(s, &r->entry[at - 1]))
			return false;
		if (!udp_message_add(r, at, n)) {
			if (!udp_messages_send(s))
				return false;
			(void)udp_message_add(r, at, n); /* the call is empty, so there is room */
		}
		at = behind(r, at, n);
	}
	return true;
}

static uint32_t
datagrams(const struct udp_ring *r, const struct ring_chain *g)
{
	uint32_t n = 0;

	for (uint32_t i = g->head; i != 0; i = r->flow[i - 1].next)
		n += r->flow[i - 1].count;
	return n;
}

static void
flush_gso(struct udp_ring *r, udp_unsent_h *unsent, void *arg, struct udp_counts *c)
{
	ring_by_flow(r);
	for (unsigned i = 0; i < r->groups; i++) {
		const struct ring_chain *g = &r->group[i];
		struct udp_sender s = {
			.r = r, .unsent = unsent, .arg = arg, .c = c, .fd = g->fd, .left = datagrams(r, g)
		};
		bool ok = true;
		for (uint32_t f = g->head; ok && f != 0; f = r->flow[f - 1].next)
			ok = send_flow(&s, &r->flow[f - 1]);
		udp_sender_end(&s, ok);
	}
	r->count = 0;
}

const struct udp_engine udp_engine_gso = { "gso", merge, merge, rx_gso, flush_gso };
