"""Makes the ingester of webhooks from the settings: for the process, and for replays by hand."""

from urllib.parse import urlsplit

from services.kit.config import Settings, WrongSettingError
from services.kit.logs import get_logger
from services.kit.networks import is_loopback
from services.ledger.database import Database
from services.message.commit import GroupCommitter
from services.message.forgeries import Forgeries
from services.message.webhooks import WebhookIngester
from services.providers.registry import build_providers, enabled_providers

_log = get_logger(__name__)


def build_ingester(settings: Settings, database: Database, committer: GroupCommitter) -> WebhookIngester:
    """Return the ingester of every provider whose webhooks are taken.

    Raises WrongSettingError for what a provider misses, and where verification is off beyond loopback.
    """
    if not settings.webhook_verification:
        _check_development(settings)
        _log.warning(
            "webhook_verification_off",
            effect="whoever reaches this machine's loopback can forge messages and receipts",
            setting="POSTHOUSE_WEBHOOK_VERIFICATION",
        )
    return WebhookIngester(
        build_providers(settings, enabled_providers(settings)),
        database,
        committer,
        forgeries=Forgeries(settings.webhook_forged_bytes),
        verification=settings.webhook_verification,
    )


def _check_development(settings: Settings) -> None:
    for name, host in (
        ("POSTHOUSE_HOST", settings.host),
        ("POSTHOUSE_WEBHOOK_BASE_URL", urlsplit(settings.webhook_base_url).hostname or ""),
    ):
        if not is_loopback(host):
            raise WrongSettingError(
                f"POSTHOUSE_WEBHOOK_VERIFICATION: cannot be off while {name} is beyond loopback"
            )
