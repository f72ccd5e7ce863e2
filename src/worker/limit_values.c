/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * limit_values.c: the configured value of each limit that refuses, for the log.
 *
 * A reason is named by the option that it comes from, so the value is found by that name.
 */
#include "config.h"

#include "worker_int.h"

struct option_field {
	const char *path;
	size_t offset, size;
};
static const struct option_field fields[] = {
#define OPT(path, type, field, def, min, max, cls, doc)                                                    \
	{ path, offsetof(struct conf, field), sizeof(((struct conf *)0)->field) },
#define LIST(path, field, cls, shape, doc)
#include "tp/tbl/options.def"
#undef OPT
#undef LIST
};

void
limit_values_take(uint64_t value[REASONS], const struct conf *c)
{
	for (unsigned r = 0; r < REASONS; r++) {
		value[r] = 0;
		for (unsigned i = 0; i < TP_COUNT(fields); i++)
			if (fields[i].size == sizeof value[r] &&
			    strcmp(fields[i].path, reason_rows[r].word) == 0)
				memcpy(&value[r], (const char *)c + fields[i].offset, sizeof value[r]);
	}
}
