# shm
noinst_LIBRARIES += %D%/libtp_shm.a
%C%_libtp_shm_a_SOURCES = %D%/region.c %D%/lock.c %D%/crash.c %D%/stat.c %D%/secret.c %D%/ledger_names.c %D%/port_map.c
%C%_libtp_shm_a_CFLAGS = $(AM_CFLAGS) $(SODIUM_CFLAGS)
