/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pending.c: requests that wait for a key of turnpike-auth or a socket of the supervisor.
 *
 * A fixed ring: at most one request of a 5-tuple, two seconds each.  All have the same span, so the order
 * of arrival is the order of expiry.  A retransmission of what waits is swallowed (its answer comes), but
 * asks turnpike-auth again, which may have died with the question; another request takes its place.  An
 * id names the slot and the generation of its use: a late answer finds no request.
 */
#include "config.h"

#include <stdlib.h>

#include "worker_int.h"

#define PENDING_MAX  1024u
#define PENDING_MS   2000u
#define ASK_AGAIN_MS 300u /* below the client's first retransmission, RFC 8489 6.2.1 */
#define CHAINS       2048u
#define ID_BITS      10

struct pending {
	uint64_t seed;
	uint32_t chain[CHAINS];             /* index + 1 */
	uint32_t free_list, oldest, newest; /* index + 1 */
	uint32_t made; /* entries that have been in use: the others' pages are untouched */
	uint32_t want_first,
	    want_last; /* index + 1 of those with wants_key, in the order of their questions */
	struct msg_key_ask ask[IPC_MANY]; /* being sent */
	struct pending_entry e[PENDING_MAX];
};

struct pending *
pending_new(uint64_t seed)
{
	struct pending *p = calloc(1, sizeof *p);

	if (p == NULL)
		return NULL;
	p->seed = seed;
	return p;
}

void
pending_end(struct pending *p)
{
	for (unsigned i = 0; i < p->made; i++)
		if (p->e[i].live)
			explicit_bzero(&p->e[i].grant, sizeof p->e[i].grant);
	free(p);
}

static uint32_t *
chain_of(struct pending *p, const struct addr *client, uint16_t listener, uint8_t transport)
{
	uint64_t h = p->seed ^ ((uint64_t)listener << 8 | transport), word;

	for (unsigned i = 0; i < 16; i += 8) {
		memcpy(&word, client->ip + i, 8);
		h = (h ^ word) * 0x9e3779b97f4a7c15u;
		h ^= h >> 29;
	}
	h = (h ^ client->port) * 0xbf58476d1ce4e5b9u;
	return &p->chain[(h >> 40) % CHAINS];
}

static bool
is_of(const struct pending_entry *e, const struct turn_in *in)
{
	return e->listener == in->listener && e->transport == in->transport &&
	    addr_eq(&e->client, &in->client);
}

static void
unlink_entry(struct pending *p, struct pending_entry *e)
{
	uint32_t at = (uint32_t)(e - p->e) + 1;
	uint32_t *link = chain_of(p, &e->client, e->listener, e->transport);

	while (*link != at)
		link = &p->e[*link - 1].next_hash;
	*link = e->next_hash;
	*(e->prev_age != 0 ? &p->e[e->prev_age - 1].next_age : &p->oldest) = e->next_age;
	*(e->next_age != 0 ? &p->e[e->next_age - 1].prev_age : &p->newest) = e->prev_age;
}

static void
want_del(struct pending *p, struct pending_entry *e)
{
	uint32_t at = (uint32_t)(e - p->e) + 1, before = 0;
	uint32_t *link = &p->want_first;

	while (*link != at) {
		before = *link;
		link = &p->e[*link - 1].next_want;
	}
	*link = e->next_want;
	if (p->want_last == at)
		p->want_last = before;
	e->wants_key = false;
}

void
pending_free(struct worker *w, struct pending_entry *e)
{
	struct pending *p = w->pending;

	if (!e->live)
		return;
	/* Sockets that came and that no allocation was offered: no request waits for them. */
	for (unsigned i = 0; i < e->offer.count; i++)
		relays_close(w, &w->lane[e->shard_lane], e->offer.sock[i].fd);
	e->offer.count = 0;
	relays_unreserve(w, &w->lane[e->shard_lane], e->offer.reservation);
	e->offer.reservation = 0;
	unlink_entry(p, e);
	if (e->wants_key)
		want_del(p, e);
	e->live = false;
	e->gen++;
	explicit_bzero(&e->grant, sizeof e->grant);
	e->next_age = p->free_list;
	p->free_list = (uint32_t)(e - p->e) + 1;
}

