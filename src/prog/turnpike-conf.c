/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * turnpike-conf.c: reads and checks a configuration, for a person (--check, --dump), for the build
 * (--sample, --man, --options-help) or for the supervisor (--fd N), then ends.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>
#include <sodium.h>

#include "tp/base.h"
#include "tp/conf.h"
#include "tp/doctor.h"
#include "tp/io.h"
#include "tp/msg.h"
#include "tp/outside.h"

#define SETS_MAX 64

enum mode { MODE_NONE, MODE_CHECK, MODE_DUMP, MODE_SAMPLE, MODE_MAN, MODE_HELP, MODE_FD };

struct args {
	enum mode mode;
	struct conf_request rq;
	const char *sets[SETS_MAX];
	const char *runtime_dir; /* --check: whose daemon may have the ports; NULL: ports are not tried */
	/* --fd: NULL means that no credential is an error of the caller's to judge */
	const char *state_dir;
	uint64_t generation;
	int fd, files_fd; /* of a compiled configuration: only its files are looked at */
	uint32_t errors, warnings;
	char warning[CONF_WARNINGS_MAX][CONF_WARNING_LEN];
};

static void __attribute__((noreturn)) usage(const char *wrong)
{
	if (wrong != NULL)
		fprintf(stderr, "turnpike-conf: %s\n", wrong);
	fputs(
	    "usage: turnpike-conf [--set KEY=VALUE]... [--foreground] [--state-dir DIR] [--runtime-dir DIR] --check FILE | --dump FILE\n"
	    "       turnpike-conf --sample | --man | --options-help\n"
	    "       turnpike-conf ... --fd N --generation N [--config FILE]     (used by turnpiked)\n"
	    "       turnpike-conf --fd N --files N                              (used by turnpiked)\n",
	    stderr);
	exit(EX_USAGE);
}

static uint64_t
number(const char *text)
{
	char *end;
	unsigned long long v;

	errno = 0;
	v = strtoull(text, &end, 10);
	if (*text < '0' || *text > '9' || *end != '\0' || errno != 0)
		usage("not a number");
	return v;
}

