/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * cmd_status.c: status, counters.  Each makes data first; the text is written from the data.
 */
#include "config.h"

#include "admin_int.h"

static const char *
str(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s != NULL ? s : "-";
}

static long long
num(const json_t *o, const char *key)
{
	return json_integer_value(json_object_get(o, key));
}

/* ---- status ---------------------------------------------------------------------------------------- */

static json_t *
child_data(const struct view *v, const struct ledger_child *c, const struct census *census, tp_ms now)
{
	json_t *o = json_pack("{s:s, s:i, s:i, s:s, s:I, s:i, s:i, s:i}", "process",
	    proc_role_name(c->role), "index", (int)c->index, "pid", (int)c->pid, "state",
	    child_state_name(c->state), "since_seconds",
	    (json_int_t)(now > c->since_ms ? (now - c->since_ms) / 1000 : 0), "generation",
	    (int)c->generation, "starts", (int)c->starts, "deaths", (int)c->deaths);
	json_t *shards;
	uint64_t sessions = 0;

	if (c->words[0] != '\0') {
		char words[4 * sizeof c->words];

		json_object_set_new(o, "last_words",
		    json_string(text_escape(words, sizeof words, c->words, strlen(c->words))));
	}
	if (c->role != ROLE_WORKER)
		return o;
	shards = json_array();
	for (uint32_t i = c->first_shard; i < SHARDS_MAX && i - c->first_shard < c->shard_count; i++) {
		json_array_append_new(shards, json_integer(i));
		sessions += census->shard[i];
	}
	json_object_set_new(o, "shards", shards);
	json_object_set_new(o, "sessions", json_integer((json_int_t)sessions));
	if (c->index < SHARDS_MAX && v->worker[c->index] != NULL) {
		const struct stats *s = v->worker[c->index];
		char engine[sizeof s->engine + 1] = "";

		memcpy(engine, s->engine, sizeof s->engine);
		json_object_set_new(
		    o, "engine", json_string(engine[0] >= 'a' && engine[0] <= 'z' ? engine : "-"));
		json_object_set_new(o, "cpu", s->cpu >= 0 ? json_integer(s->cpu) : json_null());
		json_object_set_new(o, "numa_node", s->node > 0 ? json_integer(s->node - 1) : json_null());
	}
	json_object_set_new(o, "packets_per_second",
	    json_integer(c->index < SHARDS_MAX ? (json_int_t)v->rate[c->index] : 0));
	return o;
}

static json_t *
listeners_data(const struct conf *c)
{
	static const struct {
		unsigned bit;
		const char *name;
	} transports[] = {
		{ TRANSPORT_UDP, "udp" },
		{ TRANSPORT_TCP, "tcp" },
		{ TRANSPORT_TLS, "tls" },
		{ TRANSPORT_DTLS, "dtls" },
	};
	json_t *list = json_array();
	char text[ADDR_STRLEN];

	for (unsigned i = 0; c != NULL && i < c->listener_count; i++) {
		json_t *names;

		if (c->listeners[i].closed)
			continue;
		names = json_array();
		for (unsigned t = 0; t < TP_COUNT(transports); t++)
			if (c->listeners[i].transports & transports[t].bit)
				json_array_append_new(names, json_string(transports[t].name));
		json_array_append_new(list,
		    json_pack("{s:s, s:o, s:b}", "address", addr_print(&c->listeners[i].addr, text),
			"transports", names, "retired", c->listeners[i].retired != 0));
	}
	return list;
}

static json_t *
relays_data(const struct conf *c)
{
	json_t *list = json_array();
	char text[ADDR_STRLEN];

	for (unsigned i = 0; c != NULL && i < c->relay_count; i++) {
		json_t *o = json_pack("{s:s, s:i, s:i}", "address", addr_print_ip(&c->relays[i].addr, text),
		    "port_min", c->relays[i].port_min, "port_max", c->relays[i].port_max);

		if (c->relays[i].external.family != ADDR_NONE)
			json_object_set_new(
			    o, "external", json_string(addr_print_ip(&c->relays[i].external, text)));
		json_array_append_new(list, o);
	}
	return list;
}

json_t *
warnings_data(const struct view *v, const struct ledger *l)
{
	json_t *list = json_array();

	if (v->conf == NULL)
		json_array_append_new(list, json_string("no configuration was read"));
	else if (v->conf->metrics_address[0] != '\0' && v->start.http_fd < 0)
		json_array_append_new(list, json_string("metrics are configured but not served"));
	for (uint32_t i = 0; v->conf != NULL && i < v->conf->warning_count; i++)
		json_array_append_new(list, json_string(v->conf->warning[i]));
	/* Also a reload by a signal or a changed certificate, whose answer went to no operator. */
	if (reload_has_failed(v))
		json_array_append_new(list,
		    json_string(
			"the last reload failed, and the configuration stays as it was: the log says why"));
	if (v->log_trouble[0] != '\0')
		json_array_append_new(list, json_string(v->log_trouble));
	if (v->target != NULL && v->target->lost > 0)
		json_array_append_new(list,
		    json_sprintf("%llu log lines were not taken by %s", (unsigned long long)v->target->lost,
			v->target->name));
	for (unsigned i = 0; i < l->child_count; i++)
		if (l->child[i].state == CHILD_BACKOFF || l->child[i].state == CHILD_PARKED)
			json_array_append_new(list,
			    json_sprintf("%s %u does not run: %s", proc_role_name(l->child[i].role),
				l->child[i].index, child_state_name(l->child[i].state)));
	return list;
}

