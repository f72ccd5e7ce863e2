/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * files_changed.c: are the files of certificates and secrets still those that were read?
 */
#include "config.h"

#include <sys/stat.h>

#include "tp/conf.h"

struct conf_stamp
conf_stamp_of(const struct stat *st)
{
	return (struct conf_stamp){ .dev = st->st_dev,
		.ino = st->st_ino,
		.size = (uint64_t)st->st_size,
		.mtime_ns = (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec };
}

static bool
is_same(const struct conf_stamp *a, const struct conf_stamp *b)
{
	return a->dev == b->dev && a->ino == b->ino && a->size == b->size && a->mtime_ns == b->mtime_ns;
}

struct looking {
	uint64_t mix;
	const char *found;
};

/* One that is not there now is being replaced: it comes back. */
static void
look(struct looking *l, const char *path, const struct conf_stamp *was)
{
	struct conf_stamp now;
	struct stat st;

	if (path[0] == '\0' || stat(path, &st) < 0)
		return;
	now = conf_stamp_of(&st);
	l->mix = (l->mix ^ now.ino ^ now.size << 20 ^ (uint64_t)now.mtime_ns) * 0x9e3779b97f4a7c15u;
	if (!is_same(&now, was) && l->found == NULL)
		l->found = path;
}

bool
conf_has_files(const struct conf *c)
{
	return c->certificate_count > 0 || c->secret_file_count > 0;
}

const char *
conf_changed_file(const struct conf *c, uint32_t *mix)
{
	struct looking l = { .mix = c->certificate_count };

	for (uint32_t i = 0; i < c->certificate_count; i++) {
		const struct conf_certificate *x = &c->certificates[i];
		look(&l, x->certificate, &x->stamp[CERT_FILE_CHAIN]);
		look(&l, x->key, &x->stamp[CERT_FILE_KEY]);
		look(&l, x->password_file, &x->stamp[CERT_FILE_PASSWORD]);
	}
	for (uint32_t i = 0; i < c->secret_file_count; i++)
		look(&l, c->secret_files[i].path, &c->secret_files[i].stamp);
	*mix = (uint32_t)(l.mix >> 32) | 1;
	return l.found;
}
