/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ctl_job.c: one request: which function answers it, and the ways to answer.
 */
#include "config.h"

#include <errno.h>

#include "admin_int.h"

/* ---- words ---------------------------------------------------------------------------------------- */

const char *
word_value(const char *word, const char *key)
{
	size_t n = strlen(key);

	return strncmp(word, key, n) == 0 && word[n] == '=' ? word + n + 1 : NULL;
}

int
word_number(const char *text, uint64_t most, uint64_t *out)
{
	uint64_t v = 0;

	if (*text == '\0')
		return -EINVAL;
	for (; *text != '\0'; text++) {
		if (*text < '0' || *text > '9' || v > most)
			return -EINVAL;
		v = v * 10 + (uint64_t)(*text - '0');
	}
	if (v > most)
		return -EINVAL;
	*out = v;
	return 0;
}

void
session_id_print(const struct session_id *id, char out[SESSION_ID_LEN])
{
	snprintf(out, SESSION_ID_LEN, "%02x.%08x.%04x", id->shard, id->slot, id->gen);
}

int
session_id_parse(struct session_id *id, const char *text)
{
	uint32_t v[3] = { 0 };

	for (unsigned i = 0; i < 3; i++) {
		unsigned digits = 0;

		for (; *text != '\0' && *text != '.'; text++, digits++) {
			const char *hex = "0123456789abcdef", *at = strchr(hex, *text);

			if (at == NULL || digits == 8)
				return -EINVAL;
			v[i] = v[i] << 4 | (uint32_t)(at - hex);
		}
		if (digits == 0 || *text != (i < 2 ? '.' : '\0'))
			return -EINVAL;
		text++;
	}
	*id = (struct session_id){ .shard = v[0], .slot = v[1], .gen = v[2] };
	return 0;
}

/* ---- answers -------------------------------------------------------------------------------------- */

int
job_data(struct job *j, enum ctl_code code, json_t *data, void (*text)(FILE *f, const json_t *data))
{
	if (data == NULL)
		return job_say(j, CTL_REFUSED, "out of memory");
	if (j->as_json) {
		json_dumpf(data, j->out, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
		fputc('\n', j->out);
	} else {
		text(j->out, data);
	}
	json_decref(data);
	return code;
}

int
job_say(struct job *j, enum ctl_code code, const char *fmt, ...)
{
	char text[MSG_TEXT_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	if (j->as_json) {
		json_t *o = json_pack("{s:s}", code == CTL_OK ? "message" : "error", text);

		json_dumpf(o, j->out, 0);
		json_decref(o);
	} else {
		fputs(text, j->out);
	}
	fputc('\n', j->out);
	return (int)code;
}

static void
text_lines(FILE *f, const json_t *data)
{
	const json_t *line;
	size_t i;

	json_array_foreach(json_object_get(data, "lines"), i, line)
	    fprintf(f, "%s\n", json_string_value(line));
}

/* ---- what the supervisor does ------------------------------------------------------------------------ */

int
job_asked(struct job *j, const char *who, int err, uint32_t request)
{
	if (err < 0)
		return job_say(j, CTL_REFUSED, "%s cannot be asked: %s", who, strerror(-err));
	j->request = request;
	j->lines = json_array();
	return JOB_WAITS;
}

static int
ask_super(struct job *j, struct msg_command *m)
{
	int err;

	m->h.type = MSG_COMMAND;
	err = j->ops->ask_super(j->ops->arg, m);
	return job_asked(j, "the supervisor", err, m->request);
}

int
job_reply(struct job *j, const struct msg_reply *r)
{
	char text[MSG_TEXT_MAX];
	enum ctl_code code = r->code == 0 ? CTL_OK : CTL_REFUSED;

	text_copy(text, sizeof text, r->text[sizeof r->text - 1] == '\0' ? r->text : "");
	for (char *p = text; *p != '\0'; p++) /* it quotes files and names */
		if ((unsigned char)*p < 0x20 || (unsigned char)*p >= 0x7f)
			*p = '?';
	if (text[0] != '\0')
		json_array_append_new(j->lines, json_string(text));
	if (r->more)
		return JOB_WAITS;
	return job_data(
	    j, code, json_pack("{s:b, s:O}", "ok", code == CTL_OK, "lines", j->lines), text_lines);
}

static int
cmd_simple(struct job *j, enum super_command c)
{
	struct msg_command m = { .command = c };

	if (j->argc != 0)
		return job_say(j, CTL_USAGE, "this command takes no arguments");
	return ask_super(j, &m);
}

static int
cmd_drain(struct job *j)
{
	struct msg_command m = { .command = CMD_DRAIN };
	int64_t span = 0;

	if (j->argc != 0 &&
	    (j->argc != 2 || strcmp(j->argv[0], "--deadline") != 0 || ctl_seconds(j->argv[1], &span) < 0 ||
		span < 1 || span > 86400))
		return job_say(j, CTL_USAGE, "usage: drain [--deadline TIME], up to 1d");
	m.value = (uint32_t)span;
	return ask_super(j, &m);
}

static int
cmd_log(struct job *j)
{
	static const char *const levels[] = { "error", "warn", "info", "debug" };
	struct msg_command m = { .command = CMD_LOG_LEVEL };

	if (j->argc == 2 && strcmp(j->argv[0], "level") == 0)
		for (unsigned i = 0; i < TP_COUNT(levels); i++)
			if (strcmp(j->argv[1], levels[i]) == 0) {
				m.value = i;
				return ask_super(j, &m);
			}
	return job_say(j, CTL_USAGE, "usage: log level error|warn|info|debug");
}

static int
cmd_close(struct job *j)
{
	struct msg_command m = { .command = CMD_CLOSE_SESSION };
	const struct conf *c = j->view->conf;
	const char *user = j->argc == 1 ? word_value(j->argv[0], "user") : NULL;
	struct session_id id;

	if (user != NULL && user[0] != '\0' && strlen(user) <= 508 && c != NULL) {
		if (!view_has_cross(j->view))
			return job_say(j, CTL_REFUSED, "no worker has started yet");
		m.command = CMD_CLOSE_USER;
		m.user = auth_user_hash(&j->view->cross, c->realm, strlen(c->realm), user, strlen(user));
		return ask_super(j, &m);
	}
	if (j->argc != 1 || session_id_parse(&id, j->argv[0]) < 0)
		return job_say(j, CTL_USAGE, "usage: close ID | user=NAME (IDs: see sessions)");
	m.shard = id.shard;
	m.slot = id.slot;
	m.gen = id.gen;
	return ask_super(j, &m);
}

static json_t *
help_data(void)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < CTL_COMMANDS; i++)
		json_array_append_new(list,
		    json_pack("{s:s, s:s, s:s}", "command", ctl_commands[i].word, "arguments",
			ctl_commands[i].args, "help", ctl_commands[i].help));
	return json_pack("{s:o}", "commands", list);
}

