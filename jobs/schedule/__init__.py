"""Tasks, the fan-out, the cluster, uploads, prices and spending."""
