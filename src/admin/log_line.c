/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * log_line.c: a log record in each of the formats.  The sender may have been taken over: nothing of it is
 * trusted.
 */
#include "config.h"

#include <stdio.h>
#include <syslog.h>
#include <time.h>

#include "tp/admin.h"
#include "tp/msg.h"

#define TIME_LEN 32

/* Every field is "key=value" of printable ASCII with a NUL behind it. */
static bool
fields_check(const struct log_rec *r)
{
	const char *p = r->text + r->len, *end = p + r->fields_len;
	uint32_t seen = 0;

	if (r->fields_len > 0 && end[-1] != '\0')
		return false;
	for (; p < end; p++) {
		int key = log_field_key(p, strcspn(p, "="));

		if (key < 0 || p[strcspn(p, "=")] != '=' || (seen & 1u << key) != 0)
			return false;
		seen |= 1u << key;
		for (; *p != '\0'; p++)
			if (*p < 0x20 || *p >= 0x7f)
				return false;
	}
	return true;
}

bool
logline_check(const struct log_rec *r, size_t len)
{
	return len >= LOG_REC_HEAD && r->magic == LOG_REC_MAGIC && r->len <= LOG_TEXT_MAX &&
	    r->fields_len <= LOG_FIELDS_MAX && len == LOG_REC_HEAD + r->len + r->fields_len &&
	    r->level <= LOG_L_DEBUG && r->role < ROLES && fields_check(r);
}

