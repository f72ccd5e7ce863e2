/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * worklog.c: one line for what an operator wants to know about a session, with the same as fields.  What a
 * stranger can cause is said once a minute for each user, source and reason, and limited in all; names
 * are escaped; no key, password or token is ever printed.
 */
#include "config.h"

#include <stdio.h>
#include <time.h>

#include "worker_int.h"

#define LINES_PER_SEC          200
#define STRANGER_LINES_PER_SEC 50
#define OVER_SPAN              60000 /* between two reports of bandwidth limits */

#define SESSION_FMT            "session %02x.%08x.%04x"
#define WHO_MAX                340

/* ---- parts of a line and fields -------------------------------------------------------------- */

/* With log.anonymize_addresses only the network, and no port. */
static const char *
address_text(const struct worker *w, const struct addr *a, char out[ADDR_STRLEN])
{
	struct addr net = *a;

	if (!w->anonymous)
		return addr_print(a, out);
	memset(net.ip + (a->family == ADDR_V4 ? 3 : 6), 0, sizeof net.ip - (a->family == ADDR_V4 ? 3 : 6));
	net.port = 0;
	return addr_print_ip(&net, out);
}

static const char *
transport_text(uint8_t transport)
{
	switch (transport) {
	case TRANSPORT_TCP:
		return "tcp";
	case TRANSPORT_TLS:
		return "tls";
	case TRANSPORT_DTLS:
		return "dtls";
	default:
		return "udp";
	}
}

static void TP_PRINTF(3, 4) field(struct log_fields *f, const char *key, const char *fmt, ...)
{
	char text[200];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	log_field(f, key, text);
}

static void
session_fields(struct log_fields *f, const char *event, unsigned shard, uint32_t slot, uint32_t gen)
{
	log_field(f, "event", event);
	field(f, "session", "%02x.%08x.%04x", shard, slot, gen);
}

/* The relayed addresses, as peers see them; the length of the text. */
static size_t
relays_text(const struct worker *w, const struct session *x, char *out, size_t size)
{
	char relay[ADDR_STRLEN];
	size_t n = 0;

	out[0] = '\0';
	for (unsigned i = 0; i < 2; i++) {
		const struct relay_ref *r = &x->relay[i];
		if (r->family == ADDR_NONE || r->row >= w->policy[0]->relay_count)
			continue;
		const struct turn_relay_row *row = &w->policy[0]->relay[r->row];
		struct addr a = row->external.family != ADDR_NONE ? row->external : row->addr;
		a.port = r->port;
		int k = snprintf(out + n, size - n, "%s%s", n > 0 ? " " : "", addr_print(&a, relay));
		n += k > 0 && (size_t)k < size - n ? (size_t)k : 0;
	}
	return n;
}

/* "user alice client 192.0.2.1:5000 udp relay 203.0.113.7:50001", and the same as fields. */
static const char *
who(const struct worker *w, const struct session *x, struct log_fields *f, char out[WHO_MAX])
{
	char user[4 * SESSION_NAME + 4], client[ADDR_STRLEN], relays[2 * ADDR_STRLEN + 2];

	text_escape(user, sizeof user, x->user_text, strnlen(x->user_text, sizeof x->user_text));
	address_text(w, &x->client, client);
	relays_text(w, x, relays, sizeof relays);
	snprintf(out, WHO_MAX, "user %s client %s %s relay %s", user[0] != '\0' ? user : "-", client,
	    transport_text(x->transport), relays);
	if (f != NULL) {
		log_field(f, "user", user);
		log_field(f, "client", client);
		log_field(f, "transport", transport_text(x->transport));
		log_field(f, "relay", relays);
	}
	return out;
}

/* Is there room for another line of this kind in this second?  Takes it; *suppressed lines were
 * swallowed before. */
static bool
line_allowed(
    struct worker *w, enum log_kind kind, uint32_t per_second, enum log_level level, uint32_t *suppressed)
{
	struct log_class *c = &w->log[kind];

	if (log_silent(c, per_second, level))
		return false;
	c->used++;
	*suppressed = c->suppressed;
	c->suppressed = 0;
	return true;
}

/* ---- sessions -------------------------------------------------------------------------------- */

static void
allocated(struct worker *w, const struct lane *l, const struct turn_out *o)
{
	const struct session *x = session_get((struct shard *)(uintptr_t)&l->shard, o->ref);
	struct log_fields f = { 0 };
	char text[WHO_MAX];
	uint32_t suppressed;

	if (x == NULL || !line_allowed(w, WL_ALLOCATED, LINES_PER_SEC, LOG_L_INFO, &suppressed))
		return;
	session_fields(&f, "allocated", l->shard.index, o->ref.slot, x->gen);
	who(w, x, &f, text);
	field(&f, "lifetime", "%u", x->lifetime);
	log_with(LOG_L_INFO, suppressed, &f, SESSION_FMT ": allocated: %s lifetime %u%s", l->shard.index,
	    o->ref.slot, x->gen, text, x->lifetime,
	    o->event == EV_REPLACED ? ", in place of an idle one" : "");
}

