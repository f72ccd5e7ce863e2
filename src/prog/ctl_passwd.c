/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ctl_passwd.c: turnpikectl passwd: a password becomes the key of a `key_file`.  Nothing is sent anywhere.
 */
#include "config.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "ctl_local.h"

#define USAGE "usage: passwd USER [--realm REALM] [--md5]"

struct wish {
	const char *user, *realm;
	bool md5;
};

static bool
read_words(const struct command_line *c, struct wish *w)
{
	for (int i = 1; i < c->argc; i++) {
		if (strcmp(c->argv[i], "--md5") == 0)
			w->md5 = true;
		else if (strcmp(c->argv[i], "--realm") == 0 && i + 1 < c->argc)
			w->realm = c->argv[++i];
		else if (w->user == NULL && c->argv[i][0] != '-')
			w->user = c->argv[i];
		else
			return false;
	}
	return w->user != NULL && w->user[0] != '\0' && strchr(w->user, ':') == NULL &&
	    strlen(w->user) <= 508;
}

/* One line of stdin, without an echo on a terminal.  False: none. */
static bool
read_password(char *out, size_t size)
{
	struct termios was, quiet;
	bool terminal = tcgetattr(STDIN_FILENO, &was) == 0, ok;

	if (terminal) {
		quiet = was;
		quiet.c_lflag &= ~(tcflag_t)ECHO;
		fputs("Password: ", stderr);
		tcsetattr(STDIN_FILENO, TCSAFLUSH, &quiet);
	}
	ok = fgets(out, (int)size, stdin) != NULL;
	if (terminal) {
		tcsetattr(STDIN_FILENO, TCSAFLUSH, &was);
		fputc('\n', stderr);
	}
	if (ok)
		out[strcspn(out, "\r\n")] = '\0';
	return ok && out[0] != '\0';
}

int
ctl_passwd(const struct command_line *c)
{
	struct wish w = { .realm = "turnpike" };
	char password[512], text[1200], hex[2 * EVP_MAX_MD_SIZE + 1];
	uint8_t key[EVP_MAX_MD_SIZE];
	unsigned len;
	int n;

	if (!read_words(c, &w))
		return ctl_fail(c->json, CTL_USAGE, USAGE);
	if (!read_password(password, sizeof password))
		return ctl_fail(c->json, CTL_REFUSED, "no password on standard input");
	n = snprintf(text, sizeof text, "%s:%s:%s", w.user, w.realm, password);
	explicit_bzero(password, sizeof password);
	if (n < 0 || (size_t)n >= sizeof text ||
	    EVP_Digest(text, (size_t)n, key, &len, w.md5 ? EVP_md5() : EVP_sha256(), NULL) != 1)
		return ctl_fail(c->json, CTL_REFUSED, "the key cannot be made");
	explicit_bzero(text, sizeof text);
	text_hex(hex, key, len);
	if (c->json)
		printf("{\"user\": \"%s\", \"realm\": \"%s\", \"algorithm\": \"%s\", \"key\": \"%s\"}\n",
		    w.user, w.realm, w.md5 ? "md5" : "sha256", hex);
	else
		printf("%s\n", hex);
	return fflush(stdout) == 0 ? 0 : CTL_REFUSED;
}
