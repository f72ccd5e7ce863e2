/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_host.c: buffers, descriptors, engine, processors, clock: functions of the facts.
 */
#include "config.h"

#include <stdarg.h>

#include "tp/doctor.h"

#define MS_NETDEV    20 /* a softirq that is kept from running this long loses nothing */
#define MS_ROUND     2  /* netdev_budget_usecs: the other end of a round */
#define SENDS        3u /* merged ones that may be on their way through a slow device */
#define SEND_BYTES   65536u
#define PAGE         4096u
#define FILES_BESIDE 4096    /* of the host, for everything else */
#define FILES_OWN    1024    /* of one process: regions, channels, listeners */
#define FILES_MOST   1048576 /* what the supervisor's table has */

struct doctor_finding *
doctor_put(struct doctor_report *r, enum doctor_level level, const char *name)
{
	struct doctor_finding *f = &r->f[r->count < DOCTOR_FINDINGS ? r->count++ : DOCTOR_FINDINGS - 1];

	memset(f, 0, sizeof *f);
	f->level = level;
	text_copy(f->name, sizeof f->name, name);
	return f;
}

void
doctor_text(char out[DOCTOR_TEXT], const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(out, DOCTOR_TEXT, fmt, ap);
	va_end(ap);
}

uint64_t
doctor_buffer(const struct doctor_load *l)
{
	return l->rate * l->stall_ms / 1000 * DOCTOR_TRUESIZE;
}

uint64_t
doctor_ports(const struct conf *c)
{
	uint64_t n = 0;

	for (uint32_t i = 0; i < c->relay_count; i++)
		if (!c->relays[i].retired)
			n += (uint64_t)(c->relays[i].port_max - c->relays[i].port_min) + 1;
	return c->allocations_total != 0 && c->allocations_total < n ? c->allocations_total : n;
}

uint64_t
doctor_files(const struct conf *c, unsigned shards)
{
	uint64_t n = doctor_ports(c) + FILES_OWN + (uint64_t)shards * (64 + c->listener_count);

	return n < FILES_MOST ? n : FILES_MOST;
}

/* ---- buffers --------------------------------------------------------------------------------- */

static void
judge_size(struct doctor_report *r, const struct doctor_case *c)
{
	uint64_t need = doctor_buffer(&c->load), has = c->conf->receive_buffer;
	struct doctor_finding *f = doctor_put(
	    r, has >= need ? DOCTOR_OK : DOCTOR_WARNING, "io.receive_buffer");

	doctor_text(f->is, "%llu bytes hold %llu datagrams: %llu ms at %llu a second",
	    (unsigned long long)has, (unsigned long long)(has / DOCTOR_TRUESIZE),
	    (unsigned long long)(has / DOCTOR_TRUESIZE * 1000 / c->load.rate),
	    (unsigned long long)c->load.rate);
	doctor_text(f->should, "%llu/s x %llu ms x %u bytes (truesize %u, doubled by the kernel) = %llu",
	    (unsigned long long)c->load.rate, (unsigned long long)c->load.stall_ms, DOCTOR_TRUESIZE,
	    2 * DOCTOR_TRUESIZE, (unsigned long long)need);
	if (f->level != DOCTOR_OK)
		doctor_text(f->set, "io: { receive_buffer: %lluMiB }",
		    (unsigned long long)((need + 1048575) / 1048576));
}

/* The finding of a number; NULL, and it is said, when it is not visible here. */
static struct doctor_finding *
number(struct doctor_report *r, const char *name, int64_t is)
{
	struct doctor_finding *f = doctor_put(r, DOCTOR_OK, name);

	if (is != UNKNOWN) {
		doctor_text(f->is, "%lld", (long long)is);
		return f;
	}
	f->level = DOCTOR_NOTE;
	doctor_text(f->is, "not visible here (a network namespace of its own?)");
	return NULL;
}

