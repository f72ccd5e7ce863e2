/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * run.c: plays scenario scripts (*.tp) against the TURN core in virtual time; the language is in README.
 *
 * After every line: each answer to an unknown client is within three times the request and 400 bytes,
 * each signed one is signed by the key and kind of its request, all padding is zero.  After every file:
 * the audits.
 */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>

#include "script.h"

void
script_fail(struct script *s, const char *what, const char *detail)
{
	fprintf(stderr, "%s:%u: %s%s%s\n", s->file, s->line, what, detail != NULL ? ": " : "",
	    detail != NULL ? detail : "");
	s->failed = true;
}

static struct client *
find_client(struct script *s, const char *name)
{
	for (unsigned i = 0; i < s->clients; i++)
		if (strcmp(s->client[i].name, name) == 0)
			return &s->client[i];
	script_fail(s, "no such client", name);
	return NULL;
}

static struct session *
session_of(struct script *s, const struct client *c)
{
	return session_find(&s->w->shard[c->shard], &c->addr, c->transport, 0);
}

/* ---- what must hold for every answer ---------------------------------------------------------------- */

static void
check_padding(struct script *s)
{
	for (unsigned i = 0; i < s->msg.count; i++)
		for (const uint8_t *p = s->msg.attr[i].value + s->msg.attr[i].len;
		     (p - s->msg.raw) % 4 != 0; p++)
			if (*p != 0)
				script_fail(s, "padding is not zero", NULL);
}

/* Then the client is no stranger. */
static bool
has_allocation(struct script *s)
{
	return session_find(&s->w->shard[s->who->shard], &s->who->addr, s->who->transport, 0) != NULL;
}

static void
check_answer(struct script *s, size_t request_len)
{
	const struct client *c = s->who;
	bool is_signed = s->msg.mi_off != 0 || s->msg.mi256_off != 0;
	size_t realm = (s->w->policy.auth.realm_len + 3) & ~(size_t)3;
	size_t headers = c->addr.family == ADDR_V4 ? 28 : 48; /* of IP and UDP */
	size_t excused = (realm > 24 ? realm - 24 : 0) + (s->w->policy.auth.sha256_only ? 8 : 0);

	if (memcmp(s->msg.txid, c->txid, STUN_TXID) != 0)
		script_fail(s, "another transaction's answer", NULL);
	if (s->w->policy.software[0] == 0 && stun_find(&s->msg, STUN_A_SOFTWARE) != NULL)
		script_fail(s, "SOFTWARE", NULL);
	if (!is_signed && c->transport == TRANSPORT_UDP && !has_allocation(s) &&
	    (s->copy_len + headers > 3 * (request_len + headers) + excused || s->copy_len > 400))
		script_fail(s, "amplification", NULL);
	if (!is_signed)
		return;
	if (c->mi256 ? s->msg.mi_off != 0 || !stun_check_mi256(&s->msg, c->key, c->key_len)
		     : s->msg.mi256_off != 0 || !stun_check_mi(&s->msg, c->key, c->key_len))
		script_fail(s, "wrong signature", NULL);
}

/* An answer to a message of RFC 3489 has the bytes of that message where the cookie is now. */
static void
restore_cookie(struct script *s)
{
	if (s->who == NULL || s->who->transport != TRANSPORT_DTLS || get_u32(s->copy + 4) == STUN_COOKIE)
		return;
	if (memcmp(s->copy + 4, s->sent + 4, 4) != 0)
		script_fail(s, "another transaction's answer", NULL);
	put_u32(s->copy + 4, STUN_COOKIE);
}

static void
after_input(struct script *s, size_t request_len, bool answer)
{
	if (answer) {
		memcpy(s->before, s->copy, s->copy_len);
		s->before_len = s->copy_len;
	}
	s->is_stun = false;
	s->copy_len = 0;
	if (s->w->fault != NULL)
		script_fail(s, "broken", s->w->fault);
	if (s->act != TURN_TO_CLIENT && s->act != TURN_TO_PEER)
		return;
	s->copy_len = s->out.len;
	memcpy(s->copy, s->out.p, s->out.len);
	if (s->act == TURN_TO_PEER || frame_kind(s->copy[0]) != FRAME_STUN)
		return;
	restore_cookie(s);
	if (stun_parse(&s->msg, s->copy, s->copy_len) != STUN_OK) {
		script_fail(s, "an answer that is not well-formed", NULL);
		return;
	}
	s->is_stun = true;
	check_padding(s);
	if (answer)
		check_answer(s, request_len);
}

