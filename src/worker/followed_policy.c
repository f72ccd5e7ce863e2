/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * followed_policy.c: peer lists and realm options of databases, as part of the policy.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "worker_int.h"

/* The limit of the realm holds where it is the smaller one. */
static void
lower(uint64_t *limit, uint64_t realm)
{
	if (realm != 0 && (*limit == 0 || realm < *limit))
		*limit = realm;
}

void
followed_apply(struct worker *w, struct turn_policy *p)
{
	const struct conf_followed *f = w->followed;

	if (f == NULL)
		return;
	_Static_assert(TURN_DENIED_MAX == CONF_DENIED_MAX, "denied users of both");
	p->generation = p->generation * 65537u + w->followed_seq;
	p->peers.follow_deny = (struct turn_ranges){ f->deny_count, f->deny };
	p->peers.follow_allow = (struct turn_ranges){ f->allow_count, f->allow };
	p->peers.database_count = f->addr_count;
	p->peers.database = f->addr;
	lower(&p->bandwidth.per_allocation, f->max_bps);
	lower(&p->quota.per_user, f->user_quota);
	lower(&p->quota.total, f->total_quota);
	for (uint32_t i = 0; i < f->denied_count; i++)
		p->auth.denied[p->auth.denied_count++] = (struct auth_denied){ f->denied[i].until,
			auth_user_hash(w->turn.cross, p->auth.realm, p->auth.realm_len, f->denied[i].name,
			    strlen(f->denied[i].name)) };
}

static const struct conf_followed *
map(int fd)
{
	const int wanted = F_SEAL_SHRINK | F_SEAL_WRITE;
	const struct conf_followed *f = MAP_FAILED;
	struct stat st;

	if (fstat(fd, &st) == 0 && st.st_size == (off_t)sizeof *f &&
	    (fcntl(fd, F_GET_SEALS) & wanted) == wanted)
		f = mmap(NULL, sizeof *f, PROT_READ, MAP_SHARED, fd, 0);
	close(fd);
	if (f == MAP_FAILED)
		return NULL;
	if (followed_validate(f, sizeof *f) == 0)
		return f;
	munmap((void *)(uintptr_t)f, sizeof *f);
	return NULL;
}

int
followed_take(struct worker *w, int fd, const struct conf_followed **was)
{
	const struct conf_followed *f = map(fd);

	if (f == NULL)
		return -EINVAL;
	*was = w->followed;
	w->followed = f;
	w->followed_seq++;
	return 0;
}

void
followed_unmap(const struct conf_followed *was)
{
	if (was != NULL)
		munmap((void *)(uintptr_t)was, sizeof *was);
}

/* A full queue has no reader yet: turnpike-auth tells all workers when it starts. */
void
followed_ask(struct worker *w)
{
	struct msg_followed_ask m = { .h = { MSG_FOLLOWED_ASK, w->start.h.generation } };

	(void)ipc_send(w->authd, &m, -1);
}
