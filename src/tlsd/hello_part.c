/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * hello_part.c: DTLS hellos that come in fragments (RFC 6347 4.2.3), until they are whole.  Their clients
 * have returned a cookie.  There are PARTS of them at most, and a new one takes the place of the oldest:
 * its client sends it again.
 */
#include "config.h"

#include <stdlib.h>

#include "tlsd_int.h"

#define PART_MS 10000

void
part_free(struct hello_part *p)
{
	free(p->bytes);
	memset(p, 0, sizeof *p);
}

static bool
is_of(const struct hello_part *p, const struct hs_who *who)
{
	return p->bytes != NULL && p->who.shard == who->shard && p->who.row == who->row &&
	    addr_eq(&p->who.client, &who->client);
}

/* Another hello of the same client, as far as can be told. */
static bool
is_another(const struct hello_part *p, const struct hs_who *who, const struct seal_frag *f, tp_ms now)
{
	return p->until < now || p->gather.total != f->total ||
	    (who->request != 0 && p->who.request != 0 && who->request != p->who.request);
}

/* The one of this client, or a place for it. */
static struct hello_part *
find(struct tlsd *u, const struct hs_who *who)
{
	struct hello_part *oldest = &u->parts[0];

	for (unsigned i = 0; i < PARTS; i++) {
		struct hello_part *p = &u->parts[i];
		if (is_of(p, who))
			return p;
		if (p->until < oldest->until)
			oldest = p;
	}
	part_free(oldest);
	return oldest;
}

struct hello_part *
part_take(struct tlsd *u, const struct hs_who *who, const struct seal_frag *f)
{
	struct hello_part *p = find(u, who);
	tp_ms now = clock_ms();

	if (p->bytes != NULL && is_another(p, who, f, now))
		part_free(p);
	if (p->bytes == NULL) {
		p->bytes = malloc(f->total + SEAL_SEEN_LEN(f->total));
		if (p->bytes == NULL)
			return NULL;
		seal_gather_init(&p->gather, p->bytes, p->bytes + f->total, f->total);
		p->who = *who;
		p->until = now + PART_MS;
	}
	if (who->request != 0)
		p->who.request = who->request;
	(void)seal_gather_add(&p->gather, f);
	return seal_gather_whole(&p->gather) ? p : NULL;
}
