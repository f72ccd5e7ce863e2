/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * cmd_verify.c: are the invariants true right now?  Workers write meanwhile, so a finding counts only
 * when it is there each time that one looks.
 */
#include "config.h"

#include <stdlib.h>
#include <time.h>

#include "admin_int.h"

#define LOOKS        20 /* more than one only when something was found */
#define PAUSE_NS     30000000
#define BREACHES_MAX 1000 /* that are kept; all are counted */

/* One look: the texts of what was found. */
struct look {
	json_t *found;
};

static void
on_breach(void *arg, const char *text)
{
	struct look *l = arg;

	if (json_object_size(l->found) < BREACHES_MAX)
		json_object_set_new(l->found, text, json_true());
}

static void TP_PRINTF(2, 3) breach(struct look *l, const char *fmt, ...)
{
	char text[240];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	on_breach(l, text);
}

/* ---- one socket per allocation, one allocation per socket ------------------------------------------- */

static void
check_relay(const struct view *v, struct look *l, uint8_t *seen, const struct session_id *id,
    const struct relay_ref *r)
{
	struct ledger_fd e;
	char name[SESSION_ID_LEN];

	session_id_print(id, name);
	if (r->fd < 0 || r->fd >= LEDGER_FDS) {
		breach(l, "session %s: descriptor %d is none", name, r->fd);
		return;
	}
	e = *(const volatile struct ledger_fd *)&v->ledger->fd[r->fd];
	if (e.kind != LEDGER_POOL)
		breach(l, "session %s: the supervisor holds no relay socket %d", name, r->fd);
	else if (e.port != r->port || e.row != r->row || e.family != r->family || e.shard != id->shard)
		breach(l,
		    "session %s: socket %d is port %u row %u family %u shard %u for the supervisor, port %u row %u "
		    "family %u for the session",
		    name, r->fd, e.port, e.row, e.family, e.shard, r->port, r->row, r->family);
	if (seen[r->fd / 8] & (1u << r->fd % 8))
		breach(l, "session %s: socket %d has another session, too", name, r->fd);
	seen[r->fd / 8] |= (uint8_t)(1u << r->fd % 8);
}

static void
check_sockets(const struct view *v, struct look *l)
{
	uint8_t *seen = calloc(1, LEDGER_FDS / 8);
	struct session x;

	if (seen == NULL) {
		breach(l, "out of memory: sockets not checked");
		return;
	}
	for (unsigned i = 0; i < v->shard_count; i++) {
		uint32_t high = v->shard[i].region != NULL ? shard_high(&v->shard[i]) : 0;

		for (uint32_t slot = 0; slot < high; slot++) {
			struct session_id id = { .shard = i, .slot = slot };

			if (!session_read(&v->shard[i], slot, &x))
				continue;
			id.gen = x.gen;
			for (unsigned k = 0; k < 2; k++)
				if (x.relay[k].family != ADDR_NONE)
					check_relay(v, l, seen, &id, &x.relay[k]);
		}
	}
	free(seen);
}

/* ---- one descriptor per connection, one connection per descriptor ------------------------------------ */

static void
check_conn(const struct view *v, struct look *l, uint8_t *seen, unsigned shard, uint32_t slot)
{
	struct conn *at = conn_peek(&v->shard[shard], slot);
	const volatile struct conn *c = at;
	uint32_t state = atomic_load_explicit(&at->state, memory_order_acquire);
	int32_t fd = c->fd;
	struct ledger_fd e;

	if (state < CONN_SHAKING || fd < 0)
		return;
	if (fd >= LEDGER_FDS) {
		breach(l, "connection %02u.%u: descriptor %d is none", shard, slot, fd);
		return;
	}
	e = *(const volatile struct ledger_fd *)&v->ledger->fd[fd];
	if (e.kind != LEDGER_STREAM || e.shard != shard || e.row != c->listener)
		breach(l,
		    "connection %02u.%u: the supervisor holds no connection %d of this shard and row %u",
		    shard, slot, fd, c->listener);
	if (seen[fd / 8] & (1u << fd % 8))
		breach(l, "connection %02u.%u: descriptor %d has another one, too", shard, slot, fd);
	seen[fd / 8] |= (uint8_t)(1u << fd % 8);
}

