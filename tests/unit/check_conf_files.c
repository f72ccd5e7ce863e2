/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_conf_files.c: unit tests of conf/files.c, creds.c, firstrun.c: includes, paths, secrets, users,
 * the documented example.
 */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check_conf.h"

#define LOOPBACK "listeners: { address: 127.0.0.1 }\n"
#define GOOD     "uC4mZ0yJx0kQm7mB9fJtq3Yw2s8VdLhRkP"
static const char md5_hex[] = "d41d8cd98f00b204e9800998ecf8427e";

/* ---- the example, exactly as documented --------------------------------------------------------- */

static void
copy_example(const char *name, unsigned mode)
{
	const char *srcdir = getenv("top_srcdir");
	char path[512], text[8192];
	size_t n;
	FILE *f;

	snprintf(path, sizeof path, "%s/tests/unit/conf/%s", srcdir != NULL ? srcdir : ".", name);
	f = fopen(path, "r");
	ck_assert_msg(f != NULL, "%s", path);
	n = fread(text, 1, sizeof text - 1, f);
	text[n] = '\0';
	fclose(f);
	temp_file(name, text, mode);
}

static struct loaded *
load_example(void)
{
	char path[128];

	copy_example("conf.d/more.yaml", 0640);
	copy_example("bob.key", 0640);
	copy_example("new.secret", 0640);
	copy_example("example.yaml", 0640);
	snprintf(path, sizeof path, "%s/example.yaml", temp_dir);
	return load_path_of(path);
}

START_TEST(example)
{
	struct loaded *r = load_example();
	const struct users_user *u;
	const struct users_secret *s;
	char *real;

	ck_assert_msg(r->rc == 0, "%s", r->reports);
	ck_assert_uint_eq(r->warnings, 3); /* the documented password and secret; 10.0.0.5 is not ours */
	ck_assert_str_eq(r->conf.realm, "example.org");
	ck_assert_uint_eq(r->conf.listener_count, 2);
	ck_assert_str_eq(r->conf.listeners[1].where, "example.yaml:8");
	ck_assert_uint_eq(r->conf.relay_count, 3);
	ck_assert_uint_eq(r->conf.relays[1].port_min, 50000);
	ck_assert_uint_eq(r->conf.max_lifetime, 3600000);
	ck_assert_uint_eq(r->conf.bandwidth_per_user, 2500000);
	ck_assert_uint_eq(r->conf.workers, 2);
	ck_assert_uint_eq(r->conf.channels_per_allocation, 64); /* conf.d/more.yaml */
	ck_assert_str_eq(r->conf.log_target, "stderr");
	ck_assert_str_eq(r->conf.metrics_address, "127.0.0.1");
	ck_assert(!r->conf.has_names);
	real = realpath(temp_dir, NULL);
	ck_assert_msg(strncmp(r->conf.file, real, strlen(real)) == 0, "%s", r->conf.file);
	free(real);
	ck_assert_uint_eq(r->users->user_count, 3); /* sorted: alice, bob, carol */
	u = users_users(r->users);
	ck_assert_mem_eq(u[0].name, "alice", 6);
	ck_assert_mem_eq(u[0].pass, "wonderland", 10);
	ck_assert_uint_eq(u[0].kind, USERS_PASSWORD);
	ck_assert_mem_eq(u[1].name, "bob", 4);
	ck_assert_uint_eq(u[1].kind, USERS_KEY_MD5);
	ck_assert_uint_eq(u[1].pass_len, 16);
	ck_assert_uint_eq(u[1].pass[0], 0xd4);
	ck_assert_uint_eq(u[1].pass[15], 0x7e);
	ck_assert_mem_eq(u[2].name, "carol", 6);
	ck_assert_uint_eq(r->users->secret_count, 2);
	s = users_secrets(r->users);
	ck_assert_uint_eq(s[0].len, 32); /* the newline is gone */
	ck_assert_int_eq(s[0].until, 0);
	ck_assert_uint_eq(s[1].len, 33);
	ck_assert_int_eq(s[1].until, 1893456000);
	unload(r);
}
END_TEST

/* ---- includes --------------------------------------------------------------------------------- */

static struct loaded *
load_main(const char *text)
{
	return load_path_of(temp_file("main.yaml", text, 0600));
}

