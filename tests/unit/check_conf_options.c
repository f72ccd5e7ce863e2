/* SPDX-License-Identifier: BSD-3-Clause */
/* check_conf_options.c: unit tests of conf/options.c: each type at its edges, from and to text. */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>

#include "check_conf.h"

static const struct {
	const char *path, *text, *printed; /* printed NULL: refused */
} scalars[] = {
	{ "auth.strict_expiry", "true", "true" },
	{ "auth.strict_expiry", "false", "false" },
	{ "auth.strict_expiry", "yes", NULL },
	{ "auth.strict_expiry", "True", NULL },
	{ "auth.strict_expiry", "1", NULL },
	{ "auth.strict_expiry", "on", NULL },
	{ "metrics.port", "1", "1" },
	{ "metrics.port", "65535", "65535" },
	{ "metrics.port", "0", NULL },
	{ "metrics.port", "65536", NULL },
	{ "metrics.port", "-1", NULL },
	{ "metrics.port", "+1", NULL },
	{ "metrics.port", "010", NULL },
	{ "metrics.port", "3_478", NULL },
	{ "metrics.port", "0x10", NULL },
	{ "metrics.port", "1e3", NULL },
	{ "metrics.port", "3478.0", NULL },
	{ "metrics.port", "3478x", NULL },
	{ "metrics.port", "12:30:45", NULL },
	{ "metrics.port", "~", NULL },
	{ "metrics.port", " 1", NULL },
	{ "metrics.port", "18446744073709551617", NULL },
	{ "metrics.port", "", NULL },
	{ "auth.nonce_lifetime", "60s", "1m" },
	{ "auth.nonce_lifetime", "60000ms", "1m" },
	{ "auth.nonce_lifetime", "59999ms", NULL },
	{ "auth.nonce_lifetime", "1h", "1h" },
	{ "auth.nonce_lifetime", "61m", NULL },
	{ "auth.nonce_lifetime", "600", NULL },
	{ "auth.nonce_lifetime", "10 m", NULL },
	{ "auth.nonce_lifetime", "0", NULL },
	{ "auth.nonce_lifetime", "1h30m", NULL },
	{ "relay.replace_idle", "0", "0s" },
	{ "relay.replace_idle", "0s", "0s" },
	{ "relay.replace_idle", "1d", "1d" },
	{ "relay.replace_idle", "1500ms", "1500ms" },
	{ "relay.replace_idle", "25h", NULL },
	{ "relay.replace_idle", "99999999999999999999d", NULL },
	{ "relay.replace_idle", "18446744073709551615d", NULL },
	{ "io.engine", "gso", "gso" },
	{ "io.engine", "GSO", NULL },
	{ "io.engine", "fast", NULL },
	{ "io.engine", "plain", "plain" },
	{ "io.receive_buffer", "64KiB", "64KiB" },
	{ "io.receive_buffer", "65535B", NULL },
	{ "io.receive_buffer", "1GiB", "1GiB" },
	{ "io.receive_buffer", "2GiB", NULL },
	{ "io.receive_buffer", "100kB", "100kB" },
	{ "io.receive_buffer", "1MB", "1MB" },
	{ "io.receive_buffer", "8388608", NULL },
	{ "io.receive_buffer", "8M", NULL },
	{ "io.receive_buffer", "8mib", NULL },
	{ "limits.bandwidth_total", "0", "0" },
	{ "limits.bandwidth_total", "20Mbit", "20Mbit" },
	{ "limits.bandwidth_total", "8bit", "8bit" },
	{ "limits.bandwidth_total", "7bit", NULL },
	{ "limits.bandwidth_total", "20", NULL },
	{ "limits.bandwidth_total", "20MB", NULL },
	{ "limits.bandwidth_total", "1000Gbit", "1000Gbit" },
	{ "limits.bandwidth_total", "1001Gbit", NULL },
	{ "limits.bandwidth_total", "100kbit", "100kbit" },
	{ "relay.ports", "1024-65535", "1024-65535" },
	{ "relay.ports", "50000-50000", "50000-50000" },
	{ "relay.ports", "1023-65535", NULL },
	{ "relay.ports", "1024-65536", NULL },
	{ "relay.ports", "50001-50000", NULL },
	{ "relay.ports", "50000", NULL },
	{ "relay.ports", "50000 - 50001", NULL },
	{ "relay.ports", "050000-60000", NULL },
	{ "process.workers", "auto", "auto" },
	{ "process.workers", "1", "1" },
	{ "process.workers", "128", "128" },
	{ "process.workers", "129", NULL },
	{ "process.workers", "0", NULL },
	{ "process.workers", "Auto", NULL },
	{ "relay.default_family", "client", "client" },
	{ "relay.default_family", "ipv5", NULL },
	{ "auth.password_algorithms", "sha256", "sha256" },
	{ "auth.password_algorithms", "", NULL },
	{ "log.level", "debug", "debug" },
	{ "log.level", "DEBUG", NULL },
	{ "log.format", "json", "json" },
	{ "auth.realm", "no", "no" },
	{ "auth.realm", "", NULL },
	{ "auth.realm", "a\nb", NULL },
	{ "auth.realm", "a b", "\"a b\"" },
	{ "auth.realm", "12:30:45", "\"12:30:45\"" },
	{ "metrics.address", "", "\"\"" },
};

