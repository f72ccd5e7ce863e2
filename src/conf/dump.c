/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * dump.c: everything printed from the table: the effective configuration, the sample file, the
 * options section of turnpike.yaml(5), the list for --help.
 */
#include "config.h"

#include <stdio.h>

#include "tp/conf.h"
#include "conf_int.h"

#define WIDTH 100

/* How a list looks in the sample file; lines below the key, without indentation. */
static const char *const list_example[OPTION_COUNT][4] = {
	[OPTION_users] = { "alice: { password_file: alice.password }", "bob: { key_file: bob.key }" },
	[OPTION_secrets] = { "- { file: new.secret }",
	    "- { file: old.secret, until: \"2030-01-01T00:00:00Z\" }" },
	[OPTION_databases] = { "- { name: main, type: postgresql, connection: \"host=db dbname=coturn user=turnpike\" }" },
	[OPTION_listeners] = { "- { address: \"*\", port: 3478, transport: udp }" },
	[OPTION_certificates] = { "- { certificate: fullchain.pem, key: privkey.pem }" },
	[OPTION_relays] = { "- { address: 10.0.0.5, external: 203.0.113.7, ports: 50000-59999 }",
	    "- \"2001:db8::5\"" },
	[OPTION_alternates] = { "- 203.0.113.8:3478",
	    "- { address: \"203.0.113.8:5349\", transport: tls, domain: turn2.example.org }" },
	[OPTION_peer_deny] = { "- 198.51.100.0/24" },
	[OPTION_peer_allow] = { "- 203.0.113.0/24" },
	[OPTION_peer_private] = { "- 10.1.2.0/24" },
	[OPTION_peer_own] = { "- \"203.0.113.7:10000-20000/udp\"" },
};

static const char *
class_text(enum opt_class cls)
{
	switch (cls) {
	case OPT_NOW:
		return "Applied by a reload at once.";
	case OPT_WORKERS:
		return "Applied by a reload with new workers; no session is lost.";
	default:
		return "Applied by the next full start.";
	}
}

/* "relay." of "relay.ports": its length with the dot, 0 at the top level. */
static size_t
section_len(const struct option_row *o)
{
	const char *dot = strchr(o->path, '.');

	return dot != NULL ? (size_t)(dot - o->path) + 1 : 0;
}

static bool
starts_section(unsigned i)
{
	size_t n = section_len(&option_rows[i]);

	return n > 0 && (i == 0 || strncmp(option_rows[i].path, option_rows[i - 1].path, n) != 0);
}

/* ---- dump ------------------------------------------------------------------------------------- */

static void
dump_list(const struct conf *c, const struct option_row *o, unsigned indent, FILE *f)
{
	const char *name = o->path + section_len(o);
	enum option_id id = option_id(o);

	if (id == OPTION_users || id == OPTION_secrets || id == OPTION_databases) {
		fprintf(f, "%*s# %s: ", (int)indent, "", name);
		list_print(c, id, f);
		fputs(", not shown\n", f);
		return;
	}
	fprintf(f, "%*s%s:%s\n", (int)indent, "", name, list_len(c, id) == 0 ? " []" : "");
	list_print_block(c, id, indent + 2, f);
}

void
conf_dump(const struct conf *c, FILE *f)
{
	char value[1024];

	for (unsigned i = 0; i < OPTION_COUNT; i++) {
		const struct option_row *o = &option_rows[i];
		size_t n = section_len(o);

		if (starts_section(i))
			fprintf(f, "%.*s:\n", (int)n - 1, o->path);
		if (o->type == OPT_LIST) {
			dump_list(c, o, n > 0 ? 2 : 0, f);
			continue;
		}
		option_print(c, o, value, sizeof value);
		fprintf(f, "%s%s: %s\n", n > 0 ? "  " : "", o->path + n, value);
	}
}

/* ---- sample ----------------------------------------------------------------------------------- */

/* Wraps text into lines that begin with `prefix`. */
static void
wrap(const char *text, const char *prefix, FILE *f)
{
	size_t col = 0;

	while (*text != '\0') {
		size_t word = strcspn(text, " ");

		if (col > 0 && col + 1 + word > WIDTH) {
			putc('\n', f);
			col = 0;
		}
		col += col == 0 ? (size_t)fprintf(f, "%s", prefix) : (size_t)fprintf(f, " ");
		col += (size_t)fprintf(f, "%.*s", (int)word, text);
		text += word;
		text += strspn(text, " ");
	}
	putc('\n', f);
}