static void
expect_one(struct loaded *r, const char *says)
{
	ck_assert_msg(r->errors == 1, "%u errors:\n%s", r->errors, r->reports);
	ck_assert_msg(strstr(r->reports, says) != NULL, "says:\n%s", r->reports);
	unload(r);
}

START_TEST(includes_append_and_nest)
{
	struct loaded *r;

	temp_file("d/a.yaml", "peers: { deny: 10.0.0.0/8 }\ninclude: ../e/c.yaml\n", 0600);
	temp_file(
	    "d/b.yaml", "peers: { deny: [ 11.0.0.0/8 ] }\nauth: { secrets: { file: b.secret } }\n", 0600);
	temp_file("d/b.secret", GOOD "\n", 0600);
	temp_file("e/c.yaml",
	    "log: { target: ./c.log }\nauth: { users: { c: { password_file: c.pass } } }\n", 0600);
	temp_file("e/c.pass", "good-enough-password", 0600);
	r = load_main(
	    "include: [ \"d/*.yaml\", \"none/*.yaml\", missing*.yaml ]\npeers: { deny: 12.0.0.0/8 }\n");
	ck_assert_msg(r->rc == 0, "%s", r->reports);
	ck_assert_uint_eq(r->conf.peer_deny.count, 3);
	ck_assert_uint_eq(r->users->secret_count, 1);
	ck_assert_uint_eq(users_secrets(r->users)[0].len, strlen(GOOD));
	ck_assert_uint_eq(r->users->user_count, 1);
	ck_assert_ptr_nonnull(strstr(r->conf.log_target, "e/./c.log"));
	unload(r);
}
END_TEST

START_TEST(scalar_twice_names_both)
{
	char says[256];

	temp_file("x.yaml", "auth: { realm: b }\n", 0600);
	snprintf(says, sizeof says,
	    "%s/main.yaml:2:16: auth.realm: set twice: the first is at %s/x.yaml:1:16", temp_dir, temp_dir);
	expect_one(load_main("include: x.yaml\nauth: { realm: a }\n"), says);
}
END_TEST

START_TEST(user_twice_names_both)
{
	char says[256];

	temp_file("x.yaml", "auth: { users: { a: good-enough-password } }\n", 0600);
	snprintf(says, sizeof says, "%s/x.yaml:1:18", temp_dir);
	expect_one(load_main("include: x.yaml\nauth: { users: { a: good-enough-password } }\n"), says);
}
END_TEST

START_TEST(include_loop)
{
	temp_file("x.yaml", "include: main.yaml\n", 0600);
	expect_one(load_main("include: x.yaml\n"), "is read already");
	expect_one(load_main("include: main.yaml\n"), "is read already");
	temp_file("y.yaml", "", 0600);
	expect_one(load_main("include: [ y.yaml, ./y.yaml ]\n"), "is read already");
}
END_TEST

START_TEST(include_depth)
{
	struct loaded *r;
	char name[16], text[32];

	for (unsigned i = 1; i <= 9; i++) {
		snprintf(name, sizeof name, "%u.yaml", i);
		snprintf(text, sizeof text, "include: %u.yaml\n", i + 1);
		temp_file(name, i == 9 ? "" : text, 0600);
	}
	expect_one(load_main("include: 1.yaml\n"), "at most 8 levels");
	temp_file("8.yaml", "", 0600);
	r = load_main("include: 1.yaml\n");
	ck_assert_msg(r->rc == 0, "%s", r->reports);
	unload(r);
}
END_TEST

START_TEST(unreadable)
{
	struct loaded *r = load_path_of("does/not/exist.yaml");

	ck_assert_str_eq(r->reports, "does/not/exist.yaml: cannot read: No such file or directory\n");
	unload(r);
	expect_one(load_path_of(temp_dir), "not a regular file");
	expect_one(load_path_of(temp_file("w.yaml", "", 0606)), "all users may write");
	temp_file("i.yaml", "auth: [", 0600);
	expect_one(load_main("include: i.yaml\n"), "i.yaml:");
}
END_TEST

START_TEST(fifo_does_not_hang)
{
	char path[128];

	snprintf(path, sizeof path, "%s/fifo", temp_dir);
	ck_assert_int_eq(mkfifo(path, 0600), 0);
	expect_one(load_path_of(path), "not a regular file");
}
END_TEST

