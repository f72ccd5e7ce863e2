/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * lookup.c: requests whose key static users and secrets do not have.
 *
 *	cached and fits          -> answered at once
 *	known not to be there    -> refused at once
 *	else                     -> parked; each database is asked; the first answer that fits is given
 *	no database could answer -> nothing is said, so the client asks again
 *
 * Nothing here waits: a database that is slow or down keeps only those waiting whom nothing else knows.
 */
#include "config.h"

#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <sys/epoll.h>

#include "lookup_int.h"

#define AGAIN_MS  1000 /* a key that does not fit, or secrets, are asked for again after this */
#define RETRY_MS  200  /* a database that was down, of a type that no thread follows */
#define PARKED_MS 1900 /* the worker waits for 2 s */

int
lookup_new(struct lookup **out, struct child_proc *proc, struct authd_db **users, const struct users *u,
    const struct lookup_limits *limits, lookup_answer_h *answer, lookup_rows_h *told, void *arg)
{
	struct lookup *k = calloc(1, sizeof *k);
	int err;

	if (k == NULL)
		return -ENOMEM;
	*k = (struct lookup){
		.proc = proc, .users = users, .limits = limits, .answer = answer, .told = told, .arg = arg
	};
	k->rows = key_rows_new();
	randombytes_buf(k->rate.key, sizeof k->rate.key);
	if (k->rows == NULL)
		return -ENOMEM;
	for (unsigned i = 0; i < u->database_count; i++)
		k->db[i].up = true; /* until it is known better */
	err = db_set_new(&k->set, u->database, u->database_count, u->realm);
	if (err == 0)
		err = loop_add(proc->loop, db_set_fd(k->set), EPOLLIN, lookup_on_events, k);
	*out = k;
	return err;
}

/* ---- what is known --------------------------------------------------------------------------- */

/* Keys and secrets that may be used now.  stale: also rows whose time is over. */
static void
known(struct lookup *k, struct authd_more *m, uint64_t id, bool stale)
{
	tp_ms now = clock_ms();

	memset(m, 0, sizeof *m);
	m->count = db_set_count(k->set);
	for (unsigned d = 0; d < m->count; d++) {
		const struct key_row *r = key_rows_find(k->rows, d, id);

		m->facts[d] = k->db[d].facts;
		if (r != NULL && !r->absent && (now < r->until || stale || !k->db[d].up))
			m->found[d] = &r->found;
	}
}

/* Which databases must be asked about this name, by bit. */
static uint8_t
to_ask(struct lookup *k, uint64_t id, tp_ms now)
{
	uint8_t mask = 0;

	for (unsigned d = 0; d < db_set_count(k->set); d++) {
		const struct key_row *r = key_rows_find(k->rows, d, id);

		/* What it knows did not fit: it may have changed. */
		if (r == NULL || now >= r->until || (!r->absent && now - r->asked >= AGAIN_MS))
			mask |= (uint8_t)(1u << d);
	}
	return mask;
}

/* Whose secrets may be new, for a name of the REST form. */
static uint8_t
to_follow(struct lookup *k, tp_ms now)
{
	uint8_t mask = 0;

	for (unsigned d = 0; d < db_set_count(k->set); d++) {
		if (!db_set_has_facts(k->set, d) || !k->db[d].up || now - k->db[d].facts_asked < AGAIN_MS)
			continue;
		k->db[d].facts_asked = now;
		mask |= (uint8_t)(1u << d);
	}
	return mask;
}

/* ---- parked requests ------------------------------------------------------------------------- */

static void
free_parked(struct lookup *k, unsigned i)
{
	sodium_memzero(k->parked[i], sizeof *k->parked[i]);
	free(k->parked[i]);
	k->parked[i] = NULL;
	k->id[i] = 0;
	while (k->used > 0 && k->parked[k->used - 1] == NULL)
		k->used--;
}

static struct parked *
place(struct lookup *k, unsigned *at)
{
	for (*at = 0; *at < PARKED_MAX && k->parked[*at] != NULL; (*at)++)
		;
	if (*at == PARKED_MAX)
		return NULL;
	k->parked[*at] = calloc(1, sizeof *k->parked[*at]);
	if (*at >= k->used)
		k->used = *at + 1;
	return k->parked[*at];
}

void
lookup_again(struct lookup *k, unsigned i)
{
	struct parked *p = k->parked[i];
	bool last = p->asked == 0 && p->follows == 0;
	struct authd_more more;
	struct auth_grant g;

	known(k, &more, k->id[i], last && p->failed != 0);
	authd_judge(*k->users, &more, p->message, p->len, clock_unix(), &g, NULL);
	if (g.verdict == GRANT_OK || (last && p->failed == 0))
		k->answer(k->arg, p->peer, p->request, p->generation, &g);
	if (g.verdict == GRANT_OK || last)
		free_parked(k, i);
	sodium_memzero(&g, sizeof g);
}

/* Is this database asked about this name already? */
static bool
is_asked(const struct lookup *k, unsigned d, uint64_t id, unsigned but)
{
	for (unsigned i = 0; i < k->used; i++)
		if (k->id[i] == id && i != but && (k->parked[i]->asked & 1u << d) != 0)
			return true;
	return false;
}

