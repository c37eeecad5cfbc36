"""Parsers fed by a fuzzer that watches which branches its inputs reach (atheris); `make fuzz-bytes`."""
