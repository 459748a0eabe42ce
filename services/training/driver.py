"""The driver of a RayJob: `python -m services.training.driver FOLDER`, on the head of the run's own cluster.

FOLDER is the run's (see `runfolder`). Exit status 0 when the run completed, 1 when it failed; why stands in out/result.json.
"""

import sys
from pathlib import Path

from services.training.driving import drive
from services.training.runfolder import RunFolder


def main() -> int:
    import ray

    # Ray names the cluster in RAY_ADDRESS. Workers' output stays in their pods: it is a stranger's.
    ray.init(log_to_driver=False)
    return 0 if drive(RunFolder(Path(sys.argv[1]))) else 1


if __name__ == "__main__":
    sys.exit(main())
