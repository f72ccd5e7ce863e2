# unit tests of super
if HAVE_CHECK
check_PROGRAMS += %D%/check_super
TESTS += %D%/check_super
%C%_check_super_SOURCES = %D%/check_super.c %D%/check_super.h %D%/check_super_carry.c %D%/check_super_children.c %D%/check_super_pool.c \
	%D%/check_super_start.c
%C%_check_super_CFLAGS = $(AM_CFLAGS) $(CHECK_CFLAGS) $(SODIUM_CFLAGS)
%C%_check_super_LDADD = src/super/libtp_super.a src/conf/libtp_conf.a src/state/libtp_state.a src/shm/libtp_shm.a \
	src/io/libtp_io.a src/base/libtp_base.a $(CHECK_LIBS) $(SODIUM_LIBS)
endif
