# prog
pkglibexec_PROGRAMS += %D%/turnpike-auth
%C%_turnpike_auth_SOURCES = %D%/turnpike-auth.c
%C%_turnpike_auth_CFLAGS = $(AM_CFLAGS) -pthread
%C%_turnpike_auth_LDADD = src/authd/libtp_authd.a src/db/libtp_db.a src/child/libtp_child.a src/auth/libtp_auth.a src/stun/libtp_stun.a src/conf/libtp_conf.a \
	src/shm/libtp_shm.a src/io/libtp_io.a src/base/libtp_base.a $(PGSQL_LIBS) $(HIREDIS_LIBS) $(SQLITE_LIBS) $(MARIADB_LIBS) \
	$(CURL_LIBS) $(JANSSON_LIBS) $(SSL_LIBS) $(SODIUM_LIBS) $(CRYPTO_LIBS)
pkglibexec_PROGRAMS += %D%/turnpike-conf
%C%_turnpike_conf_SOURCES = %D%/turnpike-conf.c
%C%_turnpike_conf_CFLAGS = $(AM_CFLAGS) $(SODIUM_CFLAGS)
%C%_turnpike_conf_LDADD = src/doctor/libtp_doctor.a src/conf/libtp_conf_yaml.a src/outside/libtp_outside.a src/stun/libtp_stun.a src/conf/libtp_conf.a \
	src/io/libtp_io.a src/base/libtp_base.a $(YAML_LIBS) $(SODIUM_LIBS) $(CRYPTO_LIBS)
sbin_PROGRAMS += %D%/turnpiked
%C%_turnpiked_SOURCES = %D%/turnpiked.c
%C%_turnpiked_LDADD = src/super/libtp_super.a src/conf/libtp_conf.a src/state/libtp_state.a src/shm/libtp_shm.a \
	src/io/libtp_io.a src/base/libtp_base.a $(SODIUM_LIBS)
pkglibexec_PROGRAMS += %D%/turnpike-worker
%C%_turnpike_worker_SOURCES = %D%/turnpike-worker.c
%C%_turnpike_worker_LDADD = src/worker/libtp_worker.a src/child/libtp_child.a src/seal/libtp_seal.a src/turn/libtp_turn.a src/auth/libtp_auth.a \
	src/state/libtp_state.a src/stun/libtp_stun.a src/conf/libtp_conf.a src/shm/libtp_shm.a src/io/libtp_io.a \
	src/base/libtp_base.a $(SODIUM_LIBS) $(CRYPTO_LIBS)
pkglibexec_PROGRAMS += %D%/turnpike-admin
%C%_turnpike_admin_SOURCES = %D%/turnpike-admin.c
%C%_turnpike_admin_LDADD = src/admin/libtp_admin.a src/child/libtp_child.a src/auth/libtp_auth.a \
	src/state/libtp_state.a src/stun/libtp_stun.a src/conf/libtp_conf.a src/shm/libtp_shm.a src/io/libtp_io.a \
	src/base/libtp_base.a $(JANSSON_LIBS) $(MHD_LIBS) $(SODIUM_LIBS) $(CRYPTO_LIBS)
bin_PROGRAMS += %D%/turnpikectl
%C%_turnpikectl_SOURCES = %D%/turnpikectl.c %D%/ctl_top.c %D%/ctl_passwd.c %D%/ctl_local.h
%C%_turnpikectl_CFLAGS = $(AM_CFLAGS) $(JANSSON_CFLAGS)
%C%_turnpikectl_LDADD = src/admin/libtp_admin.a src/doctor/libtp_doctor.a src/conf/libtp_conf_yaml.a src/conf/libtp_conf.a \
	src/io/libtp_io.a src/base/libtp_base.a $(JANSSON_LIBS) $(YAML_LIBS) $(SODIUM_LIBS) $(CRYPTO_LIBS)
# turnpike-load
bin_PROGRAMS += %D%/turnpike-load
%C%_turnpike_load_SOURCES = %D%/turnpike-load.c
%C%_turnpike_load_CFLAGS = $(AM_CFLAGS) -pthread
%C%_turnpike_load_LDADD = src/load/libtp_load.a src/stun/libtp_stun.a src/base/libtp_base.a \
	$(JANSSON_LIBS) $(SSL_LIBS) $(SODIUM_LIBS) $(CRYPTO_LIBS)
pkglibexec_PROGRAMS += %D%/turnpike-tls
%C%_turnpike_tls_SOURCES = %D%/turnpike-tls.c
%C%_turnpike_tls_LDADD = src/tlsd/libtp_tlsd.a src/child/libtp_child.a src/seal/libtp_seal.a src/conf/libtp_conf.a src/shm/libtp_shm.a \
	src/io/libtp_io.a src/base/libtp_base.a $(SSL_LIBS) $(SODIUM_LIBS) $(CRYPTO_LIBS)
