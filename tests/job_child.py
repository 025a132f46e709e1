"""What the tests run as a job: takes the command line of `streamer`, and does what the uploaded file says.

The file is JSON: {"steps": frames to make, "pause": seconds a frame, "fail": reason, "deaf": ignores SIGINT,
"die_at": frame at which it kills itself, "spawn": starts a process that outlives it}. Of several photos each gets a
folder with what it holds, as the command does it.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any


def main() -> int:
    parser = argparse.ArgumentParser(prog="streamer")
    for option in ("data-dir", "config", "engine"):
        parser.add_argument(f"--{option}", required=True)
    parser.add_argument("kind", choices=("image", "video", "render"))
    parser.add_argument("source", type=Path)
    parser.add_argument("given", nargs="?", type=Path)
    parser.add_argument("--member", action="append", default=[])
    for option in ("object", "prompt", "box", "every", "from", "to", "style", "fancam"):
        parser.add_argument(f"--{option}")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sidecar", type=Path)
    for flag in ("transparent", "resume", "all-files", "progress-json"):
        parser.add_argument(f"--{flag}", action="store_true")
    args = parser.parse_args()
    if args.source.is_dir():
        for photo in args.source.iterdir():
            (args.out / photo.stem).mkdir(parents=True)
            (args.out / photo.stem / "cutout.png").write_bytes(photo.read_bytes())
    source = min(args.source.iterdir()) if args.source.is_dir() else args.source
    try:
        orders = json.loads(source.read_text(encoding="utf-8"))
    except OSError as exc:
        print(f"streamer: {source.name}: {exc.strerror}", file=sys.stderr)
        return 1
    return work(args, orders)


def work(args: argparse.Namespace, orders: dict[str, Any]) -> int:
    if orders.get("deaf"):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    if orders.get("spawn"):
        other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        args.out.with_name("spawned").write_text(str(other.pid))
    if orders.get("fail"):
        print("a warning before it", file=sys.stderr)
        print(f"streamer: {orders['fail']}", file=sys.stderr)
        return 1
    out = args.out / "annotated.png" if args.kind == "image" else args.out
    made = len(out.read_text().splitlines()) if args.resume and out.exists() else 0
    first = made
    with out.open("a" if args.resume else "w", encoding="utf-8") as file:
        try:
            while made < orders.get("steps", 3):
                if made == orders.get("die_at") and not args.resume:
                    os.kill(os.getpid(), signal.SIGKILL)
                time.sleep(orders.get("pause", 0.01))
                made += 1
                print(made, file=file, flush=True)
                print(json.dumps({"done": made, "total": orders.get("steps", 3), "fps": 9.5, "stage": "frames"}))
        except KeyboardInterrupt:
            return 130
    if args.sidecar is not None:
        lines = [{"pts": n / 10, "tracks": [{"name": args.member[0], "state": "tracked"}]} for n in range(made)]
        args.sidecar.write_text("".join(json.dumps(line) + "\n" for line in lines))
    result = {"made": made, "began_at": first, "members": args.member, "style": args.style, "source": str(args.source)}
    print(json.dumps({"result": result}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
