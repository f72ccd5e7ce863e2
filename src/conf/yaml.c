/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * yaml.c: YAML text into a tree of nodes, strictly.
 *
 * libyaml's events are used, not its documents: types, tags, anchors and merge keys are refused here
 * before anything can expand, and every node keeps its place for messages.
 */
#include "config.h"

#include <stdlib.h>
#include <yaml.h>

#include "conf_int.h"

#define DEPTH_MAX 16

struct reader {
	struct load *l;
	const struct source *src;
	yaml_parser_t parser;
	struct node *stack[DEPTH_MAX + 1]; /* open lists and maps */
	struct node *key[DEPTH_MAX + 1];   /* of each map: the key that waits for its value */
	unsigned depth, documents;
	struct node *root;
	bool stop;
};

static struct node *
node_new(struct reader *r, enum node_kind kind, const yaml_mark_t *mark)
{
	struct node *n = load_alloc(r->l, sizeof *n);

	n->kind = kind;
	n->src = r->src;
	n->line = (unsigned)mark->line + 1;
	n->col = (unsigned)mark->column + 1;
	return n;
}

/* A place without a node. */
static const struct node *
here(struct reader *r, const yaml_mark_t *mark)
{
	return node_new(r, NODE_SCALAR, mark);
}

/* Refused, and nothing behind it is read: it would mean something else than it says. */
static void
refuse(struct reader *r, const yaml_event_t *ev, const char *what, const char *instead)
{
	load_error(r->l, here(r, &ev->start_mark), "%s: %s", what, instead);
	r->stop = true;
}

/* Puts a finished scalar or a new list or map where it belongs. */
static void
attach(struct reader *r, struct node *n, const yaml_event_t *ev)
{
	struct node *in = r->depth > 0 ? r->stack[r->depth - 1] : NULL;

	if (in == NULL) {
		r->root = n;
		return;
	}
	if (in->kind == NODE_MAP && r->key[r->depth - 1] == NULL) {
		if (n->kind != NODE_SCALAR)
			refuse(r, ev, "a list or map as a key is not allowed", "write `name: value`");
		else if (n->plain && strcmp(n->text, "<<") == 0)
			refuse(
			    r, ev, "merge keys (<<) are not allowed", "repeat the values, or use include");
		r->key[r->depth - 1] = n;
		return;
	}
	if (in->kind == NODE_MAP) {
		n->key = r->key[r->depth - 1];
		r->key[r->depth - 1] = NULL;
	}
	if (in->last != NULL)
		in->last->next = n;
	else
		in->first = n;
	in->last = n;
}

static void
read_scalar(struct reader *r, const yaml_event_t *ev)
{
	struct node *n = node_new(r, NODE_SCALAR, &ev->start_mark);
	char *text = load_alloc(r->l, ev->data.scalar.length + 1);

	if (memchr(ev->data.scalar.value, '\0', ev->data.scalar.length) != NULL) {
		refuse(r, ev, "a NUL byte in text is not allowed", "remove \\0");
		return;
	}
	memcpy(text, ev->data.scalar.value, ev->data.scalar.length);
	n->text = text;
	n->len = ev->data.scalar.length;
	n->plain = ev->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
	attach(r, n, ev);
}

static void
open_node(struct reader *r, enum node_kind kind, const yaml_event_t *ev)
{
	struct node *n = node_new(r, kind, &ev->start_mark);

	if (r->depth >= DEPTH_MAX) {
		refuse(r, ev, "nested too deeply", "at most 16 levels are allowed");
		return;
	}
	attach(r, n, ev);
	r->stack[r->depth] = n;
	r->key[r->depth] = NULL;
	r->depth++;
}

/* ---- duplicate keys ---------------------------------------------------------------------------- */

static int
by_key(const void *a, const void *b)
{
	const struct node *x = *(const struct node *const *)a, *y = *(const struct node *const *)b;
	int c = strcmp(x->key->text, y->key->text);

	if (c != 0)
		return c;
	return x->line != y->line ? (x->line < y->line ? -1 : 1) : x->col < y->col ? -1 : x->col > y->col;
}

/* Sorted, because a map of users may have tens of thousands of keys. */
static void
check_duplicates(struct load *l, const struct node *map)
{
	const struct node **all;
	size_t n = 0;

	for (const struct node *c = map->first; c != NULL; c = c->next)
		n++;
	if (n < 2)
		return;
	all = calloc(n, sizeof *all);
	if (all == NULL)
		abort();
	n = 0;
	for (const struct node *c = map->first; c != NULL; c = c->next)
		all[n++] = c;
	qsort(all, n, sizeof *all, by_key);
	for (size_t i = 1; i < n; i++)
		if (strcmp(all[i - 1]->key->text, all[i]->key->text) == 0)
			load_error(l, all[i]->key, "duplicate key %s: the first is at %s; remove one",
			    load_show(l, all[i]->key), load_place(l, all[i - 1]->key));
	free(all);
}

/* ---- events ------------------------------------------------------------------------------------ */

