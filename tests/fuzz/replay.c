/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * replay.c: main() of a fuzzer without an engine: every file of the directories given goes through it
 * once.  Options (an engine's) are ignored.  Finding no file at all is a failure.
 */
#include "config.h"

#include <dirent.h>
#include <err.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "fuzz.h"

#define INPUT_MAX (1u << 20)

static void
replay_file(const char *path, size_t size)
{
	/* Exactly as large as the file, so that a sanitizer sees the first byte read beyond it. */
	uint8_t *data = malloc(size > 0 ? size : 1);
	FILE *f = fopen(path, "rb");

	if (data == NULL || f == NULL)
		err(1, "%s", path);
	if (fread(data, 1, size, f) != size)
		errx(1, "%s: short read", path);
	fclose(f);
	printf("%s\n", path); /* flushed first: the last line names the one that crashes */
	fflush(stdout);
	LLVMFuzzerTestOneInput(data, size);
	free(data);
}

static unsigned
replay_directory(const char *dir)
{
	DIR *d = opendir(dir);
	struct dirent *e;
	unsigned n = 0;

	if (d == NULL)
		err(1, "%s", dir);
	while ((e = readdir(d)) != NULL) {
		char path[PATH_MAX];
		struct stat st;

		if (snprintf(path, sizeof path, "%s/%s", dir, e->d_name) >= (int)sizeof path)
			errx(1, "%s: name too long", dir);
		if (stat(path, &st) != 0)
			err(1, "%s", path);
		if (!S_ISREG(st.st_mode) || st.st_size > INPUT_MAX)
			continue;
		replay_file(path, (size_t)st.st_size);
		n++;
	}
	closedir(d);
	return n;
}

int
main(int argc, char **argv)
{
	unsigned n = 0;

	for (int i = 1; i < argc; i++)
		if (argv[i][0] != '-')
			n += replay_directory(argv[i]);
	printf("%u inputs\n", n);
	return n > 0 ? 0 : 1;
}
