/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * options.c: the table of options, and scalars from and to their text.
 *
 * Text is judged by its characters, never by YAML's idea of its type: `no` is a fine realm and never
 * false, 010 is refused where a number is wanted and never eight.  Only quotes count: see load.c.
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "tp/conf.h"
#include "conf_int.h"

const struct option_row option_rows[] = {
#define OPT(path, type, field, def, min, max, cls, doc)                                                    \
	{ path, def, doc, NULL, OPT_##type, OPT_##cls, min, max, offsetof(struct conf, field),             \
		sizeof(((struct conf *)0)->field) },
#define LIST(path, field, cls, shape, doc) { path, NULL, doc, shape, OPT_LIST, OPT_##cls, 0, 0, 0, 0 },
#include "tp/tbl/options.def"
#undef OPT
#undef LIST
};
const unsigned option_count = OPTION_COUNT;

struct unit {
	const char *name;
	uint64_t factor;
};
/* Largest first: printing takes the first that divides. */
static const struct unit time_units[] = {
	{ "d", 86400000 },
	{ "h", 3600000 },
	{ "m", 60000 },
	{ "s", 1000 },
	{ "ms", 1 },
	{ NULL, 0 },
};
static const struct unit size_units[] = {
	{ "GiB", 1u << 30 },
	{ "MiB", 1u << 20 },
	{ "KiB", 1u << 10 },
	{ "GB", 1000000000 },
	{ "MB", 1000000 },
	{ "kB", 1000 },
	{ "B", 1 },
	{ NULL, 0 },
};
static const struct unit rate_units[] = {
	/* bits */
	{ "Gbit", 1000000000 },
	{ "Mbit", 1000000 },
	{ "kbit", 1000 },
	{ "bit", 1 },
	{ NULL, 0 },
};
static const char *const family_words[] = { "ipv4", "ipv6", "client", NULL };
static const char *const algs_words[] = { "any", "sha256", NULL };
static const char *const rest_words[] = { "any", "timestamp-first", "timestamp-last", NULL };
static const char *const level_words[] = { "error", "warn", "info", "debug", NULL };
static const char *const engine_words[] = { "auto", "plain", "mmsg", "gso", NULL };
static const char *const format_words[] = { "text", "json", NULL };
static const char *const tls_words[] = { "1.2", "1.3", NULL };

static const char *const *
words_of(enum opt_type type)
{
	switch (type) {
	case OPT_ENUM_FAMILY:
		return family_words;
	case OPT_ENUM_ALGS:
		return algs_words;
	case OPT_ENUM_LEVEL:
		return level_words;
	case OPT_ENUM_LOGFORMAT:
		return format_words;
	case OPT_ENUM_ENGINE:
		return engine_words;
	case OPT_ENUM_REST:
		return rest_words;
	case OPT_ENUM_TLS:
		return tls_words;
	default:
		return NULL;
	}
}

static const struct unit *
units_of(enum opt_type type)
{
	return type == OPT_TIME ? time_units
	    : type == OPT_SIZE  ? size_units
	    : type == OPT_RATE  ? rate_units
				: NULL;
}

const struct option_row *
option_find(const char *path)
{
	for (unsigned i = 0; i < OPTION_COUNT; i++)
		if (strcmp(option_rows[i].path, path) == 0)
			return &option_rows[i];
	return NULL;
}

/* ---- numbers ---------------------------------------------------------------------------------- */

/* Decimal digits at text, moved past: no sign, no leading zero, no overflow. */
static bool
take_number(const char **text, uint64_t *out)
{
	const char *s = *text;
	uint64_t v = 0;

	if (*s < '0' || *s > '9' || (s[0] == '0' && s[1] >= '0' && s[1] <= '9'))
		return false;
	for (; *s >= '0' && *s <= '9'; s++) {
		uint64_t digit = (uint64_t)(*s - '0');

		if (v > (UINT64_MAX - digit) / 10)
			return false;
		v = v * 10 + digit;
	}
	*text = s;
	*out = v;
	return true;
}

