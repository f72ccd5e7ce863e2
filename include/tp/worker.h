/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * worker.h: the life of a worker.  Adopts its shards, moves datagrams between sockets and the TURN core,
 * carries out what the core says.  Opens, binds and connects nothing: every descriptor comes from the
 * supervisor.
 */
#ifndef TP_WORKER_H
#define TP_WORKER_H

/*
 * turnpike-worker INDEX.  Talks to the supervisor on CHILD_FD_CONTROL (tp/msg.h), logs to CHILD_FD_LOG.
 * Returns the exit code: 0 when told to stop or when the supervisor is gone.  What cannot be served ends
 * the process with a sentence in the log and in the last words of its STAT region.
 */
int worker_run(int argc, char **argv);

#endif
