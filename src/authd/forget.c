/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * forget.c: users who are changed or removed in a database, while workers have their keys.
 *
 *	announced, or found to be another key  -> workers forget the key: the next request asks again
 *	gone, with auth.end_removed_users      -> workers end its sessions, too
 *
 * With that option each user that a database had is asked about again when its row has outlived its time.
 */
#include "config.h"

#include "lookup_int.h"

#define SWEEP_ROWS 8192 /* looked at in one tick */
#define SWEEP_ASKS 32   /* questions of one tick */
#define AGAIN_MS   1000

_Static_assert(sizeof((struct msg_forget *)0)->name >= DB_NAME_MAX, "a name fits");

const struct msg_forget *
lookup_forget_next(const struct lookup *k)
{
	return k->forget.count > 0 ? &k->forget.queue[k->forget.first] : NULL;
}

void
lookup_forget_done(struct lookup *k)
{
	k->forget.first = (k->forget.first + 1) % FORGET_MAX;
	k->forget.count--;
}

/* The last place is for "all", which stands for every change that finds no place of its own. */
bool
forget_put(struct lookup *k, const void *name, size_t len, bool gone)
{
	struct forget *f = &k->forget;
	struct msg_forget *last = &f->queue[(f->first + f->count - 1) % FORGET_MAX], *m;

	if (f->count >= FORGET_MAX - 1 && gone)
		return false;
	if (f->count >= FORGET_MAX - 1)
		len = 0;
	if (f->count == FORGET_MAX || (len == 0 && f->count > 1 && last->name_len == 0))
		return true; /* the last one says so already, and is not on its way */
	m = &f->queue[(f->first + f->count++) % FORGET_MAX];
	*m = (struct msg_forget){ .h = { .type = MSG_FORGET }, .name_len = (uint16_t)len, .gone = gone };
	memcpy(m->name, name, len);
	return true;
}

/* Does something else still know this user? */
static bool
is_elsewhere(struct lookup *k, unsigned but, uint64_t id, const struct key_name *n)
{
	for (unsigned d = 0; d < db_set_count(k->set); d++) {
		const struct key_row *r = d != but ? key_rows_find(k->rows, d, id) : NULL;

		if (r != NULL && !r->absent)
			return true;
	}
	return db_find_name(*k->users, n->text, n->len) != NULL;
}

static bool
same_key(const struct db_found *a, const struct db_found *b)
{
	return a->has_md5 == b->has_md5 && a->has_sha256 == b->has_sha256 &&
	    memcmp(a->md5, b->md5, sizeof a->md5) == 0 &&
	    memcmp(a->sha256, b->sha256, sizeof a->sha256) == 0;
}

bool
forget_compare(struct lookup *k, const struct db_event *e)
{
	struct key_row *r = key_rows_find(k->rows, e->database, e->id);
	const struct key_name *n = r != NULL ? key_rows_name(k->rows, r) : NULL;

	if (r == NULL || r->absent || n->len == 0 || !k->limits->end_removed)
		return true;
	if (e->type == DB_EV_FOUND)
		return same_key(&r->found, &e->found) || forget_put(k, n->text, n->len, false);
	return forget_put(k, n->text, n->len, !is_elsewhere(k, e->database, e->id, n));
}

void
forget_name(struct lookup *k, const struct key_row *r)
{
	struct key_name *n = key_rows_name(k->rows, r);

	if (!k->limits->end_removed || r->absent || !db_set_has_facts(k->set, r->database))
		return;
	for (unsigned i = 0; i < k->used && n->len == 0; i++)
		if (k->id[i] == r->id) {
			n->len = k->parked[i]->who.name_len;
			memcpy(n->text, k->parked[i]->who.name, n->len);
		}
}

/* True: a question was asked. */
static bool
ask_again(struct lookup *k, struct key_row *r, tp_ms now)
{
	const struct key_name *n = key_rows_name(k->rows, r);
	struct db_ask ask = { .id = r->id, .name_len = n->len };

	if (r->id == 0 || r->absent || n->len == 0 || !k->db[r->database].up)
		return false;
	if (r->epoch != k->rows->epoch[r->database]) {
		r->epoch = k->rows->epoch[r->database];
		r->until = r->asked = 0;
	}
	if (now < r->until || (r->asked != 0 && now - r->asked < AGAIN_MS))
		return false;
	memcpy(ask.name, n->text, n->len);
	text_copy(ask.realm, sizeof ask.realm, (*k->users)->users->realm);
	r->asked = now;
	(void)db_set_ask(k->set, r->database, &ask); /* a full queue: in a second again */
	return true;
}

void
forget_sweep(struct lookup *k)
{
	unsigned rows = KEY_ROW_SETS * KEY_ROW_WAYS, asked = 0;
	tp_ms now = clock_ms();

	for (unsigned i = 0; k->limits->end_removed && i < SWEEP_ROWS && asked < SWEEP_ASKS; i++) {
		asked += ask_again(k, &k->rows->row[0][0] + k->forget.swept, now);
		k->forget.swept = (k->forget.swept + 1) % rows;
	}
}
