/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * host_facts.c: what the kernel says about itself.  What cannot be read is UNKNOWN, never a guess.
 */
#include "config.h"

#include <limits.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timex.h>
#include <time.h>
#include <unistd.h>

#include "tp/doctor.h"
#include "tp/io.h"

#define CAP_NET_ADMIN_BIT 12

static FILE *
open_below(const char *root, const char *name)
{
	char path[PATH_MAX];

	snprintf(path, sizeof path, "%s%s", root, name);
	return fopen(path, "re");
}

static bool
read_line(const char *root, const char *name, char *out, size_t len)
{
	FILE *f = open_below(root, name);
	bool ok = f != NULL && fgets(out, (int)len, f) != NULL;

	if (ok)
		out[strcspn(out, "\n")] = '\0';
	if (f != NULL)
		fclose(f);
	return ok;
}

static int64_t
read_number(const char *root, const char *name)
{
	char line[64];
	long long v;

	return read_line(root, name, line, sizeof line) && sscanf(line, "%lld", &v) == 1 ? v : UNKNOWN;
}

static int64_t
read_third(const char *root, const char *name)
{
	char line[128];
	long long v;

	return read_line(root, name, line, sizeof line) && sscanf(line, "%*d %*d %lld", &v) == 1 ? v
												 : UNKNOWN;
}

/* "8080,9148-9150" */
static void
read_reserved(struct doctor_host *h, const char *root)
{
	char line[4096], *p = line;

	if (!read_line(root, "/proc/sys/net/ipv4/ip_local_reserved_ports", line, sizeof line))
		return;
	for (char *one; (one = strsep(&p, ",")) != NULL;) {
		unsigned low, high;
		int n = sscanf(one, "%u-%u", &low, &high);

		if (n == 1)
			high = low;
		for (unsigned port = low; n >= 1 && port <= high && port < 65536; port++)
			h->reserved[port / 8] |= (uint8_t)(1u << port % 8);
	}
}

static void
read_range(struct doctor_host *h, const char *root)
{
	char line[64];
	long long low, high;

	h->port_low = h->port_high = UNKNOWN;
	if (read_line(root, "/proc/sys/net/ipv4/ip_local_port_range", line, sizeof line) &&
	    sscanf(line, "%lld %lld", &low, &high) == 2) {
		h->port_low = low;
		h->port_high = high;
	}
}

/* /proc/net/snmp has a line of names and one of numbers; snmp6 has one line each. */
static void
read_udp(struct doctor_host *h, const char *root)
{
	char names[512], values[512], *n = names, *v = values, *name, *value;
	FILE *f = open_below(root, "/proc/net/snmp");
	long long x;

	h->received = h->receive_errors = f != NULL ? 0 : UNKNOWN;
	while (f != NULL && fgets(names, sizeof names, f) != NULL)
		if (strncmp(names, "Udp: ", 5) == 0 && fgets(values, sizeof values, f) != NULL) {
			while ((name = strsep(&n, " \n")) != NULL && (value = strsep(&v, " \n")) != NULL) {
				if (strcmp(name, "InDatagrams") == 0)
					h->received = atoll(value);
				if (strcmp(name, "RcvbufErrors") == 0)
					h->receive_errors = atoll(value);
			}
			break;
		}
	if (f == NULL)
		return;
	fclose(f);
	f = open_below(root, "/proc/net/snmp6");
	while (f != NULL && fgets(values, sizeof values, f) != NULL) {
		if (sscanf(values, "Udp6InDatagrams %lld", &x) == 1)
			h->received += x;
		if (sscanf(values, "Udp6RcvbufErrors %lld", &x) == 1)
			h->receive_errors += x;
	}
	if (f != NULL)
		fclose(f);
}

/* Second column, hexadecimal, one line a processor. */
static void
read_softnet(struct doctor_host *h, const char *root)
{
	FILE *f = open_below(root, "/proc/net/softnet_stat");
	unsigned dropped;
	char line[512];

	h->softnet_dropped = f != NULL ? 0 : UNKNOWN;
	while (f != NULL && fgets(line, sizeof line, f) != NULL)
		if (sscanf(line, "%*x %x", &dropped) == 1)
			h->softnet_dropped += dropped;
	if (f != NULL)
		fclose(f);
}