/* The directory's own name is no pattern. */
START_TEST(pattern_in_directory)
{
	struct loaded *r;

	temp_file("a[b]/x.yaml", "auth: { realm: included }\n", 0600);
	r = load_path_of(temp_file("a[b]/main.yaml", "include: x*.yaml\n", 0600));
	ck_assert_msg(r->rc == 0, "%s", r->reports);
	ck_assert_str_eq(r->conf.realm, "included");
	unload(r);
}
END_TEST

/* ---- secret files ------------------------------------------------------------------------------ */

START_TEST(secret_files)
{
	struct loaded *r;
	char link_path[128];

	temp_file("s", GOOD, 0644);
	expect_one(load_main("auth: { secrets: { file: s } }\n"), "all users may read this file");
	temp_file("s", GOOD, 0602);
	expect_one(load_main("auth: { secrets: { file: s } }\n"), "all users may write this file");
	temp_file("s", GOOD "\n\n", 0640);
	expect_one(load_main("auth: { secrets: { file: s } }\n"), "one line of text");
	static const char *const strays[] = { " " GOOD, GOOD " ", GOOD "\t\n", "\xef\xbb\xbf" GOOD,
		GOOD "\xc2\xa0\n", GOOD "\xe2\x80\x8b", "\xe2\x80\x8d" GOOD "\n" };
	for (unsigned i = 0; i < TP_COUNT(strays); i++) {
		temp_file("s", strays[i], 0640);
		expect_one(load_main("auth: { secrets: { file: s } }\n"), "zero-width character stands");
		expect_one(load_main("auth: { users: { ann: { password_file: s } } }\n"),
		    "zero-width character stands");
	}
	temp_file("s", "\n", 0640);
	expect_one(load_main("auth: { secrets: { file: s } }\n"), "1 to 256 bytes");
	expect_one(load_main("auth: { secrets: { file: nowhere } }\n"), "cannot read: No such file");
	temp_file("s", GOOD "\n", 0640);
	snprintf(link_path, sizeof link_path, "%s/link", temp_dir);
	ck_assert_int_eq(symlink("s", link_path), 0);
	r = load_main("auth: { secrets: { file: link } }\n");
	ck_assert_msg(r->rc == 0 && r->warnings == 0, "%s", r->reports);
	ck_assert_uint_eq(users_secrets(r->users)[0].len, strlen(GOOD));
	unload(r);
}
END_TEST

START_TEST(secret_longest)
{
	char text[USERS_SECRET_MAX + 3];
	struct loaded *r;

	memset(text, 'x', sizeof text);
	text[USERS_SECRET_MAX] = '\n';
	text[USERS_SECRET_MAX + 1] = '\0';
	temp_file("s", text, 0600);
	r = load_main("auth: { secrets: { file: s } }\n");
	ck_assert_msg(r->rc == 0, "%s", r->reports);
	ck_assert_uint_eq(users_secrets(r->users)[0].len, USERS_SECRET_MAX);
	unload(r);
	text[USERS_SECRET_MAX] = 'x';
	temp_file("s", text, 0600);
	expect_one(load_main("auth: { secrets: { file: s } }\n"), "1 to 256 bytes");
}
END_TEST

START_TEST(credentials_directory)
{
	struct loaded *r;

	unsetenv("CREDENTIALS_DIRECTORY");
	expect_one(load_main("auth: { secrets: { file: credential:turn } }\n"),
	    "$CREDENTIALS_DIRECTORY is not set");
	setenv("CREDENTIALS_DIRECTORY", temp_dir, 1);
	temp_file("turn", GOOD "\n", 0400);
	r = load_main("auth: { secrets: { file: \"credential:turn\" } }\n");
	ck_assert_msg(r->rc == 0, "%s", r->reports);
	ck_assert_uint_eq(r->users->secret_count, 1);
	unload(r);
	expect_one(load_main("auth: { secrets: { file: credential:../turn } }\n"), "without slashes");
	expect_one(load_main("auth: { secrets: { file: \"credential:\" } }\n"), "without slashes");
}
END_TEST

