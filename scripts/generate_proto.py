"""Write the Python code of proto/dlm_npc/v1 anew: `python scripts/generate_proto.py [--out DIR]`.

Needs the pinned grpcio-tools of the `dev` extra, so that the committed files come out byte for byte on every machine.
"""

from __future__ import annotations

import argparse
import sys
from importlib import resources
from pathlib import Path

PROTO_ROOT = Path(__file__).resolve().parent.parent / "proto"
PACKAGE = Path("dlm_npc/v1")


def generate(out: Path) -> list[Path]:
    """Generate `*_pb2.py`, `*_pb2.pyi` and, for files that define a service, `*_pb2_grpc.py` under `out`.

    Returns the files written. Raises `RuntimeError` when protoc refuses a file; its own message is on stderr by then.
    """
    sources = sorted((PROTO_ROOT / PACKAGE).glob("*.proto"))
    services = [path for path in sources if "\nservice " in path.read_text(encoding="utf-8")]
    _protoc([f"--python_out={out}", f"--pyi_out={out}"], sources)
    _protoc([f"--grpc_python_out={out}"], services)
    return sorted((out / PACKAGE).glob("*_pb2*.py*"))


def _protoc(outputs: list[str], sources: list[Path]) -> None:
    from grpc_tools import protoc

    includes = [f"-I{PROTO_ROOT}", f"-I{resources.files('grpc_tools') / '_proto'}"]
    names = [str(path) for path in sources]
    if protoc.main(["protoc", *includes, *outputs, *names]) != 0:
        raise RuntimeError(f"protoc failed on {', '.join(path.name for path in sources)}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=PROTO_ROOT, help="folder to write into (default: proto/)")
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    for path in generate(out):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
