/* SPDX-License-Identifier: BSD-3-Clause */
/* check_conf.h: what the unit tests of conf share. */
#ifndef TP_CHECK_CONF_H
#define TP_CHECK_CONF_H

#include <check.h>

#include "tp/conf.h"

/* One load and everything that came of it. */
struct loaded {
	struct conf conf;
	struct users *users;
	size_t users_len;
	int rc;
	unsigned errors, warnings;
	char reports[32768]; /* a line each */
};
/* A host with 127.0.0.1, ::1, 192.0.2.10, 2001:db8::10 and fe80::1; default routes over the global two. */
extern const struct conf_host test_host;
/* The caller frees with unload(). */
struct loaded *load_text(const char *yaml);
struct loaded *load_sets(const char *yaml, const char *const *sets, unsigned count);
struct loaded *load_path_of(const char *path);
void unload(struct loaded *r);

/* A directory of the test's own, removed by temp_remove(). */
extern char temp_dir[64];
void temp_make(void);
void temp_remove(void);
/* Writes temp_dir/name (directories in it are made) and returns its path (static buffer of four). */
const char *temp_file(const char *name, const char *text, unsigned mode);

Suite *suite_options(void);
Suite *suite_yaml(void);
Suite *suite_lists(void);
Suite *suite_files(void);
Suite *suite_dump(void);
Suite *suite_certs(void);

#endif
