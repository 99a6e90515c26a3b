"""BECOME: from root, who may bind port 25, to a user who may not do much, for good."""

import grp
import os
import pwd

__all__ = ["become"]


def become(user: str, group: str | None = None) -> None:
    """Be this user and group, with the user's other groups, and never again anybody else.

    All threads that begin later are that user. Nothing is done where this process is that user already.

    Raises:
        KeyError: no such user or group.
        PermissionError: only root can become somebody else.
    """
    entry = pwd.getpwnam(user)
    gid = grp.getgrnam(group).gr_gid if group else entry.pw_gid
    if (os.getuid(), os.geteuid(), os.getgid(), os.getegid()) == (entry.pw_uid, entry.pw_uid, gid, gid):
        return
    if os.geteuid() != 0:
        raise PermissionError(f"only root can become the user {user}: start it as root, or as that user")
    os.initgroups(user, gid)
    os.setresgid(gid, gid, gid)
    os.setresuid(entry.pw_uid, entry.pw_uid, entry.pw_uid)
    if entry.pw_uid:
        try:
            os.setuid(0)
        except PermissionError:
            return
        raise PermissionError(f"root's rights came back after becoming {user}")