static void
ended(struct worker *w, const struct lane *l, const struct turn_out *o)
{
	const struct session *x = &o->ended;
	enum reason why = o->event == EV_REPLACED ? REASON_END_REPLACED : o->reason;
	uint32_t now = (uint32_t)(w->turn.now / 1000), suppressed;
	uint32_t slot = o->event == EV_REPLACED ? SLOT_NONE : o->ref.slot;
	uint32_t age = now > x->created ? now - x->created : 0;
	struct log_fields f = { 0 };
	char text[WHO_MAX];

	stat_observe(w->stat, SPREAD_LENGTH, age);
	if (!line_allowed(w, WL_ENDED, LINES_PER_SEC, LOG_L_INFO, &suppressed))
		return;
	session_fields(&f, "ended", l->shard.index, slot, x->gen);
	log_field(&f, "reason", reason_rows[why].word);
	who(w, x, &f, text);
	field(&f, "seconds", "%u", age);
	field(&f, "up_bytes", "%llu", (unsigned long long)x->up_bytes);
	field(&f, "up_packets", "%u", x->up_packets);
	field(&f, "down_bytes", "%llu", (unsigned long long)x->down_bytes);
	field(&f, "down_packets", "%u", x->down_packets);
	log_with(LOG_L_INFO, suppressed, &f,
	    SESSION_FMT ": ended: %s: %s, %u s, up %llu bytes in %u, down %llu bytes in %u", l->shard.index,
	    slot, x->gen, reason_rows[why].text, text, age, (unsigned long long)x->up_bytes, x->up_packets,
	    (unsigned long long)x->down_bytes, x->down_packets);
}

/* What to write into the configuration to let this peer through. */
static const char *
remedy(const struct turn_out *o, char out[160])
{
	char ip[ADDR_STRLEN], rule[ADDR_STRLEN];
	const char *quote = o->peer.family == ADDR_V6 ? "\"" : "";

	addr_print_ip(&o->peer, ip);
	switch (o->verdict) {
	case PEER_RULE:
		snprintf(out, 160, "; peers.deny has %s", cidr_print(&o->rule, rule));
		break;
	case PEER_NOT_ALLOWED:
		snprintf(out, 160, "; to allow it: peers: { allow: [ %s%s%s ] }", quote, ip, quote);
		break;
	case PEER_OWN:
		snprintf(out, 160, "; to allow it: peers: { allow_own: [ \"%s%s%s:%u-%u/udp\" ] }",
		    quote[0] != '\0' ? "[" : "", ip, quote[0] != '\0' ? "]" : "", o->peer.port,
		    o->peer.port);
		break;
	case PEER_PRIVATE:
	case PEER_TRANSITION:
		snprintf(out, 160, "; to allow it: peers: { allow_private: [ %s%s%s ] }", quote, ip, quote);
		break;
	default:
		out[0] = '\0';
	}
	return out;
}

static void
denied(struct worker *w, const struct lane *l, const struct turn_out *o)
{
	const struct session *x = session_get((struct shard *)(uintptr_t)&l->shard, o->ref);
	char peer[ADDR_STRLEN], what[160], text[WHO_MAX];
	struct log_fields f = { 0 };
	uint32_t more = 0, suppressed;

	if (x == NULL || log_level_get() < LOG_L_INFO)
		return;
	/* Once for each peer, not for each address that tries it. */
	if (!log_once(
		w->once, &o->peer, x->user_text, SESSION_NAME, REASON_PEER_DENIED, w->turn.now, &more) ||
	    !line_allowed(w, WL_STRANGER, STRANGER_LINES_PER_SEC, LOG_L_INFO, &suppressed))
		return;
	addr_print(&o->peer, peer);
	session_fields(&f, "refused", l->shard.index, o->ref.slot, o->ref.gen);
	log_field(&f, "reason", reason_rows[REASON_PEER_DENIED].word);
	log_field(&f, "peer", peer);
	who(w, x, &f, text);
	log_with(LOG_L_INFO, more, &f, SESSION_FMT ": peer denied: %s: %s: %s%s", l->shard.index,
	    o->ref.slot, o->ref.gen, peer, peer_verdict_text(o->verdict), text, remedy(o, what));
}

/* ---- refusals -------------------------------------------------------------------------------- */

/* Whom a line is about: a limit of the whole server is told once a minute, however many clients meet it. */
static const struct addr *
subject(enum reason why, const struct addr *client)
{
	static const struct addr all;

	return strstr(reason_rows[why].word, "_total") != NULL ? &all : client;
}

