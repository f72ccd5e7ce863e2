/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * worklog: one line for what an operator wants to know about a session.  Everything that a stranger can cause is limited
 * per kind; names are escaped; no key, password or token is ever printed.
 */
#include "config.h"

#include <stdio.h>

#include "worker_int.h"

#define LINES_PER_SEC 200
#define STRANGER_LINES_PER_SEC 10

#define SESSION_FMT "session %02x.%08x.%04x"

/* "user alice client 192.0.2.1:5000 relay 203.0.113.7:50001" */
static const char *
who(const struct worker *w, const struct session *x, char out[300])
{
	char user[4 * SESSION_NAME + 4], client[ADDR_STRLEN], relay[ADDR_STRLEN];
	size_t n;

	text_escape(user, sizeof user, x->user_text, strnlen(x->user_text, sizeof x->user_text));
	addr_print(&x->client, client);
	n = (size_t)snprintf(out, 300, "user %s client %s relay", user[0] != '\0' ? user : "-", client);
	for (unsigned i = 0; i < 2 && n < 300; i++) {
		const struct relay_ref *r = &x->relay[i];
		if (r->family == ADDR_NONE || r->row >= w->policy[0]->relay_count)
			continue;
		const struct turn_relay_row *row = &w->policy[0]->relay[r->row];
		struct addr a = row->external.family != ADDR_NONE ? row->external : row->addr;
		a.port = r->port;
		n += (size_t)snprintf(out + n, 300 - n, " %s", addr_print(&a, relay));
	}
	return out;
}

static void
allocated(struct worker *w, const struct lane *l, const struct turn_out *o)
{
	const struct session *x = session_get((struct shard *)(uintptr_t)&l->shard, o->ref);
	char text[300];

	if (x != NULL && !log_silent(&w->log[WL_ALLOCATED], LINES_PER_SEC, LOG_L_INFO))
		log_limited(&w->log[WL_ALLOCATED], LINES_PER_SEC, LOG_L_INFO, SESSION_FMT ": allocated: %s lifetime %u%s",
		    l->shard.index, o->ref.slot, x->gen, who(w, x, text), x->lifetime,
		    o->event == EV_REPLACED ? ", in place of an idle one" : "");
}

static void
ended(struct worker *w, const struct lane *l, const struct turn_out *o, const char *why)
{
	const struct session *x = &o->ended;
	uint32_t now = (uint32_t)(w->turn.now / 1000);
	uint32_t slot = o->event == EV_REPLACED ? SLOT_NONE : o->ref.slot;
	char text[300];

	if (log_silent(&w->log[WL_ENDED], LINES_PER_SEC, LOG_L_INFO))
		return;
	log_limited(&w->log[WL_ENDED], LINES_PER_SEC, LOG_L_INFO, SESSION_FMT ": ended: %s: %s, %u s, up %llu bytes in %u, "
	    "down %llu bytes in %u", l->shard.index, slot, x->gen, why, who(w, x, text),
	    now > x->created ? now - x->created : 0, (unsigned long long)x->up_bytes, x->up_packets,
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
		snprintf(out, 160, "; to allow it: peers: { allow_own: [ \"%s%s%s:%u-%u/udp\" ] }", quote[0] != '\0' ? "[" : "",
		    ip, quote[0] != '\0' ? "]" : "", o->peer.port, o->peer.port);
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
	char peer[ADDR_STRLEN], what[160], text[300];

	if (x != NULL && !log_silent(&w->log[WL_DENIED], STRANGER_LINES_PER_SEC, LOG_L_INFO))
		log_limited(&w->log[WL_DENIED], STRANGER_LINES_PER_SEC, LOG_L_INFO, SESSION_FMT ": peer denied: %s: %s: %s%s",
		    l->shard.index, o->ref.slot, o->ref.gen, addr_print(&o->peer, peer), peer_verdict_text(o->verdict),
		    who(w, x, text), remedy(o, what));
}

static void
refused(struct worker *w, const struct lane *l, const struct turn_out *o, enum log_kind kind, const char *what)
{
	enum log_level level = kind == WL_REFUSED ? LOG_L_DEBUG : LOG_L_INFO;
	char client[ADDR_STRLEN], user[4 * SESSION_NAME + 4];

	if (log_silent(&w->log[kind], STRANGER_LINES_PER_SEC, level))
		return;
	log_limited(&w->log[kind], STRANGER_LINES_PER_SEC, level,
	    "shard %u: %s: %u %s: user %s client %s", l->shard.index, what, o->code, stun_error_phrase(o->code),
	    text_escape(user, sizeof user, o->user, o->user_len), addr_print(&o->to, client));
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
		ended(w, l, o, "by its client");
		return;
	case EV_EXPIRED:
		ended(w, l, o, "expired");
		return;
	case EV_CLOSED:
		ended(w, l, o, "closed");
		return;
	case EV_REPLACED:
		ended(w, l, o, "replaced");
		allocated(w, l, o);
		return;
	case EV_PEER_DENIED:
		denied(w, l, o);
		return;
	case EV_REFUSED:
		refused(w, l, o, WL_REFUSED, "refused");
		return;
	case EV_UNAUTHENTICATED:
		refused(w, l, o, WL_UNAUTHENTICATED, "wrong credentials");
		return;
	}
}

void
worklog_dropped(struct worker *w, unsigned shard, const struct session *x, uint32_t slot, const char *why)
{
	char text[300];

	stat_add(w->stat, STAT_ALLOC_INVALID, 1);
	log_limited(&w->log[WL_OTHER], LINES_PER_SEC, LOG_L_WARN, SESSION_FMT ": dropped at adoption: %s: %s", shard, slot,
	    x->gen, why, who(w, x, text));
}
