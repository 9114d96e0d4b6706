"""Which of several cooperating processes this one is, known before Lightning or torch are asked."""

import os

_RANKS = ("RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK", "MV2_COMM_WORLD_RANK")
_PLACES = ("LOCAL_RANK", "NODE_RANK", "GROUP_RANK")


def is_first_process() -> bool:
    """Whether this process is the one that writes; the others were started by Lightning, torchrun, SLURM or MPI."""
    return all(os.environ.get(name, "0") == "0" for name in (*_RANKS, *_PLACES))
