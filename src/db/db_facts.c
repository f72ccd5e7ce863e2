/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * db_facts.c: single entries of a database, checked.  An entry that is wrong is left out and counted; the
 * others hold.
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "db_int.h"

static void
bad(struct db_facts *f, const char *from, const char *value, size_t len, const char *why)
{
	char shown[96];

	if (f->bad++ > 0)
		return;
	text_escape(shown, sizeof shown, value, len < 60 ? len : 60);
	snprintf(f->bad_text, sizeof f->bad_text, "%.60s: \"%s\": %s", from, shown, why);
}

void
facts_secret(struct db_facts *f, const char *from, const char *value, size_t len)
{
	if (len == 0 || len > USERS_SECRET_MAX) {
		bad(f, from, "", 0, "a secret has 1 to 256 bytes");
	} else if (f->secret_count == DB_SECRETS_MAX) {
		bad(f, from, "", 0, "more than 64 secrets in one realm");
	} else {
		struct db_secret *s = &f->secret[f->secret_count++];

		s->len = (uint16_t)len;
		memcpy(s->value, value, len);
	}
}

/* An address without a port. */
static bool
host_of(struct addr *a, const char *text)
{
	return addr_parse(a, text) == 0 && a->port == 0 && (a->family == ADDR_V4 || a->family == ADDR_V6) &&
	    strchr(text, '[') == NULL;
}

void
facts_range(struct db_facts *f, bool allowed, const char *from, const char *value, size_t len)
{
	struct db_ranges *list = allowed ? &f->allowed : &f->denied;
	struct addr_range r;
	char text[2 * ADDR_STRLEN], *dash;

	while (len > 0 && value[len - 1] == ' ')
		len--;
	memset(&r, 0, sizeof r);
	if (len >= sizeof text) {
		bad(f, from, value, len, "allowed: ADDRESS or FIRST-LAST");
		return;
	}
	memcpy(text, value, len);
	text[len] = '\0';
	dash = strchr(text, '-');
	if (dash != NULL)
		*dash++ = '\0';
	if (!host_of(&r.first, text) || !host_of(&r.last, dash != NULL ? dash : text) ||
	    r.first.family != r.last.family || memcmp(r.first.ip, r.last.ip, sizeof r.first.ip) > 0)
		bad(f, from, value, len, "allowed: ADDRESS or FIRST-LAST");
	else if (list->count == DB_RANGES_MAX)
		bad(f, from, value, len, "more than 1024 ranges");
	else
		list->range[list->count++] = r;
}

void
facts_denied(struct db_facts *f, const char *from, const char *name, size_t len, const char *until)
{
	struct db_denied *d = &f->user[f->denied_count];
	long long t = 0;
	char end;

	if (f->denied_count == DB_DENIED_MAX) {
		bad(f, from, name, len, "more than 256 denied users");
	} else if (len == 0 || len > sizeof d->name - 1 ||
	    (*until != '\0' && sscanf(until, "%lld%c", &t, &end) != 1) || t < 0) {
		bad(f, from, name, len, "allowed: a name of 1 to 127 bytes and a Unix time or 0");
	} else {
		memcpy(d->name, name, len);
		d->until = t;
		f->denied_count++;
	}
}

void
facts_option(struct db_facts *f, const char *from, const char *opt, const char *value, size_t len)
{
	const struct {
		const char *name;
		uint64_t *field;
	} known[] = {
		{ "max-bps", &f->max_bps },
		{ "total-quota", &f->total_quota },
		{ "user-quota", &f->user_quota },
	};
	uint64_t n = 0;

	for (unsigned i = 0; i < TP_COUNT(known); i++) {
		if (strcmp(known[i].name, opt) != 0)
			continue;
		while (len > 0 && value[len - 1] == ' ')
			len--;
		for (size_t k = 0; k < len; k++) {
			if (value[k] < '0' || value[k] > '9' || n > UINT32_MAX) {
				bad(f, from, value, len, "allowed: a decimal number");
				return;
			}
			n = n * 10 + (uint64_t)(value[k] - '0');
		}
		*known[i].field = n;
		return;
	}
	/* Options of a later coturn are none of ours. */
}

void
facts_origin(struct db_facts *f, const char *from, const char *origin, const char *realm)
{
	struct db_origin *o = &f->origin[f->origin_count];

	if (f->origin_count == DB_ORIGINS_MAX) {
		bad(f, from, origin, strlen(origin), "more than 64 origins");
	} else if (text_copy(o->origin, sizeof o->origin, origin) >= sizeof o->origin ||
	    text_copy(o->realm, sizeof o->realm, realm) >= sizeof o->realm || realm[0] == '\0') {
		bad(f, from, origin, strlen(origin), "origin and realm have 1 to 127 bytes");
	} else {
		f->origin_count++;
	}
}

static int
digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0'
	    : c >= 'a' && c <= 'f'  ? c - 'a' + 10
	    : c >= 'A' && c <= 'F'  ? c - 'A' + 10
				    : -1;
}

static bool
from_hex(uint8_t *out, size_t n, const char *text)
{
	for (size_t i = 0; i < n; i++) {
		int high = digit(text[2 * i]), low = high < 0 ? -1 : digit(text[2 * i + 1]);

		if (low < 0)
			return false;
		out[i] = (uint8_t)(high << 4 | low);
	}
	return true;
}

int
facts_key(struct db_found *found, const char *text, size_t len)
{
	while (len > 0 && text[len - 1] == ' ') /* char(128) is padded */
		len--;
	if (len < 32 || !from_hex(found->md5, 16, text))
		return -EINVAL;
	found->has_md5 = true;
	found->has_sha256 = len == 64 && from_hex(found->sha256, 32, text);
	return 0;
}
