/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * alternate.c: which other server a client is sent to, and that it is not sent in a circle (RFC 8489 10).
 */
#include "config.h"

#include "turn_int.h"

#define SENT_MEMORY    60000 /* ms: how long a client is remembered that was sent on */
#define SENT_BY_STREAM 8     /* connections of one user at one address that are sent on in that time */

/* What the mark of a client is made of; hashed as it is, so without padding. */
struct sent {
	uint8_t kind; /* "s": no other use of cross_hash() has this length and beginning */
	uint8_t count;
	uint8_t port[2];
	uint8_t ip[16];
	uint8_t txid[12];
	uint8_t name[8];
};

static uint64_t
mark_name(const struct turn_call *c, const struct sent *s)
{
	return cross_hash(c->t->cross, (const uint8_t *)s, sizeof *s);
}

/*
 * May this client be sent on?  A circle of servers that send to each other ends at the first of them,
 * because that one remembers.  A UDP client is its address and port.  A stream comes again from another
 * port: there the number of connections that one user at one address may have sent on is bounded.  A
 * retransmission gets the same answer.
 */
static bool
may_send_on(const struct turn_call *c)
{
	bool stream = (c->in->transport & (TRANSPORT_TCP | TRANSPORT_TLS)) != 0;
	struct sent s = { .kind = 's' };
	uint64_t name, request;

	memcpy(s.ip, c->in->client.ip, sizeof s.ip);
	put_u64(s.name, c->who.name);
	if (!stream)
		put_u16(s.port, c->in->client.port);
	memcpy(s.txid, c->msg.txid, sizeof s.txid);
	request = mark_name(c, &s);
	if (rate_is_marked(c->t->cross, request, c->t->now))
		return true;
	memset(s.txid, 0, sizeof s.txid);
	for (s.count = 1; s.count <= (stream ? SENT_BY_STREAM : 1); s.count++) {
		name = mark_name(c, &s);
		if (rate_is_marked(c->t->cross, name, c->t->now))
			continue;
		rate_mark(c->t->cross, name, SENT_MEMORY, c->t->now);
		rate_mark(c->t->cross, request, SENT_MEMORY, c->t->now);
		return true;
	}
	return false;
}

static bool
fits(const struct turn_alternate *a, const struct turn_in *in)
{
	return a->addr.family == in->client.family && (a->transports & in->transport) != 0;
}

/* One of the servers that fit; the same for each transmission of a request. */
static const struct turn_alternate *
choose(const struct turn_call *c)
{
	const struct turn_policy *p = c->t->policy;
	uint32_t n = 0, pick;

	for (uint32_t i = 0; i < p->alternate_count; i++)
		n += fits(&p->alternates[i], c->in);
	if (n == 0)
		return NULL;
	pick = (uint32_t)(cross_hash(c->t->cross, c->msg.txid, sizeof c->msg.txid) % n);
	for (uint32_t i = 0; i < p->alternate_count; i++)
		if (fits(&p->alternates[i], c->in) && pick-- == 0)
			return &p->alternates[i];
	return NULL;
}

bool
alternate_find(const struct turn_call *c, struct alternate *to)
{
	const struct turn_policy *p = c->t->policy;
	const struct turn_alternate *a;

	*to = (struct alternate){ 0 };
	if (alternate_is_due(p) && p->alternate.family == c->in->client.family) {
		to->addr = &p->alternate;
	} else {
		a = choose(c);
		if (a == NULL)
			return false;
		to->addr = &a->addr;
		if (a->domain[0] != '\0' && (c->in->transport & (TRANSPORT_TLS | TRANSPORT_DTLS)) != 0)
			to->domain = a->domain;
	}
	return may_send_on(c);
}

bool
alternate_helps(const struct turn_call *c)
{
	enum reason why = c->out->reason;

	return why == REASON_LIMIT_TOTAL || why == REASON_PORTS || why == REASON_MEMORY;
}