static const struct {
	const char *yaml, *says;
} bad_credentials[] = {
	{ "auth: { users: [ a ] }\n", "auth.users: a list" },
	{ "auth: { users: alice }\n", "auth.users: text" },
	{ "auth: { users: { a: } }\n", "auth.users: password: allowed: text of 1 to 256 bytes" },
	{ "auth: { users: { a: [ b ] } }\n", "exactly one of" },
	{ "auth: { users: { a: {} } }\n", "exactly one of" },
	{ "auth: { users: { a: { password: long-enough, key_file: k } } }\n", "exactly one of" },
	{ "auth: { users: { \"\": long-enough } }\n", "a name of 1 to 128 bytes" },
	{ "auth: { users: { \"a\\tb\": long-enough } }\n", "control characters" },
	{ "auth: { users: { a: { key_file: bad.key } } }\n", "32 hexadecimal digits" },
	{ "auth: { users: { a: { key_file: short.key } } }\n", "32 hexadecimal digits" },
	{ "auth: { secrets: [ { until: \"2030-01-01T00:00:00Z\" } ] }\n", "auth.secrets: allowed" },
	{ "auth: { secrets: [ { value: " GOOD ", file: x } ] }\n", "auth.secrets: allowed" },
	{ "auth: { secrets: [ { value: " GOOD ", until: tomorrow } ] }\n",
	    "auth.secrets: until: \"tomorrow\": allowed" },
	{ "auth: { secrets: [ { value: " GOOD ", until: 2030-01-01 } ] }\n", "auth.secrets: until" },
	{ "auth: { secrets: [ [ a ] ] }\n", "auth.secrets: allowed" },
	{ "auth: { secrets: \"\" }\n", "1 to 256 bytes" },
	{ "auth: { secrets: changeme-not, users: { a: wonderland } }\n", "in public documents" },
	{ "auth: { secrets: a-long-shared-secret-for-rest-use }\n", "in public documents" },
	{ LOOPBACK "auth: { users: { a: { passwort: x } } }\n", "unknown key \"passwort\"" },
};

START_TEST(refuses_credentials)
{
	struct loaded *r;

	temp_file("bad.key", "d41d8cd98f00b204e9800998ecf8427x\n", 0600);
	temp_file("short.key", "d41d8cd98f00b204e9800998ecf8427\n", 0600);
	r = load_main(bad_credentials[_i].yaml);
	ck_assert_msg(r->errors >= 1, "%s", bad_credentials[_i].yaml);
	ck_assert_msg(strstr(r->reports, bad_credentials[_i].says) != NULL, "%s says:\n%s",
	    bad_credentials[_i].yaml, r->reports);
	/* Whatever is wrong, no value of a credential gets into a message. */
	ck_assert_ptr_null(strstr(r->reports, GOOD));
	ck_assert_ptr_null(strstr(r->reports, "wonderland"));
	ck_assert_ptr_null(strstr(r->reports, "d41d8"));
	unload(r);
}
END_TEST

START_TEST(credentials)
{
	struct loaded *r;

	temp_file("md5", md5_hex, 0600);
	temp_file("sha", "E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855\n", 0600);
	r = load_main(
	    "auth:\n  users:\n    no: 010\n    a: { key_file: md5 }\n    b: { key_file: sha }\n    c: { password: yes-it-is }\n");
	ck_assert_msg(r->rc == 0 && r->warnings == 0, "%s", r->reports);
	ck_assert(r->conf.has_names);
	ck_assert_uint_eq(r->conf.user_count, 4);
	ck_assert_uint_eq(users_users(r->users)[1].kind, USERS_KEY_SHA256);
	ck_assert_uint_eq(users_users(r->users)[1].pass[0], 0xe3);
	ck_assert_mem_eq(users_users(r->users)[3].name, "no", 3);
	ck_assert_mem_eq(users_users(r->users)[3].pass, "010", 4);
	unload(r);
	r = load_main(
	    "auth: { secrets: [ 0123e4, { value: " GOOD ", until: \"2001-01-01T00:00:00+01:00\" } ] }\n");
	ck_assert_msg(r->rc == 0 && r->warnings == 2, "%s", r->reports); /* short; ended */
	ck_assert_mem_eq(users_secrets(r->users)[0].value, "0123e4", 7);
	unload(r);
}
END_TEST

START_TEST(inline_in_open_file)
{
	struct loaded *r = load_path_of(
	    temp_file("open.yaml", "auth: { secrets: [ " GOOD ", " GOOD "2 ] }\n", 0644));

	ck_assert_int_eq(r->rc, 0);
	ck_assert_uint_eq(r->warnings, 1);
	ck_assert_ptr_nonnull(strstr(r->reports, "chmod o-r"));
	unload(r);
	r = load_path_of(temp_file("open.yaml", "auth: { realm: x }\n", 0644));
	ck_assert_uint_eq(r->warnings, 0);
	unload(r);
}
END_TEST