static void
input(struct script *s, struct client *c, const uint8_t *buf, size_t len)
{
	s->who = c;
	memmove(s->sent, buf, len);
	s->sent_len = len;
	s->act = world_input(s->w, c->shard, &c->addr, c->transport, buf, len, &s->out);
	after_input(s, len, true);
	if (s->is_stun)
		client_learn(c, &s->msg);
}

/* ---- conf ------------------------------------------------------------------------------------ */

static void
conf_relay(struct script *s, char *text)
{
	struct turn_relay_row *r = &s->w->policy.relay[s->w->policy.relay_count];
	char *ports = strchr(text, ','), *external = strchr(text, '/');

	if (strcmp(text, "none") == 0) {
		s->w->policy.relay_count = 0;
		return;
	}
	memset(r, 0, sizeof *r);
	r->port_min = 49152;
	r->port_max = 65535;
	if (ports != NULL) {
		*ports = 0;
		sscanf(ports + 1, "%hu-%hu", &r->port_min, &r->port_max);
	}
	if (external != NULL) {
		*external = 0;
		if (addr_parse(&r->external, external + 1) != 0)
			script_fail(s, "not an address", external + 1);
	}
	if (addr_parse(&r->addr, text) != 0)
		script_fail(s, "not an address", text);
	s->w->policy.relay_count++;
}

static void
conf_rule(struct script *s, struct turn_rules *r, const char *text)
{
	if (strcmp(text, "none") == 0)
		r->count = 0;
	else if (cidr_parse(&r->rule[r->count++], text) != 0)
		script_fail(s, "not a prefix", text);
}

static void
conf_own(struct script *s, char *text)
{
	struct turn_ports *o = &s->w->policy.peers.own[s->w->policy.peers.own_count++];
	char *comma = strchr(text, ',');

	if (comma == NULL || sscanf(comma + 1, "%hu-%hu", &o->min, &o->max) != 2) {
		script_fail(s, "ADDRESS,LOW-HIGH", text);
		return;
	}
	*comma = 0;
	if (addr_parse(&o->addr, text) != 0)
		script_fail(s, "not an address", text);
}

static void
conf_address(struct script *s, struct addr *a, const char *text)
{
	if (addr_parse(a, text) != 0)
		script_fail(s, "not an address", text);
}

static void
conf_user(struct script *s, char *text)
{
	char *colon = strchr(text, ':');
	unsigned i = 0;

	if (colon == NULL) {
		script_fail(s, "NAME:PASSWORD", text);
		return;
	}
	*colon = 0;
	while (i < s->w->users && strcmp(s->w->user[i].name, text) != 0)
		i++;
	if (i == s->w->users)
		s->w->users++;
	text_copy(s->w->user[i].name, sizeof s->w->user[i].name, text);
	text_copy(s->w->user[i].pass, sizeof s->w->user[i].pass, colon + 1);
}

