/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * mdoc.c: text of the tables as input of mdoc(7), for the generated parts of the manuals.
 */
#include "config.h"

#include <stdbool.h>
#include <string.h>

#include "tp/base.h"

#define WIDTH 72

/* Prints one word; returns how many bytes that took.  `code` is bold; *bold says whether a backquote is
 * open. */
static size_t
print_word(const char *word, size_t len, bool *bold, FILE *f)
{
	size_t printed = 0;

	for (size_t i = 0; i < len; i++) {
		if (word[i] == '`') {
			*bold = !*bold;
			printed += (size_t)fprintf(f, *bold ? "\\fB" : "\\fR");
		} else if (word[i] == '\\') {
			printed += (size_t)fprintf(f, "\\e");
		} else {
			putc(word[i], f);
			printed++;
		}
	}
	return printed;
}

void
text_print_mdoc(const char *text, FILE *f)
{
	bool bold = false;
	size_t col = 0;

	while (*text != '\0') {
		size_t len = strcspn(text, " ");
		bool ends = len > 1 && text[len - 1] == '.'; /* a sentence, most probably */

		if (col > 0 && col + 1 + len > WIDTH) {
			putc('\n', f);
			col = 0;
		}
		if (col > 0)
			putc(' ', f);
		else if (*text == '.' || *text == '\'')
			fputs("\\&", f);
		col += print_word(text, len, &bold, f) + 1;
		text += len;
		text += strspn(text, " ");
		if (ends && *text != '\0') {
			putc('\n', f);
			col = 0;
		}
	}
	putc('\n', f);
}
