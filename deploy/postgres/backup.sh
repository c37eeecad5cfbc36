#!/bin/sh
# Writes a dump of the ledger into a folder while everything runs: DATABASE_URL=postgresql://… backup.sh FOLDER
# Needs pg_dump and pg_restore of PostgreSQL's version or newer in the PATH. Prints the file.
set -eu
: "${DATABASE_URL:?names the database}"
file="${1:?names the folder}/posthouse-$(date -u +%Y%m%dT%H%M%SZ).dump"
umask 077
# One snapshot of all tables: a message and its history are in it together.
pg_dump --dbname="$DATABASE_URL" --format=custom --no-owner --no-privileges --file="$file.part"
# A file that cannot be read again is no backup.
pg_restore --list "$file.part" >/dev/null
mv "$file.part" "$file"
echo "$file"
