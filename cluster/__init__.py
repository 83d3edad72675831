"""Machines for the jobs: files for clouds and Kubernetes, and a simulated cluster on this one."""
