/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * carry_stats.c: counters across an upgrade to a build that has other ones: by name, into fresh regions.
 * What the old processes still count until they are replaced is not in the sums.
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "carry.h"
#include "super_int.h"

struct moving {
	const uint8_t *was;
	size_t size;
	struct stats *is;
};

static uint64_t *
place_of(struct stats *s, const struct carry_stat_row *r)
{
	unsigned i;

	switch (r->array) {
	case 0:
		for (i = 0; i < STAT_COUNTERS; i++)
			if (strcmp(stat_rows[i].name, r->name) == 0)
				return &s->counter[i];
		return NULL;
	case 1:
		for (i = 0; i < DROPS; i++)
			if (strcmp(drop_rows[i].name, r->name) == 0)
				return &s->drop[i];
		return NULL;
	case 2:
		return sscanf(r->name, "%u", &i) == 1 && i < STAT_ERROR_CODES ? &s->error[i] : NULL;
	default:
		return NULL;
	}
}

static int
move_row(void *arg, const struct carry_record *r, const void *body)
{
	struct moving *m = arg;
	struct carry_stat_row row = { 0 };
	uint64_t *to;

	if (r->type != CARRY_STAT_ROW)
		return 0;
	memcpy(&row, body, r->len < sizeof row ? r->len : sizeof row);
	row.name[sizeof row.name - 1] = '\0';
	to = place_of(m->is, &row);
	if (to != NULL && row.offset % 8 == 0 && row.offset + 8 <= m->size)
		memcpy(to, m->was + row.offset, 8);
	return 0;
}

static int
move_region(struct region *r, const void *state, size_t state_len)
{
	struct moving m = { 0 };
	struct region fresh;
	struct stat st;
	char why[WHY_MAX];
	void *was;
	int err = region_make("turnpike-stat", STAT_SIZE, &fresh.rw, &fresh.ro);

	if (err < 0)
		return err;
	m.is = region_map(fresh.rw, STAT_SIZE, true, false);
	if (m.is == NULL || fstat(r->ro, &st) < 0)
		return -errno;
	was = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, r->ro, 0);
	if (was == MAP_FAILED)
		return -errno;
	m.was = was;
	m.size = (size_t)st.st_size;
	err = carry_walk(state, state_len, move_row, &m, why, sizeof why);
	/* Its process still writes the old one: it must not look as if it hung. */
	atomic_store_explicit(&m.is->heartbeat_ms, clock_ms(), memory_order_relaxed);
	region_unmap(m.is, STAT_SIZE);
	munmap(was, m.size);
	close(r->rw);
	close(r->ro);
	*r = fresh;
	return err;
}

int
regions_carry_stats(struct regions *r, int state_fd)
{
	struct stat st;
	void *p;
	int err;

	if (fstat(state_fd, &st) < 0)
		return -errno;
	p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, state_fd, 0);
	if (p == MAP_FAILED)
		return -errno;
	err = move_region(&r->stat_authd, p, (size_t)st.st_size);
	if (err == 0)
		err = move_region(&r->stat_admin, p, (size_t)st.st_size);
	if (err == 0)
		err = move_region(&r->stat_super, p, (size_t)st.st_size);
	for (unsigned i = 0; err == 0 && i < MSG_TLSDS_MAX; i++)
		if (r->stat_tlsd[i].ro >= 0)
			err = move_region(&r->stat_tlsd[i], p, (size_t)st.st_size);
	for (unsigned i = 0; err == 0 && i < r->shards; i++)
		err = move_region(&r->stat_worker[i], p, (size_t)st.st_size);
	munmap(p, (size_t)st.st_size);
	return err;
}
