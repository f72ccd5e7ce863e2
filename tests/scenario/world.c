/* SPDX-License-Identifier: BSD-3-Clause */
/* world.c: see world.h. */
#include "config.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "../../src/state/state_int.h"
#include "world.h"

static void
fault(struct world *w, const char *text)
{
	if (w->fault == NULL)
		w->fault = text;
}

static void *
memory(struct world *w, unsigned i, size_t len)
{
	void *p = mmap(
	    NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		abort();
	w->mem[i] = p;
	w->mem_len[i] = len;
	return p;
}

static void
policy_defaults(struct turn_policy *p)
{
	memcpy(p->auth.realm, "example.org", 11);
	p->auth.realm_len = 11;
	p->auth.nonce_lifetime = 600000;
	p->auth.conf_generation = 1;
	p->generation = 1;
	p->default_family = ADDR_V4;
	p->default_lifetime = 600;
	p->max_lifetime = 3600;
	p->permissions_max = 256;
	p->channels_max = 256;
	p->channel_max = CHANNEL_MAX_8656;
	p->challenges = 200;
	p->bindings = 1000;
}

struct world *
world_new(void)
{
	static const uint8_t seed[16] = "sixteen bytes...";
	struct world *w = calloc(1, sizeof *w);
	void *cross;

	if (w == NULL)
		abort();
	policy_defaults(&w->policy);
	w->ports = calloc(1, sizeof *w->ports);
	if (w->ports == NULL)
		abort();
	w->policy.ports = w->ports;
	w->supply = -1;
	w->next_fd = 100;
	w->next_port = 50000;
	cross = memory(w, 0, cross_region_size());
	for (unsigned i = 0; i < WORLD_SHARDS; i++) {
		if (cross_attach(&w->cross[i], cross, i, seed) != 0)
			abort();
		if (shard_attach(&w->shard[i], i, memory(w, 1 + 2 * i, shard_region_size(WORLD_SLOTS)),
			memory(w, 2 + 2 * i, shard_keys_size(WORLD_SLOTS)), WORLD_SLOTS, true, seed) != 0)
			abort();
		w->t[i].policy = &w->policy;
		w->t[i].cache = calloc(1, sizeof *w->t[i].cache);
		w->t[i].cross = &w->cross[i];
		w->t[i].stat = &w->stat;
		w->t[i].rnd[0] = 1;
		w->t[i].rnd[1] = 2 + i;
	}
	world_time(w, 1000000);
	w->unix_now = 1000000;
	return w;
}

void
world_free(struct world *w)
{
	for (unsigned i = 0; i < TP_COUNT(w->mem); i++)
		munmap(w->mem[i], w->mem_len[i]);
	for (unsigned i = 0; i < WORLD_SHARDS; i++)
		free(w->t[i].cache);
	free(w->ports);
	free(w);
}

/* As a worker does once per batch; the nonce keys follow the epoch. */
void
world_time(struct world *w, tp_ms now)
{
	w->unix_now += (int64_t)(now / 1000) - (int64_t)(w->now / 1000);
	w->now = now;
	for (unsigned i = 0; i < WORLD_SHARDS; i++) {
		w->t[i].now = now;
		w->t[i].unix_now = w->unix_now;
		w->t[i].nonces.epoch = now / NONCE_EPOCH_MS;
		memset(w->t[i].nonces.key[0], (int)(now / NONCE_EPOCH_MS & 255), 32);
		memset(w->t[i].nonces.key[1], (int)((now / NONCE_EPOCH_MS - 1) & 255), 32);
	}
}

/* ---- turnpike-auth --------------------------------------------------------------------------- */

void
world_rest_password(const struct world *w, const char *name, char out[64])
{
	unsigned char mac[32];
	unsigned len = 0;

	HMAC(EVP_sha1(), w->secret, (int)strlen(w->secret), (const unsigned char *)name, strlen(name), mac,
	    &len);
	EVP_EncodeBlock((unsigned char *)out, mac, (int)len);
}

static bool
grant_for(
    struct world *w, const struct stun_msg *m, const char *name, const char *pass, struct auth_grant *g)
{
	const struct stun_attr *aa = stun_find(m, STUN_A_PASSWORD_ALGORITHM);
	const char *stable = name, *realm = w->policy.auth.realm;
	size_t stable_len = strlen(name);
	uint16_t alg = STUN_ALG_MD5;

	stun_get_alg(aa, &alg);
	memset(g, 0, sizeof *g);
	g->alg = (uint8_t)alg;
	g->key_len = (uint8_t)stun_key((enum stun_alg)alg, name, strlen(name), realm,
	    w->policy.auth.realm_len, pass, strlen(pass), g->key);
	if (!(m->mi256_off != 0 ? stun_check_mi256(m, g->key, g->key_len)
				: stun_check_mi(m, g->key, g->key_len)))
		return false;
	if (!rest_name(name, strlen(name), w->rest_form, &g->credential_expiry, &stable, &stable_len))
		g->credential_expiry = 0;
	g->verdict = GRANT_OK;
	g->conf_generation = w->policy.auth.conf_generation;
	g->stable_len = (uint8_t)stable_len;
	memcpy(g->stable, stable, stable_len);
	g->name_len = (uint16_t)strlen(name);
	memcpy(g->name, name, g->name_len);
	return true;
}

static bool
is_user(const struct world *w, const struct stun_msg *m, const char *name)
{
	const struct stun_attr *a = stun_find(m, STUN_A_USERNAME);
	uint8_t hash[32];

	if (a != NULL)
		return a->len == strlen(name) && memcmp(a->value, name, a->len) == 0;
	a = stun_find(m, STUN_A_USERHASH);
	stun_userhash(name, strlen(name), w->policy.auth.realm, w->policy.auth.realm_len, hash);
	return a != NULL && a->len == 32 && memcmp(a->value, hash, 32) == 0;
}

static void
ask_authd(struct world *w, const void *bytes, size_t len, struct auth_grant *g)
{
	const struct stun_attr *a;
	struct stun_msg m;
	char name[128] = "", pass[64];
	const char *stable;
	size_t n;
	int64_t t;

	w->authd_asked++;
	memset(g, 0, sizeof *g);
	g->verdict = GRANT_REFUSED;
	if (stun_parse(&m, bytes, len) != STUN_OK)
		return;
	for (unsigned i = 0; i < w->users; i++)
		if (is_user(w, &m, w->user[i].name) &&
		    grant_for(w, &m, w->user[i].name, w->user[i].pass, g))
			return;
	a = stun_find(&m, STUN_A_USERNAME);
	if (a != NULL && a->len < sizeof name && w->secret[0] != 0) {
		memcpy(name, a->value, a->len);
		world_rest_password(w, name, pass);
		if (rest_name(name, a->len, w->rest_form, &t, &stable, &n) &&
		    grant_for(w, &m, name, pass, g))
			return;
	}
	memset(g, 0, sizeof *g);
	g->verdict = GRANT_REFUSED;
}

/* ---- supervisor ------------------------------------------------------------------------------ */

static void
closed(struct world *w, int32_t fd)
{
	w->fate[fd] = FD_CLOSED;
	port_map_set(w->ports, w->made[fd].row, w->made[fd].port, false);
}

static bool
make_socket(struct world *w, uint8_t row, bool even, struct relay_ref *r)
{
	if (w->supply == 0 || w->next_fd >= WORLD_FDS)
		return false;
	if (w->supply > 0)
		w->supply--;
	if (even && w->next_port % 2 != 0)
		w->next_port++;
	*r = (struct relay_ref){ .fd = w->next_fd++,
		.port = w->next_port++,
		.row = row,
		.family = w->policy.relay[row].addr.family };
	w->fate[r->fd] = FD_READY;
	w->made[r->fd] = *r;
	port_map_set(w->ports, row, r->port, true);
	return true;
}

static bool
make_of_family(struct world *w, uint8_t family, bool even, struct relay_ref *r)
{
	for (uint8_t i = 0; i < w->policy.relay_count; i++)
		if (w->policy.relay[i].addr.family == family && !w->policy.relay[i].retired)
			return make_socket(w, i, even, r);
	return false;
}

static void
ask_supervisor(struct world *w, const struct turn_want *want, struct turn_offer *f)
{
	memset(f, 0, sizeof *f);
	w->relay_asked++;
	if (want->reservation != 0) {
		if (want->reservation <= w->reserved_n && w->reserved[want->reservation - 1].fd >= 0) {
			f->sock[f->count++] = w->reserved[want->reservation - 1];
			w->reserved[want->reservation - 1].fd = -1;
		}
		return;
	}
	if (want->v4)
		f->count = (uint8_t)(f->count + make_of_family(w, ADDR_V4, want->even, &f->sock[f->count]));
	if (want->v6)
		f->count = (uint8_t)(f->count + make_of_family(w, ADDR_V6, want->even, &f->sock[f->count]));
	if (w->generous && f->count == 1)
		f->count = (uint8_t)(f->count + make_socket(w, f->sock[0].row, false, &f->sock[1]));
	if (want->reserve && f->count == 1 && w->reserved_n < TP_COUNT(w->reserved) &&
	    make_socket(w, f->sock[0].row, false, &w->reserved[w->reserved_n]))
		f->reservation = ++w->reserved_n;
}

void
world_fill_pool(struct world *w, unsigned shard, unsigned per_row)
{
	struct turn_pool *p = &w->pool[shard];

	for (uint8_t i = 0; i < w->policy.relay_count; i++)
		while (!w->policy.relay[i].retired && p->row[i].count < per_row &&
		    p->row[i].count < TURN_POOL_DEPTH &&
		    make_socket(w, i, false, &p->row[i].sock[p->row[i].count]))
			p->row[i].count++;
}

void
world_retire(struct world *w, unsigned row)
{
	w->policy.relay[row].retired = true;
	for (unsigned i = 0; i < WORLD_SHARDS; i++)
		while (w->pool[i].row[row].count > 0)
			closed(w, w->pool[i].row[row].sock[--w->pool[i].row[row].count].fd);
}

/* ---- worker ---------------------------------------------------------------------------------- */

void
world_effects(struct world *w, unsigned shard, const struct turn_out *out)
{
	if (out->open_do) {
		struct session *x = session_get(&w->shard[shard], out->open);

		if (x == NULL)
			fault(w, "open names no session");
		for (unsigned i = 0; x != NULL && i < 2; i++) {
			if (x->relay[i].fd < 0)
				continue;
			if (w->fate[x->relay[i].fd] != FD_READY)
				fault(w, "a socket opened that was not ready");
			w->fate[x->relay[i].fd] = FD_LIVE;
		}
	}
	if (out->unreserve != 0) {
		if (out->unreserve > w->reserved_n || w->reserved[out->unreserve - 1].fd < 0)
			fault(w, "a reservation given back that is none");
		else
			closed(w, w->reserved[out->unreserve - 1].fd);
		w->reserved[out->unreserve - 1].fd = -1;
		w->unreserved++;
	}
	for (unsigned i = 0; i < out->close_count; i++) {
		if (out->close[i] < 0 ||
		    (w->fate[out->close[i]] != FD_LIVE && w->fate[out->close[i]] != FD_READY))
			fault(w, "a socket closed that was not open");
		else
			closed(w, out->close[i]);
	}
}

enum turn_act
world_input(struct world *w, unsigned shard, const struct addr *client, uint8_t transport,
    const void *bytes, size_t len, struct turn_out *out)
{
	struct auth_grant grant;
	struct turn_offer offer;
	struct turn_in in = {
		.shard = &w->shard[shard],
		.pool = &w->pool[shard],
		.client = *client,
		.listener = 0,
		.transport = transport,
		.buf = w->buf + WORLD_HEAD,
		.len = len,
	};
	enum turn_act act;

	for (unsigned round = 0; round < 4; round++) {
		memcpy(in.buf, bytes, len);
		memset(out->reply, 0xaa, sizeof out->reply); /* what is not written shows */
		act = turn_client_input(&w->t[shard], &in, out);
		world_effects(w, shard, out);
		if (act == TURN_NEED_KEY && !w->authd_off) {
			ask_authd(w, bytes, len, &grant);
			in.grant = &grant;
		} else if (act == TURN_NEED_RELAY) {
			ask_supervisor(w, &out->want, &offer);
			in.offer = &offer;
		} else {
			return act;
		}
	}
	fault(w, "a request that waits without end");
	return TURN_DROP;
}

enum turn_act
world_peer(struct world *w, unsigned shard, struct session_ref ref, unsigned which, const struct addr *from,
    const void *bytes, size_t len, struct turn_out *out)
{
	enum turn_act act;

	memset(w->buf, 0xaa, sizeof w->buf);
	memcpy(w->buf + WORLD_HEAD, bytes, len);
	act = turn_peer_input(
	    &w->t[shard], &w->shard[shard], ref, which, from, w->buf + WORLD_HEAD, len, out);
	world_effects(w, shard, out);
	return act;
}

void
world_lock(struct world *w, bool take)
{
	lock_word *word = &cross_stripe(&w->cross[0], STRIPE_TOTAL)->lock;

	if (take)
		(void)lock_take(word, WORLD_SHARDS, 0);
	else
		lock_give(word, WORLD_SHARDS);
}

struct swept {
	struct world *w;
	unsigned shard;
};

static void
swept(void *arg, struct turn_out *out)
{
	struct swept *s = arg;

	world_effects(s->w, s->shard, out);
	s->w->swept++;
	s->w->swept_event = out->event;
}

void
world_sweep(struct world *w, struct turn_out *scratch)
{
	w->swept = 0;
	for (unsigned i = 0; i < WORLD_SHARDS; i++) {
		struct swept s = { w, i };

		for (unsigned round = 0; round < 8; round++) /* a second of ticks */
			turn_sweep(&w->t[i], &w->shard[i], 0, WORLD_SLOTS, scratch, swept, &s);
	}
}

void
world_reload(struct world *w)
{
	w->policy.generation++;
	w->policy.auth.conf_generation++;
}

/* ---- audit ----------------------------------------------------------------------------------- */

static void
breach(void *arg, const char *text)
{
	fprintf(stderr, "audit: %s\n", text);
	fault(arg, "state_audit");
}

const char *
world_audit(struct world *w)
{
	unsigned live = 0, booked = 0;
	int ready = 0; /* in pools and reserved, less those made and not used */

	state_audit(&w->cross[0], w->shard, WORLD_SHARDS, true, w->now, breach, w);
	for (unsigned i = 0; i < WORLD_SHARDS; i++)
		for (uint32_t k = 0; k < shard_high(&w->shard[i]); k++) {
			struct session *x = &w->shard[i].slots[k];

			if (atomic_load(&x->state) != SESSION_LIVE)
				continue;
			for (unsigned j = 0; j < 2; j++)
				if (x->relay[j].fd >= 0) {
					live++;
					if (w->fate[x->relay[j].fd] != FD_LIVE)
						fault(w, "a session with a socket that is not open");
				}
		}
	for (unsigned i = 0; i < WORLD_FDS; i++) {
		booked += w->fate[i] == FD_LIVE;
		ready -= w->fate[i] == FD_READY;
	}
	if (live != booked)
		fault(w, "an open socket without a session");
	for (unsigned i = 0; i < w->reserved_n; i++)
		ready += w->reserved[i].fd >= 0;
	for (unsigned i = 0; i < WORLD_SHARDS; i++)
		for (unsigned r = 0; r < RELAYS_MAX; r++)
			for (unsigned k = 0; k < w->pool[i].row[r].count; k++, ready++)
				if (w->fate[w->pool[i].row[r].sock[k].fd] != FD_READY)
					fault(w, "a pool socket that is not ready");
	if (ready != 0)
		fault(w, "a socket without an owner");
	return w->fault;
}