static bool
conf_number(struct script *s, const char *key, unsigned long v)
{
	struct turn_policy *p = &s->w->policy;
	uint32_t channel_max = p->channel_max;
	const struct {
		const char *key;
		uint32_t *u32;
		uint64_t *u64;
		bool *flag;
	} table[] = {
		{ "default_lifetime", &p->default_lifetime, NULL, NULL },
		{ "max_lifetime", &p->max_lifetime, NULL, NULL },
		{ "channel_max", &channel_max, NULL, NULL },
		{ "replace_idle", &p->replace_idle, NULL, NULL },
		{ "permissions", &p->permissions_max, NULL, NULL },
		{ "channels", &p->channels_max, NULL, NULL },
		{ "challenges", &p->challenges, NULL, NULL },
		{ "bindings", &p->bindings, NULL, NULL },
		{ "per_user", NULL, &p->quota.per_user, NULL },
		{ "per_prefix", NULL, &p->quota.per_prefix, NULL },
		{ "total", NULL, &p->quota.total, NULL },
		{ "bandwidth", NULL, &p->bandwidth.per_allocation, NULL },
		{ "sha256_only", NULL, NULL, &p->auth.sha256_only },
		{ "bandwidth_user", NULL, &p->bandwidth.per_user, NULL },
		{ "userhash", NULL, NULL, &p->auth.offer_userhash },
		{ "strict_expiry", NULL, NULL, &p->auth.strict_expiry },
		{ "strict_family", NULL, NULL, &p->strict_family },
		{ "draining", NULL, NULL, &p->draining },
		{ "memory_short", NULL, NULL, &p->memory_short },
		{ "nonce_lifetime", NULL, &p->auth.nonce_lifetime, NULL },
		{ "authd_off", NULL, NULL, &s->w->authd_off },
		{ "generous", NULL, NULL, &s->w->generous },
	};

	for (unsigned i = 0; i < TP_COUNT(table); i++) {
		if (strcmp(table[i].key, key) != 0)
			continue;
		if (table[i].u32 != NULL)
			*table[i].u32 = (uint32_t)v;
		else if (table[i].u64 != NULL)
			*table[i].u64 = v;
		else
			*table[i].flag = v != 0;
		p->channel_max = (uint16_t)channel_max;
		return true;
	}
	return false;
}

/* ADDRESS:PORT/TRANSPORTS[/DOMAIN], TRANSPORTS as a number: one more of the list `alternate`; "none"
 * empties it. */
static void
conf_send_to(struct turn_policy *p, struct script *s, char *v)
{
	char *transports = strchr(v, '/'), *domain;
	struct turn_alternate *a;

	if (transports == NULL) {
		p->alternate_count = 0;
		return;
	}
	a = &p->alternates[p->alternate_count++];
	*transports++ = '\0';
	domain = strchr(transports, '/');
	if (domain != NULL)
		text_copy(a->domain, sizeof a->domain, domain + 1);
	a->transports = (uint8_t)atoi(transports);
	conf_address(s, &a->addr, v);
}

static void
conf(struct script *s, char *key)
{
	struct turn_policy *p = &s->w->policy;
	char *v = strchr(key, '=');

	if (v == NULL) {
		script_fail(s, "key=value", key);
		return;
	}
	*v++ = 0;
	if (strcmp(key, "relay") == 0)
		conf_relay(s, v);
	else if (strcmp(key, "deny") == 0)
		conf_rule(s, &p->peers.deny, v);
	else if (strcmp(key, "allow") == 0)
		conf_rule(s, &p->peers.allow, v);
	else if (strcmp(key, "private") == 0)
		conf_rule(s, &p->peers.allow_private, v);
	else if (strcmp(key, "own") == 0)
		conf_own(s, v);
	else if (strcmp(key, "host") == 0)
		conf_address(s, &p->peers.host[p->peers.host_count++], v);
	else if (strcmp(key, "listener") == 0)
		conf_address(s, &p->peers.listener[p->peers.listener_count++], v);
	else if (strcmp(key, "alternate") == 0)
		conf_address(s, &p->alternate, v);
	else if (strcmp(key, "send_to") == 0)
		conf_send_to(p, s, v);
	else if (strcmp(key, "user") == 0)
		conf_user(s, v);
	else if (strcmp(key, "secret") == 0)
		text_copy(s->w->secret, sizeof s->w->secret, v);
	else if (strcmp(key, "rest") == 0)
		s->w->rest_form = strcmp(v, "first") == 0 ? REST_FIRST
		    : strcmp(v, "last") == 0              ? REST_LAST
							  : REST_ANY;
	else if (strcmp(key, "lock_total") ==
	    0) /* another worker holds a lock that each transaction needs */
		world_lock(s->w, atoi(v) != 0);
	else if (strcmp(key, "software") == 0)
		text_copy(p->software, sizeof p->software, strcmp(v, "off") == 0 ? "" : v);
	else if (strcmp(key, "realm") == 0)
		p->auth.realm_len = text_copy(p->auth.realm, sizeof p->auth.realm, v);
	else if (strcmp(key, "default_family") == 0)
		p->default_family = (uint8_t)atoi(v);
	else if (strcmp(key, "supply") == 0)
		s->w->supply = atoi(v);
	else if (strcmp(key, "pool") == 0)
		for (unsigned i = 0; i < WORLD_SHARDS; i++)
			world_fill_pool(s->w, i, (unsigned)atoi(v));
	else if (strcmp(key, "retire") == 0)
		world_retire(s->w, (unsigned)atoi(v) % RELAYS_MAX);
	else if (strcmp(key, "unix") == 0)
		s->w->t[0].unix_now = s->w->t[1].unix_now = s->w->unix_now = atoll(v);
	else if (!conf_number(s, key, strtoul(v, NULL, 0)))
		script_fail(s, "no such key", key);
}

