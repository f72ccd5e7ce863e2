/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ctl_top.c: turnpikectl top: a live screen made from `status` and `limits`; one plain page where there
 * is no terminal.
 */
#include "config.h"

#include <signal.h>
#include <unistd.h>

#include "ctl_local.h"

#define BEGIN_SCREEN "\033[?1049h\033[?25l"
#define END_SCREEN   "\033[?25h\033[?1049l"
#define HOME         "\033[H"
#define CLEAR_LINE   "\033[K\n"
#define CLEAR_REST   "\033[J"

static volatile sig_atomic_t ended;

static void
on_signal(int signo)
{
	(void)signo;
	ended = 1;
}

static const char *
str(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s != NULL ? s : "-";
}

static long long
num(const json_t *o, const char *key)
{
	return json_integer_value(json_object_get(o, key));
}

static void
show_processes(const json_t *status, const char *eol)
{
	const json_t *p;
	size_t i;

	printf("%-12s %8s %-10s %10s %10s %8s%s", "PROCESS", "PID", "STATE", "PACKETS/S", "SESSIONS",
	    "DEATHS", eol);
	json_array_foreach(json_object_get(status, "processes"), i, p)
	    printf("%-9s %2lld %8lld %-10s %10lld %10lld %8lld%s", str(p, "process"), num(p, "index"),
		num(p, "pid"), str(p, "state"), num(p, "packets_per_second"), num(p, "sessions"),
		num(p, "deaths"), eol);
}

static void
show_rows(const json_t *list, const char *title, const char *key, const char *eol)
{
	const json_t *x;
	size_t i;

	if (json_array_size(list) == 0)
		return;
	printf("%s%-40s %10s%s", eol, title, "SESSIONS", eol);
	json_array_foreach(list, i, x) if (i < 8) printf("%-40.40s %10lld%s%s", str(x, key),
	    num(x, "sessions"), json_is_true(json_object_get(x, "near")) ? "  near the limit" : "", eol);
}

static void
show(const json_t *status, const json_t *limits, bool screen)
{
	const char *eol = screen ? CLEAR_LINE : "\n", *name;
	const json_t *x;
	size_t i;

	if (screen)
		fputs(HOME, stdout);
	printf("turnpike %s  up %lld s  %s%s  sessions %lld  packets/s %lld%s%s", str(status, "version"),
	    num(status, "uptime_seconds"),
	    json_is_true(json_object_get(status, "ready")) ? "ready" : "NOT READY",
	    json_is_true(json_object_get(status, "draining")) ? ", draining" : "", num(status, "sessions"),
	    num(status, "packets_per_second"), eol, eol);
	show_processes(status, eol);
	json_array_foreach(json_object_get(limits, "ports"), i, x)
	    printf("%sports of %s: %lld used, %lld free%s", i == 0 ? eol : "", str(x, "address"),
		num(x, "used"), num(x, "free"), eol);
	show_rows(json_object_get(limits, "users"), "USER", "user", eol);
	show_rows(json_object_get(limits, "prefixes"), "CLIENT", "prefix", eol);
	json_object_foreach(
	    (json_t *)json_object_get(limits, "refused"), name, x) if (json_integer_value(x) > 0)
	    printf("refused by %s: %lld%s", name, (long long)json_integer_value(x), eol);
	if (screen)
		fputs(CLEAR_REST, stdout);
	fflush(stdout);
}

/* The exit code, -1: shown. */
static int
once(const struct command_line *c, bool screen)
{
	json_t *status = NULL, *limits = NULL;
	int n = ctl_ask_json(c, "status", &status);

	if (n < 0)
		n = ctl_ask_json(c, "limits", &limits);
	if (n < 0 && c->json) {
		json_t *both = json_pack("{s:O, s:O}", "status", status, "limits", limits);

		json_dumpf(both, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
		putchar('\n');
		json_decref(both);
	} else if (n < 0) {
		show(status, limits, screen);
	}
	json_decref(status);
	json_decref(limits);
	return n;
}

int
ctl_top(const struct command_line *c)
{
	bool screen = isatty(STDOUT_FILENO) && !c->json;
	const struct sigaction sa = { .sa_handler = on_signal };
	int n;

	if (!screen)
		return (n = once(c, false)) < 0 ? 0 : n;
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	fputs(BEGIN_SCREEN, stdout);
	while ((n = once(c, true)) < 0 && !ended)
		sleep(2);
	fputs(END_SCREEN, stdout);
	return n < 0 ? 0 : n;
}
