# stun
noinst_LIBRARIES += %D%/libtp_stun.a
%C%_libtp_stun_a_SOURCES = %D%/frame.c %D%/stun_msg.c %D%/attr.c %D%/build.c %D%/sign.c %D%/stun_int.h
%C%_libtp_stun_a_CFLAGS = $(AM_CFLAGS) $(CRYPTO_CFLAGS) $(SODIUM_CFLAGS)
