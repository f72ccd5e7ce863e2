# prog
pkglibexec_PROGRAMS += %D%/turnpike-conf
%C%_turnpike_conf_SOURCES = %D%/turnpike-conf.c
%C%_turnpike_conf_CFLAGS = $(AM_CFLAGS) $(SODIUM_CFLAGS)
%C%_turnpike_conf_LDADD = src/conf/libtp_conf_yaml.a src/conf/libtp_conf.a src/io/libtp_io.a src/base/libtp_base.a \
	$(YAML_LIBS) $(SODIUM_LIBS)
