/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * report.c: memory and messages of one load.
 */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <sodium.h>

#include "conf_int.h"

struct arena {
	struct arena *next;
	size_t size;
};

void *
load_alloc(struct load *l, size_t size)
{
	struct arena *a = calloc(1, sizeof *a + size);

	if (a == NULL)
		abort();
	a->size = size;
	a->next = l->arena;
	l->arena = a;
	return a + 1;
}

void
load_free(struct load *l)
{
	struct arena *a = l->arena;

	l->arena = NULL;
	while (a != NULL) {
		struct arena *next = a->next;

		sodium_memzero(a, sizeof *a + a->size);
		free(a);
		a = next;
	}
}

static char *TP_PRINTF(2, 0) print_text(struct load *l, const char *fmt, va_list ap)
{
	va_list again;
	char *out;
	int n;

	va_copy(again, ap);
	n = vsnprintf(NULL, 0, fmt, again);
	va_end(again);
	out = load_alloc(l, (size_t)(n < 0 ? 0 : n) + 1);
	if (n > 0)
		vsnprintf(out, (size_t)n + 1, fmt, ap);
	return out;
}

char *
load_printf(struct load *l, const char *fmt, ...)
{
	va_list ap;
	char *out;

	va_start(ap, fmt);
	out = print_text(l, fmt, ap);
	va_end(ap);
	return out;
}

const char *
load_show(struct load *l, const struct node *n)
{
	char buf[72];

	if (n->kind != NODE_SCALAR)
		return n->kind == NODE_LIST ? "a list" : "a map";
	return load_printf(l, "\"%s\"", text_escape(buf, sizeof buf, n->text, n->len));
}

const char *
load_place(struct load *l, const struct node *n)
{
	if (n == NULL)
		return l->rq->file != NULL ? l->rq->file : "configuration";
	if (n->src->is_set || n->line == 0)
		return n->src->name;
	return load_printf(l, "%s:%u:%u", n->src->name, n->line, n->col);
}

static void TP_PRINTF(4, 0)
    report(struct load *l, enum log_level level, const struct node *at, const char *fmt, va_list ap)
{
	const char *what = print_text(l, fmt, ap);

	if (l->rq->report != NULL)
		l->rq->report(l->rq->arg, level, load_printf(l, "%s: %s", load_place(l, at), what));
}

void
load_error(struct load *l, const struct node *at, const char *fmt, ...)
{
	va_list ap;

	l->errors++;
	va_start(ap, fmt);
	report(l, LOG_L_ERROR, at, fmt, ap);
	va_end(ap);
}

void
load_warn(struct load *l, const struct node *at, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	report(l, LOG_L_WARN, at, fmt, ap);
	va_end(ap);
}