static void
check_conns(const struct view *v, struct look *l, const struct ledger *h)
{
	uint8_t *seen = calloc(1, LEDGER_FDS / 8);

	if (seen == NULL) {
		breach(l, "out of memory: connections not checked");
		return;
	}
	for (unsigned i = 0; i < v->shard_count; i++) {
		uint32_t high = v->shard[i].region != NULL ? conn_high(&v->shard[i]) : 0;

		for (uint32_t slot = 0; slot < high; slot++)
			check_conn(v, l, seen, i, slot);
	}
	/* While a worker is being replaced, sockets that its predecessor has just closed are not given
	 * back yet. */
	for (uint32_t fd = 0; h->ready && fd < h->fd_max; fd++)
		if (*(const volatile uint8_t *)&v->ledger->fd[fd].kind == LEDGER_STREAM &&
		    !(seen[fd / 8] & (1u << fd % 8)))
			breach(l, "the supervisor holds connection %u, which no shard has", fd);
	free(seen);
}

/* The supervisor's own sums. */
static void
check_ledger(const struct view *v, struct look *l)
{
	struct ledger_head copy;
	const struct ledger *h = view_ledger(v, &copy);
	uint32_t sockets = 0;

	if (h->magic != LEDGER_MAGIC) {
		breach(l, "the supervisor's ledger has no magic word");
		return;
	}
	for (uint32_t fd = 0; fd < h->fd_max; fd++) {
		uint8_t kind = *(const volatile uint8_t *)&v->ledger->fd[fd].kind;

		sockets += kind == LEDGER_POOL || kind == LEDGER_RESERVED;
	}
	if (sockets != h->relay_sockets)
		breach(l, "the ledger counts %u relay sockets and lists %u", h->relay_sockets, sockets);
	check_conns(v, l, h);
}

static void
take_look(struct view *v, struct look *l)
{
	struct shard shards[SHARDS_MAX];
	unsigned n = 0;

	for (unsigned i = 0; i < v->shard_count; i++)
		if (v->shard[i].region != NULL)
			shards[n++] = v->shard[i];
	if (view_has_cross(v))
		state_audit(&v->cross, shards, n, false, clock_ms(), on_breach, l);
	check_sockets(v, l);
	check_ledger(v, l);
}

/* ---- the command ----------------------------------------------------------------------------- */

static void
keep_common(json_t *first, const json_t *again)
{
	const json_t *value;
	const char *text;
	void *next;

	json_object_foreach_safe(first, next, text, value) if (json_object_get(again, text) == NULL)
	    json_object_del(first, text);
}

static void
text_verify(FILE *f, const json_t *d)
{
	const json_t *x;
	size_t i;

	json_array_foreach(json_object_get(d, "breaches"), i, x) fprintf(f, "%s\n", json_string_value(x));
	if (json_is_true(json_object_get(d, "ok")))
		fprintf(f, "ok: %lld sessions in %lld shards\n",
		    (long long)json_integer_value(json_object_get(d, "sessions")),
		    (long long)json_integer_value(json_object_get(d, "shards")));
}

int
cmd_verify(struct job *j)
{
	const struct timespec pause = { 0, PAUSE_NS };
	struct look first = { json_object() };
	json_t *list = json_array();
	const json_t *value;
	const char *text;
	bool ok;

	if (j->argc != 0) {
		json_decref(first.found);
		json_decref(list);
		return job_say(j, CTL_USAGE, "usage: verify");
	}
	take_look(j->view, &first);
	for (unsigned i = 1; i < LOOKS && json_object_size(first.found) > 0; i++) {
		struct look again = { json_object() };

		nanosleep(&pause, NULL);
		take_look(j->view, &again);
		keep_common(first.found, again.found);
		json_decref(again.found);
	}
	ok = json_object_size(first.found) == 0;
	json_object_foreach(first.found, text, value) json_array_append_new(list, json_string(text));
	json_decref(first.found);
	return job_data(j, ok ? CTL_OK : CTL_REFUSED,
	    json_pack("{s:b, s:I, s:I, s:o}", "ok", ok, "sessions",
		(json_int_t)view_census(j->view, clock_ms(), 0)->total, "shards",
		(json_int_t)j->view->shard_count, "breaches", list),
	    text_verify);
}