static void
judge_max(struct doctor_report *r, const struct doctor_case *c, const char *name, const char *option,
    int64_t max, uint64_t asked)
{
	struct doctor_finding *f = number(r, name, max);

	if (f == NULL)
		return;
	doctor_text(f->should, "at least %llu (%s)", (unsigned long long)asked, option);
	if ((uint64_t)max >= asked)
		return;
	if (c->host->force) {
		doctor_text(f->should,
		    "at least %llu (%s), but turnpiked passes this limit by CAP_NET_ADMIN",
		    (unsigned long long)asked, option);
		return;
	}
	f->level = DOCTOR_WARNING;
	doctor_text(f->should,
	    "at least %llu (%s): without CAP_NET_ADMIN the buffer is cut to %lld, %lld ms at %llu datagrams a "
	    "second",
	    (unsigned long long)asked, option, (long long)max,
	    (long long)((uint64_t)max / DOCTOR_TRUESIZE * 1000 / c->load.rate),
	    (unsigned long long)c->load.rate);
	doctor_text(f->set, "sysctl -w %s=%llu", name, (unsigned long long)asked);
}

/* A value that is at least as large as needed. */
static void
judge_least(struct doctor_report *r, const char *name, int64_t is, uint64_t need, const char *why)
{
	struct doctor_finding *f = number(r, name, is);

	if (f == NULL)
		return;
	doctor_text(f->should, "at least %llu (%s)", (unsigned long long)need, why);
	if ((uint64_t)is >= need)
		return;
	f->level = DOCTOR_WARNING;
	doctor_text(f->set, "sysctl -w %s=%llu", name, (unsigned long long)need);
}

static void
judge_lost(struct doctor_report *r, const char *name, int64_t lost, int64_t of, const char *what)
{
	struct doctor_finding *f = number(r, name, lost);

	if (f == NULL)
		return;
	if (of > 0)
		doctor_text(f->is, "%lld of %lld datagrams", (long long)lost, (long long)(of + lost));
	/* One in ten thousand: less than any network loses. */
	if (lost == 0 || (of > 0 && lost <= of / 10000))
		return;
	f->level = DOCTOR_WARNING;
	doctor_text(f->should, "%s", what);
}

static unsigned
shards_of(const struct doctor_case *c)
{
	uint64_t processors = (uint64_t)c->host->processors, workers = c->conf->workers;

	if (c->daemon->running)
		return c->daemon->shards;
	return (unsigned)(c->conf->shards != 0 ? c->conf->shards
		: workers > processors         ? workers
					       : processors);
}

/* Of all UDP sockets together, in pages: the third of three numbers. */
static void
judge_memory(struct doctor_report *r, const struct doctor_case *c)
{
	const struct conf *conf = c->conf;
	uint64_t n = 0, need;
	char why[160];
	struct doctor_finding *f;

	for (uint32_t i = 0; i < conf->listener_count; i++)
		n += !conf->listeners[i].retired &&
		    (conf->listeners[i].transports & (TRANSPORT_UDP | TRANSPORT_DTLS)) != 0;
	n *= shards_of(c);
	need = (n * 2 * conf->receive_buffer + PAGE - 1) / PAGE;
	snprintf(why, sizeof why, "third number, pages: %llu listener sockets x 2 x %llu bytes / %u",
	    (unsigned long long)n, (unsigned long long)conf->receive_buffer, PAGE);
	judge_least(r, "net.ipv4.udp_mem", c->host->udp_mem, need, why);
	f = &r->f[r->count - 1];
	if (f->level == DOCTOR_WARNING)
		doctor_text(f->set, "sysctl -w net.ipv4.udp_mem=\"%llu %llu %llu\"",
		    (unsigned long long)need / 2, (unsigned long long)need / 4 * 3,
		    (unsigned long long)need);
}

/* Between device and protocol. */
static void
judge_device(struct doctor_report *r, const struct doctor_case *c)
{
	char why[160];

	snprintf(why, sizeof why, "%llu/s x %u ms", (unsigned long long)c->load.rate, MS_NETDEV);
	judge_least(r, "net.core.netdev_max_backlog", c->host->netdev_max_backlog,
	    c->load.rate * MS_NETDEV / 1000, why);
	snprintf(why, sizeof why, "%llu/s x %u ms, one round of a softirq",
	    (unsigned long long)c->load.rate, MS_ROUND);
	judge_least(
	    r, "net.core.netdev_budget", c->host->netdev_budget, c->load.rate * MS_ROUND / 1000, why);
	snprintf(why, sizeof why, "%u merged sends of %u bytes on a relay socket", SENDS, SEND_BYTES);
	judge_least(r, "net.core.wmem_default", c->host->wmem_default, SENDS * SEND_BYTES, why);
}

