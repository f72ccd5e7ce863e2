/* SPDX-License-Identifier: BSD-3-Clause */
/* expect.c: what a script expects of the last input. */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>

#include "script.h"

static const char *
drop_name(enum drop d)
{
	static const char *const names[] = {
#define DROP(name, label, help) #name,
#include "tp/tbl/drops.def"
#undef DROP
	};

	return d < DROPS ? names[d] : "?";
}

static const char *
event_name(enum turn_event e)
{
	static const char *const names[] = { "NONE", "ALLOCATED", "REFRESHED", "ENDED", "EXPIRED", "CLOSED",
		"REPLACED", "PEER_DENIED", "REFUSED", "UNAUTHENTICATED" };

	return e < TP_COUNT(names) ? names[e] : "?";
}

/* What the last input came to, in the words of the language. */
static void
describe(const struct script *s, char out[64])
{
	const struct stun_attr *e = s->is_stun ? stun_find(&s->msg, STUN_A_ERROR_CODE) : NULL;

	switch (s->act) {
	case TURN_DROP:
		snprintf(out, 64, "drop %s", drop_name(s->out.drop));
		return;
	case TURN_DONE:
		snprintf(out, 64, "nothing");
		return;
	case TURN_NEED_KEY:
		snprintf(out, 64, "key");
		return;
	case TURN_NEED_RELAY:
		snprintf(out, 64, "relay");
		return;
	case TURN_TO_PEER:
		snprintf(out, 64, "peer");
		return;
	case TURN_TO_CLIENT:
		break;
	}
	if (!s->is_stun)
		snprintf(out, 64, "channel");
	else if (s->msg.cls == STUN_INDICATION)
		snprintf(out, 64, "%s", stun_find(&s->msg, STUN_A_ICMP) != NULL ? "icmp" : "data");
	else if (e != NULL && e->len >= 4)
		snprintf(out, 64, "%u", e->value[2] * 100u + e->value[3]);
	else
		snprintf(out, 64, "200");
}

static void
want_text(struct script *s, const char *what, const char *want, const char *is)
{
	char text[256];
	size_t n = strlen(want);

	/* "203.0.113.1:*" is any port. */
	if (n > 0 && want[n - 1] == '*' ? strncmp(want, is, n - 1) == 0 : strcmp(want, is) == 0)
		return;
	snprintf(text, sizeof text, "%s is %s, not %s", what, is, want);
	script_fail(s, text, NULL);
}

static void
want_xaddr(struct script *s, const struct words *l, const char *key, uint16_t type)
{
	const struct stun_attr *a = stun_find(&s->msg, type);
	char text[ADDR_STRLEN];
	struct addr is;

	for (const char *v = word_value(l, 1, key, NULL); v != NULL; v = word_value(l, 1, key, v)) {
		if (strcmp(v, "none") == 0) {
			if (a != NULL)
				script_fail(s, "not wanted", key);
			continue;
		}
		if (!stun_get_xaddr(&s->msg, a, &is)) {
			script_fail(s, "absent", key);
			return;
		}
		want_text(s, key, v, addr_print(&is, text));
		a = stun_find_next(&s->msg, a);
	}
}

static void
want_hex(struct script *s, const struct words *l, const char *key, uint16_t type)
{
	const char *v = word_value(l, 1, key, NULL);
	const struct stun_attr *a = stun_find(&s->msg, type);
	char hex[2 * WORLD_BUF + 1];

	if (v == NULL)
		return;
	want_text(s, key, v, a == NULL ? "none" : text_hex(hex, a->value, a->len));
}

/* The reason phrase of ERROR-CODE; "none": an empty one. */
static void
want_phrase(struct script *s, const char *want)
{
	const struct stun_attr *a = stun_find(&s->msg, STUN_A_ERROR_CODE);
	char is[160] = "";

	if (a != NULL && a->len > 4 && a->len - 4u < sizeof is)
		memcpy(is, a->value + 4, a->len - 4u);
	want_text(s, "phrase", strcmp(want, "none") == 0 ? "" : want, is);
}

static void
want_software(struct script *s, const char *want)
{
	const struct stun_attr *a = stun_find(&s->msg, STUN_A_SOFTWARE);
	char is[160] = "none";

	if (want == NULL)
		return;
	if (a != NULL && a->len < sizeof is) {
		memcpy(is, a->value, a->len);
		is[a->len] = 0;
	}
	want_text(s, "software", want, is);
}

