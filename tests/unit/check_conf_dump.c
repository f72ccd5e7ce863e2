/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_conf_dump.c: unit tests of conf/dump.c, diff.c, validate.c: what is printed is read as the same;
 * what differs is named.
 */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>

#include "check_conf.h"

/* Everything away from its default. */
static const char full[] =
    "auth: { realm: 'Ä b: #x', strict_expiry: true, nonce_lifetime: 90s, rest_names: timestamp-last,\n"
    "  password_algorithms: sha256, database_cache: 2m, database_negative_cache: 6s, databases_ready: true,\n"
    "  end_removed_users: true }\n"
    "listeners: [ { address: 127.0.0.1, port: 1 }, { address: '::1', port: 65535 }, { address: '*', port: 3479 } ]\n"
    "relay:\n"
    "  addresses: [ { address: 127.0.0.1, external: 127.0.0.9 }, { address: '::1', ports: 2000-2001 }, { address: 192.0.2.10, ports: 2500-3000 } ]\n"
    "  ports: 2000-3000\n  default_family: client\n  strict_family: false\n  default_lifetime: 61s\n  max_lifetime: 1d\n"
    "  replace_idle: 1500ms\n  rfc5766_channels: true\n  external_stun: stun.example.org\n  external_interval: 5s\n"
    "server: { software: X }\n"
    "peers: { deny: [ 10.0.0.0/8, '::/0' ], allow: 1.2.3.4, allow_private: 127.0.0.0/8, allow_own: '[::1]:1-2/udp' }\n"
    "limits: { allocations_per_user: 1, allocations_per_prefix: 2, allocations_total: 3, permissions_per_allocation: 4,\n"
    "  channels_per_allocation: 5, challenges_per_prefix: 6, bindings_per_prefix: 7, lookups_per_prefix: 8,\n"
    "  half_open_per_prefix: 8, half_open_total: 9, handshakes_per_prefix: 14, handshake_timeout: 11s,\n"
    "   bandwidth_per_allocation: 8bit,\n"
    "  bandwidth_per_user: 1000008bit, bandwidth_total: 1Gbit,\n"
    "  connections_per_prefix: 10, connections_total: 11, stream_queue: 12KiB, stream_deadline: 13s }\n"
    "process: { user: nobody, workers: 3, shards: 5, tls_processes: 2, reload_ready: true, shutdown_grace: 90m }\n"
    "tls: { min_version: 1.3, expiry_warning: 3d, watch_interval: 11s }\n"
    "io: { receive_buffer: 100001B, send_buffer: 1MB, relay_receive_buffer: 64KiB, backlog: 9,\n"
    "  engine: mmsg, cpu_affinity: '1,3-4' }\ndrain: { alternate: '[2001:db8::1]:3478' }\n"
    "alternate: [ '192.0.2.7:3478', { address: '192.0.2.7:5349', transport: tls, domain: t.example } ]\n"
    "log: { level: debug, target: /x/y z.log, format: json, anonymize_addresses: true }\n"
    "metrics: { address: '::1', port: 1, coturn_names: true }\n";

static void
forget_places(struct conf *c)
{
	for (unsigned i = 0; i < c->listener_count; i++)
		memset(c->listeners[i].where, 0, sizeof c->listeners[i].where);
	c->follows_host = false; /* a dump names the addresses */
}

static char *
dump(const struct conf *c)
{
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	conf_dump(c, f);
	fclose(f);
	return text;
}

static const char *const round_trips[] = { full, "" };

START_TEST(round_trip)
{
	struct loaded *a = load_text(round_trips[_i]), *b;
	char *text;

	ck_assert_msg(a->rc == 0, "%s", a->reports);
	text = dump(&a->conf);
	b = load_text(text);
	ck_assert_msg(b->rc == 0, "%s", b->reports);
	forget_places(&a->conf);
	forget_places(&b->conf);
	ck_assert_msg(memcmp(&a->conf, &b->conf, sizeof a->conf) == 0, "%s", text);
	ck_assert_uint_eq(conf_diff(&a->conf, &b->conf, NULL, NULL), 0);
	free(text);
	unload(a);
	unload(b);
}
END_TEST

/* A new option that is missing in `full` fails here. */
START_TEST(full_differs_everywhere)
{
	struct loaded *a = load_text(full), *b = load_text("");

	/* All but auth.users, auth.secrets and auth.databases, which text from memory may hold but a dump
	 * never shows, and tls.certificates, which names files, and such text may not. */
	ck_assert_uint_eq(conf_diff(&a->conf, &b->conf, NULL, NULL), option_count - 4);
	unload(a);
	unload(b);
}
END_TEST