void
doctor_judge_buffers(struct doctor_report *r, const struct doctor_case *c)
{
	const struct conf *conf = c->conf;
	const struct doctor_host *h = c->host;
	bool relay = conf->relay_receive_buffer > conf->receive_buffer;
	bool streams = false;

	judge_size(r, c);
	judge_max(r, c, "net.core.rmem_max", relay ? "io.relay_receive_buffer" : "io.receive_buffer",
	    h->rmem_max, relay ? conf->relay_receive_buffer : conf->receive_buffer);
	judge_max(r, c, "net.core.wmem_max", "io.send_buffer", h->wmem_max, conf->send_buffer);
	judge_memory(r, c);
	judge_device(r, c);
	for (uint32_t i = 0; i < conf->listener_count; i++)
		streams |= !conf->listeners[i].retired &&
		    (conf->listeners[i].transports & TRANSPORT_STREAMS) != 0;
	if (streams)
		judge_least(r, "net.core.somaxconn", h->somaxconn, conf->backlog, "io.backlog");
	judge_lost(r, "UdpRcvbufErrors", h->receive_errors, h->received,
	    "about 0: sockets of this host, not only Turnpike's, had full receive buffers since boot");
	judge_lost(r, "softnet drops", h->softnet_dropped, 0,
	    "0: queues between device and protocol were full since boot (net.core.netdev_max_backlog)");
	if (c->daemon->running)
		judge_lost(r, "listener_drops", (int64_t)c->daemon->listener_drops, h->received,
		    "about 0: a larger io.receive_buffer, or more workers");
}

/* ---- the process ----------------------------------------------------------------------------- */

static void
judge_files(struct doctor_report *r, const struct doctor_case *c, unsigned shards)
{
	uint64_t ports = doctor_ports(c->conf), need = doctor_files(c->conf, shards);
	struct doctor_finding *f = doctor_put(r, DOCTOR_OK, "RLIMIT_NOFILE");
	char why[160];

	doctor_text(f->is, "%lld%s", (long long)c->host->files, c->daemon->running ? "" : " in this shell");
	doctor_text(f->should, "at least %llu: %llu relayed ports, %u shards, listeners",
	    (unsigned long long)need, (unsigned long long)ports, shards);
	if (c->host->files == UNKNOWN) {
		f->level = DOCTOR_NOTE;
		doctor_text(f->is, "not visible here");
	} else if ((uint64_t)c->host->files < need) {
		f->level = DOCTOR_WARNING;
		doctor_text(f->set, "ulimit -Hn %llu before the start, or LimitNOFILE=%llu in the unit",
		    (unsigned long long)need, (unsigned long long)need);
	}
	judge_least(r, "fs.nr_open", c->host->nr_open, need, "no process can have more");
	snprintf(why, sizeof why, "2 x %llu ports, and the rest of the host", (unsigned long long)ports);
	judge_least(r, "fs.file-max", c->host->file_max, 2 * ports + FILES_BESIDE, why);
}

static void
judge_engine(struct doctor_report *r, const struct doctor_case *c)
{
	static const char *const names[] = { "auto", "plain", "mmsg", "gso" };
	const struct doctor_daemon *d = c->daemon;
	struct doctor_finding *f = doctor_put(r, DOCTOR_OK, "io.engine");
	const char *best = c->host->gso ? "gso" : "mmsg";
	bool fixed = c->conf->engine != CONF_ENGINE_AUTO && c->conf->engine < TP_COUNT(names);

	doctor_text(f->is, "%s; the kernel has %s",
	    names[c->conf->engine < TP_COUNT(names) ? c->conf->engine : 0],
	    c->host->gso ? "UDP_GRO and UDP_SEGMENT" : "no UDP_GRO and UDP_SEGMENT (Linux 5.0)");
	for (unsigned i = 0; d->running && i < d->workers; i++)
		if (i == 0 || strcmp(d->worker[i].engine, d->worker[0].engine) != 0)
			doctor_text(f->is, "%.40s%s; worker %u uses %s",
			    names[c->conf->engine < TP_COUNT(names) ? c->conf->engine : 0],
			    c->host->gso ? "; the kernel has GRO and GSO" : "; the kernel has no GSO", i,
			    d->worker[i].engine);
	if (!c->host->gso && c->conf->engine == CONF_ENGINE_GSO) {
		f->level = DOCTOR_BAD;
		doctor_text(f->set, "io: { engine: auto }");
	} else if (!c->host->gso) {
		f->level = DOCTOR_WARNING;
		doctor_text(
		    f->should, "a kernel with UDP_SEGMENT and UDP_GRO sends runs of datagrams in one call");
	} else if (fixed && strcmp(names[c->conf->engine], best) != 0) {
		f->level = DOCTOR_WARNING;
		doctor_text(f->should, "auto, which takes %s here", best);
		doctor_text(f->set, "io: { engine: auto }");
	}
}

