# base
noinst_LIBRARIES += %D%/libtp_base.a
%C%_libtp_base_a_SOURCES = %D%/addr.c %D%/text.c %D%/log.c %D%/mdoc.c %D%/base_int.h
