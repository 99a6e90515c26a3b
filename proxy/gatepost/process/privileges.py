"""Drop privileges: switch permanently from root, which can bind port 25, to another user."""

import grp
import os
import pwd

__all__ = ["drop_privileges"]


def drop_privileges(user: str, group: str | None = None) -> None:
    """Switch this process permanently to the user and group, with the user's supplementary groups.

    Threads started later run as that user too. If this process already runs as that user, nothing happens.

    Raises:
        KeyError: no such user or group.
        PermissionError: only root can switch to another user.
    """
    entry = pwd.getpwnam(user)
    gid = grp.getgrnam(group).gr_gid if group else entry.pw_gid
    if (os.getuid(), os.geteuid(), os.getgid(), os.getegid()) == (entry.pw_uid, entry.pw_uid, gid, gid):
        return
    if os.geteuid() != 0:
        raise PermissionError(
            f"only root can switch to the user {user}: start Gatepost as root, or as that user"
        )
    os.initgroups(user, gid)
    os.setresgid(gid, gid, gid)
    os.setresuid(entry.pw_uid, entry.pw_uid, entry.pw_uid)
    if entry.pw_uid:
        try:
            os.setuid(0)
        except PermissionError:
            return
        raise PermissionError(f"still able to become root after switching to {user}")
