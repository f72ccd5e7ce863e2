/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * metrics.c: OpenMetrics text, and health.  Every label has a closed set of values.
 */
#include "config.h"

#include "admin_int.h"

#define NAME "turnpike_"

/* Whose counter a row is. */
enum scope { SCOPE_WORKERS, SCOPE_SUPER, SCOPE_AUTHD, SCOPE_TLSDS, SCOPE_ALL };

static enum scope
scope_of(unsigned row)
{
	switch (row) {
	case STAT_CHILD_DEATHS:
	case STAT_CHILD_STARTS:
	case STAT_POOL_SOCKETS:
	case STAT_RELAY_SOCKETS:
		return SCOPE_SUPER;
	case STAT_AUTHD_ANSWERS:
	case STAT_AUTHD_UNKNOWN:
		return SCOPE_AUTHD;
	case STAT_HS_OK_TLS12:
	case STAT_HS_OK_TLS13:
	case STAT_HS_OK_DTLS12:
	case STAT_HS_FAILED_TLS:
	case STAT_HS_FAILED_DTLS:
	case STAT_HS_FAIL_CLOSED:
	case STAT_HS_FAIL_TIMEOUT:
	case STAT_HS_FAIL_CROWDED:
	case STAT_HS_FAIL_ALERT:
	case STAT_HS_FAIL_PROTOCOL:
	case STAT_HS_FAIL_NO_MATCH:
	case STAT_HS_FAIL_INTERNAL:
	case STAT_HS_FAIL_CANCELED:
	case STAT_HS_STRAY:
	case STAT_HS_RESENT:
	case STAT_HS_LOST:
	case STAT_HS_HALF_OPEN:
	case STAT_HS_UNTAKEN:
		return SCOPE_TLSDS;
	case STAT_LOG_LOST:
	case STAT_MSG_BAD:
		return SCOPE_ALL;
	default:
		return SCOPE_WORKERS;
	}
}

/* A worker that once ran: its counters stay, also when there are fewer workers now. */
static bool
has_run(const struct stats *s)
{
	return s != NULL && s->magic == STAT_MAGIC;
}

static void
family(FILE *f, const char *name, const char *type, const char *help)
{
	fprintf(f, "# TYPE " NAME "%s %s\n# HELP " NAME "%s %s.\n", name, type, name, help);
}

static void
sample(FILE *f, const struct stat_row *r, const struct stats *s, unsigned row, const char *whose)
{
	const char *comma = r->labels[0] != '\0' && whose[0] != '\0' ? "," : "";
	bool labels = r->labels[0] != '\0' || whose[0] != '\0';

	fprintf(f, NAME "%s%s%s%s%s%s%s %llu\n", r->metric, r->kind == 'C' ? "_total" : "", labels ? "{" : "", whose, comma,
	    r->labels, labels ? "}" : "", (unsigned long long)view_read(&s->counter[row]));
}

static void
each_sample(const struct stats *const *s, unsigned n, const char *role, FILE *f, unsigned row)
{
	char whose[32];

	for (unsigned i = 0; i < n; i++)
		if (has_run(s[i])) {
			snprintf(whose, sizeof whose, "%s=\"%u\"", role, i);
			sample(f, &stat_rows[row], s[i], row, whose);
		}
}

static void
row_samples(const struct view *v, FILE *f, unsigned row)
{
	enum scope scope = scope_of(row);
	const struct stat_row *r = &stat_rows[row];

	if (scope == SCOPE_WORKERS || scope == SCOPE_ALL)
		each_sample(v->worker, MSG_SHARDS_MAX, "worker", f, row);
	if (scope == SCOPE_TLSDS || scope == SCOPE_ALL)
		each_sample(v->tlsd, MSG_TLSDS_MAX, "tls", f, row);
	if (scope == SCOPE_SUPER && has_run(v->super))
		sample(f, r, v->super, row, "");
	if (scope == SCOPE_AUTHD && has_run(v->authd))
		sample(f, r, v->authd, row, "");
	if (scope != SCOPE_ALL)
		return;
	if (has_run(v->super))
		sample(f, r, v->super, row, "process=\"supervisor\"");
	if (has_run(v->authd))
		sample(f, r, v->authd, row, "process=\"auth\"");
	sample(f, r, v->admin, row, "process=\"admin\"");
}

