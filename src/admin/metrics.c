/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * metrics.c: the page of metrics, as OpenMetrics or in Prometheus' text format, and health.  Every label
 * has a closed set of values.
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
	case STAT_RELOADS_OK:
	case STAT_RELOADS_FAILED:
	case STAT_RELOAD_GOOD:
	case STAT_RELOAD_TIME:
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
	case STAT_HS_PUT_OFF:
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

void
page_family(const struct page *p, const char *name, const char *type, const char *help)
{
	const char *suffix = "";

	/* The text format names the samples, OpenMetrics the family. */
	if (p->classic && strcmp(type, "counter") == 0)
		suffix = "_total";
	if (p->classic && strcmp(type, "info") == 0) {
		suffix = "_info";
		type = "gauge";
	}
	fprintf(p->f, "# HELP " NAME "%s%s %s.\n# TYPE " NAME "%s%s %s\n", name, suffix, help, name, suffix,
	    type);
}

static void
sample(
    const struct page *p, const struct stat_row *r, const struct stats *s, unsigned row, const char *whose)
{
	const char *comma = r->labels[0] != '\0' && whose[0] != '\0' ? "," : "";
	bool labels = r->labels[0] != '\0' || whose[0] != '\0';

	fprintf(p->f, NAME "%s%s%s%s%s%s%s %llu\n", r->metric, r->kind == 'C' ? "_total" : "",
	    labels ? "{" : "", whose, comma, r->labels, labels ? "}" : "",
	    (unsigned long long)view_read(&s->counter[row]));
}

/* more: further labels, with a comma behind each. */
static void
each_sample(const struct page *p, const struct stats *const *s, unsigned n, const char *more,
    const char *label, unsigned row)
{
	char whose[64];

	for (unsigned i = 0; i < n; i++)
		if (has_run(s[i])) {
			snprintf(whose, sizeof whose, "%s%s=\"%u\"", more, label, i);
			sample(p, &stat_rows[row], s[i], row, whose);
		}
}

/* Of every process: by the labels `process` and `index`, as in process_ready. */
static void
all_samples(const struct page *p, unsigned row)
{
	const struct view *v = p->v;
	const struct stat_row *r = &stat_rows[row];

	each_sample(p, v->worker, SHARDS_MAX, "process=\"worker\",", "index", row);
	each_sample(p, v->tlsd, MSG_TLSDS_MAX, "process=\"tls\",", "index", row);
	if (has_run(v->super))
		sample(p, r, v->super, row, "process=\"supervisor\",index=\"0\"");
	if (has_run(v->authd))
		sample(p, r, v->authd, row, "process=\"auth\",index=\"0\"");
	sample(p, r, v->admin, row, "process=\"admin\",index=\"0\"");
}

static void
row_samples(const struct page *p, unsigned row)
{
	const struct view *v = p->v;

	switch (scope_of(row)) {
	case SCOPE_WORKERS:
		each_sample(p, v->worker, SHARDS_MAX, "", "worker", row);
		break;
	case SCOPE_TLSDS:
		each_sample(p, v->tlsd, MSG_TLSDS_MAX, "", "tls", row);
		break;
	case SCOPE_SUPER:
		if (has_run(v->super))
			sample(p, &stat_rows[row], v->super, row, "");
		break;
	case SCOPE_AUTHD:
		if (has_run(v->authd))
			sample(p, &stat_rows[row], v->authd, row, "");
		break;
	case SCOPE_ALL:
		all_samples(p, row);
		break;
	}
}

/* A family's samples stand together, wherever its rows are in the table. */
static void
write_counters(const struct page *p)
{
	for (unsigned i = 0; i < STAT_COUNTERS; i++) {
		bool told = stat_rows[i].metric[0] == '\0';

		for (unsigned j = 0; j < i && !told; j++)
			told = strcmp(stat_rows[j].metric, stat_rows[i].metric) == 0;
		if (told)
			continue;
		page_family(p, stat_rows[i].metric, stat_rows[i].kind == 'C' ? "counter" : "gauge",
		    stat_rows[i].help);
		for (unsigned j = i; j < STAT_COUNTERS; j++)
			if (strcmp(stat_rows[j].metric, stat_rows[i].metric) == 0)
				row_samples(p, j);
	}
}

