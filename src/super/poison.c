/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * poison.c: did a worker die of what it worked on?  Its in-progress record tells.
 *
 * Two deaths on one session: it is closed.  Two on a source without one: that source is dropped for ten
 * minutes.  Three deaths over the adoption of one shard: that shard starts cold, alone.
 */
#include "config.h"

#include <errno.h>
#include <signal.h>
#include <sys/wait.h>

#include "super_int.h"

#define SUSPECT_MS     600000
#define SUSPECT_DEATHS 2
#define COLD_DEATHS    3

/* A client's packet names no session yet: is it one's?  All slots are looked at, once per crash. */
static void
name_session(struct super *s, struct stat_busy *b)
{
	struct shard shards[SHARDS_MAX];
	unsigned n = regions_shards(&s->regions, shards);
	struct session x;

	for (unsigned k = 0; k < n; k++) {
		uint32_t high = shards[k].index == b->shard ? shard_high(&shards[k]) : 0;
		for (uint32_t slot = 0; slot < high; slot++)
			if (session_read(&shards[k], slot, &x) && addr_eq(&x.client, &b->source)) {
				b->slot = slot;
				b->gen = x.gen;
				return;
			}
	}
}

/* Is the session that the dead worker names in its shard? */
static bool
is_there(struct super *s, const struct stat_busy *b)
{
	struct shard shards[SHARDS_MAX];
	unsigned n = regions_shards(&s->regions, shards);
	struct session x;

	for (unsigned k = 0; k < n; k++)
		if (shards[k].index == b->shard && b->slot < shard_high(&shards[k]))
			return session_read(&shards[k], b->slot, &x) && x.gen == b->gen;
	return false;
}

/* By what it did itself: not kill -9, not an operator's SIGSTOP. */
bool
super_died_of_its_work(const struct child *c, int status)
{
	if (c->hung)
		return !c->paused;
	if (c->killed)
		return false;
	if (WIFSIGNALED(status))
		return WTERMSIG(status) != SIGKILL && WTERMSIG(status) != SIGTERM;
	return WEXITSTATUS(status) != 0;
}

static bool
is_same(const struct suspect *x, const struct stat_busy *b)
{
	if (b->slot == SLOT_NONE)
		return x->slot == SLOT_NONE && x->shard == b->shard && addr_ip_eq(&x->source, &b->source);
	return x->slot == b->slot && x->shard == b->shard && x->gen == b->gen;
}

/* The entry of what died, new or old.  The oldest makes room: of the same shard when that one has its
 * share, so that no worker can push out what others have died of. */
static struct suspect *
entry_of(struct super *s, const struct stat_busy *b, tp_ms now)
{
	struct suspect *v = &s->suspect[0], *own = NULL;
	unsigned of_shard = 0;

	for (unsigned k = 0; k < SUSPECTS; k++) {
		struct suspect *x = &s->suspect[k];
		if (x->deaths > 0 && now - x->last < SUSPECT_MS && is_same(x, b))
			return x;
		if (x->last < v->last)
			v = x;
		if (x->deaths == 0 || x->shard != b->shard)
			continue;
		of_shard++;
		if (own == NULL || x->last < own->last)
			own = x;
	}
	if (of_shard >= SUSPECTS_PER_SHARD)
		v = own;
	*v = (struct suspect){ .shard = b->shard, .slot = b->slot, .gen = b->gen, .source = b->source };
	return v;
}

static void
suspect(struct super *s, const struct stat_busy *b)
{
	tp_ms now = clock_ms();
	struct suspect *v = entry_of(s, b, now);
	char src[ADDR_STRLEN], head[2 * sizeof b->head + 1];

	v->deaths++;
	v->last = now;
	text_hex(head, b->head, b->len < sizeof b->head ? b->len : sizeof b->head);
	log_errx("poison: death %u on %s %s, shard %u, slot %d, a packet of %u bytes that begins %s%s",
	    v->deaths, b->slot != SLOT_NONE ? "the session of" : "a packet of", addr_print(&b->source, src),
	    b->shard, (int)b->slot, b->len, head,
	    v->deaths < SUSPECT_DEATHS ? ""
		: b->slot != SLOT_NONE ? ": the session is closed"
				       : ": this source is dropped for 10 minutes");
	if (v->deaths < SUSPECT_DEATHS)
		return;
	for (unsigned i = 0; i < s->ledger->child_count; i++)
		if (s->ledger->child[i].role == ROLE_WORKER && child_is_running(&s->ledger->child[i]))
			super_poison_tell(s, i);
}

