/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * super.h: the supervisor.  Binds, spawns, reaps, recovers, reloads.  Holds every socket and region; reads
 * not one byte that came from the network and parses no configuration.  Gets its children as a table.
 * Errors: 0 or -errno.
 */
#ifndef TP_SUPER_H
#define TP_SUPER_H

#include "tp/conf.h"
#include "tp/io.h"
#include "tp/ledger.h"
#include "tp/state.h"

/* What turnpiked's command line says. */
struct super_options {
	const char *config;      /* absolute path; NULL: none */
	const char *runtime_dir; /* absolute */
	const char *state_dir;   /* where a generated secret is kept */
	const char *libexec_dir; /* where the children's binaries are */
	const char *const *sets;
	unsigned set_count;
	bool foreground;
	int argc; /* as given, for an upgrade */
	char **argv;
};
/* A kind of child: the table in prog/turnpiked.c. */
struct super_program {
	enum proc_role role;
	const char *binary;
};

/* Runs until stopped; the exit code of turnpiked (0, 69 cannot bind, 78 configuration, 70 internal). */
int super_run(const struct super_options *o, const struct super_program *programs, unsigned n);

/* Goes on where another image of the supervisor stopped: with what that one wrote to `state_fd`, and
 * every descriptor.  `failed`: NULL, or why a newer image came back to this one. */
int super_run_on(const struct super_options *o, const struct super_program *programs, unsigned n,
    int state_fd, const char *failed);
/* Could it?  Reads the state, maps every region, changes nothing.  Says "ok" or why not on descriptor
 * 3; exit code. */
int super_probe(
    const struct super_options *o, const struct super_program *programs, unsigned n, int state_fd);

#endif
