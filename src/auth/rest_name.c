/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * rest_name.c: names of the TURN REST convention (draft-uberti-behave-turn-rest, and coturn's reversed form).
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
rest_name(const char *name, size_t len, int64_t *expiry, const char **stable, size_t *stable_len)
{
	const char *first = len > 0 ? memchr(name, ':', len) : NULL;
	const char *last = last_colon(name, len), *end = name + len;
	int64_t t;

	if (first == NULL) {
		if (!timestamp(name, len, &t))
			return false;
		*stable = end;
		*stable_len = 0;
	} else if (first + 1 < end && timestamp(name, (size_t)(first - name), &t)) {
		*stable = first + 1;
		*stable_len = (size_t)(end - first - 1);
	} else if (last > name && timestamp(last + 1, (size_t)(end - last - 1), &t)) {
		*stable = name;
		*stable_len = (size_t)(last - name);
	} else {
		return false;
	}
	*expiry = t;
	return true;
}