static void
write_drops(const struct page *p)
{
	const struct view *v = p->v;

	page_family(p, "drops", "counter",
	    "Datagrams that went no further, by reason; turnpike-metrics(7) explains each");
	for (unsigned i = 0; i < SHARDS_MAX; i++)
		for (unsigned d = DROP_NONE + 1; has_run(v->worker[i]) && d < DROPS; d++)
			fprintf(p->f, NAME "drops_total{worker=\"%u\",reason=\"%s\"} %llu\n", i,
			    drop_rows[d].label, (unsigned long long)view_read(&v->worker[i]->drop[d]));
}

static void
page_one(const struct page *p, const char *name, const char *type, const char *help, uint64_t value)
{
	page_family(p, name, type, help);
	fprintf(p->f, NAME "%s%s %llu\n", name, strcmp(type, "counter") == 0 ? "_total" : "",
	    (unsigned long long)value);
}

static void
write_batches_of(const struct page *p, const struct stat_hist *h, unsigned i)
{
	static const uint64_t middle[STAT_BATCH_BUCKETS] = { 1, 2, 4, 8, 16, 32, 64, 64 };
	uint64_t n = 0, sum = 0;

	for (unsigned b = 0; b < STAT_BATCH_BUCKETS; b++) {
		char le[16] = "+Inf";
		uint64_t k = view_hist(p->v->worker[i], h, b);

		n += k;
		sum += k * middle[b];
		if (stat_batch_le(b) != ~0u)
			snprintf(le, sizeof le, "%u.0", stat_batch_le(b));
		fprintf(p->f, NAME "%s_bucket{worker=\"%u\",le=\"%s\"} %llu\n", h->metric, i, le,
		    (unsigned long long)n);
	}
	fprintf(p->f, NAME "%s_sum{worker=\"%u\"} %llu\n" NAME "%s_count{worker=\"%u\"} %llu\n", h->metric,
	    i, (unsigned long long)sum, h->metric, i, (unsigned long long)n);
}

/* The sum takes each call for the largest of its bucket: datagrams themselves are counted elsewhere. */
static void
write_batches(const struct page *p, const struct stat_hist *h)
{
	page_family(p, h->metric, "histogram", h->help);
	for (unsigned i = 0; i < SHARDS_MAX; i++)
		if (has_run(p->v->worker[i]))
			write_batches_of(p, h, i);
}

/* Of the whole network namespace: a relay socket that lost something has no counter of its own. */
static void
write_host(const struct page *p)
{
	struct host_counts c;

	if (!host_counts_read(p->v->host_fd, &c))
		return;
	page_one(p, "host_udp_received", "counter",
	    "UDP datagrams that sockets of this host received (InDatagrams)", c.received);
	page_one(p, "host_udp_receive_buffer_errors", "counter",
	    "UDP datagrams dropped on this host for full receive buffers, of whatever program (RcvbufErrors)",
	    c.receive_errors);
	page_one(p, "host_udp_send_buffer_errors", "counter",
	    "UDP datagrams not sent on this host for full send buffers (SndbufErrors)", c.send_errors);
	page_one(p, "host_backlog_drops", "counter",
	    "Packets dropped between device and protocol for a full backlog (softnet_stat)",
	    c.softnet_dropped);
}

