/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * files.c: paths, files and includes: what a configuration names on disk.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdlib.h>
#include <unistd.h>

#include "conf_int.h"

const char *
load_path(struct load *l, const struct node *n, const char *path)
{
	const char *dir;

	if (n->src->is_text) {
		load_error(l, n, "a file cannot be named here: this configuration is not a file itself");
		return NULL;
	}
	if (strncmp(path, "credential:", 11) == 0) {
		dir = getenv("CREDENTIALS_DIRECTORY");
		if (dir == NULL || dir[0] == '\0') {
			load_error(l, n,
			    "%s: there are no service credentials ($CREDENTIALS_DIRECTORY is not set); use "
			    "LoadCredential= in the systemd unit, or a plain path",
			    load_show(l, n));
			return NULL;
		}
		if (path[11] == '\0' || strchr(path + 11, '/') != NULL) {
			load_error(l, n, "%s: allowed: credential:NAME without slashes", load_show(l, n));
			return NULL;
		}
		return load_printf(l, "%s/%s", dir, path + 11);
	}
	if (path[0] == '/' || n->src->dir[0] == '\0')
		return load_printf(l, "%s", path);
	return load_printf(l, "%s/%s", n->src->dir, path);
}

/* For the main file the report begins with its name already. */
static const char *
subject(struct load *l, const struct node *at, const char *path)
{
	return at != NULL ? load_printf(l, "%s: ", path) : "";
}

/* Blocking opens of FIFOs and devices would hang a reload: only regular files, opened without waiting. */
static int
open_regular(struct load *l, const struct node *at, const char *path, struct stat *st)
{
	int fd = readable_open(l, path);

	if (fd == -EACCES && geteuid() == 0) {
		load_error(l, at,
		    "%scannot read: neither root without its special rights nor the owner nor user %s may: chown root it, "
		    "or chown it to that user",
		    subject(l, at, path), l->conf->user);
		return -1;
	}
	if (fd < 0 || fstat(fd, st) < 0) {
		load_error(
		    l, at, "%scannot read: %s", subject(l, at, path), strerror(fd < 0 ? -fd : errno));
		if (fd >= 0)
			close(fd);
		return -1;
	}
	readable_owner(l, at, path, st);
	if (!S_ISREG(st->st_mode)) {
		load_error(l, at, "%snot a regular file", subject(l, at, path));
		close(fd);
		return -1;
	}
	return fd;
}

char *
load_file(struct load *l, const struct node *at, const char *path, size_t max, size_t *len, struct stat *st)
{
	int fd = open_regular(l, at, path, st);
	char *text = NULL;
	size_t n = 0;
	ssize_t got = 1;

	if (fd < 0)
		return NULL;
	if ((uint64_t)st->st_size > max) {
		load_error(l, at, "%stoo large: at most %zu bytes are allowed", subject(l, at, path), max);
		goto out;
	}
	text = load_alloc(l, (size_t)st->st_size + 1);
	while (n < (size_t)st->st_size && got > 0) {
		got = read(fd, text + n, (size_t)st->st_size - n);
		if (got > 0)
			n += (size_t)got;
	}
	if (got < 0) {
		load_error(l, at, "%scannot read", subject(l, at, path));
		text = NULL;
	}
	*len = n;
out:
	close(fd);
	return text;
}

/* A directory that is not there holds no match; one that cannot be read is an error. */
static int
glob_failed(const char *path, int error)
{
	(void)path;
	return error != ENOENT && error != ENOTDIR;
}

/* The directory is taken literally, only the include's own text is a pattern. */
static char *
pattern_of(struct load *l, const struct node *n)
{
	char *out;
	size_t at = 0;

	if (n->text[0] == '/')
		return load_printf(l, "%s", n->text);
	out = load_alloc(l, 2 * strlen(n->src->dir) + n->len + 2);
	for (const char *s = n->src->dir; *s != '\0'; s++) {
		if (strchr("*?[]\\", *s) != NULL)
			out[at++] = '\\';
		out[at++] = *s;
	}
	if (at > 0)
		out[at++] = '/';
	memcpy(out + at, n->text, n->len + 1);
	return out;
}

void
include_each(
    struct load *l, const struct node *n, void (*cb)(struct load *, const struct node *, const char *))
{
	glob_t g = { 0 };
	int rc;

	if (n->kind != NODE_SCALAR || n->len == 0) {
		load_error(l, n,
		    "include: %s: allowed: PATH or a list of PATH, with * and ? for several files",
		    load_show(l, n));
		return;
	}
	if (n->src->is_text || n->src->is_set) {
		load_error(l, n, "include: only a file may include files");
		return;
	}
	rc = glob(pattern_of(l, n), 0, glob_failed, &g);
	if (rc == GLOB_NOSPACE)
		abort();
	if (rc == GLOB_NOMATCH && strpbrk(n->text, "*?[") == NULL)
		load_error(l, n,
		    "include: %s: there is no such file; only a pattern (with * or ?) may match none",
		    load_show(l, n));
	if (rc == GLOB_ABORTED)
		load_error(
		    l, n, "include: %s: cannot read the directory: %s", load_show(l, n), strerror(errno));
	for (size_t i = 0; rc == 0 && i < g.gl_pathc; i++)
		cb(l, n, load_printf(l, "%s", g.gl_pathv[i]));
	globfree(&g);
}
