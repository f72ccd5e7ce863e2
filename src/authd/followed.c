/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * followed.c: what databases say about all users, for the workers: peer lists, limits of the realm,
 * denied users, and the databases' own addresses.  One sealed memfd per version; a worker keeps the last
 * one when this process dies.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lookup_int.h"

static void
add_ranges(struct addr_range *to, uint32_t *count, const struct db_ranges *from)
{
	for (uint32_t i = 0; i < from->count && *count < FOLLOWED_RANGES_MAX; i++)
		to[(*count)++] = from->range[i];
}

/* Of two databases the smaller limit holds. */
static void
least(uint64_t *to, uint64_t value)
{
	if (value != 0 && (*to == 0 || value < *to))
		*to = value;
}

static void
add_denied(struct conf_followed *f, const char *name, int64_t until)
{
	if (f->denied_count == CONF_DENIED_MAX)
		return;
	text_copy(f->denied[f->denied_count].name, CONF_DENIED_NAME, name);
	f->denied[f->denied_count++].until = until;
}

static void
add_facts(struct conf_followed *f, const struct db_facts *d)
{
	add_ranges(f->deny, &f->deny_count, &d->denied);
	add_ranges(f->allow, &f->allow_count, &d->allowed);
	least(&f->max_bps, d->max_bps);
	least(&f->total_quota, d->total_quota);
	least(&f->user_quota, d->user_quota);
	for (uint32_t i = 0; i < d->denied_count; i++)
		add_denied(f, d->user[i].name, d->user[i].until);
}

void
followed_build(const struct lookup *k, const struct stats *stat, struct conf_followed *f)
{
	memset(f, 0, sizeof *f);
	f->magic = FOLLOWED_MAGIC;
	f->layout = FOLLOWED_LAYOUT;
	f->complete = 1;
	for (unsigned i = 0; i < STAT_DENIED; i++)
		if (stat->denied[i].name[0] != '\0')
			add_denied(f, stat->denied[i].name, stat->denied[i].until);
	for (unsigned d = 0; k != NULL && d < db_set_count(k->set); d++) {
		if (k->db[d].facts != NULL)
			add_facts(f, k->db[d].facts);
		else if (db_set_has_facts(k->set, d))
			f->complete = 0;
	}
	if (k != NULL) {
		f->addr_count = k->addr_count;
		memcpy(f->addr, k->addr, sizeof f->addr);
	}
}

int
followed_memfd(const struct conf_followed *f)
{
	int fd = memfd_create("turnpike-followed", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0)
		return -errno;
	if (write(fd, f, sizeof *f) == (ssize_t)sizeof *f &&
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) == 0)
		return fd;
	close(fd);
	return -EIO;
}

bool
followed_note_server(struct lookup *k, const struct addr *a)
{
	if (a->family == ADDR_NONE)
		return false;
	for (unsigned i = 0; i < k->addr_count; i++)
		if (addr_eq(&k->addr[i], a))
			return false;
	k->addr[k->addr_count < FOLLOWED_ADDRS_MAX ? k->addr_count++ : FOLLOWED_ADDRS_MAX - 1] = *a;
	return true;
}
