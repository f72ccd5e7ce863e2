/* SPDX-License-Identifier: BSD-3-Clause */
/* check_doctor.c: unit tests of doctor: facts from a /proc made here, and what is made of facts. */
#include "config.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tp/doctor.h"

static char root[] = "/tmp/check_doctor.XXXXXX";
static struct conf *conf;
static struct doctor_host host;
static struct doctor_daemon daemon_state;
static struct doctor_report *report;
static struct doctor_case world;

static const struct {
	const char *path, *text;
} files[] = {
	{ "/proc/sys/net/core/rmem_max", "212992\n" },
	{ "/proc/sys/net/core/wmem_max", "16777216\n" },
	{ "/proc/sys/net/core/netdev_max_backlog", "1000\n" },
	{ "/proc/sys/net/core/netdev_budget", "300\n" },
	{ "/proc/sys/net/core/wmem_default", "212992\n" },
	{ "/proc/sys/net/ipv4/udp_mem", "100000\t200000\t16383\n" },
	{ "/sys/devices/system/node/node0/cpulist", "0-1\n" },
	{ "/sys/devices/system/node/node1/cpulist", "2-3\n" },
	{ "/proc/sys/net/core/somaxconn", "4096\n" },
	{ "/proc/sys/fs/nr_open", "1048576\n" },
	{ "/proc/sys/fs/file-max", "9223372036854775807\n" },
	{ "/proc/sys/net/netfilter/nf_conntrack_max", "65536\n" },
	{ "/proc/sys/net/netfilter/nf_conntrack_count", "60000\n" },
	{ "/proc/sys/net/netfilter/nf_conntrack_udp_timeout", "10\n" },
	{ "/proc/sys/net/netfilter/nf_conntrack_udp_timeout_stream", "120\n" },
	{ "/proc/sys/net/ipv4/ip_local_port_range", "32768\t60999\n" },
	{ "/proc/sys/net/ipv4/ip_local_reserved_ports", "8080,50000-60999\n" },
	{ "/proc/net/snmp",
	    "Ip: Forwarding\nIp: 1\nUdp: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors\n"
	    "Udp: 1000000 5 7 900 300 0\nUdpLite: InDatagrams RcvbufErrors\nUdpLite: 9 9\n" },
	{ "/proc/net/snmp6",
	    "Ip6InReceives                   \t5\nUdp6InDatagrams                 \t500\nUdp6RcvbufErrors   \t11\n" },
	{ "/proc/net/softnet_stat", "000000ff 00000010 00000000\n000000ff 00000002 00000000\n" },
	{ "/proc/77/status", "Name:\tturnpiked\nCapEff:\t00000000000010c0\n" },
	{ "/proc/77/uid_map", "         0          0 4294967295\n" },
	{ "/proc/77/limits",
	    "Limit  Soft Limit  Hard Limit  Units\nMax open files            1024                 524288               files\n" },
	{ "/sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc\n" },
};

/* Makes the directories on the way. */
static void
put(const char *path, const char *text)
{
	char name[256];
	FILE *f;

	snprintf(name, sizeof name, "%s%s", root, path);
	for (char *p = name + strlen(root) + 1; (p = strchr(p, '/')) != NULL; p++) {
		*p = '\0';
		mkdir(name, 0700);
		*p = '/';
	}
	f = fopen(name, "w");
	ck_assert_ptr_nonnull(f);
	fputs(text, f);
	fclose(f);
}

static void
setup(void)
{
	ck_assert_ptr_nonnull(mkdtemp(root));
	for (unsigned i = 0; i < TP_COUNT(files); i++)
		put(files[i].path, files[i].text);
	conf = calloc(1, sizeof *conf);
	report = calloc(1, sizeof *report);
	ck_assert(conf != NULL && report != NULL);
	conf_defaults(conf);
	conf->relay_count = conf->listener_count = 1;
	addr_parse(&conf->listeners[0].addr, "192.0.2.1:3478");
	conf->listeners[0].transports = TRANSPORT_UDP;
	addr_parse(&conf->relays[0].addr, "192.0.2.1");
	conf->relays[0].port_min = 49152;
	conf->relays[0].port_max = 65535;
	memset(&daemon_state, 0, sizeof daemon_state);
	doctor_host_read(&host, root, 77);
	host.processors = 4;
	host.gso = host.reuseport = host.clock_synchronised = host.same_network = true;
	host.now = 1800000000;
	world = (struct doctor_case){ conf, &host, &daemon_state, { DOCTOR_RATE, DOCTOR_STALL_MS } };
}