/* A number with one of the units, or a bare 0. */
static bool
take_with_unit(const char *text, const struct unit *units, uint64_t *out)
{
	uint64_t v;

	if (!take_number(&text, &v))
		return false;
	if (*text == '\0' && v == 0) {
		*out = 0;
		return true;
	}
	for (; units->name != NULL; units++)
		if (strcmp(units->name, text) == 0) {
			if (v > UINT64_MAX / units->factor)
				return false;
			*out = v * units->factor;
			return true;
		}
	return false;
}

static void
print_with_unit(uint64_t v, const struct unit *units, enum opt_type type, char *out, size_t len)
{
	if (v == 0 && type != OPT_TIME) {
		snprintf(out, len, "0");
		return;
	}
	if (v == 0)
		units = &time_units[3]; /* 0s */
	while (v % units->factor != 0)
		units++;
	snprintf(out, len, "%llu%s", (unsigned long long)(v / units->factor), units->name);
}

/* A value of the field's type as text; used for values and for the bounds in messages. */
static void
print_number(const struct option_row *o, uint64_t v, char *out, size_t len)
{
	const struct unit *units = units_of(o->type);

	if (units != NULL)
		print_with_unit(o->type == OPT_RATE ? v * 8 : v, units, o->type, out, len);
	else
		snprintf(out, len, "%llu", (unsigned long long)v);
}

/* ---- set -------------------------------------------------------------------------------------- */

void
option_allowed(const struct option_row *o, char *why, size_t len)
{
	char low[32], high[32], words[128] = "";
	const char *const *w = words_of(o->type);

	print_number(o, o->min, low, sizeof low);
	print_number(o, o->max, high, sizeof high);
	for (; w != NULL && *w != NULL; w++)
		snprintf(words + strlen(words), sizeof words - strlen(words), "%s%s",
		    words[0] != '\0' ? ", " : "", *w);
	switch (o->type) {
	case OPT_BOOL:
		snprintf(why, len, "allowed: true or false");
		break;
	case OPT_INT:
		snprintf(why, len, "allowed: a decimal number from %s to %s, digits only", low, high);
		break;
	case OPT_COUNT_AUTO:
		snprintf(why, len, "allowed: auto, or a decimal number from %s to %s", low, high);
		break;
	case OPT_TIME:
		snprintf(
		    why, len, "allowed: a number with a unit (ms, s, m, h, d) from %s to %s", low, high);
		break;
	case OPT_SIZE:
		snprintf(why, len,
		    "allowed: a number with a unit (B, KiB, MiB, GiB, kB, MB, GB) from %s to %s", low,
		    high);
		break;
	case OPT_RATE:
		snprintf(why, len,
		    "allowed: a number with a unit (bit, kbit, Mbit, Gbit; per second) from 8bit to %s, "
		    "or 0 for no limit",
		    high);
		break;
	case OPT_PORTS:
		snprintf(why, len, "allowed: LOW-HIGH with ports from %s to %s and LOW not above HIGH", low,
		    high);
		break;
	case OPT_STR:
	case OPT_PATH:
		snprintf(why, len, "allowed: text of %s to %s bytes without control characters", low, high);
		break;
	default:
		snprintf(why, len, "allowed: %s", words);
		break;
	}
}

static bool
parse_ports(const char *text, const struct option_row *o, struct conf_ports *out)
{
	uint64_t low, high;

	if (!take_number(&text, &low) || *text++ != '-' || !take_number(&text, &high) || *text != '\0')
		return false;
	if (low < o->min || high > o->max || low > high)
		return false;
	out->min = (uint16_t)low;
	out->max = (uint16_t)high;
	return true;
}

static bool
parse_text(const char *text, const struct option_row *o, char *field)
{
	size_t n = strlen(text);

	if (n < o->min || n > o->max || n >= o->size)
		return false;
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
			return false;
	memset(field, 0, o->size); /* equal settings are equal bytes */
	memcpy(field, text, n);
	return true;
}

