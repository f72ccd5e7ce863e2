/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * text.c: strings that are safe to print, hex, timestamps.
 */
#include "config.h"

#include <errno.h>

#include "tp/base.h"
#include "base_int.h"

static const char hex_digits[] = "0123456789abcdef";

/* The ending that says that something is missing, as far as it fits. */
static void
end_truncated(char *out, size_t out_len, size_t at)
{
	for (size_t i = 0; i < 3 && at + 1 < out_len; i++)
		out[at++] = '.';
	out[at] = '\0';
}

char *
base_escape(char *out, size_t out_len, const void *text, size_t len, bool quotes)
{
	const uint8_t *in = text;
	size_t at = 0, cut = 0; /* cut: the last unit's end that leaves room for "..." */

	if (out_len == 0)
		return out;
	for (size_t i = 0; i < len; i++) {
		uint8_t c = in[i];
		bool plain = c >= 0x20 && c < 0x7f && !(quotes && (c == '"' || c == '\\'));
		size_t need = plain ? 1 : 4;

		if (at + need >= out_len) {
			end_truncated(out, out_len, cut);
			return out;
		}
		if (plain) {
			out[at] = (char)c;
		} else {
			out[at] = '\\';
			out[at + 1] = 'x';
			out[at + 2] = hex_digits[c >> 4];
			out[at + 3] = hex_digits[c & 15];
		}
		at += need;
		if (at + 3 < out_len)
			cut = at;
	}
	out[at] = '\0';
	return out;
}

char *
text_escape(char *out, size_t out_len, const void *text, size_t len)
{
	return base_escape(out, out_len, text, len, true);
}

size_t
text_copy(char *dst, size_t dst_len, const char *src)
{
	size_t n = strlen(src);

	if (dst_len > 0) {
		size_t take = n < dst_len ? n : dst_len - 1;

		memcpy(dst, src, take);
		dst[take] = '\0';
	}
	return n;
}

char *
text_hex(char *out, const void *bytes, size_t len)
{
	const uint8_t *in = bytes;

	for (size_t i = 0; i < len; i++) {
		out[2 * i] = hex_digits[in[i] >> 4];
		out[2 * i + 1] = hex_digits[in[i] & 15];
	}
	out[2 * len] = '\0';
	return out;
}

/* ---- RFC 3339 ----------------------------------------------------------------------------- */

/* n digits at *s, moved past; -1 when there are not as many. */
static int
take_digits(const char **s, unsigned n)
{
	int v = 0;

	for (; n > 0; n--, (*s)++) {
		if (**s < '0' || **s > '9')
			return -1;
		v = v * 10 + (**s - '0');
	}
	return v;
}

/* One field of n digits, low..high, then the character `after` (0: nothing is taken). */
static bool
take_field(const char **s, unsigned n, int low, int high, char after, int *out)
{
	*out = take_digits(s, n);
	if (*out < low || *out > high)
		return false;
	if (after != 0 && *(*s)++ != after)
		return false;
	return true;
}

static bool
is_leap(int y)
{
	return (y % 4 == 0 && y % 100 != 0) || y % 400 == 0;
}

/* Days from 1970-01-01, proleptic Gregorian; years counted from March so that the leap day is last. */
static int64_t
days_from_date(int y, int m, int d)
{
	int year = m <= 2 ? y - 1 : y, era = year / 400, yoe = year - era * 400;
	int doy = (153 * (m > 2 ? m - 3 : m + 9) + 2) / 5 + d - 1;
	int doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;

	return (int64_t)era * 146097 + doe - 719468;
}

/* "Z" or +hh:mm or -hh:mm, and nothing behind it; seconds east of UTC. */
static bool
take_zone(const char *s, int *east)
{
	int sign, hh, mm;

	*east = 0;
	if (*s == 'Z')
		return s[1] == '\0';
	if (*s != '+' && *s != '-')
		return false;
	sign = *s++ == '+' ? 1 : -1;
	if (!take_field(&s, 2, 0, 23, ':', &hh) || !take_field(&s, 2, 0, 59, 0, &mm) || *s != '\0')
		return false;
	*east = sign * (hh * 3600 + mm * 60);
	return true;
}

int
text_time(int64_t *unix_s, const char *text)
{
	static const uint8_t month_days[13] = { 0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
	const char *s = text;
	int y, mo, d, h, mi, sec, east;

	/* A year of 0 has March-based year -1: not worth supporting.  Leap second 60 counts as the next. */
	if (!take_field(&s, 4, 1, 9999, '-', &y) || !take_field(&s, 2, 1, 12, '-', &mo) ||
	    !take_field(&s, 2, 1, 31, 'T', &d) || !take_field(&s, 2, 0, 23, ':', &h) ||
	    !take_field(&s, 2, 0, 59, ':', &mi) || !take_field(&s, 2, 0, 60, 0, &sec))
		return -EINVAL;
	if (!take_zone(s, &east) || d > month_days[mo] + (mo == 2 && is_leap(y) ? 1 : 0))
		return -EINVAL;
	*unix_s = days_from_date(y, mo, d) * 86400 + h * 3600 + mi * 60 + sec - east;
	return 0;
}
