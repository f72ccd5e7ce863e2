# usher
noinst_LIBRARIES += %D%/libtp_usher.a
%C%_libtp_usher_a_SOURCES = %D%/export.c %D%/certs.c %D%/table.c %D%/flight.c %D%/stream.c %D%/dgram.c %D%/finish.c \
	%D%/toworker.c 	%D%/usher.c %D%/usher_int.h
%C%_libtp_usher_a_CFLAGS = $(AM_CFLAGS) $(SSL_CFLAGS) $(CRYPTO_CFLAGS) $(SODIUM_CFLAGS)
