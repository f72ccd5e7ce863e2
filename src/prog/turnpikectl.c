/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * turnpikectl.c: sends one command to turnpike-admin and prints its answer.  Exit code 0 done, 1 refused,
 * 2 usage, 3 not running.  doctor is worked on here, with what turnpike-admin tells about the daemon.
 */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/un.h>
#include <unistd.h>

#include "ctl_local.h"
#include "tp/doctor.h"

#define TRIES            5
#define EXIT_LOST        4
#define EXIT_NOT_RUNNING 3

static int
usage(FILE *f, int code)
{
	fprintf(f, "usage: turnpikectl [--runtime-dir DIR] [--json] COMMAND ...\n\n");
	ctl_commands_help(f);
	fprintf(f,
	    "\n  --runtime-dir DIR  where the daemon's control socket is (" TP_RUNTIMEDIR ")\n"
	    "  --json             answers in JSON\n  -V, --version; -h, --help\n"
	    "\nExit code: 0 done, 1 refused, 2 usage, 3 not running.\n");
	return code;
}

/* The exit code when there is nothing to send, else -1. */
static int
read_arguments(int argc, char **argv, struct command_line *c)
{
	*c = (struct command_line){ .runtime_dir = TP_RUNTIMEDIR };
	for (int i = 1; i < argc; i++) {
		const char *a = argv[i];

		if (strcmp(a, "--json") == 0) {
			c->json = true;
		} else if (c->argc == 0 && strcmp(a, "--runtime-dir") == 0 && i + 1 < argc) {
			c->runtime_dir = argv[++i];
		} else if (c->argc == 0 && strncmp(a, "--runtime-dir=", 14) == 0) {
			c->runtime_dir = a + 14;
		} else if (c->argc == 0 &&
		    (strcmp(a, "-h") == 0 || strcmp(a, "--help") == 0 ||
			(strcmp(a, "help") == 0 && !c->json))) {
			return usage(stdout, 0);
		} else if (c->argc == 0 && (strcmp(a, "-V") == 0 || strcmp(a, "--version") == 0)) {
			puts("turnpikectl " PACKAGE_VERSION);
			return 0;
		} else if (c->argc == 0 && strcmp(a, "--dump-man") == 0) { /* for the manual's lint */
			ctl_commands_man(stdout);
			return 0;
		} else if ((c->argc == 0 && a[0] == '-') || c->argc == CTL_WORDS_MAX - 1) {
			return usage(stderr, CTL_USAGE);
		} else {
			c->argv[c->argc++] = argv[i];
		}
	}
	if (c->argc > 0 && ctl_command_find(c->argv[0]) < 0) {
		return ctl_fail(
		    c->json, CTL_USAGE, "unknown command %s (see turnpikectl help)", c->argv[0]);
	}
	if (c->argc == 0)
		return c->json ? ctl_fail(true, CTL_USAGE, "no command") : usage(stderr, CTL_USAGE);
	return -1;
}

static int
connect_to(const char *dir)
{
	struct sockaddr_un su = { .sun_family = AF_UNIX };
	int n = snprintf(su.sun_path, sizeof su.sun_path, "%s/" CTL_SOCKET, dir), fd;

	if (n < 0 || (size_t)n >= sizeof su.sun_path) {
		errno = ENAMETOOLONG;
		return -1;
	}
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd >= 0 && connect(fd, (struct sockaddr *)&su, sizeof su) < 0) {
		int err = errno;
		close(fd);
		errno = err;
		return -1;
	}
	return fd;
}

static bool
send_all(int fd, const char *p, size_t n)
{
	while (n > 0) {
		ssize_t done = send(fd, p, n, MSG_NOSIGNAL);

		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			return false;
		p += done;
		n -= (size_t)done;
	}
	return true;
}

/* Everything until the answer is complete; NULL when it broke off.  The caller frees it. */
static char *
receive(int fd, unsigned *code, size_t *body_len, size_t *at)
{
	size_t room = 65536, n = 0, need = SIZE_MAX;
	char *p = malloc(room);

	while (p != NULL && n < need) {
		ssize_t got;

		if (n == room) {
			char *grown = realloc(p, room *= 2);
			if (grown == NULL)
				break;
			p = grown;
		}
		got = recv(fd, p + n, room - n, 0);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			break;
		n += (size_t)got;
		if (need == SIZE_MAX && ctl_head_parse(p, n, code, body_len, at) == 0)
			need = *at + *body_len;
	}
	if (p != NULL && need != SIZE_MAX && n >= need)
		return p;
	free(p);
	return NULL;
}

/* One question.  -1 and the answer, for the caller to free; EXIT_LOST when none came; another exit code,
 * after a sentence unless `quiet`. */
