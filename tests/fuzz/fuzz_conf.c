/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz_conf.c: the configuration reader on arbitrary text: what it accepts is valid and is read back the
 * same from its dump.
 */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>

#include "fuzz.h"
#include "tp/conf.h"

static const struct conf_host host = {
	.addr_count = 2,
	.addr = { { .family = ADDR_V4, .ip = { 192, 0, 2, 10 } },
	    { .family = ADDR_V6, .ip = { 0x20, 0x01, 0x0d, 0xb8, [15] = 1 } } },
	.route = { { .family = ADDR_V4, .ip = { 192, 0, 2, 10 } },
	    { .family = ADDR_V6, .ip = { 0x20, 0x01, 0x0d, 0xb8, [15] = 1 } } },
};

/* One line, terminated, counted. */
static void
on_report(void *arg, enum log_level level, const char *text)
{
	unsigned *errors = arg;

	FUZZ_ASSERT(text[0] != '\0' && strchr(text, '\n') == NULL);
	*errors += level == LOG_L_ERROR;
}

static int
load(const char *text, size_t len, struct conf *c)
{
	unsigned errors = 0;
	struct conf_request rq = {
		.text = text, .text_len = len, .host = &host, .report = on_report, .arg = &errors
	};
	struct users *users = NULL;
	size_t users_len = 0;
	int rc = conf_load(&rq, c, &users, &users_len);

	FUZZ_ASSERT((rc == 0) == (errors == 0));
	if (rc == 0) {
		FUZZ_ASSERT(conf_validate(c, sizeof *c) == 0);
		FUZZ_ASSERT(users_validate(users, users_len) == 0);
	}
	free(users);
	return rc;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct conf a, b;
	char *text = NULL;
	size_t len;
	FILE *f;

	if (load((const char *)data, size, &a) < 0)
		return 0;
	f = open_memstream(&text, &len);
	FUZZ_ASSERT(f != NULL);
	conf_dump(&a, f);
	fclose(f);
	FUZZ_ASSERT(load(text, len, &b) == 0);
	a.user_count = a.secret_count = b.user_count = b.secret_count = 0; /* never dumped */
	FUZZ_ASSERT(conf_diff(&a, &b, NULL, NULL) == 0);
	free(text);
	return 0;
}