static void
text_help(FILE *f, const json_t *data)
{
	(void)data;
	ctl_commands_help(f);
}

int
job_run(struct job *j, enum ctl_command c)
{
	switch (c) {
	case CTL_CMD_HELP:
		return job_data(j, CTL_OK, help_data(), text_help);
	case CTL_CMD_STATUS:
		return cmd_status(j);
	case CTL_CMD_SESSIONS:
		return cmd_sessions(j);
	case CTL_CMD_CLOSE:
		return cmd_close(j);
	case CTL_CMD_USERS:
		return cmd_users(j);
	case CTL_CMD_LIMITS:
		return cmd_limits(j);
	case CTL_CMD_TOP:
	case CTL_CMD_PASSWD:
		return job_say(j, CTL_USAGE, "turnpikectl does this by itself");
	case CTL_CMD_COUNTERS:
		return cmd_counters(j);
	case CTL_CMD_VERIFY:
		return cmd_verify(j);
	case CTL_CMD_DOCTOR:
		return cmd_doctor(j);
	case CTL_CMD_RELOAD:
		return cmd_simple(j, CMD_RELOAD);
	case CTL_CMD_DRAIN:
		return cmd_drain(j);
	case CTL_CMD_UNDRAIN:
		return cmd_simple(j, CMD_UNDRAIN);
	case CTL_CMD_RESTART:
		return cmd_simple(j, CMD_RESTART_WORKERS);
	case CTL_CMD_UPGRADE:
		return cmd_simple(j, CMD_UPGRADE);
	case CTL_CMD_LOG:
		return cmd_log(j);
	case CTL_CMD_CREDENTIALS:
		return cmd_credentials(j);
	case CTL_CMD_USER:
		return cmd_user(j);
	case CTL_CMD_SECRET:
		return cmd_secret(j);
	case CTL_CMD_DENY:
		return cmd_deny(j);
	case CTL_CMD_UNDENY:
		return cmd_undeny(j);
	case CTL_CMD_STOP:
		return cmd_simple(j, CMD_STOP);
	case CTL_COMMANDS:
		break;
	}
	return job_say(j, CTL_USAGE, "no such command; try: help");
}