static struct pending_entry *
take(struct pending *p, tp_ms now)
{
	if (p->free_list == 0 && p->made < PENDING_MAX) {
		/* Not from 1: an answer to this worker's predecessor must not fit by chance. */
		p->free_list = ++p->made;
		p->e[p->free_list - 1].gen = (uint32_t)(p->seed >> 20) + p->free_list;
	}
	if (p->free_list == 0)
		return NULL;
	struct pending_entry *e = &p->e[p->free_list - 1];
	uint32_t at = p->free_list;
	p->free_list = e->next_age;
	e->live = true;
	e->has_grant = e->has_offer = e->wants_key = false;
	e->asked = 0;
	e->conn = e->conn_gen = 0;
	memset(&e->offer, 0, sizeof e->offer);
	e->since = now;
	e->deadline = now + PENDING_MS;
	e->prev_age = p->newest;
	e->next_age = 0;
	*(p->newest != 0 ? &p->e[p->newest - 1].next_age : &p->oldest) = at;
	p->newest = at;
	return e;
}

/* The transaction id of a request; anything shorter never comes here. */
static bool
same_request(const struct pending_entry *e, const struct turn_in *in)
{
	return e->len >= STUN_HEADER && in->len >= STUN_HEADER &&
	    memcmp(e->bytes, in->buf, STUN_HEADER) == 0;
}

/* turnpike-auth may have died between reading the question and answering it. */
static void
came_again(struct worker *w, struct pending_entry *e)
{
	if (e->asked != 0 && !e->has_grant && w->turn.now - e->asked >= ASK_AGAIN_MS)
		pending_ask_key(w, e);
}

struct pending_entry *
pending_put(struct worker *w, const struct lane *l, const struct turn_in *in)
{
	struct pending *p = w->pending;
	uint32_t *chain = chain_of(p, &in->client, in->listener, in->transport);

	if (in->len > MSG_STUN_MAX) {
		stat_drop(w->stat, DROP_LENGTH);
		return NULL;
	}
	for (uint32_t at = *chain; at != 0; at = p->e[at - 1].next_hash) {
		if (!is_of(&p->e[at - 1], in))
			continue;
		if (same_request(&p->e[at - 1], in)) {
			came_again(w, &p->e[at - 1]);
			stat_drop(w->stat, DROP_PENDING_AGAIN);
			return NULL;
		}
		stat_drop(w->stat, DROP_PENDING_AGAIN);
		pending_free(w, &p->e[at - 1]);
		break;
	}
	struct pending_entry *e = take(p, w->turn.now);
	if (e == NULL) {
		stat_drop(w->stat, DROP_PENDING_FULL);
		return NULL;
	}
	e->client = in->client;
	e->listener = in->listener;
	e->transport = in->transport;
	e->shard_lane = (uint8_t)(l - w->lane);
	e->len = (uint16_t)in->len;
	memcpy(e->bytes, in->buf, in->len);
	e->next_hash = *chain;
	*chain = (uint32_t)(e - p->e) + 1;
	return e;
}

uint32_t
pending_id(const struct pending *p, const struct pending_entry *e)
{
	/* The index is counted from 1, so no id is 0, which means "for the pool". */
	return (e->gen << (ID_BITS + 1)) | ((uint32_t)(e - p->e) + 1);
}

struct pending_entry *
pending_get(struct pending *p, uint32_t id)
{
	uint32_t at = id & ((1u << (ID_BITS + 1)) - 1);

	if (at == 0 || at > PENDING_MAX || !p->e[at - 1].live || pending_id(p, &p->e[at - 1]) != id)
		return NULL;
	return &p->e[at - 1];
}

struct pending_entry *
pending_overdue(struct worker *w)
{
	struct pending *p = w->pending;
	struct pending_entry *e = p->oldest != 0 ? &p->e[p->oldest - 1] : NULL;

	return e != NULL && e->deadline <= w->turn.now ? e : NULL;
}

bool
pending_has_room(const struct pending *p)
{
	return p->free_list != 0 || p->made < PENDING_MAX;
}

/* ---- questions -------------------------------------------------------------------------------- */

void
pending_ask_key(struct worker *w, struct pending_entry *e)
{
	struct pending *p = w->pending;
	uint32_t at = (uint32_t)(e - p->e) + 1;

	if (e->wants_key)
		return;
	e->wants_key = true;
	e->next_want = 0;
	*(p->want_last != 0 ? &p->e[p->want_last - 1].next_want : &p->want_first) = at;
	p->want_last = at;
}

