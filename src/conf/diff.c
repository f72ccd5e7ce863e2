/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * diff.c: what a reload changes, option by option.
 */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>

#include "tp/conf.h"
#include "conf_int.h"

/* Heap, because a list may have a thousand rules; NULL when memory is short. */
static char *
text_of(const struct conf *c, const struct option_row *o)
{
	char *text = NULL, buf[1024];
	size_t len;
	FILE *f = open_memstream(&text, &len);

	if (f == NULL)
		return NULL;
	if (o->type == OPT_LIST) {
		list_print(c, option_id(o), f);
	} else {
		option_print(c, o, buf, sizeof buf);
		fputs(buf, f);
	}
	if (fclose(f) != 0) {
		free(text);
		return NULL;
	}
	return text;
}

unsigned
conf_diff(const struct conf *was, const struct conf *is, conf_diff_h *cb, void *arg)
{
	unsigned n = 0;

	for (unsigned i = 0; i < OPTION_COUNT; i++) {
		const struct option_row *o = &option_rows[i];
		char *a = text_of(was, o), *b = text_of(is, o);

		/* Without memory to tell, it is reported as changed: applying twice is harmless. */
		if (a == NULL || b == NULL || strcmp(a, b) != 0) {
			n++;
			if (cb != NULL)
				cb(arg, o, a != NULL ? a : "?", b != NULL ? b : "?");
		}
		free(a);
		free(b);
	}
	return n;
}
