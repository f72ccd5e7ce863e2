/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * metrics_more.c: the families of the page that are no plain counters: distributions, relay ports,
 * processes, and the names that coturn has for some of it.
 */
#include "config.h"

#include "admin_int.h"

#define NAME "turnpike_"

/* ---- distributions --------------------------------------------------------------------------- */

/* Summed over workers and turnpike-tls processes: each distribution has its writers in one of the two. */
static uint64_t
sum_of(const struct view *v, unsigned counter)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < SHARDS_MAX; i++)
		if (v->worker[i] != NULL && v->worker[i]->magic == STAT_MAGIC)
			n += view_read(&v->worker[i]->counter[counter]);
	for (unsigned i = 0; i < MSG_TLSDS_MAX; i++)
		if (v->tlsd[i] != NULL && v->tlsd[i]->magic == STAT_MAGIC)
			n += view_read(&v->tlsd[i]->counter[counter]);
	return n;
}

static void
write_spread(const struct page *p, const struct spread_row *r)
{
	const char *comma = r->labels[0] != '\0' ? "," : "", *open = r->labels[0] != '\0' ? "{" : "";
	const char *close = r->labels[0] != '\0' ? "}" : "";
	double unit = r->unit == STAT_UNIT_MS ? 1000.0 : 1.0;
	uint64_t n = 0;

	for (unsigned b = 0; b < STAT_H_BUCKETS; b++) {
		char le[24] = "+Inf";

		n += sum_of(p->v, r->first + b);
		if (b < STAT_H_BUCKETS - 1 && r->unit == STAT_UNIT_MS)
			snprintf(le, sizeof le, "%.3f", stat_bounds[r->unit][b] / unit);
		else if (b < STAT_H_BUCKETS - 1)
			snprintf(le, sizeof le, "%u.0", stat_bounds[r->unit][b]);
		fprintf(p->f, NAME "%s_bucket{%s%sle=\"%s\"} %llu\n", r->metric, r->labels, comma, le,
		    (unsigned long long)n);
	}
	fprintf(p->f, NAME "%s_sum%s%s%s %.3f\n", r->metric, open, r->labels, close,
	    (double)sum_of(p->v, r->first + STAT_H_BUCKETS) / unit);
	fprintf(
	    p->f, NAME "%s_count%s%s%s %llu\n", r->metric, open, r->labels, close, (unsigned long long)n);
}

void
page_spreads(const struct page *p)
{
	for (unsigned i = 0; i < SPREADS; i++) {
		if (i == 0 || strcmp(spread_rows[i].metric, spread_rows[i - 1].metric) != 0)
			page_family(p, spread_rows[i].metric, "histogram", spread_rows[i].help);
		write_spread(p, &spread_rows[i]);
	}
}

/* ---- relay ports ----------------------------------------------------------------------------- */

void
page_ports(const struct page *p, tp_ms now)
{
	struct port_use use[RELAYS_MAX];
	unsigned n = view_ports(p->v, now, use);
	char address[ADDR_STRLEN];

	page_family(p, "relay_ports", "gauge",
	    "Ports of relay.ports by relay address: used by an allocation, prepared for the next ones, free");
	for (unsigned i = 0; i < n; i++) {
		addr_print_ip(&use[i].addr, address);
		fprintf(p->f, NAME "relay_ports{address=\"%s\",state=\"used\"} %u\n", address, use[i].used);
		fprintf(p->f, NAME "relay_ports{address=\"%s\",state=\"prepared\"} %u\n", address,
		    use[i].prepared);
		fprintf(p->f, NAME "relay_ports{address=\"%s\",state=\"free\"} %u\n", address, use[i].free);
	}
}

/* ---- processes ------------------------------------------------------------------------------- */

/* The counters of a child; NULL: none. */
const struct stats *
stats_of_child(const struct view *v, const struct ledger_child *c)
{
	switch (c->role) {
	case ROLE_WORKER:
		return c->index < SHARDS_MAX ? v->worker[c->index] : NULL;
	case ROLE_TLSD:
		return c->index < MSG_TLSDS_MAX ? v->tlsd[c->index] : NULL;
	case ROLE_AUTHD:
		return v->authd;
	case ROLE_ADMIN:
		return v->admin;
	default:
		return NULL;
	}
}

