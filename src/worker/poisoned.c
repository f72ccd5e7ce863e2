/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * poisoned.c: sources that workers died of.  The list is short: one entry per source, the oldest makes
 * room.
 */
#include "config.h"

#include "worker_int.h"

void
poisoned_add(struct poisoned *p, const struct addr *source, tp_ms until)
{
	unsigned at = 0;

	while (at < p->count && !addr_ip_eq(&p->at[at].source, source))
		at++;
	if (at == POISON_MAX) {
		at = 0;
		for (unsigned i = 1; i < POISON_MAX; i++)
			if (p->at[i].until < p->at[at].until)
				at = i;
	}
	if (at == p->count)
		p->count++;
	p->at[at] = (struct poison){ *source, until };
}

bool
poisoned_has(const struct poisoned *p, const struct addr *from, tp_ms now)
{
	for (unsigned i = 0; i < p->count; i++)
		if (addr_ip_eq(&p->at[i].source, from) && p->at[i].until > now)
			return true;
	return false;
}