static void
teardown(void)
{
	char command[128];

	snprintf(command, sizeof command, "rm -rf %s", root);
	ck_assert_int_eq(system(command), 0);
	free(conf);
	free(report);
	memcpy(root + sizeof root - 7, "XXXXXX", 6);
}

static const struct doctor_finding *
judged(const char *name)
{
	memset(report, 0, sizeof *report);
	doctor_judge_buffers(report, &world);
	doctor_judge_process(report, &world);
	doctor_judge_net(report, &world);
	for (unsigned i = 0; i < report->count; i++)
		if (strcmp(report->f[i].name, name) == 0)
			return &report->f[i];
	ck_abort_msg("nothing is said of %s", name);
}

#define LEVEL(name, what) ck_assert_int_eq(judged(name)->level, DOCTOR_##what)
#define HAS(text, part)   ck_assert_msg(strstr(text, part) != NULL, "%s", text)

START_TEST(facts)
{
	struct doctor_host none;

	ck_assert_int_eq(host.rmem_max, 212992);
	ck_assert_int_eq(host.netdev_max_backlog, 1000);
	ck_assert_int_eq(host.file_max, INT64_MAX);
	ck_assert_int_eq(host.conntrack_count, 60000);
	ck_assert(host.port_low == 32768 && host.port_high == 60999);
	ck_assert(host.reserved[8080 / 8] == 1 << 8080 % 8 && (host.reserved[50000 / 8] >> 50000 % 8 & 1));
	ck_assert((host.reserved[49999 / 8] >> 49999 % 8 & 1) == 0);
	ck_assert(host.received == 1000500 && host.receive_errors == 311);
	ck_assert_int_eq(host.softnet_dropped, 0x12);
	ck_assert(host.force);
	ck_assert_int_eq(host.files, 524288);
	ck_assert_str_eq(host.clocksource, "tsc");
	/* Nothing there: nothing known, and no guess. */
	doctor_host_read(&none, "/nonexistent", 77);
	ck_assert(none.rmem_max == UNKNOWN && none.conntrack_max == UNKNOWN && none.received == UNKNOWN &&
	    none.port_low == UNKNOWN && none.udp_mem == UNKNOWN && none.nodes == 0 &&
	    none.files == UNKNOWN && !none.force && none.clocksource[0] == '\0');
	host = none;
	host.processors = 4;
	LEVEL("net.core.rmem_max", NOTE);
	LEVEL("UdpRcvbufErrors", NOTE);
	LEVEL("RLIMIT_NOFILE", NOTE);
	LEVEL("net.netfilter.nf_conntrack_max", OK);
	LEVEL("net.ipv4.ip_local_port_range", NOTE);
	/* A container's root may not pass the limits. */
	put("/proc/77/uid_map", "0 100000 65536\n");
	doctor_host_read(&host, root, 77);
	ck_assert(!host.force);
	put("/proc/77/uid_map", "0 0 4294967295\n");
	put("/proc/77/status", "CapEff:\t00000000000000c0\n");
	doctor_host_read(&host, root, 77);
	ck_assert(!host.force);
}
END_TEST

START_TEST(buffers)
{
	ck_assert_uint_eq(doctor_buffer(&world.load), 200000ull * 40 / 1000 * 1024);
	LEVEL("io.receive_buffer", OK);
	world.load.stall_ms = 100;
	LEVEL("io.receive_buffer", WARNING);
	HAS(judged("io.receive_buffer")->should,
	    "200000/s x 100 ms x 1024 bytes (truesize 2048, doubled by the kernel) = 20480000");
	HAS(judged("io.receive_buffer")->is, "8192 datagrams: 40 ms at 200000 a second");
	HAS(judged("io.receive_buffer")->set, "receive_buffer: 20MiB");
	LEVEL("net.core.rmem_max", OK); /* by CAP_NET_ADMIN */
	host.force = false;
	LEVEL("net.core.rmem_max", WARNING);
	ck_assert_str_eq(judged("net.core.rmem_max")->set, "sysctl -w net.core.rmem_max=8388608");
	LEVEL("net.core.wmem_max", OK);
	conf->relay_receive_buffer = 16 << 20;
	HAS(judged("net.core.rmem_max")->should, "16777216 (io.relay_receive_buffer)");
	LEVEL("net.core.netdev_max_backlog", WARNING);
	ck_assert_str_eq(
	    judged("net.core.netdev_max_backlog")->set, "sysctl -w net.core.netdev_max_backlog=4000");
	host.netdev_max_backlog = 4000;
	LEVEL("net.core.netdev_max_backlog", OK);
	LEVEL("net.core.netdev_budget", WARNING);
	ck_assert_str_eq(judged("net.core.netdev_budget")->set, "sysctl -w net.core.netdev_budget=400");
	LEVEL("net.core.wmem_default", OK);
	host.wmem_default = 196607;
	LEVEL("net.core.wmem_default", WARNING);
	/* Four shards, 16 MiB each in 4 KiB pages. */
	LEVEL("net.ipv4.udp_mem", WARNING);
	ck_assert_str_eq(
	    judged("net.ipv4.udp_mem")->set, "sysctl -w net.ipv4.udp_mem=\"8192 12288 16384\"");
	host.udp_mem = 16384;
	LEVEL("net.ipv4.udp_mem", OK);
	conf->listeners[0].transports = TRANSPORT_TCP;
	LEVEL("net.core.somaxconn", OK);
	conf->backlog = 4097;
	LEVEL("net.core.somaxconn", WARNING);
	LEVEL("UdpRcvbufErrors", WARNING);
	host.receive_errors = 100;
	LEVEL("UdpRcvbufErrors", OK);
	LEVEL("softnet drops", WARNING);
	daemon_state.running = true;
	LEVEL("listener_drops", OK);
	daemon_state.listener_drops = 101;
	LEVEL("listener_drops", WARNING);
}
END_TEST