/* SO_RCVBUFFORCE asks for CAP_NET_ADMIN in the first user namespace; a container's root has it in
 * another one. */
static void
read_process(struct doctor_host *h, const char *root, pid_t pid)
{
	char dir[64] = "/proc/self", name[96], line[256], soft[32], hard[32];
	unsigned long long caps = 0, inside = 1, outside = 1, count = 0;
	long long files;
	FILE *f;

	if (pid != 0)
		snprintf(dir, sizeof dir, "/proc/%d", (int)pid);
	snprintf(name, sizeof name, "%s/status", dir);
	for (f = open_below(root, name); f != NULL && fgets(line, sizeof line, f) != NULL;)
		(void)sscanf(line, "CapEff: %llx", &caps);
	if (f != NULL)
		fclose(f);
	snprintf(name, sizeof name, "%s/uid_map", dir);
	if (read_line(root, name, line, sizeof line))
		(void)sscanf(line, "%llu %llu %llu", &inside, &outside, &count);
	h->force = (caps >> CAP_NET_ADMIN_BIT & 1) && inside == 0 && outside == 0 && count == UINT32_MAX;
	h->files = UNKNOWN;
	snprintf(name, sizeof name, "%s/limits", dir);
	for (f = open_below(root, name); f != NULL && fgets(line, sizeof line, f) != NULL;)
		if (sscanf(line, "Max open files %31s %31s", soft, hard) == 2)
			h->files = sscanf(hard, "%lld", &files) == 1 ? files : INT64_MAX;
	if (f != NULL)
		fclose(f);
}

void
doctor_host_read(struct doctor_host *h, const char *root, pid_t pid)
{
	struct conf_node node[CONF_NODES_MAX];

	memset(h, 0, sizeof *h);
	h->rmem_max = read_number(root, "/proc/sys/net/core/rmem_max");
	h->wmem_max = read_number(root, "/proc/sys/net/core/wmem_max");
	h->wmem_default = read_number(root, "/proc/sys/net/core/wmem_default");
	h->netdev_budget = read_number(root, "/proc/sys/net/core/netdev_budget");
	h->udp_mem = read_third(root, "/proc/sys/net/ipv4/udp_mem");
	h->nodes = conf_nodes(root, node);
	h->netdev_max_backlog = read_number(root, "/proc/sys/net/core/netdev_max_backlog");
	h->somaxconn = read_number(root, "/proc/sys/net/core/somaxconn");
	h->nr_open = read_number(root, "/proc/sys/fs/nr_open");
	h->file_max = read_number(root, "/proc/sys/fs/file-max");
	h->conntrack_max = read_number(root, "/proc/sys/net/netfilter/nf_conntrack_max");
	h->conntrack_count = read_number(root, "/proc/sys/net/netfilter/nf_conntrack_count");
	h->conntrack_udp = read_number(root, "/proc/sys/net/netfilter/nf_conntrack_udp_timeout");
	h->conntrack_udp_stream = read_number(
	    root, "/proc/sys/net/netfilter/nf_conntrack_udp_timeout_stream");
	h->ipv6_disabled = read_number(root, "/proc/sys/net/ipv6/conf/all/disable_ipv6");
	if (!read_line(root, "/sys/devices/system/clocksource/clocksource0/current_clocksource",
		h->clocksource, sizeof h->clocksource))
		h->clocksource[0] = '\0';
	read_range(h, root);
	read_reserved(h, root);
	read_udp(h, root);
	read_softnet(h, root);
	read_process(h, root, pid);
}

void
doctor_host_try(struct doctor_host *h, pid_t pid)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), on = 1;
	struct timex tx = { 0 };
	struct stat ours, its;
	char path[64];

	h->gso = fd >= 0 && udp_probe_gso(fd);
	h->reuseport = fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) == 0;
	if (fd >= 0)
		close(fd);
	h->clock_synchronised = adjtimex(&tx) != TIME_ERROR;
	h->now = (int64_t)time(NULL);
	h->processors = sysconf(_SC_NPROCESSORS_ONLN);
	snprintf(path, sizeof path, "/proc/%d/ns/net", (int)pid);
	h->same_network = pid == 0 || stat("/proc/self/ns/net", &ours) < 0 || stat(path, &its) < 0 ||
	    (ours.st_ino == its.st_ino && ours.st_dev == its.st_dev);
}
