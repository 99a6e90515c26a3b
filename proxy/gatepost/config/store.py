"""The section `store`: where journal and messages are stored, and how long."""

from datetime import timedelta
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from gatepost.config.fields import Bool, Count, File, first_line, store_url
from gatepost.config.section import Settings
from gatepost.units import Duration

__all__ = ["Keep", "StoreSettings"]


class Keep(Settings):
    """Retention of the store; the limit that is reached first applies."""

    messages: Count = 10_000
    """Messages in the inbox and in quarantine, each."""
    days: Annotated[float, Field(gt=0, le=100_000, allow_inf_nan=False)] = 30
    """Days for messages and for the journal; also parts of a day."""
    settling: Duration = timedelta(hours=12)
    """How long something must have been too old by the clock before it is deleted.

    So a clock that jumps ahead deletes nothing if it is corrected meanwhile. The time is counted while
    Gatepost runs, anew after each start.
    """
    journal: Count = 1_000_000
    """Records in the journal."""


class StoreSettings(Settings):
    """The store, embedded or on a server."""

    url: Annotated[str, AfterValidator(store_url), Field(validate_default=True)] = "sqlite:///gatepost.db"
    """``sqlite:///FILE``, a relative path is relative to rules.yaml; or ``postgresql://USER@HOST/DATABASE``."""
    password_file: File | None = None
    """A file whose first line is the password of the server."""
    required: Bool = True
    """False: relaying goes on, and Gatepost starts, while the server of the store does not answer."""
    keep: Keep = Keep()
    conversations: Bool = False
    """Store the conversation of each session too, without secrets and most of long messages."""

    @model_validator(mode="after")
    def _has_a_server(self) -> Self:
        if self.password_file and self.url.startswith("sqlite:"):
            raise ValueError("password_file without a server, expected url: postgresql://USER@HOST/DATABASE")
        if self.read_password() == "":
            raise ValueError(f"no password in {self.password_file}, expected one on its first line")
        return self

    def read_password(self) -> str | None:
        """The password in `password_file`; None: libpq finds one if needed. Raises OSError and ValueError."""
        return first_line(self.password_file) if self.password_file else None
