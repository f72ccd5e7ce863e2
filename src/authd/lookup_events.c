/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * lookup_events.c: what databases answer.
 */
#include "config.h"

#include <sodium.h>
#include <stdlib.h>

#include "lookup_int.h"

#define JUDGE_MS 100
#define BURST    256 /* events before workers get their turn */

/* Everything that waits for this name at this database goes on. */
static void
go_on(struct lookup *k, unsigned d, uint64_t id, bool failed)
{
	unsigned n = k->used;

	for (unsigned i = 0; i < n; i++) {
		if (k->id[i] != id || (k->parked[i]->asked & 1u << d) == 0)
			continue;
		k->parked[i]->asked &= (uint8_t) ~(1u << d);
		k->parked[i]->failed |= (uint8_t)((unsigned)failed << d);
		lookup_again(k, i);
	}
}

static void
on_answer(struct lookup *k, const struct db_event *e)
{
	struct stat_database *s = &k->proc->stat->database[e->database];
	tp_ms now = clock_ms();
	struct key_row *r;

	if (!forget_compare(k, e)) {
		go_on(k, e->database, e->id, true);
		return;
	}
	r = key_rows_put(k->rows, e->database, e->id);
	r->asked = now;
	r->absent = e->type == DB_EV_ABSENT;
	if (r->absent) {
		s->absent++;
		r->until = now + k->limits->negative_ms;
	} else {
		s->found++;
		r->found = e->found;
		r->until = now + (e->found.ttl != 0 ? e->found.ttl * UINT64_C(1000) : k->limits->cache_ms);
	}
	forget_name(k, r);
	/* At least as long as it takes to judge those that wait for it. */
	if (r->until < now + JUDGE_MS)
		r->until = now + JUDGE_MS;
	go_on(k, e->database, e->id, false);
}

static void
on_failed(struct lookup *k, const struct db_event *e)
{
	k->proc->stat->database[e->database].failed++;
	if (e->text[0] != '\0' && k->db[e->database].up)
		log_limited(&k->trouble, 1, LOG_L_WARN, "database %s: no answer about a user: %s",
		    db_set_name(k->set, e->database), e->text);
	go_on(k, e->database, e->id, true);
}

static void
on_facts(struct lookup *k, struct db_event *e)
{
	struct stat_database *s = &k->proc->stat->database[e->database];
	struct lookup_db *b = &k->db[e->database];
	struct db_facts *was = b->facts;
	bool same = was != NULL && memcmp(was, e->facts, sizeof *was) == 0;

	if (e->facts->bad > 0 &&
	    (was == NULL || was->bad != e->facts->bad || strcmp(was->bad_text, e->facts->bad_text) != 0))
		log_warnx("database %s: %u entries are left out, the first: %s",
		    db_set_name(k->set, e->database), e->facts->bad, e->facts->bad_text);
	b->facts = e->facts;
	e->facts = was; /* freed with the event */
	b->facts_asked = clock_ms();
	s->secrets = b->facts->secret_count;
	s->allowed = b->facts->allowed.count;
	s->denied = b->facts->denied.count;
	s->bad = b->facts->bad;
	if (!same)
		k->told(k->arg, NULL);
	if (was != NULL && memcmp(was->secret, b->facts->secret, sizeof was->secret) != 0)
		(void)forget_put(k, "", 0, false);
	for (unsigned i = 0, n = k->used; i < n; i++) {
		if (k->parked[i] == NULL || (k->parked[i]->follows & 1u << e->database) == 0)
			continue;
		k->parked[i]->follows &= (uint8_t) ~(1u << e->database);
		lookup_again(k, i);
	}
}

static void
on_state(struct lookup *k, const struct db_event *e)
{
	struct stat_database *s = &k->proc->stat->database[e->database];
	struct lookup_db *b = &k->db[e->database];

	text_copy(s->why, sizeof s->why, e->text);
	s->up = e->up;
	s->since_ms = clock_ms();
	b->up = e->up;
	if (e->up)
		log_info("database %s: up", db_set_name(k->set, e->database));
	else
		log_warnx("database %s: down: %s", db_set_name(k->set, e->database),
		    e->text[0] != '\0' ? e->text : "no answer");
	if (followed_note_server(k, &e->server))
		k->told(k->arg, NULL);
}

/* Announced by the database, or changed by the operator.  "": everything. */
static void
on_changed(struct lookup *k, unsigned d, const char *name)
{
	size_t len = strlen(name);

	key_rows_forget(
	    k->rows, d, len == 0 ? 0 : key_rows_id(k->rows, (*k->users)->users->realm, name, len));
	(void)forget_put(k, name, len, false);
}

static void
on_event(struct lookup *k, struct db_event *e)
{
	switch (e->type) {
	case DB_EV_FOUND:
	case DB_EV_ABSENT:
		on_answer(k, e);
		break;
	case DB_EV_FAILED:
		on_failed(k, e);
		break;
	case DB_EV_FACTS:
		on_facts(k, e);
		break;
	case DB_EV_STATE:
		on_state(k, e);
		break;
	case DB_EV_CHANGED:
		on_changed(k, e->database, e->text);
		break;
	case DB_EV_DONE:
		if (e->err == 0 && (k->lists & 1u << e->id % 32) == 0)
			on_changed(k, e->database, "");
		k->told(k->arg, e);
		break;
	default:
		k->told(k->arg, e);
	}
}

void
lookup_on_events(void *arg, int fd, uint32_t events)
{
	struct lookup *k = arg;

	(void)fd;
	(void)events;
	for (unsigned i = 0; i < BURST; i++) {
		struct db_event *e = db_set_event(k->set);

		if (e == NULL)
			return;
		on_event(k, e);
		db_event_free(e);
	}
}
