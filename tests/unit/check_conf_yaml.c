/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_conf_yaml.c: unit tests of conf/yaml.c, load.c, suggest.c: strict YAML, unknown keys, --set,
 * places in messages.
 */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>

#include "check_conf.h"

/* One error each, and what its line must contain. */
static const struct {
	const char *yaml, *says;
} refused[] = {
	{ "auth:\n  relm: x\n", "text:2:3: unknown key \"relm\" in auth; did you mean realm?" },
	{ "auht: { realm: x }\n", "text:1:1: unknown key \"auht\"; did you mean auth?" },
	{ "limits: { max_lifetime: 1h }\n", "did you mean relay.max_lifetime?" },
	{ "zzzzzzzzzz: 1\n",
	    "text:1:1: unknown key \"zzzzzzzzzz\": allowed: include, auth, listeners, alternate, tls, relay, peers, limits, " },
	{ "metrics: { zzzzzzzz: 1 }\n",
	    "text:1:12: unknown key \"zzzzzzzz\" in metrics: allowed: address, port, coturn_names\n" },
	{ "limits: []\n", "text:1:9: limits: a list: allowed: a map of name: value" },
	{ "limits: 5\n", "text:1:9: limits: \"5\": allowed: a map of name: value" },
	{ "limits: { allocations_total: \"5\" }\n",
	    "text:1:30: limits.allocations_total: \"5\" is text because of its quotes: allowed" },
	{ "auth: { strict_expiry: 'true' }\n", "is text because of its quotes: allowed: true or false" },
	{ "process: { workers: \"2\" }\n", "process.workers: \"2\" is text" },
	{ "auth.realm: x\n", "two levels" },
	{ "listener: []\n", "did you mean listeners?" },
	{ "auth: { realm: a, realm: b }\n",
	    "text:1:19: duplicate key \"realm\": the first is at text:1:9" },
	{ "auth: { realm: a }\nlog: {}\nauth: { strict_expiry: true }\n",
	    "text:3:1: duplicate key \"auth\"" },
	{ "auth: { users: { a: long-password, a: other-password } }\n", "duplicate key \"a\"" },
	{ "auth: [ realm ]\n", "a map of name: value" },
	{ "auth: { realm: [ a ] }\n", "text:1:16: auth.realm: a list: allowed: text of 1 to 127 bytes" },
	{ "auth: { realm: { a: b } }\n", "auth.realm: a map" },
	{ "auth:\n  realm:\n", "auth.realm: no value" },
	{ "- auth\n", "a map of name: value" },
	{ "text\n", "a map of name: value" },
	{ "metrics: { port: 010 }\n", "metrics.port: \"010\": allowed: a decimal number from 1 to 65535" },
	{ "metrics: { port: 3_478 }\n", "metrics.port: \"3_478\"" },
	{ "metrics: { port: 12:30:45 }\n", "metrics.port: \"12:30:45\"" },
	{ "metrics: { port: ~ }\n", "metrics.port: \"~\"" },
	{ "metrics: { port: 1e3 }\n", "metrics.port: \"1e3\"" },
	{ "metrics: { port: 0x10 }\n", "metrics.port: \"0x10\"" },
	{ "metrics: { port: null }\n", "metrics.port: \"null\"" },
	{ "auth: { strict_expiry: no }\n", "allowed: true or false" },
	{ "limits: { bandwidth_total: 100 }\n", "with a unit (bit, kbit, Mbit, Gbit" },
	{ "auth: &a { realm: x }\n", "text:1:7: anchors" },
	{ "auth: { realm: &a x }\n", "anchors" },
	{ "auth: *a\n", "aliases" },
	{ "auth: { <<: { realm: x } }\n", "merge keys" },
	{ "auth: { realm: !!str x }\n", "text:1:16: tags" },
	{ "auth: { realm: ! x }\n", "tags" },
	{ "auth: !foo { realm: x }\n", "tags" },
	{ "%YAML 1.1\n---\nauth: {}\n", "directives" },
	{ "%TAG ! tag:x,2000:\n---\nauth: {}\n", "directives" },
	{ "auth: {}\n---\nlog: {}\n", "text:2:1: several documents" },
	{ "? [ a, b ]\n: c\n", "as a key" },
	{ "{ { a: b }: c }\n", "as a key" },
	{ "auth:\n\trealm: x\n", "text:2:1: a tab" },
	{ "auth:\trealm\n", "text:1:6: a tab" },
	{ "auth: {\n", "not YAML" },
	{ "listeners: [ { address: * } ]\n", "write \"*\"" },
	{ "auth: { realm: \"a\\0b\" }\n", "NUL" },
	{ "auth: { realm: \"a\\nb\" }\n", "without control characters" },
	{ "auth: { realm: 'a\"b' }\n", "auth.realm: \" and \\ are not allowed" },
	{ "auth: { realm: \"\xff\" }\n", "not YAML" },
	{ "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
	    "at most 16 levels" },
	{ "include: [ a.yaml ]\n", "only a file may include" },
	{ "auth: { secrets: { file: x } }\n", "not a file itself" },
	{ "log: { target: sdterr }\n", "did you mean stderr?" },
	{ "process: { user: \"a b\" }\n", "process.user" },
	{ "process: { user: -x }\n", "process.user" },
	{ "process: { workers: 4, shards: 2 }\n", "text:1:32: process.workers: more than process.shards" },
	{ "relay: { default_lifetime: 2h }\n", "text:1:28: relay.default_lifetime: longer" },
#ifndef HAVE_MHD
	{ "metrics: { address: 127.0.0.1 }\n",
	    "text:1:21: metrics.address: 127.0.0.1: this build has no metrics" },
#endif
	{ "metrics: { address: localhost }\n", "metrics.address: allowed" },
	{ "auth: { databases: [ { name: A, type: sqlite, connection: /x } ] }\n",
	    "auth.databases: name: \"A\": allowed" },
	{ "auth: { databases: [ { name: a, type: oracle, connection: /x } ] }\n",
	    "auth.databases: type: \"oracle\"" },
	{ "auth: { databases: [ { name: a, type: sqlite, connection: x } ] }\n", "an absolute path" },
	{ "auth: { databases: [ { name: a, type: http, connection: 'ftp://x' } ] }\n",
	    "a URL with https://" },
	{ "auth: { databases: [ { name: a, type: sqlite } ] }\n", "one of connection and connection_file" },
	{ "auth: { databases: [ { name: a, type: redis, connection: port=1, timeout: 5s } ] }\n",
	    "from 100ms to 1900ms" },
	{ "auth: { databases: [ { name: a, type: redis, connection: port=1, connections: 0 } ] }\n",
	    "from 1 to 32" },
	{ "auth: { databases: [ { name: a, type: redis, connection: port=1, ca: /x } ] }\n",
	    "ca: allowed for type http" },
	{ "metrics: { address: \"127.0.0.1:9641\" }\n", "metrics.address: allowed" },
};

