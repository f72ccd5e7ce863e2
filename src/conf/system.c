/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * system.c: what a start would ask this host beside addresses and ports: the user that the daemon runs
 * as, the file of the log.
 */
#include "config.h"

#include <errno.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conf_int.h"

/* As the supervisor decides: a tree that was just unpacked runs as the user nobody until there is a user
 * of its own. */
#define DEFAULT_USER  "turnpike"
#define STAND_IN_USER "nobody"

static void
check_user(struct load *l)
{
	const char *user = l->conf->user;
	const struct passwd *pw;

	if (geteuid() != 0)
		return;
	pw = getpwnam(user);
	if (pw != NULL && pw->pw_uid == 0)
		load_error(l, l->seen[OPTION_user],
		    "process.user: %s is root: processes that read what strangers send would have all its "
		    "rights; name a user without any",
		    user);
	else if (pw == NULL && (strcmp(user, DEFAULT_USER) != 0 || getpwnam(STAND_IN_USER) == NULL))
		load_error(l, l->seen[OPTION_user],
		    "process.user: there is no user %s on this host: make it (adduser --system --group %s) "
		    "or name another",
		    user, user);
}

static void
log_error(struct load *l, const char *what)
{
	load_error(l, l->seen[OPTION_log_target], "log.target: %s: %s", l->conf->log_target, what);
}

static void
check_log_directory(struct load *l)
{
	char dir[sizeof l->conf->log_target];
	struct stat st;
	char *slash;

	text_copy(dir, sizeof dir, l->conf->log_target);
	slash = strrchr(dir, '/');
	slash[slash == dir] = '\0';
	if (stat(dir, &st) < 0 && (errno == ENOENT || errno == ENOTDIR))
		log_error(l, load_printf(l, "there is no directory %s: make it", dir));
	else if (access(dir, W_OK) < 0 && (errno == EROFS || (errno == EACCES && geteuid() != 0)))
		log_error(l, load_printf(l, "no file can be made in %s: %s", dir, strerror(errno)));
}

/* turnpike-admin opens it without following a link, and only what it can append to. */
static void
check_log(struct load *l)
{
	const char *path = l->conf->log_target;
	struct stat st;

	if (path[0] != '/')
		return;
	if (lstat(path, &st) < 0) {
		if (errno == ENOENT || errno == ENOTDIR)
			check_log_directory(l);
		return;
	}
	if (S_ISLNK(st.st_mode))
		log_error(l, "a symbolic link, which is not followed: name the file itself, or use stderr");
	else if (S_ISDIR(st.st_mode))
		log_error(l, "a directory: name a file in it");
	else if (access(path, W_OK) < 0 && errno == EROFS)
		log_error(l, strerror(EROFS));
}

void
system_check(struct load *l)
{
	check_user(l);
	check_log(l);
}