START_TEST(scalar)
{
	const struct option_row *o = option_find(scalars[_i].path);
	struct conf c;
	char out[256] = "", why[256] = "";
	int rc;

	conf_defaults(&c);
	ck_assert_ptr_nonnull(o);
	rc = option_set(&c, o, scalars[_i].text, why, sizeof why);
	ck_assert_msg(
	    (rc == 0) == (scalars[_i].printed != NULL), "%s: %s gave %d", o->path, scalars[_i].text, rc);
	if (rc == 0) {
		option_print(&c, o, out, sizeof out);
		ck_assert_str_eq(out, scalars[_i].printed);
	} else {
		ck_assert_msg(strncmp(why, "allowed: ", 9) == 0, "%s: says \"%s\"", o->path, why);
	}
}
END_TEST

/* What is printed is read as the same value, for every option at its default. */
START_TEST(defaults_print_and_parse)
{
	struct conf a, b;
	char text[512];

	conf_defaults(&a);
	conf_defaults(&b);
	for (unsigned i = 0; i < option_count; i++) {
		const struct option_row *o = &option_rows[i];

		if (o->type == OPT_LIST)
			continue;
		option_print(&a, o, text, sizeof text);
		if (strcmp(text, "\"\"") == 0)
			text[0] = '\0';
		memset((char *)&b + o->offset, 0, o->size);
		ck_assert_msg(option_set(&b, o, text, NULL, 0) == 0, "%s: %s", o->path, text);
	}
	ck_assert_mem_eq(&a, &b, sizeof a);
	ck_assert_uint_eq(a.receive_buffer, 8u << 20);
	ck_assert_uint_eq(a.nonce_lifetime, 600000);
	ck_assert_uint_eq(a.log_level, LOG_L_INFO);
}
END_TEST

START_TEST(bandwidth_is_bytes)
{
	struct conf c;

	conf_defaults(&c);
	ck_assert_int_eq(option_set(&c, option_find("limits.bandwidth_per_user"), "20Mbit", NULL, 0), 0);
	ck_assert_uint_eq(c.bandwidth_per_user, 2500000);
}
END_TEST

START_TEST(find)
{
	ck_assert_ptr_null(option_find("auth"));
	ck_assert_ptr_null(option_find("auth.realm2"));
	ck_assert_str_eq(option_find("auth.realm")->path, "auth.realm");
	ck_assert_int_eq(option_find("process.shards")->cls, OPT_RESTART);
	ck_assert_int_eq(option_find("listeners")->cls, OPT_WORKERS);
}
END_TEST

START_TEST(cpu_lists)
{
	static const char *const wrong[] = { "", ",", "1,", "-3", "3-", "5-2", "1,,2", "a", "1 ", " 1",
		"1024", "99999999999", "auto", "0-1023,0" };
	uint16_t list[CONF_CPUS_MAX];
	unsigned n;

	ck_assert(conf_cpus("7", list, &n));
	ck_assert_uint_eq(n, 1);
	ck_assert_uint_eq(list[0], 7);
	ck_assert(conf_cpus("6,0-2,1023,1", list, &n));
	ck_assert_uint_eq(n, 6);
	ck_assert_uint_eq(list[0], 6);
	ck_assert_uint_eq(list[3], 2);
	ck_assert_uint_eq(list[4], 1023);
	ck_assert(conf_cpus("0-1023", list, &n));
	ck_assert_uint_eq(n, CONF_CPUS_MAX);
	for (unsigned i = 0; i < TP_COUNT(wrong); i++)
		ck_assert_msg(!conf_cpus(wrong[i], list, &n), "%s", wrong[i]);
}
END_TEST

