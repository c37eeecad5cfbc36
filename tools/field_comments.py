"""Write what the contracts say of their fields into a module: python -m tools.field_comments OUT PROTO ….

The stubs that protoc generates have no comments; the gateway's OpenAPI document says of its fields what the
contracts say.
"""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from google.protobuf import descriptor_pb2

# Field numbers on the way to a field: messages of a file, fields and messages of a message.
_MESSAGES = descriptor_pb2.FileDescriptorProto.MESSAGE_TYPE_FIELD_NUMBER
_FIELDS = descriptor_pb2.DescriptorProto.FIELD_FIELD_NUMBER

_HEAD = '''"""What the contracts say of each field. Generated: change protos/ and run `make gen`."""

# "Message.field": its comment
COMMENTS = {
'''


def read(protos: list[str]) -> descriptor_pb2.FileDescriptorSet:
    """Return the descriptors of files below protos/, with their comments."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "set")
        protoc = [sys.executable, "-m", "grpc_tools.protoc", "-I", "protos", "--include_source_info"]
        subprocess.run([*protoc, f"--descriptor_set_out={out}", *protos], check=True)  # noqa: S603 - ours
        return descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes())


def comments(file: descriptor_pb2.FileDescriptorProto) -> Iterator[tuple[str, str]]:
    """Yield the fields of a file's messages and their comments."""
    for location in file.source_code_info.location:
        if len(location.path) == 4 and location.path[::2] == [_MESSAGES, _FIELDS]:  # noqa: PLR2004 - the way
            message = file.message_type[location.path[1]]
            text = " ".join(location.leading_comments.split())
            yield f"{message.name}.{message.field[location.path[3]].name}", text


def main(out: str, protos: list[str]) -> None:
    """Write the module."""
    found = sorted(pair for file in read(protos).file for pair in comments(file))
    Path(out).write_text(_HEAD + "".join(f"    {name!r}: {text!r},\n" for name, text in found) + "}\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
