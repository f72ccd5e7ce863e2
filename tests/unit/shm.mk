# unit tests of shm
if HAVE_CHECK
check_PROGRAMS += %D%/check_shm
TESTS += %D%/check_shm
%C%_check_shm_SOURCES = %D%/check_shm.c
%C%_check_shm_CFLAGS = $(AM_CFLAGS) $(CHECK_CFLAGS)
%C%_check_shm_LDADD = src/shm/libtp_shm.a src/base/libtp_base.a $(CHECK_LIBS) $(SODIUM_LIBS)
endif