/* ---- inputs ---------------------------------------------------------------------------------- */

static void
line_client(struct script *s, const struct words *l)
{
	struct client *c = &s->client[s->clients++];
	const char *v;

	memset(c, 0, sizeof *c);
	text_copy(c->name, sizeof c->name, l->w[1]);
	if (addr_parse(&c->addr, l->w[2]) != 0)
		script_fail(s, "not an address", l->w[2]);
	v = word_value(l, 3, "shard", NULL);
	c->shard = v != NULL ? (unsigned)atoi(v) % WORLD_SHARDS : 0;
	v = word_value(l, 3, "transport", NULL);
	c->transport = v == NULL     ? TRANSPORT_UDP
	    : strcmp(v, "tcp") == 0  ? TRANSPORT_TCP
	    : strcmp(v, "tls") == 0  ? TRANSPORT_TLS
	    : strcmp(v, "dtls") == 0 ? TRANSPORT_DTLS
				     : TRANSPORT_UDP;
}

/* A client asks without credentials first, as the RFC has it. */
static void
challenge(struct script *s, struct client *c)
{
	char word[] = "allocate";
	struct words l = { { word }, 1 };
	uint8_t buf[WORLD_BUF];

	input(s, c, buf, client_request(s->w, c, &l, 0, buf, sizeof buf));
	if (c->nonce_len == 0)
		script_fail(s, "no challenge came", NULL);
}

static void
line_from(struct script *s, const struct words *l)
{
	struct client *c = find_client(s, l->w[1]);
	uint8_t buf[WORLD_BUF];
	size_t len;

	if (c == NULL || l->n < 3)
		return;
	if (strcmp(l->w[2], "raw") == 0) {
		len = 0;
		for (unsigned i = 3; i < l->n; i++)
			len += hex_bytes(buf + len, sizeof buf - len, l->w[i]);
		memcpy(c->txid, buf + 8, STUN_TXID);
	} else if (strcmp(l->w[2], "channel") == 0) {
		const char *pad = word_value(l, 4, "extra", NULL);

		len = strlen(l->w[4]);
		channel_header(buf, (uint16_t)strtoul(l->w[3], NULL, 0), (uint16_t)len);
		memcpy(buf + CHANNEL_HEADER, l->w[4], len);
		len += CHANNEL_HEADER + (pad != NULL ? (size_t)atoi(pad) : 0);
	} else {
		if (word_value(l, 3, "user", NULL) != NULL && c->nonce_len == 0)
			challenge(s, c);
		len = client_request(s->w, c, l, 2, buf, sizeof buf);
	}
	input(s, c, buf, len);
}

