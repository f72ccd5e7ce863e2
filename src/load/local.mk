# load
noinst_LIBRARIES += %D%/libtp_load.a
%C%_libtp_load_a_SOURCES = %D%/load_int.h %D%/options.c %D%/run.c %D%/report.c %D%/worker.c %D%/conn.c %D%/control.c %D%/udp.c \
	%D%/stream.c %D%/dtls.c %D%/secure.c \
	%D%/peer.c %D%/batch.c %D%/payload.c %D%/account.c %D%/hist.c %D%/cpu.c %D%/host.c \
	%D%/hostport.c %D%/hostqueue.c
%C%_libtp_load_a_CFLAGS = $(AM_CFLAGS) $(SSL_CFLAGS) $(CRYPTO_CFLAGS) $(JANSSON_CFLAGS) -pthread