#define VALUE_MAX 40
/* " (2)": the value of a limit, and the network that it counts. */
static const char *
limit_text(const struct worker *w, enum reason why, const struct addr *client, struct log_fields *f,
    char *out, size_t size)
{
	struct addr net = *client;
	char text[ADDR_STRLEN], prefix[ADDR_STRLEN + 4];

	out[0] = '\0';
	if (w->limit[why] == 0)
		return out;
	snprintf(out, size, " (%llu)", (unsigned long long)w->limit[why]);
	if (strstr(reason_rows[why].word, "_per_prefix") == NULL)
		return out;
	if (net.family == ADDR_V6)
		memset(net.ip + 8, 0, 8);
	net.port = 0;
	if (w->anonymous)
		address_text(w, client, text);
	else
		addr_print_ip(&net, text);
	snprintf(prefix, sizeof prefix, "%s%s", text, net.family == ADDR_V6 ? "/64" : "");
	log_field(f, "prefix", prefix);
	return out;
}

/* " 100 s ago" for an end: what the reason's text leaves open. */
static void
reason_value(const struct worker *w, const struct turn_out *o, struct log_fields *f, char *out, size_t size)
{
	const struct turn_policy *p = w->policy[0];
	int64_t late = w->turn.unix_now - o->credential_expiry;

	limit_text(w, o->reason, &o->to, f, out, size);
	switch (o->reason) {
	case REASON_EXPIRED:
		if (o->credential_expiry != 0)
			snprintf(out, size, " %lld s ago", (long long)(late > 0 ? late : 0));
		break;
	case REASON_REALM:
		snprintf(out, size, ", not %.60s", p->auth.realm);
		break;
	default:
		break;
	}
}

/* What an operator has to act on is a warning: limits that are reached. */
static enum log_level
refusal_level(enum reason why)
{
	switch (why) {
	case REASON_LIMIT_USER:
	case REASON_LIMIT_PREFIX:
	case REASON_LIMIT_TOTAL:
	case REASON_LIMIT_PERMISSIONS:
	case REASON_LIMIT_CHANNELS:
	case REASON_PORTS:
	case REASON_MEMORY:
		return LOG_L_WARN;
	case REASON_MALFORMED:
	case REASON_UNKNOWN_ATTRIBUTE:
	case REASON_NO_ALLOCATION:
	case REASON_HAS_ALLOCATION:
	case REASON_FAMILY:
	case REASON_TRANSPORT:
	case REASON_PEER_FAMILY:
	case REASON_NONCE_FOREIGN:
	case REASON_NONE:
		return LOG_L_DEBUG;
	default:
		return LOG_L_INFO;
	}
}

static void
refused(struct worker *w, const struct lane *l, const struct turn_out *o)
{
	enum log_level level = refusal_level(o->reason);
	char client[ADDR_STRLEN], user[4 * SESSION_NAME + 4], value[80];
	struct log_fields f = { 0 };
	uint32_t more = 0, suppressed;

	if (level > log_level_get() ||
	    !log_once(w->once, &o->to, o->user, o->user_len, o->reason, w->turn.now, &more) ||
	    !line_allowed(w, WL_STRANGER, STRANGER_LINES_PER_SEC, level, &suppressed))
		return;
	text_escape(user, sizeof user, o->user, o->user_len);
	address_text(w, &o->to, client);
	reason_value(w, o, &f, value, sizeof value);
	log_field(&f, "event", "refused");
	log_field(&f, "reason", reason_rows[o->reason].word);
	field(&f, "code", "%u", o->code);
	log_field(&f, "user", user);
	log_field(&f, "client", client);
	log_field(&f, "transport", transport_text(o->transport));
	log_with(level, more, &f, "shard %u: refused: %s%s: %u %s: user %s client %s %s", l->shard.index,
	    reason_rows[o->reason].text, value, o->code, stun_error_phrase(o->code),
	    user[0] != '\0' ? user : "-", client, transport_text(o->transport));
}

void
worklog_handshake(
    struct worker *w, const struct lane *l, const struct addr *client, uint8_t transport, enum reason why)
{
	enum log_level level = w->limit[why] != 0 ? LOG_L_WARN : LOG_L_INFO;
	struct log_fields f = { 0 };
	uint32_t more = 0, suppressed;
	char text[ADDR_STRLEN], value[VALUE_MAX];