static const char *
iso_time(const struct log_rec *r, char out[TIME_LEN])
{
	int64_t us = r->wall_us % 1000000, s = r->wall_us / 1000000;
	time_t t = (time_t)s;
	struct tm tm;
	size_t n;

	if (us < 0 || s < 0 || s > INT64_C(253402300799) || gmtime_r(&t, &tm) == NULL)
		return "0000-00-00T00:00:00.000000Z";
	n = strftime(out, TIME_LEN, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(out + n, TIME_LEN - n, ".%06uZ", (unsigned)us);
	return out;
}

/* Plain ASCII and one line, whatever came. */
static const char *
clean(const struct log_rec *r, char out[LOG_TEXT_MAX + 1])
{
	for (unsigned i = 0; i < r->len; i++)
		out[i] = r->text[i] >= 0x20 && r->text[i] < 0x7f ? r->text[i] : '?';
	out[r->len] = '\0';
	return out;
}

/* "worker[3]" */
static const char *
process_name(const struct log_rec *r, char out[48])
{
	snprintf(out, 48, "%s[%u]", proc_role_name(r->role), r->index);
	return out;
}

static const char *
suppressed(const struct log_rec *r, char out[40])
{
	out[0] = '\0';
	if (r->suppressed > 0)
		snprintf(out, 40, " (suppressed %u)", r->suppressed);
	return out;
}

static size_t
length(int n)
{
	return n < 0 ? 0 : n < LOGLINE_MAX ? (size_t)n : LOGLINE_MAX - 1;
}

size_t
logline_text(const struct log_rec *r, char out[LOGLINE_MAX])
{
	char when[TIME_LEN], who[48], more[40], text[LOG_TEXT_MAX + 1];

	return length(snprintf(out, LOGLINE_MAX, "%s %-5s %s %s%s\n", iso_time(r, when),
	    log_level_name((enum log_level)r->level), process_name(r, who), clean(r, text),
	    suppressed(r, more)));
}

/* A user may be called 1234, and is text nevertheless. */
static bool
is_text_key(const char *field)
{
	return strncmp(field, "user=", 5) == 0;
}

/* What is left to escape in printable ASCII. */
static void
json_text(const char *in, char *out)
{
	for (; *in != '\0'; in++) {
		if (*in == '"' || *in == '\\')
			*out++ = '\\';
		*out++ = *in;
	}
	*out = '\0';
}

static const char *
lower_level(const struct log_rec *r)
{
	static const char *const names[] = { "error", "warn", "info", "debug" };

	return names[r->level];
}

/* ,"key":"value" for each field: numbers as numbers. */
static void
json_fields(const struct log_rec *r, char out[3 * LOG_FIELDS_MAX])
{
	const char *p = r->text + r->len, *end = p + r->fields_len;
	char value[2 * LOG_FIELDS_MAX + 1];
	size_t n = 0;

	out[0] = '\0';
	for (; p < end; p += strlen(p) + 1) {
		const char *v = strchr(p, '=') + 1;
		bool number = *v != '\0' && strlen(v) < 16 && strspn(v, "0123456789") == strlen(v) &&
		    (v[0] != '0' || v[1] == '\0');
		const char *quote = number && !is_text_key(p) ? "" : "\"";

		json_text(v, value);
		n += (size_t)snprintf(out + n, 3 * LOG_FIELDS_MAX - n, ",\"%.*s\":%s%s%s", (int)(v - 1 - p),
		    p, quote, value, quote);
		if (n >= 3 * LOG_FIELDS_MAX)
			return;
	}
}

size_t
logline_json(const struct log_rec *r, char out[LOGLINE_MAX])
{
	char when[TIME_LEN], text[LOG_TEXT_MAX + 1], escaped[2 * LOG_TEXT_MAX + 1], more[40] = "";
	char fields[3 * LOG_FIELDS_MAX];

	json_text(clean(r, text), escaped);
	json_fields(r, fields);
	if (r->suppressed > 0)
		snprintf(more, sizeof more, ",\"suppressed\":%u", r->suppressed);
	return length(snprintf(out, LOGLINE_MAX,
	    "{\"time\":\"%s\",\"level\":\"%s\",\"process\":\"%s\",\"index\":%u,\"pid\":%d,\"message\":\"%s\"%s%s}\n",
	    iso_time(r, when), lower_level(r), proc_role_name(r->role), r->index, r->pid, escaped, fields,
	    more));
}

static int
priority(const struct log_rec *r)
{
	static const int of[] = { LOG_ERR, LOG_WARNING, LOG_INFO, LOG_DEBUG };

	return of[r->level];
}

size_t
logline_syslog(const struct log_rec *r, char out[LOGLINE_MAX])
{
	char who[48], more[40], text[LOG_TEXT_MAX + 1], when[TIME_LEN] = "Jan  1 00:00:00";
	time_t t = (time_t)(r->wall_us / 1000000);
	struct tm tm;

	if (localtime_r(&t, &tm) != NULL)
		strftime(when, sizeof when, "%b %e %H:%M:%S", &tm);
	return length(snprintf(out, LOGLINE_MAX, "<%d>%s turnpike[%d]: %s: %s%s", LOG_DAEMON | priority(r),
	    when, r->pid, process_name(r, who), clean(r, text), suppressed(r, more)));
}

/* TURNPIKE_KEY=value, one a line. */
static void
journal_fields(const struct log_rec *r, char out[2 * LOG_FIELDS_MAX])
{
	const char *p = r->text + r->len, *end = p + r->fields_len;
	size_t n = 0;

	for (; p < end && n + strlen(p) + 12 < 2 * LOG_FIELDS_MAX; p++) {
		n += (size_t)sprintf(out + n, "TURNPIKE_");
		for (; *p != '='; p++)
			out[n++] = *p == '_' ? '_' : (char)(*p - 'a' + 'A');
		for (; *p != '\0'; p++)
			out[n++] = *p;
		out[n++] = '\n';
	}
	out[n] = '\0';
}

size_t
logline_journal(const struct log_rec *r, char out[LOGLINE_MAX])
{
	char who[48], more[40], text[LOG_TEXT_MAX + 1], fields[2 * LOG_FIELDS_MAX];

	journal_fields(r, fields);
	return length(snprintf(out, LOGLINE_MAX,
	    "PRIORITY=%d\nSYSLOG_IDENTIFIER=turnpike\nTURNPIKE_PROCESS=%s\nTURNPIKE_PID=%d\n%sMESSAGE=%s: %s%s\n",
	    priority(r), process_name(r, who), r->pid, fields, who, clean(r, text), suppressed(r, more)));
}