/* ---- first start ------------------------------------------------------------------------------- */

static void
on_report(void *arg, enum log_level level, const char *text)
{
	snprintf(arg, 600, "%u %s", level, text);
}

START_TEST(first_secret)
{
	struct loaded *r = load_text(""), *again = load_text("");
	char said[600] = "", path[128], dir[160];
	struct stat st;

	snprintf(path, sizeof path, "%s/secret", temp_dir);
	ck_assert_int_eq(
	    conf_first_secret(temp_dir, true, &r->conf, &r->users, &r->users_len, on_report, said), 0);
	ck_assert_msg(strstr(said, path) != NULL, "%s", said);
	ck_assert_int_ne(access(path, F_OK), 0);
	ck_assert_uint_eq(r->users->secret_count, 0);
	ck_assert_int_eq(
	    conf_first_secret(temp_dir, false, &r->conf, &r->users, &r->users_len, on_report, said), 0);
	ck_assert_msg(
	    strstr(said, "a random secret was made") != NULL && strstr(said, path) != NULL, "%s", said);
	ck_assert_int_eq(said[0], '0' + LOG_L_WARN);
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, 0600);
	ck_assert_int_eq(users_validate(r->users, r->users_len), 0);
	ck_assert_uint_eq(r->conf.secret_count, 1);
	ck_assert_uint_eq(users_secrets(r->users)[0].len, 43);
	/* The second start finds it. */
	ck_assert_int_eq(conf_first_secret(temp_dir, false, &again->conf, &again->users, &again->users_len,
			     on_report, said),
	    0);
	ck_assert_uint_eq(r->users_len, again->users_len);
	ck_assert_mem_eq(r->users, again->users, r->users_len);
	ck_assert_ptr_null(strstr(said, (const char *)users_secrets(r->users)[0].value));
	ck_assert_int_eq(chmod(path, 0644), 0);
	ck_assert_int_lt(conf_first_secret(temp_dir, false, &again->conf, &again->users, &again->users_len,
			     on_report, said),
	    0);
	/* Directories that are missing are made; a file in their place is an error. */
	snprintf(dir, sizeof dir, "%s/not/yet", temp_dir);
	ck_assert_int_eq(
	    conf_first_secret(dir, false, &again->conf, &again->users, &again->users_len, on_report, said),
	    0);
	ck_assert_int_eq(stat(dir, &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, 0700);
	snprintf(dir, sizeof dir, "%s/not/yet/secret", temp_dir);
	ck_assert_int_eq(unlink(dir), 0);
	snprintf(dir, sizeof dir, "%s/not/yet", temp_dir);
	ck_assert_int_eq(rmdir(dir), 0);
	snprintf(dir, sizeof dir, "%s/not", temp_dir);
	ck_assert_int_eq(rmdir(dir), 0);
	snprintf(dir, sizeof dir, "%s/below", path);
	ck_assert_int_lt(
	    conf_first_secret(dir, false, &again->conf, &again->users, &again->users_len, on_report, said),
	    0);
	unload(r);
	unload(again);
}
END_TEST

Suite *
suite_files(void)
{
	Suite *s = suite_create("conf files");
	TCase *t = tcase_create("files");

	tcase_add_checked_fixture(t, temp_make, temp_remove);
	tcase_add_test(t, example);
	tcase_add_test(t, includes_append_and_nest);
	tcase_add_test(t, scalar_twice_names_both);
	tcase_add_test(t, user_twice_names_both);
	tcase_add_test(t, include_loop);
	tcase_add_test(t, include_depth);
	tcase_add_test(t, unreadable);
	tcase_add_test(t, fifo_does_not_hang);
	tcase_add_test(t, pattern_in_directory);
	tcase_add_test(t, secret_files);
	tcase_add_test(t, secret_longest);
	tcase_add_test(t, credentials_directory);
	tcase_add_loop_test(t, refuses_credentials, 0, (int)TP_COUNT(bad_credentials));
	tcase_add_test(t, credentials);
	tcase_add_test(t, inline_in_open_file);
	tcase_add_test(t, first_secret);
	suite_add_tcase(s, t);
	return s;
}
