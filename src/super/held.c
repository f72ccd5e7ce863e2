/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * held.c: the table of the descriptors that the supervisor holds (tbl/descriptors.def), and its loops.
 */
#include "config.h"

#include "super_int.h"

enum dimension { DIM_ONE, DIM_SHARD, DIM_TLS, DIM_SHARD_TLS, DIM_ROLE, DIM_CHILD };
/* Which elements a role keeps. */
enum keeps { NO, ALL, SHARDS, FIRST, SECOND };

struct held {
	const char *name;
	size_t at, step, step2; /* in struct super */
	enum dimension dim;
	enum keeps by[ROLES];
	bool probe;
	int start; /* offset in struct msg_start, -1 */
	bool carried;
};

#define ONE(m)       offsetof(struct super, m), 0, 0
#define PER(a, rest) offsetof(struct super, a[0] rest), sizeof(((struct super *)0)->a[0]), 0
#define PER2(a, rest)                                                                                      \
	offsetof(struct super, a[0][0] rest), sizeof(((struct super *)0)->a[0]),                           \
	    sizeof(((struct super *)0)->a[0][0])
#define TOLD(m) (int)offsetof(struct msg_start, m)
#define UNTOLD  -1
#define HELD(name, place, dim, w, k, u, t, probe, start, carried)                                          \
	{ name, place, dim, { [ROLE_WORKER] = w, [ROLE_AUTHD] = k, [ROLE_TLSD] = u, [ROLE_ADMIN] = t },    \
		probe, start, carried },
static const struct held rows[] = {
#include "tp/tbl/descriptors.def"
};

static void
counts(const struct super *s, enum dimension dim, unsigned *n, unsigned *n2)
{
	*n2 = 1;
	switch (dim) {
	case DIM_ONE:
		*n = 1;
		return;
	case DIM_SHARD:
		*n = s->regions.shards;
		return;
	case DIM_TLS:
		*n = MSG_TLSDS_MAX;
		return;
	case DIM_SHARD_TLS:
		*n = s->regions.shards;
		*n2 = s->tlsd_count;
		return;
	case DIM_ROLE:
		*n = ROLES;
		return;
	case DIM_CHILD:
		*n = s->ledger->child_count;
		return;
	}
}

typedef void each_h(void *arg, const struct held *row, unsigned i, unsigned k, int fd);

static void
each(const struct super *s, each_h *cb, void *arg)
{
	for (unsigned r = 0; r < TP_COUNT(rows); r++) {
		const struct held *row = &rows[r];
		unsigned n = 0, n2 = 0;
		counts(s, row->dim, &n, &n2);
		for (unsigned i = 0; i < n; i++)
			for (unsigned k = 0; k < n2; k++) {
				int fd;
				memcpy(&fd, (const char *)s + row->at + i * row->step + k * row->step2,
				    sizeof fd);
				if (fd >= 0)
					cb(arg, row, i, k, fd);
			}
	}
}

/* ---- all of them --------------------------------------------------------------------------------- */

struct all {
	held_h *cb;
	void *arg;
	bool carried;
};

static void
one_of_all(void *arg, const struct held *row, unsigned i, unsigned k, int fd)
{
	const struct all *a = arg;

	(void)i;
	(void)k;
	if (row->carried || !a->carried)
		a->cb(a->arg, fd);
}

void
held_each(const struct super *s, bool carried, held_h *cb, void *arg)
{
	struct all a = { .cb = cb, .arg = arg, .carried = carried };

	each(s, one_of_all, &a);
}

/* ---- of a child ------------------------------------------------------------------------------------ */

struct of_child {
	const struct super *s;
	const struct ledger_child *c;
	int *keep;
	unsigned n;
	struct msg_start *m;
};

static bool
keeps(const struct of_child *o, const struct held *row, unsigned i, unsigned k)
{
	switch (row->by[o->c->role]) {
	case NO:
		return false;
	case ALL:
		return row->dim != DIM_TLS || i < o->s->tlsd_count;
	case SHARDS:
		return i >= o->c->first_shard && i - o->c->first_shard < o->c->shard_count;
	case FIRST:
		return i == o->c->index;
	case SECOND:
		return k == o->c->index;
	}
	return false;
}

static void
one_of_child(void *arg, const struct held *row, unsigned i, unsigned k, int fd)
{
	struct of_child *o = arg;
	unsigned other = row->by[o->c->role] == FIRST ? k : i; /* the index that is not its own */

	if (!keeps(o, row, i, k))
		return;
	assert(o->n < HELD_KEEP_MAX);
	o->keep[o->n++] = fd;
	if (o->m != NULL && row->start >= 0)
		memcpy((char *)o->m + (size_t)row->start + other * sizeof fd, &fd, sizeof fd);
}

unsigned
held_keep(const struct super *s, const struct ledger_child *c, int keep[HELD_KEEP_MAX], struct msg_start *m)
{
	struct of_child o = { .s = s, .c = c, .keep = keep, .m = m };

	each(s, one_of_child, &o);
	return o.n;
}

/* ---- of a probe ------------------------------------------------------------------------------------- */

static void
one_of_probe(void *arg, const struct held *row, unsigned i, unsigned k, int fd)
{
	struct of_child *o = arg;

	(void)i;
	(void)k;
	if (row->probe)
		o->keep[o->n++] = fd;
}

unsigned
held_keep_probe(const struct super *s, int keep[HELD_KEEP_MAX])
{
	struct of_child o = { .s = s, .keep = keep };

	each(s, one_of_probe, &o);
	return o.n;
}
