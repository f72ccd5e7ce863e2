/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * suggest.c: "did you mean": the nearest name by edit distance.
 */
#include "config.h"

#include "conf_int.h"

#define NAME_MAX_LEN 48

static unsigned
min3(unsigned a, unsigned b, unsigned c)
{
	unsigned m = a < b ? a : b;

	return m < c ? m : c;
}

/* Insertions, deletions, replacements; one row of the usual table. */
static unsigned
distance(const char *a, const char *b)
{
	unsigned row[NAME_MAX_LEN + 1], na = (unsigned)strlen(a), nb = (unsigned)strlen(b);

	if (na > NAME_MAX_LEN || nb > NAME_MAX_LEN)
		return UINT32_MAX;
	for (unsigned j = 0; j <= nb; j++)
		row[j] = j;
	for (unsigned i = 1; i <= na; i++) {
		unsigned diagonal = row[0];

		row[0] = i;
		for (unsigned j = 1; j <= nb; j++) {
			unsigned up = row[j];

			row[j] = min3(up + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1]));
			diagonal = up;
		}
	}
	return row[nb];
}

/* Near enough to be a slip of the fingers. */
static bool
is_near(unsigned d, const char *wrong)
{
	size_t n = strlen(wrong);

	return d <= (n < 4 ? 1u : n < 8 ? 2u : 3u);
}

const char *
suggest(struct load *l, const char *wrong, const char *const *names, unsigned count)
{
	unsigned best = UINT32_MAX;
	const char *name = "";

	for (unsigned i = 0; i < count; i++) {
		unsigned d = distance(wrong, names[i]);

		if (d < best) {
			best = d;
			name = names[i];
		}
	}
	return is_near(best, wrong) ? load_printf(l, "; did you mean %s?", name) : "";
}

/* ": allowed: A, B, C", each name once. */
static const char *
all_names(struct load *l, const char *const *names, unsigned count)
{
	const char *text = "";

	for (unsigned i = 0; i < count; i++)
		if (i == 0 || strcmp(names[i], names[i - 1]) != 0) /* a section's rows stand together */
			text = load_printf(l, "%s%s%s", text, i == 0 ? ": allowed: " : ", ", names[i]);
	return text;
}

const char *
suggest_or_list(struct load *l, const char *wrong, const char *const *names, unsigned count)
{
	const char *near = suggest(l, wrong, names, count);

	return near[0] != '\0' ? near : all_names(l, names, count);
}

/* Names within the section first; else the same name in another section, else all that there are;
 * top-level names where prefix is "". */
const char *
suggest_option(struct load *l, const char *prefix, const char *wrong)
{
	const char *names[OPTION_COUNT + 1], *near;
	size_t n = strlen(prefix);
	unsigned count = 0;

	if (n == 0)
		names[count++] = "include";
	for (unsigned i = 0; i < OPTION_COUNT; i++) {
		const char *path = option_rows[i].path, *dot;

		if (strncmp(path, prefix, n) != 0)
			continue;
		dot = strchr(path + n, '.');
		names[count++] = dot == NULL ? path + n : load_printf(l, "%.*s", (int)(dot - path), path);
	}
	near = suggest(l, wrong, names, count);
	if (near[0] != '\0')
		return near;
	for (unsigned i = 0; i < OPTION_COUNT; i++) {
		const char *dot = strchr(option_rows[i].path, '.');

		if (dot != NULL && strcmp(dot + 1, wrong) == 0)
			return load_printf(l, "; did you mean %s?", option_rows[i].path);
	}
	return all_names(l, names, count);
}
