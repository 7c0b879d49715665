"""Whether the database has the tables that this release needs; its migrations may still be under way."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import text

from app.errors import UnavailableError
from app.storage.postgres.session import Database

_FOLDER = Path(__file__).resolve().parents[3] / "alembic"


class Schema:
    """Compares the database's revision with the migrations that lie beside this code."""

    def __init__(self, database: Database, folder: Path = _FOLDER) -> None:
        self._database, self._folder = database, folder
        self._is_new_enough = False

    def check(self) -> None:
        """Return when the schema is this release's or a later one's; raises UnavailableError else.

        A later one is no fault: during an upgrade the last release works on until its pods are replaced.
        """
        missing = self._missing()
        if missing is not None:
            raise UnavailableError(f"{missing}: run `flask migrate`")

    def is_behind(self) -> bool:
        """Whether migrations of this release are still to come. Raises UnavailableError."""
        return self._missing() is not None

    def _missing(self) -> str | None:
        if self._is_new_enough:
            return None
        present, known = self._present(), self._known()
        if present is None:
            return "the database has no schema yet"
        if present != known[0] and present in known:
            return f"the database has revision {present}, this release needs {known[0]}"
        self._is_new_enough = True
        return None

    def is_later(self) -> bool:
        """Whether a later release migrated the database, as before a rollback. Raises UnavailableError."""
        present = self._present()
        return present is not None and present not in self._known()

    def _present(self) -> str | None:
        """The database's revision, None while it has none."""
        with self._database.transaction() as session:
            if session.scalar(text("SELECT to_regclass('alembic_version')")) is None:
                return None
            found: str | None = session.scalar(text("SELECT version_num FROM alembic_version"))
            return found

    def _known(self) -> list[str]:
        """Revisions, the newest first."""
        from alembic.script import ScriptDirectory

        return [each.revision for each in ScriptDirectory(str(self._folder)).walk_revisions()]
