/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * summary.c: ten lines at the start that tell an operator what this server is.
 */
#include "config.h"

#include <errno.h>
#include <pwd.h>
#include <stdio.h>

#include "super_int.h"

static void TP_PRINTF(3, 4) append(char *out, size_t len, const char *fmt, ...)
{
	size_t at = strlen(out);
	va_list ap;

	if (at + 1 >= len)
		return;
	va_start(ap, fmt);
	vsnprintf(out + at, len - at, fmt, ap);
	va_end(ap);
}

/* "udp", "udp+tcp" */
static const char *
transport_text(unsigned mask)
{
	static const char *const names[] = { "udp", "tcp", "tls", "dtls" };
	static char text[32];

	text[0] = '\0';
	for (unsigned i = 0; i < TP_COUNT(names); i++)
		if (mask & 1u << i)
			append(text, sizeof text, "%s%s", text[0] != '\0' ? "+" : "", names[i]);
	return text;
}

static void
listeners(const struct conf *c)
{
	char line[800] = "", a[ADDR_STRLEN];

	for (uint32_t i = 0; i < c->listener_count; i++)
		append(line, sizeof line, "%s%s/%s", i > 0 ? ", " : "",
		    addr_print(&c->listeners[i].addr, a), transport_text(c->listeners[i].transports));
	log_info("listeners: %s", line);
}

static void
relays(const struct conf *c)
{
	char line[800] = "", a[ADDR_STRLEN], e[ADDR_STRLEN];
	unsigned long ports = 0;

	for (uint32_t i = 0; i < c->relay_count; i++) {
		const struct conf_relay *r = &c->relays[i];
		append(line, sizeof line, "%s%s ports %u-%u", i > 0 ? ", " : "", addr_print_ip(&r->addr, a),
		    r->port_min, r->port_max);
		if (r->external.family != ADDR_NONE)
			append(line, sizeof line, " (external %s)", addr_print_ip(&r->external, e));
		ports += r->port_max - r->port_min + 1ul;
	}
	log_info("relay: %s: %lu ports", line, ports);
}

static void
limits(const struct conf *c)
{
	char one[32], user[32], all[32];

	option_print(c, option_find("limits.bandwidth_per_allocation"), one, sizeof one);
	option_print(c, option_find("limits.bandwidth_per_user"), user, sizeof user);
	option_print(c, option_find("limits.bandwidth_total"), all, sizeof all);
	log_info(
	    "limits: allocations %llu per user, %llu per prefix, %llu in total; bandwidth %s, %s, %s per allocation, user, "
	    "in total (0: none); challenges %llu/s, bindings %llu/s per prefix",
	    (unsigned long long)c->allocations_per_user, (unsigned long long)c->allocations_per_prefix,
	    (unsigned long long)c->allocations_total, one, user, all,
	    (unsigned long long)c->challenges_per_prefix, (unsigned long long)c->bindings_per_prefix);
}

#define ROOM_SMALL 1000 /* of connections or relay sockets: fewer than an office needs */

/* Relay sockets and connections are descriptors. */
static void
descriptors(const struct super *s)
{
	const struct windows *w = &s->win;
	unsigned long reserve = windows_reserve(w), all = (w->span - reserve) * (unsigned long)w->shards;

	reserve *= w->shards;
	log_info(
	    "descriptors: room for %lu relay sockets and connections together; %lu more are kept for connections, and of all "
	    "these %lu for relay sockets",
	    all, reserve, reserve);
	if (all < ROOM_SMALL)
		log_warnx(
		    "descriptors: the limit of open files leaves room for %lu allocations, fewer with connections: raise it "
		    "(ulimit -Hn, LimitNOFILE=)",
		    all);
}

static const char *
user_name(uid_t uid)
{
	const struct passwd *pw = getpwuid(uid);

	return pw != NULL ? pw->pw_name : "?";
}

/* The smallest buffer of the UDP listeners, UINT64_MAX when there is none.  The kernel doubles what it
 * grants. */
static uint64_t
smallest(const struct super *s, int option)
{
	uint64_t least = UINT64_MAX;

	for (int fd = (int)s->win.first; fd < (int)s->ledger->fd_max; fd++) {
		int value = 0;
		socklen_t len = sizeof value;

		if (s->ledger->fd[fd].kind != LEDGER_LISTENER || s->ledger->fd[fd].stream)
			continue;
		if (getsockopt(fd, SOL_SOCKET, option, &value, &len) == 0 && (uint64_t)value / 2 < least)
			least = (uint64_t)value / 2;
	}
	return least;
}

static bool
granted(const struct super *s, int option, const char *name, uint64_t wanted, const char *limit)
{
	uint64_t got = smallest(s, option);

	if (got >= wanted)
		return true;
	log_warnx("buffers: %s: %llu of %llu bytes granted per listener: sysctl -w %s=%llu", name,
	    (unsigned long long)got, (unsigned long long)wanted, limit, (unsigned long long)wanted);
	return false;
}

bool
super_buffers(const struct super *s)
{
	bool in = granted(s, SO_RCVBUF, "io.receive_buffer", s->conf.receive_buffer, "net.core.rmem_max");
	bool out = granted(s, SO_SNDBUF, "io.send_buffer", s->conf.send_buffer, "net.core.wmem_max");

	return in && out;
}

static void
buffers(const struct super *s)
{
	if (super_buffers(s))
		log_info("buffers: %llu bytes to receive and %llu to send per listener, as wanted",
		    (unsigned long long)s->conf.receive_buffer, (unsigned long long)s->conf.send_buffer);
}

/* Once for all processes. */
static void
confinement(struct super *s)
{
	int abi = sandbox_landlock_abi();

	if (abi >= 1)
		return;
	s->warnings++;
	log_warnx(
	    "landlock: this kernel or container has none (%s): a process that is taken over is kept from files by its system "
	    "call filter alone, and turnpike-admin by its user alone; boot with lsm=landlock,... or allow landlock_create_ruleset",
	    strerror(abi < 0 ? -abi : ENOSYS));
}

void
super_summary(struct super *s)
{
	const struct conf *c = &s->conf;

	log_info("turnpike " PACKAGE_VERSION ", pid %d, configuration %s", (int)s->ledger->pid,
	    c->file[0] != '\0' ? c->file : "(none: defaults)");
	listeners(c);
	relays(c);
	log_info("credentials: realm %s, %u users, %u secrets", c->realm, c->user_count, c->secret_count);
	log_info("processes: %u workers, %u shards of up to %u sessions, user %s", s->ledger->worker_count,
	    s->ledger->shard_count, s->ledger->slot_max, s->drop ? user_name(s->uid) : "unchanged");
	limits(c);
	if (s->http_fd >= 0)
		log_info("metrics: http://%s:%llu/metrics", c->metrics_address,
		    (unsigned long long)c->metrics_port);
	else
		log_info("metrics: none (metrics.address)");
	descriptors(s);
	super_memory_tell(s);
	buffers(s);
	confinement(s);
	log_info("control: %s/control", s->o->runtime_dir);
	log_info("ready: %u warnings", s->warnings);
}