/* peer ADDRESS to CLIENT DATA: a datagram on the relayed address of the client's allocation */
static void
line_peer(struct script *s, const struct words *l)
{
	struct client *c = l->n >= 5 ? find_client(s, l->w[3]) : NULL;
	struct session *x = c != NULL ? session_of(s, c) : NULL;
	struct session_ref ref = { 0, 0 };
	struct addr from;

	if (c == NULL || addr_parse(&from, l->w[1]) != 0) {
		script_fail(s, "peer ADDRESS to CLIENT DATA", NULL);
		return;
	}
	if (x != NULL)
		ref = (struct session_ref){ session_slot(&s->w->shard[c->shard], x), x->gen };
	s->who = c;
	s->act = world_peer(s->w, c->shard, ref, 0, &from, l->w[4], strlen(l->w[4]), &s->out);
	after_input(s, 0, false);
}

/* The datagram that went to a relayed address of this server arrives there. */
static void
line_deliver(struct script *s)
{
	struct session *from = session_of(s, s->who);
	struct addr to = s->out.to, source;
	uint8_t data[WORLD_BUF];
	size_t len = s->copy_len;

	memcpy(data, s->copy, len);
	if (from == NULL || s->act != TURN_TO_PEER) {
		script_fail(s, "nothing to deliver", NULL);
		return;
	}
	source = s->w->policy.relay[from->relay[0].row].addr;
	source.port = from->relay[0].port;
	for (unsigned i = 0; i < s->clients; i++) {
		struct client *c = &s->client[i];
		struct session *x = session_of(s, c);

		if (x == NULL || x->relay[0].port != to.port ||
		    !addr_ip_eq(&s->w->policy.relay[x->relay[0].row].addr, &to))
			continue;
		s->who = c;
		s->act = world_peer(s->w, c->shard,
		    (struct session_ref){ session_slot(&s->w->shard[c->shard], x), x->gen }, 0, &source,
		    data, len, &s->out);
		after_input(s, 0, false);
		return;
	}
	script_fail(s, "no relayed address there", NULL);
}

static void
line_icmp(struct script *s, const struct words *l)
{
	struct client *c = l->n >= 7 ? find_client(s, l->w[3]) : NULL;
	struct session *x = c != NULL ? session_of(s, c) : NULL;
	struct addr peer;

	if (x == NULL || addr_parse(&peer, l->w[1]) != 0) {
		script_fail(s, "icmp ADDRESS to CLIENT TYPE CODE DATA", NULL);
		return;
	}
	s->who = c;
	s->act = turn_peer_icmp(&s->w->t[c->shard], &s->w->shard[c->shard],
	    (struct session_ref){ session_slot(&s->w->shard[c->shard], x), x->gen }, &peer,
	    (uint8_t)atoi(l->w[4]), (uint8_t)atoi(l->w[5]), (uint32_t)atoi(l->w[6]), &s->out);
	after_input(s, 0, false);
}

/* give A B: A tells B its reservation token */
static void
line_give(struct script *s, const struct words *l)
{
	struct client *a = find_client(s, l->w[1]), *b = find_client(s, l->w[2]);

	if (a != NULL && b != NULL)
		memcpy(b->token, a->token, sizeof b->token);
}

/* A listener on the network sends the last client's bytes again, from another address. */
static void
line_replay(struct script *s, const struct words *l)
{
	struct client *c = find_client(s, l->w[1]);

	if (c == NULL)
		return;
	memcpy(c->txid, s->sent + 8, STUN_TXID);
	input(s, c, s->sent, s->sent_len);
}

static void
line_close(struct script *s, const struct words *l)
{
	struct client *c = find_client(s, l->w[1]);
	struct session *x = c != NULL ? session_of(s, c) : NULL;

	if (x == NULL) {
		script_fail(s, "no allocation", NULL);
		return;
	}
	s->act = turn_close(&s->w->t[c->shard], &s->w->shard[c->shard],
	    (struct session_ref){ session_slot(&s->w->shard[c->shard], x), x->gen }, REASON_END_OPERATOR,
	    &s->out);
	world_effects(s->w, c->shard, &s->out);
}

/* ---- lines ----------------------------------------------------------------------------------- */

static tp_ms
milliseconds(const char *text)
{
	return (tp_ms)(strtod(text, NULL) * 1000 + 0.5);
}

static void play(struct script *s, char *line);

