"""Who hears of alerts: the settings' receivers, as Alertmanager's own file has them.

https://prometheus.io/docs/alerting/latest/configuration/. ntfy has no kind of its own there: it is a webhook, and its
server (2.14 or newer) makes a message of what Alertmanager posts, by its template `alertmanager`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from settings.models import plain
from settings.parts import Mail, Ntfy, Receiver, Telegram, Webhook

SECRET = "alertmanager-receivers"  # noqa: S105  # the name of an object
FOLDER = f"/etc/alertmanager/secrets/{SECRET}"
HOUSEHOLD = "household"
TLS_PORT = ":465"  # TLS from the first byte; a server there has no STARTTLS to ask for
GROUPING = {
    "group_by": ["alertname", "namespace"],
    "group_wait": "30s",
    "group_interval": "5m",
    "repeat_interval": "12h",
}

Entry = dict[str, Any]


@dataclass
class Receivers:
    """One receiver of Alertmanager's that reaches everybody, and the files that its tokens and passwords are in."""

    entries: dict[str, list[Entry]] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)

    def add(self, receiver: Receiver) -> None:
        """Another way to reach the household."""
        ways: tuple[tuple[Any, Any], ...] = (
            (receiver.ntfy, self._ntfy),
            (receiver.telegram, self._telegram),
            (receiver.webhook, self._webhook),
            (receiver.mail, self._mail),
        )
        for given, way in ways:
            if given is not None:
                way(receiver.name, given)

    def _ntfy(self, name: str, ntfy: Ntfy) -> None:
        token = self._file(name, "token", plain(ntfy.token))
        login = {"http_config": {"authorization": {"credentials_file": token}}} if token else {}
        self._entry("webhook", {"url": f"{ntfy.url.rstrip('/')}/{ntfy.topic}?template=alertmanager", **login})

    def _telegram(self, name: str, telegram: Telegram) -> None:
        token = self._file(name, "token", plain(telegram.token))
        self._entry("telegram", {"chat_id": telegram.chat_id, "bot_token_file": token})

    def _webhook(self, name: str, webhook: Webhook) -> None:
        self._entry("webhook", {"url_file": self._file(name, "url", _text(webhook.url))})

    def _mail(self, name: str, mail: Mail) -> None:
        password = self._file(name, "password", plain(mail.password))
        login = {"auth_username": mail.username, "auth_password_file": password} if password else {}
        tls = {"require_tls": not mail.smarthost.endswith(TLS_PORT)}
        self._entry("email", {"to": mail.to, "from": mail.sender, "smarthost": mail.smarthost, **tls, **login})

    def _entry(self, kind: str, entry: Mapping[str, Any]) -> None:
        self.entries.setdefault(f"{kind}_configs", []).append({**entry, "send_resolved": True})

    def _file(self, name: str, key: str, text: str | None) -> str:
        """The path of a file with a secret; empty when there is none."""
        if text is None:
            return ""
        self.files[f"{name}-{key}"] = text
        return f"{FOLDER}/{name}-{key}"


def alertmanager(given: Sequence[Receiver]) -> tuple[Entry, dict[str, str]]:
    """Alertmanager's file, and the files that it names. Without receivers nobody is told, and the page shows alerts."""
    receivers = Receivers()
    for receiver in given:
        receivers.add(receiver)
    config = {
        "route": {"receiver": HOUSEHOLD, **GROUPING},
        # Who is told that something has failed need not be told that it was about to.
        "inhibit_rules": [
            {
                "source_matchers": ['severity="critical"'],
                "target_matchers": ['severity="warning"'],
                "equal": ["alertname", "namespace"],
            }
        ],
        "receivers": [{"name": HOUSEHOLD, **receivers.entries}],
    }
    return config, receivers.files


def _text(value: Any) -> str:
    return str(value.get_secret_value() if hasattr(value, "get_secret_value") else value)
