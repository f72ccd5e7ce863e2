/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * cmd_sessions.c: the list of sessions, one session in full, users.
 */
#include "config.h"

#include <stdlib.h>

#include "admin_int.h"

#define LIMIT_DEFAULT 1000
#define LIMIT_MOST    1000000

static const char *
str(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s != NULL && s[0] != '\0' ? s : "-";
}

static long long
num(const json_t *o, const char *key)
{
	return json_integer_value(json_object_get(o, key));
}

/* ---- one ------------------------------------------------------------------------------------------- */

static const char *
transport_name(uint8_t t)
{
	switch ((enum transport)t) {
	case TRANSPORT_UDP:
		return "udp";
	case TRANSPORT_TCP:
		return "tcp";
	case TRANSPORT_TLS:
		return "tls";
	case TRANSPORT_DTLS:
		return "dtls";
	}
	return "unknown";
}

static json_t *
user_data(const char user[SESSION_NAME])
{
	char text[4 * SESSION_NAME + 4];

	return json_string(text_escape(text, sizeof text, user, strnlen(user, SESSION_NAME)));
}

/* As peers see it: behind a NAT by the external address. */
static json_t *
relayed_data(const struct conf *c, const struct session *x)
{
	json_t *list = json_array();
	char text[ADDR_STRLEN];

	for (unsigned i = 0; i < 2; i++) {
		const struct relay_ref *r = &x->relay[i];
		struct addr a = { .family = r->family };

		if (r->family == ADDR_NONE)
			continue;
		if (c != NULL && r->row < c->relay_count)
			a = c->relays[r->row].external.family != ADDR_NONE ? c->relays[r->row].external
									   : c->relays[r->row].addr;
		a.port = r->port;
		json_array_append_new(list, json_string(addr_print(&a, text)));
	}
	return list;
}

static json_int_t
seconds_left(uint32_t expiry, tp_ms now)
{
	uint64_t s = now / 1000;

	return expiry > s ? (json_int_t)(expiry - s) : 0;
}

static json_t *
session_data(const struct view *v, unsigned shard, uint32_t slot, const struct session *x, tp_ms now)
{
	struct session_id id = { .shard = shard, .slot = slot, .gen = x->gen };
	uint64_t second = now / 1000;
	char name[SESSION_ID_LEN], client[ADDR_STRLEN];
	json_t *o;

	session_id_print(&id, name);
	o = json_pack("{s:s, s:o, s:s, s:s, s:o}", "id", name, "user", user_data(x->user_text), "client",
	    addr_print(&x->client, client), "transport", transport_name(x->transport), "relayed",
	    relayed_data(v->conf, x));
	json_object_set_new(
	    o, "age_seconds", json_integer(second > x->created ? (json_int_t)(second - x->created) : 0));
	json_object_set_new(o, "expires_in_seconds", json_integer(seconds_left(x->expiry, now)));
	json_object_set_new(o, "up_bytes", json_integer((json_int_t)x->up_bytes));
	json_object_set_new(o, "up_packets", json_integer(x->up_packets));
	json_object_set_new(o, "down_bytes", json_integer((json_int_t)x->down_bytes));
	json_object_set_new(o, "down_packets", json_integer(x->down_packets));
	json_object_set_new(o, "permissions", json_integer(x->perm_count));
	json_object_set_new(o, "channels", json_integer(x->chan_count));
	return o;
}

struct peers {
	json_t *permissions, *channels;
	tp_ms now;
};

static void
on_peer(void *arg, const struct addr *peer, uint16_t channel, uint32_t expiry)
{
	struct peers *p = arg;
	char text[ADDR_STRLEN], number[8];

	snprintf(number, sizeof number, "0x%04X", channel);
	if (channel == 0)
		json_array_append_new(p->permissions,
		    json_pack("{s:s, s:I}", "peer", addr_print_ip(peer, text), "expires_in_seconds",
			seconds_left(expiry, p->now)));
	else
		json_array_append_new(p->channels,
		    json_pack("{s:s, s:s, s:I}", "number", number, "peer", addr_print(peer, text),
			"expires_in_seconds", seconds_left(expiry, p->now)));
}

static void
text_session(FILE *f, const json_t *d)
{
	const json_t *value;
	const char *key;
	size_t i;

	json_object_foreach((json_t *)d, key, value)
	{
		if (json_is_string(value))
			fprintf(f, "%-20s %s\n", key, json_string_value(value));
		else if (json_is_integer(value))
			fprintf(f, "%-20s %lld\n", key, (long long)json_integer_value(value));
	}
	json_array_foreach(json_object_get(d, "relayed"), i, value)
	    fprintf(f, "%-20s %s\n", "relayed", json_string_value(value));
	json_array_foreach(json_object_get(d, "permission_list"), i, value) fprintf(
	    f, "%-20s %s for %lld s\n", "permission", str(value, "peer"), num(value, "expires_in_seconds"));
	json_array_foreach(json_object_get(d, "channel_list"), i, value)
	    fprintf(f, "%-20s %s to %s for %lld s\n", "channel", str(value, "number"), str(value, "peer"),
		num(value, "expires_in_seconds"));
}