static void
question(const struct worker *w, const struct pending_entry *e, struct msg_key_ask *m)
{
	m->h = (struct msg_head){ MSG_KEY_ASK, w->start.h.generation };
	m->request = pending_id(w->pending, e);
	m->worker = w->index;
	m->client = e->client;
	m->len = e->len;
	memcpy(m->message, e->bytes, e->len);
}

/* One call for several.  False: none is left, or the queue of turnpike-auth is full and the rest goes
 * next time. */
static bool
ask_some(struct worker *w)
{
	struct pending *p = w->pending;
	const void *msg[IPC_MANY];
	int fd[IPC_MANY], rc;
	unsigned n = 0;

	for (uint32_t at = p->want_first; at != 0 && n < IPC_MANY; at = p->e[at - 1].next_want) {
		question(w, &p->e[at - 1], &p->ask[n]);
		msg[n] = &p->ask[n];
		fd[n++] = -1;
	}
	rc = n > 0 ? ipc_send_many(w->authd, msg, fd, n) : 0;
	for (int i = 0; i < rc; i++) {
		struct pending_entry *e = &p->e[p->want_first - 1];
		e->asked = w->turn.now;
		want_del(p, e);
	}
	return rc == IPC_MANY;
}

void
pending_flush(struct worker *w)
{
	while (ask_some(w))
		;
}

void
pending_ask_relay(struct worker *w, struct pending_entry *e, const struct turn_want *want)
{
	struct msg_relay m = { .h = { MSG_RELAY, 0 },
		.shard = w->lane[e->shard_lane].shard.index,
		.request = pending_id(w->pending, e),
		.v4 = want->v4,
		.v6 = want->v6,
		.even = want->even,
		.reserve = want->reserve,
		.reservation = want->reservation };

	outbox_put(w, &m);
}

/* ---- answers ------------------------------------------------------------------------------------- */

static bool
answer_is_sound(const struct msg_key_answer *a)
{
	return a->key_len <= STUN_KEY_MAX && a->stable_len <= sizeof a->stable &&
	    a->name_len <= sizeof a->name && (a->verdict == GRANT_OK || a->verdict == GRANT_REFUSED);
}

struct pending_entry *
pending_answer(struct worker *w, const struct msg_key_answer *a)
{
	struct pending_entry *e = pending_get(w->pending, a->request);

	if (!answer_is_sound(a)) {
		stat_add(w->stat, STAT_MSG_BAD, 1);
		return NULL;
	}
	if (e == NULL || e->has_grant || a->h.generation != w->start.h.generation)
		return NULL; /* expired, or for a predecessor */
	_Static_assert(sizeof e->grant.key == sizeof a->key && sizeof e->grant.stable == sizeof a->stable &&
		sizeof e->grant.name == sizeof a->name,
	    "grant and message");
	e->grant = (struct auth_grant){ .verdict = a->verdict,
		.alg = a->alg,
		.key_len = a->key_len,
		.stable_len = a->stable_len,
		.credential_expiry = a->credential_expiry,
		.conf_generation = a->conf_generation,
		.limits = { a->allocations, a->permissions, a->bandwidth },
		.name_len = a->name_len,
		.reason = a->reason };
	memcpy(e->grant.key, a->key, sizeof e->grant.key);
	memcpy(e->grant.stable, a->stable, sizeof e->grant.stable);
	memcpy(e->grant.name, a->name, sizeof e->grant.name);
	e->has_grant = true;
	return e;
}

bool
pending_socket(struct worker *w, const struct msg_socket *m, struct pending_entry **ready)
{
	struct pending_entry *e = pending_get(w->pending, m->request);

	*ready = NULL;
	if (e == NULL || e->has_offer || w->lane[e->shard_lane].shard.index != m->shard ||
	    e->offer.count == TP_COUNT(e->offer.sock))
		return false;
	e->offer.sock[e->offer.count++] = (struct relay_ref){
		.fd = m->fd, .port = m->port, .row = m->row, .family = m->family
	};
	if (m->reservation != 0)
		e->offer.reservation = m->reservation;
	if (m->left == 0) {
		e->has_offer = true;
		*ready = e;
	}
	return true;
}

struct pending_entry *
pending_none(struct worker *w, const struct msg_relay_none *m)
{
	struct pending_entry *e = pending_get(w->pending, m->request);

	if (e == NULL || e->has_offer)
		return NULL;
	/* What came of a pair before goes on with the offer: one family of two is a valid answer. */
	e->has_offer = true;
	return e;
}