START_TEST(dump_hides_credentials)
{
	struct loaded *r = load_text(
	    "auth: { users: { eleonore: kept-between-us }, secrets: [ also-kept-between-us ] }\n");
	char *text = dump(&r->conf);

	ck_assert_int_eq(r->rc, 0);
	ck_assert_ptr_null(strstr(text, "kept-between-us"));
	ck_assert_ptr_null(strstr(text, "eleonore"));
	ck_assert_ptr_nonnull(strstr(text, "1 users"));
	ck_assert_ptr_nonnull(strstr(text, "1 secrets"));
	/* Nor does the region that every process maps. */
	for (const char *p = (const char *)&r->conf; p + 15 <= (const char *)(&r->conf + 1); p++)
		ck_assert(memcmp(p, "kept-between-us", 15) != 0);
	free(text);
	unload(r);
}
END_TEST

struct seen {
	unsigned count;
	enum opt_class cls;
	char text[512];
};

static void
on_diff(void *arg, const struct option_row *o, const char *was, const char *is)
{
	struct seen *s = arg;

	s->count++;
	s->cls = o->cls;
	snprintf(s->text, sizeof s->text, "%s: %s -> %s", o->path, was, is);
}

static const struct {
	const char *yaml;
	enum opt_class cls;
	const char *text;
} diffs[] = {
	{ "limits: { bandwidth_per_user: 8Mbit }\n", OPT_NOW, "limits.bandwidth_per_user: 0 -> 8Mbit" },
	{ "relay: { ports: 50000-60000 }\nlisteners: { address: 127.0.0.1 }\n", OPT_WORKERS, NULL },
	{ "process: { workers: 3 }\n", OPT_WORKERS, "process.workers: auto -> 3" },
	{ "process: { shards: 3 }\n", OPT_RESTART, "process.shards: auto -> 3" },
	{ "peers: { deny: [ 10.0.0.0/8, 11.0.0.0/8 ] }\n", OPT_NOW,
	    "peers.deny: [] -> [ 10.0.0.0/8, 11.0.0.0/8 ]" },
	{ "relay: { addresses: 127.0.0.1 }\n", OPT_WORKERS,
	    "relay.addresses: [ { address: 192.0.2.10 }, { address: \"2001:db8::10\" } ] -> [ { address: 127.0.0.1 } ]" },
	{ "auth: { users: { a: long-enough } }\n", OPT_NOW, "auth.users: 0 users -> 1 users" },
};

START_TEST(diff)
{
	struct loaded *a = load_text(""), *b = load_text(diffs[_i].yaml);
	struct seen s = { 0 };
	unsigned n = conf_diff(&a->conf, &b->conf, on_diff, &s);

	ck_assert_msg(b->rc == 0, "%s", b->reports);
	ck_assert_uint_eq(n, s.count);
	ck_assert_uint_eq(s.cls, diffs[_i].cls);
	if (diffs[_i].text != NULL) {
		ck_assert_uint_eq(n, 1);
		ck_assert_str_eq(s.text, diffs[_i].text);
	}
	unload(a);
	unload(b);
}
END_TEST

static char *
sample(void)
{
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	conf_dump_sample(f);
	fclose(f);
	return text;
}

/* As installed it is the defaults; uncommented, every line of it is valid. */
START_TEST(sample_loads)
{
	char *text = sample(), *out = calloc(1, strlen(text) + 1), *line, *save;
	struct loaded *a = load_text(text), *b = load_text(""), *c;

	ck_assert_msg(a->rc == 0, "%s", a->reports);
	ck_assert_uint_eq(conf_diff(&a->conf, &b->conf, NULL, NULL), 0);
	for (line = strtok_r(text, "\n", &save); line != NULL; line = strtok_r(NULL, "\n", &save)) {
		char *hash = line + strspn(line, " ");

		/* Prose has one space behind the #, entries of a list have two. */
		if (*hash == '#' && hash[1] != '\0' && (hash[1] != ' ' || hash[2] == ' '))
			memmove(hash, hash + 1, strlen(hash));
		/* Files are for check_conf_files.c. */
		if (strstr(line, "_file:") != NULL || strstr(line, "- { file:") != NULL ||
		    strstr(line, "users:") != NULL || strstr(line, "key_file") != NULL ||
		    strstr(line, "secrets:") != NULL || strstr(line, "include:") != NULL ||
		    strstr(line, "certificates:") != NULL || strstr(line, "certificate:") != NULL)
			continue;
		strcat(strcat(out, line), "\n");
	}
	c = load_text(out);
	ck_assert_msg(c->rc == 0, "%s", c->reports);
	ck_assert_uint_eq(c->conf.relays[0].port_min, 50000);
	free(text);
	free(out);
	unload(a);
	unload(b);
	unload(c);
}
END_TEST

START_TEST(man_and_help_name_all)
{
	char *man = NULL, *help = NULL, name[128];
	size_t len;
	FILE *f = open_memstream(&man, &len);

	conf_dump_man(f);
	fclose(f);
	f = open_memstream(&help, &len);
	conf_dump_help(f);
	fclose(f);
	for (unsigned i = 0; i < option_count; i++) {
		snprintf(name, sizeof name, ".It Cm %s", option_rows[i].path);
		ck_assert_msg(strstr(man, name) != NULL, "%s", name);
		ck_assert_ptr_nonnull(strstr(help, option_rows[i].path));
	}
	free(man);
	free(help);
}
END_TEST