static void
want_stun(struct script *s, const struct words *l)
{
	const char *v = word_value(l, 1, "lifetime", NULL);
	char text[32];
	uint32_t n;

	want_xaddr(s, l, "relayed", STUN_A_XOR_RELAYED_ADDRESS);
	want_xaddr(s, l, "mapped", STUN_A_XOR_MAPPED_ADDRESS);
	want_xaddr(s, l, "from", STUN_A_XOR_PEER_ADDRESS);
	want_hex(s, l, "token", STUN_A_RESERVATION_TOKEN);
	want_hex(s, l, "unknown", STUN_A_UNKNOWN_ATTRIBUTES);
	want_hex(s, l, "addrerr", STUN_A_ADDRESS_ERROR_CODE);
	want_hex(s, l, "icmp", STUN_A_ICMP);
	want_hex(s, l, "algs", STUN_A_PASSWORD_ALGORITHMS);
	want_hex(s, l, "alternate", STUN_A_ALTERNATE_SERVER);
	want_hex(s, l, "domain", STUN_A_ALTERNATE_DOMAIN);
	if (v != NULL) {
		snprintf(
		    text, sizeof text, "%u", stun_get_u32(stun_find(&s->msg, STUN_A_LIFETIME), &n) ? n : 0);
		want_text(s, "lifetime", v, text);
	}
	v = word_value(l, 1, "phrase", NULL);
	if (v != NULL)
		want_phrase(s, v);
	want_software(s, word_value(l, 1, "software", NULL));
	v = word_value(l, 1, "signed", NULL);
	if (v != NULL)
		want_text(s, "signed", v,
		    s->msg.mi256_off != 0    ? "sha256"
			: s->msg.mi_off != 0 ? "sha1"
					     : "none");
	v = word_value(l, 1, "fingerprint", NULL);
	if (v != NULL)
		want_text(s, "fingerprint", v, s->msg.has_fingerprint ? "yes" : "no");
}

/* The payload of whatever went out. */
static void
want_data(struct script *s, const char *want)
{
	const struct stun_attr *a = s->is_stun ? stun_find(&s->msg, STUN_A_DATA) : NULL;
	struct channel_data cd;
	char text[WORLD_BUF];
	const uint8_t *p = s->copy;
	size_t n = s->copy_len;

	if (a != NULL) {
		p = a->value;
		n = a->len;
	} else if (s->act == TURN_TO_CLIENT && channel_parse(&cd, s->copy, s->copy_len) == STUN_OK) {
		p = cd.data;
		n = cd.len;
	}
	memcpy(text, p, n);
	text[n] = 0;
	want_text(s, "data", want, text);
}

void
script_expect(struct script *s, const struct words *l)
{
	char is[64], want[64], text[ADDR_STRLEN];
	const char *v;

	describe(s, is);
	snprintf(want, sizeof want, strcmp(l->w[1], "drop") == 0 ? "%s %s" : "%s", l->w[1],
	    l->n > 2 ? l->w[2] : "");
	want_text(s, "outcome", want, is);
	if (s->is_stun)
		want_stun(s, l);
	if ((v = word_value(l, 1, "event", NULL)) != NULL)
		want_text(s, "event", v, event_name(s->out.event));
	if ((v = word_value(l, 1, "reason", NULL)) != NULL)
		want_text(s, "reason", v, reason_rows[s->out.reason].word);
	if ((v = word_value(l, 1, "user", NULL)) != NULL) {
		char user[SESSION_NAME + 1] = "";

		memcpy(user, s->out.user, s->out.user_len);
		want_text(s, "user", v, user);
	}
	if ((v = word_value(l, 1, "to", NULL)) != NULL)
		want_text(s, "to", v, addr_print(&s->out.to, text));
	if ((v = word_value(l, 1, "data", NULL)) != NULL)
		want_data(s, v);
	if ((v = word_value(l, 1, "number", NULL)) != NULL) {
		snprintf(is, sizeof is, "0x%04x", get_u16(s->copy));
		want_text(s, "number", v, is);
	}
	if ((v = word_value(l, 1, "len", NULL)) != NULL && (size_t)atoi(v) != s->copy_len)
		script_fail(s, "length", v);
	if (word_has(l, 1, "df") != s->out.dont_fragment)
		script_fail(s, "dont_fragment", NULL);
	if (word_has(l, 1, "same") &&
	    (s->copy_len != s->before_len || memcmp(s->copy, s->before, s->copy_len) != 0))
		script_fail(s, "not the same bytes", NULL);
	if ((v = word_value(l, 1, "closed", NULL)) != NULL && (unsigned)atoi(v) != s->out.close_count)
		script_fail(s, "closed", NULL);
}

void
script_count(struct script *s, const struct words *l)
{
	unsigned long is = 0, want = strtoul(l->w[2], NULL, 0);

	if (strcmp(l->w[1], "sessions") == 0)
		for (unsigned i = 0; i < WORLD_SHARDS; i++)
			is += shard_live(&s->w->shard[i]);
	else if (strcmp(l->w[1], "ended") == 0)
		is = s->w->swept;
	else if (strcmp(l->w[1], "auth") == 0)
		is = s->w->authd_asked;
	else if (strcmp(l->w[1], "unreserved") == 0)
		is = s->w->unreserved;
	else if (strcmp(l->w[1], "total") == 0)
		is = cross_total(&s->w->cross[0]);
	else if (strcmp(l->w[1], "supervisor") == 0)
		is = s->w->relay_asked;
	else
		script_fail(s, "no such count", l->w[1]);
	if (is != want) {
		char text[64];

		snprintf(text, sizeof text, "%s: %lu, not %lu", l->w[1], is, want);
		script_fail(s, text, NULL);
	}
}
