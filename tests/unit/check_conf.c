/* SPDX-License-Identifier: BSD-3-Clause */
/* check_conf.c: unit tests of conf: the runner and its helpers. */
#include "config.h"

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check_conf.h"

const struct conf_host test_host = {
	.addr_count = 5,
	.addr = {
		{ .family = ADDR_V4, .ip = { 127, 0, 0, 1 } },
		{ .family = ADDR_V6, .ip = { [15] = 1 } },
		{ .family = ADDR_V4, .ip = { 192, 0, 2, 10 } },
		{ .family = ADDR_V6, .ip = { 0x20, 0x01, 0x0d, 0xb8, [15] = 0x10 } },
		{ .family = ADDR_V6, .ip = { 0xfe, 0x80, [15] = 1 } },
	},
	.route = {
		{ .family = ADDR_V4, .ip = { 192, 0, 2, 10 } },
		{ .family = ADDR_V6, .ip = { 0x20, 0x01, 0x0d, 0xb8, [15] = 0x10 } },
	},
};
char temp_dir[64];

static void
on_report(void *arg, enum log_level level, const char *text)
{
	struct loaded *r = arg;
	size_t at = strlen(r->reports);

	if (level == LOG_L_ERROR)
		r->errors++;
	else
		r->warnings++;
	snprintf(r->reports + at, sizeof r->reports - at, "%s%s\n",
	    level == LOG_L_ERROR ? "" : "warning: ", text);
}

static struct loaded *
load(struct conf_request rq)
{
	struct loaded *r = calloc(1, sizeof *r);

	ck_assert_ptr_nonnull(r);
	rq.host = &test_host;
	rq.report = on_report;
	rq.arg = r;
	r->rc = conf_load(&rq, &r->conf, &r->users, &r->users_len);
	ck_assert_msg((r->rc == 0) == (r->errors == 0), "rc %d with %u errors", r->rc, r->errors);
	if (r->rc == 0) {
		ck_assert_int_eq(conf_validate(&r->conf, sizeof r->conf), 0);
		ck_assert_int_eq(users_validate(r->users, r->users_len), 0);
	}
	return r;
}

struct loaded *
load_text(const char *yaml)
{
	return load((struct conf_request){ .text = yaml, .text_len = strlen(yaml) });
}

struct loaded *
load_sets(const char *yaml, const char *const *sets, unsigned count)
{
	return load((struct conf_request){
	    .text = yaml, .text_len = strlen(yaml), .sets = sets, .set_count = count });
}

struct loaded *
load_path_of(const char *path)
{
	return load((struct conf_request){ .file = path });
}

void
unload(struct loaded *r)
{
	free(r->users);
	free(r);
}

void
temp_make(void)
{
	snprintf(temp_dir, sizeof temp_dir, "check_conf.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(temp_dir));
}

static int
remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	(void)st;
	(void)flag;
	(void)ftw;
	return remove(path);
}

void
temp_remove(void)
{
	nftw(temp_dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

const char *
temp_file(const char *name, const char *text, unsigned mode)
{
	static char paths[4][256];
	static unsigned next;
	char *path = paths[next++ % 4], *slash;
	FILE *f;

	snprintf(path, sizeof paths[0], "%s/%s", temp_dir, name);
	slash = strrchr(path, '/');
	*slash = '\0';
	mkdir(path, 0700);
	*slash = '/';
	f = fopen(path, "w");
	ck_assert_ptr_nonnull(f);
	fputs(text, f);
	fclose(f);
	ck_assert_int_eq(chmod(path, mode), 0);
	return path;
}

/*
 * A container in which all processes belong to root and the service user may have files that all may
 * read.  The tests of such files need a process of another user there; on a host there always is one.
 */
#define OTHER_USER 65533
static pid_t
start_other_user(void)
{
	int ready[2];
	char byte;
	pid_t pid;

	if (geteuid() != 0 || pipe(ready) < 0)
		return -1;
	pid = fork();
	if (pid == 0) {
		int e = setuid(OTHER_USER);

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (write(ready[1], "", e == 0) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	close(ready[1]);
	(void)!read(ready[0], &byte, 1);
	close(ready[0]);
	return pid;
}

int
main(void)
{
	pid_t other = start_other_user();
	SRunner *sr = srunner_create(suite_options());
	int failed;

	srunner_add_suite(sr, suite_yaml());
	srunner_add_suite(sr, suite_lists());
	srunner_add_suite(sr, suite_files());
	srunner_add_suite(sr, suite_dump());
	srunner_add_suite(sr, suite_certs());
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	if (other > 0)
		kill(other, SIGKILL);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
