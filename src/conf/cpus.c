/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * cpus.c: lists of processors, "0,2-5".
 */
#include "config.h"

#include "tp/conf.h"

static bool
take_cpu(const char **text, unsigned *out)
{
	const char *s = *text;
	unsigned v = 0;

	if (*s < '0' || *s > '9')
		return false;
	for (; *s >= '0' && *s <= '9'; s++) {
		v = v * 10 + (unsigned)(*s - '0');
		if (v >= CONF_CPUS_MAX)
			return false;
	}
	*text = s;
	*out = v;
	return true;
}

bool
conf_cpus(const char *text, uint16_t list[CONF_CPUS_MAX], unsigned *n)
{
	unsigned low, high;

	for (*n = 0;; text++) {
		if (!take_cpu(&text, &low))
			return false;
		high = low;
		if (*text == '-') {
			text++;
			if (!take_cpu(&text, &high) || high < low)
				return false;
		}
		for (; low <= high; low++) {
			if (*n == CONF_CPUS_MAX)
				return false;
			list[(*n)++] = (uint16_t)low;
		}
		if (*text != ',')
			return *text == '\0';
	}
}
