# worker
noinst_LIBRARIES += %D%/libtp_worker.a
%C%_libtp_worker_a_SOURCES = \
	%D%/worker_control.c %D%/events.c %D%/datapath.c %D%/pending.c %D%/worker_policy.c %D%/followed_policy.c %D%/relays.c %D%/start.c %D%/lane_tune.c \
	%D%/worker.c %D%/worker_int.h %D%/worklog.c %D%/log_once.c %D%/accept.c %D%/stream.c \
	%D%/streamout.c %D%/proxy.c %D%/idle_socket.c %D%/conn_settle.c %D%/tls.c %D%/handshake.c %D%/tlsd_box.c %D%/assoc.c \
	%D%/dtls.c %D%/dtls_hello.c
%C%_libtp_worker_a_CFLAGS = $(AM_CFLAGS) $(SODIUM_CFLAGS)