static void
parse_args(struct args *a, int argc, char **argv)
{
	static const struct option options[] = {
		{ "check", required_argument, NULL, 'c' },
		{ "dump", required_argument, NULL, 'd' },
		{ "sample", no_argument, NULL, 's' },
		{ "man", no_argument, NULL, 'm' },
		{ "options-help", no_argument, NULL, 'h' },
		{ "fd", required_argument, NULL, 'n' },
		{ "config", required_argument, NULL, 'f' },
		{ "set", required_argument, NULL, 'S' },
		{ "foreground", no_argument, NULL, 'F' },
		{ "state-dir", required_argument, NULL, 'D' },
		{ "runtime-dir", required_argument, NULL, 'R' },
		{ "generation", required_argument, NULL, 'g' },
		{ "files", required_argument, NULL, 'w' },
		{ NULL, 0, NULL, 0 },
	};
	static const enum mode modes[] = { ['c'] = MODE_CHECK,
		['d'] = MODE_DUMP,
		['s'] = MODE_SAMPLE,
		['m'] = MODE_MAN,
		['h'] = MODE_HELP,
		['n'] = MODE_FD };
	int o;

	while ((o = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (o == '?')
			usage(NULL);
		if ((size_t)o < TP_COUNT(modes) && modes[o] != MODE_NONE) {
			if (a->mode != MODE_NONE)
				usage("one mode only");
			a->mode = modes[o];
		}
		if (o == 'c' || o == 'd' || o == 'f')
			a->rq.file = optarg;
		else if (o == 'n')
			a->fd = (int)number(optarg);
		else if (o == 'w')
			a->files_fd = (int)number(optarg);
		else if (o == 'g')
			a->generation = number(optarg);
		else if (o == 'F')
			a->rq.foreground = true;
		else if (o == 'D')
			a->state_dir = optarg;
		else if (o == 'R')
			a->runtime_dir = optarg;
		else if (o == 'S' && a->rq.set_count < SETS_MAX)
			a->sets[a->rq.set_count++] = optarg;
		else if (o == 'S')
			usage("too many --set");
	}
	a->rq.sets = a->sets;
	if (a->mode == MODE_NONE || optind != argc)
		usage("a mode is missing, or something is too much");
}

/* ---- reports ---------------------------------------------------------------------------------- */

/* The supervisor reads as long as it lives; a child without one has nothing left to do. */
static void
must_send(const struct args *a, const void *msg, int fd)
{
	int rc;

	while ((rc = ipc_send(a->fd, msg, fd)) == -EAGAIN) {
		struct pollfd p = { .fd = a->fd, .events = POLLOUT };

		poll(&p, 1, -1);
	}
	if (rc < 0)
		exit(EX_IOERR);
}

static void
on_report(void *arg, enum log_level level, const char *text)
{
	struct args *a = arg;
	struct msg_conf_text m = {
		.h.type = MSG_CONF_TEXT, .h.generation = (uint32_t)a->generation, .level = level
	};

	a->errors += level == LOG_L_ERROR;
	if (level == LOG_L_WARN && a->warnings < CONF_WARNINGS_MAX)
		text_copy(a->warning[a->warnings], CONF_WARNING_LEN, text);
	a->warnings += level == LOG_L_WARN;
	if (a->mode != MODE_FD) {
		fprintf(stderr, "%s%s\n", level == LOG_L_ERROR ? "" : "warning: ", text);
		return;
	}
	text_copy(m.text, sizeof m.text, text);
	must_send(a, &m, -1);
}

/* ---- for the supervisor ----------------------------------------------------------------------- */

/* A sealed memfd with these bytes; -1 and errno. */
static int
sealed(const char *name, const void *bytes, size_t len)
{
	const char *p = bytes;
	int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0)
		return -1;
	while (len > 0) {
		ssize_t n = write(fd, p, len);

		if (n <= 0)
			goto fail;
		p += n;
		len -= (size_t)n;
	}
	if (fchmod(fd, 0600) == 0 &&
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) == 0)
		return fd;
fail:
	close(fd);
	return -1;
}

static bool
send_blob(struct args *a, enum conf_blob blob, const char *name, const void *bytes, size_t len)
{
	struct msg_conf_blob m = {
		.h.type = MSG_CONF_BLOB, .h.generation = (uint32_t)a->generation, .blob = blob, .size = len
	};
	int fd = sealed(name, bytes, len);

	if (fd < 0) {
		on_report(a, LOG_L_ERROR, "no memory for the compiled configuration");
		return false;
	}
	must_send(a, &m, fd);
	close(fd);
	return true;
}

static int
send_result(struct args *a, struct conf *conf, const struct users *users, size_t users_len,
    const struct certs *certs, size_t certs_len, bool ok)
{
	struct msg_conf_done m = { .h.type = MSG_CONF_DONE, .h.generation = (uint32_t)a->generation };

	conf->generation = a->generation;
	conf->warning_count = a->warnings < CONF_WARNINGS_MAX ? a->warnings : CONF_WARNINGS_MAX;
	memcpy(conf->warning, a->warning, sizeof conf->warning);
	ok = ok && send_blob(a, BLOB_CONF, "turnpike-conf", conf, sizeof *conf) &&
	    send_blob(a, BLOB_USERS, "turnpike-users", users, users_len) &&
	    send_blob(a, BLOB_CERTS, "turnpike-certs", certs, certs_len);
	m.ok = ok;
	m.errors = a->errors;
	m.warnings = a->warnings;
	must_send(a, &m, -1);
	return ok ? EX_OK : EX_CONFIG;
}

