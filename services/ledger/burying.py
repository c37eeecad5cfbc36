"""The end of the statements that may give messages up: dead letters, and the news of all that has moved."""


def burying(chosen: str) -> str:
    """Return the CTEs after one named `moved`, which has the `id` of each message that has a new event.

    `chosen` selects from it what becomes a dead letter, its columns in the order of the INSERT. Parameters
    are dead_outbox_id, dead_subject, event_outbox_id, event_subject, and republish_after in seconds.
    """
    return f"""dead AS (
  INSERT INTO dead_letters (
    message_id, channel, provider, reason, error_code, error_message, attempt_count, create_time
  )
  {chosen}
  ON CONFLICT (message_id) DO UPDATE SET provider = excluded.provider, reason = excluded.reason,
    error_code = excluded.error_code, error_message = excluded.error_message,
    attempt_count = excluded.attempt_count, create_time = excluded.create_time, replay_time = NULL
  RETURNING message_id
), buried AS (
  INSERT INTO outbox (id, subject, message_ids, create_time, due_time)
  SELECT %(dead_outbox_id)s::uuid, %(dead_subject)s, array_agg(message_id), now(), now()
  FROM dead HAVING count(*) > 0
), news AS (
  INSERT INTO outbox (id, subject, message_ids, create_time, due_time)
  SELECT %(event_outbox_id)s::uuid, %(event_subject)s, array_agg(id), now(),
    now() + make_interval(secs => %(republish_after)s)
  FROM moved HAVING count(*) > 0
)"""  # noqa: S608 - only constants of this project go into the text
