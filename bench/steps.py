"""Seconds of a training step, measured in a process of its own: settings as JSON in, a list of seconds out."""

from __future__ import annotations

import json
import sys

from normbank.config import from_dict
from normbank.errors import UserError
from normbank.machine import tune_for_training


def main() -> int:
    """Exit code 0 done, 2 a mistake told on standard error."""
    tune_for_training()
    from normbank.timing import seconds_per_step

    try:
        configs = [from_dict(values) for values in json.load(sys.stdin)]
        print(json.dumps([seconds_per_step(config, config.data.channels or 3) for config in configs]))
    except UserError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
