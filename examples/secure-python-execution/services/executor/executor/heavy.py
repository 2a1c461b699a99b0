"""What a Job's container does: runs the code in its environment, and prints what came of it as JSON in one line.

It ends well when the code failed, for running it again would not help; the Job fails when the pod could not run it.
"""

import json
import os

from . import sandbox


def main() -> None:
    limits = sandbox.Limits(
        seconds=int(os.environ["SECONDS_LIMIT"]),
        megabytes=int(os.environ["MEGABYTES_LIMIT"]),
        required=os.environ.get("ISOLATION", "required") == "required",
    )
    print(json.dumps(vars(sandbox.run(os.environ["CODE"], limits))), flush=True)


if __name__ == "__main__":
    main()
