"""The passwords of the web desk's users, from the file of users."""

from collections.abc import Mapping

from gatepost.config.web import WebSettings
from gatepost.server.users_file import read_users

__all__ = ["desk_hashes"]


def desk_hashes(web: WebSettings) -> Mapping[str, str]:
    """The hash of each user of the settings, by name; others in the file do not count.

    Raises OSError, or ValueError that names the file and the user without a password.
    """
    if web.users_file is None:
        return {}
    hashes = read_users(web.users_file)
    for user in web.users:
        if user.name not in hashes:
            raise ValueError(
                f"{web.users_file}: no password of the user {user.name!r}; expected a line that "
                f"gatepost passwd {user.name} --file {web.users_file} writes"
            )
    return {user.name: hashes[user.name] for user in web.users}
