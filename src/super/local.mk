noinst_LIBRARIES += %D%/libtp_super.a
%C%_libtp_super_a_SOURCES = %D%/super_int.h %D%/ledger.c
%C%_libtp_super_a_CFLAGS = $(AM_CFLAGS) $(SODIUM_CFLAGS)
