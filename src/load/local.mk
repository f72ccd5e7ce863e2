# load
noinst_LIBRARIES += %D%/libtp_load.a
%C%_libtp_load_a_SOURCES = %D%/load_int.h %D%/load_options.c %D%/run.c %D%/load_report.c %D%/load_thread.c %D%/load_conn.c %D%/load_control.c %D%/udp.c \
	%D%/load_stream.c %D%/load_dtls.c %D%/secure.c \
	%D%/peer.c %D%/load_batch.c %D%/payload.c %D%/load_account.c %D%/hist.c %D%/cpu.c %D%/host.c \
	%D%/hostport.c %D%/hostqueue.c
%C%_libtp_load_a_CFLAGS = $(AM_CFLAGS) $(SSL_CFLAGS) $(CRYPTO_CFLAGS) $(JANSSON_CFLAGS) -pthread
