# The real daemon, from the build tree or (TP_PREFIX) installed, each test in a network namespace of its own.
TEST_EXTENSIONS = .py .sh
PY_LOG_COMPILER = $(PYTHON3)
TP_LIVE = %D%/live_basic.py
TP_LIVE += %D%/live_survive.py
TP_LIVE += %D%/live_ports.py
TP_LIVE += %D%/live_conf.py
TP_LIVE += %D%/live_engine.py
TP_LIVE += %D%/live_path.py
TP_LIVE += %D%/live_cli.py
TP_LIVE += %D%/live_policy.py
TP_LIVE += %D%/live_own_ports.py
TP_LIVE += %D%/live_abuse.py
TP_LIVE += %D%/live_ops.py
TP_LIVE += %D%/live_addresses.py
TP_LIVE += %D%/live_init.py
TP_LIVE += %D%/live_survival.py
TP_LIVE += %D%/live_stand_by.py
TP_LIVE += %D%/live_tcp.py
TP_LIVE += %D%/live_streams.py
TP_LIVE += %D%/live_tls.py
TP_LIVE += %D%/live_shakes.py
TP_LIVE += %D%/live_crowd.py
TP_LIVE += %D%/live_doctor.py
TP_LIVE += %D%/live_floods.py
TP_LIVE += %D%/live_dtls.py
TP_LIVE += %D%/live_soak.py
TP_LIVE += %D%/live_supervisor.py
TP_LIVE += %D%/live_operations.py
TP_LIVE += %D%/live_kills.py
TP_LIVE += %D%/live_convert.py
TP_LIVE += %D%/live_external.py
TP_LIVE += %D%/live_container.py
TP_LIVE += %D%/live_manifests.py
TP_LIVE += %D%/live_reasons.py
TP_LIVE += %D%/live_metrics.py
TP_LIVE += %D%/live_databases.py
TP_LIVE += %D%/live_databases_more.py
TP_LIVE += %D%/live_databases_load.py
TP_LIVE += %D%/live_commands.py
TP_LIVE += %D%/live_rings.py
TP_LIVE += %D%/live_corpus.py
TP_LIVE += %D%/live_examples.py
TP_LIVE += %D%/live_families.py
EXTRA_DIST += tests/corpus
TP_LIVE += %D%/live_renew.py
TP_LIVE += %D%/live_memory.py
TP_LIVE += %D%/live_alternate.py
TP_LIVE += %D%/live_office.py
# `make check` runs a short set; `make check-live` runs all of them.
TESTS += %D%/live_basic.py %D%/live_survive.py %D%/live_conf.py %D%/live_path.py %D%/live_policy.py %D%/live_tcp.py \
	%D%/live_ops.py
.PHONY: check-live
check-live: all
	$(MAKE) check TESTS='$(TP_LIVE) $(TP_LOAD)'
# The long versions: a death at each marked point 100 times and 10,000 at random, thousands of kills of the daemon's
# workers, as many allocations as the descriptor limit allows, the model, ten minutes of load with churn
# (TP_SOAK_SECONDS).
.PHONY: soak
soak: all spin
	TP_SCRIPTS=100 TP_POINTS=1000 TP_KILLS=10000 $(MAKE) check TESTS='$(TP_CRASH)'
	TP_SOAK=1 $(MAKE) check TESTS='%D%/live_survival.py %D%/live_streams.py %D%/live_dtls.py %D%/live_kills.py %D%/live_supervisor.py \
		%D%/live_soak.py'
# The Debian package, from its build to its purge.
.PHONY: check-package
check-package: all
	$(MAKE) check TESTS='%D%/live_package.py'
EXTRA_DIST += %D%/live_package.py
# All live tests on the engines that `auto` does not choose where the kernel merges datagrams.
.PHONY: check-engines
check-engines: all
	TP_ENGINE=plain $(MAKE) check TESTS='$(TP_LIVE)'
	TP_ENGINE=mmsg $(MAKE) check TESTS='$(TP_LIVE)'
EXTRA_DIST += $(TP_LIVE) tests/lib/turnclient.py tests/lib/databases.py tests/lib/daemon.py tests/lib/dtlsclient.py \
	tests/lib/tlsclient.py tests/lib/flows.py tests/lib/marked.py
EXTRA_DIST += tests/convert/jitsi.conf tests/convert/nextcloud.conf tests/convert/synapse.conf \
	tests/convert/bigbluebutton.conf tests/convert/matrix-playbook.conf tests/convert/freepbx.conf \
	tests/convert/kubernetes.args