static int
ask_once(const struct command_line *c, int argc, char *const *argv, bool json, bool quiet, char **answer,
    unsigned *code, size_t *body, size_t *at)
{
	char line[CTL_LINE_MAX + 16] = "--json ";
	int n = ctl_join(line + 7, sizeof line - 7, argc, argv), fd;

	if (n < 0) {
		return ctl_fail(c->json, CTL_USAGE, "too long, or control characters in an argument");
	}
	fd = connect_to(c->runtime_dir);
	if (fd < 0) {
		int err = errno;

		if (!quiet)
			ctl_fail(c->json, 0, "%s/" CTL_SOCKET ": %s%s", c->runtime_dir, strerror(err),
			    err == EACCES ? "" : " (turnpiked is not running there)");
		return err == EACCES ? CTL_REFUSED : EXIT_NOT_RUNNING;
	}
	*answer = NULL;
	if (send_all(fd, json ? line : line + 7, (size_t)n + (json ? 7 : 0)))
		*answer = receive(fd, code, body, at);
	close(fd);
	return *answer != NULL ? -1 : EXIT_LOST;
}

/* May it be done twice?  What only asks may, and so may what sets a state. */
static bool
may_repeat(const char *command)
{
	static const char *const once[] = { "restart-workers", "upgrade", "close" };

	for (unsigned i = 0; i < TP_COUNT(once); i++)
		if (strcmp(command, once[i]) == 0)
			return false;
	return true;
}

/* As ask_once(), but a turnpike-admin that was replaced meanwhile is asked again. */
static int
ask(const struct command_line *c, int argc, char *const *argv, bool json, bool quiet, char **answer,
    unsigned *code, size_t *body, size_t *at)
{
	int n = EXIT_LOST;

	for (unsigned i = 0; i < TRIES && n == EXIT_LOST; i++) {
		n = ask_once(c, argc, argv, json, quiet, answer, code, body, at);
		if (!may_repeat(argv[0]))
			break;
	}
	if (n == EXIT_LOST && !quiet)
		ctl_fail(c->json, 0,
		    "turnpike-admin ended before it answered; the command may have been carried out "
		    "(turnpikectl status)");
	return n;
}

int
ctl_fail(bool json, int code, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	if (json) {
		json_t *o = json_pack("{s:s}", "error", text);

		json_dumpf(o, stdout, 0);
		putchar('\n');
		json_decref(o);
	} else {
		fprintf(stderr, "turnpikectl: %s\n", text);
	}
	return code;
}

int
ctl_ask_json(const struct command_line *c, const char *command, json_t **out)
{
	char word[32], *words[1] = { word }, *answer;
	size_t body, at;
	unsigned code;
	int n;

	text_copy(word, sizeof word, command);
	n = ask(c, 1, words, true, false, &answer, &code, &body, &at);
	if (n >= 0)
		return n;
	*out = json_loadb(answer + at, body, 0, NULL);
	free(answer);
	return *out != NULL ? -1 : ctl_fail(c->json, CTL_REFUSED, "the answer is not JSON");
}

/* With a file the daemon need not run. */
static int
doctor(const struct command_line *c)
{
	struct doctor_request q = { .json = c->json };
	char *answer = NULL;
	size_t body, at;
	unsigned code;
	int n;

	if (!doctor_arguments(&q, c->argc - 1, c->argv + 1)) {
		fprintf(
		    stderr, "usage: turnpikectl [--json] doctor %s\n", ctl_commands[CTL_CMD_DOCTOR].args);
		return CTL_USAGE;
	}
	n = ask(c, 1, c->argv, true, q.file != NULL, &answer, &code, &body, &at);
	if (n >= 0 && q.file == NULL)
		return n;
	if (n < 0 && code == CTL_OK) {
		q.answer = answer + at;
		q.answer_len = body;
	} else if (n < 0 && q.file == NULL) {
		fwrite(answer + at, 1, body, stderr);
		free(answer);
		return (int)code;
	}
	n = doctor_run(&q);
	free(answer);
	return fflush(stdout) == 0 ? n : CTL_REFUSED;
}

/* "-" of `user` and `secret` is a line of standard input: what is an argument can be seen by every user
 * of this host. */
static bool
read_hidden(struct command_line *c)
{
	static char line[1024];

	if (strcmp(c->argv[0], "user") != 0 && strcmp(c->argv[0], "secret") != 0)
		return true;
	for (int i = 1; i < c->argc; i++) {
		if (strcmp(c->argv[i], "-") != 0)
			continue;
		if (fgets(line, sizeof line, stdin) == NULL)
			return false;
		line[strcspn(line, "\r\n")] = '\0';
		c->argv[i] = line;
		return true;
	}
	return true;
}

int
main(int argc, char **argv)
{
	struct command_line c;
	size_t body = 0, at = 0;
	char *answer;
	unsigned code;
	int n = read_arguments(argc, argv, &c);

	if (n >= 0)
		return n;
	if (strcmp(c.argv[0], "doctor") == 0)
		return doctor(&c);
	if (strcmp(c.argv[0], "top") == 0)
		return ctl_top(&c);
	if (strcmp(c.argv[0], "passwd") == 0)
		return ctl_passwd(&c);
	if (!read_hidden(&c))
		return ctl_fail(c.json, CTL_USAGE, "nothing was read from standard input");
	n = ask(&c, c.argc, c.argv, c.json, false, &answer, &code, &body, &at);
	if (n >= 0)
		return n;
	/* What verify found is its result, not a message. */
	fwrite(answer + at, 1, body,
	    code == CTL_OK || c.json || (code == CTL_REFUSED && strcmp(c.argv[0], "verify") == 0) ? stdout
												  : stderr);
	free(answer);
	return fflush(stdout) == 0 ? (int)code : CTL_REFUSED;
}