static void
ask_one(struct lookup *k, unsigned at, unsigned d, const struct addr *client, tp_ms now)
{
	struct parked *p = k->parked[at];
	struct lookup_db *b = &k->db[d];
	struct db_ask ask = { .id = k->id[at], .client = *client, .name_len = p->who.name_len };

	/* The follower finds out when it is up again; without one, a question now and then does. */
	if (!b->up && (db_set_has_facts(k->set, d) || now < b->try_at)) {
		p->failed |= (uint8_t)(1u << d);
		return;
	}
	b->try_at = now + RETRY_MS;
	memcpy(ask.name, p->who.name, p->who.name_len);
	text_copy(ask.realm, sizeof ask.realm, p->who.realm);
	if (is_asked(k, d, k->id[at], at) || db_set_ask(k->set, d, &ask) == 0) {
		p->asked |= (uint8_t)(1u << d);
		return;
	}
	p->failed |= (uint8_t)(1u << d);
	k->proc->stat->database[d].dropped++;
	log_limited(&k->full, 1, LOG_L_WARN,
	    "database %s: too many questions wait: dropped; raise `connections` if it is not "
	    "slow",
	    db_set_name(k->set, d));
}

static bool
is_over_rate(struct lookup *k, const struct addr *client, tp_ms now)
{
	struct addr net = *client;
	struct log_fields f = { 0 };
	unsigned kept = client->family == ADDR_V4 ? 4 : 8;
	char text[ADDR_STRLEN];
	bool tell;

	if (lookup_rate_take(&k->rate, client, k->limits->lookups_per_prefix, now, &tell))
		return false;
	stat_reason(k->proc->stat, REASON_LIMIT_LOOKUPS);
	if (!tell || log_silent(&k->over, 5, LOG_L_WARN))
		return true;
	if (k->limits->anonymous)
		kept = client->family == ADDR_V4 ? 3 : 6;
	memset(net.ip + kept, 0, sizeof net.ip - kept);
	addr_print_ip(&net, text);
	log_field(&f, "event", "refused");
	log_field(&f, "reason", reason_rows[REASON_LIMIT_LOOKUPS].word);
	log_field(&f, "prefix", text);
	log_with(LOG_L_WARN, 0, &f, "refused without an answer: %s (%llu): clients of %s",
	    reason_rows[REASON_LIMIT_LOOKUPS].text, (unsigned long long)k->limits->lookups_per_prefix,
	    text);
	return true;
}

static void
park(struct lookup *k, unsigned peer, const struct msg_key_ask *m, const struct authd_asked *who,
    uint64_t id, uint8_t ask, uint8_t follow)
{
	tp_ms now = clock_ms();
	unsigned at;
	struct parked *p;

	if (is_over_rate(k, &m->client, now) || (p = place(k, &at)) == NULL) {
		stat_drop(k->proc->stat, DROP_LOOKUP_RATE);
		return;
	}
	*p = (struct parked){ .peer = peer,
		.request = m->request,
		.generation = m->h.generation,
		.deadline = now + PARKED_MS,
		.who = *who,
		.len = m->len };
	memcpy(p->message, m->message, m->len);
	k->id[at] = id;
	for (unsigned d = 0; d < db_set_count(k->set); d++) {
		if ((follow & 1u << d) != 0) {
			p->follows |= (uint8_t)(1u << d);
			db_set_refresh(k->set, d);
		}
		if ((ask & 1u << d) != 0)
			ask_one(k, at, d, &m->client, now);
	}
	if (p->asked == 0 && p->follows == 0)
		lookup_again(k, at);
}

bool
lookup_ask(struct lookup *k, unsigned peer, const struct msg_key_ask *m, struct auth_grant *g)
{
	tp_ms now = clock_ms();
	struct authd_asked who;
	struct authd_more more;
	uint8_t ask, follow;
	uint64_t id;

	if (!authd_name(*k->users, m->message, m->len, &who)) {
		authd_judge(*k->users, NULL, m->message, m->len, clock_unix(), g, NULL);
		return true;
	}
	/* A name that no column holds is asked for nowhere; it may still be one of a secret. */
	id = who.name_len < DB_NAME_MAX ? key_rows_id(k->rows, who.realm, who.name, who.name_len) : 0;
	known(k, &more, id, false);
	authd_judge(*k->users, &more, m->message, m->len, clock_unix(), g, NULL);
	if (g->verdict == GRANT_OK)
		return true;
	ask = id != 0 ? to_ask(k, id, now) : 0;
	follow = who.rest ? to_follow(k, now) : 0;
	if (ask == 0 && follow == 0)
		return true;
	park(k, peer, m, &who, id, ask, follow);
	return false;
}

void
lookup_tick(struct lookup *k)
{
	tp_ms now = clock_ms();

	forget_sweep(k);
	for (unsigned i = 0; i < k->used; i++)
		if (k->parked[i] != NULL && now >= k->parked[i]->deadline) {
			k->parked[i]->failed |= k->parked[i]->asked | k->parked[i]->follows;
			k->parked[i]->asked = k->parked[i]->follows = 0;
			lookup_again(k, i);
		}
}

int
lookup_write(struct lookup *k, const char *database, struct db_write *w, const char *from)
{
	int at = -1, source = -1;

	for (unsigned i = 0; i < db_set_count(k->set); i++) {
		at = strcmp(db_set_name(k->set, i), database) == 0 ? (int)i : at;
		source = strcmp(db_set_name(k->set, i), from) == 0 ? (int)i : source;
	}
	if (at < 0 || (w->what == DB_IMPORT && source < 0))
		return -ENOENT;
	if (w->what == DB_USER_LIST || w->what == DB_SECRET_LIST)
		k->lists |= 1u << w->id % 32;
	else
		k->lists &= ~(1u << w->id % 32);
	w->from = (uint8_t)(source < 0 ? 0 : source);
	text_copy(w->realm, sizeof w->realm, w->realm[0] != '\0' ? w->realm : (*k->users)->users->realm);
	return db_set_write(k->set, (unsigned)at, w);
}
