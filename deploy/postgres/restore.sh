#!/bin/sh
# Reads a dump into an EMPTY database: DATABASE_URL=postgresql://… restore.sh FILE
# Says how much the dispatchers would send as soon as they start: it waited when the dump was made, and may have been
# sent since.
set -eu
: "${DATABASE_URL:?names the database}"
file="${1:?names the dump}"
tables=$(psql "$DATABASE_URL" --no-psqlrc -Atc "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
if [ "$tables" != 0 ]; then
  echo "restore.sh: the database has $tables tables; it must be empty" >&2
  exit 1
fi
pg_restore --dbname="$DATABASE_URL" --no-owner --no-privileges --exit-on-error --single-transaction "$file"
psql "$DATABASE_URL" --no-psqlrc --quiet -c ANALYZE
psql "$DATABASE_URL" --no-psqlrc -At <<'SQL'
SELECT format('revision %s, %s messages, %s of them not sent when the dump was made',
  (SELECT string_agg(version_num, ',') FROM alembic_version), count(*),
  count(*) FILTER (WHERE state IN ('pending', 'scheduled', 'sending', 'unknown')))
FROM messages
SQL