/* A family's samples stand together, wherever its rows are in the table. */
static void
write_counters(const struct view *v, FILE *f)
{
	for (unsigned i = 0; i < STAT_COUNTERS; i++) {
		bool told = false;

		for (unsigned j = 0; j < i; j++)
			told = told || strcmp(stat_rows[j].metric, stat_rows[i].metric) == 0;
		if (told)
			continue;
		family(f, stat_rows[i].metric, stat_rows[i].kind == 'C' ? "counter" : "gauge", stat_rows[i].help);
		for (unsigned j = i; j < STAT_COUNTERS; j++)
			if (strcmp(stat_rows[j].metric, stat_rows[i].metric) == 0)
				row_samples(v, f, j);
	}
}

static void
write_drops(const struct view *v, FILE *f)
{
	family(f, "drops", "counter", "Datagrams that went no further, by reason");
	for (unsigned i = 0; i < MSG_SHARDS_MAX; i++)
		for (unsigned d = DROP_NONE + 1; has_run(v->worker[i]) && d < DROPS; d++)
			fprintf(f, NAME "drops_total{worker=\"%u\",reason=\"%s\"} %llu\n", i, drop_rows[d].label,
			    (unsigned long long)view_read(&v->worker[i]->drop[d]));
}

static void
one(FILE *f, const char *name, const char *type, const char *help, uint64_t value)
{
	family(f, name, type, help);
	fprintf(f, NAME "%s%s %llu\n", name, strcmp(type, "counter") == 0 ? "_total" : "", (unsigned long long)value);
}

/* Of calls, not of datagrams: their sum is in other counters, so neither sum nor count is told. */
static void
write_hist(const struct view *v, FILE *f, const struct stat_hist *h)
{
	family(f, h->metric, "histogram", h->help);
	for (unsigned i = 0; i < MSG_SHARDS_MAX; i++) {
		uint64_t sum = 0;

		for (unsigned b = 0; has_run(v->worker[i]) && b < STAT_BATCH_BUCKETS; b++) {
			char le[16] = "+Inf";

			sum += view_hist(v->worker[i], h, b);
			if (stat_batch_le(b) != ~0u)
				snprintf(le, sizeof le, "%u.0", stat_batch_le(b));
			fprintf(f, NAME "%s_bucket{worker=\"%u\",le=\"%s\"} %llu\n", h->metric, i, le, (unsigned long long)sum);
		}
	}
}

/* Of the whole network namespace: a relay socket that lost something has no counter of its own. */
static void
write_host(const struct view *v, FILE *f)
{
	struct host_counts c;

	if (!host_counts_read(v->host_fd, &c))
		return;
	one(f, "host_udp_received", "counter", "UDP datagrams that sockets of this host received (InDatagrams)", c.received);
	one(f, "host_udp_receive_buffer_errors", "counter",
	    "UDP datagrams dropped on this host for full receive buffers, of whatever program (RcvbufErrors)", c.receive_errors);
	one(f, "host_udp_send_buffer_errors", "counter",
	    "UDP datagrams not sent on this host for full send buffers (SndbufErrors)", c.send_errors);
	one(f, "host_backlog_drops", "counter",
	    "Packets dropped between device and protocol for a full backlog (softnet_stat)", c.softnet_dropped);
}

static void
write_sessions(struct view *v, tp_ms now, FILE *f)
{
	const struct census *c = view_census(v, now, 1000);

	family(f, "sessions", "gauge", "Live allocations by client transport and relayed address family");
	for (unsigned t = 0; t < CENSUS_TRANSPORTS; t++)
		for (unsigned a = 0; a < CENSUS_FAMILIES; a++)
			fprintf(f, NAME "sessions{transport=\"%s\",family=\"%s\"} %llu\n", census_transports[t],
			    census_families[a], (unsigned long long)c->by[t][a]);
	family(f, "shard_sessions", "gauge", "Live allocations by shard");
	for (unsigned i = 0; i < v->shard_count; i++)
		fprintf(f, NAME "shard_sessions{shard=\"%u\"} %llu\n", i, (unsigned long long)c->shard[i]);
	family(f, "shard_packets", "counter", "Packets received by shard: how evenly clients are spread");
	for (unsigned i = 0; i < v->shard_count; i++)
		fprintf(f, NAME "shard_packets_total{shard=\"%u\"} %llu\n", i, (unsigned long long)view_shard_packets(v, i));
}

