"""Many commands as one piece of work: sent to SLURM as an array or run here, each one going on where it was stopped.

jobs    what is to be done: a job is command lines, each of which may be run again
ledger  what happened to each job, told by whoever ran it
running one job, here or as a task of an array; several at once
slurm   the script, and what the queue says
settings  cluster.yaml
"""