bool
reload_has_failed(const struct view *v)
{
	return v->super != NULL && view_read(&v->super->counter[STAT_RELOADS_FAILED]) > 0 &&
	    view_read(&v->super->counter[STAT_RELOAD_GOOD]) == 0;
}

static bool
is_ready(const struct view *v, const struct ledger *l)
{
	return l->ready != 0 && l->magic == LEDGER_MAGIC &&
	    (v->conf == NULL ||
		((!v->conf->databases_ready || databases_are_up(v)) &&
		    (!v->conf->reload_ready || !reload_has_failed(v))));
}

json_t *
status_data(struct view *v, tp_ms now)
{
	const struct census *census = view_census(v, now, 0);
	struct ledger_head copy;
	const struct ledger *l = view_ledger(v, &copy);
	json_t *processes = json_array(), *o;
	uint64_t rate = 0;

	for (unsigned i = 0; i < l->child_count; i++)
		json_array_append_new(processes, child_data(v, &l->child[i], census, now));
	for (unsigned i = 0; i < SHARDS_MAX; i++)
		rate += v->rate[i];
	o = json_pack("{s:s, s:i, s:I, s:b, s:b, s:I, s:I}", "version", PACKAGE_VERSION, "pid", (int)l->pid,
	    "uptime_seconds", (json_int_t)(now > l->boot_ms ? (now - l->boot_ms) / 1000 : 0), "ready",
	    is_ready(v, l), "draining", l->draining != 0, "sessions", (json_int_t)census->total,
	    "packets_per_second", (json_int_t)rate);
	json_object_set_new(o, "config",
	    json_pack("{s:s, s:I, s:I}", "file", v->conf != NULL ? v->conf->file : "", "generation",
		(json_int_t)l->conf_generation, "reloads", (json_int_t)l->reloads));
	json_object_set_new(o, "shards", json_integer(l->shard_count));
	json_object_set_new(o, "workers", json_integer(l->worker_count));
	json_object_set_new(o, "sockets",
	    json_pack("{s:i, s:i, s:i}", "relay", (int)l->relay_sockets, "pool", (int)l->pool_sockets,
		"reserved", (int)l->reserved_sockets));
	json_object_set_new(o, "processes", processes);
	json_object_set_new(o, "listeners", listeners_data(v->conf));
	json_object_set_new(o, "relays", relays_data(v->conf));
	json_object_set_new(o, "databases", databases_data(v, now));
	json_object_set_new(o, "log", json_string(v->target != NULL ? v->target->name : ""));
	json_object_set_new(o, "warnings", warnings_data(v, l));
	return o;
}

static void
text_child(FILE *f, const json_t *p)
{
	const json_t *shards = json_object_get(p, "shards");
	size_t n = json_array_size(shards);

	fprintf(f, "  %s %lld: %s, pid %lld, %lld s", str(p, "process"), num(p, "index"), str(p, "state"),
	    num(p, "pid"), num(p, "since_seconds"));
	if (n > 0)
		fprintf(f, ", shards %lld-%lld", (long long)json_integer_value(json_array_get(shards, 0)),
		    (long long)json_integer_value(json_array_get(shards, n - 1)));
	if (shards != NULL)
		fprintf(f, ", engine %s, %lld sessions, %lld packets/s", str(p, "engine"),
		    num(p, "sessions"), num(p, "packets_per_second"));
	if (json_is_integer(json_object_get(p, "cpu")))
		fprintf(f, ", processor %lld", num(p, "cpu"));
	if (json_is_integer(json_object_get(p, "numa_node")))
		fprintf(f, ", NUMA node %lld", num(p, "numa_node"));
	if (num(p, "deaths") > 0)
		fprintf(f, ", died %lld times (%s)", num(p, "deaths"), str(p, "last_words"));
	fputc('\n', f);
}

