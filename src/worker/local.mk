# worker
noinst_LIBRARIES += %D%/libtp_worker.a
%C%_libtp_worker_a_SOURCES = \
	%D%/accept.c %D%/assoc.c %D%/assoc_index.c %D%/batch.c %D%/conn_admit.c %D%/conn_end.c \
	%D%/conn_mark.c %D%/conn_resume.c %D%/conn_settle.c %D%/conn_tx.c %D%/conns.h %D%/core_act.c \
	%D%/dtls.c %D%/dtls_hello.c %D%/events.c %D%/followed_policy.c %D%/handshake.c %D%/idle_socket.c %D%/lane.c %D%/lane.h \
	%D%/lane_tune.c %D%/limit_values.c %D%/log_once.c %D%/outbox.c %D%/pending.c %D%/poisoned.c %D%/proxy.c %D%/relay_state.c \
	%D%/relay_sockets.h %D%/relays.c %D%/session_adopt.c %D%/start.c %D%/stream_in.c \
	%D%/stream_out.c %D%/tls.c %D%/tlsd_box.c %D%/udp_in.c %D%/udp_out.c %D%/worker.c \
	%D%/worker_control.c %D%/worker_int.h %D%/worker_keys.c %D%/worker_policy.c %D%/worklog.c
%C%_libtp_worker_a_CFLAGS = $(AM_CFLAGS) $(SODIUM_CFLAGS)
