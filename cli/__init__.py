"""The `posthouse` command: the embedded stack, one command per process, migrations, a demo."""