/* Anchors and tags, wherever they may stand. */
static bool
has_extras(struct reader *r, const yaml_event_t *ev)
{
	const yaml_char_t *anchor = NULL, *tag = NULL;

	if (ev->type == YAML_SCALAR_EVENT) {
		anchor = ev->data.scalar.anchor;
		tag = ev->data.scalar.tag;
	} else if (ev->type == YAML_SEQUENCE_START_EVENT) {
		anchor = ev->data.sequence_start.anchor;
		tag = ev->data.sequence_start.tag;
	} else if (ev->type == YAML_MAPPING_START_EVENT) {
		anchor = ev->data.mapping_start.anchor;
		tag = ev->data.mapping_start.tag;
	}
	if (anchor != NULL)
		refuse(r, ev, "anchors (&name) are not allowed", "repeat the value, or use include");
	else if (tag != NULL)
		refuse(r, ev, "tags (!name) are not allowed", "write the plain value");
	return anchor != NULL || tag != NULL;
}

static void
start_document(struct reader *r, const yaml_event_t *ev)
{
	if (r->documents++ > 0)
		refuse(
		    r, ev, "several documents in one file are not allowed", "remove `---`, or use include");
	else if (ev->data.document_start.version_directive != NULL ||
	    ev->data.document_start.tag_directives.start != ev->data.document_start.tag_directives.end)
		refuse(r, ev, "directives (%...) are not allowed", "remove the line");
}

static void
take_event(struct reader *r, const yaml_event_t *ev)
{
	if (has_extras(r, ev))
		return;
	switch (ev->type) {
	case YAML_STREAM_START_EVENT:
		if (ev->data.stream_start.encoding != YAML_UTF8_ENCODING)
			refuse(r, ev, "not UTF-8", "save the file as UTF-8");
		break;
	case YAML_DOCUMENT_START_EVENT:
		start_document(r, ev);
		break;
	case YAML_ALIAS_EVENT:
		refuse(r, ev, "aliases (*name) are not allowed",
		    "quote the text (\"*\"), or repeat the value");
		break;
	case YAML_SCALAR_EVENT:
		read_scalar(r, ev);
		break;
	case YAML_SEQUENCE_START_EVENT:
		open_node(r, NODE_LIST, ev);
		break;
	case YAML_MAPPING_START_EVENT:
		open_node(r, NODE_MAP, ev);
		break;
	case YAML_SEQUENCE_END_EVENT:
		r->depth--;
		break;
	case YAML_MAPPING_END_EVENT:
		r->depth--;
		check_duplicates(r->l, r->stack[r->depth]);
		break;
	default:
		break;
	}
}

static void
syntax_error(struct reader *r)
{
	const yaml_parser_t *p = &r->parser;
	yaml_mark_t mark = p->problem_mark;

	if (p->error == YAML_MEMORY_ERROR)
		abort();
	if (p->error == YAML_READER_ERROR)
		mark = p->mark; /* the reader gives an offset only; this is close before it */
	r->stop = true;
	/* The problem is noticed at the end of the file; where the quote begins is what is to be mended. */
	if (p->context != NULL && strstr(p->context, "quoted scalar") != NULL &&
	    strstr(p->problem, "end of stream") != NULL)
		load_error(
		    r->l, here(r, &p->context_mark), "not YAML: the quote that begins here is not closed");
	else if (p->context != NULL && strstr(p->context, "alias") != NULL)
		load_error(r->l, here(r, &mark), "not YAML: an unquoted *: write \"*\"");
	else
		load_error(r->l, here(r, &mark), "not YAML: %s%s%s",
		    p->problem != NULL ? p->problem : "unknown problem", p->context != NULL ? " " : "",
		    p->context != NULL ? p->context : "");
}

/* libyaml takes tabs between tokens; whether one is indentation is nothing a reader can see. */
static bool
has_tab(struct load *l, const struct source *src, const char *text, size_t len)
{
	unsigned line = 1, col = 1;
	bool comment = false;

	for (size_t i = 0; i < len; i++, col++) {
		if (text[i] == '\n') {
			line++;
			col = 0;
			comment = false;
		} else if (text[i] == '#' && (col == 1 || text[i - 1] == ' ')) {
			comment = true;
		} else if (text[i] == '\t' && !comment) {
			struct node *n = load_alloc(l, sizeof *n);

			n->src = src;
			n->line = line;
			n->col = col;
			load_error(l, n,
			    "a tab is not allowed: indent with spaces; within double quotes write \\t");
			return true;
		}
	}
	return false;
}

struct node *
yaml_read(struct load *l, const struct source *src, const char *text, size_t len)
{
	struct reader r = { .l = l, .src = src };
	yaml_mark_t start = { 0 };

	if (has_tab(l, src, text, len))
		return NULL;
	if (!yaml_parser_initialize(&r.parser))
		abort();
	yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, len);
	for (bool end = false; !end && !r.stop;) {
		yaml_event_t ev;

		if (!yaml_parser_parse(&r.parser, &ev)) {
			syntax_error(&r);
			break;
		}
		end = ev.type == YAML_STREAM_END_EVENT;
		take_event(&r, &ev);
		yaml_event_delete(&ev);
	}
	yaml_parser_delete(&r.parser);
	if (r.stop)
		return NULL;
	return r.root != NULL && !node_is_empty(r.root) ? r.root : node_new(&r, NODE_MAP, &start);
}
