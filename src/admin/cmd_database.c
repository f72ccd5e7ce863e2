/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * cmd_database.c: user, secret: what an operator changes in a database of users; deny, undeny: users that
 * may not go on.  turnpike-auth does it.
 */
#include "config.h"

#include <time.h>

#include "admin_int.h"
#include "tp/db.h"

#define USER_USAGE                                                                                           \
	"usage: user add NAME PASSWORD|- | delete NAME | list | create | import --from DATABASE, each with " \
	"--database DATABASE [--realm REALM]"
#define SECRET_USAGE                                                                                       \
	"usage: secret add SECRET|- | delete SECRET|- | list, each with --database DATABASE [--realm REALM]"
#define DENY_USAGE   "usage: deny [USER [--until TIME] [--database DATABASE]]"
#define UNDENY_USAGE "usage: undeny USER [--database DATABASE]"

/* Words that are no options; false when an option is unknown or something is too long. */
struct words {
	unsigned n;
	const char *at[4];
};

static bool
take(char *to, size_t size, const char *from)
{
	return text_copy(to, size, from) < size && from[0] != '\0';
}

static bool
read_words(struct job *j, struct msg_db_ask *m, struct words *w)
{
	for (int i = 0; i < j->argc; i++) {
		const char *word = j->argv[i], *value = i + 1 < j->argc ? j->argv[i + 1] : NULL;
		bool ok = true;

		if (strncmp(word, "--", 2) != 0) {
			ok = w->n < TP_COUNT(w->at);
			if (ok)
				w->at[w->n++] = word;
			value = NULL;
		} else if (value == NULL) {
			ok = false;
		} else if (strcmp(word, "--database") == 0) {
			ok = take(m->database, sizeof m->database, value);
		} else if (strcmp(word, "--from") == 0) {
			ok = take(m->from, sizeof m->from, value);
		} else if (strcmp(word, "--realm") == 0) {
			ok = take(m->realm, sizeof m->realm, value);
		} else if (strcmp(word, "--until") == 0) {
			ok = text_time(&m->until, value) == 0;
		} else {
			ok = false;
		}
		if (!ok)
			return false;
		i += value != NULL;
	}
	return true;
}

static int
ask(struct job *j, struct msg_db_ask *m)
{
	int err;

	m->h.type = MSG_DB_ASK;
	err = j->ops->ask_database(j->ops->arg, m);
	return job_asked(j, "turnpike-auth", err, m->request);
}

struct change_row {
	const char *word;
	uint32_t change;
	unsigned words;
};

static const struct change_row *
find_change(const struct change_row *rows, unsigned count, const struct words *w)
{
	for (unsigned i = 0; i < count; i++)
		if (w->n == rows[i].words && strcmp(w->at[0], rows[i].word) == 0)
			return &rows[i];
	return NULL;
}

int
cmd_user(struct job *j)
{
	static const struct change_row rows[] = {
		{ "add", DB_USER_ADD, 3 },
		{ "delete", DB_USER_DELETE, 2 },
		{ "list", DB_USER_LIST, 1 },
		{ "create", DB_CREATE, 1 },
		{ "import", DB_IMPORT, 1 },
	};
	struct msg_db_ask m = { .what = DB_ASK_CHANGE };
	struct words w = { 0 };
	const struct change_row *r = read_words(j, &m, &w) ? find_change(rows, TP_COUNT(rows), &w) : NULL;

	if (r == NULL || m.database[0] == '\0' || (r->change == DB_IMPORT) != (m.from[0] != '\0') ||
	    (w.n > 1 && !take(m.name, sizeof m.name, w.at[1])) ||
	    (w.n > 2 && !take(m.value, sizeof m.value, w.at[2])))
		return job_say(j, CTL_USAGE, USER_USAGE);
	m.change = r->change;
	return ask(j, &m);
}

int
cmd_secret(struct job *j)
{
	static const struct change_row rows[] = {
		{ "add", DB_SECRET_ADD, 2 },
		{ "delete", DB_SECRET_DELETE, 2 },
		{ "list", DB_SECRET_LIST, 1 },
	};
	struct msg_db_ask m = { .what = DB_ASK_CHANGE };
	struct words w = { 0 };
	const struct change_row *r = read_words(j, &m, &w) ? find_change(rows, TP_COUNT(rows), &w) : NULL;

	if (r == NULL || m.database[0] == '\0' || (w.n > 1 && !take(m.value, 257, w.at[1])))
		return job_say(j, CTL_USAGE, SECRET_USAGE);
	m.change = r->change;
	return ask(j, &m);
}

int
cmd_deny(struct job *j)
{
	struct msg_db_ask m = { .what = DB_ASK_DENIED };
	struct words w = { 0 };

	if (!read_words(j, &m, &w) || w.n > 1 || m.from[0] != '\0' ||
	    (w.n == 0 && (m.database[0] != '\0' || m.until != 0)) ||
	    (w.n == 1 && !take(m.name, CONF_DENIED_NAME, w.at[0])) ||
	    (m.until != 0 && m.until <= (int64_t)time(NULL)))
		return job_say(j, CTL_USAGE, DENY_USAGE);
	if (w.n == 1)
		m.what = m.database[0] != '\0' ? DB_ASK_CHANGE : DB_ASK_DENY;
	m.change = DB_DENY_ADD;
	snprintf(m.value, sizeof m.value, "%lld", (long long)m.until);
	return ask(j, &m);
}

int
cmd_undeny(struct job *j)
{
	struct msg_db_ask m = { .what = DB_ASK_UNDENY, .change = DB_DENY_DELETE };
	struct words w = { 0 };

	if (!read_words(j, &m, &w) || w.n != 1 || m.until != 0 || m.from[0] != '\0' ||
	    !take(m.name, CONF_DENIED_NAME, w.at[0]))
		return job_say(j, CTL_USAGE, UNDENY_USAGE);
	if (m.database[0] != '\0')
		m.what = DB_ASK_CHANGE;
	return ask(j, &m);
}

static void
text_lines(FILE *f, const json_t *data)
{
	const json_t *line;
	size_t i;

	json_array_foreach(json_object_get(data, "lines"), i, line)
	    fprintf(f, "%s\n", json_string_value(line));
}

int
job_database(struct job *j, const struct msg_db_answer *a)
{
	char text[4 * sizeof a->text];
	enum ctl_code code = a->code == 0 ? CTL_OK : CTL_REFUSED;

	text_escape(text, sizeof text, a->text, strnlen(a->text, sizeof a->text));
	if (a->more || a->code == 0) {
		if (text[0] != '\0')
			json_array_append_new(j->lines, json_string(text));
		if (a->more)
			return JOB_WAITS;
	} else {
		return job_say(j, CTL_REFUSED, "%s", text[0] != '\0' ? text : "it did not work");
	}
	return job_data(j, code, json_pack("{s:b, s:O}", "ok", 1, "lines", j->lines), text_lines);
}