/* Have files of certificates or secrets changed?  `errors` is then a number for all that is there. */
static int
look_at_files(const struct args *a)
{
	struct msg_conf_text text = { .h.type = MSG_CONF_TEXT, .level = LOG_L_INFO };
	struct msg_conf_done done = { .h.type = MSG_CONF_DONE };
	const struct conf *c = mmap(NULL, sizeof *c, PROT_READ, MAP_SHARED, a->files_fd, 0);
	const char *found;
	uint32_t mix;

	if (c == MAP_FAILED || conf_validate(c, sizeof *c) < 0)
		return EX_SOFTWARE;
	found = conf_changed_file(c, &mix);
	if (found != NULL) {
		text_copy(text.text, sizeof text.text, found);
		must_send(a, &text, -1);
		done.errors = mix;
	}
	must_send(a, &done, -1);
	return EX_OK;
}

/* ---- what the network says ---------------------------------------------------------------------- */

static int
ask_outside(const char *name, const char *stun, const struct addr *inside, struct addr *out, char *why,
    size_t why_len)
{
	if (name != NULL)
		return outside_name(name, inside->family, out, why, why_len);
	return outside_stun(stun, inside, out, why, why_len);
}

/* ---- the load --------------------------------------------------------------------------------- */

static int
load(struct args *a)
{
	struct conf *conf = calloc(1, sizeof *conf);
	struct users *users = NULL;
	struct certs *certs = NULL;
	size_t len = 0, certs_len = 0;
	bool ok;
	int rc;

	if (conf == NULL)
		return EX_OSERR;
	a->rq.report = on_report;
	a->rq.outside = ask_outside;
	a->rq.arg = a;
	a->rq.certs = &certs;
	a->rq.certs_len = &certs_len;
	ok = conf_load(&a->rq, conf, &users, &len) == 0;
	if (ok && users->user_count == 0 && users->secret_count == 0 && users->database_count == 0 &&
	    a->mode != MODE_DUMP && (a->mode == MODE_CHECK || a->state_dir != NULL))
		ok = conf_first_secret(a->state_dir != NULL ? a->state_dir : TP_STATEDIR,
			 a->mode == MODE_CHECK, conf, &users, &len, on_report, a) == 0;
	rc = ok ? EX_OK : EX_CONFIG;
	if (ok && a->mode == MODE_CHECK && a->runtime_dir != NULL &&
	    doctor_ports_taken(conf, a->runtime_dir, on_report, a) > 0) {
		ok = false;
		rc = EX_UNAVAILABLE;
	}
	if (a->mode == MODE_FD)
		rc = send_result(a, conf, users, len, certs, certs_len, ok);
	else if (ok && a->mode == MODE_DUMP)
		conf_dump(conf, stdout);
	else if (ok)
		printf("%s: configuration ok\n", a->rq.file);
	if (users != NULL)
		sodium_memzero(users, len);
	if (certs != NULL)
		sodium_memzero(certs, certs_len);
	free(users);
	free(certs);
	free(conf);
	return rc;
}

int
main(int argc, char **argv)
{
	/* 1, not 0: with 0 a core_pattern that is a pipe would still get the secrets (core(5)). */
	const struct rlimit no_core = { 1, 1 };
	struct args a = { .fd = -1, .files_fd = -1 };
	int rc = EX_OK;

	setrlimit(RLIMIT_CORE, &no_core);
	parse_args(&a, argc, argv);
	conf_rights_reduce();
	if (sodium_init() < 0)
		return EX_SOFTWARE;
	if (a.mode == MODE_SAMPLE)
		conf_dump_sample(stdout);
	else if (a.mode == MODE_MAN)
		conf_dump_man(stdout);
	else if (a.mode == MODE_HELP)
		conf_dump_help(stdout);
	else if (a.files_fd >= 0)
		rc = look_at_files(&a);
	else
		rc = load(&a);
	return fflush(stdout) == 0 ? rc : EX_IOERR;
}