static void
line_repeat(struct script *s, char *rest)
{
	unsigned n = (unsigned)strtoul(rest, &rest, 10);
	char copy[2048];

	for (unsigned i = 0; i < n && !s->failed; i++) {
		text_copy(copy, sizeof copy, rest);
		play(s, copy);
	}
}

/* Words; "..." may hold spaces, and begins anywhere in a word. */
static void
split(struct words *l, char *line)
{
	char *to = line;

	l->n = 0;
	while (*line != 0 && *line != '\n' && l->n < WORDS_MAX) {
		bool quoted = false;

		while (*line == ' ' || *line == '\t')
			line++;
		if (*line == 0 || *line == '\n' || *line == '#')
			break;
		to = line;
		l->w[l->n++] = to;
		for (; *line != 0 && *line != '\n' && (quoted || (*line != ' ' && *line != '\t')); line++) {
			if (*line == '"')
				quoted = !quoted;
			else
				*to++ = *line;
		}
		if (*line != 0)
			line++;
		*to = 0;
	}
}

static void
act(struct script *s, struct words *l)
{
	const char *verb = l->w[0];
	unsigned least = strcmp(verb, "deliver") == 0 || strcmp(verb, "sweep") == 0 ? 1 : 2;

	if (l->n < least)
		script_fail(s, "too few words", verb);
	else if (strcmp(verb, "conf") == 0) {
		for (unsigned i = 1; i < l->n; i++)
			conf(s, l->w[i]);
		world_reload(s->w);
	} else if (strcmp(verb, "client") == 0 && l->n >= 3)
		line_client(s, l);
	else if (strcmp(verb, "at") == 0)
		world_time(s->w, 1000000 + milliseconds(l->w[1]));
	else if (strcmp(verb, "advance") == 0)
		world_time(s->w, s->w->now + milliseconds(l->w[1]));
	else if (strcmp(verb, "from") == 0)
		line_from(s, l);
	else if (strcmp(verb, "peer") == 0)
		line_peer(s, l);
	else if (strcmp(verb, "deliver") == 0)
		line_deliver(s);
	else if (strcmp(verb, "icmp") == 0)
		line_icmp(s, l);
	else if (strcmp(verb, "close") == 0)
		line_close(s, l);
	else if (strcmp(verb, "give") == 0 && l->n >= 3)
		line_give(s, l);
	else if (strcmp(verb, "replay") == 0 && l->n >= 2)
		line_replay(s, l);
	else if (strcmp(verb, "sweep") == 0)
		world_sweep(s->w, &s->out);
	else if (strcmp(verb, "expect") == 0)
		script_expect(s, l);
	else if (strcmp(verb, "count") == 0 && l->n >= 3)
		script_count(s, l);
	else
		script_fail(s, "no such line", verb);
}

static void
play(struct script *s, char *line)
{
	struct words l;

	while (*line == ' ' || *line == '\t')
		line++;
	if (strncmp(line, "repeat ", 7) == 0) {
		line_repeat(s, line + 7);
		return;
	}
	split(&l, line);
	if (l.n > 0)
		act(s, &l);
}

static bool
run_file(const char *file)
{
	struct script *s = calloc(1, sizeof *s);
	FILE *f = fopen(file, "r");
	char line[2048];
	bool ok;

	if (s == NULL || f == NULL) {
		fprintf(stderr, "%s: cannot be read\n", file);
		return false;
	}
	s->file = file;
	s->w = world_new();
	while (!s->failed && fgets(line, sizeof line, f) != NULL) {
		s->line++;
		play(s, line);
	}
	fclose(f);
	if (world_audit(s->w) != NULL)
		script_fail(s, "audit", s->w->fault);
	ok = !s->failed;
	world_free(s->w);
	free(s);
	return ok;
}

int
main(int argc, char **argv)
{
	int bad = 0;

	for (int i = 1; i < argc; i++)
		bad += !run_file(argv[i]);
	printf("%d scenarios, %d failed\n", argc - 1, bad);
	return bad != 0 || argc == 1;
}
