/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * load.c: from a request to a complete configuration: --set, the file, its includes, every key.
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "conf_int.h"

#define FILE_MAX      (1u << 20)
#define FILES_MAX     1024
#define INCLUDES_DEEP 8

static void read_file(struct load *l, const struct node *from, const char *path);

/* ---- one option ------------------------------------------------------------------------------- */

/* A relative log file is relative to the file that names it, and a bare word is more likely a slip. */
static const char *
log_target(struct load *l, const struct node *n)
{
	static const char *const words[] = { "auto", "stderr", "syslog", "journald" };

	for (unsigned i = 0; i < TP_COUNT(words); i++)
		if (strcmp(n->text, words[i]) == 0)
			return n->text;
	if (strchr(n->text, '/') == NULL) {
		load_error(l, n,
		    "log.target: %s: allowed: stderr, syslog, journald, auto, or a path with a slash "
		    "(./name for a file beside this one)%s",
		    load_show(l, n), suggest(l, n->text, words, TP_COUNT(words)));
		return NULL;
	}
	if (n->text[0] == '/' || n->src->is_text)
		return n->text;
	return load_path(l, n, n->text);
}

/* Numbers and truth values in quotes are text: the wrong type. */
static bool
is_quoted(const struct option_row *o, const struct node *n)
{
	if (n->plain || n->src->is_set)
		return false;
	return o->type == OPT_INT || o->type == OPT_BOOL ||
	    (o->type == OPT_COUNT_AUTO && strcmp(n->text, "auto") != 0);
}

static void
set_scalar(struct load *l, const struct option_row *o, const struct node *n, struct conf *into)
{
	char why[256];
	const char *text = n->text;

	if (n->kind != NODE_SCALAR || node_is_empty(n)) {
		option_allowed(o, why, sizeof why);
		load_error(l, n, "%s: %s: %s", o->path,
		    n->kind == NODE_SCALAR ? "no value" : load_show(l, n), why);
		return;
	}
	if (is_quoted(o, n)) {
		option_allowed(o, why, sizeof why);
		load_error(l, n, "%s: %s is text because of its quotes: %s", o->path, load_show(l, n), why);
		return;
	}
	if (option_id(o) == OPTION_log_target && (text = log_target(l, n)) == NULL)
		return;
	if (option_set(into, o, text, why, sizeof why) < 0)
		load_error(l, n, "%s: %s: %s", o->path, load_show(l, n), why);
}

static void
set_option(struct load *l, const struct option_row *o, const struct node *n)
{
	const struct node **seen = &l->seen[option_id(o)];
	bool overridden = *seen != NULL && (*seen)->src->is_set && !n->src->is_set;

	if (o->type == OPT_LIST) {
		if (*seen == NULL || !overridden)
			list_read(l, o, n);
		if (*seen == NULL)
			*seen = n;
		return;
	}
	if (*seen != NULL && !overridden &&
	    (*seen)->src != n->src) /* within one source: reported as duplicate key */
		load_error(
		    l, n, "%s: set twice: the first is at %s; remove one", o->path, load_place(l, *seen));
	set_scalar(l, o, n, overridden ? l->scratch : l->conf);
	if (*seen == NULL)
		*seen = n;
}

/* ---- maps ------------------------------------------------------------------------------------- */

static bool
is_section(const char *path)
{
	size_t n = strlen(path);

	for (unsigned i = 0; i < OPTION_COUNT; i++)
		if (strncmp(option_rows[i].path, path, n) == 0 && option_rows[i].path[n] == '.')
			return true;
	return false;
}

static void
read_include(struct load *l, const struct node *n)
{
	if (n->kind != NODE_LIST) {
		include_each(l, n, read_file);
		return;
	}
	for (const struct node *c = n->first; c != NULL; c = c->next)
		include_each(l, c, read_file);
}

