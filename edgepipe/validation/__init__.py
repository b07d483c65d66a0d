"""Whether a deployed model is good enough: accuracy, latency and memory beside the float one."""
