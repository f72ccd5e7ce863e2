/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * cmd_limits.c: limits: what is configured, which users and prefixes are near to it, what was refused,
 * ports by address.
 */
#include "config.h"

#include <stdlib.h>

#include "admin_int.h"

#define ROWS 20 /* users and prefixes that are shown */

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

/* ---- users and prefixes near a limit
 * ---------------------------------------------------------------------- */

struct holder {
	char name[4 * SESSION_NAME + 4];
	uint64_t count;
};

static int
by_name(const void *a, const void *b)
{
	return strcmp(((const struct holder *)a)->name, ((const struct holder *)b)->name);
}

static int
by_count(const void *a, const void *b)
{
	const struct holder *x = a, *y = b;

	return (x->count < y->count) - (x->count > y->count);
}

/* The address of IPv4, the /64 of IPv6. */
static void
prefix_name(const struct session *x, char *out, size_t size)
{
	char text[ADDR_STRLEN];
	struct addr a = x->client;

	if (a.family == ADDR_V6)
		memset(a.ip + 8, 0, 8);
	snprintf(out, size, "%s%s", addr_print_ip(&a, text), a.family == ADDR_V6 ? "/64" : "");
}

static void
user_name(const struct session *x, char *out, size_t size)
{
	text_escape(out, size, x->user_text, strnlen(x->user_text, sizeof x->user_text));
}

/* A row per session becomes a row per holder, the largest first; how many. */
static size_t
merge(struct holder *h, size_t n)
{
	size_t to = 0;

	if (n == 0)
		return 0;
	qsort(h, n, sizeof *h, by_name);
	for (size_t i = 1; i < n; i++) {
		if (strcmp(h[i].name, h[to].name) == 0)
			h[to].count++;
		else
			h[++to] = h[i];
	}
	qsort(h, to + 1, sizeof *h, by_count);
	return to + 1;
}

/* The ROWS largest holders; near: at 80 % of the limit or more. */
static json_t *
holders_data(const struct view *v, uint64_t total, const char *key, uint64_t limit,
    void (*name)(const struct session *x, char *out, size_t size))
{
	struct holder *h = calloc(total + 1, sizeof *h);
	json_t *list = json_array();
	struct session x;
	size_t n = 0;

	for (unsigned i = 0; h != NULL && i < v->shard_count; i++) {
		uint32_t high = v->shard[i].region != NULL ? shard_high(&v->shard[i]) : 0;

		for (uint32_t slot = 0; slot < high && n < total; slot++)
			if (session_read(&v->shard[i], slot, &x)) {
				name(&x, h[n].name, sizeof h[n].name);
				h[n++].count = 1;
			}
	}
	n = h != NULL ? merge(h, n) : 0;
	for (size_t i = 0; i < n && i < ROWS; i++)
		json_array_append_new(list,
		    json_pack("{s:s, s:I, s:I, s:b}", key, h[i].name, "sessions", (json_int_t)h[i].count,
			"limit", (json_int_t)limit, "near", limit > 0 && h[i].count * 10 >= limit * 8));
	free(h);
	return list;
}

/* ---- limits ---------------------------------------------------------------------------------- */

/* Numbers as numbers: rates in bits per second, sizes in bytes, times in milliseconds. */
static json_t *
limits_data(const struct conf *c)
{
	json_t *o = json_object();

	for (unsigned i = 0; i < option_count; i++) {
		const struct option_row *r = &option_rows[i];
		const char *unit = r->type == OPT_RATE ? "_bits_per_second"
		    : r->type == OPT_SIZE              ? "_bytes"
		    : r->type == OPT_TIME              ? "_milliseconds"
						       : "";
		uint64_t value;
		char key[100];

		if (strncmp(r->path, "limits.", 7) != 0 || r->size != sizeof value)
			continue;
		memcpy(&value, (const char *)c + r->offset, sizeof value);
		snprintf(key, sizeof key, "%s%s", r->path + 7, unit);
		json_object_set_new(
		    o, key, json_integer((json_int_t)(r->type == OPT_RATE ? 8 * value : value)));
	}
	return o;
}

static uint64_t
refused_by(const struct stats *s, unsigned reason)
{
	return s != NULL && s->magic == STAT_MAGIC ? view_read(&s->counter[STAT_REASON_NONE + reason]) : 0;
}

static json_t *
refused_data(const struct view *v)
{
	json_t *o = json_object();

	for (unsigned r = REASON_LIMIT_USER; r <= REASON_MEMORY_LIMIT; r++) {
		uint64_t n = refused_by(v->authd, r);

		for (unsigned i = 0; i < SHARDS_MAX; i++)
			n += refused_by(v->worker[i], r);
		json_object_set_new(o, reason_rows[r].word, json_integer((json_int_t)n));
	}
	return o;
}

static void
text_holders(FILE *f, const json_t *list, const char *what, const char *key)
{
	const json_t *x;
	size_t i;

	json_array_foreach(list, i, x) fprintf(f, "%s %s: %lld sessions%s\n", what, str(x, key),
	    num(x, "sessions"), json_is_true(json_object_get(x, "near")) ? ", near the limit" : "");
}

static void
text_limits(FILE *f, const json_t *d)
{
	const json_t *value;
	const char *name;
	size_t i;

	json_object_foreach(json_object_get(d, "limits"), name, value)
	    fprintf(f, "limits.%-40s %lld%s\n", name, (long long)json_integer_value(value),
		json_integer_value(value) == 0 ? " (no limit)" : "");
	fprintf(f, "%-47s %lld of %lld slots\n", "sessions now", num(d, "sessions"), num(d, "slots"));
	json_array_foreach(json_object_get(d, "ports"), i, value)
	    fprintf(f, "ports of %s: %lld-%lld: %lld used, %lld prepared, %lld free\n",
		str(value, "address"), num(value, "port_min"), num(value, "port_max"), num(value, "used"),
		num(value, "prepared"), num(value, "free"));
	text_holders(f, json_object_get(d, "users"), "user", "user");
	text_holders(f, json_object_get(d, "prefixes"), "client", "prefix");
	json_object_foreach(json_object_get(d, "refused"), name, value) if (json_integer_value(value) > 0)
	    fprintf(f, "refused by %s: %lld\n", name, (long long)json_integer_value(value));
}

int
cmd_limits(struct job *j)
{
	struct view *v = j->view;
	uint64_t total;
	json_t *o;

	if (j->argc != 0)
		return job_say(j, CTL_USAGE, "usage: limits");
	if (v->conf == NULL)
		return job_say(j, CTL_REFUSED, "no configuration");
	total = view_census(v, j->now, 0)->total;
	o = json_pack("{s:o, s:I, s:I, s:o, s:o}", "limits", limits_data(v->conf), "sessions",
	    (json_int_t)total, "slots", (json_int_t)v->shard_count * v->start.slot_max, "ports",
	    ports_data(v, j->now), "refused", refused_data(v));
	json_object_set_new(
	    o, "users", holders_data(v, total, "user", v->conf->allocations_per_user, user_name));
	json_object_set_new(
	    o, "prefixes", holders_data(v, total, "prefix", v->conf->allocations_per_prefix, prefix_name));
	return job_data(j, CTL_OK, o, text_limits);
}
