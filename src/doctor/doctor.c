/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * doctor.c: where the configuration comes from, the order of the checks, the report.
 */
#include "config.h"

#include <jansson.h>
#include <sodium.h>
#include <stdlib.h>

#include "tp/doctor.h"

#define RATE_MOST  100000000
#define STALL_MOST 60000

/* ---- the command line ------------------------------------------------------------------------ */

static bool
number(const char *text, uint64_t most, const char **end, uint64_t *out)
{
	uint64_t v = 0;

	*end = text;
	for (; **end >= '0' && **end <= '9' && v <= most; (*end)++)
		v = v * 10 + (uint64_t)(**end - '0');
	*out = v;
	return *end != text && v > 0 && v <= most;
}

bool
doctor_arguments(struct doctor_request *q, int argc, char *const *argv)
{
	const char *end;

	q->load = (struct doctor_load){ DOCTOR_RATE, DOCTOR_STALL_MS };
	for (int i = 0; i < argc; i += 2) {
		if (i + 1 == argc)
			return false;
		if (strcmp(argv[i], "--config") == 0) {
			q->file = argv[i + 1];
		} else if (strcmp(argv[i], "--rate") == 0) {
			if (!number(argv[i + 1], RATE_MOST, &end, &q->load.rate) || *end != '\0')
				return false;
		} else if (strcmp(argv[i], "--stall") == 0) {
			if (!number(argv[i + 1], STALL_MOST, &end, &q->load.stall_ms))
				return false;
			if (strcmp(end, "s") == 0 && q->load.stall_ms <= STALL_MOST / 1000)
				q->load.stall_ms *= 1000;
			else if (strcmp(end, "ms") != 0)
				return false;
		} else {
			return false;
		}
	}
	return true;
}

/* ---- the running daemon ---------------------------------------------------------------------- */

static bool
from_hex(void *out, size_t len, const char *hex)
{
	uint8_t *p = out;
	size_t got;

	return strlen(hex) == 2 * len && sodium_hex2bin(p, len, hex, 2 * len, NULL, &got, NULL) == 0 &&
	    got == len;
}

static void
read_daemon(struct doctor_daemon *d, const json_t *status, const json_t *counters)
{
	const json_t *p;
	size_t i;

	d->running = true;
	d->ready = json_is_true(json_object_get(status, "ready"));
	d->pid = (pid_t)json_integer_value(json_object_get(status, "pid"));
	d->shards = (uint32_t)json_integer_value(json_object_get(status, "shards"));
	d->sessions = (uint64_t)json_integer_value(json_object_get(status, "sessions"));
	d->listener_drops = (uint64_t)json_integer_value(json_object_get(counters, "listener_drops"));
	json_array_foreach(json_object_get(status, "processes"), i, p)
	{
		const char *kind = json_string_value(json_object_get(p, "process")),
			   *engine = json_string_value(json_object_get(p, "engine"));

		if (kind == NULL || strcmp(kind, "worker") != 0 || d->workers == TP_COUNT(d->worker))
			continue;
		text_copy(d->worker[d->workers++].engine, sizeof d->worker[0].engine,
		    engine != NULL ? engine : "-");
	}
}

static void
judge_daemon(struct doctor_report *r, const json_t *status, const struct doctor_daemon *d)
{
	const json_t *w;
	size_t i;

	doctor_text(doctor_put(r, d->ready ? DOCTOR_OK : DOCTOR_WARNING, "turnpiked")->is,
	    "runs, pid %d, %s, %llu sessions", (int)d->pid, d->ready ? "ready" : "not ready",
	    (unsigned long long)d->sessions);
	json_array_foreach(json_object_get(status, "warnings"), i, w)
	    doctor_text(doctor_put(r, DOCTOR_WARNING, "turnpiked")->is, "%.300s", json_string_value(w));
}

/* What turnpike-admin answered.  False: no configuration in it that this program could read. */
static bool
take_answer(
    const struct doctor_request *q, struct doctor_report *r, struct conf *c, struct doctor_daemon *d)
{
	json_t *o = json_loadb(q->answer, q->answer_len, 0, NULL);
	const json_t *status = json_object_get(o, "status");
	const char *hex = json_string_value(json_object_get(o, "configuration"));
	bool ok = false;

	if (json_is_object(status)) {
		read_daemon(d, status, json_object_get(o, "counters"));
		judge_daemon(r, status, d);
	}
	if (q->file == NULL) {
		ok = hex != NULL && from_hex(c, sizeof *c, hex) && conf_validate(c, sizeof *c) == 0;
		if (!ok)
			doctor_text(doctor_put(r, DOCTOR_BAD, "configuration")->is,
			    "the running daemon's is not of this version: "
			    "use --config FILE, and see `turnpikectl upgrade`");
	}
	json_decref(o);
	return ok;
}

