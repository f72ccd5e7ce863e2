/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * rest_name.c: names of the TURN REST convention (draft-uberti-behave-turn-rest, and coturn's reversed
 * form).
 */
#include "config.h"

#include "tp/auth.h"

#define DIGITS_MAX 11

static bool
timestamp(const char *p, size_t len, int64_t *t)
{
	int64_t v = 0;

	if (len == 0 || len > DIGITS_MAX)
		return false;
	for (size_t i = 0; i < len; i++) {
		if (p[i] < '0' || p[i] > '9')
			return false;
		v = v * 10 + (p[i] - '0');
	}
	*t = v;
	return true;
}

static const char *
last_colon(const char *p, size_t len)
{
	while (len-- > 0)
		if (p[len] == ':')
			return p + len;
	return NULL;
}

bool
rest_name(const char *name, size_t len, enum rest_form form, int64_t *expiry, const char **stable,
    size_t *stable_len)
{
	const char *first = len > 0 ? memchr(name, ':', len) : NULL;
	const char *last = last_colon(name, len), *end = name + len;
	int64_t in_front = 0, behind = 0;
	bool is_first, is_last;

	if (first == NULL) {
		if (!timestamp(name, len, expiry))
			return false;
		*stable = end;
		*stable_len = 0;
		return true;
	}
	is_first = form != REST_LAST && first + 1 < end &&
	    timestamp(name, (size_t)(first - name), &in_front);
	is_last = form != REST_FIRST && last > name &&
	    timestamp(last + 1, (size_t)(end - last - 1), &behind);
	if (is_first == is_last) /* neither, or both */
		return false;
	*expiry = is_first ? in_front : behind;
	*stable = is_first ? first + 1 : name;
	*stable_len = (size_t)(is_first ? end - first - 1 : last - name);
	return true;
}