/* ---- validate --------------------------------------------------------------------------------- */

#define SPOILED(field, value)                                                                              \
	do {                                                                                               \
		c = r->conf;                                                                               \
		c.field = (value);                                                                         \
		ck_assert_msg(conf_validate(&c, sizeof c) < 0, #field);                                    \
	} while (0)

START_TEST(validate)
{
	struct loaded *r = load_text("peers: { deny: 10.0.0.0/8 }\n");
	struct conf c = r->conf;

	ck_assert_int_eq(conf_validate(&c, sizeof c), 0);
	ck_assert_int_lt(conf_validate(&c, sizeof c - 1), 0);
	SPOILED(magic, 1);
	SPOILED(layout, CONF_LAYOUT + 1);
	SPOILED(listener_count, LISTENERS_MAX + 1);
	SPOILED(relay_count, RELAYS_MAX + 1);
	SPOILED(peer_own_count, CONF_OWN_MAX + 1);
	SPOILED(alternate_count, CONF_ALTERNATES_MAX + 1);
	SPOILED(host_addr_count, CONF_HOST_ADDRS_MAX + 1);
	SPOILED(peer_deny.count, CONF_RULES_MAX + 1);
	SPOILED(peer_deny.rule[0].bits, 33);
	SPOILED(listeners[0].addr.family, 7);
	SPOILED(listeners[0].addr.port, 0);
	SPOILED(relays[0].port_min, 0);
	SPOILED(relays[0].external.family, 5);
	SPOILED(default_family, 3);
	SPOILED(log_level, 4);
	SPOILED(log_format, 2);
	SPOILED(password_algorithms, 2);
	SPOILED(workers, 129);
	SPOILED(nonce_lifetime, 1);
	SPOILED(relay_ports.min, 100);
	/* One rule too many, and the bytes behind the last one look like a rule, too. */
	c = r->conf;
	for (unsigned i = 0; i < CONF_RULES_MAX; i++)
		c.peer_deny.rule[i] = c.peer_deny.rule[0];
	c.peer_allow.count = ADDR_V4;
	for (unsigned i = 0; i < c.peer_allow.count; i++)
		c.peer_allow.rule[i] = c.peer_deny.rule[0];
	c.peer_deny.count = CONF_RULES_MAX;
	ck_assert_int_eq(conf_validate(&c, sizeof c), 0);
	c.peer_deny.count++;
	ck_assert_int_lt(conf_validate(&c, sizeof c), 0);
	c = r->conf;
	memset(c.realm, 'x', sizeof c.realm);
	ck_assert_int_lt(conf_validate(&c, sizeof c), 0);
	c = r->conf;
	memset(&c.strict_family, 2, 1);
	ck_assert_int_lt(conf_validate(&c, sizeof c), 0);
	unload(r);
}
END_TEST

START_TEST(validate_users)
{
	struct loaded *r = load_text(
	    "auth: { users: { a: long-enough }, secrets: [ 0123456789012345678901234567890123 ] }\n");
	struct users *u = r->users;

	ck_assert_int_eq(users_validate(u, r->users_len), 0);
	ck_assert_int_lt(users_validate(u, r->users_len - 1), 0);
	ck_assert_int_lt(users_validate(u, 4), 0);
	u->user_count = UINT32_MAX;
	ck_assert_int_lt(users_validate(u, r->users_len), 0);
	u->user_count = 1;
	u->secret_count = UINT32_MAX;
	ck_assert_int_lt(users_validate(u, r->users_len), 0);
	u->secret_count = 1;
	((struct users_secret *)(u + 1))->len = USERS_SECRET_MAX + 1;
	ck_assert_int_lt(users_validate(u, r->users_len), 0);
	((struct users_secret *)(u + 1))->len = 32;
	ck_assert_int_eq(users_validate(u, r->users_len), 0);
	((struct users_user *)((struct users_secret *)(u + 1) + 1))->kind =
	    USERS_KEY_MD5; /* needs 16 bytes */
	ck_assert_int_lt(users_validate(u, r->users_len), 0);
	unload(r);
}
END_TEST

Suite *
suite_dump(void)
{
	Suite *s = suite_create("conf dump");
	TCase *t = tcase_create("dump");

	tcase_add_loop_test(t, round_trip, 0, (int)TP_COUNT(round_trips));
	tcase_add_test(t, full_differs_everywhere);
	tcase_add_test(t, dump_hides_credentials);
	tcase_add_loop_test(t, diff, 0, (int)TP_COUNT(diffs));
	tcase_add_test(t, sample_loads);
	tcase_add_test(t, man_and_help_name_all);
	tcase_add_test(t, validate);
	tcase_add_test(t, validate_users);
	suite_add_tcase(s, t);
	return s;
}