/* ---- a file ---------------------------------------------------------------------------------- */

static void
on_report(void *arg, enum log_level level, const char *text)
{
	struct doctor_report *r = arg;

	if (level == LOG_L_ERROR || level == LOG_L_WARN)
		doctor_text(
		    doctor_put(r, level == LOG_L_ERROR ? DOCTOR_BAD : DOCTOR_WARNING, "configuration")->is,
		    "%s", text);
}

static bool
load_file(const struct doctor_request *q, struct doctor_report *r, struct conf *c)
{
	struct users *users = NULL;
	struct certs *certs = NULL;
	size_t users_len = 0, certs_len = 0;
	struct conf_request rq = {
		.file = q->file, .report = on_report, .arg = r, .certs = &certs, .certs_len = &certs_len
	};
	bool ok = sodium_init() >= 0 && conf_load(&rq, c, &users, &users_len) == 0;

	if (users != NULL)
		sodium_memzero(users, users_len);
	if (certs != NULL)
		sodium_memzero(certs, certs_len);
	free(users);
	free(certs);
	if (ok)
		doctor_text(doctor_put(r, DOCTOR_OK, "configuration")->is, "%s", q->file);
	return ok;
}

/* ---- the report ------------------------------------------------------------------------------ */

static const char *const level_names[DOCTOR_LEVELS] = { "ok", "note", "warning", "bad" };

static void
print_line(const struct doctor_finding *f, FILE *out)
{
	fprintf(out, "%-8s %s: %s", level_names[f->level], f->name, f->is);
	if (f->should[0] != '\0')
		fprintf(out, "; should be %s", f->should);
	if (f->set[0] != '\0')
		fprintf(out, " -> %s", f->set);
	fputc('\n', out);
}

static int
doctor_print(const struct doctor_report *r, bool json, FILE *out)
{
	unsigned n[DOCTOR_LEVELS] = { 0 };
	json_t *list = json_array(), *o;

	for (unsigned i = 0; i < r->count; i++) {
		const struct doctor_finding *f = &r->f[i];

		n[f->level]++;
		if (!json)
			print_line(f, out);
		else
			json_array_append_new(list,
			    json_pack("{s:s, s:s, s:s, s:s, s:s}", "level", level_names[f->level], "name",
				f->name, "is", f->is, "should", f->should, "set", f->set));
	}
	o = json_pack("{s:i, s:i, s:i, s:i, s:o}", "ok", (int)n[DOCTOR_OK], "notes", (int)n[DOCTOR_NOTE],
	    "warnings", (int)n[DOCTOR_WARNING], "bad", (int)n[DOCTOR_BAD], "findings", list);
	if (json)
		json_dumpf(o, out, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
	else
		fprintf(out, "%u ok, %u notes, %u warnings, %u bad", n[DOCTOR_OK], n[DOCTOR_NOTE],
		    n[DOCTOR_WARNING], n[DOCTOR_BAD]);
	fputc('\n', out);
	json_decref(o);
	return n[DOCTOR_BAD] > 0 ? 2 : n[DOCTOR_WARNING] > 0;
}

int
doctor_run(const struct doctor_request *q)
{
	struct conf *conf = calloc(1, sizeof *conf);
	struct doctor_report *r = calloc(1, sizeof *r);
	struct doctor_daemon *d = calloc(1, sizeof *d);
	struct doctor_host host;
	struct doctor_case c = { .conf = conf, .host = &host, .daemon = d, .load = q->load };
	bool ok = false;
	int code;

	if (conf == NULL || r == NULL || d == NULL)
		abort();
	if (q->answer != NULL)
		ok = take_answer(q, r, conf, d);
	if (q->file != NULL)
		ok = load_file(q, r, conf);
	if (ok) {
		doctor_host_read(&host, "", d->pid);
		doctor_host_try(&host, d->pid);
		doctor_judge_buffers(r, &c);
		doctor_judge_process(r, &c);
		doctor_judge_net(r, &c);
		doctor_addresses(r, &c);
		doctor_certificates(r, &c);
	}
	code = doctor_print(r, q->json, stdout);
	free(conf);
	free(r);
	free(d);
	return code;
}