static void
write_sessions(const struct page *p, tp_ms now)
{
	struct view *v = p->v;
	FILE *f = p->f;
	const struct census *c = view_census(v, now, 1000);

	page_family(
	    p, "sessions", "gauge", "Live allocations by client transport and relayed address family");
	for (unsigned t = 0; t < CENSUS_TRANSPORTS; t++)
		for (unsigned a = 0; a < CENSUS_FAMILIES; a++)
			fprintf(f, NAME "sessions{transport=\"%s\",family=\"%s\"} %llu\n",
			    census_transports[t], census_families[a], (unsigned long long)c->by[t][a]);
	page_family(p, "shard_sessions", "gauge", "Live allocations by shard");
	for (unsigned i = 0; i < v->shard_count; i++)
		fprintf(f, NAME "shard_sessions{shard=\"%u\"} %llu\n", i, (unsigned long long)c->shard[i]);
	page_family(
	    p, "shard_packets", "counter", "Packets received by shard: how evenly clients are spread");
	for (unsigned i = 0; i < v->shard_count; i++)
		fprintf(f, NAME "shard_packets_total{shard=\"%u\"} %llu\n", i,
		    (unsigned long long)view_shard_packets(v, i));
}

/* The label is the path in the configuration, escaped as OpenMetrics wants it. */
static void
write_certificates(const struct page *p)
{
	const struct conf *c = p->v->conf;
	FILE *f = p->f;

	page_family(
	    p, "certificate_expiry_timestamp_seconds", "gauge", "When the certificate in this file ends");
	for (uint32_t i = 0; c != NULL && i < c->certificate_count; i++) {
		fputs(NAME "certificate_expiry_timestamp_seconds{certificate=\"", f);
		for (const char *t = c->certificates[i].certificate; *t != '\0'; t++) {
			if (*t == '"' || *t == '\\')
				fputc('\\', f);
			if ((unsigned char)*t >= 0x20 && (unsigned char)*t < 0x7f)
				fputc(*t, f);
			else
				fputc('?', f);
		}
		fprintf(f, "\"} %lld\n", (long long)c->certificates[i].not_after);
	}
}

void
metrics_write(struct view *v, tp_ms now, bool classic, FILE *f)
{
	const struct page p = { .v = v, .f = f, .classic = classic };
	struct ledger_head copy;
	const struct ledger *l = view_ledger(v, &copy);

	page_family(&p, "build", "info", "The version in a label");
	fprintf(f, NAME "build_info{version=\"" PACKAGE_VERSION "\"} 1\n");
	databases_metrics(&p);
	page_one(&p, "ready", "gauge", "1 when every process is ready", l->ready != 0);
	page_one(&p, "draining", "gauge", "1 while new allocations are refused (turnpikectl drain)",
	    l->draining != 0);
	page_one(&p, "start_time_seconds", "gauge",
	    "When the daemon was first started, Unix time; upgrades do not change it",
	    (uint64_t)clock_unix() - (now - l->boot_ms) / 1000);
	page_one(&p, "config_generation", "gauge",
	    "How many configurations have been in use since the first start", l->conf_generation);
	page_one(&p, "reserved_sockets", "gauge", "Relay sockets kept for a RESERVATION-TOKEN",
	    l->reserved_sockets);
	page_one(&p, "log_lines_lost", "counter", "Log lines that the log target did not take in time",
	    v->target != NULL ? v->target->lost : 0);
	write_certificates(&p);
	write_sessions(&p, now);
	write_counters(&p);
	write_drops(&p);
	for (unsigned i = 0; i < STAT_HISTS; i++)
		write_batches(&p, &stat_hists[i]);
	page_spreads(&p);
	page_ports(&p, now);
	write_host(&p);
	page_processes(&p, l);
	if (v->conf != NULL && v->conf->metrics_coturn_names)
		page_coturn(&p, now);
	if (!classic)
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
	else if (readiness && v->conf != NULL && v->conf->databases_ready && !databases_are_up(v))
		why = "a database of users is down (auth.databases_ready)";
	else if (readiness && v->conf != NULL && v->conf->reload_ready && reload_has_failed(v))
		why = "the last reload failed (process.reload_ready)";
	fprintf(f, "%s\n", why != NULL ? why : "ok");
	return why != NULL ? 503 : 200;
}