START_TEST(refuses)
{
	struct loaded *r = load_text(refused[_i].yaml);

	ck_assert_msg(r->errors == 1, "%s: %u errors:\n%s", refused[_i].yaml, r->errors, r->reports);
	ck_assert_msg(
	    strstr(r->reports, refused[_i].says) != NULL, "%s: says %s", refused[_i].yaml, r->reports);
	unload(r);
}
END_TEST

/* Text is text, whatever YAML 1.1 would make of it. */
static const char *const realms[] = {
	"no",
	"yes",
	"on",
	"off",
	"true",
	"null",
	"~",
	"010",
	"0x10",
	"3_478",
	"12:30:45",
	"1e3",
	".inf",
	"2030-01-01",
	"=",
	"0123e4",
	"1.5",
};

START_TEST(text_stays_text)
{
	char yaml[128];
	struct loaded *r;

	snprintf(yaml, sizeof yaml, "auth: { realm: %s }\n", realms[_i]);
	r = load_text(yaml);
	ck_assert_msg(r->rc == 0, "%s: %s", yaml, r->reports);
	ck_assert_str_eq(r->conf.realm, realms[_i]);
	ck_assert_str_eq(r->users->realm, realms[_i]);
	unload(r);
}
END_TEST

static const char *const accepted[] = {
	"",
	"# nothing\n",
	"---\n",
	"---\n{}\n...\n",
	"auth:\n  # all commented out\nlog:\n",
	("\xef\xbb\xbf"
	 "auth: { realm: x }\n"),
	"? auth\n: { realm: x }\n",
	"peers: { deny: 10.0.0.0/8 }\n",
	"peers: { deny: [] }\n",
	"relay: { default_lifetime: 30m, max_lifetime: 30m }\n",
	"process: { workers: 2, shards: 2 }\n",
	"metrics: { address: \"::1\" }\n",
	"auth: { users: {} }\n",
};

START_TEST(accepts)
{
	struct loaded *r = load_text(accepted[_i]);

	ck_assert_msg(r->rc == 0, "%s: %s", accepted[_i], r->reports);
	unload(r);
}
END_TEST

START_TEST(reports_all)
{
	struct loaded *r = load_text(
	    "auth: { relm: x, nonce_lifetime: 5 }\nmetrics: { port: 0 }\nlisteners: [ { port: 0 } ]\n"
	    "peers: { deny: [ 10.0.0.0/33, 10.0.0.1/8 ] }\n");

	ck_assert_uint_eq(r->errors, 6);
	ck_assert_ptr_nonnull(strstr(r->reports, "text:1:9:"));
	ck_assert_ptr_nonnull(strstr(r->reports, "text:1:34:"));
	ck_assert_ptr_nonnull(strstr(r->reports, "text:2:18:"));
	ck_assert_ptr_nonnull(strstr(r->reports, "text:3:22:"));
	ck_assert_ptr_nonnull(strstr(r->reports, "text:4:18:"));
	ck_assert_ptr_nonnull(strstr(r->reports, "text:4:31:"));
	unload(r);
}
END_TEST