/* Two nodes of four processors, 0-3 and 8-11, and one of memory alone, below a root made here. */
static unsigned
make_nodes(struct conf_node node[CONF_NODES_MAX])
{
	static const char *const lists[] = { "0-3\n", "\n", "8-11\n" };
	char root[] = "/tmp/check_conf.XXXXXX", path[128], command[64];
	unsigned n;
	FILE *f;

	ck_assert_ptr_nonnull(mkdtemp(root));
	for (unsigned i = 0; i < TP_COUNT(lists); i++) {
		snprintf(path, sizeof path, "mkdir -p %s/sys/devices/system/node/node%u", root, i);
		ck_assert_int_eq(system(path), 0);
		snprintf(path, sizeof path, "%s/sys/devices/system/node/node%u/cpulist", root, i);
		f = fopen(path, "w");
		ck_assert_ptr_nonnull(f);
		fputs(lists[i], f);
		fclose(f);
	}
	n = conf_nodes(root, node);
	snprintf(command, sizeof command, "rm -rf %s", root);
	ck_assert_int_eq(system(command), 0);
	return n;
}

START_TEST(places)
{
	struct conf_node node[CONF_NODES_MAX], none[CONF_NODES_MAX];
	unsigned nodes = make_nodes(node), count[2] = { 0, 0 };
	struct conf_place p;
	cpu_set_t all;

	ck_assert_uint_eq(conf_nodes("/nonexistent", none), 0);
	ck_assert_uint_eq(nodes, 2);
	ck_assert(node[0].id == 0 && node[1].id == 2 && CPU_COUNT(&node[1].cpus) == 4 &&
	    CPU_ISSET(8, &node[1].cpus));
	CPU_OR(&all, &node[0].cpus, &node[1].cpus);
	/* As many workers as processors: one each. */
	conf_place(&p, "auto", 0, 5, &all, node, nodes);
	ck_assert(
	    p.pinned && p.cpu == 9 && p.node == 2 && CPU_COUNT(&p.cpus) == 1 && CPU_ISSET(9, &p.cpus));
	conf_place(&p, "auto", 9, 8, &all, node, nodes);
	ck_assert(p.pinned && p.cpu == 0 && p.node == 0);
	/* Fewer: a node each, by turns. */
	for (unsigned i = 0; i < 3; i++) {
		conf_place(&p, "auto", 3, i, &all, node, nodes);
		ck_assert(p.pinned && p.cpu == -1 && p.node == (i == 1 ? 2 : 0) &&
		    CPU_EQUAL(&p.cpus, &node[i & 1].cpus));
	}
	/* Only one processor of the first node is allowed: it gets one worker. */
	for (int cpu = 1; cpu < 4; cpu++)
		CPU_CLR(cpu, &all);
	for (unsigned i = 0; i < 4; i++) {
		conf_place(&p, "auto", 4, i, &all, node, nodes);
		ck_assert(p.pinned && p.cpu == -1);
		count[p.node / 2]++;
		ck_assert_int_eq(CPU_COUNT(&p.cpus), p.node == 0 ? 1 : 4);
	}
	ck_assert(count[0] == 1 && count[1] == 3);
	/* One node, or none known: the scheduler's choice. */
	conf_place(&p, "auto", 2, 0, &node[1].cpus, node, nodes);
	ck_assert(!p.pinned);
	conf_place(&p, "auto", 2, 0, &all, node, 0);
	ck_assert(!p.pinned && p.node == -1);
	conf_place(&p, "none", 0, 0, &all, node, nodes);
	ck_assert(!p.pinned);
	conf_place(&p, "10,2", 0, 2, &all, node, nodes);
	ck_assert(p.pinned && p.cpu == 10 && p.node == 2);
	conf_place(&p, "10,2", 0, 1, &all, node, 1);
	ck_assert(p.pinned && p.cpu == 2 && p.node == -1);
}
END_TEST

Suite *
suite_options(void)
{
	Suite *s = suite_create("conf options");
	TCase *t = tcase_create("options");

	tcase_add_loop_test(t, scalar, 0, (int)TP_COUNT(scalars));
	tcase_add_test(t, defaults_print_and_parse);
	tcase_add_test(t, bandwidth_is_bytes);
	tcase_add_test(t, find);
	tcase_add_test(t, cpu_lists);
	tcase_add_test(t, places);
	suite_add_tcase(s, t);
	return s;
}