static int
one_session(struct job *j, const struct session_id *id)
{
	struct view *v = j->view;
	struct peers p = { .now = j->now };
	struct session x;
	json_t *o;

	if (id->shard >= v->shard_count || v->shard[id->shard].region == NULL ||
	    !session_read(&v->shard[id->shard], id->slot, &x) || x.gen != id->gen)
		return job_say(j, CTL_REFUSED, "no such session (it may have ended)");
	p.permissions = json_array();
	p.channels = json_array();
	session_each_peer(&v->shard[id->shard], &x, j->now, on_peer, &p);
	o = session_data(v, id->shard, id->slot, &x, j->now);
	json_object_set_new(o, "granted_lifetime_seconds", json_integer(x.lifetime));
	json_object_set_new(o, "client_silent_seconds",
	    json_integer((json_int_t)(j->now / 1000 > x.client_seen ? j->now / 1000 - x.client_seen : 0)));
	json_object_set_new(o, "listener", json_integer(x.listener));
	json_object_set_new(o, "generation", json_integer(x.gen));
	json_object_set_new(o, "permission_list", p.permissions);
	json_object_set_new(o, "channel_list", p.channels);
	return job_data(j, CTL_OK, o, text_session);
}

/* ---- list ------------------------------------------------------------------------------------------ */

struct filter {
	const char *user;   /* NULL: any */
	uint64_t hash;      /* of that user */
	struct addr client; /* family 0: any; port 0: any */
	uint64_t limit;
};

static bool
fits(const struct filter *f, const struct session *x)
{
	if (f->user != NULL && x->user != f->hash)
		return false;
	if (f->client.family == ADDR_NONE)
		return true;
	return f->client.port != 0 ? addr_eq(&f->client, &x->client) : addr_ip_eq(&f->client, &x->client);
}

static json_t *
list_data(struct view *v, const struct filter *f, tp_ms now)
{
	json_t *list = json_array();
	uint64_t found = 0;
	struct session x;

	for (unsigned i = 0; i < v->shard_count; i++) {
		uint32_t high = v->shard[i].region != NULL ? shard_high(&v->shard[i]) : 0;

		for (uint32_t slot = 0; slot < high; slot++) {
			if (!session_read(&v->shard[i], slot, &x) || !fits(f, &x))
				continue;
			if (found++ < f->limit)
				json_array_append_new(list, session_data(v, i, slot, &x, now));
		}
	}
	return json_pack("{s:I, s:o}", "found", (json_int_t)found, "sessions", list);
}

static void
text_list(FILE *f, const json_t *d)
{
	const json_t *x;
	size_t i;

	json_array_foreach(json_object_get(d, "sessions"), i, x)
	{
		const json_t *relayed = json_object_get(x, "relayed");
		const char *first = json_string_value(json_array_get(relayed, 0));
		const char *second = json_string_value(json_array_get(relayed, 1));

		fprintf(f, "%s user %s client %s %s relay %s%s%s up %lld down %lld bytes, %lld s left\n",
		    str(x, "id"), str(x, "user"), str(x, "client"), str(x, "transport"),
		    first != NULL ? first : "-", second != NULL ? " " : "", second != NULL ? second : "",
		    num(x, "up_bytes"), num(x, "down_bytes"), num(x, "expires_in_seconds"));
	}
	if ((size_t)num(d, "found") > json_array_size(json_object_get(d, "sessions")))
		fprintf(f, "%lld in all; more with limit=N\n", num(d, "found"));
	if (num(d, "found") == 0)
		fprintf(f, "no sessions\n");
}

static int
read_filter(struct job *j, struct filter *f)
{
	const struct conf *c = j->view->conf;
	const char *value;

	for (int i = 0; i < j->argc; i++) {
		if ((value = word_value(j->argv[i], "user")) != NULL && value[0] != '\0' &&
		    strlen(value) <= 508)
			f->user = value;
		else if ((value = word_value(j->argv[i], "client")) != NULL &&
		    addr_parse(&f->client, value) == 0)
			continue;
		else if ((value = word_value(j->argv[i], "limit")) != NULL &&
		    word_number(value, LIMIT_MOST, &f->limit) == 0)
			continue;
		else
			return -1;
	}
	/* Without a CROSS region there is no session, and no hash fits. */
	if (f->user != NULL && c != NULL && view_has_cross(j->view))
		f->hash = auth_user_hash(
		    &j->view->cross, c->realm, strlen(c->realm), f->user, strlen(f->user));
	return 0;
}