/* prefix is "" or "section." */
static void
read_map(struct load *l, const struct node *map, const char *prefix)
{
	if (map->kind != NODE_MAP) {
		if (!node_is_empty(map)) /* a section whose lines are all commented out */
			load_error(l, map, "%.*s%s%s: allowed: a map of name: value",
			    prefix[0] != '\0' ? (int)strlen(prefix) - 1 : 0, prefix,
			    prefix[0] != '\0' ? ": " : "", load_show(l, map));
		return;
	}
	for (const struct node *n = map->first; n != NULL; n = n->next) {
		char *path = load_printf(l, "%s%s", prefix, n->key->text);
		const struct option_row *o = option_find(path);

		if (o != NULL && strchr(n->key->text, '.') == NULL)
			set_option(l, o, n);
		else if (prefix[0] == '\0' && strcmp(path, "include") == 0)
			read_include(l, n);
		else if (prefix[0] == '\0' && is_section(path))
			read_map(l, n, load_printf(l, "%s.", path));
		else if (o != NULL)
			load_error(l, n->key,
			    "unknown key %s: write the section and the name on two levels (section: { name: "
			    "value })",
			    load_show(l, n->key));
		else
			load_error(l, n->key, "unknown key %s%s%.*s%s", load_show(l, n->key),
			    prefix[0] != '\0' ? " in " : "",
			    prefix[0] != '\0' ? (int)strlen(prefix) - 1 : 0, prefix,
			    suggest_option(l, prefix, n->key->text));
	}
}

/* ---- files ------------------------------------------------------------------------------------ */

static struct source *
source_new(struct load *l, const char *name)
{
	struct source *s = load_alloc(l, sizeof *s);

	s->name = name;
	s->dir = "";
	s->next = l->sources;
	l->sources = s;
	return s;
}

/* The same file again is a loop, or would set everything twice. */
static bool
is_read_already(struct load *l, const struct node *from, const char *path, const struct stat *st)
{
	unsigned count = 0;

	for (const struct source *s = l->sources; s != NULL; s = s->next) {
		count++;
		if (!s->is_set && s->dev == st->st_dev && s->ino == st->st_ino) {
			load_error(l, from,
			    "include: %s: this file is read already, as %s; a file can be included once",
			    path, s->name);
			return true;
		}
	}
	if (count >= FILES_MAX)
		load_error(l, from, "include: too many files: at most %u are allowed", FILES_MAX);
	return count >= FILES_MAX;
}

/* The user that the daemon runs as, before the files that this one names are read by its rights. */
static void
note_user(struct load *l, const struct node *root)
{
	if (root->kind != NODE_MAP || l->seen[OPTION_user] != NULL)
		return;
	for (const struct node *s = root->first; s != NULL; s = s->next) {
		if (strcmp(s->key->text, "process") != 0 || s->kind != NODE_MAP)
			continue;
		for (const struct node *n = s->first; n != NULL; n = n->next)
			if (strcmp(n->key->text, "user") == 0 && n->kind == NODE_SCALAR &&
			    n->len < sizeof l->conf->user)
				text_copy(l->conf->user, sizeof l->conf->user, n->text);
	}
}

static void
read_file(struct load *l, const struct node *from, const char *path)
{
	unsigned depth = from != NULL ? from->src->depth + 1 : 0;
	const char *slash = strrchr(path, '/');
	struct source *s;
	struct node *root;
	struct stat st;
	size_t len = 0;
	char *text;

	if (depth > INCLUDES_DEEP) {
		load_error(l, from, "include: %s: nested too deeply: at most %u levels of includes", path,
		    INCLUDES_DEEP);
		return;
	}
	text = load_file(l, from, path, FILE_MAX, &len, &st);
	if (text == NULL || is_read_already(l, from, path, &st))
		return;
	s = source_new(l, path);
	s->depth = depth;
	s->dev = st.st_dev;
	s->ino = st.st_ino;
	s->world_readable = (st.st_mode & S_IROTH) != 0;
	if (slash != NULL)
		s->dir = slash == path ? "/" : load_printf(l, "%.*s", (int)(slash - path), path);
	if (st.st_mode & S_IWOTH)
		load_error(l, from, "%s%sall users may write this file: chmod o-w",
		    from != NULL ? path : "", from != NULL ? ": " : "");
	if (foreign_is_coturn(text, len)) {
		load_error(l, from,
		    "%sthis is a configuration of coturn (turnserver.conf): turnpike-convert (contrib/coturn2turnpike) makes "
		    "a turnpike.yaml of it",
		    from != NULL ? load_printf(l, "%s: ", path) : "");
		l->is_broken = true;
		return;
	}
	root = yaml_read(l, s, text, len);
	if (root == NULL) {
		l->is_broken = true;
		return;
	}
	note_user(l, root);
	read_map(l, root, "");
}

