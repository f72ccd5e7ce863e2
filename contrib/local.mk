# contrib
EXTRA_DIST += %D%/sysctl.d/turnpike.conf
EXTRA_DIST += %D%/packages %D%/install-packages %D%/quickstart %D%/quickstart-proof.py %D%/run-tests
