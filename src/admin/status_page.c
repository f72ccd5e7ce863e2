/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * status_page.c: the page at / of the metrics port, and the figures that it asks for every two seconds.
 * The page is one file without anything from elsewhere; its policy names its own script and style by
 * their hashes, so that nothing else runs.
 */
#include "config.h"

#include <openssl/evp.h>
#include <sodium.h>

#include "admin_int.h"

/* "sha256-..." of what stands between the two marks. */
static void
hash_of(const char *open, const char *close, char out[64])
{
	const char *from = strstr(status_page, open), *to = from != NULL ? strstr(from, close) : NULL;
	uint8_t sum[32];
	char text[sodium_base64_ENCODED_LEN(sizeof sum, sodium_base64_VARIANT_ORIGINAL)] = "";

	if (to != NULL) {
		from += strlen(open);
		if (EVP_Digest(from, (size_t)(to - from), sum, NULL, EVP_sha256(), NULL) == 1)
			sodium_bin2base64(
			    text, sizeof text, sum, sizeof sum, sodium_base64_VARIANT_ORIGINAL);
	}
	snprintf(out, 64, "sha256-%s", text);
}

const char *
status_page_policy(void)
{
	static char policy[400];
	char script[64], style[64];

	if (policy[0] == '\0') {
		hash_of("<script>", "</script>", script);
		hash_of("<style>", "</style>", style);
		snprintf(policy, sizeof policy,
		    "default-src 'none'; script-src '%s'; style-src '%s'; connect-src 'self'; "
		    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
		    script, style);
	}
	return policy;
}

/* ---- figures --------------------------------------------------------------------------------- */

static uint64_t
total(const struct view *v, unsigned counter)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < SHARDS_MAX; i++)
		if (v->worker[i] != NULL && v->worker[i]->magic == STAT_MAGIC)
			n += view_read(&v->worker[i]->counter[counter]);
	return n;
}

static json_t *
drops_figures(const struct view *v, uint64_t *sum)
{
	json_t *o = json_object();

	for (unsigned d = DROP_NONE + 1; d < DROPS; d++) {
		uint64_t n = 0;

		for (unsigned i = 0; i < SHARDS_MAX; i++)
			if (v->worker[i] != NULL && v->worker[i]->magic == STAT_MAGIC)
				n += view_read(&v->worker[i]->drop[d]);
		json_object_set_new(o, drop_rows[d].label, json_integer((json_int_t)n));
		*sum += n;
	}
	return o;
}

/* What happens to every client in the course of things is no refusal. */
static bool
is_refusal(unsigned reason)
{
	return reason != REASON_NONE && reason != REASON_CHALLENGE && reason != REASON_NONCE_STALE &&
	    reason < REASON_END_CLIENT;
}

static json_t *
refusals_figures(const struct view *v, uint64_t *sum)
{
	json_t *o = json_object();

	for (unsigned r = REASON_NONE + 1; r < REASONS; r++) {
		uint64_t n = total(v, STAT_REASON_NONE + r);

		if (r == REASON_CHALLENGE || r == REASON_NONCE_STALE)
			continue;
		json_object_set_new(o, reason_rows[r].word, json_integer((json_int_t)n));
		if (is_refusal(r))
			*sum += n;
	}
	return o;
}

static json_t *
total_figures(const struct view *v, uint64_t drops, uint64_t refused)
{
	uint64_t packets = total(v, STAT_RELAY_CHANNEL_UP) + total(v, STAT_RELAY_CHANNEL_DOWN) +
	    total(v, STAT_RELAY_IND_UP) + total(v, STAT_RELAY_IND_DOWN);

	return json_pack("{s:I, s:I, s:I, s:I, s:I}", "up_bytes", (json_int_t)total(v, STAT_PEER_TX_BYTES),
	    "down_bytes", (json_int_t)total(v, STAT_PEER_RX_BYTES), "packets", (json_int_t)packets, "drops",
	    (json_int_t)drops, "refused", (json_int_t)refused);
}

static json_t *
process_figures(const struct view *v, const struct ledger_child *c, const struct census *census)
{
	const struct stats *s = stats_of_child(v, c);
	bool runs = s != NULL && s->magic == STAT_MAGIC;
	json_t *o = json_pack("{s:o, s:i, s:s, s:i, s:I, s:I}", "name",
	    json_sprintf("%s %u", proc_role_name(c->role), c->index), "pid", (int)c->pid, "state",
	    child_state_name(c->state), "deaths", (int)c->deaths, "cpu_ms",
	    (json_int_t)(runs ? view_read(&s->counter[STAT_CPU_MS]) : 0), "memory",
	    (json_int_t)(runs ? view_read(&s->counter[STAT_MEMORY]) : 0));
	uint64_t sessions = 0;

	if (c->role != ROLE_WORKER || c->index >= SHARDS_MAX)
		return o;
	for (uint32_t i = c->first_shard; i < SHARDS_MAX && i - c->first_shard < c->shard_count; i++)
		sessions += census->shard[i];
	json_object_set_new(o, "packets_per_second", json_integer((json_int_t)v->rate[c->index]));
	json_object_set_new(o, "sessions", json_integer((json_int_t)sessions));
	return o;
}

json_t *
ports_data(struct view *v, tp_ms now)
{
	struct port_use use[RELAYS_MAX];
	unsigned n = view_ports(v, now, use);
	json_t *list = json_array();
	char text[ADDR_STRLEN];

	for (unsigned i = 0; i < n; i++)
		json_array_append_new(list,
		    json_pack("{s:s, s:i, s:i, s:i, s:i, s:i}", "address",
			addr_print_ip(&use[i].addr, text), "port_min", use[i].low, "port_max", use[i].high,
			"used", (int)use[i].used, "prepared", (int)use[i].prepared, "free",
			(int)use[i].free));
	return list;
}

void
status_page_figures(struct view *v, tp_ms now, FILE *f)
{
	const struct census *census = view_census(v, now, 1000);
	struct ledger_head copy;
	const struct ledger *l = view_ledger(v, &copy);
	json_t *processes = json_array(), *transports = json_object(), *o;
	uint64_t drops = 0, refused = 0;
	json_t *by_drop = drops_figures(v, &drops), *by_reason = refusals_figures(v, &refused);

	for (unsigned i = 0; i < l->child_count; i++)
		json_array_append_new(processes, process_figures(v, &l->child[i], census));
	for (unsigned t = 0; t < CENSUS_TRANSPORTS; t++) {
		uint64_t n = 0;

		for (unsigned a = 0; a < CENSUS_FAMILIES; a++)
			n += census->by[t][a];
		json_object_set_new(transports, census_transports[t], json_integer((json_int_t)n));
	}
	o = json_pack("{s:s, s:I, s:I, s:b, s:b, s:I, s:I}", "version", PACKAGE_VERSION, "time_ms",
	    (json_int_t)now, "uptime_seconds",
	    (json_int_t)(now > l->boot_ms ? (now - l->boot_ms) / 1000 : 0), "ready", l->ready != 0,
	    "draining", l->draining != 0, "config_generation", (json_int_t)l->conf_generation, "sessions",
	    (json_int_t)census->total);
	json_object_set_new(o, "transports", transports);
	json_object_set_new(o, "total", total_figures(v, drops, refused));
	json_object_set_new(o, "processes", processes);
	json_object_set_new(o, "ports", ports_data(v, now));
	json_object_set_new(o, "drops", by_drop);
	json_object_set_new(o, "refusals", by_reason);
	json_object_set_new(o, "warnings", warnings_data(v, l));
	json_dumpf(o, f, JSON_PRESERVE_ORDER);
	json_decref(o);
}