static void
judge_processors(struct doctor_report *r, const struct doctor_case *c, unsigned shards)
{
	unsigned workers = c->daemon->running ? c->daemon->workers
	    : c->conf->workers != 0           ? (unsigned)c->conf->workers
					      : (unsigned)c->host->processors,
		 n = 0, missing = 0;
	struct doctor_finding *f = doctor_put(r, DOCTOR_OK, "io.cpu_affinity");
	uint16_t list[CONF_CPUS_MAX];

	doctor_text(f->is, "%s: %u workers, %u shards, %lld processors", c->conf->cpu_affinity, workers,
	    shards, (long long)c->host->processors);
	if (conf_cpus(c->conf->cpu_affinity, list, &n))
		for (unsigned i = 0; i < n; i++)
			missing += list[i] >= c->host->processors;
	if (missing > 0) {
		f->level = DOCTOR_BAD;
		doctor_text(f->should, "processors below %lld: %u of the list are not there",
		    (long long)c->host->processors, missing);
		doctor_text(f->set, "io: { cpu_affinity: auto }");
	} else if (workers > c->host->processors) {
		f->level = DOCTOR_WARNING;
		doctor_text(f->should, "at most one worker a processor: more of them only take turns");
		doctor_text(f->set, "process: { workers: auto }");
	} else if (c->host->nodes > 1 && strcmp(c->conf->cpu_affinity, "none") == 0) {
		f->level = DOCTOR_WARNING;
		doctor_text(f->should,
		    "auto or a list: this host has %lld NUMA nodes, and a worker that changes node leaves its "
		    "memory behind",
		    (long long)c->host->nodes);
		doctor_text(f->set, "io: { cpu_affinity: auto }");
	}
}

static void
judge_clock(struct doctor_report *r, const struct doctor_case *c)
{
	const char *source = c->host->clocksource;
	struct doctor_finding *f = doctor_put(r, DOCTOR_OK, "clock");

	doctor_text(f->is, "%ssynchronised", c->host->clock_synchronised ? "" : "not ");
	if (c->host->now < 1704067200) { /* 2024 */
		f->level = DOCTOR_BAD;
		doctor_text(f->should,
		    "the present: by this clock all time-limited credentials and certificates are in the future");
	} else if (!c->host->clock_synchronised) {
		f->level = DOCTOR_WARNING;
		doctor_text(f->should,
		    "synchronised: time-limited credentials (TURN REST) and certificates are judged by it");
		doctor_text(f->set, "timedatectl set-ntp true, or install chrony");
	}
	f = doctor_put(r, source[0] != '\0' ? DOCTOR_OK : DOCTOR_NOTE, "clocksource");
	doctor_text(f->is, "%s", source[0] != '\0' ? source : "not visible here");
	if (strcmp(source, "hpet") == 0 || strcmp(source, "acpi_pm") == 0) {
		f->level = DOCTOR_WARNING;
		doctor_text(f->should,
		    "tsc or the hypervisor's: with this one each look at the clock is a system call");
	}
}

void
doctor_judge_process(struct doctor_report *r, const struct doctor_case *c)
{
	unsigned shards = shards_of(c);

	judge_files(r, c, shards);
	judge_engine(r, c);
	judge_processors(r, c, shards);
	judge_clock(r, c);
	if (!c->host->reuseport)
		doctor_text(doctor_put(r, DOCTOR_BAD, "SO_REUSEPORT")->is,
		    "not permitted: each shard needs a listener of its own");
	else
		doctor_text(doctor_put(r, DOCTOR_OK, "SO_REUSEPORT")->is, "there");
}
