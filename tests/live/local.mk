# The real daemon, from the build tree or (TP_PREFIX) installed, each test in a network namespace of its own.
TEST_EXTENSIONS = .py .sh
PY_LOG_COMPILER = $(PYTHON3)
TP_LIVE = %D%/live_basic.py %D%/live_survive.py %D%/live_ports.py %D%/live_conf.py %D%/live_tcp.py %D%/live_streams.py
TESTS += $(TP_LIVE)
EXTRA_DIST += $(TP_LIVE) tests/lib/turnclient.py tests/lib/daemon.py