START_TEST(process)
{
	ck_assert_uint_eq(doctor_ports(conf), 16384);
	conf->shards = 2;
	ck_assert_uint_eq(doctor_files(conf, 2), 16384 + 1024 + 2 * 65);
	LEVEL("RLIMIT_NOFILE", OK);
	host.files = 16384 + 1024 + 2 * 65 - 1;
	LEVEL("RLIMIT_NOFILE", WARNING);
	HAS(judged("RLIMIT_NOFILE")->set, "LimitNOFILE=17538");
	conf->allocations_total = 100;
	LEVEL("RLIMIT_NOFILE", OK);
	host.nr_open = 1000;
	LEVEL("fs.nr_open", WARNING);
	LEVEL("fs.file-max", OK);
	host.file_max = 4295;
	LEVEL("fs.file-max", WARNING);
	LEVEL("io.engine", OK);
	conf->engine = CONF_ENGINE_MMSG;
	LEVEL("io.engine", WARNING);
	host.gso = false;
	conf->engine = CONF_ENGINE_GSO;
	LEVEL("io.engine", BAD);
	LEVEL("io.cpu_affinity", OK);
	ck_assert_int_eq(host.nodes, 2);
	text_copy(conf->cpu_affinity, sizeof conf->cpu_affinity, "none");
	LEVEL("io.cpu_affinity", WARNING);
	host.nodes = 1;
	LEVEL("io.cpu_affinity", OK);
	conf->workers = 5;
	LEVEL("io.cpu_affinity", WARNING);
	text_copy(conf->cpu_affinity, sizeof conf->cpu_affinity, "0-4");
	LEVEL("io.cpu_affinity", BAD);
	LEVEL("clock", OK);
	host.clock_synchronised = false;
	LEVEL("clock", WARNING);
	host.now = 1000;
	LEVEL("clock", BAD);
	text_copy(host.clocksource, sizeof host.clocksource, "hpet");
	LEVEL("clocksource", WARNING);
	LEVEL("SO_REUSEPORT", OK);
	host.reuseport = false;
	LEVEL("SO_REUSEPORT", BAD);
}
END_TEST

START_TEST(network)
{
	LEVEL("net.netfilter.nf_conntrack_max", BAD); /* nearly full */
	host.conntrack_count = 5;
	LEVEL("net.netfilter.nf_conntrack_max", OK);
	host.conntrack_max = 32767;
	LEVEL("net.netfilter.nf_conntrack_max", WARNING);
	HAS(judged("net.netfilter.nf_conntrack_max")->set, "nf_conntrack_max=65536");
	HAS(judged("net.netfilter.nf_conntrack_max")->should, "at least 32768");
	LEVEL("net.netfilter.nf_conntrack_udp_timeout", WARNING);
	LEVEL("net.netfilter.nf_conntrack_udp_timeout_stream", OK);
	/* 49152-60999 are the kernel's, of these 50000 on are reserved. */
	LEVEL("net.ipv4.ip_local_port_range", WARNING);
	HAS(judged("net.ipv4.ip_local_port_range")->should, ": 848 of them");
	conf->relays[0].port_min = 50000;
	LEVEL("net.ipv4.ip_local_port_range", OK);
	conf->listeners[0].addr.port = 40000;
	LEVEL("net.ipv4.ip_local_reserved_ports", WARNING);
	HAS(judged("firewall")->is, "let in udp to 192.0.2.1 port 40000");
	host.same_network = false;
	LEVEL("network namespace", WARNING);
}
END_TEST