static void
write_usage(const struct page *p, const struct ledger *l, bool memory)
{
	for (unsigned i = 0; i <= l->child_count; i++) {
		const struct ledger_child *c = &l->child[i];
		const struct stats *s = i < l->child_count ? stats_of_child(p->v, c) : p->v->super;
		const char *name = i < l->child_count ? proc_role_name(c->role) : "supervisor";
		unsigned index = i < l->child_count ? c->index : 0;

		if (s == NULL || s->magic != STAT_MAGIC)
			continue;
		if (memory)
			fprintf(p->f,
			    NAME "process_resident_memory_bytes{process=\"%s\",index=\"%u\"} %llu\n", name,
			    index, (unsigned long long)view_read(&s->counter[STAT_MEMORY]));
		else
			fprintf(p->f, NAME "process_cpu_seconds_total{process=\"%s\",index=\"%u\"} %.3f\n",
			    name, index, (double)view_read(&s->counter[STAT_CPU_MS]) / 1000);
	}
}

void
page_processes(const struct page *p, const struct ledger *l)
{
	page_family(p, "process_ready", "gauge", "1 when this child is ready to serve");
	for (unsigned i = 0; i < l->child_count; i++)
		fprintf(p->f, NAME "process_ready{process=\"%s\",index=\"%u\"} %d\n",
		    proc_role_name(l->child[i].role), l->child[i].index, l->child[i].state == CHILD_READY);
	page_family(p, "process_starts", "counter",
	    "Starts of this child, by restart-workers, reloads and upgrades as well");
	for (unsigned i = 0; i < l->child_count; i++)
		fprintf(p->f, NAME "process_starts_total{process=\"%s\",index=\"%u\"} %u\n",
		    proc_role_name(l->child[i].role), l->child[i].index, l->child[i].starts);
	page_family(
	    p, "process_deaths", "counter", "Ends of this child that nothing asked for: crashes and kills");
	for (unsigned i = 0; i < l->child_count; i++)
		fprintf(p->f, NAME "process_deaths_total{process=\"%s\",index=\"%u\"} %u\n",
		    proc_role_name(l->child[i].role), l->child[i].index, l->child[i].deaths);
	page_family(p, "process_cpu_seconds", "counter",
	    "Processor time that the process of this place has used since its start");
	write_usage(p, l, false);
	page_family(
	    p, "process_resident_memory_bytes", "gauge", "Memory of the process, shared regions included");
	write_usage(p, l, true);
}

/* ---- coturn's names -------------------------------------------------------------------------- */

static void
coturn(const struct page *p, const char *name, unsigned counter, const char *help)
{
	/* coturn's counters have no _total, which OpenMetrics demands: gauges there. */
	fprintf(p->f, "# HELP %s %s.\n# TYPE %s %s\n%s %llu\n", name, help, name,
	    p->classic ? "counter" : "gauge", name, (unsigned long long)sum_of(p->v, counter));
}

/* Dashboards made for coturn go on; its labels `realm` and `user` are not there. */
void
page_coturn(const struct page *p, tp_ms now)
{
	const struct census *c = view_census(p->v, now, 1000);

	fprintf(p->f,
	    "# HELP turn_total_allocations Live allocations, as coturn names it.\n"
	    "# TYPE turn_total_allocations gauge\n");
	for (unsigned t = 0; t < CENSUS_TRANSPORTS; t++) {
		static const char *const names[CENSUS_TRANSPORTS] = { "UDP", "TCP", "TLS/TCP", "DTLS" };
		uint64_t n = 0;

		for (unsigned a = 0; a < CENSUS_FAMILIES; a++)
			n += c->by[t][a];
		fprintf(
		    p->f, "turn_total_allocations{type=\"%s\"} %llu\n", names[t], (unsigned long long)n);
	}
	coturn(p, "turn_total_traffic_rcvp", STAT_CLIENT_RX_PACKETS,
	    "Packets from clients, as coturn names it");
	coturn(
	    p, "turn_total_traffic_rcvb", STAT_CLIENT_RX_BYTES, "Bytes from clients, as coturn names it");
	coturn(p, "turn_total_traffic_sentp", STAT_CLIENT_TX_PACKETS,
	    "Packets to clients, as coturn names it");
	coturn(p, "turn_total_traffic_sentb", STAT_CLIENT_TX_BYTES, "Bytes to clients, as coturn names it");
	coturn(p, "turn_total_traffic_peer_rcvp", STAT_PEER_RX_PACKETS,
	    "Packets from peers, as coturn names it");
	coturn(
	    p, "turn_total_traffic_peer_rcvb", STAT_PEER_RX_BYTES, "Bytes from peers, as coturn names it");
	coturn(p, "turn_total_traffic_peer_sentp", STAT_PEER_TX_PACKETS,
	    "Packets to peers, as coturn names it");
	coturn(
	    p, "turn_total_traffic_peer_sentb", STAT_PEER_TX_BYTES, "Bytes to peers, as coturn names it");
	coturn(p, "stun_binding_request", STAT_REQ_BINDING, "Binding requests, as coturn names it");
	coturn(p, "stun_binding_response", STAT_OK_BINDING, "Binding answers, as coturn names it");
}
