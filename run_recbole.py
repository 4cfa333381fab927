"""Train and test a model: python run_recbole.py --model=MSM4SR --dataset=demo [--key=value ...]."""

import sys

from recbole_msm4sr.cli import main

if __name__ == "__main__":
    sys.exit(main())