static void
write_processes(const struct ledger *l, FILE *f)
{
	family(f, "process_ready", "gauge", "Is this child ready to serve");
	for (unsigned i = 0; i < l->child_count; i++)
		fprintf(f, NAME "process_ready{process=\"%s\",index=\"%u\"} %d\n", proc_role_name(l->child[i].role),
		    l->child[i].index, l->child[i].state == CHILD_READY);
	family(f, "process_starts", "counter", "Starts of this child");
	for (unsigned i = 0; i < l->child_count; i++)
		fprintf(f, NAME "process_starts_total{process=\"%s\",index=\"%u\"} %u\n", proc_role_name(l->child[i].role),
		    l->child[i].index, l->child[i].starts);
	family(f, "process_deaths", "counter", "Ends of this child that nobody asked for");
	for (unsigned i = 0; i < l->child_count; i++)
		fprintf(f, NAME "process_deaths_total{process=\"%s\",index=\"%u\"} %u\n", proc_role_name(l->child[i].role),
		    l->child[i].index, l->child[i].deaths);
}

/* The label is the path in the configuration, escaped as OpenMetrics wants it. */
static void
write_certificates(const struct conf *c, FILE *f)
{
	family(f, "certificate_expiry_timestamp_seconds", "gauge", "When the certificate in this file ends");
	for (uint32_t i = 0; c != NULL && i < c->certificate_count; i++) {
		fputs(NAME "certificate_expiry_timestamp_seconds{certificate=\"", f);
		for (const char *p = c->certificates[i].certificate; *p != '\0'; p++) {
			if (*p == '"' || *p == '\\')
				fputc('\\', f);
			if ((unsigned char)*p >= 0x20 && (unsigned char)*p < 0x7f)
				fputc(*p, f);
			else
				fputc('?', f);
		}
		fprintf(f, "\"} %lld\n", (long long)c->certificates[i].not_after);
	}
}

void
metrics_write(struct view *v, tp_ms now, FILE *f)
{
	struct ledger_head copy;
	const struct ledger *l = view_ledger(v, &copy);

	family(f, "build", "info", "Version");
	fprintf(f, NAME "build_info{version=\"" PACKAGE_VERSION "\"} 1\n");
	one(f, "up", "gauge", "The daemon lives", 1);
	one(f, "ready", "gauge", "Every process is ready", l->ready != 0);
	one(f, "draining", "gauge", "New allocations are refused", l->draining != 0);
	one(f, "uptime_seconds", "gauge", "Since the daemon's first start", (now - l->boot_ms) / 1000);
	one(f, "config_generation", "gauge", "Generation of the configuration", l->conf_generation);
	one(f, "reloads", "counter", "Reloads of the configuration", l->reloads);
	one(f, "reserved_sockets", "gauge", "Relay sockets kept for a RESERVATION-TOKEN", l->reserved_sockets);
	one(f, "log_lines_lost", "counter", "Log lines that the log target did not take", v->target != NULL ? v->target->lost : 0);
	write_certificates(v->conf, f);
	write_sessions(v, now, f);
	write_counters(v, f);
	write_drops(v, f);
	for (unsigned i = 0; i < STAT_HISTS; i++)
		write_hist(v, f, &stat_hists[i]);
	write_host(v, f);
	write_processes(l, f);
	fputs("# EOF\n", f);
}

unsigned
health_write(const struct view *v, bool readiness, FILE *f)
{
	struct ledger_head copy;
	const struct ledger *l = view_ledger(v, &copy);
	const char *why = NULL;

	if (l->magic != LEDGER_MAGIC)
		why = "no supervisor";
	else if (readiness && l->draining)
		why = "draining";
	else if (readiness && !l->ready)
		why = "not every process is ready";
	fprintf(f, "%s\n", why != NULL ? why : "ok");
	return why != NULL ? 503 : 200;
}