static void
read_text(struct load *l)
{
	struct source *s = source_new(l, "text");
	struct node *root;

	s->is_text = true;
	if (l->rq->text_len > FILE_MAX) {
		load_error(l, NULL, "too large: at most %u bytes are allowed", FILE_MAX);
		return;
	}
	root = yaml_read(l, s, l->rq->text, l->rq->text_len);
	l->is_broken = root == NULL;
	if (root != NULL)
		read_map(l, root, "");
}

/* ---- --set ------------------------------------------------------------------------------------ */

static void
read_set(struct load *l, const char *arg)
{
	const char *eq = strchr(arg, '=');
	struct source *s = source_new(l, "--set");
	struct node *n = load_alloc(l, sizeof *n);
	const struct option_row *o;
	char *key;

	s->is_set = true;
	n->src = s;
	if (eq == NULL) {
		load_error(l, n, "%s: allowed: KEY=VALUE", arg);
		return;
	}
	key = load_printf(l, "%.*s", (int)(eq - arg), arg);
	o = option_find(key);
	if (o == NULL) {
		const char *names[OPTION_COUNT];

		for (unsigned i = 0; i < OPTION_COUNT; i++)
			names[i] = option_rows[i].path;
		load_error(l, n, "unknown key %s%s", key, suggest(l, key, names, OPTION_COUNT));
		return;
	}
	s->name = load_printf(l, "--set %s", key);
	if (o->type == OPT_LIST) {
		n = yaml_read(l, s, eq + 1, strlen(eq + 1));
	} else {
		n->text = eq + 1;
		n->len = strlen(eq + 1);
	}
	if (n == NULL)
		return;
	if (l->seen[option_id(o)] != NULL)
		load_error(l, n, "given twice; remove one");
	else
		set_option(l, o, n);
}

/* ---- the whole -------------------------------------------------------------------------------- */

/* Absolute, so that it still means the same after the supervisor's chdir. */
static void
name_file(struct load *l)
{
	char *path = l->rq->file != NULL ? realpath(l->rq->file, NULL) : NULL;

	if (path != NULL && text_copy(l->conf->file, sizeof l->conf->file, path) >= sizeof l->conf->file)
		load_error(l, NULL, "the path is too long: at most %zu bytes are allowed",
		    sizeof l->conf->file - 1);
	free(path);
}

static void
read_all(struct load *l)
{
	for (unsigned i = 0; i < l->rq->set_count; i++)
		read_set(l, l->rq->sets[i]);
	if (l->rq->text != NULL)
		read_text(l);
	else if (l->rq->file != NULL)
		read_file(l, NULL, l->rq->file);
	name_file(l);
}

/* Checks that need the whole configuration. */
static void
check_all(struct load *l)
{
	resolve(l);
	if (l->rq->host == NULL)
		system_check(l);
	readable_check(l);
	creds_check(l);
	certs_check(l);
	if (l->errors == 0)
		no_effect_check(l);
}

int
conf_load(const struct conf_request *rq, struct conf *conf, struct users **users, size_t *users_len)
{
	struct load *l = calloc(1, sizeof *l);
	struct conf_host *host;
	int rc = -EINVAL;

	if (l == NULL)
		abort();
	l->rq = rq;
	l->conf = load_alloc(l, sizeof *l->conf);
	l->scratch = load_alloc(l, sizeof *l->scratch);
	conf_defaults(l->conf);
	l->host = rq->host;
	if (l->host == NULL) {
		host = load_alloc(l, sizeof *host);
		host_ask(host);
		l->host = host;
	}
	read_all(l);
	if (!l->is_broken)
		check_all(l);
	if (l->errors == 0) {
		if (rq->certs != NULL)
			*rq->certs = certs_block(l, rq->certs_len);
		*users = creds_block(l, users_len);
		*conf = *l->conf;
		rc = 0;
	}
	creds_fini(l);
	load_free(l);
	free(l);
	return rc;
}