/* "[#]net.core.rmem_max = 5": a setting of the sample; one that is commented out only with `all`. */
static bool
setting(const char *line, bool all, char name[128], char value[64])
{
	if (line[0] == '#' && !all)
		return false;
	line += line[0] == '#';
	return (strncmp(line, "net.", 4) == 0 || strncmp(line, "fs.", 3) == 0) &&
	    sscanf(line, "%127[^ ] = %63[^\n]", name, value) == 2;
}

static FILE *
open_sample(void)
{
	const char *top = getenv("top_srcdir");
	char path[512];
	FILE *f;

	snprintf(path, sizeof path, "%s/contrib/sysctl.d/turnpike.conf", top != NULL ? top : "..");
	f = fopen(path, "r");
	ck_assert_ptr_nonnull(f);
	return f;
}

static bool
in_sample(const char *wanted)
{
	char line[256], name[128], value[64];
	bool found = false;
	FILE *f = open_sample();

	while (!found && fgets(line, sizeof line, f) != NULL)
		found = setting(line, true, name, value) && strcmp(name, wanted) == 0;
	fclose(f);
	return found;
}

/* What the sample sets is enough for this; what it names is what this judges, and the other way round. */
START_TEST(sample)
{
	char path[512], line[256], name[128], value[64];
	unsigned known = 0;
	FILE *f = open_sample();

	conf->listeners[0].transports |= TRANSPORT_TCP;
	while (fgets(line, sizeof line, f) != NULL) {
		if (!setting(line, false, name, value))
			continue;
		snprintf(path, sizeof path, "/proc/sys/%s", name);
		for (char *p = path + strlen("/proc/sys/"); (p = strchr(p, '.')) != NULL;)
			*p = '/';
		put(path, value);
	}
	put("/proc/77/status", "CapEff:\t0\n"); /* what counts is the limit */
	put("/proc/sys/net/ipv4/ip_local_reserved_ports", "\n");
	doctor_host_read(&host, root, 77);
	rewind(f);
	while (fgets(line, sizeof line, f) != NULL)
		if (setting(line, false, name, value)) {
			ck_assert_msg(
			    judged(name)->level == DOCTOR_OK, "%s: %s", name, judged(name)->should);
			known++;
		}
	ck_assert_uint_ge(known, 9);
	/* A listener's port that the kernel may give away brings the last of them. */
	conf->listeners[0].addr.port = 20000;
	rewind(f);
	while (fgets(line, sizeof line, f) != NULL)
		if (setting(line, true, name, value))
			(void)judged(name);
	fclose(f);
	(void)judged("clock");
	for (unsigned i = 0; i < report->count; i++)
		if (strncmp(report->f[i].name, "net.", 4) == 0 || strncmp(report->f[i].name, "fs.", 3) == 0)
			ck_assert_msg(
			    in_sample(report->f[i].name), "%s is not in the sample", report->f[i].name);
}
END_TEST

START_TEST(arguments)
{
	static const struct {
		const char *word[4];
		int n;
		bool ok;
	} rows[] = {
		{ { 0 }, 0, true },
		{ { "--config", "x" }, 2, true },
		{ { "--config" }, 1, false },
		{ { "--rate", "0" }, 2, false },
		{ { "--rate", "5", "--stall", "2s" }, 4, true },
		{ { "--stall", "40" }, 2, false },
		{ { "--stall", "61s" }, 2, false },
		{ { "--rate", "5x" }, 2, false },
		{ { "--rate", "99999999999999999999999" }, 2, false },
		{ { "x", "y" }, 2, false },
	};
	struct doctor_request q;

	for (unsigned i = 0; i < TP_COUNT(rows); i++) {
		memset(&q, 0, sizeof q);
		ck_assert_int_eq(doctor_arguments(&q, rows[i].n, (char *const *)rows[i].word), rows[i].ok);
		if (i == 4)
			ck_assert(q.load.rate == 5 && q.load.stall_ms == 2000);
	}
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("doctor");
	TCase *t = tcase_create("doctor");
	SRunner *r;
	int failed;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, facts);
	tcase_add_test(t, buffers);
	tcase_add_test(t, process);
	tcase_add_test(t, network);
	tcase_add_test(t, sample);
	tcase_add_test(t, arguments);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
