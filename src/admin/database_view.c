/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * database_view.c: the state of each database, as turnpike-auth keeps it beside its counters.
 */
#include "config.h"

#include "admin_int.h"

/* A copy: the region is another process's.  False when there is no such database. */
static bool
read_one(const struct view *v, unsigned i, struct stat_database *d)
{
	if (v->conf == NULL || i >= v->conf->database_count || v->authd == NULL ||
	    v->authd->magic != STAT_MAGIC)
		return false;
	*d = v->authd->database[i];
	d->why[sizeof d->why - 1] = '\0';
	return true;
}

bool
databases_are_up(const struct view *v)
{
	struct stat_database d;

	for (unsigned i = 0; read_one(v, i, &d); i++)
		if (d.up == 0)
			return false;
	return true;
}

json_t *
databases_data(const struct view *v, tp_ms now)
{
	json_t *list = json_array(), *o;
	char why[4 * sizeof((struct stat_database *)0)->why];
	struct stat_database d;

	for (unsigned i = 0; read_one(v, i, &d); i++) {
		o = json_pack("{s:s, s:s, s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "name",
		    v->conf->databases[i].name, "type", conf_database_types[v->conf->databases[i].type],
		    "up", d.up != 0, "since_seconds",
		    (json_int_t)(d.since_ms != 0 && now > d.since_ms ? (now - d.since_ms) / 1000 : 0),
		    "found", (json_int_t)d.found, "absent", (json_int_t)d.absent, "failed",
		    (json_int_t)d.failed, "dropped", (json_int_t)d.dropped, "secrets",
		    (json_int_t)d.secrets, "allowed_ranges", (json_int_t)d.allowed, "denied_ranges",
		    (json_int_t)d.denied, "bad_entries", (json_int_t)d.bad);
		if (d.up == 0)
			json_object_set_new(
			    o, "why", json_string(text_escape(why, sizeof why, d.why, strlen(d.why))));
		json_array_append_new(list, o);
	}
	return list;
}

void
databases_text(FILE *f, const json_t *list)
{
	const json_t *d;
	size_t i;

	if (json_array_size(list) > 0)
		fputs("databases:\n", f);
	json_array_foreach(list, i, d)
	{
		const char *why = json_string_value(json_object_get(d, "why"));

		fprintf(f, "  %s (%s): %s%s%s, %lld found, %lld unknown, %lld failed\n",
		    json_string_value(json_object_get(d, "name")),
		    json_string_value(json_object_get(d, "type")), why == NULL ? "up" : "down",
		    why != NULL ? ": " : "", why != NULL ? why : "",
		    (long long)json_integer_value(json_object_get(d, "found")),
		    (long long)json_integer_value(json_object_get(d, "absent")),
		    (long long)json_integer_value(json_object_get(d, "failed")));
	}
}

void
databases_metrics(const struct page *p)
{
	static const struct {
		const char *result;
		size_t offset;
	} results[] = {
		{ "found", offsetof(struct stat_database, found) },
		{ "unknown", offsetof(struct stat_database, absent) },
		{ "failed", offsetof(struct stat_database, failed) },
		{ "dropped", offsetof(struct stat_database, dropped) },
	};
	const struct view *v = p->v;
	struct stat_database d;
	FILE *f = p->f;

	if (!read_one(v, 0, &d))
		return;
	page_family(p, "database_up", "gauge", "1 when this database of users answers");
	for (unsigned i = 0; read_one(v, i, &d); i++)
		fprintf(
		    f, "turnpike_database_up{database=\"%s\"} %d\n", v->conf->databases[i].name, d.up != 0);
	page_family(p, "database_lookups", "counter", "Questions to this database about a user, by result");
	for (unsigned i = 0; read_one(v, i, &d); i++)
		for (unsigned k = 0; k < TP_COUNT(results); k++)
			fprintf(f, "turnpike_database_lookups_total{database=\"%s\",result=\"%s\"} %llu\n",
			    v->conf->databases[i].name, results[k].result,
			    (unsigned long long)*(
				const uint64_t *)(const void *)((const char *)&d + results[k].offset));
}
