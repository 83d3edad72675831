"""Submits a job to the environment's cluster and waits for it; `ray job submit` closes its log late."""

import json
import os
import sys
import time
from pathlib import Path

from ray.job_submission import JobStatus, JobSubmissionClient

request = json.loads(sys.argv[1])
root = str(Path(__file__).resolve().parents[2])
client = JobSubmissionClient(os.environ["RAY_API_SERVER_ADDRESS"])
job = client.submit_job(
    entrypoint=" ".join(["python", *request["job"]]),
    runtime_env={"working_dir": root} if request["working_dir"] else {},
)
while not (status := client.get_job_status(job)).is_terminal():
    time.sleep(0.2)
sys.stdout.write(client.get_job_logs(job))
sys.exit(0 if status == JobStatus.SUCCEEDED else 1)
