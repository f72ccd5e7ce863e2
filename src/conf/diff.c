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

/* ---- lists --------------------------------------------------------------------------------------- */

static int
by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void
free_entries(char **e, unsigned n)
{
	for (unsigned i = 0; e != NULL && i < n; i++)
		free(e[i]);
	free(e);
}

static char *
entry_of(const struct conf *c, const struct option_row *o, unsigned i)
{
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	if (f == NULL)
		return NULL;
	list_print_entry(c, option_id(o), i, f);
	if (fclose(f) == 0)
		return text;
	free(text);
	return NULL;
}

/* The entries, sorted; NULL when memory is short. */
static char **
entries(const struct conf *c, const struct option_row *o, unsigned n)
{
	char **e = calloc(n + 1, sizeof *e);

	for (unsigned i = 0; e != NULL && i < n; i++)
		if ((e[i] = entry_of(c, o, i)) == NULL) {
			free_entries(e, n);
			return NULL;
		}
	if (e != NULL)
		qsort(e, n, sizeof *e, by_text);
	return e;
}

/* Those of `a` that `b` has not. */
static unsigned
missing(char **a, unsigned n, char **b, unsigned b_n, bool added, conf_entry_h *cb, void *arg)
{
	unsigned count = 0;

	for (unsigned i = 0; i < n; i++)
		if (bsearch(&a[i], b, b_n, sizeof *b, by_text) == NULL) {
			count++;
			cb(arg, added, a[i]);
		}
	return count;
}

unsigned
conf_list_diff(
    const struct conf *was, const struct conf *is, const struct option_row *o, conf_entry_h *cb, void *arg)
{
	unsigned before = list_len(was, option_id(o)), after = list_len(is, option_id(o)), n = 0;
	char **a = entries(was, o, before), **b = entries(is, o, after);

	if (a != NULL && b != NULL)
		n = missing(b, after, a, before, true, cb, arg) +
		    missing(a, before, b, after, false, cb, arg);
	free_entries(a, before);
	free_entries(b, after);
	return n;
}
