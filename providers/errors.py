"""The errors of the project: every foreign exception is translated into one of these at its boundary."""


class HomelabError(Exception):
    """The root. The message stands alone on one line: node, address, what was tried, what was seen, what to type."""


class UserError(HomelabError):
    """The settings or the command are wrong; nothing was touched."""


class UnreachableError(HomelabError):
    """The device or service gave no answer within its deadline; it may be off, booting or gone."""


class AuthError(HomelabError):
    """The credentials were refused. Never retried: a BMC bans repeated bad logins."""


class ProtocolError(HomelabError):
    """The answer makes no sense: not the expected device, a broken body, an unknown shape."""


class RefusedError(HomelabError):
    """The device understood and said no, or an action was held back because it would do harm."""


class ForeignNodeError(RefusedError):
    """The node is configured and belongs to another cluster."""


class DeadlineError(HomelabError):
    """Something that was waited for did not happen in time."""


class UpgradeError(HomelabError):
    """A node did not come to its new version: it is back on the old one, or the message says what to type."""


class FlashError(HomelabError):
    """An image could not be written, or what was written does not boot."""