/* What a stranger wrote into a file cannot forge a line of ours. */
START_TEST(messages_are_one_line)
{
	struct loaded *r = load_text("\"a\\nb\\e[2J\": 1\n");

	ck_assert_uint_eq(r->errors, 1);
	ck_assert_ptr_nonnull(strstr(r->reports, "a\\x0ab\\x1b[2J"));
	unload(r);
}
END_TEST

START_TEST(large_file)
{
	size_t n = (1u << 20) + 2;
	char *text = malloc(n + 1);
	struct loaded *r;

	memset(text, '#', n);
	text[n] = '\0';
	r = load_text(text);
	ck_assert_uint_eq(r->errors, 1);
	ck_assert_ptr_nonnull(strstr(r->reports, "at most 1048576 bytes"));
	unload(r);
	text[n - 2] = '\0';
	r = load_text(text);
	ck_assert_int_eq(r->rc, 0);
	unload(r);
	free(text);
}
END_TEST

static struct loaded *
set1(const char *yaml, const char *a)
{
	return load_sets(yaml, &a, 1);
}

START_TEST(set_overrides)
{
	static const char *const sets[] = {
		"auth.realm=a b: c",
		"limits.bandwidth_total=8kbit",
		"listeners=[{address: 127.0.0.1, port: 3479, transport: udp}]",
		"relay.addresses=127.0.0.1",
		"peers.deny=[10.0.0.0/8, 11.0.0.0/8]",
	};
	struct loaded *r = load_sets(
	    "auth: { realm: file }\nlisteners: [ { address: '::1' } ]\nrelay: { addresses: [ \"::1\" ] }\n"
	    "peers: { deny: 12.0.0.0/8 }\nlog: { level: debug }\n",
	    sets, TP_COUNT(sets));

	ck_assert_msg(r->rc == 0, "%s", r->reports);
	ck_assert_str_eq(r->conf.realm, "a b: c");
	ck_assert_uint_eq(r->conf.bandwidth_total, 1000);
	ck_assert_uint_eq(r->conf.listener_count, 1);
	ck_assert_uint_eq(r->conf.listeners[0].addr.port, 3479);
	ck_assert_str_eq(r->conf.listeners[0].where, "--set listeners");
	ck_assert_uint_eq(r->conf.relay_count, 1);
	ck_assert_uint_eq(r->conf.peer_deny.count, 2);
	ck_assert_uint_eq(r->conf.log_level, LOG_L_DEBUG);
	unload(r);
}
END_TEST

static const struct {
	const char *set, *says;
} bad_sets[] = {
	{ "auth.relm=x", "--set: unknown key auth.relm; did you mean auth.realm?" },
	{ "auth.realm", "--set: auth.realm: allowed: KEY=VALUE" },
	{ "metrics.port=x", "--set metrics.port: metrics.port: \"x\": allowed" },
	{ "metrics.port=", "--set metrics.port: metrics.port: \"\": allowed" },
	{ "listeners=[{port: 0}]", "--set listeners: listeners: port" },
	{ "listeners=[", "--set listeners: not YAML" },
	{ "auth.secrets=[an-inline-secret-on-a-command-line]", "command line" },
	{ "auth.users={a: b}", "command line" },
	{ "include=[x]", "unknown key include" },
};

START_TEST(set_refuses)
{
	struct loaded *r = set1("", bad_sets[_i].set);

	ck_assert_msg(r->errors == 1, "%u: %s", r->errors, r->reports);
	ck_assert_msg(strstr(r->reports, bad_sets[_i].says) != NULL, "%s", r->reports);
	unload(r);
}
END_TEST

START_TEST(set_twice)
{
	static const char *const sets[] = { "auth.realm=a", "auth.realm=b" };
	struct loaded *r = load_sets("", sets, 2);

	ck_assert_uint_eq(r->errors, 1);
	ck_assert_ptr_nonnull(strstr(r->reports, "given twice"));
	unload(r);
}
END_TEST

/* A wrong value in the file is an error even when the command line overrides it. */
START_TEST(overridden_is_checked)
{
	struct loaded *r = set1("metrics: { port: 0 }\n", "metrics.port=1");

	ck_assert_uint_eq(r->errors, 1);
	unload(r);
}
END_TEST

Suite *
suite_yaml(void)
{
	Suite *s = suite_create("conf yaml");
	TCase *t = tcase_create("yaml");

	tcase_add_loop_test(t, refuses, 0, (int)TP_COUNT(refused));
	tcase_add_loop_test(t, text_stays_text, 0, (int)TP_COUNT(realms));
	tcase_add_loop_test(t, accepts, 0, (int)TP_COUNT(accepted));
	tcase_add_test(t, reports_all);
	tcase_add_test(t, messages_are_one_line);
	tcase_add_test(t, large_file);
	tcase_add_test(t, set_overrides);
	tcase_add_loop_test(t, set_refuses, 0, (int)TP_COUNT(bad_sets));
	tcase_add_test(t, set_twice);
	tcase_add_test(t, overridden_is_checked);
	suite_add_tcase(s, t);
	return s;
}
