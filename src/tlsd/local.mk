# tlsd
noinst_LIBRARIES += %D%/libtp_tlsd.a
%C%_libtp_tlsd_a_SOURCES = %D%/key_export.c %D%/tls_contexts.c %D%/hs_table.c %D%/hs_flight.c %D%/hs_stream.c %D%/hs_dgram.c %D%/hello_part.c %D%/hs_finish.c \
	%D%/worker_box.c 	%D%/tlsd.c %D%/tlsd_int.h
%C%_libtp_tlsd_a_CFLAGS = $(AM_CFLAGS) $(SSL_CFLAGS) $(CRYPTO_CFLAGS) $(SODIUM_CFLAGS)
