"""Ray's settings for all clusters that tests start."""

ENVIRONMENT = {
    # With Ray's default niceness its workers would wait for the tests that run at the same time.
    "RAY_worker_niceness": "0",
    # Starting a worker that no task uses takes seconds from the others.
    "RAY_prestart_worker_first_driver": "0",
}