static void
sample_option(const struct option_row *o, FILE *f)
{
	size_t n = section_len(o);
	const char *indent = n > 0 ? "  " : "", *name = o->path + n;
	char prefix[8];

	snprintf(prefix, sizeof prefix, "%s# ", indent);
	putc('\n', f);
	wrap(o->doc, prefix, f);
	wrap(class_text(o->cls), prefix, f);
	if (o->type != OPT_LIST) {
		fprintf(f, "%s#%s: ", indent, name);
		if (o->type == OPT_STR || o->type == OPT_PATH)
			yaml_print_text(o->def, f);
		else
			fputs(o->def, f);
		putc('\n', f);
		return;
	}
	fprintf(f, "%s#%s:\n", indent, name);
	for (unsigned i = 0; i < 4 && list_example[option_id(o)][i] != NULL; i++)
		fprintf(f, "%s#  %s\n", indent, list_example[option_id(o)][i]);
}

void
conf_dump_sample(FILE *f)
{
	fputs(
	    "# Configuration of Turnpike, a STUN and TURN server.  Manual: turnpike.yaml(5).\n"
	    "# Check with `turnpiked --check`, apply with `turnpikectl reload`.\n"
	    "#\n"
	    "# Every option is here with its default (lists: with an example); uncomment what you change.\n"
	    "# Without any credential the first start makes a random secret and says where it is.\n"
	    "\n"
	    "# Further files.  Lists append; a value set twice is an error; no match is none.\n"
	    "#include: [ conf.d/*.yaml ]\n",
	    f);
	for (unsigned i = 0; i < OPTION_COUNT; i++) {
		if (starts_section(i))
			fprintf(f, "\n%.*s:\n", (int)section_len(&option_rows[i]) - 1, option_rows[i].path);
		sample_option(&option_rows[i], f);
	}
}

/* ---- manual ----------------------------------------------------------------------------------- */

static void
man_allowed(const struct option_row *o, FILE *f)
{
	char why[256] = "", text[640];

	if (o->type == OPT_LIST) {
		snprintf(text, sizeof text, "Form: %s.", o->shape);
	} else {
		option_allowed(o, why, sizeof why);
		snprintf(text, sizeof text, "Allowed%s.", why + strlen("allowed"));
	}
	text_print_mdoc(text, f);
}

/* The option as it stands in a file, with its section around it. */
static void
man_example(const struct option_row *o, FILE *f)
{
	size_t n = section_len(o);
	const char *name = o->path + n;

	if (o->type == OPT_LIST && list_example[option_id(o)][0] == NULL)
		return;
	fputs(".Bd -literal -compact\n", f);
	if (n > 0)
		fprintf(f, "%.*s:\n", (int)n - 1, o->path);
	fprintf(f, "%s%s:", n > 0 ? "  " : "", name);
	if (o->type == OPT_LIST) {
		putc('\n', f);
		for (unsigned i = 0; i < 4 && list_example[option_id(o)][i] != NULL; i++)
			fprintf(f, "%s  %s\n", n > 0 ? "  " : "", list_example[option_id(o)][i]);
	} else {
		putc(' ', f);
		if (o->type == OPT_BOOL)
			fputs(strcmp(o->def, "true") == 0 ? "false" : "true", f);
		else if (o->type == OPT_STR || o->type == OPT_PATH)
			yaml_print_text(o->def, f);
		else
			fputs(o->def, f);
		putc('\n', f);
	}
	fputs(".Ed\n", f);
}

void
conf_dump_man(FILE *f)
{
	for (unsigned i = 0; i < OPTION_COUNT; i++) {
		const struct option_row *o = &option_rows[i];
		size_t n = section_len(o);

		if (starts_section(i)) {
			fputs(i > 0 ? ".El\n" : "", f);
			fprintf(f, ".Ss %.*s\n.Bl -tag -width Ds\n", (int)n - 1, o->path);
		} else if (n == 0) {
			fputs(i > 0 ? ".El\n" : "", f);
			fprintf(f, ".Ss %s\n.Bl -tag -width Ds\n", o->path);
		}
		fprintf(f, ".It Cm %s", o->path);
		if (o->type != OPT_LIST && o->def[0] != '\0')
			fprintf(f, " Pq default Cm %s", o->def);
		putc('\n', f);
		text_print_mdoc(o->doc, f);
		man_allowed(o, f);
		text_print_mdoc(class_text(o->cls), f);
		man_example(o, f);
	}
	fputs(".El\n", f);
}

/* ---- help ------------------------------------------------------------------------------------- */

void
conf_dump_help(FILE *f)
{
	for (unsigned i = 0; i < OPTION_COUNT; i++) {
		const struct option_row *o = &option_rows[i];
		const char *end = strstr(o->doc, ". ");
		size_t n = end != NULL ? (size_t)(end - o->doc) + 1 : strlen(o->doc);

		fprintf(f, "  %-34s %-12s %.*s\n", o->path,
		    o->type == OPT_LIST     ? "(list)"
			: o->def[0] != '\0' ? o->def
					    : "\"\"",
		    (int)n, o->doc);
	}
}
