/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * dtls_hello.c: DTLS hellos, and which strangers proved their address with one.
 *
 *	first hello, its fragment at 0      answered with a cookie; nothing of it is kept
 *	second hello, with its cookie       marked as proved, and passed on to a turnpike-tls, fragment by fragment
 *	a fragment of it without the cookie passed on if its 5-tuple is marked; else it waits in a small ring, where fragments
 *	                                    that came in another order, or that share a cookie, find each other
 *
 * The ring is all that strangers have here, and its size does not depend on them.  Marks are in CROSS: a
 * successor, or another owner of the shard, knows them.  There are two: of the 5-tuple, whose datagrams
 * are passed on and may be answered, and of the hello, which allows one session.  Both end with that
 * session.
 */
#include "config.h"

#include <stdlib.h>

#include "worker_int.h"

#define WAITING      128
#define WAIT_MS      2000
#define MARK_MORE_MS 15000 /* beyond the handshake's deadline: its worker may be in back-off when it ends */
#define PREFIX       128   /* a cookie ends before */
#define PARAMETERS   34    /* version and random */

struct waiting {
	struct addr from;
	uint32_t shard, row;
	tp_ms until;           /* 0: free */
	struct seal_frag frag; /* of bytes[] */
	uint8_t bytes[HELLO_PIECE];
};
struct hello_ring {
	struct waiting at[WAITING];
	unsigned next;
};

/* ---- marks ----------------------------------------------------------------------------------- */

struct mark_name {
	struct addr client;
	uint32_t shard, row;
	uint64_t hello;
};

static uint64_t
mark_of(
    const struct worker *w, const struct lane *l, unsigned row, const struct addr *client, uint64_t hello)
{
	struct mark_name n;

	memset(&n, 0, sizeof n);
	n.client = *client;
	n.shard = l->shard.index;
	n.row = row;
	n.hello = hello;
	return cross_hash(&w->cross, &n, sizeof n);
}

bool
hello_is_proved(const struct worker *w, const struct lane *l, unsigned row, const struct addr *client)
{
	return rate_is_marked(&w->cross, mark_of(w, l, row, client, 0), w->turn.now);
}

bool
hello_may_end(const struct worker *w, const struct lane *l, const struct hs_who *who)
{
	return who->request != 0 &&
	    rate_is_marked(&w->cross, mark_of(w, l, who->row, &who->client, who->request), w->turn.now);
}

void
hello_ended(struct worker *w, const struct lane *l, const struct hs_who *who)
{
	rate_unmark(&w->cross, mark_of(w, l, who->row, &who->client, who->request));
	rate_unmark(&w->cross, mark_of(w, l, who->row, &who->client, 0));
}

/* What the client repeats names its hello.  Never 0. */
static uint64_t
hello_name(const struct worker *w, const struct seal_gather *g)
{
	return cross_hash(&w->cross, g->body, PARAMETERS) | 1;
}

/* ---- to a turnpike-tls ----------------------------------------------------------------------- */

void
hello_pass_on(struct worker *w, struct lane *l, unsigned row, const struct addr *from, const uint8_t *p,
    size_t len, bool hello, uint64_t name)
{
	struct msg_hs_datagram *m;

	if (len > sizeof m->datagram) {
		stat_drop(w->stat, DROP_DTLS_RECORD);
		return;
	}
	if (!rate_take(&w->cross, RATE_HANDSHAKE, cross_prefix(&w->cross, from), w->streams.shakes,
		w->streams.shakes, w->turn.now)) {
		stat_drop(w->stat, DROP_DTLS_BUSY);
		worklog_over_limit(w, REASON_LIMIT_HALF_PREFIX, from);
		return;
	}
	m = tlsd_box(w, l, tlsd_of(w, from), MSG_HS_DATAGRAM, -1);
	if (m == NULL) {
		stat_drop(w->stat, DROP_DTLS_BUSY);
		return;
	}
	m->who = (struct hs_who){
		.request = name, .shard = l->shard.index, .row = row, .client = *from, .dtls = 1
	};
	m->hello = hello;
	m->len = (uint16_t)len;
	memcpy(m->datagram, p, len);
}

/* In pieces that fit a message. */
static void
pass_fragment(struct worker *w, struct lane *l, unsigned row, const struct addr *from, uint64_t name,
    const struct seal_frag *f)
{
	uint8_t record[SEAL_FRAG_HEAD + HELLO_PIECE];
	struct seal_frag piece = *f;

	for (uint32_t done = 0; done < f->len; done += piece.len) {
		piece.at = f->at + done;
		piece.bytes = f->bytes + done;
		piece.len = f->len - done < HELLO_PIECE ? f->len - done : HELLO_PIECE;
		hello_pass_on(w, l, row, from, record, seal_frag_write(record, &piece), true, name);
	}
}

static void
pass_datagram(struct worker *w, struct lane *l, unsigned row, const struct addr *from, uint64_t name,
    const uint8_t *p, size_t len)
{
	struct seal_frags it = seal_frags_over(p, len);
	struct seal_frag f;

	while (seal_frags_next(&it, &f) > 0)
		if (f.message_seq == 1)
			pass_fragment(w, l, row, from, name, &f);
}

/* ---- what waits ------------------------------------------------------------------------------ */