static void
text_status(FILE *f, const json_t *d)
{
	const json_t *config = json_object_get(d, "config"), *sockets = json_object_get(d, "sockets"), *x,
		     *t;
	size_t i, k;

	fprintf(f, "turnpike %s: %s, pid %lld, up %lld s\n", str(d, "version"),
	    json_is_true(json_object_get(d, "draining"))    ? "draining"
		: json_is_true(json_object_get(d, "ready")) ? "ready"
							    : "not ready",
	    num(d, "pid"), num(d, "uptime_seconds"));
	fprintf(f, "configuration: %s, generation %lld, %lld reloads\n", str(config, "file"),
	    num(config, "generation"), num(config, "reloads"));
	fprintf(f, "sessions: %lld, %lld packets/s\n", num(d, "sessions"), num(d, "packets_per_second"));
	fprintf(f, "relay sockets: %lld, of these made or kept for workers %lld, reserved %lld\n",
	    num(sockets, "relay"), num(sockets, "pool"), num(sockets, "reserved"));
	fprintf(f, "processes: %lld workers for %lld shards\n", num(d, "workers"), num(d, "shards"));
	json_array_foreach(json_object_get(d, "processes"), i, x) text_child(f, x);
	fputs("listeners:\n", f);
	json_array_foreach(json_object_get(d, "listeners"), i, x)
	{
		fprintf(f, "  %s", str(x, "address"));
		json_array_foreach(json_object_get(x, "transports"), k, t)
		    fprintf(f, " %s", json_string_value(t));
		fputc('\n', f);
	}
	fputs("relays:\n", f);
	json_array_foreach(json_object_get(d, "relays"), i, x)
	    fprintf(f, "  %s ports %lld-%lld%s%s\n", str(x, "address"), num(x, "port_min"),
		num(x, "port_max"), json_object_get(x, "external") != NULL ? " seen as " : "",
		json_object_get(x, "external") != NULL ? str(x, "external") : "");
	databases_text(f, json_object_get(d, "databases"));
	fprintf(f, "log: %s\n", str(d, "log"));
	json_array_foreach(json_object_get(d, "warnings"), i, x)
	    fprintf(f, "warning: %s\n", json_string_value(x));
}

int
cmd_status(struct job *j)
{
	if (j->argc != 0)
		return job_say(j, CTL_USAGE, "usage: status");
	return job_data(j, CTL_OK, status_data(j->view, j->now), text_status);
}

/* ---- counters ---------------------------------------------------------------------------------------- */

static uint64_t
of_one(const struct stats *s, size_t offset)
{
	if (s == NULL || s->magic != STAT_MAGIC)
		return 0;
	return view_read((const uint64_t *)(const void *)((const char *)s + offset));
}

static uint64_t
sum(const struct view *v, size_t offset)
{
	const struct stats *others[] = { v->super, v->authd, v->admin };
	uint64_t n = 0;

	for (unsigned i = 0; i < SHARDS_MAX; i++)
		n += of_one(v->worker[i], offset);
	for (unsigned i = 0; i < MSG_TLSDS_MAX; i++)
		n += of_one(v->tlsd[i], offset);
	for (unsigned i = 0; i < TP_COUNT(others); i++)
		n += of_one(others[i], offset);
	return n;
}

static void
put_counter(json_t *o, bool all, const char *name, const char *labels, uint64_t n)
{
	char key[160];

	if (n == 0 && !all)
		return;
	snprintf(key, sizeof key, "%s%s%s%s", name, labels[0] != '\0' ? "{" : "", labels,
	    labels[0] != '\0' ? "}" : "");
	json_object_set_new(o, key, json_integer((json_int_t)n));
}

/* Not cumulative as in the metrics: read by people.  The label is the largest number of a bucket. */
static void
put_hist(const struct view *v, json_t *o, bool all, const struct stat_hist *h)
{
	char label[32];

	for (unsigned b = 0; b < STAT_BATCH_BUCKETS; b++) {
		if (stat_batch_le(b) == ~0u)
			snprintf(label, sizeof label, "to=\"more\"");
		else
			snprintf(label, sizeof label, "to=\"%u\"", stat_batch_le(b));
		put_counter(o, all, h->metric, label, sum(v, h->offset + b * sizeof(uint64_t)));
	}
}

json_t *
counters_data(const struct view *v, bool all)
{
	json_t *o = json_object();
	char label[64];

	for (unsigned i = 0; i < STAT_COUNTERS; i++)
		if (stat_rows[i].metric[0] != '\0')
			put_counter(o, all, stat_rows[i].metric, stat_rows[i].labels,
			    sum(v, offsetof(struct stats, counter) + i * sizeof(uint64_t)));
	for (unsigned i = DROP_NONE + 1; i < DROPS; i++) {
		snprintf(label, sizeof label, "reason=\"%s\"", drop_rows[i].label);
		put_counter(
		    o, all, "drops", label, sum(v, offsetof(struct stats, drop) + i * sizeof(uint64_t)));
	}
	for (unsigned h = 0; h < STAT_HISTS; h++)
		put_hist(v, o, all, &stat_hists[h]);
	for (unsigned i = 0; i < v->shard_count; i++) {
		snprintf(label, sizeof label, "shard=\"%u\"", i);
		put_counter(o, all, "shard_packets", label, view_shard_packets(v, i));
	}
	return o;
}

static void
text_counters(FILE *f, const json_t *d)
{
	const json_t *value;
	const char *name;

	json_object_foreach((json_t *)d, name, value)
	    fprintf(f, "%16lld  %s\n", (long long)json_integer_value(value), name);
}

int
cmd_counters(struct job *j)
{
	bool all = j->argc == 1 && strcmp(j->argv[0], "all") == 0;

	if (j->argc != 0 && !all)
		return job_say(j, CTL_USAGE, "usage: counters [all]");
	return job_data(j, CTL_OK, counters_data(j->view, all), text_counters);
}