int
cmd_sessions(struct job *j)
{
	struct filter f = { .limit = LIMIT_DEFAULT };
	struct session_id id;

	if (j->argc == 1 && session_id_parse(&id, j->argv[0]) == 0)
		return one_session(j, &id);
	if (read_filter(j, &f) < 0)
		return job_say(j, CTL_USAGE, "usage: sessions [ID] [user=NAME] [client=ADDRESS] [limit=N]");
	return job_data(j, CTL_OK, list_data(j->view, &f, j->now), text_list);
}

/* ---- users ------------------------------------------------------------------------------------------ */

struct user_row {
	uint64_t user, count, up, down;
	char text[SESSION_NAME];
};
struct user_rows {
	struct user_row *row;
	size_t n, room;
};

static int
by_user(const void *a, const void *b)
{
	const struct user_row *x = a, *y = b;

	return (x->user > y->user) - (x->user < y->user);
}

static int
by_count(const void *a, const void *b)
{
	const struct user_row *x = a, *y = b;

	return (x->count < y->count) - (x->count > y->count);
}

static bool
row_add(struct user_rows *rows, const struct session *x)
{
	if (rows->n == rows->room) {
		size_t room = rows->room == 0 ? 256 : 2 * rows->room;
		struct user_row *grown = realloc(rows->row, room * sizeof *grown);

		if (grown == NULL)
			return false;
		rows->row = grown;
		rows->room = room;
	}
	struct user_row *r = &rows->row[rows->n++];
	*r = (struct user_row){ .user = x->user, .count = 1, .up = x->up_bytes, .down = x->down_bytes };
	memcpy(r->text, x->user_text, sizeof r->text);
	return true;
}

/* A row per session becomes a row per user. */
static void
rows_merge(struct user_rows *rows)
{
	size_t to = 0;

	if (rows->n == 0)
		return;
	qsort(rows->row, rows->n, sizeof rows->row[0], by_user);
	for (size_t i = 1; i < rows->n; i++) {
		if (rows->row[i].user != rows->row[to].user) {
			rows->row[++to] = rows->row[i];
			continue;
		}
		rows->row[to].count++;
		rows->row[to].up += rows->row[i].up;
		rows->row[to].down += rows->row[i].down;
	}
	rows->n = to + 1;
	qsort(rows->row, rows->n, sizeof rows->row[0], by_count);
}

static void
text_users(FILE *f, const json_t *d)
{
	const json_t *x;
	size_t i;

	json_array_foreach(json_object_get(d, "list"), i, x)
	    fprintf(f, "%8lld  %s up %lld down %lld bytes\n", num(x, "sessions"), str(x, "user"),
		num(x, "up_bytes"), num(x, "down_bytes"));
	if ((size_t)num(d, "users") > json_array_size(json_object_get(d, "list")))
		fprintf(f, "%lld users in all; more with limit=N\n", num(d, "users"));
	if (num(d, "users") == 0)
		fprintf(f, "no users\n");
}

static json_t *
rows_data(const struct user_rows *rows, uint64_t limit)
{
	json_t *list = json_array();

	for (size_t i = 0; i < rows->n && i < limit; i++)
		json_array_append_new(list,
		    json_pack("{s:o, s:I, s:I, s:I}", "user", user_data(rows->row[i].text), "sessions",
			(json_int_t)rows->row[i].count, "up_bytes", (json_int_t)rows->row[i].up,
			"down_bytes", (json_int_t)rows->row[i].down));
	return json_pack("{s:I, s:o}", "users", (json_int_t)rows->n, "list", list);
}

int
cmd_users(struct job *j)
{
	const char *value = j->argc == 1 ? word_value(j->argv[0], "limit") : NULL;
	struct view *v = j->view;
	struct user_rows rows = { 0 };
	uint64_t limit = LIMIT_DEFAULT;
	struct session x;
	json_t *data;

	if (j->argc > 1 || (j->argc == 1 && (value == NULL || word_number(value, LIMIT_MOST, &limit) < 0)))
		return job_say(j, CTL_USAGE, "usage: users [limit=N]");
	for (unsigned i = 0; i < v->shard_count; i++) {
		uint32_t high = v->shard[i].region != NULL ? shard_high(&v->shard[i]) : 0;

		for (uint32_t slot = 0; slot < high; slot++)
			if (session_read(&v->shard[i], slot, &x) && !row_add(&rows, &x)) {
				free(rows.row);
				return job_say(j, CTL_REFUSED, "out of memory");
			}
	}
	rows_merge(&rows);
	data = rows_data(&rows, limit);
	free(rows.row);
	return job_data(j, CTL_OK, data, text_users);
}
