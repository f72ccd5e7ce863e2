/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ctl_commands.c: the table of commands and what is written from it.
 */
#include "config.h"

#include "tp/admin.h"

const struct ctl_command_row ctl_commands[CTL_COMMANDS] = {
#define COMMAND(name, word, args, help) { word, args, help },
#include "tp/tbl/commands.def"
#undef COMMAND
};

int
ctl_command_find(const char *word)
{
	for (int i = 0; i < CTL_COMMANDS; i++)
		if (strcmp(ctl_commands[i].word, word) == 0)
			return i;
	return -1;
}

void
ctl_commands_help(FILE *f)
{
	for (int i = 0; i < CTL_COMMANDS; i++)
		fprintf(f, "  %s%s%s\n      %s\n", ctl_commands[i].word,
		    ctl_commands[i].args[0] != '\0' ? " " : "", ctl_commands[i].args, ctl_commands[i].help);
}

void
ctl_commands_man(FILE *f)
{
	fputs(".Bl -tag -width Ds\n", f);
	for (int i = 0; i < CTL_COMMANDS; i++) {
		fprintf(f, ".It Cm %s", ctl_commands[i].word);
		if (ctl_commands[i].args[0] != '\0')
			fprintf(f, " No %s", ctl_commands[i].args);
		fputc('\n', f);
		text_print_mdoc(ctl_commands[i].help, f);
	}
	fputs(".El\n", f);
}