static bool
is_waiting(const struct worker *w, const struct lane *l, unsigned row, const struct addr *from,
    const struct waiting *x)
{
	return x->until > w->turn.now && x->row == row && x->shard == l->shard.index &&
	    addr_eq(&x->from, from);
}

static void
pass_waiting(struct worker *w, struct lane *l, unsigned row, const struct addr *from, uint64_t name)
{
	struct hello_ring *r = w->hellos;

	for (unsigned i = 0; r != NULL && i < WAITING; i++) {
		struct waiting *x = &r->at[i];
		if (!is_waiting(w, l, row, from, x))
			continue;
		x->until = 0;
		pass_fragment(w, l, row, from, name, &x->frag);
	}
}

/* The beginning of a hello out of what waits of this client, what came last first. */
static void
gather_waiting(const struct worker *w, const struct lane *l, unsigned row, const struct addr *from,
    struct seal_gather *g)
{
	const struct hello_ring *r = w->hellos;

	for (unsigned n = 1; r != NULL && n <= WAITING; n++) {
		const struct waiting *x = &r->at[(r->next + WAITING - n) % WAITING];
		if (is_waiting(w, l, row, from, x))
			(void)seal_gather_add(g, &x->frag);
	}
}

static void
wait_for_more(struct worker *w, const struct lane *l, unsigned row, const struct addr *from,
    const uint8_t *p, size_t len)
{
	struct seal_frags it = seal_frags_over(p, len);
	struct seal_frag f;

	if (w->hellos == NULL && (w->hellos = calloc(1, sizeof *w->hellos)) == NULL)
		return;
	while (seal_frags_next(&it, &f) > 0) {
		struct waiting *x = &w->hellos->at[w->hellos->next];
		if (f.message_seq != 1 || f.len == 0 || f.len > sizeof x->bytes)
			continue;
		w->hellos->next = (w->hellos->next + 1) % WAITING;
		x->from = *from;
		x->shard = l->shard.index;
		x->row = row;
		x->until = w->turn.now + WAIT_MS;
		x->frag = f;
		x->frag.bytes = memcpy(x->bytes, f.bytes, f.len);
	}
}

/* ---- hellos ---------------------------------------------------------------------------------- */

static bool
begin(struct worker *w, struct lane *l, unsigned row, const struct addr *from, const struct conn *c,
    uint64_t name)
{
	uint64_t prefix = cross_prefix(&w->cross, from);
	uint32_t ms = w->handshake_seconds * 1000 + MARK_MORE_MS;

	if (c == NULL && !cross_conn_fits(&w->cross, w->start.shard_count, prefix, &w->streams.limits)) {
		worklog_conn_limit(w, from);
		return false;
	}
	/* One that is repeated was counted. */
	if (!rate_is_marked(&w->cross, mark_of(w, l, row, from, name), w->turn.now) &&
	    !conn_may_shake(w, l, from, TRANSPORT_DTLS))
		return false;
	rate_mark(&w->cross, mark_of(w, l, row, from, 0), ms, w->turn.now);
	rate_mark(&w->cross, mark_of(w, l, row, from, name), ms, w->turn.now);
	return true;
}

/* A datagram of a second hello: is its cookie there, perhaps with what waits? */
static void
second(struct worker *w, struct lane *l, unsigned row, const struct addr *from, const struct conn *c,
    const uint8_t *p, size_t len)
{
	uint8_t body[PREFIX], seen[SEAL_SEEN_LEN(PREFIX)];
	struct seal_frags it = seal_frags_over(p, len);
	struct seal_gather g;
	struct seal_frag f;
	enum seal_proof proof;

	seal_gather_init(&g, body, seen, sizeof body);
	while (seal_frags_next(&it, &f) > 0)
		if (f.message_seq == 1)
			(void)seal_gather_add(&g, &f);
	proof = seal_hello_proof(&w->keys.cookies, from, &g);
	if (proof == SEAL_P_PART && hello_is_proved(w, l, row, from)) {
		pass_datagram(w, l, row, from, 0, p, len);
		return;
	}
	if (proof == SEAL_P_PART) {
		gather_waiting(w, l, row, from, &g);
		proof = seal_hello_proof(&w->keys.cookies, from, &g);
	}
	if (proof != SEAL_P_GOOD) {
		stat_drop(w->stat, DROP_DTLS_FRAGMENT);
		wait_for_more(w, l, row, from, p, len);
		return;
	}
	uint64_t name = hello_name(w, &g);
	if (!begin(w, l, row, from, c, name))
		return;
	pass_waiting(w, l, row, from, name);
	pass_datagram(w, l, row, from, name, p, len);
}

void
hello_datagram(struct worker *w, struct lane *l, unsigned row, const struct addr *from,
    const struct conn *c, const uint8_t *p, size_t len)
{
	uint8_t reply[SEAL_VERIFY_LEN];

	switch (seal_hello_judge(&w->keys.cookies, from, p, len, reply)) {
	case SEAL_V_VERIFY:
		udp_to_client(w, l, row, from, reply, sizeof reply, true);
		return;
	case SEAL_V_PASS:
	case SEAL_V_PART:
		second(w, l, row, from, c, p, len);
		return;
	case SEAL_V_REST:
		stat_drop(w->stat, DROP_DTLS_FRAGMENT);
		return;
	case SEAL_V_DROP:
		stat_drop(w->stat, DROP_DTLS_HELLO);
	}
}
