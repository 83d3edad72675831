"""Of Ray, for all clusters that tests start."""

ENVIRONMENT = {
    # Other tests run beside those with a cluster: behind all of them Ray's workers would wait.
    "RAY_worker_niceness": "0",
    # A worker that no task ever asks for takes seconds of the others' time to start.
    "RAY_prestart_worker_first_driver": "0",
}
