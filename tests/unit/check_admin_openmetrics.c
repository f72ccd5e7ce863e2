/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_admin_openmetrics.c: a small reader of OpenMetrics text, strict where scrapers are: families
 * declared before their samples and only once, suffixes by type, quoting of labels, numbers, cumulative
 * buckets, the end.
 */
#include "config.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check_admin.h"

#define FAMILIES 200

struct reader {
	char family[FAMILIES][80], type[16];
	unsigned families;
	double bucket;
	char series[300], seen[200000];
};

/* HELP first, then TYPE. */
static void
declare(struct reader *r, const char *line)
{
	char name[80], type[16];

	if (sscanf(line, "# HELP %79s", name) == 1) {
		for (unsigned i = 0; i < r->families; i++)
			ck_assert_msg(strcmp(r->family[i], name) != 0, "declared twice: %s", name);
		ck_assert_uint_lt(r->families, FAMILIES);
		strcpy(r->family[r->families++], name);
		r->series[0] = '\0';
		return;
	}
	ck_assert_msg(sscanf(line, "# TYPE %79s %15s", name, type) == 2, "what is this: %s", line);
	ck_assert_str_eq(name, r->family[r->families - 1]);
	strcpy(r->type, type);
}

static const char *
check_labels(const char *p)
{
	do {
		p++;
		ck_assert_msg(isalpha((unsigned char)*p) || *p == '_', "label: %s", p);
		while (isalnum((unsigned char)*p) || *p == '_')
			p++;
		ck_assert_msg(p[0] == '=' && p[1] == '"', "label without value: %s", p);
		for (p += 2; *p != '"'; p++)
			ck_assert_msg(*p != '\0' && *p != '\\' && *p != '\n', "label value");
		p++;
	} while (*p == ',');
	ck_assert_msg(*p == '}', "labels do not end: %s", p);
	return p + 1;
}

static void
check_suffix(const struct reader *r, const char *name, size_t len)
{
	const char *family = r->family[r->families - 1], *want = "";
	char full[120];

	snprintf(full, sizeof full, "%s_sum", family);
	if (strcmp(r->type, "histogram") == 0 && strncmp(full, name, len) == 0)
		return;
	snprintf(full, sizeof full, "%s_count", family);
	if (strcmp(r->type, "histogram") == 0 && strncmp(full, name, len) == 0)
		return;
	if (strcmp(r->type, "counter") == 0)
		want = "_total";
	else if (strcmp(r->type, "info") == 0)
		want = "_info";
	else if (strcmp(r->type, "histogram") == 0)
		want = "_bucket";
	else
		ck_assert_str_eq(r->type, "gauge");
	snprintf(full, sizeof full, "%s%s", family, want);
	ck_assert_msg(strlen(full) == len && memcmp(full, name, len) == 0, "%.*s in family %s", (int)len,
	    name, family);
}

/* Buckets of one series grow and end with +Inf. */
static void
check_bucket(struct reader *r, const char *labels, double value)
{
	const char *le = strstr(labels, "le=\"");
	size_t n = le != NULL ? (size_t)(le - labels) : 0;

	ck_assert_ptr_nonnull(le);
	if (strncmp(r->series, labels, n) != 0 || r->series[0] == '\0')
		r->bucket = 0;
	snprintf(r->series, sizeof r->series, "%.*s", (int)n, labels);
	ck_assert_msg(value >= r->bucket, "bucket shrinks: %s", labels);
	r->bucket = value;
	if (strstr(le, "+Inf") != NULL)
		r->series[0] = '\0';
}

static void
check_sample(struct reader *r, char *line)
{
	size_t n = strspn(line, "abcdefghijklmnopqrstuvwxyz0123456789_");
	const char *p = line + n;
	char *end, key[400];
	double value;

	ck_assert_uint_gt(r->families, 0);
	check_suffix(r, line, n);
	if (*p == '{')
		p = check_labels(p);
	ck_assert_msg(*p == ' ', "no value: %s", line);
	snprintf(key, sizeof key, "\n%.*s ", (int)(p - line), line);
	ck_assert_msg(strstr(r->seen, key) == NULL, "told twice: %s", line);
	ck_assert_uint_lt(strlen(r->seen) + strlen(key), sizeof r->seen);
	strcat(r->seen, key);
	value = strtod(p + 1, &end);
	ck_assert_msg(end != p + 1 && *end == '\0', "value: %s", line);
	if (strcmp(r->type, "histogram") == 0 && strncmp(line + n - 7, "_bucket", 7) == 0)
		check_bucket(r, line, value);
}

void
openmetrics_check(char *text)
{
	struct reader *r = calloc(1, sizeof *r);
	size_t len = strlen(text);
	char *save, *line;
	bool ended = false;

	ck_assert_uint_gt(len, 6);
	ck_assert_str_eq(text + len - 6, "# EOF\n");
	for (line = strtok_r(text, "\n", &save); line != NULL; line = strtok_r(NULL, "\n", &save)) {
		ck_assert_msg(!ended, "after the end: %s", line);
		if (strcmp(line, "# EOF") == 0)
			ended = true;
		else if (line[0] == '#')
			declare(r, line);
		else
			check_sample(r, line);
	}
	free(r);
}