	if (why == REASON_NONE)
		return;
	stat_reason(w->stat, why);
	if (!log_once(w->once, subject(why, client), "", 0, why, w->turn.now, &more) ||
	    !line_allowed(w, WL_STRANGER, STRANGER_LINES_PER_SEC, level, &suppressed))
		return;
	limit_text(w, why, client, &f, value, sizeof value);
	log_field(&f, "event", "handshake_failed");
	log_field(&f, "reason", reason_rows[why].word);
	log_field(&f, "client", address_text(w, client, text));
	log_field(&f, "transport", transport_text(transport));
	log_with(level, more, &f, "shard %u: handshake failed: %s%s: client %s %s", l->shard.index,
	    reason_rows[why].text, value, text, transport_text(transport));
}

void
worklog_limit(struct worker *w, enum reason why, const struct addr *client)
{
	char text[ADDR_STRLEN], value[VALUE_MAX];
	struct log_fields f = { 0 };
	uint32_t more = 0, suppressed;

	if (!log_once(w->once, subject(why, client), "", 0, why, w->turn.now, &more) ||
	    !line_allowed(w, WL_STRANGER, STRANGER_LINES_PER_SEC, LOG_L_WARN, &suppressed))
		return;
	limit_text(w, why, client, &f, value, sizeof value);
	address_text(w, client, text);
	log_field(&f, "event", "refused");
	log_field(&f, "reason", reason_rows[why].word);
	log_field(&f, "client", text);
	log_with(LOG_L_WARN, more, &f, "refused without an answer: %s%s: client %s", reason_rows[why].text,
	    value, text);
}

void
worklog_over_limit(struct worker *w, enum reason why, const struct addr *client)
{
	stat_reason(w->stat, why);
	worklog_limit(w, why, client);
}

void
worklog_conn_limit(struct worker *w, const struct addr *client)
{
	enum reason why = cross_conn_refusal(
	    &w->cross, w->start.shard_count, cross_prefix(&w->cross, client), &w->streams.limits);

	stat_drop(w->stat, DROP_STREAM_LIMIT);
	if (why == REASON_NONE) /* one ended meanwhile */
		return;
	worklog_over_limit(w, why, client);
}

/* Only noted: this is the data path. */
void
worklog_over(struct worker *w, const struct lane *l, const struct turn_out *o)
{
	w->over.drops++;
	w->over.lane = (uint32_t)(l - w->lane);
	w->over.slot = o->ref.slot;
	w->over.gen = o->ref.gen;
}

void
worklog_tick(struct worker *w)
{
	struct over_limit *over = &w->over;
	const struct session *x;
	struct log_fields f = { 0 };
	char text[WHO_MAX];

	if (over->drops == over->told || w->turn.now < over->next || over->lane >= w->lane_count)
		return;
	x = session_get(&w->lane[over->lane].shard, (struct session_ref){ over->slot, over->gen });
	over->next = w->turn.now + OVER_SPAN;
	stat_reason(w->stat, REASON_LIMIT_BANDWIDTH);
	session_fields(&f, "refused", w->lane[over->lane].shard.index, over->slot, over->gen);
	log_field(&f, "reason", reason_rows[REASON_LIMIT_BANDWIDTH].word);
	log_with(LOG_L_WARN, 0, &f,
	    "bandwidth: %llu datagrams dropped by limits.bandwidth_per_allocation (%llu bit/s), "
	    "bandwidth_per_user (%llu) or bandwidth_total (%llu); the last of " SESSION_FMT " %s",
	    (unsigned long long)(over->drops - over->told), 8ull * w->policy[0]->bandwidth.per_allocation,
	    8ull * w->policy[0]->bandwidth.per_user, 8ull * w->policy[0]->bandwidth.total,
	    w->lane[over->lane].shard.index, over->slot, over->gen,
	    x != NULL ? who(w, x, &f, text) : "(ended)");
	over->told = over->drops;
}

void
worklog_event(struct worker *w, const struct lane *l, const struct turn_out *o)
{
	switch (o->event) {
	case EV_NONE:
	case EV_REFRESHED:
		return;
	case EV_ALLOCATED:
		allocated(w, l, o);
		return;
	case EV_ENDED:
	case EV_EXPIRED:
	case EV_CLOSED:
		ended(w, l, o);
		return;
	case EV_REPLACED:
		ended(w, l, o);
		allocated(w, l, o);
		return;
	case EV_PEER_DENIED:
		denied(w, l, o);
		return;
	case EV_REFUSED:
	case EV_UNAUTHENTICATED:
		refused(w, l, o);
		return;
	}
}

void
worklog_dropped(struct worker *w, unsigned shard, const struct session *x, uint32_t slot, const char *why)
{
	char text[WHO_MAX];

	stat_add(w->stat, STAT_ALLOC_INVALID, 1);
	log_limited(&w->log[WL_OTHER], LINES_PER_SEC, LOG_L_WARN,
	    SESSION_FMT ": dropped at adoption: %s: %s", shard, slot, x->gen, why, who(w, x, NULL, text));
}
