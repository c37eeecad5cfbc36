"""Send one message and wait for its delivery.

python send.py 127.0.0.1:50051 +15551234567 +15559876543 Hello
"""

import os
import sys

from posthouse_client import NotDeliveredError, Posthouse, PosthouseError


def main(target: str, sender: str, recipient: str, *words: str) -> int:
    """Print what became of it; return 0 once it is delivered."""
    with Posthouse(target, api_key=os.environ.get("POSTHOUSE_API_KEY")) as posthouse:
        try:
            sent = posthouse.send(sender=sender, recipient=recipient, body=" ".join(words))
            print(f"accepted {sent.id}")
            message = posthouse.wait_until_delivered(sent.id, timeout=60)
        except (PosthouseError, NotDeliveredError, TimeoutError) as error:
            print(error, file=sys.stderr)
            return 1
    print(f"delivered by {message.provider}")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