/* ---- a shard that kills each worker that adopts it
 * ------------------------------------------------------- */

static void
cold(struct super *s, unsigned shard)
{
	struct msg_stop stop = { .h.type = MSG_STOP };
	int err = regions_cold(&s->regions, shard), i = children_find(&s->children, ROLE_ADMIN, 0);

	s->adopt_deaths[shard] = 0;
	if (err < 0) {
		log_errx("shard %u: cannot be started cold: %s", shard, strerror(-err));
		return;
	}
	log_errx(
	    "shard %u: %u workers died adopting it: it starts cold, its sessions are lost; the others go on",
	    shard, COLD_DEATHS);
	/* Counts across shards are made again; no worker may write meanwhile: all stop for a moment. */
	s->recount = true;
	super_roll_force(s);
	if (i >= 0 && super_send(s, (unsigned)i, &stop, -1) == 0) /* it maps the shard that is no more */
		children_stopping(&s->children, (unsigned)i, clock_ms(), CHILD_STOP_MS, true);
}

void
super_poison_ready(struct super *s, unsigned i)
{
	const struct ledger_child *c = &s->ledger->child[i];

	for (uint32_t k = 0; k < c->shard_count; k++) {
		s->adopt_deaths[c->first_shard + k] = 0;
		s->renewed[c->first_shard + k] = false;
	}
}

void
super_poison_death(struct super *s, unsigned i, int status)
{
	const struct ledger_child *c = &s->ledger->child[i];
	const struct stats *st = regions_stat(&s->regions, c->role, c->index);
	const struct child *priv = &s->children.c[i];
	struct stat_busy b;

	if (st == NULL || st->pid != c->pid)
		return;
	b = st->busy; /* hostile: a sibling's shard or session is not its to blame */
	if (b.shard < c->first_shard || b.shard - c->first_shard >= c->shard_count)
		return;
	/* One whose adoption does not end was killed for not being READY in time.  A worker that has
	 * served has adopted. */
	if (b.phase == BUSY_ADOPT && c->state == CHILD_STARTING &&
	    (super_died_of_its_work(priv, status) || priv->killed)) {
		if (++s->adopt_deaths[b.shard] >= COLD_DEATHS)
			cold(s, b.shard);
		return;
	}
	if ((b.phase != BUSY_CLIENT && b.phase != BUSY_PEER) || !super_died_of_its_work(priv, status))
		return;
	if (b.slot != SLOT_NONE && !is_there(s, &b))
		return;
	if (b.slot == SLOT_NONE)
		name_session(s, &b);
	suspect(s, &b);
}

void
super_poison_tell(struct super *s, unsigned i)
{
	const struct ledger_child *c = &s->ledger->child[i];

	for (unsigned k = 0; c->role == ROLE_WORKER && k < SUSPECTS; k++) {
		const struct suspect *x = &s->suspect[k];
		if (x->deaths < SUSPECT_DEATHS || clock_ms() - x->last >= SUSPECT_MS)
			continue;
		if (x->shard < c->first_shard || x->shard - c->first_shard >= c->shard_count)
			continue;
		if (x->slot == SLOT_NONE) {
			struct msg_poison p = {
				.h.type = MSG_POISON, .source = x->source, .until_ms = x->last + SUSPECT_MS
			};
			(void)super_send(s, i, &p, -1);
		} else {
			struct msg_close m = { .h.type = MSG_CLOSE,
				.request = 0,
				.shard = x->shard,
				.slot = x->slot,
				.gen = x->gen };
			(void)super_send(s, i, &m, -1);
		}
	}
}
