# worker
noinst_LIBRARIES += %D%/libtp_worker.a
%C%_libtp_worker_a_SOURCES = \
	%D%/control.c %D%/events.c %D%/path.c %D%/pending.c %D%/policy.c %D%/relays.c %D%/start.c %D%/tune.c \
	%D%/worker.c %D%/worker_int.h %D%/worklog.c %D%/accept.c %D%/stream.c \
	%D%/streamout.c %D%/proxy.c %D%/rest.c %D%/settle.c %D%/sealed.c %D%/shake.c %D%/tousher.c %D%/assoc.c \
	%D%/dtls.c
%C%_libtp_worker_a_CFLAGS = $(AM_CFLAGS) $(SODIUM_CFLAGS)