static bool
parse_word(const char *text, const char *const *words, uint32_t *out)
{
	for (uint32_t i = 0; words != NULL && words[i] != NULL; i++)
		if (strcmp(words[i], text) == 0) {
			*out = i;
			return true;
		}
	return false;
}

static bool
parse_number(const char *text, const struct option_row *o, uint64_t *out)
{
	uint64_t v;

	if (o->type == OPT_COUNT_AUTO && strcmp(text, "auto") == 0) {
		*out = 0;
		return true;
	}
	if (units_of(o->type) != NULL) {
		if (!take_with_unit(text, units_of(o->type), &v))
			return false;
	} else if (!take_number(&text, &v) || *text != '\0') {
		return false;
	}
	if (o->type == OPT_RATE) {
		if (v > 0 && v < 8) /* would become 0 bytes, and 0 is no limit */
			return false;
		v /= 8;
	}
	if (v < o->min || v > o->max)
		return false;
	*out = v;
	return true;
}

int
option_set(struct conf *c, const struct option_row *o, const char *text, char *why, size_t why_len)
{
	void *field = (char *)c + o->offset;
	bool ok;

	switch (o->type) {
	case OPT_LIST:
		ok = false;
		break;
	case OPT_BOOL:
		ok = strcmp(text, "true") == 0 || strcmp(text, "false") == 0;
		if (ok)
			*(bool *)field = text[0] == 't';
		break;
	case OPT_PORTS:
		ok = parse_ports(text, o, field);
		break;
	case OPT_STR:
	case OPT_PATH:
		ok = parse_text(text, o, field);
		break;
	case OPT_INT:
	case OPT_TIME:
	case OPT_SIZE:
	case OPT_RATE:
	case OPT_COUNT_AUTO:
		ok = parse_number(text, o, field);
		break;
	default:
		ok = parse_word(text, words_of(o->type), field);
		break;
	}
	if (ok)
		return 0;
	if (why_len > 0)
		option_allowed(o, why, why_len);
	return -EINVAL;
}

/* ---- print ------------------------------------------------------------------------------------ */

void
option_print(const struct conf *c, const struct option_row *o, char *out, size_t len)
{
	const void *field = (const char *)c + o->offset;
	FILE *f;

	if (len == 0)
		return;
	out[0] = '\0';
	switch (o->type) {
	case OPT_BOOL:
		snprintf(out, len, "%s", *(const bool *)field ? "true" : "false");
		return;
	case OPT_PORTS:
		snprintf(out, len, "%u-%u", ((const struct conf_ports *)field)->min,
		    ((const struct conf_ports *)field)->max);
		return;
	case OPT_COUNT_AUTO:
		if (*(const uint64_t *)field == 0) {
			snprintf(out, len, "auto");
			return;
		}
		__attribute__((fallthrough));
	case OPT_INT:
	case OPT_TIME:
	case OPT_SIZE:
	case OPT_RATE:
		print_number(o, *(const uint64_t *)field, out, len);
		return;
	case OPT_STR:
	case OPT_PATH:
	case OPT_LIST:
		f = fmemopen(out, len, "w");
		if (f == NULL)
			return;
		if (o->type == OPT_LIST)
			list_print(c, option_id(o), f);
		else
			yaml_print_text(field, f);
		fclose(f);
		out[len - 1] = '\0'; /* fmemopen leaves a full buffer unterminated */
		return;
	default:
		snprintf(out, len, "%s", words_of(o->type)[*(const uint32_t *)field]);
		return;
	}
}

void
conf_defaults(struct conf *c)
{
	memset(c, 0, sizeof *c);
	c->magic = CONF_MAGIC;
	c->layout = CONF_LAYOUT;
	for (unsigned i = 0; i < OPTION_COUNT; i++) {
		int rc = option_rows[i].type == OPT_LIST
		    ? 0
		    : option_set(c, &option_rows[i], option_rows[i].def, NULL, 0);

		assert(rc == 0); /* a default outside its own range is a bug in options.def */
		(void)rc;
	}
}
